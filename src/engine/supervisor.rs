//! Builds the model, and builds it again when it fails.

use std::collections::VecDeque;
use std::fmt::Display;
use std::time::{Duration, Instant};

use super::EngineOptions;
use super::executor::Executor;
use super::out_of_memory;
use super::shared::Shared;
use super::worker::{self, catch};
use crate::models::{Model, reason};
use crate::telemetry::metrics;

/// The time within which `model_restarts` are counted.
const WINDOW: Duration = Duration::from_secs(600);

/// Builds the model through `factory` and answers requests until the handle closes the engine or
/// the model has failed too often.
///
/// A panic of the model is a failure like any other. After a failure the model is built again; the
/// sequences that were in it are prefilled once more, with what they had generated, and go on.
pub(super) fn run<M, E>(
    shared: &Shared,
    options: &EngineOptions,
    vocab_size: usize,
    factory: impl Fn() -> Result<M, E>,
) where
    M: Model,
    E: Display,
{
    let build = || {
        catch(|| {
            let began = Instant::now();
            let model = factory().map_err(|error| error.to_string())?;
            let executor = Executor::new(model, options, vocab_size);
            let executor = executor.map_err(|error| reason(&error))?;
            metrics::model_loaded(began.elapsed());
            Ok(executor)
        })
        .map_err(|reason| out_of_memory::explained(reason, || None))
    };
    let mut restarts = Restarts::new(options.model_restarts);
    let mut built = build();
    // A model that can't be loaded at all is the operator's to mend, not a reason to try again.
    if let Err(reason) = &built {
        return shared.fail(reason);
    }
    loop {
        let failure = match built {
            Ok(mut executor) => {
                shared.open(executor.image_tokens());
                match catch(|| worker::run(shared, &mut executor)) {
                    Ok(()) => return shared.end(),
                    // The memory must be free before the next model is loaded.
                    Err(failure) => match catch(|| {
                        drop(executor);
                        Ok(())
                    }) {
                        Ok(()) => failure,
                        Err(later) => format!("{failure}; then, while it was taken down, {later}"),
                    },
                }
            }
            Err(failure) => failure,
        };
        if let Err(tries) = restarts.next(Instant::now()) {
            tracing::error!(reason = failure, tries, "the model failed and is given up");
            return shared.fail(&given_up(&failure, tries));
        }
        tracing::error!(reason = failure, "the model failed; it is loaded again");
        metrics::model_restart();
        shared.restart(&failure);
        built = build();
    }
}

fn given_up(failure: &str, tries: usize) -> String {
    match tries {
        0 => failure.to_owned(),
        tries => format!("{failure}; it was loaded again {tries} times within ten minutes"),
    }
}

/// The restarts within the last ten minutes.
struct Restarts {
    most: usize,
    times: VecDeque<Instant>,
}

impl Restarts {
    fn new(most: usize) -> Self {
        Self {
            most,
            times: VecDeque::new(),
        }
    }

    /// Counts one more restart, or returns how many there were when that would be too many.
    fn next(&mut self, now: Instant) -> Result<(), usize> {
        while self.times.front().is_some_and(|time| now - *time >= WINDOW) {
            self.times.pop_front();
        }
        if self.times.len() >= self.most {
            return Err(self.times.len());
        }
        self.times.push_back(now);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn restarts_are_counted_over_ten_minutes() {
        let start = Instant::now();
        let mut restarts = Restarts::new(2);
        assert_eq!(restarts.next(start), Ok(()));
        assert_eq!(restarts.next(start + Duration::from_secs(300)), Ok(()));
        assert_eq!(restarts.next(start + Duration::from_secs(599)), Err(2));
        assert_eq!(restarts.next(start + Duration::from_secs(600)), Ok(()));
        assert_eq!(Restarts::new(0).next(start), Err(0));
    }
}
