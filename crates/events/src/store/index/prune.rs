//! What the indexer takes out again: what the bounds no longer hold, a piece at a time, and the room that it leaves.

use std::sync::atomic::Ordering;

use jiff::Timestamp;
use rusqlite::{OptionalExtension, TransactionBehavior};

use super::super::retention::{self, CHUNK, Held, Limits};
use super::super::schema;
use super::{Indexer, Trouble, note_cursors};

/// Free pages are given back to the file system, so many at a time, ...
const VACUUM_PAGES: u64 = 256;
/// ... once they are at least this part of the file; fewer will be used again soon.
const VACUUM_SHARE: u64 = 4;

impl Indexer {
    /// Removes at most a piece of what is too much; true if there may be more to do.
    pub(super) fn prune(&mut self, limits: Limits) -> Result<bool, Trouble> {
        self.around.shared.segments.shrink_to(limits.max_bytes);
        if let Some(gone) = self.around.shared.segments.first().map(|first| first - 1).filter(|g| *g > self.indexed) {
            self.clear(gone)?;
        }
        if self.unmeasured >= limits.stride() || self.limits != Some(limits) {
            self.measure()?;
            self.limits = Some(limits);
        }
        let last = self.around.shared.last.load(Ordering::SeqCst);
        // What is in the database as well leaves the journal with its segment, and pushes nothing out.
        let journal = self.around.shared.segments.bytes_after(self.indexed, last);
        let floor = retention::floor(&limits, last, self.indexed, self.bytes, journal);
        if floor > self.indexed || (floor == self.indexed && self.oldest <= self.indexed) {
            self.clear(floor)?;
            self.remove_read_segments();
            return Ok(false);
        }
        // The journal's share is kept free for it, so that both together stay within the bound.
        let bytes = self.bytes + journal.max(retention::journal_share(&limits));
        let mut through = retention::excess(&limits, Held { oldest: self.oldest, last, bytes });
        let cutoff = limits.cutoff(Timestamp::now().as_microsecond());
        if self.oldest <= self.indexed && self.oldest_accepted < cutoff {
            through = through.max(self.expired(cutoff)?);
        }
        match through.map(|through| through.min(self.indexed)).filter(|through| *through >= self.oldest) {
            Some(through) => {
                self.remove(through)?;
                Ok(true)
            }
            None => Ok(self.give_back()?),
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
        // In the same transaction, so that no event comes in twice and no number is ever given twice.
        schema::put(&tx, "seq", &self.indexed.to_string())?;
        let gone = tx.prepare_cached("DELETE FROM events WHERE seq <= ?1")?.execute([through.cast_signed()])?;
        tx.prepare_cached("DELETE FROM keys WHERE seq <= ?1")?.execute([through.cast_signed()])?;
        tx.commit()?;
        self.around.shared.counters.pruned.fetch_add(gone as u64, Ordering::Relaxed);
        self.find_oldest()?;
        self.measure()
    }

    /// Takes all events out of the database, and none of those up to `through` in: quick, however many there are.
    pub(super) fn clear(&mut self, through: u64) -> rusqlite::Result<()> {
        let held = self.oldest <= self.indexed;
        let tx = self.conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
        schema::put(&tx, "seq", &through.max(self.indexed).to_string())?;
        let gone = if held { tx.execute("DELETE FROM events", [])? } else { 0 };
        tx.execute("DELETE FROM keys", [])?;
        let noted = note_cursors(&tx, &self.around.shared, self.noted)?;
        tx.commit()?;
        self.noted = noted;
        self.around.shared.counters.pruned.fetch_add(gone as u64, Ordering::Relaxed);
        self.skip_to(through);
        (self.oldest, self.oldest_accepted) = (self.indexed + 1, i64::MAX);
        if held {
            self.vacuum("PRAGMA incremental_vacuum")?;
            self.conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
            self.measure()?;
        }
        Ok(())
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
        self.vacuum(&format!("PRAGMA incremental_vacuum({VACUUM_PAGES})"))?;
        Ok(true)
    }

    fn vacuum(&self, sql: &str) -> rusqlite::Result<()> {
        let mut vacuum = self.conn.prepare_cached(sql)?;
        let mut rows = vacuum.query([])?;
        while rows.next()?.is_some() {}
        Ok(())
    }

    pub(super) fn find_oldest(&mut self) -> rusqlite::Result<()> {
        let oldest: Option<(i64, i64)> = self
            .conn
            .prepare_cached("SELECT seq, ifnull(CAST(accepted AS INTEGER), 0) FROM events ORDER BY seq LIMIT 1")?
            .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        (self.oldest, self.oldest_accepted) =
            oldest.map_or((self.indexed + 1, i64::MAX), |(seq, accepted)| (seq.unsigned_abs(), accepted));
        Ok(())
    }

    pub(super) fn measure(&mut self) -> rusqlite::Result<()> {
        let used = self.pragma("page_count")?.saturating_sub(self.pragma("freelist_count")?);
        self.bytes = used * self.pragma("page_size")?;
        self.unmeasured = 0;
        Ok(())
    }

    fn pragma(&self, name: &str) -> rusqlite::Result<u64> {
        let value: i64 = self.conn.prepare_cached(&format!("PRAGMA {name}"))?.query_row([], |row| row.get(0))?;
        Ok(value.unsigned_abs())
    }
}
