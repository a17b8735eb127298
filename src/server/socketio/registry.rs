//! All sessions, by id, and how many may be.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::session::Session;
use super::sid::Sid;

/// The sessions of the server.
#[derive(Debug, Default)]
pub struct Registry {
    sessions: Mutex<HashMap<Sid, Arc<Session>>>,
    taken: Arc<AtomicUsize>,
    connected: AtomicUsize,
    /// Counts the changes of `connected`, so that each client is told the newest number once.
    version: AtomicU64,
    /// Wakes the heartbeat: there is a deadline that it has not seen.
    pub looked_for: Notify,
    /// Wakes the task that tells clients how many they are.
    pub count_changed: Notify,
}

/// One place among the clients, given back when dropped.
#[derive(Debug)]
pub struct Slot(Arc<AtomicUsize>);

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
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

    /// Takes a session out.
    pub fn remove(&self, sid: Sid) {
        let mut sessions = self.lock();
        sessions.remove(&sid);
        // After a crowd has left, its memory goes too.
        if sessions.capacity() > 64 && sessions.len() * 4 < sessions.capacity() {
            sessions.shrink_to_fit();
            drop(sessions);
            crate::sys::give_back_memory();
        }
    }

    /// Calls `f` for each session. `f` must not call back into the registry.
    pub fn each(&self, mut f: impl FnMut(&Arc<Session>)) {
        self.lock().values().for_each(&mut f);
    }

    /// How many sessions there are, connected to the namespace or not.
    pub fn sessions(&self) -> usize {
        self.lock().len()
    }

    /// How many clients are in the default namespace.
    pub fn connected(&self) -> usize {
        self.connected.load(Ordering::Acquire)
    }

    /// One client more; how many there are now, and the version of that number.
    pub fn joined(&self) -> (usize, u64) {
        let count = self.connected.fetch_add(1, Ordering::AcqRel) + 1;
        (count, self.changed())
    }

    /// One client less.
    pub fn left(&self) {
        self.connected.fetch_sub(1, Ordering::AcqRel);
        self.changed();
    }

    /// How many clients there are, and the version of that number.
    pub fn count(&self) -> (usize, u64) {
        let version = self.version.load(Ordering::Acquire);
        (self.connected(), version)
    }

    fn changed(&self) -> u64 {
        let version = self.version.fetch_add(1, Ordering::AcqRel) + 1;
        self.count_changed.notify_one();
        version
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
        assert_eq!(registry.joined(), (1, 1));
        assert_eq!(registry.joined(), (2, 2));
        registry.left();
        assert_eq!(registry.count(), (1, 3));
    }
}
