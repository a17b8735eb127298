//! One client: its transport, what waits to be sent to it, its heartbeat. No task of its own: whoever has something
//! for the client writes it, and only what the kernel does not take at once waits in the backlog, bounded in bytes.
//!
//! [`link`] is how packets get to the client, [`members`] the namespaces it is in, [`parts`] the binary attachments that
//! it has not sent yet, [`asks`] what it was asked.

pub mod asks;
pub mod link;
pub mod members;
pub mod parts;

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use tokio::sync::Notify;

use self::asks::Asks;
pub use self::asks::{AskError, Asked, Reply};
use self::link::Link;
pub use self::link::Polled;
pub use self::members::Feed;
use self::members::Members;
use self::parts::Partial;
use super::beat::{Beat, Due};
use super::bucket::Bucket;
use super::connection::WRITE_DEADLINE;
pub use super::end::End;
use super::handshake::Handshake;
use super::options::Options;
use super::outgoing::Outgoing;
use super::places::Slot;
use super::sid::Sid;
use super::stream::Stream;
use super::{frame, packet};

/// A client that opens a session by polling and never comes back for its packets makes room for another one after this.
pub const UNUSED_DEADLINE: Duration = Duration::from_secs(5);
/// A client with so many events that are not dealt with is read from again when some of them are: its connection
/// fills up, and it waits, as it should.
pub const MAX_UNSETTLED: usize = 256;
/// The same in bytes as they came: large events are held back sooner than small ones.
pub const MAX_UNSETTLED_BYTES: usize = 1 << 20;
/// A client's session; see the module.
pub struct Session {
    /// The Engine.IO session id, the client's key to its polls.
    pub sid: Sid,
    /// The Socket.IO session id in the default namespace; what other clients may learn.
    pub socket_sid: Sid,
    /// The time between two pings, as announced in the handshake.
    pub ping_interval: Duration,
    /// How long the client may take to answer, as announced.
    pub ping_timeout: Duration,
    /// When it was opened.
    pub opened: SystemTime,
    /// What is kept of the request that opened it.
    pub handshake: Box<Handshake>,
    backlog: usize,
    connect_timeout: Option<Duration>,
    /// Wakes whoever waits for the client's events to be settled.
    all_settled: Notify,
    /// Wakes the task that owns the WebSocket.
    pub wake: Notify,
    inner: Mutex<Inner>,
    _slot: Slot,
}

struct Inner {
    link: Link,
    queue: VecDeque<Bytes>,
    queued: usize,
    /// When the client last took something, or the queue began to fill.
    progress: Instant,
    poll: Option<Waker>,
    polling: bool,
    beat: Beat,
    members: Members,
    /// It must be in a namespace by then.
    connect_by: Option<Instant>,
    /// Since when the client has not come back, if it never has.
    unused_since: Option<Instant>,
    count_seen: u64,
    closing: bool,
    end: Option<End>,
    partial: Option<Box<Partial>>,
    asks: Option<Box<Asks>>,
    /// Events of this client that are not dealt with yet.
    unsettled: usize,
    unsettled_bytes: usize,
    bucket: Bucket,
    /// Whoever waits until nothing waits for the client.
    drained: Option<Waker>,
}

impl Session {
    /// A session that polls, or owns `socket` from the start.
    pub fn new(
        socket: Option<Arc<Stream>>,
        options: &Options,
        handshake: Handshake,
        slot: Slot,
        now: Instant,
    ) -> Result<Self, getrandom::Error> {
        let unused_since = socket.is_none().then_some(now);
        Ok(Self {
            sid: Sid::random()?,
            socket_sid: Sid::random()?,
            ping_interval: options.ping_interval,
            ping_timeout: options.ping_timeout,
            opened: SystemTime::now(),
            handshake: Box::new(handshake),
            backlog: options.backlog,
            connect_timeout: options.connect_timeout,
            all_settled: Notify::new(),
            wake: Notify::new(),
            inner: Mutex::new(Inner {
                link: socket.map_or(Link::Polling, Link::Socket),
                queue: VecDeque::new(),
                queued: 0,
                progress: now,
                poll: None,
                polling: false,
                beat: Beat::new(now, options.ping_interval),
                members: Members::default(),
                connect_by: options.connect_timeout.map(|timeout| now + timeout),
                unused_since,
                count_seen: 0,
                closing: false,
                end: None,
                partial: None,
                asks: None,
                unsettled: 0,
                unsettled_bytes: 0,
                bucket: Bucket::new(now),
                drained: None,
            }),
            _slot: slot,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends packets. `Ok(true)` when some of it waits now though nothing waited before.
    ///
    /// # Errors
    /// Why the session must end: too much waits already, or its connection broke.
    pub fn push(&self, out: &Outgoing, now: Instant) -> Result<bool, End> {
        self.lock().push(self, out, now)
    }

    /// How many bytes wait for the client.
    pub fn queued(&self) -> usize {
        self.lock().queued
    }

    /// An event of this client, so many bytes large, begins to be dealt with.
    pub fn begin(&self, bytes: usize) {
        let mut inner = self.lock();
        inner.unsettled += 1;
        inner.unsettled_bytes += bytes;
    }

    /// An event of this client, as large as it was when it began, is dealt with.
    pub fn settle(&self, bytes: usize) {
        let mut inner = self.lock();
        inner.unsettled -= 1;
        inner.unsettled_bytes -= bytes;
        let all = inner.unsettled == 0;
        drop(inner);
        self.wake.notify_one();
        if all {
            self.all_settled.notify_waiters();
        }
    }

    /// Whether so many events of this client are not dealt with that no more are read from it.
    pub fn is_busy(&self) -> bool {
        let inner = self.lock();
        inner.unsettled >= MAX_UNSETTLED || inner.unsettled_bytes >= MAX_UNSETTLED_BYTES
    }

    /// Waits until every event of this client is dealt with.
    pub async fn settled(&self) {
        loop {
            let settled = self.all_settled.notified();
            tokio::pin!(settled);
            // Registered before the look, so that nothing settles unseen between the two.
            settled.as_mut().enable();
            if self.lock().unsettled == 0 {
                return;
            }
            settled.await;
        }
    }

    /// Whether its client has neither polled nor tried a WebSocket within [`UNUSED_DEADLINE`].
    pub fn is_unused(&self, now: Instant) -> bool {
        self.lock().unused_since.is_some_and(|since| now >= since + UNUSED_DEADLINE)
    }

    /// Why it ended, if it has.
    pub fn ended(&self) -> Option<End> {
        self.lock().end
    }

    /// Ends the session at once; false when it had ended before. What waits is dropped, and an abortive end resets the
    /// connection as soon as its task lets go of it.
    pub fn finish(&self, end: End, abort: bool) -> bool {
        let mut inner = self.lock();
        if inner.end.is_some() {
            return false;
        }
        inner.end = Some(end);
        inner.queue.clear();
        inner.queued = 0;
        inner.partial = None;
        let asks = inner.asks.take();
        if let Link::Socket(stream) = std::mem::replace(&mut inner.link, Link::Polling)
            && (abort || end.is_abortive())
        {
            stream.reset_on_close();
        }
        inner.wake_waiting();
        drop(inner);
        drop(asks);
        self.wake.notify_one();
        true
    }

    /// Ends the session once `last` and what waits before it are sent. Nothing is sent after it.
    pub fn close(&self, last: &Outgoing, code: u16, reason: &str, now: Instant) {
        let mut inner = self.lock();
        if inner.closing || inner.end.is_some() {
            return;
        }
        // Over the bound or broken: there is nobody to tell, and the deadlines do the rest.
        if inner.members.is_in_default() {
            let _ = inner.push(self, last, now);
        }
        if matches!(inner.link, Link::Socket(_)) {
            let bytes = frame::close(code, reason);
            let _ = inner.write(self, bytes, now, usize::MAX);
        }
        inner.closing = true;
        inner.wake_waiting();
        drop(inner);
        self.wake.notify_one();
    }

    /// The client answered a ping; whether the next one is overdue already.
    pub fn pong(&self, now: Instant) -> bool {
        self.lock().beat.answered(now)
    }

    /// Whether it did not answer a ping in time. The heartbeat finds that, too, though perhaps a moment later.
    pub fn is_silent(&self, now: Instant) -> bool {
        self.lock().beat.is_over(now)
    }

    /// Looks at every deadline of the session, sends a ping if it is time, and says when to look again.
    ///
    /// # Errors
    /// The deadline that passed.
    pub fn tick(&self, ping: &Outgoing, now: Instant) -> Result<Instant, End> {
        let mut inner = self.lock();
        let mut next = match inner.beat.due(now, self.ping_interval, self.ping_timeout) {
            Due::Nothing(next) => next,
            Due::Ping(next) => {
                if !inner.closing {
                    inner.push(self, ping, now)?;
                }
                next
            }
            Due::Timeout => return Err(End::PingTimeout),
        };
        if let Some(by) = inner.connect_by.filter(|_| !inner.members.is_in_any()) {
            if now >= by {
                return Err(End::NeverConnected);
            }
            next = next.min(by);
        }
        // A client that polls has no connection to stall; its backlog's bound and its ping hold for it.
        if !inner.queue.is_empty() && matches!(inner.link, Link::Socket(_)) {
            let by = inner.progress + WRITE_DEADLINE;
            if now >= by {
                return Err(End::Stalled);
            }
            next = next.min(by);
        }
        Ok(next)
    }

    /// The socket that its packets go over, if it does not poll.
    pub fn stream(&self) -> Option<Arc<Stream>> {
        match &self.lock().link {
            Link::Socket(stream) => Some(Arc::clone(stream)),
            Link::Polling | Link::Probing => None,
        }
    }

    /// Counts packets of the client, and says until when no more are read from it if it sends more than its settings
    /// allow; whether that begins now.
    pub fn spend(&self, packets: usize, rate: u32, burst: u32, now: Instant) -> bool {
        self.lock().bucket.spend(packets, rate, burst, now)
    }

    /// Until when nothing is read from the client, if it sent more than it may.
    pub fn throttled(&self, now: Instant) -> Option<Instant> {
        self.lock().bucket.empty_until(now)
    }
}

impl Inner {
    /// Lets whoever waits for a change look again: the pending poll, and the task that sends the past.
    fn wake_waiting(&mut self) {
        for waker in [self.poll.take(), self.drained.take()].into_iter().flatten() {
            waker.wake();
        }
    }
}

/// The handshake packet of Engine.IO: what the client needs to know of its session.
pub fn open_packet(session: &Session, upgrades: &[&str], max_payload: usize) -> String {
    let data = serde_json::json!({
        "sid": session.sid.as_str(),
        "upgrades": upgrades,
        "pingTimeout": session.ping_timeout.as_millis() as u64,
        "pingInterval": session.ping_interval.as_millis() as u64,
        "maxPayload": max_payload,
    });
    packet::Engine::Open(&data.to_string()).encode()
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = self.lock();
        f.debug_struct("Session")
            .field("sid", &self.sid)
            .field("queued", &inner.queued)
            .field("end", &inner.end)
            .finish()
    }
}

#[cfg(test)]
mod tests;
