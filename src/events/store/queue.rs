//! What waits for the writer thread: events in order, and signs that it should look up.
//!
//! A queue of our own rather than a channel, because the writer needs three things at once that no channel has: to wait
//! with a time limit, to take all that waits in one go, and to be woken by the watchdog even when the queue is full.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::StoreError;
use super::retention::Limits;
use crate::events::model::Draft;

/// The most events in one transaction.
pub(super) const BATCH_EVENTS: usize = 512;
/// About the most bytes in one transaction.
pub(super) const BATCH_BYTES: usize = 1 << 20;

/// What the queue holds at most, in units of [`UNIT`] bytes begun: 4096 small events, or 16 MiB.
const ROOM: u32 = 4096;
const UNIT: usize = 4096;

/// An event and who waits for its number.
#[derive(Debug)]
pub(super) struct Request {
    pub draft: Draft,
    pub answer: oneshot::Sender<Result<u64, StoreError>>,
    /// Its place in the queue, free again when it was dealt with.
    pub _room: OwnedSemaphorePermit,
}

/// What the writer finds when it looks.
#[derive(Debug)]
pub(super) struct Work {
    /// The next events to store.
    pub batch: Vec<Request>,
    /// Whether the watchdog asks.
    pub tick: bool,
    /// Whether nothing will come any more once `batch` is empty.
    pub closing: bool,
    /// The bounds in force.
    pub limits: Limits,
}

#[derive(Debug)]
pub(super) struct Queue {
    state: Mutex<Inner>,
    /// Something for the writer.
    wake: Condvar,
    /// The writer has ended.
    done: Condvar,
    room: Arc<Semaphore>,
}

#[derive(Debug)]
struct Inner {
    waiting: VecDeque<Request>,
    tick: bool,
    look: bool,
    closing: bool,
    finished: bool,
    limits: Limits,
}

impl Queue {
    pub(super) fn new(limits: Limits) -> Self {
        let waiting = VecDeque::new();
        Self {
            state: Mutex::new(Inner { waiting, tick: false, look: false, closing: false, finished: false, limits }),
            wake: Condvar::new(),
            done: Condvar::new(),
            room: Arc::new(Semaphore::new(ROOM as usize)),
        }
    }

    /// Waits for room for `draft`; in the order of the calls.
    pub(super) async fn room(&self, draft: &Draft) -> Result<OwnedSemaphorePermit, StoreError> {
        let units = u32::try_from(size(draft) / UNIT + 1).unwrap_or(ROOM).min(ROOM);
        Arc::clone(&self.room).acquire_many_owned(units).await.map_err(|_| StoreError::Closed)
    }

    /// Puts an event into the queue. Whoever finds it empty gets the duty to wake the writer, which dropping does; what
    /// is put in until then is woken for as well.
    pub(super) fn push(&self, request: Request) -> Result<Option<Wake<'_>>, StoreError> {
        let mut state = self.lock();
        if state.closing {
            return Err(StoreError::Closed);
        }
        let first = state.waiting.is_empty();
        state.waiting.push_back(request);
        Ok(first.then_some(Wake(self)))
    }

    /// How many events wait for the writer.
    pub(super) fn waiting(&self) -> usize {
        self.lock().waiting.len()
    }

    /// The watchdog asks.
    pub(super) fn tick(&self) {
        self.lock().tick = true;
        self.wake.notify_one();
    }

    pub(super) fn set_limits(&self, limits: Limits) {
        let mut state = self.lock();
        state.limits = limits;
        state.look = true;
        drop(state);
        self.wake.notify_one();
    }

    /// Lets nothing in any more.
    pub(super) fn close(&self) {
        self.room.close();
        self.lock().closing = true;
        self.wake.notify_one();
    }

    /// What there is to do, after at most `patience`.
    pub(super) fn next(&self, patience: Duration) -> Work {
        let idle = |s: &mut Inner| s.waiting.is_empty() && !s.tick && !s.look && !s.closing;
        let (mut state, _) =
            self.wake.wait_timeout_while(self.lock(), patience, idle).unwrap_or_else(PoisonError::into_inner);
        let mut batch = Vec::with_capacity(state.waiting.len().min(BATCH_EVENTS));
        let mut bytes = 0;
        while batch.len() < BATCH_EVENTS && bytes < BATCH_BYTES {
            let Some(request) = state.waiting.pop_front() else { break };
            bytes += size(&request.draft);
            batch.push(request);
        }
        state.look = false;
        Work { batch, tick: std::mem::take(&mut state.tick), closing: state.closing, limits: state.limits }
    }

    /// The writer has ended; whoever still waits learns it.
    pub(super) fn finish(&self) {
        self.room.close();
        let mut state = self.lock();
        state.closing = true;
        state.finished = true;
        let orphans = std::mem::take(&mut state.waiting);
        drop(state);
        // Dropping a request drops its answer, which the appender takes for `Closed`.
        drop(orphans);
        self.done.notify_all();
    }

    pub(super) fn wait_until_finished(&self, deadline: Instant) -> bool {
        let mut state = self.lock();
        while !state.finished {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            state = self.done.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The duty to wake the writer; see [`Queue::push`].
#[derive(Debug)]
pub(super) struct Wake<'a>(&'a Queue);

impl Drop for Wake<'_> {
    fn drop(&mut self) {
        self.0.wake.notify_one();
    }
}

/// The bytes that count for an event.
pub(super) fn size(draft: &Draft) -> usize {
    draft.name.len() + draft.subtype.len() + draft.session.as_ref().map_or(0, String::len) + draft.payload.len()
}
