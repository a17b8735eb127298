//! The rooms of a namespace: named groups of its clients. A room is there as long as somebody is in it.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::session::Session;
use super::sid::Sid;

/// The most rooms that one client may be in.
pub const MAX_ROOMS: usize = 1024;

/// A client is in [`MAX_ROOMS`] rooms already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a client may be in {MAX_ROOMS} rooms at once, leave some first")]
pub struct TooManyRooms;

/// See the module.
#[derive(Debug, Default)]
pub struct Rooms {
    tables: Mutex<Tables>,
    /// How many clients are in any room; so that nobody waits for the lock while there are none.
    clients: AtomicUsize,
}

#[derive(Debug, Default)]
struct Tables {
    members: HashMap<Box<str>, HashMap<Sid, Arc<Session>>>,
    rooms: HashMap<Sid, HashSet<Box<str>>>,
}

impl Rooms {
    /// Puts a client into a room, if it is in the namespace.
    ///
    /// # Errors
    /// When it is in too many already.
    pub fn join(&self, session: &Arc<Session>, namespace: usize, room: &str) -> Result<(), TooManyRooms> {
        let mut tables = self.lock();
        // Looked at with the tables locked: one that leaves afterwards is taken out of what it is put into here.
        if session.sid_in(namespace).is_none() {
            return Ok(());
        }
        let rooms = tables.rooms.entry(session.sid).or_default();
        if rooms.contains(room) {
            return Ok(());
        }
        if rooms.len() >= MAX_ROOMS {
            return Err(TooManyRooms);
        }
        rooms.insert(room.into());
        tables.members.entry(room.into()).or_default().insert(session.sid, Arc::clone(session));
        self.count(&tables);
        Ok(())
    }

    /// Takes a client out of a room.
    pub fn leave(&self, sid: Sid, room: &str) {
        let mut tables = self.lock();
        if let Some(rooms) = tables.rooms.get_mut(&sid) {
            rooms.remove(room);
            if rooms.is_empty() {
                tables.rooms.remove(&sid);
            }
        }
        tables.take_out(sid, room);
        self.count(&tables);
    }

    /// Takes a client out of all rooms whose names begin with this.
    pub fn leave_all(&self, sid: Sid, prefix: &str) {
        if self.is_empty() {
            return;
        }
        let mut tables = self.lock();
        let Some(rooms) = tables.rooms.remove(&sid) else { return };
        let (left, kept): (HashSet<_>, HashSet<_>) = rooms.into_iter().partition(|r| r.starts_with(prefix));
        for room in &left {
            tables.take_out(sid, room);
        }
        if !kept.is_empty() {
            tables.rooms.insert(sid, kept);
        }
        self.count(&tables);
    }

    /// Whether nobody is in any room.
    pub fn is_empty(&self) -> bool {
        self.clients.load(Ordering::Acquire) == 0
    }

    /// Whether a client is in any of these rooms.
    pub fn is_in_any(&self, sid: Sid, rooms: &[String]) -> bool {
        let tables = self.lock();
        rooms.iter().any(|room| tables.members.get(room.as_str()).is_some_and(|members| members.contains_key(&sid)))
    }

    /// The clients that are in any of these rooms, each once.
    pub fn members<S: AsRef<str>>(&self, rooms: &[S]) -> Vec<Arc<Session>> {
        let tables = self.lock();
        let mut found: Vec<Arc<Session>> = Vec::new();
        let mut seen = HashSet::new();
        for members in rooms.iter().filter_map(|room| tables.members.get(room.as_ref())) {
            found.extend(members.iter().filter(|(sid, _)| seen.insert(**sid)).map(|(_, session)| Arc::clone(session)));
        }
        found
    }

    fn count(&self, tables: &Tables) {
        self.clients.store(tables.rooms.len(), Ordering::Release);
    }

    fn lock(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tables {
    fn take_out(&mut self, sid: Sid, room: &str) {
        if let Some(members) = self.members.get_mut(room) {
            members.remove(&sid);
            if members.is_empty() {
                self.members.remove(room);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handshake::Handshake;
    use crate::options::Options;
    use crate::outgoing::Outgoing;
    use crate::registry::Registry;
    use crate::session::Feed;
    use std::time::Instant;

    fn client() -> Arc<Session> {
        let (slot, now) = (Registry::default().reserve(1).unwrap(), Instant::now());
        let session = Session::new(None, &Options::default(), Handshake::default(), slot, now).unwrap();
        session.enter((0, session.socket_sid), Feed::Off, &Outgoing::packets(vec![]), 0, now).unwrap();
        Arc::new(session)
    }

    #[test]
    fn rooms_are_there_while_somebody_is_in_them_and_who_is_in_two_counts_once() {
        let (rooms, one, two) = (Rooms::default(), client(), client());
        assert!(rooms.is_empty());
        for (session, room) in [(&one, "a"), (&one, "b"), (&one, "a"), (&two, "b")] {
            rooms.join(session, 0, room).unwrap();
        }
        assert_eq!(
            (rooms.members(&["a", "b"]).len(), rooms.members(&["a"]).len(), rooms.members(&["c"]).len()),
            (2, 1, 0)
        );
        rooms.leave(one.sid, "b");
        assert!(rooms.is_in_any(one.sid, &["b".into(), "a".into()]) && !rooms.is_in_any(one.sid, &["b".into()]));
        rooms.leave_all(one.sid, "");
        rooms.leave_all(two.sid, "x");
        assert_eq!((rooms.members(&["a", "b"]).len(), rooms.is_empty()), (1, false));
        rooms.leave_all(two.sid, "b");
        assert!(rooms.is_empty() && rooms.lock().members.is_empty());
    }

    #[test]
    fn one_that_has_left_gets_into_no_room_and_nobody_into_too_many() {
        let (rooms, gone, greedy) = (Rooms::default(), client(), client());
        gone.leave(0, Instant::now());
        rooms.join(&gone, 0, "a").unwrap();
        assert!(rooms.is_empty());
        for n in 0..MAX_ROOMS {
            rooms.join(&greedy, 0, &n.to_string()).unwrap();
        }
        assert_eq!(rooms.join(&greedy, 0, "one more"), Err(TooManyRooms));
        assert_eq!(rooms.join(&greedy, 0, "7"), Ok(()), "it is there already");
    }
}
