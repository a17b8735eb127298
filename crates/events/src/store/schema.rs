//! The database file: made, recognised, checked, brought to the current format, and set aside when damaged.

use std::ffi::OsString;
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::types::Type;
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, TransactionBehavior};

use super::{StoreConfig, StoreError};
use crate::key::Key;

/// Says in the file's header whose database it is: "mpmM".
const APPLICATION_ID: i64 = 0x6d70_6d4d;
/// The format this version writes, kept as `user_version`.
const FORMAT: i64 = 1;
/// How long to wait for another program, such as `sqlite3`, that locks the database. No poster waits for that; the
/// watchdog does.
const BUSY_TIMEOUT: Duration = Duration::from_secs(1);

/// `seq` is the row id, so events lie in order and the newest page is the one written to. The index serves "this
/// session's events after N"; names and subtypes are too few to be worth one.
const CREATE: &str = "
    CREATE TABLE meta (key TEXT PRIMARY KEY NOT NULL, value TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE events (
        seq INTEGER PRIMARY KEY,    -- never used twice, also not after all rows are gone: see meta.seq
        accepted INTEGER NOT NULL,  -- microseconds since 1970-01-01 UTC
        name TEXT NOT NULL,
        subtype TEXT NOT NULL,
        session TEXT,
        payload TEXT NOT NULL,      -- JSON
        node TEXT,                  -- where it was accepted first, if not here, ...
        node_epoch TEXT,            -- ... in which store of that node, ...
        node_seq INTEGER            -- ... and its number there
    );
    CREATE INDEX events_by_session ON events (session) WHERE session IS NOT NULL;
";
/// How far the events of other nodes have come.
const CREATE_NODES: &str = "
    CREATE TABLE IF NOT EXISTS nodes (
        node TEXT NOT NULL, epoch TEXT NOT NULL, seq INTEGER NOT NULL, PRIMARY KEY (node, epoch)
    ) WITHOUT ROWID;
";
/// The idempotency keys of the events that were posted with one. They go with their events.
const CREATE_KEYS: &str = "
    CREATE TABLE IF NOT EXISTS keys (seq INTEGER PRIMARY KEY, key BLOB NOT NULL);
    CREATE INDEX IF NOT EXISTS keys_by_key ON keys (key);
";
/// Of how many of its newest events a database that had no index of keys is searched for those that our hook writes into
/// its events: whoever sends one again after the upgrade has sent it shortly before.
const KEYS_FROM: i64 = 2000;
/// What a database lacks that was made before there were other nodes. Older versions of this program get along with it.
const ADD_NODES: &str = "
    ALTER TABLE events ADD COLUMN node TEXT;
    ALTER TABLE events ADD COLUMN node_epoch TEXT;
    ALTER TABLE events ADD COLUMN node_seq INTEGER;
";

/// The opened database and what it held.
#[derive(Debug)]
pub(super) struct Opened {
    pub conn: Connection,
    /// What ids of events begin with.
    pub epoch: String,
    /// The epoch that the database began with, by which the journal knows it.
    pub lineage: String,
    /// Why the epoch was renewed, if it was.
    pub renewed: Option<String>,
    /// What is to be noted of this run.
    pub run: Run,
    /// Whether it was begun just now.
    pub fresh: bool,
    /// The greatest number that it has, or had.
    pub last: u64,
    /// Where the damaged file went that was here before.
    pub set_aside: Option<PathBuf>,
    /// Why it could not be written to at once; it is open all the same, so that what it holds is served.
    pub unmarked: Option<String>,
}

/// `path` with `suffix` after its name.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

/// What the database is told of a run at its start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Run {
    boot: String,
    durable: bool,
    epoch: String,
}

/// Makes the directory for this user alone, where it is missing, and takes the lock that one writing process holds for
/// life. `None` if another process has it.
pub(super) fn prepare(path: &Path, lock: &Path) -> Result<Option<File>, StoreError> {
    if let Some(directory) = path.parent().filter(|d| !d.as_os_str().is_empty()) {
        DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(file("make", directory))?;
    }
    let held = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(lock)
        .map_err(file("open", lock))?;
    match held.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(None),
        Err(TryLockError::Error(error)) => return Err(file("lock", lock)(error)),
    }
    Ok(Some(held))
}

fn file(doing: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> StoreError {
    let path = path.to_owned();
    move |source| StoreError::File { doing, path, source }
}

/// Opens the database for the writer; a damaged one is set aside first. The lock file says whether there has been one.
pub(super) fn open(config: &StoreConfig, lock: &File) -> Result<Opened, StoreError> {
    let path = &config.path;
    let was_there = lock.metadata().is_ok_and(|m| m.len() > 0);
    let emptied = was_there && std::fs::metadata(path).is_ok_and(|m| m.len() == 0);
    let attempted = if emptied {
        Err(StoreError::Corrupt { path: path.clone(), detail: "the file is empty".to_owned() })
    } else {
        make(path)?;
        attempt(config)
    };
    let opened = match attempted {
        Err(error) if is_damage(&error) => {
            tracing::error!("{error}");
            let aside = set_aside(path)?;
            make(path)?;
            attempt(config).map(|opened| Opened { set_aside: Some(aside), ..opened })
        }
        other => other,
    }?;
    note_database(path, lock)?;
    Ok(opened)
}

/// Notes in the lock file that there is a database.
pub(super) fn note_database(path: &Path, lock: &File) -> Result<(), StoreError> {
    lock.write_all_at(b"held by the monitor that writes these events\n", 0).map_err(file("write the lock of", path))
}

/// In place of a database that was found damaged while it was in use, a fresh one with the same epoch, so that ids stay
/// unique, that takes events numbered above `last`. `aside` says where the damaged one went, also if this fails afterwards;
/// call it again with the same `aside` then.
pub(super) fn begin_anew(
    config: &StoreConfig,
    (lineage, epoch): (&str, &str),
    last: u64,
    aside: &mut Option<PathBuf>,
) -> Result<Connection, StoreError> {
    if aside.is_none() && config.path.exists() {
        *aside = Some(set_aside(&config.path)?);
    }
    make(&config.path)?;
    let conn = attempt(config)?.conn;
    adopt(&conn, lineage, epoch, last).map_err(|source| StoreError::Open { path: config.path.clone(), source })?;
    Ok(conn)
}

/// Makes a fresh database the successor of another.
pub(super) fn adopt(conn: &Connection, lineage: &str, epoch: &str, last: u64) -> rusqlite::Result<()> {
    put(conn, "epoch", lineage)?;
    put(conn, "renewed", epoch)?;
    put(conn, "seq", &last.to_string())
}

/// SQLite would make it readable by all. Only while no connection is open: closing a file gives up all locks that this
/// process has on it.
fn make(path: &Path) -> Result<(), StoreError> {
    let mut private = OpenOptions::new();
    private.write(true).create(true).truncate(false).mode(0o600).open(path).map_err(file("make", path)).map(drop)
}

fn attempt(config: &StoreConfig) -> Result<Opened, StoreError> {
    let path = &config.path;
    let failed = |source| StoreError::Open { path: path.clone(), source };
    let mut conn =
        Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)
            .map_err(failed)?;
    conn.busy_timeout(BUSY_TIMEOUT).map_err(failed)?;

    let ask = |conn: &Connection, sql: &str| conn.query_row(sql, [], |row| row.get::<_, i64>(0)).map_err(failed);
    let owner = ask(&conn, "PRAGMA application_id")?;
    let fresh = owner == 0 && ask(&conn, "SELECT count(*) FROM sqlite_schema")? == 0;
    if !fresh && owner != APPLICATION_ID {
        return Err(StoreError::Foreign { path: path.clone() });
    }
    let format = ask(&conn, "PRAGMA user_version")?;
    if format > FORMAT {
        return Err(StoreError::TooNew { path: path.clone(), found: format, known: FORMAT });
    }

    if fresh {
        // Before the first page is written, or not at all.
        conn.pragma_update(None, "auto_vacuum", "INCREMENTAL").map_err(failed)?;
    }
    let mode: String = conn.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0)).map_err(failed)?;
    if !mode.eq_ignore_ascii_case("wal") {
        return Err(StoreError::NoWal { path: path.clone() });
    }
    // Small caches, no memory map: the process is to stay small, and the kernel caches the file anyway.
    conn.execute_batch(&format!(
        "PRAGMA synchronous={}; PRAGMA fullfsync={}; PRAGMA cache_size=-512; PRAGMA mmap_size=0;
         PRAGMA temp_store=MEMORY; PRAGMA wal_autocheckpoint=1000; PRAGMA journal_size_limit=4194304;",
        if config.durable { "FULL" } else { "NORMAL" },
        i32::from(config.durable),
    ))
    .map_err(failed)?;
    if fresh {
        create(&mut conn).map_err(failed)?;
    }

    let (lineage, mut epoch) = epochs(&conn)
        .map_err(failed)?
        .ok_or_else(|| StoreError::Corrupt { path: path.clone(), detail: "it holds no epoch".to_owned() })?;
    let boot = daemon::identity::boot_id();
    let mut renewed = None;
    if !fresh && !check(&conn, path, &boot)? {
        renewed = Some("the machine went down with the monitor, and may have lost its last events".to_owned());
        epoch = new_epoch();
    }
    let run = Run { boot, durable: config.durable, epoch: epoch.clone() };
    let unmarked = match begin(&mut conn, &run) {
        Ok(()) => None,
        Err(error) if is_damage_code(&error) => return Err(failed(error)),
        Err(error) => Some(describe(&error, path)),
    };
    let last = last(&conn).map_err(failed)?;
    Ok(Opened { conn, epoch, lineage, renewed, run, fresh, last, set_aside: None, unmarked })
}

/// Notes that a run has begun whose end is not known yet, and adds what a database of an older version lacks. The note is on
/// the disk when this returns: after a power cut it is what says that there was a run, and that the last number is not
/// certain.
pub(super) fn begin(conn: &mut Connection, run: &Run) -> rusqlite::Result<()> {
    let [usual, full]: [i64; 2] =
        ["synchronous", "fullfsync"].map(|name| conn.pragma_query_value(None, name, |row| row.get(0)).unwrap_or(1));
    conn.execute_batch("PRAGMA synchronous=FULL; PRAGMA fullfsync=1;")?;
    let noted = mark(conn, run);
    conn.execute_batch(&format!("PRAGMA synchronous={usual}; PRAGMA fullfsync={full};"))?;
    noted
}

fn mark(conn: &mut Connection, run: &Run) -> rusqlite::Result<()> {
    let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
    if !has_nodes(&tx)? {
        tx.execute_batch(ADD_NODES)?;
        tx.execute_batch(CREATE_NODES)?;
    }
    if !has_keys(&tx)? {
        tx.execute_batch(CREATE_KEYS)?;
        find_keys(&tx)?;
    }
    put(&tx, "clean", "no")?;
    put(&tx, "boot", &run.boot)?;
    put(&tx, "durable", if run.durable { "yes" } else { "no" })?;
    put(&tx, "renewed", &run.epoch)?;
    tx.commit()
}

/// Whether there is an index of keys.
pub(super) fn has_keys(conn: &Connection) -> rusqlite::Result<bool> {
    let sql = "SELECT count(*) FROM sqlite_schema WHERE name = 'keys_by_key'";
    Ok(conn.query_row(sql, [], |row| row.get::<_, i64>(0))? > 0)
}

/// Notes the key of an event.
pub(super) fn put_key(conn: &Connection, seq: i64, key: Key) -> rusqlite::Result<()> {
    conn.prepare_cached("INSERT OR REPLACE INTO keys VALUES (?1, ?2)")?.execute((seq, key.to_bytes())).map(drop)
}

/// Fills a fresh index of keys, see [`KEYS_FROM`].
fn find_keys(conn: &Connection) -> rusqlite::Result<()> {
    let mut newest = conn.prepare("SELECT seq, payload FROM events ORDER BY seq DESC LIMIT ?1")?;
    let mut rows = newest.query([KEYS_FROM])?;
    while let Some(row) = rows.next()? {
        let said = row.get_ref(1)?.as_str().ok().and_then(|payload| payload.split_once("\"event_id\":\""));
        if let Some(key) = said.and_then(|(_, rest)| Key::parse(rest.get(..36)?)) {
            put_key(conn, row.get(0)?, key)?;
        }
    }
    Ok(())
}

/// The epoch that the database began with, and the present one.
pub(super) fn epochs(conn: &Connection) -> rusqlite::Result<Option<(String, String)>> {
    let Some(lineage) = meta(conn, "epoch")? else { return Ok(None) };
    let renewed = meta(conn, "renewed")?;
    Ok(Some((lineage.clone(), renewed.unwrap_or(lineage))))
}

/// Whether events have the columns that say where they come from.
pub(super) fn has_nodes(conn: &Connection) -> rusqlite::Result<bool> {
    let sql = "SELECT count(*) FROM pragma_table_info('events') WHERE name = 'node_seq'";
    Ok(conn.query_row(sql, [], |row| row.get::<_, i64>(0))? > 0)
}

fn new_epoch() -> String {
    let epoch = getrandom::u32().unwrap_or_else(|_| Timestamp::now().as_microsecond() as u32);
    format!("{epoch:08x}")
}

fn create(conn: &mut Connection) -> rusqlite::Result<()> {
    let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
    tx.execute_batch(CREATE)?;
    tx.execute_batch(CREATE_NODES)?;
    tx.execute_batch(CREATE_KEYS)?;
    put(&tx, "epoch", &new_epoch())?;
    put(&tx, "seq", "0")?;
    tx.pragma_update(None, "application_id", APPLICATION_ID)?;
    tx.pragma_update(None, "user_version", FORMAT)?;
    tx.commit()
}

/// Reads the whole database for damage if its last end gives a reason to; whether its last number is certain.
///
/// `kill -9` gives none: what was written is with the kernel. So an unclean end matters only if the machine went down
/// with it. What was not on the disk by then is lost: events, and the numbers that they had. Damage that appears later is
/// met by the writer, see [`begin_anew`].
fn check(conn: &Connection, path: &Path, boot: &str) -> Result<bool, StoreError> {
    let failed = |source| StoreError::Open { path: path.to_owned(), source };
    let clean = meta(conn, "clean").map_err(failed)?.is_some_and(|c| c == "yes");
    let same_boot = !boot.is_empty() && meta(conn, "boot").map_err(failed)?.is_some_and(|b| b == boot);
    if clean || same_boot {
        return Ok(true);
    }
    tracing::info!(path = %path.display(), "the store did not end cleanly; checking it");
    let found: String = conn.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(failed)?;
    if found != "ok" {
        return Err(StoreError::Corrupt { path: path.to_owned(), detail: found });
    }
    meta(conn, "durable").map_err(failed).map(|durable| durable.is_some_and(|d| d == "yes"))
}

/// A name beside `path` for what is damaged, free and saying when.
pub(super) fn free_name(path: &Path) -> PathBuf {
    let stamp = Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string();
    (0u32..)
        .map(|n| beside(path, &if n == 0 { format!(".corrupt-{stamp}") } else { format!(".corrupt-{stamp}-{n}") }))
        .find(|candidate| !candidate.exists())
        .unwrap_or_else(|| beside(path, ".corrupt"))
}

/// Renames the database and what belongs to it; the name says when.
fn set_aside(path: &Path) -> Result<PathBuf, StoreError> {
    let aside = free_name(path);
    std::fs::rename(path, &aside).map_err(file("set aside", path))?;
    for suffix in ["-wal", "-shm"] {
        let from = beside(path, suffix);
        if from.exists() {
            std::fs::rename(&from, beside(&aside, suffix)).map_err(file("set aside", &from))?;
        }
    }
    Ok(aside)
}

/// A setting of the database file.
pub(super) fn meta(conn: &Connection, key: &str) -> rusqlite::Result<Option<String>> {
    conn.prepare_cached("SELECT value FROM meta WHERE key = ?1")?.query_row([key], |row| row.get(0)).optional()
}

/// Writes a setting of the database file.
pub(super) fn put(conn: &Connection, key: &str, value: &str) -> rusqlite::Result<()> {
    conn.prepare_cached("INSERT INTO meta VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = ?2")?
        .execute([key, value])
        .map(drop)
}

/// The greatest number the database ever had: of the newest event, or what was noted when the newest were removed.
pub(super) fn last(conn: &Connection) -> rusqlite::Result<u64> {
    let noted = match meta(conn, "seq")?.map(|n| n.parse::<u64>()) {
        Some(Ok(noted)) => noted,
        None => 0,
        // Without it numbers could be given twice.
        Some(Err(error)) => return Err(rusqlite::Error::FromSqlConversionFailure(0, Type::Text, Box::new(error))),
    };
    let newest: Option<i64> = conn.query_row("SELECT max(seq) FROM events", [], |row| row.get(0))?;
    Ok(newest.map_or(0, i64::unsigned_abs).max(noted))
}

/// Names this boot of the machine; empty where the system has no such name, which costs a check more.
fn is_damage(error: &StoreError) -> bool {
    match error {
        StoreError::Corrupt { .. } => true,
        StoreError::Open { source, .. } => is_damage_code(source),
        _ => false,
    }
}

/// Whether it is the file's fault: SQLite says so, or what it holds is of a kind that was never written.
pub(super) fn is_damage_code(error: &rusqlite::Error) -> bool {
    use rusqlite::Error::{FromSqlConversionFailure, IntegralValueOutOfRange, InvalidColumnType, Utf8Error};
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
        || matches!(
            error,
            FromSqlConversionFailure(..) | InvalidColumnType(..) | IntegralValueOutOfRange(..) | Utf8Error(..)
        )
}

/// Why a write failed, for people: what, and where.
pub(super) fn describe(error: &rusqlite::Error, path: &Path) -> String {
    let path = path.display();
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => format!("the disk that holds {path} is full"),
        Some(ErrorCode::ReadOnly) => format!("{path} cannot be written to ({error})"),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            format!("another program keeps {path} locked")
        }
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            format!("{path} is damaged ({error})")
        }
        _ => format!("writing to {path} failed ({error})"),
    }
}
