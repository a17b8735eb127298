//! What the store's component says: the worst of what the two ends of the store know.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::NAME;
use daemon::components::{Components, State};

#[derive(Debug)]
pub(super) struct Health {
    components: Components,
    known: Mutex<Known>,
    /// Whether events are refused; looked at for each group, so without a lock.
    refusing: AtomicBool,
}

#[derive(Debug, Default)]
struct Known {
    /// The store has ended, which nothing mends.
    ended: bool,
    /// Why events are refused.
    refused: Option<String>,
    /// Why events that were accepted stay in the journal.
    behind: Option<String>,
    /// What was lost while it ran.
    lost: Option<String>,
    /// How many damaged events are left out.
    damaged: u64,
    /// What is to be said while all is well.
    note: Option<String>,
}

impl Health {
    pub(super) fn new(components: &Components) -> Self {
        components.set(NAME, State::Starting);
        Self { components: components.clone(), known: Mutex::default(), refusing: AtomicBool::new(false) }
    }

    /// Tells what is known, for the first time.
    pub(super) fn begin(&self) {
        self.tell(&self.lock());
    }

    pub(super) fn note(&self, note: String) {
        let mut known = self.lock();
        known.note = Some(note);
        self.tell(&known);
    }

    /// Said until the process ends, as nothing else tells of it.
    pub(super) fn lost(&self, what: String) {
        tracing::error!("{what}");
        let mut known = self.lock();
        known.lost = Some(what);
        self.tell(&known);
    }

    pub(super) fn damaged(&self, count: u64) {
        let mut known = self.lock();
        known.damaged = count;
        self.tell(&known);
    }

    pub(super) fn panicked(&self) {
        let mut known = self.lock();
        known.ended = true;
        self.tell(&known);
    }

    pub(super) fn refuses(&self, reason: &str) {
        let mut known = self.lock();
        self.refusing.store(true, Ordering::Release);
        if known.refused.as_deref() != Some(reason) {
            tracing::error!("events cannot be stored: {reason}");
            known.refused = Some(reason.to_owned());
            self.tell(&known);
        }
    }

    pub(super) fn accepts(&self) {
        if self.refusing.swap(false, Ordering::AcqRel) {
            tracing::info!("events are stored again");
            let mut known = self.lock();
            known.refused = None;
            self.tell(&known);
        }
    }

    pub(super) fn falls_behind(&self, reason: &str) {
        let mut known = self.lock();
        if known.behind.as_deref() != Some(reason) {
            tracing::error!("events wait in the journal: {reason}");
            known.behind = Some(reason.to_owned());
            self.tell(&known);
        }
    }

    pub(super) fn keeps_up(&self) {
        let mut known = self.lock();
        if known.behind.take().is_some() {
            tracing::info!("the database takes events again");
            self.tell(&known);
        }
    }

    fn tell(&self, known: &Known) {
        let because = |state, why: &str| self.components.set_because(NAME, state, why);
        match known {
            Known { ended: true, .. } => because(State::Degraded, "the writer ended with a panic"),
            Known { refused: Some(reason), .. } => because(State::Degraded, reason),
            Known { behind: Some(reason), .. } => {
                because(State::Degraded, &format!("{reason}; events are kept in the journal"));
            }
            Known { lost: Some(what), .. } => because(State::Degraded, what),
            Known { damaged: 1, .. } => because(State::Degraded, "a damaged event of the database is left out"),
            Known { damaged: 2.., .. } => {
                because(State::Degraded, &format!("{} damaged events of the database are left out", known.damaged));
            }
            Known { note: Some(note), .. } => because(State::Ok, note),
            _ => self.components.set(NAME, State::Ok),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
