//! Which server gets the next request. No clock and no network: those are the caller's.

use std::time::{Duration, Instant};

/// The most attempts at one request that fail in ways that may be its own fault.
pub const ATTEMPTS: usize = 5;

/// What the pool knows of the servers.
pub struct Pool {
    servers: Vec<Server>,
    /// Most requests at one server.
    most: usize,
    /// Since when no server has been ready.
    none_since: Option<Instant>,
}

struct Server {
    ready: bool,
    /// Why it is not ready.
    reason: String,
    /// It gets nothing before this.
    paused: Option<Instant>,
    under_way: usize,
    /// How many it gets at a time: halved when it is too slow, then slowly raised.
    limit: usize,
    /// Answers since the limit was last changed.
    answers: usize,
}

/// What a caller that needs a server does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// Send to this one.
    Take(usize),
    /// Look again when something changes, and at this time at the latest.
    Wait(Option<Instant>),
    /// None has been ready for too long.
    GiveUp,
}

impl Pool {
    /// So many servers, none of which is known to be ready.
    pub fn new(servers: usize, most: usize, now: Instant) -> Self {
        let server = || Server {
            ready: false,
            reason: "no answer yet".to_owned(),
            paused: None,
            under_way: 0,
            limit: most,
            answers: 0,
        };
        Self {
            servers: std::iter::repeat_with(server).take(servers).collect(),
            most,
            none_since: Some(now),
        }
    }

    /// Takes the ready server with the least to do. The caller says with [`Self::release`] when it is
    /// done.
    pub fn choose(&mut self, now: Instant, patience: Duration) -> Choice {
        if let Some(since) = self.none_since {
            let end = since + patience;
            return match end <= now {
                true => Choice::GiveUp,
                false => Choice::Wait(Some(end)),
            };
        }
        let mut wake = None;
        let mut free: Option<usize> = None;
        for (index, server) in self.servers.iter().enumerate() {
            match server.paused {
                _ if !server.ready || server.under_way >= server.limit => {}
                Some(end) if now < end => {
                    wake = Some(wake.map_or(end, |wake: Instant| wake.min(end)));
                }
                _ if free.is_some_and(|best| self.servers[best].under_way <= server.under_way) => {}
                _ => free = Some(index),
            }
        }
        match free {
            Some(index) => {
                self.servers[index].under_way += 1;
                Choice::Take(index)
            }
            None => Choice::Wait(wake),
        }
    }

    pub fn release(&mut self, index: usize) {
        let server = &mut self.servers[index];
        server.under_way = server.under_way.saturating_sub(1);
    }

    /// It has answered in time.
    pub fn answered(&mut self, index: usize) {
        let server = &mut self.servers[index];
        server.answers += 1;
        if server.answers >= server.limit && server.limit < self.most {
            server.limit += 1;
            server.answers = 0;
        }
    }

    /// It has not answered in time: it gets fewer requests at a time.
    pub fn too_slow(&mut self, index: usize) {
        let server = &mut self.servers[index];
        // Requests that were sent together fail together; they count once.
        if server.under_way >= server.limit || server.answers > 0 {
            server.limit = (server.limit / 2).max(1);
            server.answers = 0;
        }
    }

    /// It wants no requests for a while.
    pub fn pause(&mut self, index: usize, until: Instant) {
        let paused = &mut self.servers[index].paused;
        *paused = Some(paused.map_or(until, |before| before.max(until)));
    }

    /// It takes no requests until [`Self::ready`]. Returns whether it did so far.
    pub fn down(&mut self, index: usize, reason: &str, now: Instant) -> bool {
        let server = &mut self.servers[index];
        reason.clone_into(&mut server.reason);
        let was_ready = std::mem::replace(&mut server.ready, false);
        if was_ready && self.servers.iter().all(|server| !server.ready) {
            self.none_since = Some(now);
        }
        was_ready
    }

    pub fn ready(&mut self, index: usize) {
        let server = &mut self.servers[index];
        (server.ready, server.paused) = (true, None);
        self.none_since = None;
    }

    /// Why each server that is not ready is not.
    pub fn reasons(&self) -> impl Iterator<Item = (usize, &str)> {
        let down = self.servers.iter().enumerate();
        down.filter(|(_, server)| !server.ready)
            .map(|(index, server)| (index, server.reason.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn pool(servers: usize, most: usize) -> (Pool, Instant) {
        let now = Instant::now();
        let mut pool = Pool::new(servers, most, now);
        (0..servers).for_each(|index| pool.ready(index));
        (pool, now)
    }

    #[test]
    fn the_server_with_the_least_to_do_is_next_and_none_gets_too_much() {
        let (mut pool, now) = pool(2, 2);
        let taken: Vec<_> = (0..4).map(|_| pool.choose(now, MINUTE)).collect();
        assert_eq!(taken, [0, 1, 0, 1].map(Choice::Take));
        assert_eq!(pool.choose(now, MINUTE), Choice::Wait(None));
        pool.release(1);
        assert_eq!(pool.choose(now, MINUTE), Choice::Take(1));
    }

    #[test]
    fn a_paused_server_gets_nothing_until_its_time() {
        let (mut pool, now) = pool(1, 2);
        let end = now + Duration::from_secs(3);
        pool.pause(0, end);
        pool.pause(0, now);
        assert_eq!(pool.choose(now, MINUTE), Choice::Wait(Some(end)));
        assert_eq!(pool.choose(end, MINUTE), Choice::Take(0));
    }

    #[test]
    fn a_server_that_is_down_gets_nothing_and_when_all_are_it_ends() {
        let (mut pool, now) = pool(2, 8);
        assert!(pool.down(0, "refused", now));
        assert!(!pool.down(0, "refused", now));
        assert_eq!(pool.choose(now, MINUTE), Choice::Take(1));
        let later = now + MINUTE;
        pool.down(1, "loading", later);
        let end = later + MINUTE;
        assert_eq!(pool.choose(later, MINUTE), Choice::Wait(Some(end)));
        assert_eq!(pool.choose(end, MINUTE), Choice::GiveUp);
        assert!(pool.reasons().eq([(0, "refused"), (1, "loading")]));
        pool.ready(0);
        assert_eq!(pool.choose(end, MINUTE), Choice::Take(0));
    }

    #[test]
    fn a_slow_server_gets_fewer_at_a_time_and_slowly_more_again() {
        let (mut pool, now) = pool(1, 8);
        let taken: Vec<_> = (0..8).map(|_| pool.choose(now, MINUTE)).collect();
        assert_eq!(taken, [Choice::Take(0); 8]);
        for _ in 0..8 {
            pool.too_slow(0);
            pool.release(0);
        }
        // Eight failures together count as few.
        let limit = pool.servers[0].limit;
        assert!((1..=4).contains(&limit), "{limit}");
        (0..limit).for_each(|_| pool.answered(0));
        assert_eq!(pool.servers[0].limit, limit + 1);
    }
}
