//! Which idempotency keys are stored: each is known as long as its event is kept.
//!
//! The database has an index of them. What the indexer has not moved there yet is in memory, and is found again in the
//! journal at a start.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{Store, StoreError, blocking};
use crate::key::Key;
use crate::model::Draft;

/// The keys of events that are not in the database yet, in the order of their numbers.
#[derive(Debug, Default)]
pub(super) struct Recent(Mutex<VecDeque<(u64, Key)>>);

impl Recent {
    /// The event of this number has this key.
    pub(super) fn note(&self, seq: u64, key: Key) {
        self.lock().push_back((seq, key));
    }

    fn has(&self, key: Key) -> bool {
        self.lock().iter().any(|(_, known)| *known == key)
    }

    /// All events up to this number are in the database, or are not kept.
    pub(super) fn forget(&self, through: u64) {
        let mut keys = self.lock();
        let done = keys.partition_point(|(seq, _)| *seq <= through);
        keys.drain(..done);
        if keys.is_empty() {
            keys.shrink_to_fit();
        }
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<(u64, Key)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store {
    /// Stores an event that was posted with an idempotency key, which is known from then on; see [`Store::append`].
    ///
    /// # Errors
    /// As [`Store::append`].
    pub async fn append_keyed(&self, draft: Draft, key: Key) -> Result<u64, StoreError> {
        self.append_as(draft, None, Some(key)).await
    }

    /// Whether an event with this key is kept.
    ///
    /// # Errors
    /// [`StoreError::Read`] or [`StoreError::Closed`].
    pub async fn has_key(&self, key: Key) -> Result<bool, StoreError> {
        let (shared, reader) = (self.shared.clone(), self.reader.clone());
        // Memory first: what leaves it from now on is in the database when that is asked.
        self.met(blocking(move || Ok(shared.keys.has(key) || reader.has_key(key)?)).await)
    }
}
