//! Shows how far work on many bytes has come: bars on a terminal, otherwise a log line every few
//! seconds.

use std::io::IsTerminal;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use bytesize::ByteSize;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

const LOG_EVERY: Duration = Duration::from_secs(5);
const BAR: &str =
    "{prefix:36!} [{bar:24}] {bytes:>10}/{total_bytes:10} {bytes_per_sec:>12} {eta:>4} left";

/// All bars of this process.
static BARS: LazyLock<MultiProgress> = LazyLock::new(MultiProgress::new);

/// Lets `write` write to the terminal, with the bars out of its way.
pub fn beside_bars<T>(write: impl FnOnce() -> T) -> T {
    BARS.suspend(write)
}

/// Where progress is shown.
#[derive(Debug, Clone, Copy)]
pub enum Progress {
    Terminal,
    Log { every: Duration },
}

/// What is being done, as log lines say it.
#[derive(Debug, Clone, Copy)]
pub struct Verb {
    pub doing: &'static str,
    pub done: &'static str,
}

/// The progress of one piece of work.
#[derive(Debug)]
pub struct ByteProgress {
    verb: Verb,
    name: String,
    total: u64,
    resumed_at: u64,
    done: u64,
    started: Instant,
    display: Display,
}

#[derive(Debug)]
enum Display {
    Bar(ProgressBar),
    Log { every: Duration, last: Instant },
}

impl Progress {
    /// Bars if stderr is a terminal, otherwise the log.
    pub fn detect() -> Self {
        if std::io::stderr().is_terminal() {
            Self::Terminal
        } else {
            Self::Log { every: LOG_EVERY }
        }
    }

    /// Starts the display of work on `total` bytes, such as a file's, of which `done` are done.
    pub fn start(self, verb: Verb, name: &str, total: u64, done: u64) -> ByteProgress {
        let started = Instant::now();
        let display = match self {
            Self::Terminal => Display::Bar(BARS.add(bar(name, total, done))),
            Self::Log { every } => Display::Log {
                every,
                last: started,
            },
        };
        ByteProgress {
            verb,
            name: name.to_owned(),
            total,
            resumed_at: done,
            done,
            started,
            display,
        }
    }
}

impl ByteProgress {
    /// Shows that `done` bytes are done; fewer than before when the work starts over.
    pub fn advance(&mut self, done: u64) {
        self.done = done;
        self.resumed_at = self.resumed_at.min(done);
        match &mut self.display {
            Display::Bar(bar) => bar.set_position(done),
            Display::Log { every, last } if last.elapsed() >= *every => {
                *last = Instant::now();
                self.log();
            }
            Display::Log { .. } => {}
        }
    }

    /// Shows that there are `total` bytes, and how the work goes on is called `name`.
    pub fn rename(&mut self, name: &str, total: u64) {
        self.total = total;
        name.clone_into(&mut self.name);
        if let Display::Bar(bar) = &self.display {
            bar.set_length(total);
            bar.set_prefix(name.to_owned());
        }
    }

    /// Shows that the work is complete; its bar stays.
    pub fn finish(self) {
        match &self.display {
            Display::Bar(bar) => bar.finish(),
            Display::Log { .. } => tracing::info!(
                name = self.name,
                total = %ByteSize(self.total),
                rate = %format_args!("{}/s", ByteSize(self.rate() as u64)),
                "{}", self.verb.done
            ),
        }
    }

    /// Ends the display without a trace.
    pub fn clear(self) {
        if let Display::Bar(bar) = &self.display {
            bar.finish_and_clear();
        }
    }

    fn log(&self) {
        let rate = self.rate();
        let left = self.total.saturating_sub(self.done) as f64 / rate.max(1.0);
        tracing::info!(
            name = self.name,
            done = %ByteSize(self.done),
            total = %ByteSize(self.total),
            rate = %format_args!("{}/s", ByteSize(rate as u64)),
            left = %format_args!("{left:.0} s"),
            "{}", self.verb.doing
        );
    }

    /// Bytes per second since this process started the work.
    fn rate(&self) -> f64 {
        let done = (self.done - self.resumed_at) as f64;
        done / self.started.elapsed().as_secs_f64().max(1e-3)
    }
}

fn bar(name: &str, total: u64, done: u64) -> ProgressBar {
    // A test checks the template; if it were wrong, the default bar would do.
    let style = ProgressStyle::with_template(BAR).unwrap_or_else(|_| ProgressStyle::default_bar());
    let bar = ProgressBar::new(total)
        .with_style(style)
        .with_prefix(name.to_owned())
        .with_position(done);
    bar.reset_eta();
    bar
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use super::*;

    const DOWNLOAD: Verb = Verb {
        doing: "downloading",
        done: "downloaded",
    };

    #[derive(Clone, Default)]
    struct Captured(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(work: impl FnOnce()) -> Vec<String> {
        let captured = Captured::default();
        let writer = captured.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .finish();
        tracing::subscriber::with_default(subscriber, work);
        let bytes = captured.0.lock().unwrap().clone();
        let text = String::from_utf8(bytes).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn the_log_has_a_line_each_interval_and_one_at_the_end() {
        let lines = logged(|| {
            let every = Duration::ZERO;
            let mut file = Progress::Log { every }.start(DOWNLOAD, "model.safetensors", 4096, 0);
            file.advance(1024);
            file.advance(4096);
            file.finish();
        });
        assert_eq!(lines.len(), 3, "{lines:?}");
        for part in [
            "model.safetensors",
            "done=1.0 KiB",
            "total=4.0 KiB",
            "rate=",
            "left=",
            "downloading",
        ] {
            assert!(lines[0].contains(part), "{part} in {}", lines[0]);
        }
        assert!(lines[2].contains("downloaded"), "{}", lines[2]);
    }

    #[test]
    fn the_log_is_silent_within_the_interval() {
        let lines = logged(|| {
            let every = Duration::from_secs(3600);
            let mut file = Progress::Log { every }.start(DOWNLOAD, "model.safetensors", 4096, 0);
            (0..4096).for_each(|done| file.advance(done));
        });
        assert!(lines.is_empty(), "{lines:?}");
    }

    #[test]
    fn the_rate_leaves_out_what_an_earlier_start_had_received() {
        let every = Duration::from_secs(3600);
        let mut file = Progress::Log { every }.start(DOWNLOAD, "model.safetensors", 4096, 4000);
        file.advance(4000);
        assert_eq!(file.rate(), 0.0);
    }

    #[test]
    fn the_bar_template_is_valid() {
        ProgressStyle::with_template(BAR).unwrap();
    }
}
