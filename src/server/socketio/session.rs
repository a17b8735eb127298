//! One client: its transport, what waits to be sent to it, its heartbeat. No task of its own: whoever has something
//! for the client writes it, and only what the kernel does not take at once waits in the backlog, bounded in bytes.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, IoSlice};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use tokio::sync::Notify;

pub use super::end::End;
use super::heartbeat::{Beat, Due};
use super::outgoing::Outgoing;
use super::payload;
use super::registry::Slot;
use super::sid::Sid;
use super::{frame, packet};
use crate::server::stream::Stream;

/// A client that takes nothing for so long, although something waits for it, is cut off.
pub const WRITE_DEADLINE: Duration = Duration::from_secs(10);
/// A client that never asks for a namespace is sent away; the value is that of the reference server (`connectTimeout`).
pub const CONNECT_DEADLINE: Duration = Duration::from_secs(45);
/// A client with so many events on their way to the store is read from again when some of them are there: its connection
/// fills up, and it waits, as it should.
pub const MAX_UNSETTLED: usize = 256;
/// The most pieces of one vectored write.
const SLICES: usize = 32;

/// How a client's packets travel.
enum Link {
    Polling,
    /// Still polling, while the client tries the WebSocket.
    Probing,
    Socket(Arc<Stream>),
}

/// What a poll gets.
#[derive(Debug, PartialEq, Eq)]
pub enum Polled {
    /// These packets, joined.
    Payload(Bytes),
    /// The session has ended.
    Over,
}

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
    pub opened: jiff::Timestamp,
    backlog: usize,
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
    connected: bool,
    connect_by: Instant,
    count_seen: u64,
    closing: bool,
    end: Option<End>,
    partial: Option<Partial>,
    /// Events of this client that are not dealt with yet.
    unsettled: usize,
}

/// An event whose binary attachments are still on their way.
struct Partial {
    text: String,
    missing: usize,
    bytes: usize,
}

impl Session {
    /// A session that polls, or owns `socket` from the start.
    pub fn new(
        socket: Option<Arc<Stream>>,
        (ping_interval, ping_timeout): (Duration, Duration),
        backlog: usize,
        slot: Slot,
        now: Instant,
    ) -> Result<Self, getrandom::Error> {
        Ok(Self {
            sid: Sid::random()?,
            socket_sid: Sid::random()?,
            ping_interval,
            ping_timeout,
            opened: jiff::Timestamp::now(),
            backlog,
            all_settled: Notify::new(),
            wake: Notify::new(),
            inner: Mutex::new(Inner {
                link: socket.map_or(Link::Polling, Link::Socket),
                queue: VecDeque::new(),
                queued: 0,
                progress: now,
                poll: None,
                polling: false,
                beat: Beat::new(now, ping_interval),
                connected: false,
                connect_by: now + CONNECT_DEADLINE,
                count_seen: 0,
                closing: false,
                end: None,
                partial: None,
                unsettled: 0,
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

    /// Sends packets if the client is in the default namespace.
    ///
    /// # Errors
    /// As [`Session::push`].
    pub fn push_connected(&self, out: &Outgoing, now: Instant) -> Result<bool, End> {
        let mut inner = self.lock();
        if inner.connected { inner.push(self, out, now) } else { Ok(false) }
    }

    /// Sends the number of clients if this one has not seen `version` of it yet.
    ///
    /// # Errors
    /// As [`Session::push`].
    pub fn push_count(&self, out: &Outgoing, version: u64, now: Instant) -> Result<bool, End> {
        let mut inner = self.lock();
        if !inner.connected || inner.count_seen >= version {
            return Ok(false);
        }
        inner.count_seen = version;
        inner.push(self, out, now)
    }

    /// Enters the default namespace, and sends its greeting in the same step.
    ///
    /// # Errors
    /// As [`Session::push`].
    pub fn join(&self, greeting: &Outgoing, count_version: u64, now: Instant) -> Result<bool, End> {
        let mut inner = self.lock();
        inner.connected = true;
        inner.count_seen = count_version;
        inner.push(self, greeting, now)
    }

    /// Leaves the default namespace; whether it was in it.
    pub fn leave(&self, now: Instant) -> bool {
        let mut inner = self.lock();
        inner.connect_by = now + CONNECT_DEADLINE;
        std::mem::take(&mut inner.connected)
    }

    /// Whether the client is in the default namespace.
    pub fn is_connected(&self) -> bool {
        self.lock().connected
    }

    /// Whether its packets go over a WebSocket.
    pub fn is_socket(&self) -> bool {
        matches!(self.lock().link, Link::Socket(_))
    }

    /// How many bytes wait for the client.
    pub fn queued(&self) -> usize {
        self.lock().queued
    }

    /// An event of this client begins to be dealt with.
    pub fn begin(&self) {
        self.lock().unsettled += 1;
    }

    /// An event of this client is dealt with.
    pub fn settle(&self) {
        let mut inner = self.lock();
        inner.unsettled -= 1;
        let all = inner.unsettled == 0;
        drop(inner);
        self.wake.notify_one();
        if all {
            self.all_settled.notify_waiters();
        }
    }

    /// Whether so many events of this client are not dealt with that no more are read from it.
    pub fn is_busy(&self) -> bool {
        self.lock().unsettled >= MAX_UNSETTLED
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
        if let Link::Socket(stream) = std::mem::replace(&mut inner.link, Link::Polling)
            && (abort || end.is_abortive())
        {
            stream.reset_on_close();
        }
        if let Some(waker) = inner.poll.take() {
            waker.wake();
        }
        drop(inner);
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
        if inner.connected {
            let _ = inner.push(self, last, now);
        }
        if matches!(inner.link, Link::Socket(_)) {
            let bytes = frame::close(code, reason);
            let _ = inner.write(self, bytes, now, usize::MAX);
        }
        inner.closing = true;
        if let Some(waker) = inner.poll.take() {
            waker.wake();
        }
        drop(inner);
        self.wake.notify_one();
    }

    /// Puts what the WebSocket's parser wants to say (pong, close) in line with everything else.
    ///
    /// # Errors
    /// As [`Session::push`].
    pub fn reply(&self, bytes: Bytes, now: Instant) -> Result<bool, End> {
        self.lock().write(self, bytes, now, self.backlog)
    }

    /// Writes what waits; whether the kernel still does not take all of it.
    ///
    /// # Errors
    /// When the connection broke.
    pub fn flush(&self, now: Instant) -> Result<bool, End> {
        self.lock().flush(now)
    }

    /// Whether all is sent that was to be sent before the close.
    pub fn is_closed(&self) -> bool {
        let inner = self.lock();
        inner.closing && inner.queue.is_empty()
    }

    /// Whether it says no more.
    pub fn is_closing(&self) -> bool {
        self.lock().closing
    }

    /// Begins a poll; false when one is pending already or the session does not poll.
    pub fn begin_poll(&self) -> bool {
        let mut inner = self.lock();
        let may = !inner.polling && !matches!(inner.link, Link::Socket(_));
        inner.polling |= may;
        may
    }

    /// The packets for the pending poll, as soon as there are any.
    pub fn poll_packets(&self, cx: &mut Context<'_>, now: Instant) -> Poll<Polled> {
        let mut inner = self.lock();
        if !inner.queue.is_empty() {
            let packets = inner.queue.drain(..).collect();
            inner.queued = 0;
            inner.progress = now;
            return Poll::Ready(Polled::Payload(payload::join(packets)));
        }
        if inner.end.is_some() || inner.closing {
            return Poll::Ready(Polled::Over);
        }
        if !matches!(inner.link, Link::Polling) {
            // The client waits for this poll to end before it says that it has moved.
            return Poll::Ready(Polled::Payload(Bytes::from_static(b"6")));
        }
        inner.poll = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Ends a poll that was answered.
    pub fn end_poll(&self) {
        let mut inner = self.lock();
        inner.polling = false;
        inner.poll = None;
    }

    /// The client tries a WebSocket; false when it may not (it has one, or tries already).
    pub fn begin_probe(&self) -> bool {
        let mut inner = self.lock();
        let may = matches!(inner.link, Link::Polling) && inner.end.is_none() && !inner.closing;
        if may {
            inner.link = Link::Probing;
            if let Some(waker) = inner.poll.take() {
                waker.wake();
            }
        }
        may
    }

    /// The try came to nothing; the client goes on polling.
    pub fn abandon_probe(&self) {
        let mut inner = self.lock();
        if matches!(inner.link, Link::Probing) {
            inner.link = Link::Polling;
        }
    }

    /// The client has moved: what waits becomes frames, and all else follows on the WebSocket.
    pub fn move_to(&self, stream: Arc<Stream>, now: Instant) {
        let mut inner = self.lock();
        if inner.end.is_some() {
            return;
        }
        let frames: VecDeque<Bytes> = inner
            .queue
            .iter()
            .flat_map(|joined| payload::split(joined).map(|p| frame::text(&p)).collect::<Vec<_>>())
            .collect();
        inner.queued = frames.iter().map(Bytes::len).sum();
        inner.queue = frames;
        inner.progress = now;
        inner.link = Link::Socket(stream);
    }

    /// The client answered a ping; whether the next one is overdue already.
    pub fn pong(&self, now: Instant) -> bool {
        self.lock().beat.answered(now)
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
        if !inner.connected {
            if now >= inner.connect_by {
                return Err(End::NeverConnected);
            }
            next = next.min(inner.connect_by);
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

    /// Keeps an event until its attachments are there.
    pub fn expect(&self, text: &str, attachments: usize) {
        let partial = Partial { text: text.to_owned(), missing: attachments, bytes: 0 };
        self.lock().partial = Some(partial);
    }

    /// One attachment more; the event's text when it was the last one.
    ///
    /// # Errors
    /// [`End::Protocol`] when none is expected, or all together are larger than `limit`.
    pub fn attachment(&self, bytes: usize, limit: usize) -> Result<Option<String>, End> {
        let mut inner = self.lock();
        let Some(partial) = inner.partial.as_mut() else { return Err(End::Protocol) };
        partial.bytes += bytes;
        partial.missing -= 1;
        if partial.bytes > limit {
            return Err(End::Protocol);
        }
        Ok(if partial.missing == 0 { inner.partial.take().map(|p| p.text) } else { None })
    }

    /// Whether attachments are still missing, so that a text packet breaks the protocol.
    pub fn expects_attachment(&self) -> bool {
        self.lock().partial.is_some()
    }
}

impl Inner {
    fn push(&mut self, session: &Session, out: &Outgoing, now: Instant) -> Result<bool, End> {
        if self.end.is_some() || self.closing {
            return Ok(false);
        }
        match &self.link {
            Link::Socket(_) => self.write(session, out.socket().clone(), now, session.backlog),
            Link::Polling | Link::Probing => {
                self.enqueue(out.polling().clone(), now, session.backlog)?;
                if let Some(waker) = self.poll.take() {
                    waker.wake();
                }
                Ok(false)
            }
        }
    }

    /// To the kernel right away when nothing waits; what it does not take waits, and the socket's task is woken.
    fn write(&mut self, session: &Session, mut bytes: Bytes, now: Instant, limit: usize) -> Result<bool, End> {
        let Link::Socket(stream) = &self.link else { return Ok(false) };
        if self.queue.is_empty() {
            while bytes.has_remaining() {
                match stream.try_write(&bytes) {
                    Ok(written) => bytes.advance(written),
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                    Err(_) => return Err(End::TransportClosed),
                }
            }
        }
        if bytes.is_empty() {
            return Ok(false);
        }
        let first = self.queue.is_empty();
        self.enqueue(bytes, now, limit)?;
        if first {
            session.wake.notify_one();
        }
        Ok(first)
    }

    /// One send may always wait, however large; a second one only within the bound.
    fn enqueue(&mut self, bytes: Bytes, now: Instant, limit: usize) -> Result<(), End> {
        if self.queue.is_empty() {
            self.progress = now;
        } else if self.queued.saturating_add(bytes.len()) > limit {
            return Err(End::Backlog);
        }
        self.queued += bytes.len();
        self.queue.push_back(bytes);
        Ok(())
    }

    fn flush(&mut self, now: Instant) -> Result<bool, End> {
        let Link::Socket(stream) = &self.link else { return Ok(false) };
        while !self.queue.is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let count = self.queue.len().min(SLICES);
            for (slice, bytes) in slices.iter_mut().zip(&self.queue) {
                *slice = IoSlice::new(bytes);
            }
            let mut written = match stream.try_write_vectored(&slices[..count]) {
                Ok(written) => written,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(true),
                Err(_) => return Err(End::TransportClosed),
            };
            self.progress = now;
            self.queued -= written;
            while let Some(front) = self.queue.front_mut() {
                let part = written.min(front.len());
                front.advance(part);
                written -= part;
                if front.has_remaining() {
                    break;
                }
                self.queue.pop_front();
            }
        }
        // A burst may have made it large; most of the time it stays empty.
        self.queue.shrink_to(8);
        Ok(false)
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
