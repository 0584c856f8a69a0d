//! What becomes of one prompt, from the queue to the end of its answer.

use async_stream::stream;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt};

use crate::engine::{Event, Generation};

/// A step forward.
pub enum Progress {
    /// The prompt has this place in the line for a slot: 1 is next, 0 is no longer in the line.
    Queued(usize),
    Event(Event),
}

/// What `generation` yields; with `places`, its place in the queue before that, whenever it changes.
pub fn progress(generation: Generation, places: bool) -> BoxStream<'static, Progress> {
    if places {
        with_places(generation).boxed()
    } else {
        generation.map(Progress::Event).boxed()
    }
}

fn with_places(mut generation: Generation) -> impl Stream<Item = Progress> + Send {
    stream! {
        let mut place = generation.watch_place();
        loop {
            let next = tokio::select! {
                // Who has an event no longer waits, whatever place was told last.
                biased;
                event = generation.next() => event.map(Progress::Event),
                Ok(()) = place.changed() => Some(Progress::Queued(*place.borrow_and_update())),
            };
            let waits = matches!(next, Some(Progress::Queued(_)));
            if let Some(next) = next {
                yield next;
            }
            if !waits {
                break;
            }
        }
        while let Some(event) = generation.next().await {
            yield Progress::Event(event);
        }
    }
}
