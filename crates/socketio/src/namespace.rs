//! Namespaces: who is let in ([`Middleware`]), what clients are told when they enter and what they may say
//! ([`Handler`]). Which namespaces there are, and what their events are for, is the
//! application's business.

use std::fmt;
use std::pin::Pin;
use std::time::Instant;

use bytes::Bytes;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::outgoing::{Arguments, Outgoing, Piece};
use super::packet::{Engine, Kind, Packet};
use super::rooms::Rooms;
use super::session::{End, Feed, Session};
pub use super::socket::{Kept, Socket};

/// A part of the server that clients enter and leave by itself, over the one connection they have.
pub struct Namespace {
    pub(super) name: String,
    pub(super) middlewares: Vec<Box<dyn Middleware>>,
    pub(super) handlers: Vec<Box<dyn Handler>>,
    pub(super) entrance: Option<Box<dyn Entrance>>,
    pub(super) rooms: Rooms,
}

impl Namespace {
    /// One without handlers, which lets everybody in. The name begins with a slash; `/` is the default namespace.
    pub fn new(name: &str) -> Self {
        let (middlewares, handlers) = (Vec::new(), Vec::new());
        Self { name: name.to_owned(), middlewares, handlers, entrance: None, rooms: Rooms::default() }
    }

    /// Asks this before a client is let in, after those that are there already.
    #[must_use]
    pub fn guarded_by(mut self, middleware: Box<dyn Middleware>) -> Self {
        self.middlewares.push(middleware);
        self
    }

    /// Adds groups of events; they are asked in this order.
    #[must_use]
    pub fn with(mut self, handlers: Vec<Box<dyn Handler>>) -> Self {
        self.handlers.extend(handlers);
        self
    }

    /// Lets this say what a client is sent as it enters. Only the default namespace asks it.
    #[must_use]
    pub fn entered_by(mut self, entrance: Box<dyn Entrance>) -> Self {
        self.entrance = Some(entrance);
        self
    }
}

impl fmt::Debug for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Namespace").field("name", &self.name).field("rooms", &self.rooms).finish_non_exhaustive()
    }
}

/// A client's wish to enter a namespace.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'a> {
    /// The namespace.
    pub namespace: &'a str,
    /// The client's session; what is kept of the request that opened it is in it.
    pub session: &'a Session,
    /// The payload that came with the wish; empty when there was none.
    pub auth: &'a Map<String, Value>,
}

/// Why a client is not let in; it is sent `{"message":…,"data":{"code":…}}`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refused {
    /// For programs; it stays the same over versions.
    pub code: &'static str,
    /// For a person: what is wrong, and what would be right.
    pub message: String,
}

/// Decides who enters a namespace, before it is granted. It runs on the server's one thread: it must not block.
pub trait Middleware: Send + Sync {
    /// Lets the client in, or says why not.
    ///
    /// # Errors
    /// The refusal that the client is sent.
    fn admit(&self, entry: Entry<'_>) -> Result<(), Refused>;
}

/// A client that is let into the default namespace and has not entered it yet.
#[derive(Debug)]
pub struct Entering<'a> {
    /// The client. Nothing that it is sent arrives before it has entered.
    pub socket: Socket<'a>,
    /// The payload that came with the wish to enter.
    pub auth: &'a Map<String, Value>,
    pub(super) greeting: Vec<Piece>,
    pub(super) version: u64,
}

impl Entering<'_> {
    /// Enters: the client is sent its greeting, and from the same moment on what is for its feed.
    ///
    /// # Errors
    /// As [`Session::push`].
    pub fn enter(self, feed: Feed) -> Result<bool, End> {
        let (session, place) = (self.socket.session(), (self.socket.namespace, self.socket.id));
        session.enter(place, feed, &Outgoing::packets(self.greeting), self.version, Instant::now())
    }
}

/// The way into the default namespace, for a server whose clients are sent more than a greeting: it begins each client's
/// [`Feed`].
pub trait Entrance: Send + Sync {
    /// Calls [`Entering::enter`], and returns what that returns.
    ///
    /// # Errors
    /// As [`Session::push`].
    fn enter(&self, client: Entering<'_>) -> Result<bool, End>;
}

/// An event from a client.
#[derive(Debug, Clone, Copy)]
pub struct Incoming<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its arguments; binary data are placeholders in them, see [`Incoming::binary`].
    pub arguments: &'a [&'a RawValue],
    /// The binary data, in the order of their numbers.
    pub attachments: &'a [Bytes],
}

impl Incoming<'_> {
    /// The first argument.
    pub fn argument(&self) -> Option<&RawValue> {
        self.arguments.first().copied()
    }

    /// The first argument as a value, when it is an object.
    pub fn object(&self) -> Option<Map<String, Value>> {
        serde_json::from_str(self.argument()?.get()).ok()
    }

    /// The bytes that an argument (counted from 0) is, if it is binary data and nothing else.
    pub fn binary(&self, argument: usize) -> Option<&Bytes> {
        let value: Value = serde_json::from_str(self.arguments.get(argument)?.get()).ok()?;
        (value["_placeholder"] == true).then(|| self.attachments.get(usize::try_from(value["num"].as_u64()?).ok()?))?
    }
}

/// Work that goes on after the event was read, and the acknowledgement; none where the event failed.
pub type Work = Pin<Box<dyn Future<Output = Option<Arguments>> + Send>>;

/// Whether a handler knows an event.
pub enum Handled {
    /// It does; a client that asked for an acknowledgement gets these arguments.
    Yes(Arguments),
    /// It does, and is not done with it. A client with much such work under way is not read from.
    Later(Work),
    /// The same for work that waits for the client itself, as for an answer of it: the client is read from meanwhile.
    Aside(Work),
    /// It does not; unless another one does, the event is ignored in silence.
    No,
}

impl Handled {
    /// Done; the acknowledgement says nothing more.
    pub fn done() -> Self {
        Self::Yes(Arguments::default())
    }
}

impl fmt::Debug for Handled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Yes(_) => "Yes",
            Self::Later(_) => "Later",
            Self::Aside(_) => "Aside",
            Self::No => "No",
        })
    }
}

/// A group of events of a namespace. Handlers run on the server's one thread: they must not block.
pub trait Handler: Send + Sync {
    /// What a client is sent when it enters, as event name and payload, in order. `auth` is the payload that came with its
    /// wish to enter; `clients` counts it already.
    fn greeting(&self, socket: Socket<'_>, auth: &Map<String, Value>, clients: usize) -> Vec<(&'static str, Value)> {
        let _ = (socket, auth, clients);
        Vec::new()
    }

    /// An event came in.
    fn event(&self, socket: Socket<'_>, event: Incoming<'_>) -> Handled;

    /// The client left; `id` was its id in the namespace.
    fn left(&self, id: &str) {
        let _ = id;
    }
}

/// The packet that grants a namespace.
pub(super) fn granted(namespace: &str, sid: &str) -> Piece {
    let data = json!({"sid": sid}).to_string();
    Piece::packet(&Packet { namespace, ..Packet::new(Kind::Connect, &data) })
}

/// The packet that refuses a namespace. An object with a `message` is what the protocol asks for and what the JavaScript
/// client shows; Python clients take it, too.
pub(super) fn refusal(namespace: &str, data: &Value) -> String {
    let data = data.to_string();
    Engine::Message(&Packet { namespace, ..Packet::new(Kind::ConnectError, &data) }.encode()).encode()
}
