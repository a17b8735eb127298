//! The database file: made, recognised, checked, brought to the current format, and set aside when damaged.

use std::ffi::OsString;
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, TransactionBehavior};

use super::{StoreConfig, StoreError};

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
    pub epoch: String,
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

/// Makes the directory and the file for this user alone, where they are missing, and takes the lock that one writing
/// process holds for life. `None` if another process has it.
pub(super) fn prepare(path: &Path, lock: &Path) -> Result<Option<File>, StoreError> {
    if let Some(directory) = path.parent().filter(|d| !d.as_os_str().is_empty()) {
        DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(file("make", directory))?;
    }
    let held = OpenOptions::new()
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
    // SQLite would make it readable by all. Only while no connection is open: closing a file gives up all locks that
    // this process has on it.
    make(path)?;
    Ok(Some(held))
}

fn file(doing: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> StoreError {
    let path = path.to_owned();
    move |source| StoreError::File { doing, path, source }
}

/// Opens the database for the writer; a damaged one is set aside first.
pub(super) fn open(config: &StoreConfig) -> Result<Opened, StoreError> {
    match attempt(config) {
        Err(error) if is_damage(&error) => {
            tracing::error!("{error}");
            let aside = set_aside(&config.path)?;
            make(&config.path)?;
            attempt(config).map(|opened| Opened { set_aside: Some(aside), ..opened })
        }
        other => other,
    }
}

/// In place of a database that was found damaged while it was in use, a fresh one with the same epoch, so that ids stay
/// unique, that takes events numbered above `last`. `aside` says where the damaged one went, also if this fails afterwards;
/// call it again with the same `aside` then.
pub(super) fn begin_anew(
    config: &StoreConfig,
    epoch: &str,
    last: u64,
    aside: &mut Option<PathBuf>,
) -> Result<Connection, StoreError> {
    if aside.is_none() {
        *aside = Some(set_aside(&config.path)?);
    }
    make(&config.path)?;
    let conn = attempt(config)?.conn;
    adopt(&conn, epoch, last).map_err(|source| StoreError::Open { path: config.path.clone(), source })?;
    Ok(conn)
}

/// Makes a fresh database the successor of another.
pub(super) fn adopt(conn: &Connection, epoch: &str, last: u64) -> rusqlite::Result<()> {
    put(conn, "epoch", epoch)?;
    put(conn, "seq", &last.to_string())
}

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

    let epoch = meta(&conn, "epoch")
        .map_err(failed)?
        .ok_or_else(|| StoreError::Corrupt { path: path.clone(), detail: "it holds no epoch".to_owned() })?;
    let boot = crate::runtime::identity::boot_id();
    if !fresh {
        check(&conn, path, &boot)?;
    }
    let unmarked = match mark(&mut conn, &boot).and_then(|()| add_nodes(&mut conn)) {
        Ok(()) => None,
        Err(error) if is_damage_code(&error) => return Err(failed(error)),
        Err(error) => Some(describe(&error, path)),
    };
    let last = last(&conn).map_err(failed)?;
    Ok(Opened { conn, epoch, fresh, last, set_aside: None, unmarked })
}

/// Adds what a database of an older version lacks.
pub(super) fn add_nodes(conn: &mut Connection) -> rusqlite::Result<()> {
    if has_nodes(conn)? {
        return Ok(());
    }
    let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
    tx.execute_batch(ADD_NODES)?;
    tx.execute_batch(CREATE_NODES)?;
    tx.commit()
}

/// Whether events have the columns that say where they come from.
pub(super) fn has_nodes(conn: &Connection) -> rusqlite::Result<bool> {
    let sql = "SELECT count(*) FROM pragma_table_info('events') WHERE name = 'node_seq'";
    Ok(conn.query_row(sql, [], |row| row.get::<_, i64>(0))? > 0)
}

/// Notes that the end of this run is not known yet.
fn mark(conn: &mut Connection, boot: &str) -> rusqlite::Result<()> {
    let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
    put(&tx, "clean", "no")?;
    put(&tx, "boot", boot)?;
    tx.commit()
}

fn create(conn: &mut Connection) -> rusqlite::Result<()> {
    let epoch = getrandom::u32().unwrap_or_else(|_| Timestamp::now().as_microsecond() as u32);
    let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
    tx.execute_batch(CREATE)?;
    tx.execute_batch(CREATE_NODES)?;
    put(&tx, "epoch", &format!("{epoch:08x}"))?;
    put(&tx, "seq", "0")?;
    tx.pragma_update(None, "application_id", APPLICATION_ID)?;
    tx.pragma_update(None, "user_version", FORMAT)?;
    tx.commit()
}

/// Reads the whole database for damage if its last end gives a reason to.
///
/// `kill -9` gives none: what was written is with the kernel. So an unclean end matters only if the machine went down
/// with it. Damage that appears later is met by the writer, see [`begin_anew`].
fn check(conn: &Connection, path: &Path, boot: &str) -> Result<(), StoreError> {
    let failed = |source| StoreError::Open { path: path.to_owned(), source };
    let clean = meta(conn, "clean").map_err(failed)?.is_some_and(|c| c == "yes");
    let same_boot = !boot.is_empty() && meta(conn, "boot").map_err(failed)?.is_some_and(|b| b == boot);
    if clean || same_boot {
        return Ok(());
    }
    tracing::info!(path = %path.display(), "the store did not end cleanly; checking it");
    let found: String = conn.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(failed)?;
    if found != "ok" {
        return Err(StoreError::Corrupt { path: path.to_owned(), detail: found });
    }
    Ok(())
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
    let noted = meta(conn, "seq")?.and_then(|n| n.parse().ok()).unwrap_or(0);
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

pub(super) fn is_damage_code(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
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
