//! Events from clients: `claude_event` and `hook:ingest`.

use std::sync::Arc;

use jiff::Timestamp;

use super::sessions::Book;
use super::{Parts, UNPLACED, binary};
use crate::events::ingest::client::{self, ClientError};
use crate::server::socketio::namespace::{Handled, Handler, Incoming, Socket};

pub(super) struct Hooks {
    pub parts: Parts,
    pub sessions: Arc<Book>,
}

impl Handler for Hooks {
    fn event(&self, socket: Socket<'_>, event: Incoming<'_>) -> Handled {
        let make = match event.name {
            "claude_event" => client::claude_event,
            "hook:ingest" => client::hook_ingest,
            _ => return Handled::No,
        };
        if event.argument().is_none() {
            return Handled::No;
        }
        let Some(argument) = binary::argument(&event) else {
            return self.parts.refuse(socket.keep(), UNPLACED.0, UNPLACED.1);
        };
        match make(&argument, Timestamp::now()) {
            Ok(draft) => {
                let (sessions, of) = (Arc::clone(&self.sessions), draft.session.clone());
                self.parts.take(socket.keep(), draft, move || {
                    if let Some(id) = of {
                        sessions.saw_event(&id, Timestamp::now());
                    }
                })
            }
            Err(error) => self.parts.refuse(socket.keep(), code(&error), &error.to_string()),
        }
    }
}

fn code(error: &ClientError) -> &'static str {
    match error {
        ClientError::NotAnObject { .. } => "not_an_object",
        ClientError::InvalidHook => "invalid_hook",
        ClientError::TooDeep { .. } => "nested_too_deep",
    }
}
