//! Events of other nodes: each is stored once and in its node's order, however often and from wherever it comes.
//!
//! How far a node's events are here is a [`Cursors`] entry. It moves with the commit that stores an event, is found again in
//! the journal and in the database, and outlives the events themselves; whoever brings an event asks nobody else.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rusqlite::Connection;
use tokio::sync::oneshot;

use super::queue::Request;
use super::{Store, StoreError, schema};
use crate::model::{Draft, Origin};

/// An event of another node that asks to be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrival {
    /// Where it comes from.
    pub origin: Arc<Origin>,
    /// All that the node has between this number and the event's own is here or is known to be missing: the event is refused
    /// while the cursor is below.
    pub after: u64,
    /// What it says.
    pub draft: Draft,
}

/// What became of an arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stored {
    /// It is stored, with this number.
    Now(u64),
    /// It had been stored before.
    Before,
}

/// A node's name and epoch, and how far its events are here.
type Reached = BTreeMap<(String, String), u64>;

/// How far the events of each node are here.
#[derive(Debug, Default)]
pub(super) struct Cursors(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    reached: Reached,
    /// Counts changes, so that the indexer writes only what is new.
    version: u64,
}

impl Cursors {
    pub(super) fn get(&self, node: &str, epoch: &str) -> u64 {
        self.lock().reached.get(&(node.to_owned(), epoch.to_owned())).copied().unwrap_or(0)
    }

    /// All events of the node up to `seq` are here.
    pub(super) fn reach(&self, node: &str, epoch: &str, seq: u64) {
        let mut inner = self.lock();
        let reached = inner.reached.entry((node.to_owned(), epoch.to_owned())).or_default();
        if *reached < seq {
            *reached = seq;
            inner.version += 1;
        }
    }

    pub(super) fn version(&self) -> u64 {
        self.lock().version
    }

    /// Notes them in the database; what was noted is this version.
    pub(super) fn write(&self, conn: &Connection) -> rusqlite::Result<u64> {
        // Not under the lock: a commit does not wait for the database.
        let (reached, version) = {
            let inner = self.lock();
            (inner.reached.clone(), inner.version)
        };
        let sql = "INSERT INTO nodes VALUES (?1, ?2, ?3) ON CONFLICT (node, epoch) DO UPDATE SET seq = max(seq, ?3)";
        let mut put = conn.prepare_cached(sql)?;
        for ((node, epoch), seq) in reached {
            put.execute((node, epoch, seq.cast_signed()))?;
        }
        Ok(version)
    }

    /// Reads what the database has noted.
    pub(super) fn read(&self, conn: &Connection) -> rusqlite::Result<()> {
        if !schema::has_nodes(conn)? {
            return Ok(());
        }
        let mut statement = conn.prepare("SELECT node, epoch, seq FROM nodes")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            // A damaged one is as if it was not there: its node's events are asked for again.
            if let (Ok(node), Ok(epoch), Ok(seq)) =
                (row.get::<_, String>(0), row.get::<_, String>(1), row.get::<_, i64>(2))
            {
                self.reach(&node, &epoch, seq.unsigned_abs());
            }
        }
        Ok(())
    }

    /// Lets through what may be stored now, in order; the others are told why not.
    pub(super) fn sort(&self, group: Vec<Request>) -> (Vec<Request>, Vec<Refused>) {
        if group.iter().all(|r| r.arrival.is_none()) {
            return (group, Vec::new());
        }
        // What the group itself brings counts for what follows in it.
        let mut ahead = Reached::new();
        let (mut good, mut refused) = (Vec::with_capacity(group.len()), Vec::new());
        for request in group {
            if let Some((origin, after)) = &request.arrival {
                let reached = match ahead.entry((origin.node.clone(), origin.epoch.clone())) {
                    Entry::Occupied(entry) => entry.into_mut(),
                    Entry::Vacant(entry) => {
                        let reached = self.get(&origin.node, &origin.epoch);
                        entry.insert(reached)
                    }
                };
                if origin.seq <= *reached {
                    refused.push((request.answer, Ok(0)));
                    continue;
                }
                if *after > *reached {
                    let error = StoreError::Missing { node: origin.node.clone(), after: *reached, through: *after };
                    refused.push((request.answer, Err(error)));
                    continue;
                }
                *reached = origin.seq;
            }
            good.push(request);
        }
        (good, refused)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Who asked, and the answer: the number 0 stands for what was stored before.
pub(super) type Refused = (oneshot::Sender<Result<u64, StoreError>>, Result<u64, StoreError>);

impl Store {
    /// Stores an event of another node, unless it is here already, once it is in the journal. Several that wait at once
    /// are stored in the order in which their futures are first polled.
    ///
    /// # Errors
    /// As [`Store::append`], and [`StoreError::Missing`] while an earlier one of the node is missing.
    pub async fn append_remote(&self, arrival: Arrival) -> Result<Stored, StoreError> {
        let Arrival { origin, after, draft } = arrival;
        let seq = self.append_as(draft, Some((origin, after)), None).await?;
        Ok(if seq == 0 { Stored::Before } else { Stored::Now(seq) })
    }

    /// The number up to which the events of another node's epoch are here; 0 without any.
    pub fn reached(&self, node: &str, epoch: &str) -> u64 {
        self.shared.cursors.get(node, epoch)
    }
}
