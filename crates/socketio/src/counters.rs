//! What is counted while a server runs.

use std::sync::atomic::{AtomicU64, Ordering};

use super::end::End;

/// What happened since the start. Counters only grow.
#[derive(Debug, Default)]
pub struct Counters {
    /// Sessions opened.
    pub opened: AtomicU64,
    /// Handshakes refused because of [`Options::max_clients`](super::options::Options::max_clients).
    pub refused: AtomicU64,
    /// Times a client entered a namespace.
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

impl Counters {
    /// Counts the end of a session.
    pub(super) fn ended(&self, end: End) {
        let counter = match end {
            End::Backlog => &self.evicted_backlog,
            End::Stalled => &self.evicted_stalled,
            End::PingTimeout => &self.ping_timeouts,
            _ => &self.ended_otherwise,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}
