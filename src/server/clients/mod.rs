//! What Socket.IO clients may say and ask in the default namespace, a group of events a file. `docs/protocol.md` lists
//! them; an event that is in none of them is ignored in silence, as Claude MPM's server ignores it.

mod binary;
mod bounds;
mod code;
pub mod count;
mod dashboard;
mod door;
mod file;
mod hooks;
mod past;
mod replay;
mod roster;
mod sessions;
mod subscribe;
pub mod visitor;

use std::sync::Arc;

use serde_json::json;
use tokio::sync::watch;

use super::answer::Bodies;
use super::feed::{EventFeed, Way};
use super::{Counters, access};
use crate::config::Settings;
use crate::events::hub::Hub;
use crate::events::intake::{Intake, Via};
use crate::events::model::Draft;
use socketio::namespace::{Handled, Handler, Kept, Namespace};
use socketio::options::{Config, Options};
use socketio::outgoing::Arguments;
use socketio::session::Session;

/// What the handlers work with.
#[derive(Debug, Clone)]
pub struct Parts {
    /// The events in memory.
    pub hub: Arc<Hub>,
    /// Where events go.
    pub intake: Arc<Intake>,
    /// The events on their way to the clients.
    pub feed: Arc<EventFeed>,
    /// What happened so far.
    pub counters: Arc<Counters>,
    /// The live settings.
    pub settings: watch::Receiver<Arc<Settings>>,
    /// Who this process is.
    pub instance: Arc<super::Instance>,
    /// The files that clients may read.
    pub files: super::files::Files,
}

/// All namespaces: there is the default one.
pub fn namespaces(parts: &Parts) -> Vec<Namespace> {
    let door = door::Door { settings: parts.settings.clone(), counters: Arc::clone(&parts.counters) };
    let way = Way(Arc::clone(&parts.feed));
    vec![Namespace::new("/").guarded_by(Box::new(door)).with(handlers(parts)).entered_by(Box::new(way))]
}

/// What a client of an older Socket.IO is told.
const REFUSAL_OF_OLDER: &str = "this monitor speaks Socket.IO protocol 5 over Engine.IO protocol 4; \
                                connect with socket.io-client 3 or 4, or python-socketio 5";

/// The settings as the Socket.IO layer has them.
pub fn config(settings: watch::Receiver<Arc<Settings>>) -> Config {
    let options = move || {
        let settings = settings.borrow();
        Options {
            ping_interval: settings.ping_interval,
            ping_timeout: settings.ping_timeout,
            max_clients: settings.max_clients,
            backlog: settings.client_backlog,
            rate: settings.client_rate,
            burst: settings.client_burst,
            ..Options::default()
        }
    };
    Config { options: Box::new(options), memory: Arc::new(Bodies), refusal_of_older: REFUSAL_OF_OLDER }
}

/// When a session was opened, for people and programs.
pub fn opened(session: &Session) -> String {
    // A clock that is before year 1 or after year 9999 is set wrong; the session was opened all the same.
    let opened = jiff::Timestamp::try_from(session.opened).unwrap_or_default();
    format!("{opened:.6}")
}

/// Its handlers, in the order in which they are asked.
fn handlers(parts: &Parts) -> Vec<Box<dyn Handler>> {
    let sessions = Arc::<sessions::Book>::default();
    vec![
        Box::new(bounds::Bounds),
        Box::new(dashboard::Dashboard { parts: parts.clone() }),
        Box::new(hooks::Hooks { parts: parts.clone(), sessions: Arc::clone(&sessions) }),
        Box::new(sessions::Sessions { parts: parts.clone(), book: sessions }),
        Box::new(past::Past { parts: parts.clone() }),
        Box::new(replay::Replay::new(parts.clone())),
        Box::new(file::File { parts: parts.clone() }),
        Box::new(code::Code),
        Box::new(roster::Roster::default()),
        Box::new(subscribe::Subscribe { feed: Arc::clone(&parts.feed) }),
    ]
}

/// Why an event is refused whose binary data cannot be kept, as code and as text.
const UNPLACED: (&str, &str) =
    ("binary_unplaced", "binary data of this event has no placeholder of its own in the first argument");
/// The event that tells a client that its event was not taken.
const HOOK_ERROR: &str = "hook:error";

impl Parts {
    /// Stores an event. `then` is called once it is committed, before the client hears of it; a failure is told to the
    /// client alone, and is not acknowledged.
    fn take(&self, from: Kept, draft: Draft, then: impl FnOnce() + Send + 'static) -> Handled {
        if !visitor::access(from.socket().session()).write {
            let refusal = access::refusal(false);
            return self.refuse(from, refusal.code, &refusal.message);
        }
        let parts = self.clone();
        Handled::Later(Box::pin(async move {
            match parts.intake.put(Via::SocketIo, draft, None).await {
                Ok(_) => {
                    then();
                    Some(Arguments::default())
                }
                Err(error) => {
                    tracing::debug!(code = error.code(), %error, "event of a client refused");
                    from.socket().emit(HOOK_ERROR, &json!({"error": error.to_string()}));
                    None
                }
            }
        }))
    }

    /// Refuses an event of a client, and counts it.
    fn refuse(&self, from: Kept, code: &'static str, message: &str) -> Handled {
        self.intake.refused(Via::SocketIo, code);
        tell_refused(&from, message)
    }
}

/// Tells a client that its event was refused. Not acknowledged: an acknowledgement means that it is stored.
fn tell_refused(from: &Kept, message: &str) -> Handled {
    from.socket().emit(HOOK_ERROR, &json!({"error": message}));
    Handled::Later(Box::pin(std::future::ready(None)))
}
