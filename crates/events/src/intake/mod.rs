//! The one way of an event into the store, whoever brings it.
//!
//! [`Intake`] validates and normalises an event, stores it, counts it, and waits while the hub has more to pass on than it
//! may hold. A transport keeps its framing and the wording of its answers, nothing else.
//!
//! A new source that can post needs no code. One inside the process gets a variant of [`Input`] and of [`Via`]. A new event
//! name belongs into `CATEGORIES` in `counts`, else it counts as `other`.

mod counts;
mod once;
#[cfg(test)]
mod tests;

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use jiff::Timestamp;

use self::counts::category;
pub use self::counts::{Counts, Via};
pub use self::once::Keyed;
use self::once::Once;
use super::hub::Hub;
use super::ingest::client::{self, ClientError};
use super::ingest::{self, IngestError};
use super::model::{Dialect, Draft};
use super::store::{Arrival, Store, StoreError, Stored};

/// What a transport received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input<'a> {
    /// The body of a post, for subscribers of this dialect.
    Post(&'a [u8], Dialect),
    /// The argument of a Socket.IO client's `claude_event`. Must be valid JSON.
    ClaudeEvent(&'a str),
    /// The argument of a Socket.IO client's `hook:ingest`. Must be valid JSON.
    HookIngest(&'a str),
}

impl Input<'_> {
    /// The way that such input comes.
    pub fn via(self) -> Via {
        match self {
            Self::Post(..) => Via::Http,
            Self::ClaudeEvent(_) | Self::HookIngest(_) => Via::SocketIo,
        }
    }

    fn draft(self, now: Timestamp) -> Result<Draft, TakeError> {
        Ok(match self {
            Self::Post(body, dialect) => ingest::draft(body, dialect, now)?,
            Self::ClaudeEvent(argument) => client::claude_event(argument, now)?,
            Self::HookIngest(argument) => client::hook_ingest(argument, now)?,
        })
    }
}

/// Why an event was not taken.
#[derive(Debug, thiserror::Error)]
pub enum TakeError {
    /// The body of a post is not an event.
    #[error(transparent)]
    Post(#[from] IngestError),
    /// What a client sent is not an event.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// Another request with the same key is not finished.
    #[error("this event is being stored; ask again in a moment")]
    InProgress,
    /// The store refused it.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl TakeError {
    /// A name for programs that never changes.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Post(error) => error.code(),
            Self::Client(error) => error.code(),
            Self::InProgress => "in_progress",
            Self::Store(error) => error.code(),
        }
    }

    /// Whether the same input would be refused again, whenever it is sent.
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Post(_) | Self::Client(_))
    }
}

/// What became of events of another node.
#[derive(Debug, Default)]
pub struct Brought {
    /// How many are new.
    pub new: u64,
    /// How many had been stored before.
    pub known: u64,
    /// Why the first that is not stored is not; those after it wait for it.
    pub failed: Option<StoreError>,
}

/// The one way into the store, see the module.
pub struct Intake {
    store: Arc<Store>,
    hub: Arc<Hub>,
    once: Arc<Once>,
    counts: Mutex<Counts>,
}

impl Intake {
    /// An intake to `store`; `hub` is where the store's events go on to.
    pub fn new(store: Arc<Store>, hub: Arc<Hub>) -> Arc<Self> {
        Arc::new(Self { store, hub, once: Arc::default(), counts: Mutex::default() })
    }

    /// Takes an event. When this returns without an error, the event is stored and there is room for the next one.
    ///
    /// # Errors
    /// [`TakeError`]; the event is not stored then, or not promised to be.
    pub async fn take(&self, input: Input<'_>, key: Option<Keyed>) -> Result<Stored, TakeError> {
        let draft = self.read(input)?;
        self.put(input.via(), draft, key).await
    }

    /// The event that `input` becomes. A refusal is counted.
    ///
    /// # Errors
    /// [`TakeError::Post`] or [`TakeError::Client`].
    pub fn read(&self, input: Input<'_>) -> Result<Draft, TakeError> {
        input.draft(Timestamp::now()).inspect_err(|error| self.refused(input.via(), error.code()))
    }

    /// Takes an event that is normalised already, as [`Intake::take`] does.
    ///
    /// # Errors
    /// [`TakeError::InProgress`] or [`TakeError::Store`].
    pub async fn put(&self, via: Via, draft: Draft, key: Option<Keyed>) -> Result<Stored, TakeError> {
        let category = category(&draft.name);
        let stored = match key {
            None => self.store.append(draft).await.map(Stored::Now).map_err(TakeError::from),
            Some(keyed) => self.once.store(&self.store, keyed, draft).await,
        };
        match &stored {
            Ok(Stored::Now(_)) => self.counted().accept(via, category),
            Ok(Stored::Before) => {}
            Err(error) => self.refused(via, error.code()),
        }
        if stored.is_ok() {
            self.hub.has_room().await;
        }
        stored
    }

    /// Takes events of another node, in order and committed together. They are not in [`Intake::counts`].
    pub async fn bring(&self, arrivals: Vec<Arrival>) -> Brought {
        let mut brought = Brought::default();
        for result in append_all(&self.store, arrivals).await {
            match result {
                Ok(Stored::Now(_)) => brought.new += 1,
                Ok(Stored::Before) => brought.known += 1,
                // The first reason is the one that counts; what comes after it was refused for want of it.
                Err(error) => brought.failed = brought.failed.or(Some(error)),
            }
        }
        self.hub.has_room().await;
        brought
    }

    /// Counts an event that its transport refused.
    pub fn refused(&self, via: Via, code: &'static str) {
        self.counted().refuse(via, code);
    }

    /// The events taken and refused so far.
    pub fn counts(&self) -> Counts {
        self.counted().clone()
    }

    fn counted(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Intake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Intake").field("store", &self.store).finish_non_exhaustive()
    }
}

/// Appends all at once, so that they are committed together; the store keeps their order, or takes none after the first that
/// fails.
async fn append_all(store: &Store, arrivals: Vec<Arrival>) -> Vec<Result<Stored, StoreError>> {
    let mut results: Vec<Option<Result<Stored, StoreError>>> = arrivals.iter().map(|_| None).collect();
    let mut appends: Vec<Option<Pin<Box<dyn Future<Output = _> + Send + '_>>>> =
        arrivals.into_iter().map(|a| Some(Box::pin(store.append_remote(a)) as _)).collect();
    poll_fn(|context| {
        let mut waits = false;
        for (append, result) in appends.iter_mut().zip(&mut results) {
            let Some(future) = append else { continue };
            match future.as_mut().poll(context) {
                Poll::Ready(done) => (*result, *append) = (Some(done), None),
                Poll::Pending => waits = true,
            }
        }
        if waits { Poll::Pending } else { Poll::Ready(()) }
    })
    .await;
    results.into_iter().flatten().collect()
}
