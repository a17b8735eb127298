//! What Socket.IO clients may say and ask in the default namespace, a group of events a file. `docs/protocol.md` lists
//! them; an event that is in none of them is ignored in silence, as Claude MPM's server ignores it.

mod binary;
mod bounds;
mod code;
mod dashboard;
mod door;
mod file;
mod hooks;
mod past;
mod replay;
mod roster;
mod sessions;
mod subscribe;

use std::sync::Arc;

use serde_json::json;
use tokio::sync::watch;

use super::socketio::namespace::{Handled, Handler, Kept, Namespace};
use super::socketio::outgoing::Arguments;
use super::{Counters, access};
use crate::config::Settings;
use crate::events::hub::Hub;
use crate::events::intake::{Intake, Via};
use crate::events::model::Draft;

/// What the handlers work with.
#[derive(Debug, Clone)]
pub struct Parts {
    /// The events in memory.
    pub hub: Arc<Hub>,
    /// Where events go.
    pub intake: Arc<Intake>,
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
    vec![Namespace::new("/").guarded_by(Box::new(door)).with(handlers(parts)).with_events()]
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
        Box::new(subscribe::Subscribe),
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
        if !from.socket().session().access().write {
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
