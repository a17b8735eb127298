//! What is counted while the server runs.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::socketio::session::End;

/// What happened since the start. Counters only grow.
#[derive(Debug, Default)]
pub struct Counters {
    /// Connections that came in.
    pub connections: AtomicU64,
    /// Of them, refused because of `max_connections`.
    pub connections_refused: AtomicU64,
    /// Times that accept failed for want of descriptors or memory.
    pub accept_errors: AtomicU64,
    /// Requests that the guard or the token kept out, by the refusal's code.
    denied: Mutex<BTreeMap<&'static str, u64>>,
    /// Events accepted and refused, by how they came.
    ingest: Mutex<Ingest>,
    /// Questions about files and repositories, by what was asked and how it ended.
    files: Mutex<BTreeMap<(&'static str, &'static str), u64>>,
    /// Events that went out to the clients.
    pub events: AtomicU64,
    /// Times that clients were told of a changed dashboard.
    pub reloads: AtomicU64,
    /// Engine.IO sessions opened.
    pub opened: AtomicU64,
    /// Handshakes refused because of `max_clients`.
    pub clients_refused: AtomicU64,
    /// Times a client entered the namespace.
    pub joined: AtomicU64,
    /// Times a client had to wait because it sent more than it may.
    pub throttled: AtomicU64,
    /// Clients cut off because too much waited for them.
    pub evicted_backlog: AtomicU64,
    /// Clients cut off because they took nothing for too long.
    pub evicted_stalled: AtomicU64,
    /// Clients that did not answer a ping.
    pub ping_timeouts: AtomicU64,
    /// Sessions that ended in any other way.
    pub ended_otherwise: AtomicU64,
}

/// How an event came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Path {
    /// `POST /api/events`.
    Http,
    /// A Socket.IO client.
    SocketIo,
}

impl Path {
    /// Its name for programs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::SocketIo => "socketio",
        }
    }
}

/// How many events came in each way: accepted by category, refused by code.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ingest {
    /// Accepted, by way and category. The pass-through dialect lets posters choose any name: what is none of the known
    /// ones counts as `other`.
    pub accepted: BTreeMap<(Path, &'static str), u64>,
    /// Refused, by way and the refusal's code.
    pub rejected: BTreeMap<(Path, &'static str), u64>,
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

/// What an event of this name is counted under.
pub fn category(name: &str) -> &'static str {
    CATEGORIES.iter().find(|c| **c == name).copied().unwrap_or("other")
}

impl Counters {
    /// Counts an event that was accepted.
    pub fn accepted(&self, path: Path, name: &str) {
        *self.lock().accepted.entry((path, category(name))).or_default() += 1;
    }

    /// Counts an event that was refused.
    pub fn rejected(&self, path: Path, code: &'static str) {
        *self.lock().rejected.entry((path, code)).or_default() += 1;
    }

    /// Counts a request, or a client, that was kept out.
    pub fn denied(&self, code: &'static str) {
        *self.denied.lock().unwrap_or_else(PoisonError::into_inner).entry(code).or_default() += 1;
    }

    /// How many were kept out so far, by the refusal's code.
    pub fn denials(&self) -> BTreeMap<&'static str, u64> {
        self.denied.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Counts a question about files: what was asked, and `ok` or the refusal's code.
    pub fn file_request(&self, asked: &'static str, result: &'static str) {
        *self.files.lock().unwrap_or_else(PoisonError::into_inner).entry((asked, result)).or_default() += 1;
    }

    /// The questions about files so far, by what was asked and how it ended.
    pub fn file_requests(&self) -> BTreeMap<(&'static str, &'static str), u64> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What came in so far.
    pub fn ingest(&self) -> Ingest {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Ingest> {
        self.ingest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts the end of a session.
    pub fn ended(&self, end: End) {
        let counter = match end {
            End::Backlog => &self.evicted_backlog,
            End::Stalled => &self.evicted_stalled,
            End::PingTimeout => &self.ping_timeouts,
            _ => &self.ended_otherwise,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_counted_by_way_and_a_chosen_name_makes_no_series_of_its_own() {
        let counters = Counters::default();
        counters.accepted(Path::Http, "tool_event");
        counters.accepted(Path::Http, "tool_event");
        counters.accepted(Path::Http, "anything at all");
        counters.accepted(Path::SocketIo, "tool_event");
        counters.rejected(Path::SocketIo, "not_an_object");
        let ingest = counters.ingest();
        let accepted: Vec<_> = ingest.accepted.into_iter().collect();
        let (http, sio) = (Path::Http, Path::SocketIo);
        assert_eq!(accepted, [((http, "other"), 1), ((http, "tool_event"), 2), ((sio, "tool_event"), 1)]);
        assert_eq!(ingest.rejected.len(), 1);
    }
}
