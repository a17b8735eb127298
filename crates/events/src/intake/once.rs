//! Posts that carry an `Idempotency-Key` are stored once, however often they are sent.
//!
//! Who got no answer cannot know whether an event arrived, and must send it again. The keys of this process's posts are
//! remembered within a bound; a post that says it is a repetition (`Idempotency-Retry: true`) and that is not among these may
//! have come earlier, or to the process before, so the store is asked, which knows the keys of all events that it keeps.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use super::TakeError;
use crate::key::Key;
use crate::model::Draft;
use crate::store::{Store, StoreError, Stored};

/// How many keys are remembered.
const REMEMBERED: usize = 8192;

/// What is known of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    /// It is being stored.
    Pending,
    /// It is stored.
    Stored,
}

/// The keys of the posts to this process; takes no memory until the first one.
#[derive(Debug, Default)]
pub(super) struct Once {
    keys: Mutex<(HashMap<Key, Known>, VecDeque<Key>)>,
}

/// An event that is to be stored once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keyed {
    /// Its key.
    pub key: Key,
    /// Whether it may have been stored by an earlier process.
    pub again: bool,
}

impl Once {
    /// Stores an event unless it is stored already. Goes on to the end even if nobody waits for it any more, so that what is
    /// remembered is true.
    ///
    /// # Errors
    /// [`TakeError::InProgress`] while the same event is being stored; what the store refuses.
    pub(super) async fn store(
        self: &Arc<Self>,
        store: &Arc<Store>,
        keyed: Keyed,
        draft: Draft,
    ) -> Result<Stored, TakeError> {
        match self.begin(keyed.key) {
            Some(Known::Stored) => return Ok(Stored::Before),
            Some(Known::Pending) => return Err(TakeError::InProgress),
            None => {}
        }
        let (once, store) = (Arc::clone(self), Arc::clone(store));
        let work = tokio::spawn(async move {
            let stored = search_and_append(&store, keyed, draft).await;
            once.end(keyed.key, stored.is_ok());
            stored
        });
        Ok(work.await.unwrap_or(Err(StoreError::Closed))?)
    }

    /// What is known of a key; one that is not known is pending from then on.
    fn begin(&self, key: Key) -> Option<Known> {
        let (keys, order) = &mut *self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = keys.get(&key) {
            return Some(*known);
        }
        keys.insert(key, Known::Pending);
        order.push_back(key);
        if order.len() > REMEMBERED
            && let Some(oldest) = order.pop_front()
        {
            keys.remove(&oldest);
        }
        None
    }

    fn end(&self, key: Key, stored: bool) {
        let (keys, order) = &mut *self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        if stored {
            // It may have been forgotten by now.
            if let Some(known) = keys.get_mut(&key) {
                *known = Known::Stored;
            }
        } else if keys.remove(&key).is_some() {
            order.retain(|k| *k != key);
        }
    }
}

async fn search_and_append(store: &Store, keyed: Keyed, draft: Draft) -> Result<Stored, StoreError> {
    if keyed.again && store.has_key(keyed.key).await? {
        return Ok(Stored::Before);
    }
    store.append_keyed(draft, keyed.key).await.map(Stored::Now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_known_within_a_bound() {
        let (once, [one, two]) = (Once::default(), [1, 2].map(Key::from_u128));
        assert_eq!((once.begin(one), once.begin(one)), (None, Some(Known::Pending)));
        once.end(one, true);
        assert_eq!(once.begin(one), Some(Known::Stored));
        assert_eq!(once.begin(two), None);
        once.end(two, false);
        assert_eq!(once.begin(two), None, "what was refused can be sent again");
        (10..10 + REMEMBERED as u128).for_each(|n| assert_eq!(once.begin(Key::from_u128(n)), None));
        assert_eq!(once.keys.lock().unwrap().1.len(), REMEMBERED);
        assert_eq!(once.begin(one), None, "the oldest is forgotten");
    }
}
