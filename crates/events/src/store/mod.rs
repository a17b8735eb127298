//! The events on disk: a [`journal`] that they are written to in groups, and behind it SQLite in WAL mode.
//!
//! [`Store::append`] returns only after the event's group was written to the journal, so whatever was answered with
//! success survives `kill -9` (and, with [`StoreConfig::durable`], a power cut). An indexer moves events into the database
//! when there is time, usually within a second. Readers see both as one, on a connection of their own, and never wait for
//! a writer. Anyone may read the database with `sqlite3` while the monitor runs.

mod arrivals;
mod bell;
mod commit;
mod damaged;
mod error;
mod files;
mod health;
mod index;
pub mod journal;
mod keys;
mod queue;
mod reader;
mod retention;
mod schema;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use self::arrivals::Cursors;
pub use self::arrivals::{Arrival, Stored};
use self::bell::Bell;
use self::commit::Committer;
use self::damaged::Damaged;
pub use self::error::StoreError;
use self::health::Health;
use self::index::Indexer;
use self::journal::{Journal, Segments, Unusable};
use self::keys::Recent;
use self::queue::{Queue, Request};
pub use self::reader::{Filter, Page, Place};
use self::reader::{Portion, Reader};
use self::retention::Limits;
use super::key::Key;
use super::model::{Draft, Event, Origin};
use daemon::components::Components;
use daemon::pulse::{Probe, Pulse};

/// The component, and the pulse and thread of what accepts events.
const NAME: &str = "store";
/// The pulse and thread of the indexer.
const INDEXER: &str = "indexer";
/// The stack of each of the two threads.
const STACK: usize = 512 << 10;

/// The most events of a piece.
const PIECE: usize = 256;

/// Where the events are kept, and how many of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreConfig {
    /// The database file. Beside it: `-wal` and `-shm` of SQLite, `.lock`, the journal's `.journal-NUMBER`, and what was
    /// set aside as `.corrupt-TIME`.
    pub path: PathBuf,
    /// Whether an event is accepted only once it is on the disk, not merely in the kernel.
    pub durable: bool,
    /// The most events kept.
    pub max_events: u64,
    /// The most bytes that kept events may take in the database and the journal together.
    pub max_bytes: u64,
    /// How long events are kept.
    pub max_age: Duration,
}

/// Told of each committed group, in the order of the numbers, before the appenders are answered; on the store's thread or
/// on that of an appender. It must not block.
pub type OnCommit = Box<dyn FnMut(&[Arc<Event>]) + Send>;

/// What the store did since it was opened.
#[derive(Debug, Default)]
pub struct Counters {
    /// Events committed.
    pub events: AtomicU64,
    /// Groups that they were committed in.
    pub batches: AtomicU64,
    /// Groups that could not be written, and transactions of the database that failed.
    pub errors: AtomicU64,
    /// Old events removed.
    pub pruned: AtomicU64,
}

/// The open store. Share it in an `Arc`; end it with [`Store::close`].
pub struct Store {
    epoch: String,
    lineage: String,
    shared: Arc<Shared>,
    reader: Arc<Reader>,
    bell: Arc<Bell>,
    /// Absent in a store that only reads.
    writer: Option<Handle>,
    lock: PathBuf,
    set_aside: Option<PathBuf>,
}

/// The newest events that are in memory elsewhere, oldest first.
type Memory = Box<dyn Fn() -> Vec<Arc<Event>> + Send + Sync>;

/// What all parts look at together.
#[derive(Default)]
struct Shared {
    /// The greatest number that was accepted.
    last: AtomicU64,
    /// Events up to this number are in the database, or out of bounds.
    indexed: AtomicU64,
    /// The most bytes that may be kept.
    max_bytes: AtomicU64,
    /// A reader has met damage in the database.
    suspect: AtomicBool,
    segments: Segments,
    counters: Counters,
    cursors: Cursors,
    keys: Recent,
    /// What helps when the files are gone, see [`Store::remember`].
    memory: OnceLock<Memory>,
}

struct Handle {
    queue: Arc<Queue>,
    committer: Arc<Committer>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    pulse: Pulse,
    probe: Arc<Probe>,
}

impl Store {
    /// Opens, checks and if need be makes the database, and starts the writer. Blocks; for long only when the check of
    /// an unclean end has much to read.
    ///
    /// A damaged file is set aside under another name, never deleted, and a fresh one begun. If another process holds
    /// the database, the store only reads, and says so as a degraded component.
    ///
    /// # Errors
    ///
    /// All but `Degraded`, `ReadOnly`, `Closed` and `Read`.
    pub fn open(
        config: StoreConfig,
        pulse: &Pulse,
        components: &Components,
        on_commit: OnCommit,
    ) -> Result<Self, StoreError> {
        let health = Arc::new(Health::new(components));
        let lock = schema::beside(&config.path, ".lock");
        let Some(held) = schema::prepare(&config.path, &lock)? else {
            return Self::follow(&config, &health, lock);
        };
        let mut opened = schema::open(&config, &held)?;
        let found = find_journal(&config, &mut opened)?;
        if let Some(reason) = &opened.renewed {
            tracing::warn!(epoch = opened.epoch, "{reason}; events have a new epoch from here on");
        }
        let mut notes: Vec<String> = opened.set_aside.iter().map(|aside| set_aside_note(&config, aside)).collect();
        notes.extend(found.set_aside.iter().map(|aside| damaged_journal_note(aside)));
        if !notes.is_empty() {
            health.note(notes.join("; "));
        }
        if let Some(reason) = &opened.unmarked {
            health.falls_behind(reason);
        }

        let last = opened.last.max(found.last);
        let limits = Limits::of(&config);
        let shared = Arc::new(Shared {
            last: AtomicU64::new(last),
            indexed: AtomicU64::new(opened.last),
            max_bytes: AtomicU64::new(config.max_bytes),
            segments: Segments::new(found.segments),
            cursors: found.cursors,
            keys: found.keys,
            ..Shared::default()
        });
        shared.keys.forget(opened.last);
        shared.cursors.read(&opened.conn).map_err(|source| StoreError::Open { path: config.path.clone(), source })?;
        let (queue, bell) = (Arc::new(Queue::new()), Arc::new(Bell::new(limits)));
        let (wake, ring) = (Arc::clone(&queue), Arc::clone(&bell));
        let probe = pulse.register_with(NAME, move || wake.tick());
        let indexing = pulse.register_with(INDEXER, move || ring.tick());
        let damaged = Arc::new(Damaged::new(Arc::clone(&health)));
        let reader = Arc::new(Reader::open(&config.path, damaged)?);
        let (epoch, lineage, set_aside) = (opened.epoch.clone(), opened.lineage.clone(), opened.set_aside.clone());
        let committer = Arc::new(Committer::new(
            Journal::new(&config.path, &lineage, config.durable, config.max_bytes),
            last,
            on_commit,
            commit::Surroundings {
                database: config.path.clone(),
                durable: config.durable,
                queue: Arc::clone(&queue),
                shared: Arc::clone(&shared),
                health: Arc::clone(&health),
                bell: Arc::clone(&bell),
            },
        ));
        let indexer = Indexer::new(
            opened,
            index::Surroundings {
                config: config.clone(),
                reader: Arc::clone(&reader),
                lock: held,
                committer: Arc::clone(&committer),
                shared: Arc::clone(&shared),
                bell: Arc::clone(&bell),
                pulse: pulse.clone(),
                probe: indexing,
                health: Arc::clone(&health),
            },
        )?;
        health.begin();
        let indexing = thread(INDEXER, &config, move || indexer.run())?;
        let (theirs, asked, answering) = (Arc::clone(&committer), pulse.clone(), Arc::clone(&probe));
        let committing = thread(NAME, &config, move || commit::run(theirs, &asked, &answering))?;
        let threads = Mutex::new(vec![committing, indexing]);
        let writer = Some(Handle { queue, committer, threads, pulse: pulse.clone(), probe });
        Ok(Self { epoch, lineage, shared, reader, bell, writer, lock, set_aside })
    }

    /// A store that reads what another process writes.
    fn follow(config: &StoreConfig, health: &Arc<Health>, lock: PathBuf) -> Result<Self, StoreError> {
        let reader = Reader::open(&config.path, Arc::new(Damaged::new(Arc::clone(health))))?;
        let (epoch, lineage, last) = reader.identity()?;
        let detail = format!("another process holds {}; events are only read", lock.display());
        health.refuses(&detail);
        let shared = Arc::new(Shared { last: AtomicU64::new(last), ..Shared::default() });
        let bell = Arc::new(Bell::new(Limits::of(config)));
        Ok(Self { epoch, lineage, shared, reader: Arc::new(reader), bell, writer: None, lock, set_aside: None })
    }

    /// Stores an event and returns its number, once it is in the journal.
    ///
    /// Waits while the queue is full. Cancel safe: when the future is dropped, the event was either stored whole (and
    /// subscribers see it) or not at all.
    ///
    /// # Errors
    ///
    /// [`StoreError::Degraded`], [`StoreError::ReadOnly`] or [`StoreError::Closed`]; the event is not stored then, or, if
    /// the process is ending, at least not promised to be.
    pub async fn append(&self, draft: Draft) -> Result<u64, StoreError> {
        self.append_as(draft, None, None).await
    }

    async fn append_as(
        &self,
        draft: Draft,
        arrival: Option<(Arc<Origin>, u64)>,
        key: Option<Key>,
    ) -> Result<u64, StoreError> {
        let Some(writer) = &self.writer else {
            return Err(StoreError::ReadOnly { path: self.lock.clone() });
        };
        let room = writer.queue.room(&draft).await?;
        let (answer, answered) = oneshot::channel();
        if let Some(wake) = writer.queue.push(Request { draft, answer, arrival, key, _room: room })? {
            // One turn for the others first: what they append meanwhile is committed together with this. Should this
            // future be dropped here, the store's thread does it.
            tokio::task::yield_now().await;
            if writer.committer.commit_here() {
                wake.done();
            }
        }
        answered.await.unwrap_or(Err(StoreError::Closed))
    }

    /// The events numbered above `seq` that `filter` lets through, oldest first, at most `limit`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`] or [`StoreError::Closed`].
    pub async fn after(&self, seq: u64, limit: usize, filter: &Filter) -> Result<Page, StoreError> {
        self.read(seq, Portion::page(limit), filter).await
    }

    /// The same, at most so many bytes of them: none where the first one is larger by itself. [`Page::next`] says how large it is.
    ///
    /// # Errors
    ///
    /// As [`Store::after`].
    pub async fn within(&self, seq: u64, bytes: usize, filter: &Filter) -> Result<Page, StoreError> {
        self.read(seq, Portion { events: PIECE, bytes, at_least_one: false }, filter).await
    }

    async fn read(&self, seq: u64, portion: Portion, filter: &Filter) -> Result<Page, StoreError> {
        let (reader, filter) = (Arc::clone(&self.reader), filter.clone());
        let known = self.writer.is_some().then(|| self.last_seq());
        let page = self.met(blocking(move || reader.after(seq, portion, &filter, known)).await)?;
        if known.is_none() {
            self.shared.last.fetch_max(page.last_seq, Ordering::AcqRel);
        }
        Ok(page)
    }

    /// The newest events, oldest of them first, at most `count` and at most 8 MiB of them.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`] or [`StoreError::Closed`].
    pub async fn latest(&self, count: usize) -> Result<Vec<Event>, StoreError> {
        let reader = Arc::clone(&self.reader);
        let known = self.writer.is_some().then(|| self.last_seq());
        self.met(blocking(move || reader.latest(count, known)).await)
    }

    /// Lets the indexer know of damage that a reader has met.
    fn met<T>(&self, read: Result<T, StoreError>) -> Result<T, StoreError> {
        if let Err(StoreError::Read(error)) = &read
            && schema::is_damage_code(error)
        {
            self.shared.suspect.store(true, Ordering::Release);
            self.bell.look();
        }
        read
    }

    /// The number of the last event that was accepted; 0 before the first. In a store that only reads: as of the last
    /// read.
    pub fn last_seq(&self) -> u64 {
        self.shared.last.load(Ordering::Acquire)
    }

    /// Eight hexadecimal digits: an event's id is `<epoch>-<seq>`, and no number is given twice within an epoch. A new one
    /// begins with a fresh database, and wherever the last number is not certain: after a power cut without
    /// [`StoreConfig::durable`], or when the database was found damaged at a start.
    pub fn epoch(&self) -> &str {
        &self.epoch
    }

    /// The epoch that the database began with, which stays while [`Store::epoch`] is renewed.
    pub fn lineage(&self) -> &str {
        &self.lineage
    }

    /// Where to find the newest events when the files are removed while the store runs: they begin the next ones.
    pub fn remember(&self, memory: impl Fn() -> Vec<Arc<Event>> + Send + Sync + 'static) {
        let _ = self.shared.memory.set(Box::new(memory));
    }

    /// How many damaged events readers met, which are left out.
    pub fn damaged(&self) -> u64 {
        self.reader.damaged()
    }

    /// How many events wait to be committed.
    pub fn waiting(&self) -> usize {
        self.writer.as_ref().map_or(0, |writer| writer.queue.waiting())
    }

    /// How many accepted events are not in the database yet.
    pub fn unindexed(&self) -> u64 {
        match self.writer {
            Some(_) => self.last_seq().saturating_sub(self.shared.indexed.load(Ordering::Acquire)),
            None => 0,
        }
    }

    /// The bytes that the journal takes.
    pub fn journal_bytes(&self) -> u64 {
        self.shared.segments.bytes()
    }

    /// What the store did since it was opened.
    pub fn counters(&self) -> &Counters {
        &self.shared.counters
    }

    /// Where a damaged database was moved when this store was opened.
    pub fn set_aside(&self) -> Option<&Path> {
        self.set_aside.as_deref()
    }

    /// New bounds, from now on; what exceeds them is removed soon.
    pub fn set_limits(&self, max_events: u64, max_bytes: u64, max_age: Duration) {
        self.shared.max_bytes.store(max_bytes, Ordering::Relaxed);
        self.bell.set_limits(Limits { max_events, max_bytes, max_age });
    }

    /// Takes no more events, commits those that wait, moves them into the database, and ends the threads. Blocks until
    /// then or the deadline; true if all was done in time. What could not be moved is found at the next start. Later
    /// calls return true.
    pub fn close(&self, deadline: Instant) -> bool {
        self.reader.close();
        let Some(writer) = &self.writer else { return true };
        self.bell.end_by(deadline);
        writer.pulse.retire(&writer.probe);
        writer.queue.close();
        if !self.bell.wait_until_finished(deadline) {
            return false;
        }
        for thread in writer.threads.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            // It has ended, with a panic at worst, and then the panic hook told.
            let _ = thread.join();
        }
        true
    }
}

impl Drop for Store {
    /// Lets the threads commit what waits and end by themselves; only [`Store::close`] waits for them.
    fn drop(&mut self) {
        if let Some(writer) = &self.writer {
            writer.pulse.retire(&writer.probe);
            writer.queue.close();
        }
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("epoch", &self.epoch).field("last_seq", &self.last_seq()).finish_non_exhaustive()
    }
}

/// What the last process left in the journal. A database that was begun just now succeeds the one that the journal
/// belongs to, in a new epoch, as more may be missing than the database.
fn find_journal(config: &StoreConfig, opened: &mut schema::Opened) -> Result<journal::Recovered, StoreError> {
    let path = &config.path;
    let mut lineage = (!opened.fresh).then(|| opened.lineage.clone());
    let found = journal::recover(path, &mut lineage).map_err(|unusable| match unusable {
        Unusable::File { doing, path, source } => StoreError::File { doing, path, source },
        Unusable::TooNew { path, found } => StoreError::TooNew { path, found: found.into(), known: 1 },
    })?;
    if opened.fresh
        && let (Some(first), Some(lineage)) = (found.segments.front(), lineage)
    {
        // The epoch of the fresh database is as new as it is.
        (opened.lineage, opened.last) = (lineage, first.first - 1);
        opened.renewed = Some("the database was gone or damaged".to_owned());
        schema::adopt(&opened.conn, &opened.lineage, &opened.epoch, opened.last)
            .map_err(|source| StoreError::Open { path: path.clone(), source })?;
    }
    Ok(found)
}

fn thread(name: &str, config: &StoreConfig, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, StoreError> {
    let failed = |source| StoreError::File { doing: "start a thread for", path: config.path.clone(), source };
    std::thread::Builder::new().name(name.to_owned()).stack_size(STACK).spawn(run).map_err(failed)
}

fn damaged_journal_note(aside: &Path) -> String {
    let note = format!("a damaged piece of the journal was set aside as {}", aside.display());
    tracing::warn!("{note}");
    note
}

/// What the component and the log say after a damaged database was replaced.
fn set_aside_note(config: &StoreConfig, aside: &Path) -> String {
    let note = format!("damaged events were set aside as {}; a fresh database was begun", aside.display());
    tracing::warn!(path = %config.path.display(), "{note}");
    note
}

/// The same after the files were removed from under the process. Events up to `through` are in none of them.
fn gone_note(config: &StoreConfig, aside: Option<&Path>, through: u64) -> String {
    let path = config.path.display();
    let lost = if through > 0 { format!("; events up to number {through} are lost") } else { String::new() };
    let aside = aside.map_or_else(String::new, |aside| format!("; what lay there is now {}", aside.display()));
    format!("{path} was removed or replaced while it was in use; a new one was begun{lost}{aside}")
}

async fn blocking<T: Send + 'static>(
    read: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    match tokio::task::spawn_blocking(read).await {
        Ok(result) => result,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        // The runtime shuts down.
        Err(_) => Err(StoreError::Closed),
    }
}
