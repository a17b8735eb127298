//! Posts that carry an `Idempotency-Key` are stored once, however often they are sent.
//!
//! Who got no answer cannot know whether an event arrived, and must send it again. The keys of this process's posts are
//! remembered within a bound; a post that says it is a repetition (`Idempotency-Retry: true`) and that is not among these may
//! have come earlier, or to the process before, so the store is asked, which knows the keys of all events that it keeps.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use axum::http::{HeaderMap, HeaderName, StatusCode};

use super::answer::Refusal;
use crate::events::key::Key;
use crate::events::model::Draft;
use crate::events::store::{Store, StoreError};

/// The header with the key: a UUID, as our hook makes them.
pub const KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// The header that says that the key was sent before.
pub const RETRY: HeaderName = HeaderName::from_static("idempotency-retry");
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
pub struct Once {
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

impl Keyed {
    /// What the headers of a post say; nothing if it has no key.
    ///
    /// # Errors
    /// 400 `bad_key`.
    pub fn of(headers: &HeaderMap) -> Result<Option<Self>, Refusal> {
        let Some(said) = headers.get(KEY) else { return Ok(None) };
        let key = said.to_str().ok().and_then(Key::parse).ok_or_else(|| {
            let message = "an Idempotency-Key here is a UUID in lower case, new for each event; or leave it out";
            Refusal::new(StatusCode::BAD_REQUEST, "bad_key", message)
        })?;
        Ok(Some(Self { key, again: headers.get(RETRY).is_some_and(|v| v == "true") }))
    }
}

impl Once {
    /// Stores an event unless it is stored already; whether it is a new one. Goes on to the end even if nobody waits for it
    /// any more, so that what is remembered is true.
    ///
    /// # Errors
    /// 503 `in_progress` while the same event is being stored; what the store refuses.
    pub async fn store(self: &Arc<Self>, store: &Arc<Store>, keyed: Keyed, draft: Draft) -> Result<bool, Refusal> {
        match self.begin(keyed.key) {
            Some(Known::Stored) => return Ok(false),
            Some(Known::Pending) => {
                let message = "this event is being stored; ask again in a moment";
                return Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "in_progress", message));
            }
            None => {}
        }
        let (once, store) = (Arc::clone(self), Arc::clone(store));
        let work = tokio::spawn(async move {
            let stored = once.search_and_append(&store, keyed, draft).await;
            once.end(keyed.key, stored.is_ok());
            stored
        });
        match work.await {
            Ok(stored) => Ok(stored?),
            Err(_) => Err(StoreError::Closed.into()),
        }
    }

    async fn search_and_append(&self, store: &Store, keyed: Keyed, draft: Draft) -> Result<bool, StoreError> {
        if keyed.again && store.has_key(keyed.key).await? {
            return Ok(false);
        }
        store.append_keyed(draft, keyed.key).await.map(|_| true)
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

    #[test]
    fn headers_have_a_key_of_one_form_or_none() {
        let of = |key: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(KEY, key.parse().unwrap());
            headers.insert(RETRY, "true".parse().unwrap());
            Keyed::of(&headers).map_err(|r| r.code)
        };
        let key = "6f1c2d3e-4b5a-4678-9abc-def012345678";
        assert_eq!(of(key), Ok(Some(Keyed { key: Key::parse(key).unwrap(), again: true })));
        assert_eq!((of("x"), of("")), (Err("bad_key"), Err("bad_key")));
        assert_eq!(Keyed::of(&HeaderMap::new()).map_err(|r| r.code), Ok(None));
    }
}
