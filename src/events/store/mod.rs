//! The events on disk: SQLite in WAL mode, behind one writer thread that commits in groups.
//!
//! [`Store::append`] returns only after the event's transaction was committed, so whatever was answered with success
//! survives `kill -9` (and, with [`StoreConfig::durable`], a power cut). Readers use a connection of their own and never
//! wait for the writer. Anyone may read the file with `sqlite3` while the monitor runs.

mod queue;
mod reader;
mod retention;
mod schema;
#[cfg(test)]
mod tests;
mod writer;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use self::queue::{Queue, Request};
use self::reader::Reader;
pub use self::reader::{Filter, Page};
use self::retention::Limits;
use super::model::{Draft, Event};
use crate::runtime::components::{Components, State};
use crate::runtime::pulse::{Probe, Pulse};

/// The component, pulse and thread name.
const NAME: &str = "store";

/// Where the events are kept, and how many of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreConfig {
    /// The database file. Beside it: `-wal` and `-shm` of SQLite, `.lock`, and what was set aside as `.corrupt-TIME`.
    pub path: PathBuf,
    /// Whether an event is accepted only once it is on the disk, not merely in the kernel.
    pub durable: bool,
    /// The most events kept.
    pub max_events: u64,
    /// The most bytes that kept events may take in the database file.
    pub max_bytes: u64,
    /// How long events are kept.
    pub max_age: Duration,
}

/// Told of each committed batch, on the writer thread, in the order of the numbers, before the appenders are answered.
/// It must not block.
pub type OnCommit = Box<dyn FnMut(&[Arc<Event>]) + Send>;

/// Why the store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A file or directory of the store could not be made or used.
    #[error("cannot {doing} {}: {source}; make it accessible to this user, or set `state_dir` to another directory", path.display())]
    File {
        /// What was attempted.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// SQLite could not open or prepare the database.
    #[error("cannot open the events in {}: {source}; see that its disk has room and this user may write there, or set `state_dir` to another directory", path.display())]
    Open {
        /// The database file.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// The database is damaged. The store sets such a file aside by itself; this is seen only if the new one is damaged
    /// as well.
    #[error("the events in {} are damaged: {detail}; check the disk", path.display())]
    Corrupt {
        /// The database file.
        path: PathBuf,
        /// What the check found.
        detail: String,
    },
    /// A newer version of this program wrote the database.
    #[error("the events in {} have format {found}, this version knows up to {known}; run the newer version, or move the file away", path.display())]
    TooNew {
        /// The database file.
        path: PathBuf,
        /// The format found.
        found: i64,
        /// The newest format known.
        known: i64,
    },
    /// The file is a database of another program, and stays untouched.
    #[error("{} is a database of another program; set `state_dir` to another directory", path.display())]
    Foreign {
        /// The database file.
        path: PathBuf,
    },
    /// The file system cannot hold a database that is read while it is written.
    #[error("the file system of {} does not support SQLite's WAL mode; set `state_dir` to a directory on a local disk", path.display())]
    NoWal {
        /// The database file.
        path: PathBuf,
    },
    /// The event was not stored: the disk is full, broken, read-only or locked. Nothing is lost that was accepted
    /// before; the next append tries again.
    #[error("the event was not stored: {reason}; it can be sent again")]
    Degraded {
        /// What the writer met.
        reason: String,
    },
    /// Another process writes to this database; this one only reads.
    #[error("the event was not stored: another process holds {}; stop it, or send the event there", path.display())]
    ReadOnly {
        /// The lock that the other process holds.
        path: PathBuf,
    },
    /// The store was closed, or its writer ended.
    #[error("the store is closed; send the event again once the monitor runs again")]
    Closed,
    /// Events could not be read.
    #[error("cannot read events: {0}")]
    Read(#[from] rusqlite::Error),
}

impl StoreError {
    /// A name for programs that never changes.
    pub fn code(&self) -> &'static str {
        match self {
            Self::File { .. } => "store_file",
            Self::Open { .. } => "store_open",
            Self::Corrupt { .. } => "store_corrupt",
            Self::TooNew { .. } => "store_too_new",
            Self::Foreign { .. } => "store_foreign",
            Self::NoWal { .. } => "store_no_wal",
            Self::Degraded { .. } => "store_degraded",
            Self::ReadOnly { .. } => "store_read_only",
            Self::Closed => "store_closed",
            Self::Read(_) => "store_read",
        }
    }
}

/// What the store did since it was opened.
#[derive(Debug, Default)]
pub struct Counters {
    /// Events committed.
    pub events: AtomicU64,
    /// Transactions that committed them.
    pub batches: AtomicU64,
    /// Transactions that failed, those that remove old events included.
    pub errors: AtomicU64,
    /// Old events removed.
    pub pruned: AtomicU64,
}

/// The open store. Share it in an `Arc`; end it with [`Store::close`].
pub struct Store {
    epoch: String,
    shared: Arc<Shared>,
    reader: Arc<Reader>,
    /// Absent in a store that only reads.
    writer: Option<Handle>,
    lock: PathBuf,
    set_aside: Option<PathBuf>,
}

/// What the writer thread and the rest look at together.
#[derive(Debug, Default)]
struct Shared {
    last: AtomicU64,
    counters: Counters,
}

struct Handle {
    queue: Arc<Queue>,
    thread: Mutex<Option<JoinHandle<()>>>,
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
        components.set(NAME, State::Starting);
        let lock = schema::beside(&config.path, ".lock");
        let Some(held) = schema::prepare(&config.path, &lock)? else {
            return Self::follow(config, components, lock);
        };
        let opened = schema::open(&config)?;
        let shared = Arc::new(Shared { last: AtomicU64::new(opened.last), ..Shared::default() });
        let queue = Arc::new(Queue::new(Limits::of(&config)));
        let wake = Arc::clone(&queue);
        let probe = pulse.register_with(NAME, move || wake.tick());
        let reader = Arc::new(Reader::open(&config.path)?);
        let note = opened.set_aside.as_ref().map(|aside| set_aside_note(&config, aside));
        let (epoch, set_aside, unmarked) = (opened.epoch.clone(), opened.set_aside.clone(), opened.unmarked.clone());
        let writer = writer::Writer::new(
            opened,
            writer::Surroundings {
                config: config.clone(),
                reader: Arc::clone(&reader),
                _lock: held,
                queue: Arc::clone(&queue),
                shared: Arc::clone(&shared),
                probe: Arc::clone(&probe),
                components: components.clone(),
                note: note.clone(),
                on_commit,
            },
        )?;
        match (unmarked, note) {
            (Some(reason), _) => components.set_because(NAME, State::Degraded, reason),
            (None, Some(note)) => components.set_because(NAME, State::Ok, note),
            (None, None) => components.set(NAME, State::Ok),
        }
        let thread = std::thread::Builder::new()
            .name(NAME.to_owned())
            .spawn(move || writer.run())
            .map_err(|source| StoreError::File { doing: "start the writer thread of", path: config.path, source })?;
        let writer = Some(Handle { queue, thread: Mutex::new(Some(thread)), pulse: pulse.clone(), probe });
        Ok(Self { epoch, shared, reader, writer, lock, set_aside })
    }

    /// A store that reads what another process writes.
    fn follow(config: StoreConfig, components: &Components, lock: PathBuf) -> Result<Self, StoreError> {
        let reader = Reader::open(&config.path)?;
        let (epoch, last) = reader.identity(&config.path)?;
        let detail = format!("another process holds {}; events are only read", lock.display());
        tracing::warn!("{detail}");
        components.set_because(NAME, State::Degraded, detail);
        let shared = Arc::new(Shared { last: AtomicU64::new(last), ..Shared::default() });
        Ok(Self { epoch, shared, reader: Arc::new(reader), writer: None, lock, set_aside: None })
    }

    /// Stores an event and returns its number, once it is committed.
    ///
    /// Waits while the queue is full. Cancel safe: when the future is dropped, the event was either stored whole (and
    /// subscribers see it) or not at all.
    ///
    /// # Errors
    ///
    /// [`StoreError::Degraded`], [`StoreError::ReadOnly`] or [`StoreError::Closed`]; the event is not stored then, or, if
    /// the process is ending, at least not promised to be.
    pub async fn append(&self, draft: Draft) -> Result<u64, StoreError> {
        let Some(writer) = &self.writer else {
            return Err(StoreError::ReadOnly { path: self.lock.clone() });
        };
        let room = writer.queue.room(&draft).await?;
        let (answer, answered) = oneshot::channel();
        if let Some(wake) = writer.queue.push(Request { draft, answer, _room: room })? {
            // One turn for the others first: what they append meanwhile is committed together with this, and the writer
            // woken once. Should this future be dropped here, it is woken all the same.
            tokio::task::yield_now().await;
            drop(wake);
        }
        answered.await.unwrap_or(Err(StoreError::Closed))
    }

    /// The events numbered above `seq` that `filter` lets through, oldest first, at most `limit`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`] or [`StoreError::Closed`].
    pub async fn after(&self, seq: u64, limit: usize, filter: &Filter) -> Result<Page, StoreError> {
        let (reader, filter) = (Arc::clone(&self.reader), filter.clone());
        let page = blocking(move || reader.after(seq, limit, &filter)).await?;
        self.shared.last.fetch_max(page.last_seq, Ordering::AcqRel);
        Ok(page)
    }

    /// The newest events, oldest of them first, at most `count` and at most 8 MiB of them.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`] or [`StoreError::Closed`].
    pub async fn latest(&self, count: usize) -> Result<Vec<Event>, StoreError> {
        let reader = Arc::clone(&self.reader);
        blocking(move || reader.latest(count)).await
    }

    /// The number of the last event that was accepted; 0 before the first. In a store that only reads: as of the last
    /// read.
    pub fn last_seq(&self) -> u64 {
        self.shared.last.load(Ordering::Acquire)
    }

    /// Eight hexadecimal digits, made once for each database file: an event's id is `<epoch>-<seq>`, and stays unique
    /// when the numbers begin anew with a fresh file.
    pub fn epoch(&self) -> &str {
        &self.epoch
    }

    /// How many events wait to be committed.
    pub fn waiting(&self) -> usize {
        self.writer.as_ref().map_or(0, |writer| writer.queue.waiting())
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
        if let Some(writer) = &self.writer {
            writer.queue.set_limits(Limits { max_events, max_bytes, max_age });
        }
    }

    /// Takes no more events, commits those that wait, and ends the writer. Blocks until then or the deadline; true if
    /// all was done in time. Later calls return true.
    pub fn close(&self, deadline: Instant) -> bool {
        self.reader.close();
        let Some(writer) = &self.writer else { return true };
        writer.pulse.retire(&writer.probe);
        writer.queue.close();
        if !writer.queue.wait_until_finished(deadline) {
            return false;
        }
        if let Some(thread) = writer.thread.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // It has ended, with a panic at worst, and then the panic hook told.
            let _ = thread.join();
        }
        true
    }
}

impl Drop for Store {
    /// Lets the writer commit what waits and end by itself; only [`Store::close`] waits for it.
    fn drop(&mut self) {
        if let Some(writer) = &self.writer {
            writer.pulse.retire(&writer.probe);
            writer.queue.close();
        }
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("epoch", &self.epoch).field("shared", &self.shared).finish_non_exhaustive()
    }
}

/// What the component and the log say after a damaged database was replaced.
fn set_aside_note(config: &StoreConfig, aside: &Path) -> String {
    let note = format!("damaged events were set aside as {}; a fresh database was begun", aside.display());
    tracing::warn!(path = %config.path.display(), "{note}");
    note
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
