//! The number of events that were taken and refused.

use std::collections::BTreeMap;

/// The way an event came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Via {
    /// `POST /api/events`, or what a hook left for it.
    Http,
    /// A Socket.IO client.
    SocketIo,
}

impl Via {
    /// Its name for programs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::SocketIo => "socketio",
        }
    }
}

/// The number of events that were taken, by way and category, and refused, by way and code.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Taken. The pass-through dialect lets posters choose any name: a name that is none of the known ones counts as
    /// `other`.
    pub accepted: BTreeMap<(Via, &'static str), u64>,
    /// Refused.
    pub refused: BTreeMap<(Via, &'static str), u64>,
}

impl Counts {
    pub(super) fn accept(&mut self, via: Via, category: &'static str) {
        *self.accepted.entry((via, category)).or_default() += 1;
    }

    pub(super) fn refuse(&mut self, via: Via, code: &'static str) {
        *self.refused.entry((via, code)).or_default() += 1;
    }
}

/// The names that events are counted under.
const CATEGORIES: [&str; 11] = [
    "claude_event",
    "hook_event",
    "tool_event",
    "session_event",
    "response_event",
    "agent_event",
    "file_event",
    "system_event",
    "hook:event",
    "hook:session:started",
    "hook:session:ended",
];

/// The category that an event of this name counts as.
pub(super) fn category(name: &str) -> &'static str {
    CATEGORIES.iter().find(|c| **c == name).copied().unwrap_or("other")
}
