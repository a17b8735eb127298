//! Events from clients: `claude_event` and `hook:ingest`.

use std::sync::Arc;

use jiff::Timestamp;

use super::sessions::Book;
use super::{Parts, UNPLACED, binary, tell_refused};
use crate::events::intake::Input;
use socketio::namespace::{Handled, Handler, Incoming, Socket};

pub(super) struct Hooks {
    pub parts: Parts,
    pub sessions: Arc<Book>,
}

impl Handler for Hooks {
    fn event(&self, socket: Socket<'_>, event: Incoming<'_>) -> Handled {
        let input: fn(&str) -> Input<'_> = match event.name {
            "claude_event" => |argument| Input::ClaudeEvent(argument),
            "hook:ingest" => |argument| Input::HookIngest(argument),
            _ => return Handled::No,
        };
        if event.argument().is_none() {
            return Handled::No;
        }
        let Some(argument) = binary::argument(&event) else {
            return self.parts.refuse(socket.keep(), UNPLACED.0, UNPLACED.1);
        };
        match self.parts.intake.read(input(&argument)) {
            Ok(draft) => {
                let (sessions, of) = (Arc::clone(&self.sessions), draft.session.clone());
                self.parts.take(socket.keep(), draft, move || {
                    if let Some(id) = of {
                        sessions.saw_event(&id, Timestamp::now());
                    }
                })
            }
            Err(error) => tell_refused(&socket.keep(), &error.to_string()),
        }
    }
}
