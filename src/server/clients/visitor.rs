//! What is known of the client of a session: the connection it came over, and what it may do.

use std::sync::{Mutex, PoisonError};

use crate::config::Settings;
use crate::server::access::Access;
use crate::server::peer::Asker;
use crate::server::stream::{self, Ends};
use daemon::socket_owner::Pair;
use socketio::session::Session;

/// The client, as its first request showed it; a session keeps it as its extensions.
#[derive(Debug)]
pub struct Visitor {
    /// Who is at the ends of the connection that the request came over.
    pub ends: Ends,
    /// By what the kernel finds that connection.
    pub pair: Option<Pair>,
    /// Whether a page of another origin made the request.
    pub is_foreign_page: bool,
    /// What the request alone entitles to.
    pub requested: Access,
    /// What the client may do, once it has said more than its request did.
    granted: Mutex<Access>,
}

impl Visitor {
    /// A client that may do what its request entitles to.
    pub fn new(ends: Ends, pair: Option<Pair>, is_foreign_page: bool, access: Access) -> Self {
        Self { ends, pair, is_foreign_page, requested: access, granted: Mutex::new(access) }
    }

    /// The client of that session.
    pub fn of(session: &Session) -> Option<&Self> {
        session.handshake.extensions.get()
    }

    /// Remembers what the client may do.
    pub fn grant(&self, access: Access) {
        *self.granted.lock().unwrap_or_else(PoisonError::into_inner) = access;
    }

    fn granted(&self) -> Access {
        *self.granted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the client of a session may do.
pub(super) fn access(session: &Session) -> Access {
    Visitor::of(session).map_or(Access::NONE, Visitor::granted)
}

/// Who asks over a session. A client that polls is looked up by the connection that it began on, as long as that is kept.
pub(super) fn asker(session: &Session, settings: &Settings) -> Asker {
    let Some(visitor) = Visitor::of(session) else { return Asker::ForeignPage };
    let pair = match session.stream() {
        Some(stream) => stream::ends(&stream).ok().and_then(|(_, pair)| pair),
        None => visitor.pair,
    };
    Asker::new(Some(visitor.ends), pair, visitor.is_foreign_page, visitor.granted(), settings)
}
