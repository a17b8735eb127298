//! The one thread that writes: groups of events, and between them the removal of old ones.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, TransactionBehavior};

use super::queue::{Queue, Request, Work, size};
use super::reader::Reader;
use super::retention::{CHUNK, Held, Limits, excess};
use super::schema::{self, Opened};
use super::{NAME, OnCommit, Shared, StoreConfig, StoreError, set_aside_note};
use crate::events::model::Event;
use crate::runtime::components::{Components, State};
use crate::runtime::pulse::Probe;

/// How long to sleep when nothing happens; events grow too old no sooner than someone can tell.
const IDLE: Duration = Duration::from_secs(60);
/// Free pages are given back to the file system, so many at a time, ...
const VACUUM_PAGES: u64 = 256;
/// ... once they are at least this part of the file; fewer will be used again soon.
const VACUUM_SHARE: u64 = 4;

/// What the writer needs besides the database.
pub(super) struct Surroundings {
    pub config: StoreConfig,
    pub reader: Arc<Reader>,
    /// Held as long as the writer lives.
    pub _lock: File,
    pub queue: Arc<Queue>,
    pub shared: Arc<Shared>,
    pub probe: Arc<Probe>,
    pub components: Components,
    /// What the component says while all is well, if anything.
    pub note: Option<String>,
    pub on_commit: OnCommit,
}

pub(super) struct Writer {
    // In this order: the database is closed before its lock is given up.
    conn: Connection,
    around: Surroundings,
    last: u64,
    oldest: u64,
    /// When the oldest was accepted, microseconds since 1970.
    oldest_accepted: i64,
    /// The used bytes when they were last looked up, and what came since.
    bytes: u64,
    unmeasured: u64,
    limits: Option<Limits>,
    epoch: String,
    /// Why writing fails at the moment.
    trouble: Option<String>,
    /// Set from when damage is met until a fresh database is in place.
    damage: Option<Damage>,
}

/// A database that has to be replaced.
#[derive(Default)]
struct Damage {
    /// Where it went, once it is out of the way.
    aside: Option<PathBuf>,
}

/// Tells everyone that the writer has ended, however it did.
struct Finish {
    queue: Arc<Queue>,
    components: Components,
}

impl Drop for Finish {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.components.set_because(NAME, State::Degraded, "the writer ended with a panic");
        }
        self.queue.finish();
    }
}

impl Writer {
    pub(super) fn new(opened: Opened, around: Surroundings) -> Result<Self, StoreError> {
        let path = around.config.path.clone();
        let mut writer = Self {
            conn: opened.conn,
            around,
            last: opened.last,
            oldest: 0,
            oldest_accepted: 0,
            bytes: 0,
            unmeasured: 0,
            limits: None,
            epoch: opened.epoch,
            trouble: opened.unmarked,
            damage: None,
        };
        let mut look = || {
            writer.find_oldest()?;
            writer.measure()
        };
        look().map_err(|source| StoreError::Open { path, source })?;
        Ok(writer)
    }

    /// Works until the queue is closed and empty.
    pub(super) fn run(self) {
        // Declared first, so dropped last: who waits for the end finds the database closed.
        let _finish = Finish { queue: Arc::clone(&self.around.queue), components: self.around.components.clone() };
        let mut writer = self;
        let mut patience = IDLE;
        loop {
            let Work { batch, tick, closing, limits } = writer.around.queue.next(patience);
            if tick {
                writer.around.probe.answer();
            }
            if !batch.is_empty() {
                writer.store(batch);
            } else if closing {
                break;
            }
            patience = if writer.prune(limits) { Duration::ZERO } else { IDLE };
        }
        writer.end();
    }

    /// Commits a batch and tells: subscribers first, then the appenders.
    fn store(&mut self, batch: Vec<Request>) {
        let accepted = Timestamp::now().as_microsecond();
        if let Err(reason) = self.insert_or_heal(&batch, accepted) {
            for request in batch {
                // Whoever no longer waits does not need to know.
                let _ = request.answer.send(Err(StoreError::Degraded { reason: reason.clone() }));
            }
            return;
        }
        let counters = &self.around.shared.counters;
        counters.events.fetch_add(batch.len() as u64, Ordering::Relaxed);
        counters.batches.fetch_add(1, Ordering::Relaxed);
        self.recover();
        if self.oldest > self.last {
            self.oldest = self.last + 1;
            self.oldest_accepted = accepted;
        }
        let stamp = Timestamp::from_microsecond(accepted).unwrap_or(Timestamp::UNIX_EPOCH);
        let mut events = Vec::with_capacity(batch.len());
        let mut waiting = Vec::with_capacity(batch.len());
        for Request { draft, answer, _room } in batch {
            self.last += 1;
            self.unmeasured += size(&draft) as u64;
            events.push(Arc::new(Event { seq: self.last, accepted: stamp, draft }));
            waiting.push((answer, self.last));
        }
        self.around.shared.last.store(self.last, Ordering::Release);
        (self.around.on_commit)(&events);
        for (answer, seq) in waiting {
            let _ = answer.send(Ok(seq));
        }
    }

    /// Inserts; if the database is damaged, into a fresh one. Else says why not.
    fn insert_or_heal(&mut self, batch: &[Request], accepted: i64) -> Result<(), String> {
        self.heal()?;
        let Err(error) = self.insert(batch, accepted) else { return Ok(()) };
        let reason = self.fail(&error);
        if self.damage.is_none() {
            return Err(reason);
        }
        self.heal()?;
        self.insert(batch, accepted).map_err(|error| self.fail(&error))
    }

    /// Puts a fresh database in the place of a damaged one. Nothing else helps, and without it every event from now on
    /// would be lost; the damaged one stays for whoever can read it.
    fn heal(&mut self) -> Result<(), String> {
        let Some(damage) = &mut self.damage else { return Ok(()) };
        let config = &self.around.config;
        let replaced = self.around.reader.reopen_after(&config.path, || {
            let memory = Connection::open_in_memory();
            // Let go of the damaged file before it is renamed.
            self.conn = memory.map_err(|source| StoreError::Open { path: config.path.clone(), source })?;
            self.conn = schema::begin_anew(config, &self.epoch, self.last, &mut damage.aside)?;
            Ok(())
        });
        if let Err(error) = replaced {
            let reason = error.to_string();
            self.around.components.set_because(NAME, State::Degraded, &*reason);
            self.trouble = Some(reason.clone());
            return Err(reason);
        }
        if let Some(aside) = &damage.aside {
            self.around.note = Some(set_aside_note(config, aside));
        }
        self.damage = None;
        self.limits = None;
        self.find_oldest().and_then(|()| self.measure()).map_err(|error| self.fail(&error))
    }

    fn insert(&mut self, batch: &[Request], accepted: i64) -> rusqlite::Result<()> {
        let first = self.last + 1;
        let tx = self.conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
        {
            let mut insert = tx.prepare_cached(
                "INSERT INTO events (seq, accepted, name, subtype, session, payload) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            )?;
            for (seq, Request { draft, .. }) in (first..).zip(batch) {
                let seq = seq.cast_signed();
                insert.execute((seq, accepted, &draft.name, &draft.subtype, &draft.session, &*draft.payload))?;
            }
        }
        tx.commit()
    }

    /// Removes at most a piece of what is too much; true if there may be more to do.
    fn prune(&mut self, limits: Limits) -> bool {
        // While writing fails there is no room for a removal either.
        if self.trouble.is_some() {
            return false;
        }
        match self.try_prune(limits) {
            Ok(more) => more,
            Err(error) => {
                self.fail(&error);
                if self.damage.is_some() && self.heal().is_ok() {
                    self.recover();
                }
                false
            }
        }
    }

    fn try_prune(&mut self, limits: Limits) -> rusqlite::Result<bool> {
        if self.unmeasured >= limits.stride() || self.limits != Some(limits) {
            self.measure()?;
            self.limits = Some(limits);
        }
        let held = Held { oldest: self.oldest, last: self.last, bytes: self.bytes };
        let mut through = excess(&limits, held);
        let cutoff = limits.cutoff(Timestamp::now().as_microsecond());
        if self.oldest <= self.last && self.oldest_accepted < cutoff {
            through = through.max(self.expired(cutoff)?);
        }
        match through {
            Some(through) => {
                self.remove(through)?;
                Ok(true)
            }
            None => self.give_back(),
        }
    }

    /// The number up to which events are too old, of the oldest [`CHUNK`].
    fn expired(&self, cutoff: i64) -> rusqlite::Result<Option<u64>> {
        let sql = "SELECT max(seq) FROM (SELECT seq, accepted FROM events ORDER BY seq LIMIT ?1) WHERE accepted < ?2";
        let seq: Option<i64> =
            self.conn.prepare_cached(sql)?.query_row((CHUNK.cast_signed(), cutoff), |row| row.get(0))?;
        Ok(seq.map(i64::unsigned_abs))
    }

    fn remove(&mut self, through: u64) -> rusqlite::Result<()> {
        let tx = self.conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
        // In the same transaction, so that no number is ever given twice.
        schema::put(&tx, "seq", &self.last.to_string())?;
        let gone = tx.prepare_cached("DELETE FROM events WHERE seq <= ?1")?.execute([through.cast_signed()])?;
        tx.commit()?;
        self.around.shared.counters.pruned.fetch_add(gone as u64, Ordering::Relaxed);
        self.find_oldest()?;
        self.measure()
    }

    /// Gives a piece of the free pages back to the file system if they are many.
    fn give_back(&mut self) -> rusqlite::Result<bool> {
        // Only a removal, after which `unmeasured` is zero, makes pages free.
        if self.unmeasured > 0 {
            return Ok(false);
        }
        let free = self.pragma("freelist_count")?;
        if free < VACUUM_PAGES || free < self.pragma("page_count")? / VACUUM_SHARE {
            return Ok(false);
        }
        let mut vacuum = self.conn.prepare_cached(&format!("PRAGMA incremental_vacuum({VACUUM_PAGES})"))?;
        let mut rows = vacuum.query([])?;
        while rows.next()?.is_some() {}
        Ok(true)
    }

    fn find_oldest(&mut self) -> rusqlite::Result<()> {
        let oldest: Option<(i64, i64)> = self
            .conn
            .prepare_cached("SELECT seq, accepted FROM events ORDER BY seq LIMIT 1")?
            .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        (self.oldest, self.oldest_accepted) =
            oldest.map_or((self.last + 1, i64::MAX), |(seq, accepted)| (seq.unsigned_abs(), accepted));
        Ok(())
    }

    fn measure(&mut self) -> rusqlite::Result<()> {
        let used = self.pragma("page_count")?.saturating_sub(self.pragma("freelist_count")?);
        self.bytes = used * self.pragma("page_size")?;
        self.unmeasured = 0;
        Ok(())
    }

    fn pragma(&self, name: &str) -> rusqlite::Result<u64> {
        let value: i64 = self.conn.prepare_cached(&format!("PRAGMA {name}"))?.query_row([], |row| row.get(0))?;
        Ok(value.unsigned_abs())
    }

    fn fail(&mut self, error: &rusqlite::Error) -> String {
        self.around.shared.counters.errors.fetch_add(1, Ordering::Relaxed);
        if schema::is_damage_code(error) {
            self.damage.get_or_insert_default();
        }
        let reason = schema::describe(error, &self.around.config.path);
        if self.trouble.as_ref() != Some(&reason) {
            tracing::error!("events cannot be stored: {reason}");
            self.around.components.set_because(NAME, State::Degraded, &*reason);
            self.trouble = Some(reason.clone());
        }
        reason
    }

    fn recover(&mut self) {
        if self.trouble.take().is_some() {
            tracing::info!("events are stored again");
            match &self.around.note {
                Some(note) => self.around.components.set_because(NAME, State::Ok, note),
                None => self.around.components.set(NAME, State::Ok),
            }
        }
    }

    /// Leaves one complete file behind.
    fn end(self) {
        let tidy = || {
            schema::put(&self.conn, "clean", "yes")?;
            self.conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
        };
        if let Err(error) = tidy() {
            // All the same complete: the next start reads the rest from the log beside the file.
            tracing::warn!("the store could not be tidied up: {}", schema::describe(&error, &self.around.config.path));
        }
    }
}
