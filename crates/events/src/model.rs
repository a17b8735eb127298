//! An event, from the moment it is accepted.

use std::sync::Arc;

use jiff::Timestamp;

/// How a posted event is shown to clients. The wire differs between the generations of Claude MPM; see
/// `docs/protocol.md`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Dialect {
    /// Unwrapped, put into one of eight categories, wrapped again: claude-mpm 5.6.88 and later.
    #[default]
    Wrapped,
    /// The poster's own event name and data, unchanged: claude-mpm up to 5.4.91.
    PassThrough,
}

/// An event that is normalised but not yet accepted: it has no number, nobody has seen it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    /// The Socket.IO event name it is sent under, for example `tool_event`.
    pub name: String,
    /// What happened in detail, for example `pre_tool`.
    pub subtype: String,
    /// The agent session it belongs to, where it says so.
    pub session: Option<String>,
    /// The JSON value that subscribers receive, compact. In the wrapped dialect an object.
    pub payload: Arc<str>,
}

/// Where an event was accepted first, if not here: another node of the bus.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin {
    /// The node's name.
    pub node: String,
    /// Which of the node's stores: its numbers begin anew with a fresh one.
    pub epoch: String,
    /// The event's number there.
    pub seq: u64,
}

/// An accepted event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Its number: greater than that of every event accepted before it, over restarts too. Starts at 1.
    pub seq: u64,
    /// When it was accepted.
    pub accepted: Timestamp,
    /// Where it came from; `None` for what was accepted by this process or one before it.
    pub origin: Option<Arc<Origin>>,
    /// What it says.
    pub draft: Draft,
}

impl Event {
    /// The bytes that count for it in memory.
    pub fn weight(&self) -> usize {
        let Draft { name, subtype, session, payload } = &self.draft;
        name.len() + subtype.len() + session.as_ref().map_or(0, String::len) + payload.len() + size_of::<Self>()
    }
}
