//! How packets get to a client: straight to the kernel where it takes them, else through the client's one line of bytes.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::{Buf, Bytes};

use super::{End, Inner, Session};
use crate::outgoing::Outgoing;
use crate::payload;
use crate::stream::Stream;

/// The most pieces of one vectored write.
const SLICES: usize = 32;

/// How a client's packets travel.
pub(super) enum Link {
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

impl Session {
    /// Whether its packets go over a WebSocket.
    pub fn is_socket(&self) -> bool {
        matches!(self.lock().link, Link::Socket(_))
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
        inner.unused_since = None;
        may
    }

    /// Waits until nothing waits for the client; false when the task of this number has nothing to send to it any more.
    pub async fn drained(&self, task: u64) -> bool {
        std::future::poll_fn(|cx| {
            let mut inner = self.lock();
            if inner.end.is_some() || inner.closing || !inner.members.is_past_of(task) {
                return Poll::Ready(false);
            }
            if inner.queue.is_empty() {
                return Poll::Ready(true);
            }
            inner.drained = Some(cx.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// Waits until the task of this number has nothing to send any more.
    pub async fn is_over_for(&self, task: u64) {
        std::future::poll_fn(|cx| {
            let mut inner = self.lock();
            if inner.end.is_some() || inner.closing || !inner.members.is_past_of(task) {
                return Poll::Ready(());
            }
            inner.drained = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// The packets for the pending poll, as soon as there are any.
    pub fn poll_packets(&self, cx: &mut Context<'_>, now: Instant) -> Poll<Polled> {
        let mut inner = self.lock();
        if !inner.queue.is_empty() {
            let (packets, taken) = payload::next(&mut inner.queue);
            inner.queued -= taken;
            inner.progress = now;
            if inner.queue.is_empty()
                && let Some(waker) = inner.drained.take()
            {
                waker.wake();
            }
            return Poll::Ready(Polled::Payload(packets));
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
            inner.unused_since = None;
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
            .flat_map(|joined| payload::split(joined).map(|p| payload::to_frame(&p)).collect::<Vec<_>>())
            .collect();
        inner.queued = frames.iter().map(Bytes::len).sum();
        inner.queue = frames;
        inner.progress = now;
        inner.link = Link::Socket(stream);
    }
}

impl Inner {
    pub(super) fn push(&mut self, session: &Session, out: &Outgoing, now: Instant) -> Result<bool, End> {
        // Nothing would be an empty packet, which is none.
        if self.end.is_some() || self.closing || out.is_empty() {
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
    pub(super) fn write(
        &mut self,
        session: &Session,
        mut bytes: Bytes,
        now: Instant,
        limit: usize,
    ) -> Result<bool, End> {
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
        if let Some(waker) = self.drained.take() {
            waker.wake();
        }
        Ok(false)
    }
}
