//! Shows download progress: bars on a terminal, otherwise a log line every few seconds.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use bytesize::ByteSize;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

const LOG_EVERY: Duration = Duration::from_secs(5);
const BAR: &str =
    "{prefix:36!} [{bar:24}] {bytes:>10}/{total_bytes:10} {bytes_per_sec:>12} {eta:>4} left";

/// Where progress is shown.
pub(super) enum Progress {
    Terminal(MultiProgress),
    Log { every: Duration },
}

/// One file's progress.
pub(super) struct FileProgress {
    name: String,
    total: u64,
    resumed_at: u64,
    done: u64,
    started: Instant,
    display: Display,
}

enum Display {
    Bar(ProgressBar),
    Log { every: Duration, last: Instant },
}

impl Progress {
    /// Bars if stderr is a terminal, otherwise the log.
    pub(super) fn detect() -> Self {
        if std::io::stderr().is_terminal() {
            Self::Terminal(MultiProgress::new())
        } else {
            Self::Log { every: LOG_EVERY }
        }
    }

    /// Starts the display of a file of `total` bytes, of which `done` are already there.
    pub(super) fn file(&self, name: &str, total: u64, done: u64) -> FileProgress {
        let started = Instant::now();
        let display = match self {
            Self::Terminal(bars) => Display::Bar(bars.add(bar(name, total, done))),
            Self::Log { every } => Display::Log {
                every: *every,
                last: started,
            },
        };
        FileProgress {
            name: name.to_owned(),
            total,
            resumed_at: done,
            done,
            started,
            display,
        }
    }
}

impl FileProgress {
    /// Shows that `done` bytes of the file are there; fewer than before when it starts over.
    pub(super) fn advance(&mut self, done: u64) {
        self.done = done;
        self.resumed_at = self.resumed_at.min(done);
        let rate = self.rate();
        match &mut self.display {
            Display::Bar(bar) => bar.set_position(done),
            Display::Log { every, last } if last.elapsed() >= *every => {
                *last = Instant::now();
                tracing::info!(
                    file = self.name,
                    done = %ByteSize(done),
                    total = %ByteSize(self.total),
                    rate = %format_args!("{rate}/s"),
                    "downloading"
                );
            }
            Display::Log { .. } => {}
        }
    }

    /// Does `work`, which writes to the terminal, without the bar being in the way.
    pub(super) fn suspended(&self, work: impl FnOnce()) {
        match &self.display {
            Display::Bar(bar) => bar.suspend(work),
            Display::Log { .. } => work(),
        }
    }

    /// Shows that the file is complete.
    pub(super) fn finish(self) {
        match &self.display {
            Display::Bar(bar) => bar.finish(),
            Display::Log { .. } => tracing::info!(
                file = self.name,
                total = %ByteSize(self.total),
                rate = %format_args!("{}/s", self.rate()),
                "downloaded"
            ),
        }
    }

    /// Bytes per second since this process started the download.
    fn rate(&self) -> ByteSize {
        let received = (self.done - self.resumed_at) as f64;
        let seconds = self.started.elapsed().as_secs_f64().max(1e-3);
        ByteSize((received / seconds) as u64)
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
            let mut file = Progress::Log { every }.file("model.safetensors", 4096, 0);
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
        ] {
            assert!(lines[0].contains(part), "{part} in {}", lines[0]);
        }
        assert!(lines[2].contains("downloaded"), "{}", lines[2]);
    }

    #[test]
    fn the_log_is_silent_within_the_interval() {
        let lines = logged(|| {
            let every = Duration::from_secs(3600);
            let mut file = Progress::Log { every }.file("model.safetensors", 4096, 0);
            (0..4096).for_each(|done| file.advance(done));
        });
        assert!(lines.is_empty(), "{lines:?}");
    }

    #[test]
    fn the_rate_leaves_out_what_an_earlier_start_had_received() {
        let every = Duration::from_secs(3600);
        let mut file = Progress::Log { every }.file("model.safetensors", 4096, 4000);
        file.advance(4000);
        assert_eq!(file.rate(), ByteSize(0));
    }

    #[test]
    fn the_bar_template_is_valid() {
        ProgressStyle::with_template(BAR).unwrap();
    }
}
