//! What waits to be committed: events in order, and signs for the store's thread to look up.
//!
//! A queue of our own rather than a channel, because three things are needed at once that no channel has: to wait with a
//! time limit, to take all that waits in one go from any thread, and to be woken by the watchdog even when it is full.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::StoreError;
use crate::key::Key;
use crate::model::{Draft, Origin};

/// The most events in one group.
const BATCH_EVENTS: usize = 512;
/// About the most bytes in one group.
const BATCH_BYTES: usize = 1 << 20;

/// What the queue holds at most, in units of [`UNIT`] bytes begun: 4096 small events, or 16 MiB.
const ROOM: u32 = 4096;
const UNIT: usize = 4096;

/// An event and who waits for its number.
#[derive(Debug)]
pub(super) struct Request {
    pub draft: Draft,
    pub answer: oneshot::Sender<Result<u64, StoreError>>,
    /// Of an event of another node: where it comes from, and [`Arrival::after`](super::Arrival::after).
    pub arrival: Option<(Arc<Origin>, u64)>,
    /// The idempotency key it was posted with.
    pub key: Option<Key>,
    /// Its place in the queue, free again when it was dealt with.
    pub _room: OwnedSemaphorePermit,
}

/// What the store's thread finds when it looks.
#[derive(Debug)]
pub(super) struct Work {
    /// Whether events were left to it.
    pub handed: bool,
    /// Whether the watchdog asks.
    pub tick: bool,
    /// Whether nothing will come any more.
    pub closing: bool,
}

#[derive(Debug)]
pub(super) struct Queue {
    state: Mutex<Inner>,
    /// Something for the thread.
    wake: Condvar,
    room: Arc<Semaphore>,
}

#[derive(Debug)]
struct Inner {
    waiting: VecDeque<Request>,
    /// Whether the events that wait are the thread's to commit.
    handed: bool,
    tick: bool,
    closing: bool,
    finished: bool,
}

impl Queue {
    pub(super) fn new() -> Self {
        let waiting = VecDeque::new();
        Self {
            state: Mutex::new(Inner { waiting, handed: false, tick: false, closing: false, finished: false }),
            wake: Condvar::new(),
            room: Arc::new(Semaphore::new(ROOM as usize)),
        }
    }

    /// Waits for room for `draft`; in the order of the calls.
    pub(super) async fn room(&self, draft: &Draft) -> Result<OwnedSemaphorePermit, StoreError> {
        let units = u32::try_from(size(draft) / UNIT + 1).unwrap_or(ROOM).min(ROOM);
        Arc::clone(&self.room).acquire_many_owned(units).await.map_err(|_| StoreError::Closed)
    }

    /// Puts an event into the queue. Whoever finds it empty gets the duty to see that it is committed, and what is put
    /// in until then with it: by committing, or by dropping the duty, which wakes the store's thread.
    pub(super) fn push(&self, request: Request) -> Result<Option<Wake<'_>>, StoreError> {
        let mut state = self.lock();
        if state.closing {
            return Err(StoreError::Closed);
        }
        let first = state.waiting.is_empty();
        state.waiting.push_back(request);
        drop(state);
        // Made only where it is due: dropping it has an effect.
        Ok(first.then(|| Wake(self)))
    }

    /// How many events wait to be committed.
    pub(super) fn waiting(&self) -> usize {
        self.lock().waiting.len()
    }

    /// The watchdog asks.
    pub(super) fn tick(&self) {
        self.lock().tick = true;
        self.wake.notify_one();
    }

    /// Lets nothing in any more.
    pub(super) fn close(&self) {
        self.room.close();
        self.lock().closing = true;
        self.wake.notify_one();
    }

    /// What there is to do for the thread, after at most `patience`; `None` when the store has ended.
    pub(super) fn next(&self, patience: Duration) -> Option<Work> {
        let idle = |s: &mut Inner| !s.handed && !s.tick && !s.closing;
        let (mut state, _) =
            self.wake.wait_timeout_while(self.lock(), patience, idle).unwrap_or_else(PoisonError::into_inner);
        if state.finished {
            return None;
        }
        let (handed, tick) = (std::mem::take(&mut state.handed), std::mem::take(&mut state.tick));
        Some(Work { handed, tick, closing: state.closing })
    }

    /// The next group. Only for whoever may commit it: the order of the groups is that of the calls.
    pub(super) fn take(&self) -> Vec<Request> {
        let mut state = self.lock();
        let mut group = Vec::with_capacity(state.waiting.len().min(BATCH_EVENTS));
        let mut bytes = 0;
        while group.len() < BATCH_EVENTS && bytes < BATCH_BYTES {
            let Some(request) = state.waiting.pop_front() else { break };
            bytes += size(&request.draft);
            group.push(request);
        }
        group
    }

    /// The store has ended; whoever still waits learns it.
    pub(super) fn finish(&self) {
        self.room.close();
        let mut state = self.lock();
        state.closing = true;
        state.finished = true;
        let orphans = std::mem::take(&mut state.waiting);
        drop(state);
        self.wake.notify_one();
        // Dropping a request drops its answer, which the appender takes for `Closed`.
        drop(orphans);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The duty to see to a commit; see [`Queue::push`].
#[derive(Debug)]
pub(super) struct Wake<'a>(&'a Queue);

impl Wake<'_> {
    /// The duty is done.
    pub(super) fn done(self) {
        std::mem::forget(self);
    }
}

impl Drop for Wake<'_> {
    fn drop(&mut self) {
        self.0.lock().handed = true;
        self.0.wake.notify_one();
    }
}

/// The bytes that count for an event.
pub(super) fn size(draft: &Draft) -> usize {
    draft.name.len() + draft.subtype.len() + draft.session.as_ref().map_or(0, String::len) + draft.payload.len()
}
