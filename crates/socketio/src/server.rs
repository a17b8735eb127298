//! The Socket.IO server: namespaces over Engine.IO.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use serde_json::Value;

use super::end::End;
use super::engine::{Engine, Protocol};
use super::frame;
use super::namespace::Namespace;
use super::outgoing::{Arguments, Outgoing, Piece};
use super::packet::{Kind, Packet};
use super::rooms::Rooms;
use super::session::Session;
use super::session::members::DEFAULT;

/// The namespaces of a server. The first one is the default one, `/`.
#[derive(Debug)]
pub struct Namespaces(pub(super) Vec<Namespace>);

impl From<Vec<Namespace>> for Namespaces {
    fn from(namespaces: Vec<Namespace>) -> Self {
        Self(namespaces)
    }
}

/// The Socket.IO server.
pub type SocketIo = Engine<Namespaces>;

impl Protocol for Namespaces {
    const JOINS: bool = true;

    fn text(sio: &Arc<SocketIo>, session: &Arc<Session>, text: &str) -> Result<(), End> {
        sio.message(session, text)
    }

    fn binary(sio: &Arc<SocketIo>, session: &Arc<Session>, data: Bytes) -> Result<(), End> {
        sio.attachment(session, data)
    }

    fn ended(sio: &SocketIo, session: &Arc<Session>) {
        (0..sio.protocol.0.len()).for_each(|namespace| sio.leave(session, namespace));
    }
}

impl SocketIo {
    /// Sends an event to every client in the default namespace.
    pub fn broadcast(&self, name: &str, payload: &Value) {
        let out = Outgoing::packets(vec![Outgoing::event(name, payload.to_string().as_bytes())]);
        self.to_each(|session, now| session.push_in(DEFAULT, &out, now));
    }

    /// Takes a client out of a namespace, if it is in it.
    pub(super) fn leave(&self, session: &Arc<Session>, at: usize) {
        let Some(id) = session.leave(at, Instant::now()) else { return };
        let namespace = &self.protocol.0[at];
        namespace.rooms.leave_all(session.sid, "");
        for handler in &namespace.handlers {
            handler.left(id.as_str());
        }
        // It gets a deadline for its next wish.
        self.registry.looked_for.notify_one();
    }

    /// Disconnects a client from a namespace, and says so.
    pub(super) fn dismiss(&self, session: &Arc<Session>, at: usize) {
        let name = &self.protocol.0[at].name;
        let packet = Packet { namespace: name, ..Packet::new(Kind::Disconnect, "") };
        let out = Outgoing::packets(vec![Piece::packet(&packet)]);
        self.sent(session, session.push_in(at, &out, Instant::now()));
        self.leave(session, at);
    }

    pub(super) fn event(&self, namespace: usize, name: &str, arguments: &Arguments, ack: Option<u64>) -> Outgoing {
        Outgoing::call(&self.protocol.0[namespace].name, Some(name), arguments, ack)
    }

    pub(super) fn everyone(&self, namespace: usize) -> Vec<Arc<Session>> {
        let mut all = Vec::new();
        self.registry.each(|session| {
            if session.sid_in(namespace).is_some() {
                all.push(Arc::clone(session));
            }
        });
        all
    }

    /// The rooms of the default namespace.
    pub fn rooms(&self) -> &Rooms {
        &self.protocol.0[DEFAULT].rooms
    }

    /// Sends every client a last event, and closes it in a way after which clients come back by themselves: a WebSocket
    /// with code 1001; a poll with the event alone, for the Python client takes Engine.IO's close packet as final, while
    /// every client takes the poll that then fails as a reason to reconnect. Returns how many were told.
    pub fn say_goodbye(&self, name: &str, payload: &Value, reason: &str) -> usize {
        let last = Outgoing::packets(vec![Outgoing::event(name, payload.to_string().as_bytes())]);
        let now = Instant::now();
        let mut told = 0;
        self.registry.each(|session| {
            told += usize::from(session.is_connected());
            session.close(&last, frame::GOING_AWAY, reason, now);
        });
        self.registry.looked_for.notify_one();
        told
    }
}
