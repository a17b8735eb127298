//! What makes an event accepted: its group is numbered, written to the journal, told to the subscribers and answered.
//!
//! Whoever holds the lock commits: usually the first poster of a turn of the event loop, on its own thread, because a
//! write to the kernel's cache takes less than waking another thread. Where a write may take long (`durable`, or after
//! one that did) the store's thread does it, and the event loop goes on.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::oneshot;

use super::bell::Bell;
use super::health::Health;
use super::journal::{self, Journal};
use super::queue::{Queue, Request};
use super::{OnCommit, Shared, StoreError};
use crate::model::Event;
use daemon::pulse::{Probe, Pulse};

/// A write that takes longer holds up the event loop, as on a disk that stalls. On a machine with ten times the work that
/// it can do, none of 2,500 writes took 7 ms.
const STALL: Duration = Duration::from_millis(50);
/// The time after such a write during which the store's thread writes.
const WARY: Duration = Duration::from_secs(5);
/// A buffer that a large group has made larger is not kept.
const BUFFER: usize = 256 << 10;
/// How long the thread sleeps when nothing happens.
const IDLE: Duration = Duration::from_secs(60);

/// What a commit needs besides the journal.
pub(super) struct Surroundings {
    pub database: PathBuf,
    pub durable: bool,
    pub queue: Arc<Queue>,
    pub shared: Arc<Shared>,
    pub health: Arc<Health>,
    pub bell: Arc<Bell>,
}

pub(super) struct Committer {
    core: Mutex<Core>,
    around: Surroundings,
    caution: Caution,
}

/// Whether the event loop leaves writing to the store's thread, as the disk stalls.
struct Caution {
    began: Instant,
    /// The end of it, in milliseconds after `began`.
    until: AtomicU64,
}

impl Caution {
    fn new(began: Instant) -> Self {
        Self { began, until: AtomicU64::new(0) }
    }

    fn is_due(&self, now: Instant) -> bool {
        self.millis(now) < self.until.load(Ordering::Relaxed)
    }

    /// Notes a write that took so long; true if caution begins with it.
    fn wrote(&self, now: Instant, took: Duration) -> bool {
        if took <= STALL {
            return false;
        }
        let begins = !self.is_due(now);
        self.until.store(self.millis(now + WARY), Ordering::Relaxed);
        begins
    }

    fn millis(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.began).as_millis()).unwrap_or(u64::MAX)
    }
}

struct Core {
    journal: Journal,
    last: u64,
    on_commit: OnCommit,
    buffer: Vec<u8>,
}

impl Committer {
    pub(super) fn new(journal: Journal, last: u64, on_commit: OnCommit, around: Surroundings) -> Self {
        let core = Core { journal, last, on_commit, buffer: Vec::new() };
        Self { core: Mutex::new(core), around, caution: Caution::new(Instant::now()) }
    }

    /// Commits what waits, on the caller's thread, if that promises to be quick. False if the store's thread is to.
    pub(super) fn commit_here(&self) -> bool {
        if self.around.durable || self.caution.is_due(Instant::now()) {
            return false;
        }
        loop {
            let mut core = match self.core.try_lock() {
                Ok(core) => core,
                // The thread writes at this moment, or has ended, and that is told.
                Err(TryLockError::WouldBlock | TryLockError::Poisoned(_)) => return false,
            };
            let group = self.around.queue.take();
            if group.is_empty() {
                return true;
            }
            // A panic of the subscribers' side ends the store, as it does on its thread, not the poster's task.
            let answers = catch_unwind(AssertUnwindSafe(|| self.commit_group(&mut core, group)));
            drop(core);
            let Ok(answers) = answers else {
                self.around.health.panicked();
                self.around.queue.finish();
                return true;
            };
            tell(answers);
        }
    }

    /// Commits what waits.
    fn commit(&self) {
        loop {
            let mut core = self.core.lock().unwrap_or_else(PoisonError::into_inner);
            let group = self.around.queue.take();
            if group.is_empty() {
                return;
            }
            let answers = self.commit_group(&mut core, group);
            // Before the answers: who gets one is likely to come with the next event, and to write it without us.
            drop(core);
            tell(answers);
        }
    }

    fn commit_group(&self, core: &mut Core, group: Vec<Request>) -> Vec<Answer> {
        let (group, refused) = self.around.shared.cursors.sort(group);
        if group.is_empty() {
            return refused;
        }
        // Whole microseconds, as the journal and the database have it.
        let accepted = Timestamp::from_microsecond(Timestamp::now().as_microsecond()).unwrap_or(Timestamp::UNIX_EPOCH);
        let count = group.len() as u64;
        if let Err(error) = self.write(core, &group, accepted) {
            let reason = self.refused(&error);
            let refusal = || Err(StoreError::Degraded { reason: reason.clone() });
            return group.into_iter().map(|request| (request.answer, refusal())).chain(refused).collect();
        }
        let shared = &self.around.shared;
        shared.counters.events.fetch_add(count, Ordering::Relaxed);
        shared.counters.batches.fetch_add(1, Ordering::Relaxed);
        self.around.health.accepts();
        let mut events = Vec::with_capacity(group.len());
        let mut answers = refused;
        answers.reserve(group.len());
        for Request { draft, answer, arrival, key, _room } in group {
            core.last += 1;
            if let Some(key) = key {
                shared.keys.note(core.last, key);
            }
            let origin = arrival.map(|(origin, _)| origin);
            if let Some(origin) = &origin {
                shared.cursors.reach(&origin.node, &origin.epoch, origin.seq);
            }
            events.push(Arc::new(Event { seq: core.last, accepted, origin, draft }));
            answers.push((answer, Ok(core.last)));
        }
        shared.last.store(core.last, Ordering::SeqCst);
        self.around.bell.more();
        (core.on_commit)(&events);
        answers
    }

    /// Writes the journal anew where its files are gone, see [`Journal::rescue`]. Nothing is committed meanwhile, and
    /// nothing at all after this has failed until it succeeds.
    pub(super) fn rescue(&self, memory: &[Arc<Event>]) -> std::io::Result<()> {
        let mut core = self.core.lock().unwrap_or_else(PoisonError::into_inner);
        let rescued = core.journal.rescue(memory, &self.around.shared.segments);
        match &rescued {
            Ok(()) => self.around.health.accepts(),
            Err(error) => drop(self.refused(error)),
        }
        rescued
    }

    /// Takes no more events until [`Committer::rescue`] succeeds: its files are gone, and nothing may be put in their place.
    pub(super) fn strand(&self, reason: &str) {
        self.core.lock().unwrap_or_else(PoisonError::into_inner).journal.strand();
        self.around.health.refuses(reason);
    }

    fn write(&self, core: &mut Core, group: &[Request], accepted: Timestamp) -> std::io::Result<()> {
        let first = core.last + 1;
        core.buffer.clear();
        core.buffer.shrink_to(BUFFER);
        for (seq, request) in (first..).zip(group) {
            let origin = request.arrival.as_ref().map(|(origin, _)| &**origin);
            if let Some(key) = request.key {
                journal::encode_key(&mut core.buffer, key);
            }
            journal::encode(&mut core.buffer, seq, accepted, origin, &request.draft)?;
        }
        let before = Instant::now();
        let written = core.journal.append(first, &core.buffer, &self.around.shared.segments);
        let (now, took) = (Instant::now(), before.elapsed());
        if !self.around.durable && self.caution.wrote(now, took) {
            let ms = took.as_millis() as u64;
            tracing::info!(ms, "writes to the journal are slow; the store's thread does them");
        }
        if written? {
            // A new segment: time to see whether the bounds still hold. Should the indexer not get to it, the journal
            // alone keeps within them all the same.
            let shared = &self.around.shared;
            shared.segments.shrink_to(shared.max_bytes.load(Ordering::Relaxed));
            self.around.bell.look();
        }
        Ok(())
    }

    fn refused(&self, error: &std::io::Error) -> String {
        self.around.shared.counters.errors.fetch_add(1, Ordering::Relaxed);
        let path = self.around.database.display();
        let reason = match error.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
                format!("the disk that holds {path} is full")
            }
            _ => format!("writing to the journal of {path} failed ({error})"),
        };
        self.around.health.refuses(&reason);
        reason
    }
}

/// An appender, and what it is told.
type Answer = (oneshot::Sender<Result<u64, StoreError>>, Result<u64, StoreError>);

fn tell(answers: Vec<Answer>) {
    for (appender, answer) in answers {
        // Whoever no longer waits does not need to know.
        let _ = appender.send(answer);
    }
}

/// Tells everyone that the thread has ended, however it did.
struct Finish(Arc<Committer>);

impl Drop for Finish {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.around.health.panicked();
        }
        self.0.around.queue.finish();
        self.0.around.bell.close();
    }
}

/// The store's thread: until the queue is closed and empty it answers the watchdog, and commits what is left to it.
pub(super) fn run(committer: Arc<Committer>, pulse: &Pulse, probe: &Arc<Probe>) {
    let finish = Finish(Arc::clone(&committer));
    let queue = &committer.around.queue;
    while let Some(work) = queue.next(IDLE) {
        if work.tick {
            probe.answer();
        }
        if work.handed {
            committer.commit();
        } else if work.closing {
            // Also what no poster will come to any more, and not before the one that writes now has ended.
            committer.commit();
            pulse.retire(probe);
            break;
        }
    }
    drop(finish);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stall_makes_cautious_for_a_while_and_is_told_once() {
        let began = Instant::now();
        let (caution, second) = (Caution::new(began), Duration::from_secs(1));
        assert!(!caution.wrote(began + second, STALL) && !caution.is_due(began + second), "a busy machine is no stall");
        assert!(caution.wrote(began + second, STALL * 2) && caution.is_due(began + second));
        assert!(!caution.wrote(began + 2 * second, STALL * 2), "it is known already");
        let end = began + 2 * second + WARY;
        assert!(caution.is_due(end - second) && !caution.is_due(end));
        assert!(caution.wrote(end, STALL * 2));
    }
}
