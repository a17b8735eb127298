//! Damaged events of the database: rows that hold what no event is, as a failing disk or somebody's `sqlite3` leaves them.
//! They are left out wherever events are read, counted once each, and told.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use super::health::Health;

/// How many are told apart; of more than these no further one is counted.
const COUNTED: usize = 65_536;
/// How many the log names.
const NAMED: u64 = 20;

#[derive(Debug)]
pub(super) struct Damaged {
    numbers: Mutex<BTreeSet<u64>>,
    health: Arc<Health>,
}

impl Damaged {
    pub(super) fn new(health: Arc<Health>) -> Self {
        Self { numbers: Mutex::default(), health }
    }

    /// A reader came across this event.
    pub(super) fn met(&self, seq: u64) {
        let count = {
            let mut numbers = self.numbers.lock().unwrap_or_else(PoisonError::into_inner);
            if numbers.len() >= COUNTED || !numbers.insert(seq) {
                return;
            }
            numbers.len() as u64
        };
        if count <= NAMED {
            tracing::error!(seq, "an event of the database is damaged and is left out");
        }
        self.health.damaged(count);
    }

    /// How many there are, as far as they were read.
    pub(super) fn count(&self) -> u64 {
        self.numbers.lock().unwrap_or_else(PoisonError::into_inner).len() as u64
    }
}
