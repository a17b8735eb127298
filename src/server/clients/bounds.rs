//! How large a question may be. Events that are stored may be as large as a message; everything else is short, and would cost
//! a multiple of its size to understand.

use serde_json::json;

use super::HOOK_ERROR;
use socketio::namespace::{Handled, Handler, Incoming, Socket};

/// The most bytes of all arguments of a question.
const LARGEST: usize = 64 << 10;
/// The events that are not asked to be short.
const STORED: [&str; 2] = ["claude_event", "hook:ingest"];

/// Asked before all others: answers what is too large.
pub(super) struct Bounds;

impl Handler for Bounds {
    fn event(&self, socket: Socket<'_>, event: Incoming<'_>) -> Handled {
        let arguments: usize = event.arguments.iter().map(|a| a.get().len()).sum();
        let attachments: usize = event.attachments.iter().map(bytes::Bytes::len).sum();
        if arguments + attachments <= LARGEST || STORED.contains(&event.name) {
            return Handled::No;
        }
        let name: String = event.name.chars().take(100).collect();
        let message = format!("the arguments of {name} are larger than {LARGEST} bytes; send less");
        socket.emit(HOOK_ERROR, &json!({"error": message}));
        // Not acknowledged, as nothing is that was not done.
        Handled::Later(Box::pin(std::future::ready(None)))
    }
}
