//! Reading events: from the database, on a connection that cannot write, then from the journal what is not there yet.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::{Connection, OpenFlags, Row, ToSql};

use super::damaged::Damaged;
use super::journal::{Record, Snapshot};
use super::{StoreError, schema};
use crate::key::Key;
use crate::model::{Draft, Event, Origin};

/// The most bytes of events read at once; a single larger event is still read.
const PAGE_BYTES: usize = 8 << 20;

/// How much is read at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Portion {
    /// The most events.
    pub events: usize,
    /// The most bytes of them.
    pub bytes: usize,
    /// Whether the first one is read however large it is.
    pub at_least_one: bool,
}

impl Portion {
    /// A page of so many events.
    pub(super) fn page(events: usize) -> Self {
        Self { events, bytes: PAGE_BYTES, at_least_one: true }
    }
}

/// What an event is made of; a database of an older version, that could not be changed yet, knows of no other nodes.
fn columns(conn: &Connection) -> rusqlite::Result<&'static str> {
    Ok(match schema::has_nodes(conn)? {
        true => "seq, accepted, name, subtype, session, payload, node, node_epoch, node_seq",
        false => "seq, accepted, name, subtype, session, payload, NULL, NULL, NULL",
    })
}

/// Which events to read; those that fit everything that is set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Of this agent session.
    pub session: Option<String>,
    /// Sent under this Socket.IO event name.
    pub name: Option<String>,
    /// Of this subtype.
    pub subtype: Option<String>,
    /// Accepted at this moment or later.
    pub since: Option<Timestamp>,
    /// Accepted before this moment.
    pub until: Option<Timestamp>,
    /// Accepted first on this node.
    pub node: Option<Place>,
}

/// Where events were accepted first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// Here.
    Here,
    /// On the other node of this name.
    Node(String),
}

impl Filter {
    /// Whether an event is let through.
    fn matches(
        &self,
        accepted: Timestamp,
        name: &str,
        subtype: &str,
        session: Option<&str>,
        node: Option<&str>,
    ) -> bool {
        self.session.as_deref().is_none_or(|wanted| session == Some(wanted))
            && self.name.as_deref().is_none_or(|wanted| name == wanted)
            && self.subtype.as_deref().is_none_or(|wanted| subtype == wanted)
            && self.since.is_none_or(|since| accepted >= since)
            && self.until.is_none_or(|until| accepted < until)
            && self.node.as_ref().is_none_or(|place| match place {
                Place::Here => node.is_none(),
                Place::Node(wanted) => node == Some(wanted),
            })
    }

    /// Whether an event that is at hand is let through.
    pub fn fits(&self, event: &Event) -> bool {
        let Draft { name, subtype, session, .. } = &event.draft;
        let node = event.origin.as_ref().map(|origin| &*origin.node);
        self.matches(event.accepted, name, subtype, session.as_deref(), node)
    }

    fn lets(&self, record: &Record<'_>) -> bool {
        let node = record.origin.map(|(node, ..)| node);
        self.matches(record.accepted, record.name, record.subtype, record.session, node)
    }
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
    /// How many among these were damaged, and are left out.
    pub damaged: u64,
    /// The bytes of the first event that was left out for want of room.
    pub next: Option<usize>,
}

#[derive(Debug)]
pub(super) struct Reader {
    path: PathBuf,
    damaged: Arc<Damaged>,
    conn: Mutex<Option<Connection>>,
    closed: AtomicBool,
}

impl Reader {
    pub(super) fn open(path: &Path, damaged: Arc<Damaged>) -> Result<Self, StoreError> {
        let conn = Mutex::new(Some(Self::connect(path)?));
        Ok(Self { path: path.to_owned(), damaged, conn, closed: AtomicBool::new(false) })
    }

    /// How many damaged events were met.
    pub(super) fn damaged(&self) -> u64 {
        self.damaged.count()
    }

    /// Whether the database knows this idempotency key.
    pub(super) fn has_key(&self, key: Key) -> Result<bool, StoreError> {
        let guard = self.lock()?;
        let conn = guard.as_ref().ok_or(StoreError::Closed)?;
        if !schema::has_keys(conn)? {
            return Ok(false);
        }
        Ok(conn.prepare_cached("SELECT 1 FROM keys WHERE key = ?1")?.exists([key.to_bytes()])?)
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

    /// The epoch, the one that the database began with, and the greatest number there is.
    pub(super) fn identity(&self) -> Result<(String, String, u64), StoreError> {
        let journal = self.journal()?;
        let guard = self.lock()?;
        let conn = guard.as_ref().ok_or(StoreError::Closed)?;
        let read = || Ok((schema::epochs(conn)?.unwrap_or_default(), schema::last(conn)?));
        let ((lineage, epoch), last) = read().map_err(|source| StoreError::Open { path: self.path.clone(), source })?;
        Ok((epoch, lineage, last.max(journal.last().map_err(|e| self.broken(e))?.unwrap_or(0))))
    }

    /// `known` is the greatest number that was accepted, where this process is the one that accepts.
    pub(super) fn after(
        &self,
        seq: u64,
        portion: Portion,
        filter: &Filter,
        known: Option<u64>,
    ) -> Result<Page, StoreError> {
        let mut guard = self.lock()?;
        let conn = guard.as_mut().ok_or(StoreError::Closed)?;
        // The journal first: what leaves it from now on is in the database when that is read.
        let journal = self.journal()?;
        // One snapshot for the events and the numbers around them.
        let tx = conn.transaction()?;

        let after = i64::try_from(seq).unwrap_or(i64::MAX);
        let (since, until) = (filter.since.map(Timestamp::as_microsecond), filter.until.map(Timestamp::as_microsecond));
        let mut sql = format!("SELECT {} FROM events WHERE seq > ?1", columns(&tx)?);
        let mut values: Vec<&dyn ToSql> = vec![&after];
        let text = |wanted: &'_ Option<String>| wanted.is_some();
        for (condition, wanted, value) in [
            ("session =", text(&filter.session), &filter.session as &dyn ToSql),
            ("name =", text(&filter.name), &filter.name),
            ("subtype =", text(&filter.subtype), &filter.subtype),
            ("accepted >=", since.is_some(), &since),
            ("accepted <", until.is_some(), &until),
        ] {
            if wanted {
                values.push(value);
                sql.push_str(&format!(" AND {condition} ?{}", values.len()));
            }
        }
        match &filter.node {
            Some(Place::Here) => sql.push_str(" AND node IS NULL"),
            Some(Place::Node(node)) => {
                values.push(node);
                sql.push_str(&format!(" AND node = ?{}", values.len()));
            }
            None => {}
        }
        // Without a limit: how many rows make a page depends on how many of them are damaged.
        sql.push_str(" ORDER BY seq");

        let mut page = Gather::new(portion);
        {
            let mut statement = tx.prepare_cached(&sql)?;
            let mut rows = statement.query(values.as_slice())?;
            while let Some(row) = rows.next()? {
                if !page.offer(|| self.event(row)) {
                    break;
                }
            }
        }
        let indexed = schema::last(&tx)?;
        let oldest: Option<i64> = tx.query_row("SELECT min(seq) FROM events", [], |row| row.get(0))?;

        let through = known.unwrap_or(u64::MAX);
        if page.complete {
            let read = journal.read(seq.max(indexed), through, |record| {
                !filter.lets(&record) || page.offer(|| Some(record.to_event()))
            });
            read.map_err(|e| self.broken(e))?;
        }
        let journal_last = match known {
            Some(known) => Ok(known),
            None => journal.last().map(Option::unwrap_or_default),
        };
        let last_seq = indexed.max(journal_last.map_err(|e| self.broken(e))?);
        let mut oldest_seq = oldest.map(i64::unsigned_abs);
        if oldest_seq.is_none() {
            let first = journal.read(indexed, through, |record| {
                oldest_seq = Some(record.seq);
                false
            });
            first.map_err(|e| self.broken(e))?;
        }
        let oldest_seq = oldest_seq.unwrap_or(last_seq + 1);
        let Gather { events, complete, damaged, damaged_since, next, .. } = page;
        let damaged = if complete { damaged + damaged_since } else { damaged };
        Ok(Page { events, last_seq, oldest_seq, complete, damaged, next })
    }

    pub(super) fn latest(&self, count: usize, known: Option<u64>) -> Result<Vec<Event>, StoreError> {
        let mut guard = self.lock()?;
        let conn = guard.as_mut().ok_or(StoreError::Closed)?;
        let journal = self.journal()?;
        let tx = conn.transaction()?;
        let indexed = schema::last(&tx)?;
        let newest = journal.newest(indexed, known.unwrap_or(u64::MAX), count, PAGE_BYTES);
        let mut events = newest.map_err(|e| self.broken(e))?;
        let mut bytes = events.iter().map(|e| e.draft.payload.len()).sum::<usize>();

        let mut statement = tx.prepare_cached(&format!("SELECT {} FROM events ORDER BY seq DESC", columns(&tx)?))?;
        let mut rows = statement.query([])?;
        while events.len() < count
            && let Some(row) = rows.next()?
        {
            let Some(event) = self.event(row) else { continue };
            bytes += event.draft.payload.len();
            if bytes > PAGE_BYTES && !events.is_empty() {
                break;
            }
            events.push_front(event);
        }
        Ok(events.into())
    }

    /// The event of a row. A damaged one is left out, and told.
    fn event(&self, row: &Row<'_>) -> Option<Event> {
        let event = event(row);
        if event.is_none() {
            self.damaged.met(row.get_ref(0).and_then(|seq| Ok(seq.as_i64()?.unsigned_abs())).unwrap_or_default());
        }
        event
    }

    fn journal(&self) -> Result<Snapshot, StoreError> {
        Snapshot::take(&self.path).map_err(|e| self.broken(e))
    }

    fn broken(&self, source: std::io::Error) -> StoreError {
        StoreError::File { doing: "read the journal of", path: self.path.clone(), source }
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

/// A page while it fills.
struct Gather {
    portion: Portion,
    events: Vec<Event>,
    bytes: usize,
    complete: bool,
    /// Up to the last event that was taken, ...
    damaged: u64,
    /// ... and after it: a page that ends there meets them again.
    damaged_since: u64,
    next: Option<usize>,
}

impl Gather {
    fn new(portion: Portion) -> Self {
        Self { portion, events: Vec::new(), bytes: 0, complete: true, damaged: 0, damaged_since: 0, next: None }
    }

    /// Takes the event, if there is one, and if the page has room for it; false if it is full.
    fn offer(&mut self, event: impl FnOnce() -> Option<Event>) -> bool {
        self.complete = self.events.len() < self.portion.events;
        if self.complete {
            let Some(event) = event() else {
                self.damaged_since += 1;
                return true;
            };
            let size = event.weight();
            let is_forced = self.portion.at_least_one && self.events.is_empty();
            if self.bytes + size > self.portion.bytes && !is_forced {
                (self.complete, self.next) = (false, Some(size));
            } else {
                self.bytes += size;
                self.damaged += std::mem::take(&mut self.damaged_since);
                self.events.push(event);
            }
        }
        self.complete
    }
}

/// The event of a row; nothing where the row holds what no event is.
fn event(row: &Row<'_>) -> Option<Event> {
    let payload = row.get_ref(5).ok()?.as_str().ok().filter(|payload| is_payload(payload))?;
    let origin = match (row.get(6).ok()?, row.get(7).ok()?, row.get::<_, Option<i64>>(8).ok()?) {
        (Some(node), Some(epoch), Some(seq)) => Some(Arc::new(Origin { node, epoch, seq: seq.unsigned_abs() })),
        _ => None,
    };
    Some(Event {
        seq: row.get::<_, i64>(0).ok()?.unsigned_abs(),
        accepted: Timestamp::from_microsecond(row.get(1).ok()?).ok()?,
        origin,
        draft: Draft {
            name: row.get(2).ok()?,
            subtype: row.get(3).ok()?,
            session: row.get(4).ok()?,
            payload: payload.into(),
        },
    })
}

/// Whether text is what events carry, as whoever passes it on relies on: valid JSON without line breaks.
fn is_payload(text: &str) -> bool {
    memchr::memchr2(b'\n', b'\r', text.as_bytes()).is_none()
        && serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok()
}
