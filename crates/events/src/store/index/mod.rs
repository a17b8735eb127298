//! The indexer: moves accepted events from the journal into the database when there is time, and removes old ones (`prune`).
//!
//! It gathers events for a moment and inserts them in large transactions. While posts flood in it rests between them, so
//! that it does not take the processor from those; what the flood itself pushes out of the bounds is never inserted.

mod prune;

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rusqlite::{Connection, TransactionBehavior};

use super::bell::{Bell, Rung};
use super::commit::Committer;
use super::files::Files;
use super::health::Health;
use super::journal::Walk;
use super::reader::Reader;
use super::retention::Limits;
use super::schema::{self, Opened, Run};
use super::{Shared, StoreConfig, StoreError, gone_note, set_aside_note};
use crate::model::Event;
use daemon::pulse::{Probe, Pulse};

/// How long to sleep when nothing happens; events grow too old no sooner than someone can tell.
const IDLE: Duration = Duration::from_secs(60);
/// How long events are gathered before they are inserted.
const GATHER: Duration = Duration::from_millis(100);
/// The time after which what failed is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// The most events of one transaction, and about the most bytes.
const SLICE: (u64, usize) = (512, 1 << 20);
/// From so many posts a second on, ...
const BUSY: f64 = 4000.0;
/// ... a transaction is followed by a rest so many times as long.
const REST: u32 = 24;
/// What is left of the time to end in, for the last checkpoint.
const CHECKPOINT: Duration = Duration::from_millis(500);
/// How often it is looked whether the files are still there.
const LOOK: Duration = Duration::from_secs(1);

/// What the indexer needs besides the database.
pub(super) struct Surroundings {
    pub config: StoreConfig,
    pub reader: Arc<Reader>,
    /// Held as long as the indexer lives, which ends last.
    pub lock: File,
    pub committer: Arc<Committer>,
    pub shared: Arc<Shared>,
    pub bell: Arc<Bell>,
    pub pulse: Pulse,
    pub probe: Arc<Probe>,
    pub health: Arc<Health>,
}

pub(super) struct Indexer {
    // In this order: the database is closed before its lock is given up.
    conn: Connection,
    around: Surroundings,
    /// Events up to this number are in the database, or out of bounds.
    indexed: u64,
    /// The oldest number in the database; above `indexed` when there is none.
    oldest: u64,
    /// When the oldest was accepted, microseconds since 1970.
    oldest_accepted: i64,
    /// The used bytes of the database when they were last looked up, and what came since.
    bytes: u64,
    unmeasured: u64,
    limits: Option<Limits>,
    epoch: String,
    lineage: String,
    /// The files as they were opened.
    files: Files,
    /// When they were looked at last.
    looked: Instant,
    walk: Option<Walk>,
    /// When to insert next, if there is anything.
    due: Option<Instant>,
    /// How far the events reached at some moment, to know how busy the posts are.
    seen: (Instant, u64),
    failing: bool,
    /// The version of the other nodes' cursors that the database has.
    noted: u64,
    /// What the database is to be told of this run, and whether it was.
    run: Run,
    marked: bool,
    /// Set from when damage is met until a fresh database is in place.
    damage: Option<Damage>,
}

/// A database that has to be replaced.
#[derive(Default)]
struct Damage {
    /// Where it went, once it is out of the way.
    aside: Option<PathBuf>,
    /// Whether it is gone rather than damaged.
    gone: bool,
}

/// Why events stay in the journal.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error(transparent)]
    Database(#[from] rusqlite::Error),
    #[error("the journal cannot be read ({0})")]
    Journal(#[from] std::io::Error),
}

/// Tells everyone that the indexer has ended, however it did.
struct Finish {
    bell: Arc<Bell>,
    health: Arc<Health>,
}

impl Drop for Finish {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.health.panicked();
        }
        self.bell.finish();
    }
}

impl Indexer {
    pub(super) fn new(opened: Opened, around: Surroundings) -> Result<Self, StoreError> {
        let path = around.config.path.clone();
        let files = Files::of(&path, &around.lock)?;
        let mut indexer = Self {
            files,
            looked: Instant::now(),
            conn: opened.conn,
            indexed: opened.last,
            oldest: 0,
            oldest_accepted: 0,
            bytes: 0,
            unmeasured: 0,
            limits: None,
            epoch: opened.epoch,
            lineage: opened.lineage,
            run: opened.run,
            marked: opened.unmarked.is_none(),
            walk: None,
            due: Some(Instant::now()),
            seen: (Instant::now(), around.shared.last.load(Ordering::SeqCst)),
            failing: opened.unmarked.is_some(),
            noted: 0,
            damage: None,
            around,
        };
        indexer.find_oldest().and_then(|()| indexer.measure()).map_err(|source| StoreError::Open { path, source })?;
        if indexer.indexed >= indexer.around.shared.last.load(Ordering::SeqCst) {
            indexer.remove_all_segments();
        }
        indexer.remove_read_segments();
        Ok(indexer)
    }

    /// Works until no events come any more and all are in the database.
    pub(super) fn run(self) {
        // Declared first, so dropped last: who waits for the end finds the database closed.
        let _finish = Finish { bell: Arc::clone(&self.around.bell), health: Arc::clone(&self.around.health) };
        let mut indexer = self;
        let mut patience = Duration::ZERO;
        let rung = loop {
            let rung = indexer.around.bell.wait(patience, indexer.due.is_some());
            if rung.tick {
                indexer.around.probe.answer();
            }
            if rung.closing {
                break rung;
            }
            if rung.more && indexer.due.is_none() {
                indexer.due = Some(Instant::now() + GATHER);
            }
            patience = indexer.work(rung.limits).min(LOOK);
        };
        indexer.end(&rung);
    }

    /// Does a piece of what there is to do; how long there is nothing else.
    fn work(&mut self, limits: Limits) -> Duration {
        let now = Instant::now();
        let due = self.due.is_some_and(|due| due <= now);
        if self.failing && !due {
            self.around.shared.segments.shrink_to(limits.max_bytes);
            return self.due.map_or(IDLE, |due| due - now);
        }
        match self.try_work(limits, due) {
            Ok(true) => Duration::ZERO,
            Ok(false) => self.due.map_or(IDLE, |due| due.saturating_duration_since(Instant::now())),
            Err(trouble) => {
                self.fail(&trouble);
                self.due = Some(Instant::now() + RETRY);
                // A fresh database helps at once.
                if self.damage.is_some() { Duration::ZERO } else { RETRY }
            }
        }
    }

    /// True if there is more to remove at once.
    fn try_work(&mut self, limits: Limits, due: bool) -> Result<bool, Trouble> {
        if self.around.shared.suspect.swap(false, Ordering::AcqRel) {
            self.damage.get_or_insert_default();
        }
        if self.looked.elapsed() >= LOOK {
            self.find_files()?;
        }
        self.heal()?;
        self.mark()?;
        let more = self.prune(limits)?;
        if due {
            self.index(limits)?;
        }
        if std::mem::take(&mut self.failing) || due {
            self.around.health.keeps_up();
        }
        Ok(more)
    }

    /// Inserts a slice, and says in `due` when the next one comes.
    fn index(&mut self, limits: Limits) -> Result<(), Trouble> {
        // In this order, so that no event is overlooked.
        self.around.bell.heard();
        let through = self.around.shared.last.load(Ordering::SeqCst);
        let began = Instant::now();
        if self.indexed >= through {
            self.due = None;
            return Ok(());
        }
        let rate = (through - self.seen.1) as f64 / (began - self.seen.0).as_secs_f64().max(0.001);
        self.seen = (began, through);
        // What a flood brings will have pushed this out by the time it has ended.
        if rate > BUSY && through - self.indexed > limits.max_events / 2 {
            self.due = Some(began + RETRY);
            return Ok(());
        }
        self.insert(limits, through)?;
        self.remove_read_segments();
        let rest = if rate > BUSY { began.elapsed() * REST } else { Duration::ZERO };
        self.due = Some(Instant::now() + rest);
        Ok(())
    }

    fn insert(&mut self, limits: Limits, through: u64) -> Result<(), Trouble> {
        let cutoff = limits.cutoff(Timestamp::now().as_microsecond());
        self.mark()?;
        let segments = &self.around.shared.segments;
        let (mut last, mut count, mut bytes, mut skipped) = (self.indexed, 0, 0, 0);
        let (mut failed, mut gap) = (None, false);
        // Taken, and put back only if all goes well: what is not committed is read again.
        let mut walk = match self.walk.take() {
            Some(walk) => Some(walk),
            None => Walk::open(segments, self.indexed + 1)?,
        };
        if walk.is_none() && segments.first().is_some_and(|first| first > self.indexed + 1) {
            return Ok(());
        }
        let tx = self.conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
        if let Some(walk) = &mut walk {
            let mut insert = tx.prepare_cached(
                "INSERT INTO events (seq, accepted, name, subtype, session, payload, node, node_epoch, node_seq)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
            )?;
            let damaged = walk.read(segments, through, |record| {
                if record.seq > last + 1 && segments.first().is_some_and(|first| first > last + 1) {
                    // What comes next was just removed for being too much, and so all before it has to go.
                    gap = true;
                    return false;
                }
                let accepted = record.accepted.as_microsecond();
                if accepted < cutoff {
                    skipped += 1;
                } else {
                    let (seq, name, subtype) = (record.seq.cast_signed(), record.name, record.subtype);
                    let (node, epoch, number) = match record.origin {
                        Some((node, epoch, number)) => (Some(node), Some(epoch), Some(number.cast_signed())),
                        None => (None, None, None),
                    };
                    let row = (seq, accepted, name, subtype, record.session, record.payload, node, epoch, number);
                    failed = insert
                        .execute(row)
                        .and_then(|_| record.key.map_or(Ok(()), |key| schema::put_key(&tx, seq, key)))
                        .err();
                }
                last = record.seq;
                count += 1;
                bytes += record.payload.len();
                failed.is_none() && count < SLICE.0 && bytes < SLICE.1
            })?;
            if damaged > 0 {
                tracing::error!(places = damaged, "the journal was damaged after it was written; events are lost");
            }
        }
        if let Some(error) = failed {
            return Err(error.into());
        }
        if gap {
            walk = None;
        } else if count < SLICE.0 && bytes < SLICE.1 && last < through {
            tracing::error!(after = last, through, "the journal has lost events");
            last = through;
            skipped += 1;
        }
        if skipped > 0 {
            schema::put(&tx, "seq", &last.to_string())?;
        }
        let noted = note_cursors(&tx, &self.around.shared, self.noted)?;
        tx.commit()?;
        self.noted = noted;
        self.walk = walk;
        let was_empty = self.oldest > self.indexed;
        self.indexed = last;
        self.unmeasured += bytes as u64;
        self.around.shared.indexed.store(last, Ordering::Release);
        self.around.shared.keys.forget(last);
        self.around.shared.counters.pruned.fetch_add(skipped, Ordering::Relaxed);
        if was_empty {
            self.find_oldest()?;
        }
        Ok(())
    }

    /// Removes the segments all of whose events were dealt with.
    fn remove_read_segments(&mut self) {
        let segments = &self.around.shared.segments;
        while segments.oldest_ends_before().is_some_and(|end| end <= self.indexed + 1) {
            if let Err(error) = segments.remove_oldest() {
                tracing::warn!(%error, "a segment of the journal cannot be removed");
                return;
            }
        }
    }

    /// Removes the journal while nobody writes to it; everything in it is in the database.
    fn remove_all_segments(&self) {
        let segments = &self.around.shared.segments;
        while segments.first().is_some() {
            if let Err(error) = segments.remove_oldest() {
                tracing::warn!(%error, "a segment of the journal cannot be removed");
                return;
            }
        }
    }

    /// Events up to `through` are out of bounds.
    fn skip_to(&mut self, through: u64) {
        if through > self.indexed {
            let skipped = through - self.indexed;
            self.around.shared.counters.pruned.fetch_add(skipped, Ordering::Relaxed);
            self.indexed = through;
            self.walk = None;
            self.around.shared.indexed.store(through, Ordering::Release);
            self.around.shared.keys.forget(through);
        }
    }

    fn fail(&mut self, trouble: &Trouble) {
        self.failing = true;
        self.around.shared.counters.errors.fetch_add(1, Ordering::Relaxed);
        let reason = match trouble {
            Trouble::Database(error) => {
                if schema::is_damage_code(error) {
                    self.damage.get_or_insert_default();
                }
                schema::describe(error, &self.around.config.path)
            }
            Trouble::Journal(_) => trouble.to_string(),
        };
        self.around.health.falls_behind(&reason);
    }

    /// Notes in the database that this run has begun, if that could not be done at the start.
    fn mark(&mut self) -> rusqlite::Result<()> {
        if !self.marked {
            schema::begin(&mut self.conn, &self.run)?;
            self.marked = true;
        }
        Ok(())
    }

    /// Looks whether the files that are open are those in the directory. What is gone is made again; a database that is
    /// gone, or replaced by another one, is for [`Indexer::heal`].
    fn find_files(&mut self) -> Result<(), Trouble> {
        self.looked = Instant::now();
        let there = (self.files.has_lock(), self.files.has_database(), self.around.shared.segments.newest_is_there());
        if there == (true, true, true) {
            return Ok(());
        }
        let (has_lock, has_database, _) = there;
        let path = self.around.config.path.clone();
        if !has_lock && let Err(error) = self.lock_again() {
            self.around.committer.strand(&error.to_string());
            return Err(std::io::Error::other(error.to_string()).into());
        }
        if !has_database {
            self.damage.get_or_insert_default().gone = true;
            return Ok(());
        }
        tracing::error!(path = %path.display(), "files beside the database were removed while it is in use; they are made again");
        let mut memory = self.memory();
        memory.retain(|event| event.seq > self.indexed);
        self.around.committer.rescue(&memory)?;
        self.walk = None;
        self.files = Files::of(&path, &self.around.lock).map_err(|e| std::io::Error::other(e.to_string()))?;
        self.due = Some(Instant::now());
        Ok(())
    }

    /// Takes the lock of the directory that is there now, which is made if it is not.
    fn lock_again(&mut self) -> Result<(), StoreError> {
        let path = &self.around.config.path;
        let lock = schema::beside(path, ".lock");
        match schema::prepare(path, &lock)? {
            Some(held) => {
                schema::note_database(path, &held)?;
                self.around.lock = held;
                Ok(())
            }
            None => Err(StoreError::ReadOnly { path: lock }),
        }
    }

    /// The newest events that are in memory, oldest first.
    fn memory(&self) -> Vec<Arc<Event>> {
        self.around.shared.memory.get().map_or_else(Vec::new, |memory| memory())
    }

    /// Puts a fresh database in the place of one that is damaged or gone, and into it what memory and journal still have.
    /// Nothing else helps; a damaged one stays for whoever can read it.
    fn heal(&mut self) -> Result<(), Trouble> {
        if self.damage.is_none() {
            return Ok(());
        }
        self.around.committer.rescue(&self.memory())?;
        let Some(damage) = &mut self.damage else { return Ok(()) };
        let config = &self.around.config;
        let known = self.around.shared.segments.first().map_or(self.indexed, |first| first - 1);
        let replaced = self.around.reader.reopen_after(&config.path, || {
            let memory = Connection::open_in_memory();
            // Let go of the damaged file before it is renamed.
            self.conn = memory.map_err(|source| StoreError::Open { path: config.path.clone(), source })?;
            self.conn = schema::begin_anew(config, (&self.lineage, &self.epoch), known, &mut damage.aside)?;
            Ok(())
        });
        replaced.map_err(|error| std::io::Error::other(error.to_string()))?;
        self.files = Files::of(&config.path, &self.around.lock).map_err(|e| std::io::Error::other(e.to_string()))?;
        if damage.gone {
            self.around.health.lost(gone_note(config, damage.aside.as_deref(), known));
        } else if let Some(aside) = &damage.aside {
            self.around.health.note(set_aside_note(config, aside));
        }
        (self.damage, self.limits, self.walk, self.indexed, self.noted) = (None, None, None, known, 0);
        self.due = Some(Instant::now());
        self.find_oldest()?;
        Ok(self.measure()?)
    }

    /// Leaves one complete file behind, if there is time for it; else the next start goes on.
    fn end(mut self, rung: &Rung) {
        if let Err(trouble) = self.find_files().and_then(|()| self.heal()) {
            self.fail(&trouble);
        }
        let deadline = rung.deadline.unwrap_or_else(|| Instant::now() + 4 * CHECKPOINT) - CHECKPOINT;
        while self.indexed < self.around.shared.last.load(Ordering::SeqCst) && Instant::now() < deadline {
            let (before, through) = (self.indexed, self.around.shared.last.load(Ordering::SeqCst));
            let inserted = self.heal().and_then(|()| self.insert(rung.limits, through));
            if let Err(trouble) = inserted {
                let healable = self.damage.is_none();
                self.fail(&trouble);
                if !(healable && self.damage.is_some()) {
                    break;
                }
            } else if self.indexed == before {
                break;
            }
        }
        let tidy = || {
            note_cursors(&self.conn, &self.around.shared, self.noted)?;
            if self.indexed >= self.around.shared.last.load(Ordering::SeqCst) {
                schema::put(&self.conn, "clean", "yes")?;
            }
            self.conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
        };
        if let Err(error) = tidy() {
            // All the same complete: the next start reads the rest from the log beside the file.
            tracing::warn!("the store could not be tidied up: {}", schema::describe(&error, &self.around.config.path));
        } else if self.indexed >= self.around.shared.last.load(Ordering::SeqCst) {
            self.remove_all_segments();
        }
        self.around.pulse.retire(&self.around.probe);
    }
}

/// Notes how far the events of other nodes have come, before the journal that says it is removed; the version that is noted.
fn note_cursors(conn: &Connection, shared: &Shared, noted: u64) -> rusqlite::Result<u64> {
    if shared.cursors.version() == noted { Ok(noted) } else { shared.cursors.write(conn) }
}
