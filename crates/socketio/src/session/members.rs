//! The namespaces that a client is in, and how far it is in the feed: events that the application numbers and sends to
//! every client of the default namespace, the missed ones first.

use std::time::Instant;

use super::{End, Inner, Session};
use crate::outgoing::Outgoing;
use crate::places::Counted;
use crate::sid::Sid;

/// The place of the default namespace among all.
pub const DEFAULT: usize = 0;

/// Which events of the feed a client is sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Feed {
    /// None.
    #[default]
    Off,
    /// None yet: the task of this number sends the past first.
    Past(u64),
    /// All with a greater number than this.
    After(u64),
}

/// Most clients are in the default namespace alone, and take no memory beyond this.
#[derive(Debug, Default)]
pub(super) struct Members {
    default: bool,
    /// Counts the client among those in the default namespace.
    counted: Option<Counted>,
    feed: Feed,
    /// It gets only the events of the rooms that it is in.
    narrowed: bool,
    /// Its ids in other namespaces, by their place.
    others: Vec<(usize, Sid)>,
}

impl Members {
    pub(super) fn is_in_default(&self) -> bool {
        self.default
    }

    /// Whether the task of that number is to send the past.
    pub(super) fn is_past_of(&self, task: u64) -> bool {
        self.feed == Feed::Past(task)
    }

    pub(super) fn is_in_any(&self) -> bool {
        self.default || !self.others.is_empty()
    }
}

impl Session {
    /// The client's Socket.IO id in a namespace, if it is in that.
    pub fn sid_in(&self, namespace: usize) -> Option<Sid> {
        let inner = self.lock();
        match namespace {
            DEFAULT => inner.members.default.then_some(self.socket_sid),
            _ => inner.members.others.iter().find(|(n, _)| *n == namespace).map(|(_, sid)| *sid),
        }
    }

    /// Whether the client is in the default namespace.
    pub fn is_connected(&self) -> bool {
        self.lock().members.default
    }

    /// Keeps the client counted as long as it is in the default namespace.
    pub fn count(&self, counted: Counted) {
        let mut inner = self.lock();
        if inner.end.is_none() {
            inner.members.counted = Some(counted);
        }
    }

    /// Enters a namespace under an id (the default one always under [`Session::socket_sid`]), and sends its greeting in
    /// the same step; `version` is that of the number of clients the greeting tells. A session that has ended enters nothing.
    ///
    /// # Errors
    /// As [`Session::push`].
    pub fn enter(
        &self,
        (namespace, sid): (usize, Sid),
        feed: Feed,
        greeting: &Outgoing,
        version: u64,
        now: Instant,
    ) -> Result<bool, End> {
        let mut inner = self.lock();
        if inner.end.is_some() {
            return Ok(false);
        }
        if namespace == DEFAULT {
            inner.members.default = true;
            inner.members.feed = feed;
            inner.members.narrowed = false;
            inner.count_seen = version;
        } else {
            inner.members.others.push((namespace, sid));
        }
        inner.push(self, greeting, now)
    }

    /// Leaves a namespace; its id there, if it was in it. Whoever waits for an answer from there waits no more.
    pub fn leave(&self, namespace: usize, now: Instant) -> Option<Sid> {
        let mut inner = self.lock();
        let left = match namespace {
            DEFAULT => {
                inner.members.feed = Feed::Off;
                inner.members.counted = None;
                std::mem::take(&mut inner.members.default).then_some(self.socket_sid)
            }
            _ => {
                let at = inner.members.others.iter().position(|(n, _)| *n == namespace);
                at.map(|at| inner.members.others.swap_remove(at).1)
            }
        };
        if left.is_some() {
            inner.connect_by = self.connect_timeout.map(|timeout| now + timeout);
            // The task that sends the past finds that it is over.
            inner.wake_waiting();
        }
        let forgotten = inner.asks.as_mut().map(|asks| asks.forget(namespace));
        drop(inner);
        drop(forgotten);
        left
    }

    /// Sends packets if the client is in that namespace.
    ///
    /// # Errors
    /// As [`Session::push`].
    pub fn push_in(&self, namespace: usize, out: &Outgoing, now: Instant) -> Result<bool, End> {
        let mut inner = self.lock();
        if inner.is_in(namespace) { inner.push(self, out, now) } else { Ok(false) }
    }

    /// Sends the number of clients if this one has not seen `version` of it yet.
    ///
    /// # Errors
    /// As [`Session::push`].
    pub fn push_count(&self, out: &Outgoing, version: u64, now: Instant) -> Result<bool, End> {
        let mut inner = self.lock();
        if !inner.members.default || inner.count_seen >= version {
            return Ok(false);
        }
        inner.count_seen = version;
        inner.push(self, out, now)
    }

    /// Sends events of the feed, the first and the last number of which are given, unless the client is not to get them
    /// now or gets only some (`narrowed` asks for those who do). `tail` makes the packets of the events after a number,
    /// for a client that has the first ones from the past already.
    ///
    /// # Errors
    /// As [`Session::push`].
    pub fn push_events(
        &self,
        out: &Outgoing,
        (first, last): (u64, u64),
        narrowed: bool,
        tail: impl FnOnce(u64) -> Outgoing,
        now: Instant,
    ) -> Result<bool, End> {
        let mut inner = self.lock();
        if inner.members.narrowed != narrowed {
            return Ok(false);
        }
        match inner.members.feed {
            Feed::After(seq) if seq < first => inner.push(self, out, now),
            Feed::After(seq) if seq < last => inner.push(self, &tail(seq), now),
            Feed::After(_) | Feed::Past(_) | Feed::Off => Ok(false),
        }
    }

    /// Sends a piece of the past for the task of that number, and goes on as `then` says. `None` when the client has left the
    /// namespace, or has entered it anew, since the task began.
    pub fn push_past(&self, task: u64, out: &Outgoing, then: Feed, now: Instant) -> Option<Result<bool, End>> {
        let mut inner = self.lock();
        if inner.members.feed != Feed::Past(task) || inner.end.is_some() || inner.closing {
            return None;
        }
        inner.members.feed = then;
        Some(inner.push(self, out, now))
    }

    /// Whether the client gets only the events of its rooms.
    pub fn is_narrowed(&self) -> bool {
        self.lock().members.narrowed
    }

    /// Lets the client have only the events of its rooms, or all again.
    pub fn narrow(&self, narrowed: bool) {
        self.lock().members.narrowed = narrowed;
    }
}

impl Inner {
    /// Whether the client is in that namespace.
    pub(super) fn is_in(&self, namespace: usize) -> bool {
        match namespace {
            DEFAULT => self.members.default,
            _ => self.members.others.iter().any(|(n, _)| *n == namespace),
        }
    }
}
