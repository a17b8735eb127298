//! The default namespace: what a client is told when it enters, and what it may ask. The only place of the Socket.IO
//! layer that knows what the server is for; a further group of events is one more [`Handler`].

use std::sync::Arc;
use std::time::Instant;

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

    /// Sends an event to every client, this one included.
    pub fn broadcast(&self, name: &str, payload: &Value) {
        self.sio.broadcast(name, payload);
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

/// Whether a handler knows an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handled {
    /// It does; a client that asked for an acknowledgement gets an empty one, as Claude MPM's server sends it.
    Yes,
    /// It does not; unless another one does, the event is ignored in silence.
    No,
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

/// All handlers, in the order in which they are asked.
pub fn handlers(started: Instant) -> Vec<Box<dyn Handler>> {
    vec![Box::new(Dashboard { started })]
}

/// The `dashboard:` events.
struct Dashboard {
    started: Instant,
}

impl Handler for Dashboard {
    fn greeting(&self, socket: Socket<'_>, clients: usize) -> Vec<(&'static str, Value)> {
        let welcome = json!({
            "message": "Connected to Claude MPM Unified Monitor",
            "session_id": socket.id(),
            "server_info": {"service": "unified-monitor", "version": crate::build::VERSION},
        });
        vec![("dashboard:welcome", welcome), (CLIENT_COUNT, json!({"count": clients}))]
    }

    fn event(&self, socket: Socket<'_>, event: Incoming<'_>) -> Handled {
        if event.name != "dashboard:ping" {
            return Handled::No;
        }
        // Clients use it to measure a difference, so any clock that only goes forward serves.
        let clock = self.started.elapsed().as_secs_f64();
        let sent: Option<Value> = (event.arguments.first())
            .and_then(|a| serde_json::from_str::<Value>(a.get()).ok())
            .and_then(|mut v| v.get_mut("timestamp").map(Value::take));
        socket.emit("dashboard:pong", &json!({"timestamp": sent.unwrap_or(clock.into()), "server_time": clock}));
        Handled::Yes
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
