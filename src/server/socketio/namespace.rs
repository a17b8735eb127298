//! The default namespace: how the server says what a client is told when it enters, and what it may ask. A group of
//! events is a [`Handler`]; which ones there are, and what they are for, is in [`crate::server::clients`].

use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::SocketIo;
use super::outgoing::Outgoing;
use super::session::Session;

/// The client an event came from, and the way to answer it.
#[derive(Debug, Clone, Copy)]
pub struct Socket<'a> {
    pub(super) sio: &'a Arc<SocketIo>,
    pub(super) session: &'a Arc<Session>,
}

impl Socket<'_> {
    /// The client's Socket.IO session id.
    pub fn id(&self) -> &str {
        self.session.socket_sid.as_str()
    }

    /// Sends an event to this client.
    pub fn emit(&self, name: &str, payload: &Value) {
        self.sio.emit(self.session, name, payload);
    }

    /// Sends an event whose payload is JSON already.
    pub fn emit_json(&self, name: &str, payload: &[u8]) {
        self.sio.emit_json(self.session, name, payload);
    }

    /// The same for work that outlives the call.
    pub fn keep(&self) -> Kept {
        Kept { sio: Arc::clone(self.sio), session: Arc::clone(self.session) }
    }

    /// How many clients there are.
    pub fn clients(&self) -> usize {
        self.sio.registry.connected()
    }

    /// Every client in the namespace, in no order.
    pub fn everyone(&self) -> Vec<Arc<Session>> {
        let mut all = Vec::new();
        self.sio.registry.each(|session| all.push(Arc::clone(session)));
        all.retain(|session| session.is_connected());
        all
    }

    /// Sends an event to every client, this one included.
    pub fn broadcast(&self, name: &str, payload: &Value) {
        self.sio.broadcast(name, payload);
    }
}

/// A [`Socket`] that is kept while an event is dealt with. What is sent after the client has left goes nowhere.
#[derive(Debug, Clone)]
pub struct Kept {
    sio: Arc<SocketIo>,
    session: Arc<Session>,
}

impl Kept {
    /// The client.
    pub fn socket(&self) -> Socket<'_> {
        Socket { sio: &self.sio, session: &self.session }
    }
}

/// An event from a client.
#[derive(Debug, Clone, Copy)]
pub struct Incoming<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its arguments; binary ones are placeholders.
    pub arguments: &'a [&'a RawValue],
}

impl Incoming<'_> {
    /// The first argument; none of Claude MPM's events has a second one.
    pub fn argument(&self) -> Option<&RawValue> {
        self.arguments.first().copied()
    }

    /// The first argument as a value, when it is an object.
    pub fn object(&self) -> Option<serde_json::Map<String, Value>> {
        serde_json::from_str(self.argument()?.get()).ok()
    }
}

/// Work that goes on after the event was read; whether the client is sent the acknowledgement it may have asked for.
pub type Work = Pin<Box<dyn Future<Output = bool> + Send>>;

/// Whether a handler knows an event.
pub enum Handled {
    /// It does; a client that asked for an acknowledgement gets an empty one, as Claude MPM's server sends it.
    Yes,
    /// It does, and is not done with it. A client with much such work under way is not read from.
    Later(Work),
    /// It does not; unless another one does, the event is ignored in silence.
    No,
}

impl std::fmt::Debug for Handled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Yes => "Yes",
            Self::Later(_) => "Later",
            Self::No => "No",
        })
    }
}

/// A group of events of the default namespace. Handlers run on the server's one thread: they must not block.
pub trait Handler: Send + Sync {
    /// What a client is sent when it enters, as event name and payload, in order. `clients` counts it already.
    fn greeting(&self, socket: Socket<'_>, clients: usize) -> Vec<(&'static str, Value)> {
        let _ = (socket, clients);
        Vec::new()
    }

    /// An event came in.
    fn event(&self, socket: Socket<'_>, event: Incoming<'_>) -> Handled;

    /// The client left.
    fn left(&self, session: &Session) {
        let _ = session;
    }
}

/// The event that tells how many clients there are.
pub const CLIENT_COUNT: &str = "dashboard:client:count";

/// The packet of [`CLIENT_COUNT`].
pub fn client_count(count: usize) -> Outgoing {
    Outgoing::packets(vec![Outgoing::event(CLIENT_COUNT, json!({"count": count}).to_string().as_bytes())])
}

/// The packet that refuses a namespace other than the default one. An object with a `message` is what the protocol
/// asks for and what the JavaScript client shows; Claude MPM's server sends a bare string, which Python clients take
/// as well, and they take the object too.
pub fn refusal(namespace: &str) -> String {
    let data = json!({"message": "Invalid namespace"}).to_string();
    let packet =
        super::packet::Packet { namespace, ..super::packet::Packet::new(super::packet::Kind::ConnectError, &data) };
    super::packet::Engine::Message(&packet.encode()).encode()
}

/// The events by which a new client learns the past: today's pages listen for the first name, older ones for the second.
pub fn history(json: &Bytes) -> [(&'static str, Bytes); 2] {
    [Outgoing::event("event_history", json), Outgoing::event("history", json)]
}
