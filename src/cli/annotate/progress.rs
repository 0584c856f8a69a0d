//! Shows progress: a bar on a terminal, otherwise a log line every few seconds.

use std::fmt::Write;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressState, ProgressStyle};

const BAR: &str = "{bar:30} {pos}/{len}  {rate}  {eta} left  {msg}";
const EVERY: Duration = Duration::from_secs(10);

pub struct Progress {
    bar: Option<ProgressBar>,
    all: usize,
    done: usize,
    failed: usize,
    begun: Instant,
    logged: Instant,
    done_before: usize,
}

impl Progress {
    /// `left` of `all` pictures are still to be labelled; `failed` of the others have an error.
    pub fn new(all: usize, left: usize, failed: usize) -> Self {
        let done = all - left;
        let bar = std::io::stderr().is_terminal().then(|| {
            // The template is a constant; if it were wrong, the default bar would do.
            let style = ProgressStyle::with_template(BAR);
            let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
            let style = style.with_key("rate", |state: &ProgressState, text: &mut dyn Write| {
                // Writing to the bar's line doesn't fail.
                let _ = write!(text, "{:.1}/s", state.per_sec());
            });
            let bar = ProgressBar::new(all as u64).with_style(style);
            let bar = bar.with_position(done as u64);
            bar.reset_eta();
            bar
        });
        Self {
            bar,
            all,
            done,
            failed,
            begun: Instant::now(),
            logged: Instant::now(),
            done_before: done,
        }
    }

    /// Pictures that have a label or an error.
    pub fn done(&self) -> usize {
        self.done
    }

    pub fn advance(&mut self, failed: bool) {
        self.done += 1;
        self.failed += usize::from(failed);
        match &self.bar {
            Some(bar) => {
                bar.set_position(self.done as u64);
                if self.failed > 0 {
                    bar.set_message(format!("{} failed", self.failed));
                }
            }
            None if self.logged.elapsed() >= EVERY => {
                self.logged = Instant::now();
                self.log("labelling");
            }
            None => {}
        }
    }

    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.abandon();
            // The bar leaves the cursor on its line.
            eprintln!();
        }
        self.log("labelled");
    }

    fn log(&self, what: &str) {
        let seconds = self.begun.elapsed().as_secs_f64();
        let rate = (self.done - self.done_before) as f64 / seconds.max(1e-3);
        tracing::info!(
            done = self.done,
            all = self.all,
            failed = self.failed,
            per_second = format_args!("{rate:.1}"),
            "{what}"
        );
    }
}
