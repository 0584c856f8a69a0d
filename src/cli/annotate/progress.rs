//! Counts pictures and shows progress: a bar on a terminal, otherwise a log line every few seconds.

use std::fmt::Write;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressState, ProgressStyle};

const BAR: &str = "{bar:30} {pos}/{len}  {rate}  {eta} left  {msg}";
const EVERY: Duration = Duration::from_secs(10);

/// What became of a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Labelled,
    /// It has a label, but the model was stopped before it had ended its answer.
    Cut,
    /// Its record holds an error.
    Failed,
    /// It has no record.
    Unread,
}

pub struct Progress {
    bar: Option<ProgressBar>,
    all: usize,
    recorded: usize,
    failed: usize,
    unread: usize,
    cut: usize,
    begun: Instant,
    logged: Instant,
    recorded_before: usize,
}

impl Progress {
    /// `recorded` of `all` pictures have a record of an earlier run, `failed` of these an error. The
    /// rate counts from now on.
    pub fn new(all: usize, recorded: usize, failed: usize) -> Self {
        let bar = std::io::stderr()
            .is_terminal()
            .then(|| bar(all as u64, recorded as u64));
        let now = Instant::now();
        Self {
            bar,
            all,
            recorded,
            failed,
            unread: 0,
            cut: 0,
            begun: now,
            logged: now,
            recorded_before: recorded,
        }
    }

    pub fn all(&self) -> usize {
        self.all
    }

    /// Pictures that have a record.
    pub fn done(&self) -> usize {
        self.recorded
    }

    /// Pictures whose record holds an error, those of earlier runs included.
    pub fn failed(&self) -> usize {
        self.failed
    }

    /// Pictures that could not be read.
    pub fn unread(&self) -> usize {
        self.unread
    }

    /// Pictures whose answer was cut in this run.
    pub fn cut(&self) -> usize {
        self.cut
    }

    pub fn advance(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Labelled => {}
            Outcome::Cut => self.cut += 1,
            Outcome::Failed => self.failed += 1,
            Outcome::Unread => self.unread += 1,
        }
        self.recorded += usize::from(outcome != Outcome::Unread);
        match &self.bar {
            Some(bar) => {
                bar.set_position((self.recorded + self.unread) as u64);
                let without_label = self.failed + self.unread;
                if without_label > 0 {
                    bar.set_message(format!("{without_label} failed"));
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
        let new = self.recorded - self.recorded_before;
        tracing::info!(
            done = self.recorded,
            all = self.all,
            failed = self.failed + self.unread,
            rate = rate(new as u64, self.begun.elapsed()),
            "{what}"
        );
    }
}

fn bar(all: u64, before: u64) -> ProgressBar {
    // The template is a constant; if it were wrong, the default bar would do.
    let style = ProgressStyle::with_template(BAR);
    let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
    let style = style.with_key(
        "rate",
        move |state: &ProgressState, text: &mut dyn Write| {
            if let Some(rate) = rate(state.pos().saturating_sub(before), state.elapsed()) {
                // Writing to the bar's line doesn't fail.
                let _ = text.write_str(&rate);
            }
        },
    );
    let bar = ProgressBar::new(all).with_style(style);
    let bar = bar.with_position(before);
    bar.reset_eta();
    bar
}

/// How fast it goes: per second, or in the first longer unit in which that is at least one picture.
/// `None` before the first picture.
fn rate(pictures: u64, time: Duration) -> Option<String> {
    if pictures == 0 {
        return None;
    }
    let per_second = pictures as f64 / time.as_secs_f64().max(1e-3);
    let units = [("s", 1.0), ("min", 60.0), ("h", 3600.0), ("day", 86_400.0)];
    let fitting = units.into_iter().find(|(_, unit)| per_second * unit >= 1.0);
    let (name, unit) = fitting.unwrap_or(units[3]);
    Some(format!("{:.1}/{name}", per_second * unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_rate_is_told_per_minute_or_hour() {
        for (pictures, seconds, expected) in [
            (0, 5, None),
            (25, 10, Some("2.5/s")),
            (3, 3, Some("1.0/s")),
            (1, 25, Some("2.4/min")),
            (2, 1800, Some("4.0/h")),
            (1, 40_000, Some("2.2/day")),
        ] {
            let rate = rate(pictures, Duration::from_secs(seconds));
            assert_eq!(rate.as_deref(), expected);
        }
    }

    #[test]
    fn pictures_are_counted_by_what_became_of_them() {
        let mut progress = Progress::new(9, 3, 1);
        for outcome in [
            Outcome::Labelled,
            Outcome::Cut,
            Outcome::Failed,
            Outcome::Unread,
        ] {
            progress.advance(outcome);
        }
        assert_eq!((progress.done(), progress.all()), (6, 9));
        assert_eq!(
            (progress.failed(), progress.unread(), progress.cut()),
            (2, 1, 1)
        );
    }
}
