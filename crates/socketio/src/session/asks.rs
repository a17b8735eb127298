//! What the server asked a client and waits to be acknowledged: bounded in number and in time, and forgotten when the
//! client leaves.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::Value;
use tokio::sync::oneshot;

use super::{End, Session};
use crate::outgoing::Outgoing;

/// The most unanswered questions to one client.
pub const MAX_ASKS: usize = 64;

/// A client's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// What it said; binary data are placeholders.
    pub arguments: Vec<Value>,
    /// The data that the placeholders stand for, in order.
    pub attachments: Vec<Bytes>,
}

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// The client has left, or has ended before it answered.
    #[error("the client has left")]
    Left,
    /// It did not answer in time.
    #[error("the client did not answer in time")]
    Timeout,
    /// It has not answered [`MAX_ASKS`] earlier questions.
    #[error("the client owes {MAX_ASKS} answers already")]
    TooMany,
}

impl AskError {
    /// A name for programs that never changes.
    pub fn code(self) -> &'static str {
        match self {
            Self::Left => "client_left",
            Self::Timeout => "no_answer",
            Self::TooMany => "too_many_questions",
        }
    }
}

/// The open questions, by namespace and number.
#[derive(Debug, Default)]
pub(super) struct Asks {
    last: u64,
    open: HashMap<(usize, u64), oneshot::Sender<Reply>>,
}

impl Asks {
    /// Takes out those of a namespace.
    pub(super) fn forget(&mut self, namespace: usize) -> Vec<oneshot::Sender<Reply>> {
        let numbers: Vec<_> = self.open.keys().filter(|(n, _)| *n == namespace).copied().collect();
        numbers.iter().filter_map(|key| self.open.remove(key)).collect()
    }
}

/// One question; forgotten when dropped.
#[derive(Debug)]
pub struct Asked {
    session: Arc<Session>,
    key: (usize, u64),
    answer: oneshot::Receiver<Reply>,
}

impl Asked {
    /// The answer.
    ///
    /// # Errors
    /// [`AskError::Left`] or [`AskError::Timeout`].
    pub async fn answer(mut self, timeout: Duration) -> Result<Reply, AskError> {
        match tokio::time::timeout(timeout, &mut self.answer).await {
            Ok(answer) => answer.map_err(|_| AskError::Left),
            Err(_) => Err(AskError::Timeout),
        }
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        let mut inner = self.session.lock();
        let forgotten = inner.asks.as_mut().and_then(|asks| asks.open.remove(&self.key));
        drop(inner);
        drop(forgotten);
    }
}

impl Session {
    /// Sends the event that `make` makes with the number under which the client is to acknowledge it.
    ///
    /// # Errors
    /// The outer one as [`Session::push`], the inner one [`AskError::Left`] or [`AskError::TooMany`].
    pub fn ask(
        self: &Arc<Self>,
        namespace: usize,
        make: impl FnOnce(u64) -> Outgoing,
        now: Instant,
    ) -> Result<(Result<Asked, AskError>, bool), End> {
        let mut inner = self.lock();
        if inner.end.is_some() || inner.closing || !inner.is_in(namespace) {
            return Ok((Err(AskError::Left), false));
        }
        let asks = inner.asks.get_or_insert_default();
        if asks.open.len() >= MAX_ASKS {
            return Ok((Err(AskError::TooMany), false));
        }
        let key = (namespace, asks.last);
        asks.last += 1;
        let (sender, answer) = oneshot::channel();
        asks.open.insert(key, sender);
        let waits = inner.push(self, &make(key.1), now)?;
        drop(inner);
        Ok((Ok(Asked { session: Arc::clone(self), key, answer }), waits))
    }

    /// Whether an acknowledgement of that number is waited for.
    pub fn waits_for(&self, namespace: usize, number: u64) -> bool {
        self.lock().asks.as_ref().is_some_and(|asks| asks.open.contains_key(&(namespace, number)))
    }

    /// An acknowledgement came in; one that nobody waits for (any more) is nothing.
    pub fn answered(&self, namespace: usize, number: u64, reply: Reply) {
        let asked = self.lock().asks.as_mut().and_then(|asks| asks.open.remove(&(namespace, number)));
        if let Some(asked) = asked {
            // Whoever asked may have given up this moment.
            let _ = asked.send(reply);
        }
    }
}
