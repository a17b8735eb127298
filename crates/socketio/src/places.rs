//! The places that clients take: one among all sessions, and one among the clients of the default namespace.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use tokio::sync::Notify;

/// How many clients are in the default namespace.
#[derive(Debug, Default)]
pub(crate) struct Connected {
    pub(crate) count: AtomicUsize,
    /// Counts the changes of `count`, so that each client is told the newest number once.
    pub(crate) version: AtomicU64,
    /// Wakes the task that tells clients how many they are.
    pub(crate) changed: Notify,
}

impl Connected {
    pub(crate) fn changed(&self) -> u64 {
        let version = self.version.fetch_add(1, Ordering::AcqRel) + 1;
        self.changed.notify_one();
        version
    }
}

/// One client in the default namespace, counted until this is dropped.
#[derive(Debug)]
pub struct Counted(pub(crate) Arc<Connected>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.count.fetch_sub(1, Ordering::AcqRel);
        self.0.changed();
    }
}

/// One place among the clients, given back when dropped.
#[derive(Debug)]
pub struct Slot(pub(crate) Arc<AtomicUsize>);

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}
