//! How many connections there are, and which of them gives way when there are too many.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::telemetry::metrics;

/// Connections beyond the bound, for health checks while all others have requests.
pub const SPARE: usize = 16;

/// The places that connections take. Clones share them.
#[derive(Debug, Clone)]
pub struct Places {
    taken: Arc<Mutex<Taken>>,
    freed: Arc<Notify>,
    most: usize,
}

#[derive(Debug, Default)]
struct Taken {
    connections: BTreeMap<u64, Arc<Connection>>,
    next: u64,
}

#[derive(Debug)]
struct Connection {
    /// `None` while it has a request.
    idle_since: Mutex<Option<Instant>>,
    gives_way: CancellationToken,
}

/// One connection's place, free again when this is dropped.
#[derive(Debug)]
pub struct Place {
    places: Places,
    number: u64,
    connection: Arc<Connection>,
    spare: bool,
}

/// A connection has a request until this is dropped.
#[derive(Debug)]
pub struct Busy(Arc<Connection>);

impl Places {
    /// Places for `most` connections.
    pub fn new(most: usize) -> Self {
        Self {
            taken: Arc::default(),
            freed: Arc::default(),
            most,
        }
    }

    /// Waits until one more connection may be accepted.
    pub async fn room(&self) {
        loop {
            let freed = self.freed.notified();
            if lock(&self.taken).connections.len() < self.most + SPARE {
                return;
            }
            freed.await;
        }
    }

    /// A place for a connection that was accepted. When all are taken, the connection that has been
    /// idle for longest gives way; while none is idle, the place is a spare one.
    pub fn take(&self) -> Place {
        let mut taken = lock(&self.taken);
        while taken.connections.len() >= self.most && taken.evict() {}
        let connection = Arc::new(Connection {
            idle_since: Mutex::new(Some(Instant::now())),
            gives_way: CancellationToken::new(),
        });
        let (number, spare) = (taken.next, taken.connections.len() >= self.most);
        taken.next += 1;
        taken.connections.insert(number, Arc::clone(&connection));
        metrics::connections(taken.connections.len());
        Place {
            places: self.clone(),
            number,
            connection,
            spare,
        }
    }

    /// Lets the connection that has been idle for longest give way, if one is idle.
    pub fn evict(&self) {
        lock(&self.taken).evict();
    }
}

impl Taken {
    /// False when none is idle.
    fn evict(&mut self) -> bool {
        let idle = |(number, connection): (&u64, &Arc<Connection>)| {
            Some(((*lock(&connection.idle_since))?, *number))
        };
        let longest = self.connections.iter().filter_map(idle).min();
        let longest = longest.and_then(|(_, number)| self.connections.remove(&number));
        longest.is_some_and(|connection| {
            connection.gives_way.cancel();
            true
        })
    }
}

impl Place {
    /// The connection has a request.
    pub fn busy(&self) -> Busy {
        *lock(&self.connection.idle_since) = None;
        Busy(Arc::clone(&self.connection))
    }

    /// Whether it has one now.
    pub fn is_busy(&self) -> bool {
        lock(&self.connection.idle_since).is_none()
    }

    /// Whether it was given beyond the bound.
    pub fn is_spare(&self) -> bool {
        self.spare
    }

    /// Resolves when the connection is to end.
    pub async fn gives_way(&self) {
        self.connection.gives_way.cancelled().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = lock(&self.places.taken);
        taken.connections.remove(&self.number);
        metrics::connections(taken.connections.len());
        drop(taken);
        self.places.freed.notify_one();
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        *lock(&self.0.idle_since) = Some(Instant::now());
    }
}

/// A panic while one of these was locked leaves nothing half done, so poison is ignored.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn is_to_end(place: &Place) -> bool {
        place.gives_way().now_or_never().is_some()
    }

    #[test]
    fn the_connection_that_has_been_idle_for_longest_gives_way() {
        let places = Places::new(2);
        let (first, second) = (places.take(), places.take());
        // It had a request since the second came, so the second has been idle for longer.
        drop(first.busy());
        let third = places.take();
        assert!(is_to_end(&second) && !is_to_end(&first) && !is_to_end(&third));
        assert!(!third.is_spare());
    }

    #[test]
    fn busy_connections_stay_and_what_comes_then_is_spare() {
        let places = Places::new(1);
        let first = places.take();
        let busy = first.busy();
        let spare: Vec<_> = (0..SPARE).map(|_| places.take()).collect();
        assert!(!is_to_end(&first) && spare.iter().all(Place::is_spare));
        // The spare ones are idle: each gave way to the one after it.
        assert!(spare[..SPARE - 1].iter().all(is_to_end));
        drop(busy);
        assert!(!places.take().is_spare());
    }

    #[test]
    fn there_is_room_again_when_a_place_is_free() {
        let places = Places::new(1);
        let busy = || {
            let place = places.take();
            let busy = place.busy();
            (place, busy)
        };
        let mut taken: Vec<_> = (0..=SPARE).map(|_| busy()).collect();
        assert!(places.room().now_or_never().is_none());
        taken.pop();
        assert!(places.room().now_or_never().is_some());
    }
}
