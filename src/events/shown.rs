//! How an event looks to subscribers.
//!
//! Most events go out under one name, the one they are stored with. What a Socket.IO client sends goes out under two,
//! as it does from Claude MPM's server: under the name of its own kind first, then as `claude_event`. It is stored once,
//! with the name of its kind.

use bytes::{Bytes, BytesMut};
use serde_json::value::RawValue;

use super::model::Event;

/// The stored name of what came as `claude_event` or `hook:ingest` from a Socket.IO client; goes out under this name and
/// as `claude_event`, with the same payload.
pub const HOOK_EVENT: &str = "hook:event";
/// The stored name of the begin of a session that a client announced. Under this name goes the payload's `data`, then
/// the payload as `claude_event`.
pub const SESSION_STARTED: &str = "hook:session:started";
/// The same for its end.
pub const SESSION_ENDED: &str = "hook:session:ended";
const CLAUDE_EVENT: &str = "claude_event";

/// In the pass-through dialect a poster may choose any name; without the data it has one face only.
fn is_double(name: &str, payload: &str) -> bool {
    match name {
        HOOK_EVENT => true,
        SESSION_STARTED | SESSION_ENDED => data_of(payload.as_bytes()).is_some(),
        _ => false,
    }
}

/// The text of an object's `data`.
fn data_of(payload: &[u8]) -> Option<&[u8]> {
    #[derive(serde::Deserialize)]
    struct Carrier<'a> {
        #[serde(borrow)]
        data: &'a RawValue,
    }
    // Only an object: an array would count as one whose members are in order.
    let object = Some(payload).filter(|p| p.starts_with(b"{"))?;
    serde_json::from_slice::<Carrier<'_>>(object).ok().map(|c| c.data.get().as_bytes())
}

/// An event as subscribers see it, encoded once: the JSON array `["name",payload]`, where the payload carries the
/// event's `id` and `seq`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// The event's number.
    pub seq: u64,
    ahead: Option<Bytes>,
    json: Bytes,
    payload_at: usize,
}

impl Shown {
    /// Encodes an event; `epoch` makes its id unique even over stores.
    pub fn new(event: &Event, epoch: &str) -> Self {
        let payload = &*event.draft.payload;
        let name = if is_double(&event.draft.name, payload) { CLAUDE_EVENT } else { &event.draft.name };
        let mut json = BytesMut::with_capacity(name.len() + payload.len() + epoch.len() + 64);
        json.extend_from_slice(b"[");
        json.extend_from_slice(quoted(name).as_bytes());
        json.extend_from_slice(b",");
        let payload_at = json.len();
        splice(&mut json, payload, event.seq, epoch);
        json.extend_from_slice(b"]");
        let mut shown = Self { seq: event.seq, ahead: None, json: json.freeze(), payload_at };
        shown.ahead = shown.first(&event.draft.name);
        shown
    }

    /// What goes out before [`Shown::array`], for the events that have two names.
    fn first(&self, name: &str) -> Option<Bytes> {
        let payload = match name {
            HOOK_EVENT => self.payload(),
            SESSION_STARTED | SESSION_ENDED => data_of(self.payload())?,
            _ => return None,
        };
        Some([b"[", quoted(name).as_bytes(), b",", payload, b"]"].concat().into())
    }

    /// Everything that a live client is sent, in order: two arrays for an event with two names, else one.
    pub fn arrays(&self) -> impl Iterator<Item = Bytes> + '_ {
        self.ahead.iter().cloned().chain(std::iter::once(self.json.clone()))
    }

    /// The array `["name",payload]`.
    pub fn array(&self) -> Bytes {
        self.json.clone()
    }

    /// The payload alone.
    pub fn payload(&self) -> &[u8] {
        &self.json[self.payload_at..self.json.len() - 1]
    }
}

/// Appends an object with `id` and `seq` as its last fields. A poster's own field of that name stays (the pass-through
/// dialect promises unchanged data), and so does a payload that is no object.
fn splice(json: &mut BytesMut, payload: &str, seq: u64, epoch: &str) {
    let Some(open) = payload.strip_suffix('}').filter(|p| p.starts_with('{')) else {
        return json.extend_from_slice(payload.as_bytes());
    };
    json.extend_from_slice(open.as_bytes());
    let mut comma = open.len() > 1;
    let mut field = |text: String| {
        if comma {
            json.extend_from_slice(b",");
        }
        comma = true;
        json.extend_from_slice(text.as_bytes());
    };
    if !has_field(payload, "id") {
        let id = if epoch.is_empty() { seq.to_string() } else { format!("{epoch}-{seq}") };
        field(format!("\"id\":{}", quoted(&id)));
    }
    if !has_field(payload, "seq") {
        field(format!("\"seq\":{seq}"));
    }
    json.extend_from_slice(b"}");
}

/// Whether a compact JSON object has a field of this name at its top.
fn has_field(object: &str, name: &str) -> bool {
    let key = format!("\"{name}\":");
    // The cheap look first: most payloads contain no such key at any depth.
    object.contains(&key)
        && serde_json::from_str::<std::collections::HashMap<String, serde::de::IgnoredAny>>(object)
            .is_ok_and(|fields| fields.contains_key(name))
}

fn quoted(text: &str) -> String {
    // Most names need no escape.
    if text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b':' | b'.')) {
        return format!("\"{text}\"");
    }
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::model::Draft;

    fn arrays(name: &str, payload: &str) -> Vec<String> {
        let draft = Draft { name: name.into(), subtype: "x".into(), session: None, payload: payload.into() };
        let event = Event { seq: 7, accepted: jiff::Timestamp::UNIX_EPOCH, draft };
        Shown::new(&event, "e").arrays().map(|a| String::from_utf8(a.to_vec()).unwrap()).collect()
    }

    fn shown(payload: &str) -> String {
        arrays("tool_event", payload).remove(0)
    }

    #[test]
    fn id_and_seq_are_added_without_touching_what_the_poster_said() {
        assert_eq!(shown(r#"{"type":"x"}"#), r#"["tool_event",{"type":"x","id":"e-7","seq":7}]"#);
        assert_eq!(shown("{}"), r#"["tool_event",{"id":"e-7","seq":7}]"#);
        assert_eq!(shown(r#"{"id":"mine"}"#), r#"["tool_event",{"id":"mine","seq":7}]"#);
        let deep = r#"{"data":{"id":1}}"#;
        assert_eq!(shown(deep), r#"["tool_event",{"data":{"id":1},"id":"e-7","seq":7}]"#);
        assert_eq!(shown("[1,2]"), r#"["tool_event",[1,2]]"#);
        assert_eq!(shown("\"{}\""), r#"["tool_event","{}"]"#);
    }

    #[test]
    fn what_clients_send_goes_out_under_two_names_in_order() {
        let hook = arrays(HOOK_EVENT, r#"{"a":1}"#);
        let payload = r#"{"a":1,"id":"e-7","seq":7}"#;
        assert_eq!(hook, [format!("[\"hook:event\",{payload}]"), format!("[\"claude_event\",{payload}]")]);
        let started = arrays(SESSION_STARTED, r#"{"data":{"session_id":"s"}}"#);
        assert_eq!(started[0], r#"["hook:session:started",{"session_id":"s"}]"#);
        assert_eq!(started[1], r#"["claude_event",{"data":{"session_id":"s"},"id":"e-7","seq":7}]"#);
        assert_eq!(arrays(SESSION_ENDED, "[1]"), [r#"["hook:session:ended",[1]]"#]);
        assert_eq!(arrays("tool_event", "{}").len(), 1);
    }
}
