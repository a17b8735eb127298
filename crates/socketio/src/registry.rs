//! All sessions, by id, and how many may be.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::places::Connected;
pub use super::places::{Counted, Slot};
use super::session::Session;
use super::sid::Sid;

/// The time between two searches for unused sessions.
const SEARCH_PAUSE: Duration = Duration::from_millis(100);

/// The sessions of the server.
#[derive(Debug, Default)]
pub struct Registry {
    sessions: Mutex<HashMap<Sid, Arc<Session>>>,
    taken: Arc<AtomicUsize>,
    connected: Arc<Connected>,
    /// When unused sessions were last searched for.
    searched: Mutex<Option<Instant>>,
    /// Wakes the heartbeat: there is a deadline that it has not seen.
    pub looked_for: Notify,
}

impl Registry {
    /// A place for one more client, unless there are `limit` already. Taken before the handshake is answered, so that
    /// clients that come together cannot pass the limit together.
    pub fn reserve(&self, limit: usize) -> Option<Slot> {
        self.taken
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |taken| (taken < limit).then_some(taken + 1))
            .ok()
            .map(|_| Slot(Arc::clone(&self.taken)))
    }

    /// Adds a session.
    pub fn insert(&self, session: Arc<Session>) {
        self.lock().insert(session.sid, session);
        self.looked_for.notify_one();
    }

    /// The session of this id.
    pub fn get(&self, sid: Sid) -> Option<Arc<Session>> {
        self.lock().get(&sid).cloned()
    }

    /// Takes a session out. True after a crowd has left, whose memory may go too.
    #[must_use]
    pub fn remove(&self, sid: Sid) -> bool {
        let mut sessions = self.lock();
        sessions.remove(&sid);
        let crowd_left = sessions.capacity() > 64 && sessions.len() * 4 < sessions.capacity();
        if crowd_left {
            sessions.shrink_to_fit();
        }
        crowd_left
    }

    /// Calls `f` for each session. `f` must not call back into the registry.
    pub fn each(&self, mut f: impl FnMut(&Arc<Session>)) {
        self.lock().values().for_each(&mut f);
    }

    /// How many sessions there are, connected to the namespace or not.
    pub fn sessions(&self) -> usize {
        self.lock().len()
    }

    /// The sessions whose clients have never come back since they opened them, some seconds ago. Empty when this
    ///  was asked a moment ago: a flood of handshakes is no reason to search all the time.
    pub fn unused(&self, now: Instant) -> Vec<Arc<Session>> {
        let mut searched = self.searched.lock().unwrap_or_else(PoisonError::into_inner);
        if searched.is_some_and(|before| now < before + SEARCH_PAUSE) {
            return Vec::new();
        }
        *searched = Some(now);
        self.lock().values().filter(|session| session.is_unused(now)).cloned().collect()
    }

    /// How many clients are in the default namespace.
    pub fn connected(&self) -> usize {
        self.connected.count.load(Ordering::Acquire)
    }

    /// One client more, as long as it is counted; how many there are now, and the version of that number.
    pub fn joined(&self) -> (Counted, usize, u64) {
        let count = self.connected.count.fetch_add(1, Ordering::AcqRel) + 1;
        (Counted(Arc::clone(&self.connected)), count, self.connected.changed())
    }

    /// How many clients there are, and the version of that number.
    pub fn count(&self) -> (usize, u64) {
        let version = self.connected.version.load(Ordering::Acquire);
        (self.connected(), version)
    }

    /// Waits until the number of clients has changed.
    pub async fn count_changed(&self) {
        self.connected.changed.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Sid, Arc<Session>>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_limited_and_given_back() {
        let registry = Registry::default();
        let one = registry.reserve(2).unwrap();
        let _two = registry.reserve(2).unwrap();
        assert!(registry.reserve(2).is_none());
        drop(one);
        assert!(registry.reserve(2).is_some());
    }

    #[test]
    fn every_change_of_the_count_has_a_version_of_its_own() {
        let registry = Registry::default();
        let (one, count, version) = registry.joined();
        assert_eq!((count, version), (1, 1));
        let (_two, count, version) = registry.joined();
        assert_eq!((count, version), (2, 2));
        drop(one);
        assert_eq!(registry.count(), (1, 3));
    }
}
