//! The body of one reader's answer: it takes the next piece when its connection has taken the one before.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::Frame;
use serde_json::json;
use tokio::time::{Instant, Sleep, sleep_until};

use super::ask::Ask;
use super::chunk::{self, Chunk};
use super::{Next, Reader, Streams};
use crate::events::cursor::{self, Cursor, Gap, Next as Ahead, Read, Recalled};
use crate::events::hub::Shown;
use crate::events::model::Event;
use crate::server::accept::Connection;
use crate::server::room::Share;
use socketio::registry::Slot;
use socketio::sid::Sid;

/// Between two signs of life in a stream that has nothing to say: proxies and readers give up one that is silent for long.
const BEAT: Duration = Duration::from_secs(15);
/// How long a reader waits before it comes back, in milliseconds.
const RETRY: u32 = 1000;

/// What a reader waits for.
type Awaited = Pin<Box<dyn Future<Output = Come> + Send>>;

enum Come {
    /// A piece of the store.
    Read(Read),
    /// Room for an event that is larger than a piece.
    Share(Share),
}

/// Why there is something that a reader asked for and does not get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Why {
    /// It is not kept any more.
    Pruned,
    /// The number is from another store.
    OtherStore,
    /// The number was never given.
    UnknownNumber,
    /// The store cannot be read.
    Unreadable,
}

impl From<cursor::Why> for Why {
    fn from(why: cursor::Why) -> Self {
        match why {
            cursor::Why::Pruned => Self::Pruned,
            cursor::Why::Unreadable => Self::Unreadable,
        }
    }
}

impl Why {
    const fn name(self) -> &'static str {
        match self {
            Self::Pruned => "pruned",
            Self::OtherStore => "other_store",
            Self::UnknownNumber => "unknown_number",
            Self::Unreadable => "unreadable",
        }
    }
}

/// See the module.
pub struct Body {
    streams: Arc<Streams>,
    number: u64,
    reader: Arc<Reader>,
    /// It has, or did not want, everything up to here.
    cursor: u64,
    /// Where the past is taken from.
    past: Cursor,
    /// The last number that it was told as an id.
    told: u64,
    /// What it asked for says nothing here, which it is to be told first.
    why: Option<Why>,
    ready: VecDeque<Bytes>,
    awaited: Option<Awaited>,
    /// How much of the past may be taken next.
    share: Share,
    beat: Pin<Box<Sleep>>,
    over: bool,
    connection: Arc<Connection>,
    _slot: Slot,
}

impl Body {
    /// For a reader that has just come.
    pub fn new(streams: &Arc<Streams>, sid: Sid, ask: Ask, connection: Arc<Connection>, slot: Slot) -> Self {
        let store = &streams.store;
        let newest = store.last_seq().max(streams.hub.last_seq());
        let why = ask.from.as_ref().and_then(|from| match &from.epoch {
            Some(epoch) if epoch != store.epoch() => Some(Why::OtherStore),
            _ => (from.seq > newest).then_some(Why::UnknownNumber),
        });
        // Then all that is kept is new to it.
        let from = ask.from.map(|from| if why.is_some() { 0 } else { from.seq });
        let (number, reader) = streams.enter(sid, from, ask.filter);
        let cursor = reader.cursor.load(Ordering::Relaxed);
        let past = Cursor::new(Arc::clone(&streams.store), Arc::clone(&streams.hub), reader.filter.clone(), cursor);
        // Who comes back before it saw another event says this id, so that it misses none either. It has data, as some
        // clients forget an id that comes without.
        let place = json!({"epoch": store.epoch(), "last_seq": cursor});
        let begin = chunk::notice("stream", Some(chunk::mark(store.epoch(), cursor)), &place);
        let first = [format!("retry: {RETRY}\n").as_bytes(), &begin].concat();
        Self {
            streams: Arc::clone(streams),
            number,
            reader,
            cursor,
            past,
            told: cursor,
            why,
            ready: VecDeque::from([first.into()]),
            awaited: None,
            share: Share::default(),
            beat: Box::pin(sleep_until(Instant::now() + BEAT)),
            over: false,
            connection,
            _slot: slot,
        }
    }

    fn put(&mut self, bytes: Bytes) {
        self.reader.waiting.fetch_add(bytes.len(), Ordering::Relaxed);
        self.ready.push_back(bytes);
    }

    /// It has everything up to here now.
    fn move_to(&mut self, cursor: u64) {
        self.cursor = cursor;
        self.past.move_to(cursor);
        self.reader.cursor.store(cursor, Ordering::Relaxed);
    }

    fn take(&mut self, chunk: &Chunk) {
        let (pieces, last) = chunk.after(self.cursor, &self.reader.filter);
        self.told = last.unwrap_or(self.told);
        pieces.into_iter().for_each(|piece| self.put(piece));
        self.move_to(chunk.last().max(self.cursor));
    }

    /// Says that of the events after `from` up to `to` so many are missing.
    fn tell_gap(&mut self, why: Why, from: u64, to: u64, missed: u64) {
        let (epoch, reason) = (self.streams.store.epoch(), why.name());
        let data = json!({"reason": reason, "from": from, "to": to, "missed": missed, "epoch": epoch});
        let notice = chunk::notice("gap", Some(chunk::mark(epoch, to)), &data);
        self.put(notice);
        self.told = to;
        self.move_to(to);
    }

    /// Takes what the hub's memory has; else it reads the store, where that does not reach back so far.
    fn take_from_memory(&mut self) {
        let Some(Recalled { events, next }) = self.past.recall(self.share.bytes, |recalled| recalled) else {
            return self.read();
        };
        let is_empty = events.is_empty();
        self.take_all(events);
        match next {
            Some(size) if is_empty => self.wait_for_room(size),
            _ => self.move_to(self.past.at()),
        }
    }

    fn take_all(&mut self, events: Vec<Arc<Event>>) {
        let epoch = self.streams.store.epoch();
        let events: Vec<Shown> = events.into_iter().map(|event| Shown::new(event, epoch)).collect();
        // Of a share that nothing came of, since the event has gone, nothing is kept.
        let Share { room, .. } = std::mem::take(&mut self.share);
        if !events.is_empty() {
            self.take(&Chunk::new(&events, self.streams.store.epoch(), room));
        }
    }

    fn read(&mut self) {
        let read = self.past.read(self.share.bytes);
        self.awaited = Some(Box::pin(async move { Come::Read(read.await) }));
    }

    fn wait_for_room(&mut self, size: usize) {
        // Nobody waits with room of its own.
        self.share = Share::default();
        self.awaited = Some(Box::pin(async move { Come::Share(Share::of(size).await) }));
    }

    fn took(&mut self, read: Read) {
        let mut first = self.why.take();
        for next in read.at(&mut self.past) {
            if !matches!(next, Ahead::Gap(Gap { why: cursor::Why::Pruned, .. }) | Ahead::Failed(_)) {
                self.tell_first(&mut first);
            }
            match next {
                Ahead::Events(events) => self.take_all(events),
                Ahead::Gap(gap) => self.tell(gap, first.take()),
                Ahead::Large(size) => self.wait_for_room(size),
                Ahead::Live => {}
                Ahead::Failed(error) => {
                    tracing::warn!(%error, client = %self.reader.sid, "a stream's reader cannot be sent all that it missed");
                    if let Some(gap) = self.past.give_up() {
                        self.tell(gap, first.take());
                    }
                }
            }
        }
        self.tell_first(&mut first);
        // Of a share that nothing came of, nothing is kept.
        self.share = Share::default();
        self.move_to(self.past.at());
    }

    /// Tells why what it asked for says nothing here, where nothing is missing that would tell it.
    fn tell_first(&mut self, first: &mut Option<Why>) {
        if let Some(why) = first.take() {
            self.tell_gap(why, self.cursor, self.cursor, 0);
        }
    }

    fn tell(&mut self, Gap { why, from, to, missed }: Gap, first: Option<Why>) {
        self.tell_gap(first.unwrap_or(why.into()), from, to, missed);
    }

    fn pulse(&mut self) {
        let mark = if self.told < self.cursor {
            self.told = self.cursor;
            chunk::mark(self.streams.store.epoch(), self.cursor)
        } else {
            String::new()
        };
        self.put(format!(":\n{mark}\n").into());
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = &mut *self;
        loop {
            if let Some(bytes) = this.ready.pop_front() {
                let waiting = this.ready.iter().map(Bytes::len).sum();
                this.reader.waiting.store(waiting, Ordering::Relaxed);
                this.beat.as_mut().reset(Instant::now() + BEAT);
                return Poll::Ready(Some(Ok(Frame::data(bytes))));
            }
            if this.over {
                return Poll::Ready(None);
            }
            this.reader.wake_with(cx.waker());
            let next = this.streams.next(this.cursor);
            if let Next::Over(goodbye) = next {
                this.put(goodbye);
                this.over = true;
                continue;
            }
            if let Some(awaited) = &mut this.awaited {
                if let Poll::Ready(come) = awaited.as_mut().poll(cx) {
                    this.awaited = None;
                    match come {
                        Come::Read(read) => this.took(read),
                        Come::Share(share) => this.share = share,
                    }
                    continue;
                }
            } else if this.why.is_some() {
                this.read();
                continue;
            } else {
                match next {
                    Next::Chunk(chunk) => {
                        this.take(&chunk);
                        continue;
                    }
                    Next::Behind => {
                        this.take_from_memory();
                        continue;
                    }
                    Next::Nothing | Next::Over(_) => {}
                }
            }
            if this.beat.as_mut().poll(cx).is_ready() {
                this.pulse();
                continue;
            }
            return Poll::Pending;
        }
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        self.streams.leave(self.number);
        if self.connection.has_stalled() {
            self.streams.counters.stalled.fetch_add(1, Ordering::Relaxed);
            tracing::info!(client = %self.reader.sid, reason = "the client takes nothing", "client cut off");
        }
    }
}
