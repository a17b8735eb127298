//! What is counted while the server runs.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, PoisonError};

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
    /// Questions about files and repositories, by what was asked and how it ended.
    files: Mutex<BTreeMap<(&'static str, &'static str), u64>>,
    /// Events that went out to the clients.
    pub events: AtomicU64,
    /// Times that clients were told of a changed dashboard.
    pub reloads: AtomicU64,
}

impl Counters {
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
}
