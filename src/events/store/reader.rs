//! Reading events, on a connection that cannot write.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::{Connection, OpenFlags, Row, ToSql};

use super::{StoreError, schema};
use crate::events::model::{Draft, Event};

/// The most bytes of events read at once; a single larger event is still read.
const PAGE_BYTES: usize = 8 << 20;

const COLUMNS: &str = "seq, accepted, name, subtype, session, payload";

/// Which events to read; those that fit everything that is set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Of this agent session.
    pub session: Option<String>,
    /// Sent under this Socket.IO event name.
    pub name: Option<String>,
    /// Of this subtype.
    pub subtype: Option<String>,
}

/// Some events, in order, and what the store held at the moment they were read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The events, oldest first.
    pub events: Vec<Event>,
    /// The greatest number ever given.
    pub last_seq: u64,
    /// The oldest number still there; `last_seq + 1` when there is none. Whoever asks for events after an older number
    /// has missed some.
    pub oldest_seq: u64,
    /// Whether no further event fits. Else ask again, after the last one's number.
    pub complete: bool,
}

#[derive(Debug)]
pub(super) struct Reader {
    conn: Mutex<Option<Connection>>,
    closed: AtomicBool,
}

impl Reader {
    pub(super) fn open(path: &Path) -> Result<Self, StoreError> {
        Ok(Self { conn: Mutex::new(Some(Self::connect(path)?)), closed: AtomicBool::new(false) })
    }

    /// Lets go of the database while `replace` puts another in its place, and reads that one from then on. Closing a
    /// database after it was renamed could take away the log of its successor.
    pub(super) fn reopen_after(
        &self,
        path: &Path,
        replace: impl FnOnce() -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let mut conn = self.conn.lock().unwrap_or_else(PoisonError::into_inner);
        conn.take();
        replace()?;
        if !self.closed.load(Ordering::Acquire) {
            *conn = Some(Self::connect(path)?);
        }
        Ok(())
    }

    fn connect(path: &Path) -> Result<Connection, StoreError> {
        let open = || {
            let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            let conn = Connection::open_with_flags(path, flags)?;
            conn.busy_timeout(Duration::from_secs(2))?;
            conn.execute_batch("PRAGMA cache_size=-256; PRAGMA mmap_size=0; PRAGMA temp_store=MEMORY;")?;
            Ok(conn)
        };
        open().map_err(|source| StoreError::Open { path: path.to_owned(), source })
    }

    /// The database's epoch and greatest number.
    pub(super) fn identity(&self, path: &Path) -> Result<(String, u64), StoreError> {
        let guard = self.lock()?;
        let conn = guard.as_ref().ok_or(StoreError::Closed)?;
        let read = || Ok((schema::meta(conn, "epoch")?.unwrap_or_default(), schema::last(conn)?));
        read().map_err(|source| StoreError::Open { path: path.to_owned(), source })
    }

    pub(super) fn after(&self, seq: u64, limit: usize, filter: &Filter) -> Result<Page, StoreError> {
        let mut guard = self.lock()?;
        let conn = guard.as_mut().ok_or(StoreError::Closed)?;
        // One snapshot for the events and the numbers around them.
        let tx = conn.transaction()?;

        let after = i64::try_from(seq).unwrap_or(i64::MAX);
        let one_more = i64::try_from(limit).unwrap_or(i64::MAX).saturating_add(1);
        let mut sql = format!("SELECT {COLUMNS} FROM events WHERE seq > ?1");
        let mut values: Vec<&dyn ToSql> = vec![&after, &one_more];
        for (column, wanted) in [("session", &filter.session), ("name", &filter.name), ("subtype", &filter.subtype)] {
            if let Some(wanted) = wanted {
                values.push(wanted);
                sql.push_str(&format!(" AND {column} = ?{}", values.len()));
            }
        }
        sql.push_str(" ORDER BY seq LIMIT ?2");

        let (events, complete) = {
            let mut statement = tx.prepare_cached(&sql)?;
            let mut rows = statement.query(values.as_slice())?;
            let (mut events, mut bytes, mut complete) = (Vec::new(), 0, true);
            while let Some(row) = rows.next()? {
                if events.len() >= limit || bytes >= PAGE_BYTES {
                    complete = false;
                    break;
                }
                let event = event(row)?;
                bytes += event.draft.payload.len();
                events.push(event);
            }
            (events, complete)
        };
        let last_seq = schema::last(&tx)?;
        let oldest: Option<i64> = tx.query_row("SELECT min(seq) FROM events", [], |row| row.get(0))?;
        let oldest_seq = oldest.map_or(last_seq + 1, i64::unsigned_abs);
        Ok(Page { events, last_seq, oldest_seq, complete })
    }

    pub(super) fn latest(&self, count: usize) -> Result<Vec<Event>, StoreError> {
        let guard = self.lock()?;
        let conn = guard.as_ref().ok_or(StoreError::Closed)?;
        let mut statement = conn.prepare_cached(&format!("SELECT {COLUMNS} FROM events ORDER BY seq DESC LIMIT ?1"))?;
        let mut rows = statement.query([i64::try_from(count).unwrap_or(i64::MAX)])?;
        let (mut events, mut bytes) = (Vec::new(), 0);
        while let Some(row) = rows.next()? {
            let event = event(row)?;
            bytes += event.draft.payload.len();
            if bytes > PAGE_BYTES && !events.is_empty() {
                break;
            }
            events.push(event);
        }
        events.reverse();
        Ok(events)
    }

    /// No reads from now on; one that runs is left to end, and then keeps the connection until the store is dropped.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        if let Ok(mut conn) = self.conn.try_lock() {
            conn.take();
        }
    }

    /// The connection, once it is free; none after [`Reader::close`].
    fn lock(&self) -> Result<MutexGuard<'_, Option<Connection>>, StoreError> {
        let guard = self.conn.lock().unwrap_or_else(PoisonError::into_inner);
        if self.closed.load(Ordering::Acquire) { Err(StoreError::Closed) } else { Ok(guard) }
    }
}

fn event(row: &Row<'_>) -> rusqlite::Result<Event> {
    let payload = row.get_ref(5)?.as_str().map_err(|e| wrong(5, e))?;
    Ok(Event {
        seq: row.get::<_, i64>(0)?.unsigned_abs(),
        accepted: Timestamp::from_microsecond(row.get(1)?).map_err(|e| wrong(1, e))?,
        draft: Draft { name: row.get(2)?, subtype: row.get(3)?, session: row.get(4)?, payload: payload.into() },
    })
}

fn wrong(column: usize, error: impl std::error::Error + Send + Sync + 'static) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, Box::new(error))
}
