//! The hub: the newest events in memory, and the way of every new one to the subscribers.
//!
//! The store hands committed events over with [`Hub::publish`]; the hub's own task encodes each of them once,
//! adds it to the history and gives it to the [`Outlet`]s. History and outlets change together under one lock, and
//! [`Hub::subscribe`] takes the same lock: a new client gets what was there, then everything after it, with no gap and
//! nothing twice.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use bytes::{Bytes, BytesMut};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::model::Event;
pub use crate::shown::Shown;
use daemon::pulse::{Probe, Pulse};

/// The most bytes of events that one fan-out hands to the outlets at once. Between two of them the hub yields, so that
/// sockets drain and no healthy client's backlog overflows only because many events were committed together.
const CHUNK_BYTES: usize = 128 * 1024;

/// What may wait to be passed on before those who bring events in wait, too.
const WAITING_BYTES: usize = 8 << 20;

/// The most bytes of history that a client gets at once, however many events it asks for; the newest ones count.
pub const HISTORY_BYTES: usize = 1 << 20;

/// How much the hub keeps in memory. What is older is in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The most events.
    pub events: usize,
    /// The most bytes of events.
    pub bytes: usize,
}

impl Default for Limits {
    /// 1000 events, the ring that Claude MPM's clients know, and 8 MiB.
    fn default() -> Self {
        Self { events: 1000, bytes: 8 << 20 }
    }
}

/// Where events go on to, for example the Socket.IO clients.
pub trait Outlet: Send + Sync {
    /// Takes new events in the order of their numbers. Must not block, nor call back into the hub.
    fn send(&self, events: &[Shown]);
}

/// What a new subscriber is told of the past.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct History {
    /// `{"events":[..],"count":n,"total_available":m}`, oldest event first; the shape that Claude MPM's pages read.
    pub json: Bytes,
    /// The number of the newest event in memory, 0 when there is none; with `asked` it identifies `json`.
    pub last_seq: u64,
    /// How many events were asked for.
    pub asked: usize,
}

/// What memory has after an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tail<E = Shown> {
    /// The number of the oldest event in memory.
    pub oldest: Option<u64>,
    /// The number of the newest event that went through the hub; 0 when there was none.
    pub last_seq: u64,
    /// The events after the one asked for that are in memory, oldest first, as many as were wanted.
    pub events: Vec<E>,
    /// The bytes of the first one that was left out; `None` if these are all.
    pub next: Option<usize>,
}

/// See the module.
#[derive(Default)]
pub struct Hub {
    inbox: Mutex<Vec<Arc<Event>>>,
    filled: Notify,
    /// The bytes of the events that are not passed on yet.
    waiting_bytes: AtomicUsize,
    passed: Notify,
    epoch: OnceLock<String>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    limits: Limits,
    ring: VecDeque<Arc<Event>>,
    bytes: usize,
    last_seq: u64,
    outlets: Vec<Arc<dyn Outlet>>,
    history: Option<History>,
}

impl Hub {
    /// An empty hub.
    pub fn new(limits: Limits) -> Arc<Self> {
        let hub = Self::default();
        lock(&hub.state).limits = limits;
        Arc::new(hub)
    }

    /// Starts the hub's task on the current runtime. It answers the pulse as `hub`.
    pub fn start(self: &Arc<Self>, pulse: &Pulse) -> JoinHandle<()> {
        let (hub, probe) = (Arc::clone(self), pulse.register("hub"));
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    () = probe.asked() => probe.answer(),
                    () = hub.filled.notified() => {
                        // One turn for the others: what they commit meanwhile travels in the same write.
                        tokio::task::yield_now().await;
                        hub.drain(&probe).await;
                    }
                }
            }
        })
    }

    /// Fills the history at boot with the store's newest events, oldest first. `epoch` names the store; ids of events
    /// are unique within it. Events that were published already are kept.
    pub fn load(&self, epoch: &str, events: Vec<Event>) {
        self.epoch.get_or_init(|| epoch.to_owned());
        let mut state = lock(&self.state);
        let first = state.ring.front().map_or(u64::MAX, |s| s.seq);
        for event in events.into_iter().filter(|e| e.seq < first).rev() {
            state.last_seq = state.last_seq.max(event.seq);
            state.bytes += event.weight();
            state.ring.push_front(Arc::new(event));
        }
        state.history = None;
        state.trim();
    }

    /// Takes events that the store has committed, in order. Called by whoever committed them; never waits for a client.
    pub fn publish(&self, batch: &[Arc<Event>]) {
        self.waiting_bytes.fetch_add(batch.iter().map(|e| e.draft.payload.len()).sum(), Ordering::AcqRel);
        lock(&self.inbox).extend_from_slice(batch);
        self.filled.notify_one();
    }

    /// Waits while more than [`WAITING_BYTES`] wait to be passed on. Whoever brings events in does this before it takes the
    /// next one, so that a flood that is stored faster than it is sent waits with its senders, not in memory. Cancel safe.
    pub async fn has_room(&self) {
        let is_there = || self.waiting_bytes.load(Ordering::Acquire) <= WAITING_BYTES;
        while !is_there() {
            let passed = self.passed.notified();
            tokio::pin!(passed);
            // Registered before another look, so that nothing passes unseen between the two.
            passed.as_mut().enable();
            if is_there() {
                return;
            }
            passed.await;
        }
    }

    /// Adds an outlet; it gets every event from now on.
    pub fn attach(&self, outlet: Arc<dyn Outlet>) {
        lock(&self.state).outlets.push(outlet);
    }

    /// Gives `join` the newest `limit` events while no new one can pass: whoever becomes a subscriber within `join` gets
    /// exactly the events that are not in this history. `join` must not call back into the hub.
    pub fn subscribe<R>(&self, limit: usize, join: impl FnOnce(&History) -> R) -> R {
        let mut state = lock(&self.state);
        let history = state.history(limit, self.epoch());
        join(&history)
    }

    /// Gives `join` what memory has after `seq`, at most `bytes` of it, while no new one can pass:
    /// who has all events up to `seq`, takes these, and becomes a subscriber within `join` if they are all, misses none and
    /// gets none twice, provided that memory reaches back far enough. `join` must not call back into the hub.
    pub fn resume<R>(&self, seq: u64, bytes: usize, join: impl FnOnce(Tail) -> R) -> R {
        self.tail(seq, usize::MAX, bytes, |Tail { oldest, last_seq, events, next }| {
            let events = events.into_iter().map(|event| self.show(event)).collect();
            join(Tail { oldest, last_seq, events, next })
        })
    }

    /// The same with the events as they were accepted, at most `count` of them.
    pub fn tail<R>(&self, seq: u64, count: usize, bytes: usize, join: impl FnOnce(Tail<Arc<Event>>) -> R) -> R {
        let state = lock(&self.state);
        let (oldest, last_seq) = (state.ring.front().map(|s| s.seq), state.last_seq);
        let start = state.ring.partition_point(|s| s.seq <= seq);
        let (mut events, mut size, mut next) = (Vec::new(), 0, None);
        for event in state.ring.range(start..) {
            size += event.weight();
            if size > bytes || events.len() >= count {
                next = Some(event.weight());
                break;
            }
            events.push(Arc::clone(event));
        }
        join(Tail { oldest, last_seq, events, next })
    }

    /// Calls `change` while no new event can pass. `change` must not call back into the hub.
    pub fn pause<R>(&self, change: impl FnOnce() -> R) -> R {
        let _state = lock(&self.state);
        change()
    }

    /// An event as subscribers see it.
    pub fn show(&self, event: Arc<Event>) -> Shown {
        Shown::new(event, self.epoch())
    }

    /// The events in memory, oldest first, as they were accepted. Other than the store's they can always be read.
    pub fn kept(&self) -> Vec<Arc<Event>> {
        lock(&self.state).ring.iter().cloned().collect()
    }

    fn epoch(&self) -> &str {
        self.epoch.get().map_or("", String::as_str)
    }

    /// Events that the store has committed and that still wait for the hub's task.
    pub fn waiting(&self) -> usize {
        lock(&self.inbox).len()
    }

    /// The number of the newest event that went through the hub; 0 when there was none.
    pub fn last_seq(&self) -> u64 {
        lock(&self.state).last_seq
    }

    async fn drain(&self, probe: &Probe) {
        let events = std::mem::take(&mut *lock(&self.inbox));
        let mut rest = events.as_slice();
        while !rest.is_empty() {
            let mut bytes = 0;
            let fits = rest.iter().take_while(|e| {
                bytes += e.draft.payload.len();
                bytes <= CHUNK_BYTES
            });
            let (chunk, later) = rest.split_at(fits.count().max(1));
            self.pass(chunk);
            self.waiting_bytes.fetch_sub(chunk.iter().map(|e| e.draft.payload.len()).sum(), Ordering::AcqRel);
            self.passed.notify_waiters();
            rest = later;
            if !rest.is_empty() {
                probe.answer();
                tokio::task::yield_now().await;
            }
        }
    }

    fn pass(&self, events: &[Arc<Event>]) {
        let mut state = lock(&self.state);
        let mut last = state.last_seq;
        let is_new = |event: &&Arc<Event>| {
            let before = last;
            last = last.max(event.seq);
            before < event.seq
        };
        let shown: Vec<Shown> = events
            .iter()
            .filter(is_new)
            .map(|event| (Shown::new(Arc::clone(event), self.epoch()), event))
            .map(|(shown, event)| {
                state.bytes += event.weight();
                state.ring.push_back(Arc::clone(event));
                shown
            })
            .collect();
        let Some(newest) = shown.last() else { return };
        state.last_seq = newest.seq;
        state.history = None;
        state.trim();
        for outlet in &state.outlets {
            outlet.send(&shown);
        }
    }
}

impl State {
    fn trim(&mut self) {
        while self.ring.len() > self.limits.events || self.bytes > self.limits.bytes {
            let Some(old) = self.ring.pop_front() else { return };
            self.bytes -= old.weight();
        }
    }

    /// Clients that reconnect together, as after a restart, share one encoded history.
    fn history(&mut self, limit: usize, epoch: &str) -> History {
        if let Some(history) = self.history.as_ref().filter(|h| h.asked == limit) {
            return history.clone();
        }
        let (mut newest, mut size) = (Vec::new(), 0);
        for event in self.ring.iter().rev().take(limit) {
            let shown = Shown::new(Arc::clone(event), epoch);
            size += shown.payload().len() + 1;
            if size > HISTORY_BYTES {
                break;
            }
            newest.push(shown);
        }
        let mut json = BytesMut::with_capacity(size.min(HISTORY_BYTES) + 64);
        json.extend_from_slice(b"{\"events\":[");
        for (index, shown) in newest.iter().rev().enumerate() {
            if index > 0 {
                json.extend_from_slice(b",");
            }
            shown.unnamed().iter().for_each(|part| json.extend_from_slice(part));
        }
        let tail = format!("],\"count\":{},\"total_available\":{}}}", newest.len(), self.ring.len());
        json.extend_from_slice(tail.as_bytes());
        let history = History { json: json.freeze(), last_seq: self.last_seq, asked: limit };
        self.history = Some(history.clone());
        history
    }
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = lock(&self.state);
        f.debug_struct("Hub").field("events", &state.ring.len()).field("last_seq", &state.last_seq).finish()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Draft;

    fn event(seq: u64, payload: &str) -> Event {
        let draft =
            Draft { name: "tool_event".into(), subtype: "pre_tool".into(), session: None, payload: payload.into() };
        Event { seq, accepted: jiff::Timestamp::UNIX_EPOCH, origin: None, draft }
    }

    #[test]
    fn the_ring_is_bounded_by_count_and_by_bytes() {
        let hub = Hub::new(Limits { events: 3, bytes: 1 << 20 });
        hub.load("e", (1..=5).map(|n| event(n, "{}")).collect());
        assert_eq!(lock(&hub.state).ring.iter().map(|s| s.seq).collect::<Vec<_>>(), [3, 4, 5]);
        let hub = Hub::new(Limits { events: 100, bytes: 1000 });
        hub.load("e", (1..=100).map(|n| event(n, r#"{"k":"0123456789"}"#)).collect());
        let state = lock(&hub.state);
        assert!(state.bytes <= 1000 && state.ring.len() > 1, "{} bytes in {}", state.bytes, state.ring.len());
        assert_eq!(state.ring.iter().map(|e| e.weight()).sum::<usize>(), state.bytes);
    }

    #[tokio::test]
    async fn who_brings_more_than_can_be_passed_on_waits() {
        let (hub, pulse) = (Hub::new(Limits::default()), Pulse::new());
        hub.has_room().await;
        let big = format!("{{\"pad\":\"{}\"}}", "x".repeat(1 << 20));
        hub.publish(&(1..=9).map(|n| Arc::new(event(n, &big))).collect::<Vec<_>>());
        let waits = tokio::spawn({
            let hub = Arc::clone(&hub);
            async move { hub.has_room().await }
        });
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        assert!(!waits.is_finished());
        let task = hub.start(&pulse);
        waits.await.unwrap();
        while hub.last_seq() < 9 {
            tokio::task::yield_now().await;
        }
        assert_eq!(hub.waiting_bytes.load(Ordering::Acquire), 0);
        task.abort();
    }

    #[test]
    fn loading_after_the_first_events_puts_the_past_before_them() {
        let hub = Hub::new(Limits::default());
        hub.pass(&[Arc::new(event(4, "{}"))]);
        hub.load("e", (1..=4).map(|n| event(n, "{}")).collect());
        assert_eq!(lock(&hub.state).ring.iter().map(|s| s.seq).collect::<Vec<_>>(), [1, 2, 3, 4]);
        assert_eq!(hub.last_seq(), 4);
    }

    #[test]
    fn history_has_the_newest_events_and_says_how_many_there_are() {
        let hub = Hub::new(Limits::default());
        hub.load("e", (1..=5).map(|n| event(n, r#"{"a":1}"#)).collect());
        let text = hub.subscribe(2, |h| String::from_utf8(h.json.to_vec()).unwrap());
        assert_eq!(text, r#"{"events":[{"a":1,"seq":4},{"a":1,"seq":5}],"count":2,"total_available":5}"#);
        hub.pass(&[Arc::new(event(6, "{}"))]);
        let value: serde_json::Value = hub.subscribe(2, |h| serde_json::from_slice(&h.json).unwrap());
        assert_eq!(value["events"][1]["seq"], 6);
        assert_eq!(hub.subscribe(0, |h| h.json.clone()), r#"{"events":[],"count":0,"total_available":6}"#);
    }

    #[derive(Default)]
    struct Seen(Mutex<Vec<u64>>);

    impl Outlet for Seen {
        fn send(&self, events: &[Shown]) {
            lock(&self.0).extend(events.iter().map(|e| e.seq));
        }
    }

    #[tokio::test]
    async fn every_event_goes_on_once_and_in_order_and_the_pulse_is_answered() {
        let (hub, pulse, seen) = (Hub::new(Limits::default()), Pulse::new(), Arc::new(Seen::default()));
        hub.attach(Arc::clone(&seen) as Arc<dyn Outlet>);
        let task = hub.start(&pulse);
        let big = format!("{{\"pad\":\"{}\"}}", "x".repeat(40_000));
        let publisher = Arc::clone(&hub);
        std::thread::spawn(move || {
            for first in (1..=90).step_by(10) {
                let batch: Vec<_> = (first..first + 10).map(|n| Arc::new(event(n, &big))).collect();
                publisher.publish(&batch);
            }
            publisher.publish(&[Arc::new(event(90, "{}"))]);
        })
        .join()
        .unwrap();
        pulse.ask();
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while (lock(&seen.0).len() < 90 || !pulse.silent().is_empty()) && std::time::Instant::now() < deadline {
            tokio::task::yield_now().await;
        }
        assert_eq!(*lock(&seen.0), (1..=90).collect::<Vec<_>>());
        assert!(pulse.silent().is_empty());
        task.abort();
    }
}
