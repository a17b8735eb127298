//! Follows the store from a number on, whoever reads: from the hub's memory as soon as that reaches back far enough, from
//! the store before, and piece by piece, so that a reader holds no more than it asks for.

use std::fmt;
use std::sync::Arc;

use crate::hub::Hub;
use crate::model::Event;
use crate::store::{Filter, Page, Store, StoreError};

/// The most events of a piece.
const PIECE: usize = 256;

/// What comes next.
#[derive(Debug)]
pub enum Next {
    /// Events, oldest first.
    Events(Vec<Arc<Event>>),
    /// Events that are missing.
    Gap(Gap),
    /// One event that is larger than the piece asked for: its bytes.
    Large(usize),
    /// Nothing yet: what comes from now on goes through the hub.
    Live,
    /// The store cannot be read. Ask again, or go on with [`Cursor::give_up`].
    Failed(StoreError),
}

/// Events that a reader does not get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// Why.
    pub why: Why,
    /// They are after this number, ...
    pub from: u64,
    /// ... and up to this one.
    pub to: u64,
    /// How many they are.
    pub missed: u64,
}

/// Why events are missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// They are not kept any more.
    Pruned,
    /// They cannot be read.
    Unreadable,
}

/// What memory has next.
#[derive(Debug)]
pub struct Recalled {
    /// Events, oldest first.
    pub events: Vec<Arc<Event>>,
    /// The bytes of the first event that was left out; `None` if these are all.
    pub next: Option<usize>,
}

/// What the store has next; see [`Cursor::read`].
#[derive(Debug)]
pub struct Read(Result<Page, StoreError>);

/// A place in the sequence of events.
pub struct Cursor {
    store: Arc<Store>,
    hub: Arc<Hub>,
    filter: Filter,
    /// Everything up to here was given out, told as missing, or kept back by the filter.
    at: u64,
    /// Whether the store had nothing after `at` when it was last read.
    read_out: bool,
}

impl Cursor {
    /// A cursor after the event with this number. `filter` chooses among the events of the store; what comes from memory
    /// comes unfiltered.
    pub fn new(store: Arc<Store>, hub: Arc<Hub>, filter: Filter, after: u64) -> Self {
        Self { store, hub, filter, at: after, read_out: false }
    }

    /// The number up to which the cursor has come.
    pub fn at(&self) -> u64 {
        self.at
    }

    /// Goes on after this number, which came another way.
    pub fn move_to(&mut self, at: u64) {
        self.at = at.max(self.at);
    }

    /// What comes next, at most `bytes` of events, and moves behind it: a piece, perhaps between two gaps.
    pub async fn next(&mut self, bytes: usize) -> Vec<Next> {
        match self.recall(bytes, |recalled| recalled) {
            Some(Recalled { events, next: Some(size) }) if events.is_empty() => vec![Next::Large(size)],
            Some(Recalled { events, .. }) if events.is_empty() => vec![Next::Live],
            Some(Recalled { events, .. }) => vec![Next::Events(events)],
            None => self.read(bytes).await.at(self),
        }
    }

    /// Calls `then` with what memory has next, at most `bytes` of it, while the hub passes nothing on, and moves behind it: who
    /// becomes a subscriber within `then`, if that is all, misses nothing and gets nothing twice. `None` where memory does not
    /// reach back so far. `then` must not call back into the hub.
    pub fn recall<R>(&mut self, bytes: usize, then: impl FnOnce(Recalled) -> R) -> Option<R> {
        let hub = Arc::clone(&self.hub);
        hub.tail(self.at, PIECE, bytes, |tail| {
            let reaches = tail.oldest.is_some_and(|oldest| oldest <= self.at.saturating_add(1));
            // What the store had is given out; what it gets from now on has not been through the hub yet.
            let is_at_the_end = self.read_out && tail.last_seq <= self.at;
            if !reaches && !is_at_the_end {
                return None;
            }
            let last = if tail.next.is_none() { Some(tail.last_seq) } else { tail.events.last().map(|e| e.seq) };
            self.move_to(last.unwrap_or(self.at));
            Some(then(Recalled { events: tail.events, next: tail.next }))
        })
    }

    /// What the store has next, at most `bytes` of it, for [`Read::at`]. Does not hold the cursor meanwhile.
    pub fn read(&self, bytes: usize) -> impl Future<Output = Read> + Send + use<> {
        let (store, filter, after) = (Arc::clone(&self.store), self.filter.clone(), self.at);
        async move { Read(store.within(after, bytes, &filter).await) }
    }

    /// Goes on with what is in memory, as the store cannot be read; what is missing before that.
    pub fn give_up(&mut self) -> Option<Gap> {
        let oldest = self.hub.tail(0, 0, 0, |tail| tail.oldest.unwrap_or(tail.last_seq + 1));
        self.read_out = true;
        self.skip_to(oldest, Why::Unreadable)
    }

    /// Everything before `oldest` is gone.
    fn skip_to(&mut self, oldest: u64, why: Why) -> Option<Gap> {
        let (from, to) = (self.at, oldest.saturating_sub(1));
        self.move_to(to);
        (to > from).then(|| Gap { why, from, to, missed: to - from })
    }
}

impl Read {
    /// What it means for the cursor that it was read for, which moves behind it.
    pub fn at(self, cursor: &mut Cursor) -> Vec<Next> {
        let page = match self.0 {
            Ok(page) => page,
            Err(error) => return vec![Next::Failed(error)],
        };
        let mut all = Vec::new();
        all.extend(cursor.skip_to(page.oldest_seq, Why::Pruned).map(Next::Gap));
        let from = cursor.at;
        let events: Vec<_> = page.events.into_iter().map(Arc::new).collect();
        match (events.last().map(|e| e.seq), page.next) {
            (Some(last), _) => {
                cursor.move_to(last);
                all.push(Next::Events(events));
            }
            (None, Some(size)) => all.push(Next::Large(size)),
            (None, None) => {}
        }
        if page.complete {
            // All up to here was looked at, also what the filter kept back.
            cursor.move_to(page.last_seq);
        }
        cursor.read_out = page.complete;
        if page.damaged > 0 {
            let gap = Gap { why: Why::Unreadable, from, to: cursor.at, missed: page.damaged };
            all.push(Next::Gap(gap));
        }
        all
    }
}

impl fmt::Debug for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cursor").field("at", &self.at).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use daemon::components::Components;
    use daemon::pulse::Pulse;

    use super::*;
    use crate::hub::Limits;
    use crate::model::Draft;
    use crate::store::StoreConfig;

    struct Rig {
        store: Arc<Store>,
        hub: Arc<Hub>,
        _dir: tempfile::TempDir,
    }

    /// A store with so many events, none of which is in the hub's memory.
    async fn rig(events: u64) -> Rig {
        let dir = tempfile::tempdir().unwrap();
        let config = StoreConfig {
            path: dir.path().join("events.db"),
            durable: false,
            max_events: 1 << 40,
            max_bytes: 1 << 50,
            max_age: Duration::from_secs(1 << 33),
        };
        let store = Store::open(config, &Pulse::new(), &Components::new(), Box::new(|_| {})).unwrap();
        let rig = Rig { store: Arc::new(store), hub: Hub::new(Limits::default()), _dir: dir };
        for n in 1..=events {
            rig.add(&n.to_string()).await;
        }
        rig
    }

    impl Rig {
        async fn add(&self, payload: &str) {
            let draft = Draft { name: "n".into(), subtype: "s".into(), session: None, payload: payload.into() };
            self.store.append(draft).await.unwrap();
        }

        fn cursor(&self, after: u64) -> Cursor {
            Cursor::new(Arc::clone(&self.store), Arc::clone(&self.hub), Filter::default(), after)
        }

        /// Puts the events from this number on into memory.
        async fn remember(&self, from: u64) {
            self.hub.load("e", self.store.after(from - 1, 1000, &Filter::default()).await.unwrap().events);
        }
    }

    /// What came next, in short.
    async fn told(cursor: &mut Cursor, bytes: usize) -> String {
        let tell = |next| match next {
            Next::Events(events) => format!("{:?}", events.iter().map(|e| e.seq).collect::<Vec<_>>()),
            Next::Gap(Gap { why, from, to, missed }) => format!("{why:?} {from} {to} {missed}"),
            Next::Large(_) => "large".to_owned(),
            Next::Live => "live".to_owned(),
            Next::Failed(error) => error.code().to_owned(),
        };
        cursor.next(bytes).await.into_iter().map(tell).collect::<Vec<_>>().join(", ")
    }

    const BYTES: usize = 64 << 10;

    #[tokio::test]
    async fn cursor_reads_the_store_then_memory_then_is_live() {
        let rig = rig(5).await;
        let mut cursor = rig.cursor(2);
        assert_eq!((told(&mut cursor, BYTES).await, cursor.at()), ("[3, 4, 5]".into(), 5));
        assert_eq!(told(&mut cursor, BYTES).await, "live", "the store was read to its end");
        rig.add("6").await;
        rig.remember(6).await;
        assert_eq!((told(&mut cursor, BYTES).await, told(&mut cursor, BYTES).await), ("[6]".into(), "live".into()));
    }

    #[tokio::test]
    async fn event_larger_than_a_piece_is_given_once_asked_for() {
        let rig = rig(1).await;
        rig.add(&format!("\"{}\"", "x".repeat(BYTES))).await;
        for in_memory in [false, true] {
            if in_memory {
                rig.remember(1).await;
            }
            let mut cursor = rig.cursor(0);
            assert_eq!(told(&mut cursor, BYTES).await, "[1]");
            let next = cursor.next(BYTES).await;
            let [Next::Large(size)] = next[..] else { panic!("{next:?}") };
            assert_eq!((cursor.at(), told(&mut cursor, size).await), (1, "[2]".into()));
        }
    }

    #[tokio::test]
    async fn pruned_events_are_a_gap_told_once() {
        let rig = rig(9).await;
        rig.store.set_limits(2, 1 << 50, Duration::MAX);
        let deadline = std::time::Instant::now() + Duration::from_secs(20);
        while rig.store.after(0, 1, &Filter::default()).await.unwrap().oldest_seq < 8 {
            assert!(std::time::Instant::now() < deadline, "nothing is pruned");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let mut cursor = rig.cursor(3);
        assert_eq!(told(&mut cursor, BYTES).await, "Pruned 3 7 4, [8, 9]");
        assert_eq!(told(&mut cursor, BYTES).await, "live");
    }

    #[tokio::test]
    async fn cursor_that_gives_up_goes_on_with_memory() {
        let rig = rig(9).await;
        rig.remember(6).await;
        let mut cursor = rig.cursor(2);
        assert_eq!(cursor.give_up(), Some(Gap { why: Why::Unreadable, from: 2, to: 5, missed: 3 }));
        assert_eq!((told(&mut cursor, BYTES).await, cursor.give_up()), ("[6, 7, 8, 9]".into(), None));
    }

    #[tokio::test]
    async fn subscriber_joins_with_the_last_piece() {
        let rig = rig(3).await;
        rig.remember(1).await;
        let mut cursor = rig.cursor(1);
        let joined = cursor.recall(BYTES, |recalled| recalled.next.is_none().then_some(recalled.events.len()));
        assert_eq!((joined, cursor.at()), (Some(Some(2)), 3));
        assert_eq!(rig.cursor(u64::MAX).recall(BYTES, |recalled| recalled.events.len()), Some(0));
    }
}
