//! Socket.IO protocol 5 over Engine.IO protocol 4, written to be read beside the two specifications: [`packet`] and
//! [`payload`] are the formats, [`session`] one client, [`polling`] and [`websocket`] the transports, [`heartbeat`] the
//! pings, [`dispatch`] what a packet of a client leads to, [`namespace`], [`socket`] and [`rooms`] what a server made of
//! it says and answers, [`feed`] and [`resume`] the events of the hub, live and missed, [`turn`] what one connection may
//! take before the others have their turn, [`older`] what clients of an older protocol are told.
//!
//! Nothing here waits for a client: an event is encoded once for each kind of transport, written to every socket that
//! takes it, and what a slow client does not take waits in its own bounded backlog (see `docs/protocol.md`).

pub mod bucket;
pub mod dispatch;
pub mod end;
pub mod feed;
pub mod frame;
pub mod handshake;
pub mod heartbeat;
pub mod namespace;
pub mod older;
pub mod outgoing;
pub mod packet;
pub mod payload;
pub mod polling;
pub mod reader;
pub mod registry;
pub mod resume;
pub mod rooms;
pub mod session;
pub mod sid;
pub mod socket;
pub mod turn;
pub mod websocket;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::watch;

use self::feed::Source;
use self::namespace::Namespace;
use self::outgoing::{Arguments, Outgoing};
use self::registry::{Registry, Slot};
use self::session::members::DEFAULT;
use self::session::{End, Session};
use super::Counters;
use crate::config::Settings;

/// The largest message a client may send, bytes; the number that Claude MPM's server announces as `maxPayload`.
pub const MAX_PAYLOAD: usize = 1_000_000;
/// Clients are told how many they are at most this often: N that join at once would cost N² packets.
const COUNT_PAUSE: Duration = Duration::from_millis(100);

/// The Socket.IO server.
pub struct SocketIo {
    /// Its sessions.
    pub registry: Registry,
    /// What happened so far.
    pub counters: Arc<Counters>,
    /// The live settings.
    pub settings: watch::Receiver<Arc<Settings>>,
    pub(super) source: Source,
    /// The default one is at [`DEFAULT`].
    namespaces: Vec<Namespace>,
}

/// When clients may try again, seconds: managers start the next process at once, after a failure a second later.
const RETRY_AFTER: u64 = 1;

impl SocketIo {
    /// Without clients yet. Of the namespaces the first one is the default one, `/`.
    pub fn new(
        settings: watch::Receiver<Arc<Settings>>,
        source: Source,
        counters: Arc<Counters>,
        namespaces: Vec<Namespace>,
    ) -> Arc<Self> {
        Arc::new(Self { registry: Registry::default(), counters, settings, source, namespaces })
    }

    /// The settings of this moment.
    pub fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.settings.borrow())
    }

    /// A place for one more client. Where there is none, sessions that were opened and never used make room.
    fn reserve(&self) -> Option<Slot> {
        let limit = self.settings.borrow().max_clients;
        self.registry.reserve(limit).or_else(|| {
            for session in self.registry.unused(Instant::now()) {
                self.end(&session, End::Unused);
            }
            self.registry.reserve(limit)
        })
    }

    /// Sends an event to every client in the default namespace.
    pub fn broadcast(&self, name: &str, payload: &Value) {
        let out = Outgoing::packets(vec![Outgoing::event(name, payload.to_string().as_bytes())]);
        self.to_each(|session, now| session.push_in(DEFAULT, &out, now));
    }

    /// Sends packets to one client.
    pub fn send(&self, session: &Arc<Session>, out: &Outgoing) {
        self.sent(session, session.push(out, Instant::now()));
    }

    /// Draws the conclusion from a send: a backlog that begins gets a deadline, a failure ends the session.
    pub fn sent(&self, session: &Arc<Session>, result: Result<bool, End>) {
        match result {
            Ok(false) => {}
            Ok(true) => self.registry.looked_for.notify_one(),
            Err(end) => self.end(session, end),
        }
    }

    /// Counts packets of a client, which may make it wait.
    fn count_packets(&self, session: &Session, packets: usize) {
        let (rate, burst) = {
            let settings = self.settings.borrow();
            (settings.client_rate, settings.client_burst)
        };
        if session.spend(packets, rate, burst, Instant::now()) {
            self.counters.throttled.fetch_add(1, Ordering::Relaxed);
            tracing::debug!(client = %session.socket_sid, "client sends more than it may and has to wait");
        }
    }

    /// Ends a session, whoever found the reason.
    pub fn end(&self, session: &Arc<Session>, end: End) {
        if !session.finish(end, false) {
            return;
        }
        self.registry.remove(session.sid);
        self.counters.ended(end);
        if end.is_abortive() {
            tracing::info!(client = %session.socket_sid, reason = %end, "client cut off");
        } else {
            tracing::debug!(client = %session.socket_sid, reason = %end, "client gone");
        }
        self.leave_all(session);
    }

    fn leave_all(&self, session: &Arc<Session>) {
        (0..self.namespaces.len()).for_each(|namespace| self.leave(session, namespace));
    }

    /// Takes a client out of a namespace, if it is in it.
    fn leave(&self, session: &Arc<Session>, at: usize) {
        let Some(id) = session.leave(at, Instant::now()) else { return };
        let namespace = &self.namespaces[at];
        namespace.rooms.leave_all(session.sid, "");
        for handler in &namespace.handlers {
            handler.left(id.as_str());
        }
        // It gets a deadline for its next wish.
        self.registry.looked_for.notify_one();
    }

    /// Disconnects a client from a namespace, and says so.
    fn dismiss(&self, session: &Arc<Session>, at: usize) {
        let name = &self.namespaces[at].name;
        let packet = packet::Packet { namespace: name, ..packet::Packet::new(packet::Kind::Disconnect, "") };
        let out = Outgoing::packets(vec![outgoing::Piece::packet(&packet)]);
        self.sent(session, session.push_in(at, &out, Instant::now()));
        self.leave(session, at);
    }

    fn event(&self, namespace: usize, name: &str, arguments: &Arguments, ack: Option<u64>) -> Outgoing {
        Outgoing::call(&self.namespaces[namespace].name, Some(name), arguments, ack)
    }

    fn everyone(&self, namespace: usize) -> Vec<Arc<Session>> {
        let mut all = Vec::new();
        self.registry.each(|session| {
            if session.sid_in(namespace).is_some() {
                all.push(Arc::clone(session));
            }
        });
        all
    }

    fn to_each(&self, mut push: impl FnMut(&Arc<Session>, Instant) -> Result<bool, End>) {
        let now = Instant::now();
        let (mut ends, mut waits) = (Vec::new(), false);
        self.registry.each(|session| match push(session, now) {
            Ok(begins) => waits |= begins,
            Err(end) => ends.push((Arc::clone(session), end)),
        });
        if waits {
            self.registry.looked_for.notify_one();
        }
        for (session, end) in ends {
            self.end(&session, end);
        }
    }

    /// Tells every client that the server goes, and closes it in a way after which clients come back by themselves: a
    /// WebSocket with code 1001; a poll with the event alone, for the Python client takes Engine.IO's close packet as
    /// final, while every client takes the poll that then fails as a reason to reconnect. How many were told.
    pub fn say_goodbye(&self, reason: &str) -> usize {
        let payload = json!({
            "reason": reason, "retry_after": RETRY_AFTER, "timestamp": jiff::Timestamp::now().to_string(),
        });
        let last = Outgoing::packets(vec![Outgoing::event("server_restarting", payload.to_string().as_bytes())]);
        let now = Instant::now();
        let mut told = 0;
        self.registry.each(|session| {
            told += usize::from(session.is_connected());
            session.close(&last, frame::GOING_AWAY, reason, now);
        });
        self.registry.looked_for.notify_one();
        told
    }

    /// Ends every session, resetting the connections that are left.
    pub fn cut(&self) {
        let mut all = Vec::new();
        self.registry.each(|session| all.push(Arc::clone(session)));
        for session in all {
            if session.finish(End::Drain, true) {
                self.registry.remove(session.sid);
                self.leave_all(&session);
            }
        }
    }
}

/// Tells the clients how many they are, whenever that changed, where they get events at all.
pub async fn count_clients(sio: Arc<SocketIo>) {
    if !sio.namespaces[DEFAULT].events {
        return;
    }
    loop {
        sio.registry.count_changed().await;
        tokio::task::yield_now().await;
        {
            let (count, version) = sio.registry.count();
            let out = namespace::client_count(count);
            sio.to_each(|session, now| session.push_count(&out, version, now));
        }
        tokio::time::sleep(COUNT_PAUSE).await;
    }
}

impl fmt::Debug for SocketIo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SocketIo").field("registry", &self.registry).finish_non_exhaustive()
    }
}
