//! The events as server-sent events, `GET /api/stream`: what a browser's `EventSource`, curl or any HTTP client reads.
//!
//! The second [`Outlet`] of the hub, beside Socket.IO. Each fan-out is encoded once, into one [`Chunk`] that all readers share,
//! and the newest chunks are kept in a small ring while anybody reads. A reader has no queue of its own, only a place in the
//! order of events: it [takes](body::Body) what comes after that whenever its connection has taken what came before, from the
//! ring, else from the hub's memory, else from the store. So what waits for a reader is bounded by a piece, however slow it
//! is, and it resumes the same way as it goes on.

mod ask;
mod body;
mod chunk;

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use axum::body::Body as AnyBody;
use axum::extract::{Request, State as Shared};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde_json::{Value, json};

use self::ask::Ask;
use self::chunk::Chunk;
use super::accept::Connection;
use super::answer::Refusal;
use super::room::Room;
use super::routes::App;
use crate::events::hub::{Hub, Outlet, Shown};
use crate::events::store::{Filter, Place, Store};
use socketio::polling::Refused;
use socketio::sid::Sid;

/// Where the stream is.
pub const PATH: &str = "/api/stream";
/// The most bytes of chunks that are kept for readers that are a little behind. Who is further behind reads from the hub's
/// memory or from the store.
const RING_BYTES: usize = 1 << 20;

/// What is counted of the readers while the server runs.
#[derive(Debug, Default)]
pub struct Counters {
    /// Streams opened.
    pub opened: AtomicU64,
    /// Of them, reset because their reader took nothing for too long.
    pub stalled: AtomicU64,
}

/// All readers; see the module.
pub struct Streams {
    hub: Arc<Hub>,
    store: Arc<Store>,
    /// As many as `state.readers`, so that without any a fan-out costs one look.
    count: AtomicUsize,
    /// The number of the next reader.
    next: AtomicU64,
    /// What happened so far.
    pub counters: Counters,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    readers: HashMap<u64, Arc<Reader>>,
    ring: VecDeque<Arc<Chunk>>,
    bytes: usize,
    /// The ring holds every event after this one that went through the hub.
    floor: u64,
    /// The newest event that went through the hub.
    last: u64,
    /// The last thing that every reader is told, once the server ends.
    goodbye: Option<Bytes>,
}

/// One reader, as others see it.
#[derive(Debug)]
pub struct Reader {
    sid: Sid,
    opened: jiff::Timestamp,
    filter: Filter,
    waker: Mutex<Option<Waker>>,
    /// It has, or did not want, every event up to this one.
    cursor: AtomicU64,
    /// What its connection has not taken yet.
    waiting: AtomicUsize,
}

/// What comes after a place.
enum Next {
    /// These events, at least one of which is later.
    Chunk(Arc<Chunk>),
    /// Nothing yet.
    Nothing,
    /// The ring does not reach back so far.
    Behind,
    /// The server ends: the last words.
    Over(Bytes),
}

impl Streams {
    /// Without readers yet; to be attached to the hub.
    pub fn new(hub: Arc<Hub>, store: Arc<Store>) -> Arc<Self> {
        Arc::new(Self {
            hub,
            store,
            count: AtomicUsize::new(0),
            next: AtomicU64::new(0),
            counters: Counters::default(),
            state: Mutex::default(),
        })
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    /// The bytes that wait for all readers together.
    pub fn waiting(&self) -> usize {
        self.lock().readers.values().map(|r| r.waiting.load(Ordering::Relaxed)).sum()
    }

    /// Each reader as `/api/clients` shows it, the oldest first.
    pub fn list(&self) -> Vec<Value> {
        let mut all: Vec<Arc<Reader>> = self.lock().readers.values().cloned().collect();
        all.sort_by_key(|r| (r.opened, r.sid.as_str().to_owned()));
        all.iter().map(|r| r.shown()).collect()
    }

    /// Tells every reader that the server ends, and ends its stream so that it comes back by itself; how many were told.
    pub fn say_goodbye(&self, reason: &str) -> usize {
        let told = json!({"reason": reason, "timestamp": jiff::Timestamp::now().to_string()});
        let mut state = self.lock();
        state.goodbye = Some(chunk::notice("server_restarting", None, &told));
        state.readers.values().for_each(|r| r.wake());
        state.readers.len()
    }

    /// Adds a reader, at the newest event unless it says where.
    fn enter(&self, sid: Sid, from: Option<u64>, filter: Filter) -> (u64, Arc<Reader>) {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        // Within this the hub passes nothing on, so that the ring misses nothing from here on.
        let reader = self.hub.resume(u64::MAX, 0, |tail| {
            let mut state = self.lock();
            if state.readers.is_empty() {
                state.floor = tail.last_seq;
                state.last = tail.last_seq;
            }
            let reader = Arc::new(Reader {
                sid,
                opened: jiff::Timestamp::now(),
                filter,
                waker: Mutex::default(),
                cursor: AtomicU64::new(from.unwrap_or(tail.last_seq)),
                waiting: AtomicUsize::new(0),
            });
            state.readers.insert(number, Arc::clone(&reader));
            self.count.store(state.readers.len(), Ordering::Release);
            reader
        });
        self.counters.opened.fetch_add(1, Ordering::Relaxed);
        (number, reader)
    }

    fn leave(&self, number: u64) {
        let mut state = self.lock();
        state.readers.remove(&number);
        self.count.store(state.readers.len(), Ordering::Release);
        if state.readers.is_empty() {
            state.readers = HashMap::new();
            state.ring = VecDeque::new();
            state.bytes = 0;
        }
    }

    /// What comes after an event.
    fn next(&self, cursor: u64) -> Next {
        let state = self.lock();
        if let Some(goodbye) = &state.goodbye {
            return Next::Over(goodbye.clone());
        }
        if cursor >= state.last {
            return Next::Nothing;
        }
        if cursor < state.floor {
            return Next::Behind;
        }
        let at = state.ring.partition_point(|chunk| chunk.last() <= cursor);
        state.ring.get(at).map_or(Next::Nothing, |chunk| Next::Chunk(Arc::clone(chunk)))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Outlet for Streams {
    fn send(&self, events: &[Shown]) {
        let Some(last) = events.last() else { return };
        if self.count() == 0 {
            return;
        }
        let chunk = Chunk::new(events, self.store.epoch(), Room::default());
        let mut state = self.lock();
        state.last = last.seq;
        state.bytes += chunk.len();
        state.ring.push_back(Arc::new(chunk));
        while state.bytes > RING_BYTES && state.ring.len() > 1 {
            if let Some(oldest) = state.ring.pop_front() {
                state.bytes -= oldest.len();
                state.floor = oldest.last();
            }
        }
        state.readers.values().for_each(|r| r.wake());
    }
}

impl Reader {
    fn wake(&self) {
        if let Some(waker) = self.waker.lock().unwrap_or_else(PoisonError::into_inner).take() {
            waker.wake();
        }
    }

    /// To be called before a look that may find nothing, so that nothing happens unseen between the two.
    fn wake_with(&self, waker: &Waker) {
        let mut place = self.waker.lock().unwrap_or_else(PoisonError::into_inner);
        if !place.as_ref().is_some_and(|known| known.will_wake(waker)) {
            *place = Some(waker.clone());
        }
    }

    fn shown(&self) -> Value {
        let filter = &self.filter;
        let node = filter.node.as_ref().map(|place| match place {
            Place::Here => crate::bus::HERE,
            Place::Node(name) => name,
        });
        json!({
            "session_id": self.sid.as_str(),
            "transport": "sse",
            "in_namespace": false,
            "connected_at": format!("{:.6}", self.opened),
            "backlog_bytes": self.waiting.load(Ordering::Relaxed),
            "last_seq": self.cursor.load(Ordering::Relaxed),
            "filter": {"session": filter.session, "type": filter.name, "subtype": filter.subtype, "node": node},
        })
    }
}

/// `GET /api/stream`.
pub async fn stream(Shared(app): Shared<Arc<App>>, request: Request) -> Response {
    let ask = match Ask::of(&request) {
        Ok(ask) => ask,
        Err(refusal) => return refusal.into_response(),
    };
    if request.method() == Method::HEAD {
        return answer(AnyBody::empty());
    }
    let Some(connection) = request.extensions().get::<Arc<Connection>>().cloned() else {
        return Refusal::internal("the request has no connection").into_response();
    };
    let Some(slot) = app.sio.registry.reserve(app.sio.options().max_clients) else {
        app.sio.counters.refused.fetch_add(1, Ordering::Relaxed);
        return Refusal::from(Refused::TooManyClients).into_response();
    };
    match Sid::random() {
        Ok(sid) => answer(AnyBody::new(body::Body::new(&app.streams, sid, ask, connection, slot))),
        Err(error) => Refusal::internal(format!("no randomness for the stream's id: {error}")).into_response(),
    }
}

fn answer(body: AnyBody) -> Response {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        // A proxy such as nginx would hold events back to send them together.
        (HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")),
    ];
    (StatusCode::OK, headers, body).into_response()
}

impl fmt::Debug for Streams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Streams").field("count", &self.count()).finish_non_exhaustive()
    }
}
