//! Socket.IO protocol 5 over Engine.IO protocol 4, written to be read beside the two specifications: [`packet`] and
//! [`payload`] are the formats, [`session`] one client, [`polling`] and [`websocket`] the transports, [`heartbeat`] the
//! pings, [`namespace`] what the server says and answers.
//!
//! Nothing here waits for a client: an event is encoded once for each kind of transport, written to every socket that
//! takes it, and what a slow client does not take waits in its own bounded backlog (see `docs/protocol.md`).

pub mod end;
pub mod frame;
pub mod heartbeat;
pub mod namespace;
pub mod outgoing;
pub mod packet;
pub mod payload;
pub mod polling;
pub mod registry;
pub mod session;
pub mod sid;
pub mod websocket;

use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::watch;

use self::namespace::{Handled, Handler, Incoming, Socket};
use self::outgoing::Outgoing;
use self::packet::{Engine, Kind, Packet};
use self::registry::Registry;
use self::session::{End, Session};
use super::Counters;
use crate::config::Settings;
use crate::events::hub::{History, Hub, Outlet, Shown};

/// The largest message a client may send, bytes; the number that Claude MPM's server announces as `maxPayload`.
pub const MAX_PAYLOAD: usize = 1_000_000;
/// Clients are told how many they are at most this often: N that join at once would cost N² packets.
const COUNT_PAUSE: Duration = Duration::from_millis(100);

/// The packets that tell a new client of the past.
type Past = [(&'static str, Bytes); 2];

/// The Socket.IO server.
pub struct SocketIo {
    /// Its sessions.
    pub registry: Registry,
    /// What happened so far.
    pub counters: Arc<Counters>,
    /// The live settings.
    pub settings: watch::Receiver<Arc<Settings>>,
    hub: Arc<Hub>,
    handlers: Vec<Box<dyn Handler>>,
    /// The encoded history; clients that come back together after a restart share it.
    past: Mutex<Option<(History, Past)>>,
}

impl SocketIo {
    /// Without clients yet; `handlers` are what they may ask, in the order in which they are asked.
    pub fn new(
        settings: watch::Receiver<Arc<Settings>>,
        hub: Arc<Hub>,
        counters: Arc<Counters>,
        handlers: Vec<Box<dyn Handler>>,
    ) -> Arc<Self> {
        Arc::new(Self { registry: Registry::default(), counters, settings, hub, handlers, past: Mutex::new(None) })
    }

    /// The settings of this moment.
    pub fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.settings.borrow())
    }

    /// Sends an event to one client.
    pub fn emit(&self, session: &Arc<Session>, name: &str, payload: &Value) {
        self.send(session, &Outgoing::packets(vec![Outgoing::event(name, payload.to_string().as_bytes())]));
    }

    /// Sends an event whose payload is JSON already to one client.
    pub fn emit_json(&self, session: &Arc<Session>, name: &str, payload: &[u8]) {
        self.send(session, &Outgoing::packets(vec![Outgoing::event(name, payload)]));
    }

    /// Sends an event to every client in the default namespace.
    pub fn broadcast(&self, name: &str, payload: &Value) {
        let out = Outgoing::packets(vec![Outgoing::event(name, payload.to_string().as_bytes())]);
        self.to_each(|session, now| session.push_connected(&out, now));
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
        self.leave(session);
    }

    fn leave(&self, session: &Arc<Session>) {
        if session.leave(Instant::now()) {
            self.registry.left();
            for handler in &self.handlers {
                handler.left(session);
            }
        }
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

    /// A text packet came in, over either transport.
    ///
    /// # Errors
    /// Why the session must end.
    pub fn receive(self: &Arc<Self>, session: &Arc<Session>, packet: Engine<'_>) -> Result<(), End> {
        match packet {
            Engine::Pong(_) => {
                if session.pong(Instant::now()) {
                    self.registry.looked_for.notify_one();
                }
            }
            Engine::Close => return Err(End::ClientClosed),
            Engine::Message(text) => return self.message(session, text),
            // What only a server sends, or what means something only while a client moves to its WebSocket.
            Engine::Open(_) | Engine::Ping(_) | Engine::Upgrade | Engine::Noop => {}
        }
        Ok(())
    }

    /// Binary data came in: an attachment.
    ///
    /// # Errors
    /// [`End::Protocol`] when none is expected.
    pub fn receive_binary(self: &Arc<Self>, session: &Arc<Session>, data: &[u8]) -> Result<(), End> {
        if let Some(text) = session.attachment(data.len(), MAX_PAYLOAD)? {
            let packet = Packet::parse(&text).map_err(|_| End::Protocol)?;
            self.event(session, &packet)?;
        }
        Ok(())
    }

    fn message(self: &Arc<Self>, session: &Arc<Session>, text: &str) -> Result<(), End> {
        let packet = Packet::parse(text).map_err(|_| End::Protocol)?;
        if session.expects_attachment() {
            return Err(End::Protocol);
        }
        if packet.namespace != "/" {
            if packet.kind == Kind::Connect {
                self.send(session, &Outgoing::packet(namespace::refusal(packet.namespace)));
            }
            return Ok(());
        }
        match packet.kind {
            Kind::Connect => self.connect(session),
            Kind::Disconnect => {
                self.leave(session);
                self.registry.looked_for.notify_one();
            }
            Kind::BinaryEvent | Kind::BinaryAck if packet.attachments > 0 => session.expect(text, packet.attachments),
            Kind::Event | Kind::BinaryEvent => return self.event(session, &packet),
            // The server asks no client for an acknowledgement, and clients refuse no namespace.
            Kind::Ack | Kind::BinaryAck | Kind::ConnectError => {}
        }
        Ok(())
    }

    fn connect(self: &Arc<Self>, session: &Arc<Session>) {
        let granted = json!({"sid": session.socket_sid.as_str()}).to_string();
        let granted = Packet::new(Kind::Connect, &granted).encode();
        let granted = ("4", Bytes::from(granted));
        if session.is_connected() {
            return self.send(session, &Outgoing::packets(vec![granted]));
        }
        let (clients, version) = self.registry.joined();
        let socket = Socket { sio: self, session };
        let mut greeting = vec![granted];
        for handler in &self.handlers {
            for (name, payload) in handler.greeting(socket, clients) {
                greeting.push(Outgoing::event(name, payload.to_string().as_bytes()));
            }
        }
        let limit = self.settings().history_on_connect;
        // Within this the hub passes nothing on, so the client gets each event either in its history or live.
        let result = self.hub.subscribe(limit, |history| {
            greeting.extend(self.past(history));
            session.join(&Outgoing::packets(greeting), version, Instant::now())
        });
        self.counters.joined.fetch_add(1, Ordering::Relaxed);
        self.sent(session, result);
    }

    fn past(&self, history: &History) -> Past {
        let mut past = self.past.lock().unwrap_or_else(PoisonError::into_inner);
        match &*past {
            Some((known, packets)) if known.json.as_ptr() == history.json.as_ptr() => packets.clone(),
            _ => past.insert((history.clone(), namespace::history(&history.json))).1.clone(),
        }
    }

    fn event(self: &Arc<Self>, session: &Arc<Session>, packet: &Packet<'_>) -> Result<(), End> {
        // Before the namespace is granted there is nobody to hear it; Claude MPM's server ignores it as well.
        if !session.is_connected() || packet.kind == Kind::BinaryAck {
            return Ok(());
        }
        let (name, arguments) = packet.event().map_err(|_| End::Protocol)?;
        let socket = Socket { sio: self, session };
        let event = Incoming { name: &name, arguments: &arguments };
        let handled = self.handlers.iter().map(|h| h.event(socket, event)).find(|h| !matches!(h, Handled::No));
        match handled {
            Some(Handled::Yes) => self.acknowledge(session, packet.ack),
            Some(Handled::Later(work)) => {
                let (sio, session, ack) = (Arc::clone(self), Arc::clone(session), packet.ack);
                session.begin();
                // A task of its own: it goes on when the client leaves, and tasks begin in the order of the events.
                tokio::spawn(async move {
                    if work.await {
                        sio.acknowledge(&session, ack);
                    }
                    session.settle();
                });
            }
            Some(Handled::No) | None => {}
        }
        Ok(())
    }

    fn acknowledge(&self, session: &Arc<Session>, ack: Option<u64>) {
        if ack.is_some() {
            let ack = Packet { ack, ..Packet::new(Kind::Ack, "[]") };
            self.send(session, &Outgoing::packets(vec![("4", ack.encode().into())]));
        }
    }

    /// Tells every client that the server goes, and closes it in a way after which clients come back by themselves: a
    /// WebSocket with code 1001; a poll with the event alone, for the Python client takes Engine.IO's close packet as
    /// final, while every client takes the poll that then fails as a reason to reconnect. How many were told.
    pub fn say_goodbye(&self, reason: &str) -> usize {
        let payload = json!({"reason": reason, "timestamp": jiff::Timestamp::now().to_string()});
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
                self.leave(&session);
            }
        }
    }
}

impl Outlet for SocketIo {
    fn send(&self, events: &[Shown]) {
        let out = Outgoing::events(events);
        self.to_each(|session, now| session.push_connected(&out, now));
        self.counters.events.fetch_add(events.len() as u64, Ordering::Relaxed);
    }
}

/// Tells the clients how many they are, whenever that changed.
pub async fn count_clients(sio: Arc<SocketIo>) {
    loop {
        sio.registry.count_changed.notified().await;
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
