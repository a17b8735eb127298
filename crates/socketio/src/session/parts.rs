//! Events and answers whose binary attachments are still on their way from the client.

use std::sync::Arc;

use bytes::Bytes;

use super::{End, Session};
use crate::memory::{Hold, Memory};

/// See the module.
#[derive(Debug)]
pub(super) struct Partial {
    text: String,
    missing: usize,
    size: usize,
    attachments: Vec<Bytes>,
    /// For text and attachments, where they are large.
    hold: Hold,
}

impl Session {
    /// Keeps a packet until its attachments, at least one, are there.
    ///
    /// # Errors
    /// [`End::Crowded`] when there is no room to keep it.
    pub fn expect(&self, text: &str, attachments: usize, memory: &Arc<dyn Memory>) -> Result<(), End> {
        let mut hold = Hold::new(memory);
        if !hold.grow_to(text.len()) {
            return Err(End::Crowded);
        }
        let partial = Partial { text: text.to_owned(), missing: attachments, size: 0, attachments: Vec::new(), hold };
        self.lock().partial = Some(Box::new(partial));
        Ok(())
    }

    /// One attachment more; the packet's text and all of them when it was the last one.
    ///
    /// # Errors
    /// [`End::Protocol`] when none is expected, or all together are larger than `limit`; [`End::Crowded`] when there is no room
    /// to keep it.
    pub fn attachment(&self, data: Bytes, limit: usize) -> Result<Option<(String, Vec<Bytes>)>, End> {
        let mut inner = self.lock();
        let Some(partial) = inner.partial.as_mut() else { return Err(End::Protocol) };
        partial.size += data.len();
        partial.missing -= 1;
        if partial.size > limit {
            return Err(End::Protocol);
        }
        if !partial.hold.grow_to(partial.text.len() + partial.size) {
            return Err(End::Crowded);
        }
        partial.attachments.push(data);
        if partial.missing > 0 {
            return Ok(None);
        }
        Ok(inner.partial.take().map(|whole| (whole.text, whole.attachments)))
    }

    /// Whether attachments are still missing, so that a text packet breaks the protocol.
    pub fn expects_attachment(&self) -> bool {
        self.lock().partial.is_some()
    }
}
