//! The events of the hub on their way to the Socket.IO clients: all of them to most, in one shared encoding; the events
//! of its rooms to a client that asked for some only. Names and agent sessions are rooms of the default namespace.
//! [`resume`] sends a client what it missed.

pub mod resume;

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use serde_json::Value;
use tokio::sync::watch;

use self::resume::Resume;
use super::Counters;
use crate::config::Settings;
use crate::events::hub::{History, Hub, Outlet, Shown};
use crate::events::store::Store;
use crate::server::room::Share;
use socketio::SocketIo;
use socketio::namespace::{Entering, Entrance, Socket};
use socketio::outgoing::Outgoing;
use socketio::rooms::{MAX_ROOMS, TooManyRooms};
use socketio::session::members::DEFAULT;
use socketio::session::{End, Feed, Session};
use socketio::sid::Sid;

/// Every room of the feed begins like this, which no other room should.
const PREFIX: &str = "feed ";

/// The feed of the default namespace.
pub struct EventFeed {
    /// The newest and the live ones.
    pub hub: Arc<Hub>,
    /// All that are kept.
    pub store: Arc<Store>,
    settings: watch::Receiver<Arc<Settings>>,
    /// The encoded history; clients that come back together after a restart share it, and the room that it takes.
    past: Mutex<Option<(History, Outgoing)>>,
    /// The number of the next task that sends a client what it missed.
    next_task: AtomicU64,
}

impl EventFeed {
    /// A feed of these events.
    pub fn new(hub: Arc<Hub>, store: Arc<Store>, settings: watch::Receiver<Arc<Settings>>) -> Arc<Self> {
        Arc::new(Self { hub, store, settings, past: Mutex::new(None), next_task: AtomicU64::new(0) })
    }

    /// Calls `send` with the encoded history; gives its size where it is not encoded yet and needs more than this share.
    fn with_past<R>(
        &self,
        history: &History,
        share: &mut Share,
        send: impl FnOnce(&Outgoing) -> R,
    ) -> Result<R, usize> {
        let mut past = self.past.lock().unwrap_or_else(PoisonError::into_inner);
        match &*past {
            Some((known, packets)) if known.json.as_ptr() == history.json.as_ptr() => Ok(send(packets)),
            _ if history.json.len() > share.bytes => Err(history.json.len()),
            _ => {
                let packets = std::mem::take(share).sent_in(packets_of(history));
                Ok(send(&past.insert((history.clone(), packets)).1))
            }
        }
    }
}

impl fmt::Debug for EventFeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventFeed").field("hub", &self.hub).finish_non_exhaustive()
    }
}

/// The events by which a new client learns the past: today's pages listen for the first name, older ones for the second.
fn packets_of(history: &History) -> Outgoing {
    Outgoing::packets(vec![Outgoing::event("event_history", &history.json), Outgoing::event("history", &history.json)])
}

/// The way into the default namespace: a client gets the newest events and then all new ones, or, if it says what it has,
/// what it missed.
#[derive(Debug)]
pub struct Way(pub Arc<EventFeed>);

impl Entrance for Way {
    fn enter(&self, client: Entering<'_>) -> Result<bool, End> {
        let (feed, wish) = (&self.0, Resume::of(client.auth));
        let task = feed.next_task.fetch_add(1, Ordering::Relaxed);
        let (sio, session) = (Arc::clone(client.socket.server()), Arc::clone(client.socket.session()));
        let waits = client.enter(Feed::Past(task))?;
        if let Some(wish) = wish {
            tokio::spawn(resume::run(Arc::clone(feed), sio, session, task, wish));
            return Ok(waits);
        }
        match feed.newest(&session, task, &mut Share::default()) {
            Ok(pushed) => pushed.unwrap_or(Ok(false)).map(|more| waits || more),
            Err(size) => {
                tokio::spawn(Arc::clone(feed).newest_in_turn(sio, session, task, size));
                Ok(waits)
            }
        }
    }
}

impl EventFeed {
    /// Sends the newest events and makes the client a live one; gives the size that the share is too small for. `None` when
    /// the client left meanwhile.
    fn newest(&self, session: &Session, task: u64, share: &mut Share) -> Result<Option<Result<bool, End>>, usize> {
        let limit = self.settings.borrow().history_on_connect;
        // Within this the hub passes nothing on, so the client gets each event either in its history or live.
        self.hub.subscribe(limit, |history| {
            let feed = Feed::After(history.last_seq);
            self.with_past(history, share, |out| session.push_past(task, out, feed, Instant::now()))
        })
    }

    /// The same, once there is room for that much, or for what it has become meanwhile.
    async fn newest_in_turn(self: Arc<Self>, sio: Arc<SocketIo>, session: Arc<Session>, task: u64, mut size: usize) {
        loop {
            let mut share = tokio::select! {
                share = Share::of(size) => share,
                () = session.is_over_for(task) => return,
            };
            match self.newest(&session, task, &mut share) {
                Ok(pushed) => return pushed.map_or((), |result| sio.sent(&session, result)),
                Err(more) => size = more,
            }
        }
    }

    /// Lets a client have only the events that are of one of these agent sessions and have one of these names; an empty
    /// list is no condition, and two empty lists give it all again.
    ///
    /// # Errors
    /// When that takes more rooms than a client may be in; then nothing changes.
    pub fn narrow(&self, socket: Socket<'_>, sessions: &[String], names: &[String]) -> Result<(), TooManyRooms> {
        // A room for each pair: counted before they are made.
        if sessions.len().max(1).saturating_mul(names.len().max(1)) > MAX_ROOMS {
            return Err(TooManyRooms);
        }
        let wanted = wanted(sessions, names);
        let (session, rooms) = (socket.session(), socket.server().rooms());
        // While the hub passes nothing on, so that no event falls between the old wish and the new one.
        self.hub.pause(|| {
            rooms.leave_all(session.sid, PREFIX);
            let joined = wanted.iter().try_for_each(|room| rooms.join(session, DEFAULT, room));
            if joined.is_err() {
                rooms.leave_all(session.sid, PREFIX);
            }
            session.narrow(joined.is_ok() && !wanted.is_empty());
            joined
        })
    }
}

/// These events in the default namespace.
fn packets<'a>(events: impl IntoIterator<Item = &'a Shown>) -> Outgoing {
    Outgoing::arrays(events.into_iter().flat_map(Shown::arrays))
}

/// The packets of these events that a client is to get: all, or those of its rooms.
fn chosen<'a>(sio: &SocketIo, session: &Session, events: impl Iterator<Item = &'a Shown>) -> Outgoing {
    if !session.is_narrowed() {
        return packets(events);
    }
    let rooms = sio.rooms();
    let faces = events.flat_map(|event| event.faces().map(|(name, array)| (rooms_of(event.session(), &name), array)));
    Outgoing::arrays(faces.filter(|(of, _)| rooms.is_in_any(session.sid, of)).map(|(_, array)| array))
}

/// Passes new events on to the clients.
#[derive(Debug)]
pub struct Fan {
    /// The clients.
    pub sio: Arc<SocketIo>,
    /// What happened so far.
    pub counters: Arc<Counters>,
}

impl Outlet for Fan {
    fn send(&self, events: &[Shown]) {
        let (Some(first), Some(last)) = (events.first(), events.last()) else { return };
        let bounds = (first.seq, last.seq);
        let out = packets(events);
        let tail = |seq| packets(events.iter().filter(move |e| e.seq > seq));
        self.sio.to_each(|session, now| session.push_events(&out, bounds, false, tail, now));
        if !self.sio.rooms().is_empty() {
            self.send_to_rooms(events, bounds);
        }
        self.counters.events.fetch_add(events.len() as u64, Ordering::Relaxed);
    }
}

impl Fan {
    /// To those who want only some. Only they cost anything, and those who want the same share its encoding.
    fn send_to_rooms(&self, events: &[Shown], bounds: (u64, u64)) {
        let rooms = self.sio.rooms();
        let mut arrays = Vec::new();
        let mut wanted: HashMap<Sid, (Arc<Session>, Vec<usize>)> = HashMap::new();
        for event in events {
            for (name, array) in event.faces() {
                for session in rooms.members(&rooms_of(event.session(), &name)) {
                    wanted.entry(session.sid).or_insert_with(|| (session, Vec::new())).1.push(arrays.len());
                }
                arrays.push((event.seq, array));
            }
        }
        let packets = |which: &[usize], after: u64| {
            let which = which.iter().map(|at| &arrays[*at]).filter(|(seq, _)| *seq > after);
            Outgoing::arrays(which.map(|(_, array)| array.clone()).collect::<Vec<_>>().into_iter())
        };
        let mut shared: HashMap<&[usize], Outgoing> = HashMap::new();
        let now = Instant::now();
        for (session, which) in wanted.values() {
            let out = shared.entry(which).or_insert_with(|| packets(which, 0));
            self.sio.sent(session, session.push_events(out, bounds, true, |seq| packets(which, seq), now));
        }
    }
}

/// The rooms whose members want an event of this agent session and of this name (as JSON).
fn rooms_of(session: Option<&str>, name: &str) -> Vec<String> {
    let mut rooms = vec![format!("{PREFIX}* {name}")];
    if let Some(session) = session {
        let session = Value::from(session);
        rooms.push(format!("{PREFIX}{session} *"));
        rooms.push(format!("{PREFIX}{session} {name}"));
    }
    rooms
}

/// The rooms of who wants the events of these agent sessions under these names.
fn wanted(sessions: &[String], names: &[String]) -> Vec<String> {
    let any = |list: &[String]| match list {
        [] => vec!["*".to_owned()],
        some => some.iter().map(|text| Value::from(text.as_str()).to_string()).collect(),
    };
    if sessions.is_empty() && names.is_empty() {
        return Vec::new();
    }
    let names = any(names);
    any(sessions).iter().flat_map(|session| names.iter().map(move |name| format!("{PREFIX}{session} {name}"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wish_and_the_events_that_fit_it_meet_in_a_room() {
        let list = |items: &[&str]| items.iter().map(|i| (*i).to_owned()).collect::<Vec<_>>();
        let meet = |sessions: &[&str], names: &[&str], session: Option<&str>, name: &str| {
            let of = rooms_of(session, &Value::from(name).to_string());
            wanted(&list(sessions), &list(names)).iter().any(|room| of.contains(room))
        };
        assert!(wanted(&[], &[]).is_empty());
        assert!(meet(&["a", "b"], &[], Some("b"), "x") && !meet(&["a"], &[], Some("b"), "x"));
        assert!(meet(&[], &["x"], None, "x") && meet(&[], &["x"], Some("b"), "x") && !meet(&[], &["x"], None, "y"));
        assert!(meet(&["a"], &["x"], Some("a"), "x"));
        assert!(!meet(&["a"], &["x"], Some("a"), "y") && !meet(&["a"], &["x"], Some("b"), "x"));
        assert!(!meet(&["a"], &["x"], None, "x"));
        assert!(!meet(&["*"], &[], Some("b"), "x") && !meet(&["a\" \"x"], &[], Some("a"), "x"), "a name is no pattern");
    }
}
