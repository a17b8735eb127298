//! Engine.IO: sessions over either transport, their heartbeat and their end. What is spoken over them is a [`Protocol`].

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use bytes::Bytes;

use super::answer::Refused;
use super::counters::Counters;
use super::end::End;
use super::options::{Config, Options};
use super::outgoing::Outgoing;
use super::packet;
use super::registry::{Registry, Slot};
use super::session::Session;

/// What is spoken over Engine.IO. Its functions run on the thread that serves the client: they must not block.
pub trait Protocol: Send + Sync + Sized + 'static {
    /// Whether a client that joins nothing is disconnected after [`Options::connect_timeout`].
    const JOINS: bool = false;

    /// A client sent a text message.
    ///
    /// # Errors
    /// Why the session must end.
    fn text(engine: &Arc<Engine<Self>>, session: &Arc<Session>, text: &str) -> Result<(), End>;

    /// A client sent binary data.
    ///
    /// # Errors
    /// Why the session must end.
    fn binary(engine: &Arc<Engine<Self>>, session: &Arc<Session>, data: Bytes) -> Result<(), End>;

    /// A session has ended.
    fn ended(engine: &Engine<Self>, session: &Arc<Session>) {
        let _ = (engine, session);
    }
}

/// An Engine.IO server.
pub struct Engine<P> {
    /// Its sessions.
    pub registry: Registry,
    /// What happened so far.
    pub counters: Counters,
    /// What is spoken.
    pub protocol: P,
    pub(super) config: Config,
}

impl<P: Protocol> Engine<P> {
    /// A server without clients yet. A task must run its [heartbeat](super::heartbeat::run).
    pub fn new(config: impl Into<Config>, protocol: impl Into<P>) -> Arc<Self> {
        let (registry, counters) = (Registry::default(), Counters::default());
        Arc::new(Self { registry, counters, protocol: protocol.into(), config: config.into() })
    }

    /// The options of this moment.
    pub fn options(&self) -> Options {
        let options = (self.config.options)();
        Options { connect_timeout: options.connect_timeout.filter(|_| P::JOINS), ..options }
    }

    /// A place for one more client. Where there is none, sessions that were opened and never used make room.
    ///
    /// # Errors
    /// [`Refused::TooManyClients`], which it counts.
    pub(super) fn reserve(&self) -> Result<Slot, Refused> {
        let limit = self.options().max_clients;
        let slot = self.registry.reserve(limit).or_else(|| {
            for session in self.registry.unused(Instant::now()) {
                self.end(&session, End::Unused);
            }
            self.registry.reserve(limit)
        });
        slot.ok_or_else(|| {
            self.counters.refused.fetch_add(1, Ordering::Relaxed);
            Refused::TooManyClients
        })
    }

    /// A text packet came in, over either transport.
    ///
    /// # Errors
    /// Why the session must end.
    pub(super) fn receive(self: &Arc<Self>, session: &Arc<Session>, packet: packet::Engine<'_>) -> Result<(), End> {
        // It may have ended since the packet was read, and says nothing more then.
        if let Some(end) = session.ended() {
            return Err(end);
        }
        match packet {
            packet::Engine::Pong(_) => {
                if session.pong(Instant::now()) {
                    self.registry.looked_for.notify_one();
                }
            }
            packet::Engine::Close => return Err(End::ClientClosed),
            packet::Engine::Message(text) => return P::text(self, session, text),
            // What only a server sends, or what means something only while a client moves to its WebSocket.
            packet::Engine::Open(_) | packet::Engine::Ping(_) | packet::Engine::Upgrade | packet::Engine::Noop => {}
        }
        Ok(())
    }

    /// Binary data came in.
    ///
    /// # Errors
    /// Why the session must end.
    pub(super) fn receive_binary(self: &Arc<Self>, session: &Arc<Session>, data: Bytes) -> Result<(), End> {
        match session.ended() {
            Some(end) => Err(end),
            None => P::binary(self, session, data),
        }
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

    /// Calls `push` for each session, and draws the conclusions.
    pub fn to_each(&self, mut push: impl FnMut(&Arc<Session>, Instant) -> Result<bool, End>) {
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

    /// Counts packets of a client, which may make it wait.
    pub(super) fn count_packets(&self, session: &Session, packets: usize) {
        if packets == 0 {
            return;
        }
        let Options { rate, burst, .. } = self.options();
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
        self.forget(session);
        self.counters.ended(end);
        if end.is_abortive() {
            tracing::info!(client = %session.socket_sid, reason = %end, "client cut off");
        } else {
            tracing::debug!(client = %session.socket_sid, reason = %end, "client gone");
        }
        P::ended(self, session);
    }

    /// Ends every session, resetting the connections that are left.
    pub fn cut(&self) {
        let mut all = Vec::new();
        self.registry.each(|session| all.push(Arc::clone(session)));
        for session in all {
            if session.finish(End::Drain, true) {
                self.forget(&session);
                P::ended(self, &session);
            }
        }
    }

    fn forget(&self, session: &Session) {
        if self.registry.remove(session.sid) {
            self.config.memory.trim();
        }
    }
}

impl<P> fmt::Debug for Engine<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("registry", &self.registry).finish_non_exhaustive()
    }
}
