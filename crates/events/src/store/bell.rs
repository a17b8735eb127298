//! How the indexer is woken: seldom, for it gathers, and each waking takes time from the posts.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::retention::Limits;

/// See the module.
#[derive(Debug)]
pub(super) struct Bell {
    /// Whether the indexer knows that there are events for it.
    known: AtomicBool,
    state: Mutex<Inner>,
    wake: Condvar,
    done: Condvar,
}

#[derive(Debug)]
struct Inner {
    more: bool,
    look: bool,
    tick: bool,
    closing: bool,
    finished: bool,
    /// By when the indexer is to have ended.
    deadline: Option<Instant>,
    limits: Limits,
}

/// What the indexer is woken for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rung {
    /// The watchdog asks.
    pub tick: bool,
    /// There were new events after a time without any.
    pub more: bool,
    /// Nothing comes any more.
    pub closing: bool,
    pub deadline: Option<Instant>,
    pub limits: Limits,
}

impl Bell {
    pub(super) fn new(limits: Limits) -> Self {
        let inner =
            Inner { more: false, look: false, tick: false, closing: false, finished: false, deadline: None, limits };
        Self { known: AtomicBool::new(false), state: Mutex::new(inner), wake: Condvar::new(), done: Condvar::new() }
    }

    /// There are new events. Rings only if the indexer has looked since it was told last.
    pub(super) fn more(&self) {
        // Not a plain load: the new number must be seen by whoever resets this, see `heard`.
        if !self.known.swap(true, Ordering::SeqCst) {
            self.lock().more = true;
            self.wake.notify_one();
        }
    }

    /// Before the indexer looks how far the events reach: what comes later rings again.
    pub(super) fn heard(&self) {
        self.known.swap(false, Ordering::SeqCst);
    }

    /// The bounds may be exceeded.
    pub(super) fn look(&self) {
        self.lock().look = true;
        self.wake.notify_one();
    }

    /// The watchdog asks.
    pub(super) fn tick(&self) {
        self.lock().tick = true;
        self.wake.notify_one();
    }

    pub(super) fn set_limits(&self, limits: Limits) {
        self.lock().limits = limits;
        self.look();
    }

    /// No events come any more.
    pub(super) fn close(&self) {
        self.lock().closing = true;
        self.wake.notify_one();
    }

    /// By when the indexer is to have ended, once it is closed.
    pub(super) fn end_by(&self, deadline: Instant) {
        self.lock().deadline = Some(deadline);
    }

    /// Waits for something, at most `patience`. New events alone do not end a wait that is `gathering`.
    pub(super) fn wait(&self, patience: Duration, gathering: bool) -> Rung {
        let nothing = |s: &mut Inner| !(s.tick || s.look || s.closing || (s.more && !gathering));
        let (mut state, _) =
            self.wake.wait_timeout_while(self.lock(), patience, nothing).unwrap_or_else(PoisonError::into_inner);
        state.look = false;
        Rung {
            tick: std::mem::take(&mut state.tick),
            more: std::mem::take(&mut state.more),
            closing: state.closing,
            deadline: state.deadline,
            limits: state.limits,
        }
    }

    /// The indexer has ended.
    pub(super) fn finish(&self) {
        self.lock().finished = true;
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
