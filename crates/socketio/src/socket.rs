//! A client in a namespace, as its handlers see it: the way to answer it, to ask it, and to reach the others there.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::SocketIo;
use super::outgoing::{Arguments, Outgoing};
use super::rooms::TooManyRooms;
use super::session::{AskError, Reply, Session};
use super::sid::Sid;

/// The client an event came from.
#[derive(Debug, Clone, Copy)]
pub struct Socket<'a> {
    pub(super) sio: &'a Arc<SocketIo>,
    pub(super) session: &'a Arc<Session>,
    pub(super) namespace: usize,
    pub(super) id: Sid,
}

impl<'a> Socket<'a> {
    /// The client's Socket.IO session id in the namespace.
    pub fn id(&self) -> &str {
        self.id.as_str()
    }

    /// The server.
    pub fn server(&self) -> &'a Arc<SocketIo> {
        self.sio
    }

    /// The session that the client has for all its namespaces.
    pub fn session(&self) -> &'a Arc<Session> {
        self.session
    }

    /// Sends an event to this client.
    pub fn emit(&self, name: &str, payload: &Value) {
        self.emit_with(name, &Arguments::default().value(payload));
    }

    /// Sends an event whose payload is JSON already.
    pub fn emit_json(&self, name: &str, payload: &[u8]) {
        self.emit_with(name, &Arguments::default().json(payload));
    }

    /// Sends an event with any number of arguments, binary ones too.
    pub fn emit_with(&self, name: &str, arguments: &Arguments) {
        self.emit_packets(&self.packets(name, arguments));
    }

    /// The packets of an event for the clients of this namespace.
    pub fn packets(&self, name: &str, arguments: &Arguments) -> Outgoing {
        self.sio.event(self.namespace, name, arguments, None)
    }

    /// Sends what [`Socket::packets`] made.
    pub fn emit_packets(&self, out: &Outgoing) {
        self.sio.sent(self.session, self.session.push_in(self.namespace, out, Instant::now()));
    }

    /// Sends an event and gives the client's acknowledgement, once it is there. The event is sent at once, not when the
    /// future is first polled.
    ///
    /// # Errors
    /// See [`AskError`].
    pub fn ask(
        &self,
        name: &str,
        arguments: &Arguments,
        timeout: Duration,
    ) -> impl Future<Output = Result<Reply, AskError>> + Send + use<> {
        let make = |number| self.sio.event(self.namespace, name, arguments, Some(number));
        let asked = match self.session.ask(self.namespace, make, Instant::now()) {
            Ok((asked, waits)) => {
                self.sio.sent(self.session, Ok(waits));
                asked
            }
            Err(end) => {
                self.sio.end(self.session, end);
                Err(AskError::Left)
            }
        };
        async move { asked?.answer(timeout).await }
    }

    /// Enters a room.
    ///
    /// # Errors
    /// When the client is in as many rooms as one may be.
    pub fn join(&self, room: &str) -> Result<(), TooManyRooms> {
        self.rooms().join(self.session, self.namespace, room)
    }

    /// Leaves a room.
    pub fn leave(&self, room: &str) {
        self.rooms().leave(self.session.sid, room);
    }

    /// The others in any of these rooms; in the whole namespace when no room is given.
    pub fn to(&self, rooms: &'a [&'a str]) -> To<'a> {
        To { sio: self.sio, namespace: self.namespace, rooms, except: &[], without: Some(self.session.sid) }
    }

    /// Sends an event to every client in the namespace, this one included.
    pub fn broadcast(&self, name: &str, payload: &Value) {
        To { without: None, ..self.to(&[]) }.emit(name, &Arguments::default().value(payload));
    }

    /// The client disconnected by the server, from this namespace alone; clients do not come back by themselves then.
    pub fn disconnect(&self) {
        self.sio.dismiss(self.session, self.namespace);
    }

    /// The same for work that outlives the call.
    pub fn keep(&self) -> Kept {
        let (sio, session) = (Arc::clone(self.sio), Arc::clone(self.session));
        Kept { sio, session, namespace: self.namespace, id: self.id }
    }

    /// How many clients there are in the default namespace.
    pub fn clients(&self) -> usize {
        self.sio.registry.connected()
    }

    /// Every client in the namespace, in no order, by its id there.
    pub fn everyone(&self) -> Vec<(Sid, Arc<Session>)> {
        let mut all = Vec::new();
        self.sio.registry.each(|session| {
            if let Some(sid) = session.sid_in(self.namespace) {
                all.push((sid, Arc::clone(session)));
            }
        });
        all
    }

    fn rooms(&self) -> &super::rooms::Rooms {
        &self.sio.protocol.0[self.namespace].rooms
    }
}

/// A [`Socket`] that is kept while an event is dealt with. What is sent after the client has left goes nowhere.
#[derive(Debug, Clone)]
pub struct Kept {
    sio: Arc<SocketIo>,
    session: Arc<Session>,
    namespace: usize,
    id: Sid,
}

impl Kept {
    /// The client.
    pub fn socket(&self) -> Socket<'_> {
        Socket { sio: &self.sio, session: &self.session, namespace: self.namespace, id: self.id }
    }
}

/// Some of the clients of a namespace.
#[derive(Debug, Clone, Copy)]
pub struct To<'a> {
    sio: &'a Arc<SocketIo>,
    namespace: usize,
    rooms: &'a [&'a str],
    except: &'a [&'a str],
    without: Option<Sid>,
}

impl<'a> To<'a> {
    /// Of them, those that are in none of these rooms.
    #[must_use]
    pub fn except(self, rooms: &'a [&'a str]) -> Self {
        Self { except: rooms, ..self }
    }

    /// Sends them an event: each gets it once, in however many of the rooms it is.
    pub fn emit(&self, name: &str, arguments: &Arguments) {
        let out: Outgoing = self.sio.event(self.namespace, name, arguments, None);
        let rooms = &self.sio.protocol.0[self.namespace].rooms;
        let mut chosen =
            if self.rooms.is_empty() { self.sio.everyone(self.namespace) } else { rooms.members(self.rooms) };
        if !self.except.is_empty() {
            let not: std::collections::HashSet<Sid> = rooms.members(self.except).iter().map(|s| s.sid).collect();
            chosen.retain(|session| !not.contains(&session.sid));
        }
        chosen.retain(|session| Some(session.sid) != self.without);
        let now = Instant::now();
        for session in chosen {
            self.sio.sent(&session, session.push_in(self.namespace, &out, now));
        }
    }
}
