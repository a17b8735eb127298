//! What a client missed while it was away: it says which event it has last, and gets every later one once and in order,
//! then all new ones.
//!
//! A task for each such client sends the past in pieces, each when the client has taken the one before, so that it holds
//! up nobody and its backlog stays small however much it missed. What is larger than a piece by itself waits for
//! [room](crate::server::room) before it is read. It reads from the hub's memory as soon as that reaches
//! back far enough, from the store before. The last piece goes out while the hub passes nothing on, and with it the
//! client is told how it went and becomes a live one: between the two there is room neither for a gap nor for a double.

use std::sync::Arc;
use std::time::Instant;

use serde_json::{Map, Value, json};

use super::{EventFeed, chosen};
use crate::events::hub::{Shown, Tail};
use crate::events::store::Filter;
use crate::server::room::Share;
use socketio::SocketIo;
use socketio::outgoing::{Outgoing, Piece};
use socketio::session::{Feed, Session};

/// The event that ends it.
const RESUMED: &str = "resumed";

/// What a client says it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resume {
    /// The number of the last event it saw.
    last_seq: u64,
    /// The store that the number is from.
    epoch: Option<String>,
}

impl Resume {
    /// `last_seq` and `epoch` of a client's auth payload, if it has the first.
    pub fn of(auth: &Map<String, Value>) -> Option<Self> {
        let epoch = auth.get("epoch").and_then(Value::as_str).map(str::to_owned);
        Some(Self { last_seq: auth.get("last_seq")?.as_u64()?, epoch })
    }
}

/// How far a client has got.
#[derive(Debug)]
struct Progress {
    /// What it said.
    from: u64,
    /// It has, or has missed, everything up to here.
    cursor: u64,
    sent: u64,
    missed: u64,
    /// Whether the store held nothing after `cursor` when it was last read.
    read: bool,
}

/// What a look at the hub's memory led to.
enum Step {
    /// The client is live, or gone.
    Over,
    /// A piece was sent.
    More,
    /// The next event has so many bytes, and needs room.
    Room(usize),
    /// Memory does not reach back to where the client is.
    Read,
}

/// Sends a client what it missed. `task` is the number under which it is in [`Feed::Past`].
pub(super) async fn run(feed: Arc<EventFeed>, sio: Arc<SocketIo>, session: Arc<Session>, task: u64, wish: Resume) {
    let store = &feed.store;
    let to = Client { feed: &feed, sio: &sio, session: &session, task };
    // A number of another store, or one that was never given, says nothing: all that is kept is new to the client.
    let known = wish.epoch.as_deref().is_none_or(|epoch| epoch == store.epoch())
        && wish.last_seq <= store.last_seq().max(feed.hub.last_seq());
    let from = if known { wish.last_seq } else { 0 };
    let mut at = Progress { from, cursor: from, sent: 0, missed: 0, read: false };
    let mut share = Share::default();
    while session.drained(task).await {
        let mut wanted = None;
        match to.send_from_memory(&mut at, &mut share) {
            Step::Over => return,
            Step::More => {}
            Step::Room(size) => wanted = Some(size),
            Step::Read => match store.within(at.cursor, share.bytes, &Filter::default()).await {
                Ok(page) => {
                    at.skip_to(page.oldest_seq);
                    at.missed += page.damaged;
                    let events: Vec<Shown> = page.events.into_iter().map(|e| Shown::new(e, store.epoch())).collect();
                    wanted = page.next.filter(|_| events.is_empty());
                    if !events.is_empty() && !to.send_from_store(&mut at, &events, &mut share).await {
                        return;
                    }
                    if page.complete {
                        at.cursor = at.cursor.max(page.last_seq);
                    }
                    at.read = page.complete;
                }
                Err(error) => {
                    tracing::warn!(%error, client = %session.socket_sid, "a client cannot be sent all that it missed");
                    at.give_up(&feed);
                }
            },
        }
        if let Some(size) = wanted {
            // Nobody waits with room of its own.
            drop(std::mem::take(&mut share));
            tokio::select! {
                turn = Share::of(size) => share = turn,
                () = session.is_over_for(task) => return,
            }
        }
        tokio::task::yield_now().await;
    }
}

impl Progress {
    /// Everything before `oldest` is gone.
    fn skip_to(&mut self, oldest: u64) {
        self.missed += oldest.saturating_sub(self.cursor + 1);
        self.cursor = self.cursor.max(oldest.saturating_sub(1));
    }

    /// Goes on with what is in memory.
    fn give_up(&mut self, feed: &EventFeed) {
        let oldest = feed.hub.resume(0, 0, |tail| tail.oldest.unwrap_or(tail.last_seq + 1));
        self.skip_to(oldest);
        self.read = true;
    }

    /// These were sent.
    fn sent(&mut self, events: &[Shown]) {
        self.sent += events.len() as u64;
        self.cursor = events.last().map_or(self.cursor, |e| e.seq);
    }
}

/// The client that is sent the past.
struct Client<'a> {
    feed: &'a EventFeed,
    sio: &'a Arc<SocketIo>,
    session: &'a Arc<Session>,
    task: u64,
}

impl Client<'_> {
    /// Sends what memory has after the cursor, a piece at most; with the last piece the client becomes a live one.
    fn send_from_memory(&self, at: &mut Progress, share: &mut Share) -> Step {
        self.feed.hub.resume(at.cursor, share.bytes, |tail: Tail| {
            let reaches = tail.oldest.is_some_and(|oldest| oldest <= at.cursor + 1);
            // What the store had is sent; what it gets from now on has not been through the hub yet.
            let is_at_the_end = at.read && tail.last_seq <= at.cursor;
            if !reaches && !is_at_the_end {
                return Step::Read;
            }
            if let (true, Some(size)) = (tail.events.is_empty(), tail.next) {
                return Step::Room(size);
            }
            at.sent(&tail.events);
            let mut out = chosen(self.sio, self.session, tail.events.iter()).into_packets();
            let is_last = tail.next.is_none();
            let then = if is_last {
                out.push(resumed(at, self.feed.store.epoch()));
                Feed::After(at.cursor)
            } else {
                Feed::Past(self.task)
            };
            match (self.send(Outgoing::packets(out), share, then), is_last) {
                (true, false) => Step::More,
                _ => Step::Over,
            }
        })
    }

    /// Sends a piece of the store; false when the client is gone.
    async fn send_from_store(&self, at: &mut Progress, events: &[Shown], share: &mut Share) -> bool {
        // While it was read, something else may have been sent.
        if !self.session.drained(self.task).await {
            return false;
        }
        at.sent(events);
        let out = chosen(self.sio, self.session, events.iter());
        self.send(out, share, Feed::Past(self.task))
    }

    /// Sends a piece with the room that it takes; false when the client is gone.
    fn send(&self, out: Outgoing, share: &mut Share, then: Feed) -> bool {
        let out = std::mem::take(share).sent_in(out);
        match self.session.push_past(self.task, &out, then, Instant::now()) {
            None => false,
            Some(result) => {
                self.sio.sent(self.session, result);
                true
            }
        }
    }
}

fn resumed(at: &Progress, epoch: &str) -> Piece {
    let told = json!({"from": at.from, "to": at.cursor, "count": at.sent, "missed": at.missed, "epoch": epoch});
    Outgoing::event(RESUMED, told.to_string().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_number_is_a_wish_to_resume() {
        let of = |auth: Value| Resume::of(auth.as_object().unwrap());
        assert_eq!(of(json!({"last_seq": 7})), Some(Resume { last_seq: 7, epoch: None }));
        let with_epoch = of(json!({"last_seq": 0, "epoch": "e", "token": "x"}));
        assert_eq!(with_epoch, Some(Resume { last_seq: 0, epoch: Some("e".into()) }));
        for other in [json!({}), json!({"last_seq": "7"}), json!({"last_seq": -1}), json!({"epoch": "e"})] {
            assert_eq!(of(other.clone()), None, "{other}");
        }
    }

    #[test]
    fn what_is_gone_counts_as_missed_once() {
        let mut at = Progress { from: 10, cursor: 10, sent: 0, missed: 0, read: false };
        at.skip_to(11);
        assert_eq!((at.cursor, at.missed), (10, 0));
        at.skip_to(5);
        at.skip_to(15);
        at.skip_to(15);
        assert_eq!((at.cursor, at.missed), (14, 4));
    }
}
