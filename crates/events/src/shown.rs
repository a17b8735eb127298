//! How an event looks to subscribers.
//!
//! Most events go out under one name, the one they are stored with. What a Socket.IO client sends goes out under two,
//! as it does from Claude MPM's server: under the name of its own kind first, then as `claude_event`. It is stored once,
//! with the name of its kind.

use std::ops::Range;
use std::sync::Arc;

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

/// The first name of an event that has two. In the pass-through dialect a poster may choose any name; without the data it
/// has one face only.
fn first_name(name: &str, payload: &str) -> Option<&'static str> {
    let known = [HOOK_EVENT, SESSION_STARTED, SESSION_ENDED].into_iter().find(|n| *n == name)?;
    (known == HOOK_EVENT || data_of(payload.as_bytes()).is_some()).then_some(known)
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
    event: Arc<Event>,
    /// The name that goes out first, of an event with two.
    first_name: Option<&'static str>,
    /// What goes out first, of such an event.
    ahead: Option<Bytes>,
    json: Bytes,
    payload_at: usize,
    /// Where in `json` our own `id` is, with one of its commas; empty if there is none.
    id_at: Range<usize>,
}

impl Shown {
    /// Encodes an event; `epoch` makes its id unique even over stores.
    pub fn new(event: impl Into<Arc<Event>>, epoch: &str) -> Self {
        let event: Arc<Event> = event.into();
        let payload = &*event.draft.payload;
        let first_name = first_name(&event.draft.name, payload);
        let name = if first_name.is_some() { CLAUDE_EVENT } else { &event.draft.name };
        let mut json = BytesMut::with_capacity(name.len() + payload.len() + epoch.len() + 64);
        json.extend_from_slice(b"[");
        json.extend_from_slice(quoted(name).as_bytes());
        json.extend_from_slice(b",");
        let payload_at = json.len();
        let id_at = splice(&mut json, payload, &event, epoch);
        json.extend_from_slice(b"]");
        let (seq, json) = (event.seq, json.freeze());
        let mut shown = Self { seq, event, first_name, ahead: None, json, payload_at, id_at };
        shown.ahead = shown.first();
        shown
    }

    /// What goes out before [`Shown::array`], for the events that have two names.
    fn first(&self) -> Option<Bytes> {
        let name = self.first_name?;
        let payload = if name == HOOK_EVENT { self.payload() } else { data_of(self.payload())? };
        Some([b"[", quoted(name).as_bytes(), b",", payload, b"]"].concat().into())
    }

    /// How many bytes its array has.
    pub fn len(&self) -> usize {
        self.json.len()
    }

    /// Never: there is always at least a name.
    pub fn is_empty(&self) -> bool {
        self.json.is_empty()
    }

    /// Everything that a live client is sent, in order: two arrays for an event with two names, else one.
    pub fn arrays(&self) -> impl Iterator<Item = Bytes> + use<> {
        self.ahead.clone().into_iter().chain(std::iter::once(self.json.clone()))
    }

    /// The same, each with its name as JSON.
    pub fn faces(&self) -> impl Iterator<Item = (String, Bytes)> + use<> {
        let name = String::from_utf8_lossy(&self.json[1..self.payload_at - 1]).into_owned();
        let names = self.first_name.map(quoted).into_iter().chain(std::iter::once(name));
        names.zip(self.arrays())
    }

    /// The agent session it belongs to.
    pub fn session(&self) -> Option<&str> {
        self.event.draft.session.as_deref()
    }

    /// The event itself, as it was accepted.
    pub fn event(&self) -> &Arc<Event> {
        &self.event
    }

    /// The array `["name",payload]`.
    pub fn array(&self) -> Bytes {
        self.json.clone()
    }

    /// The payload without the `id` that was added to it, in two parts: as it stands in the history that clients are sent
    /// unasked. Claude MPM's pages draw all that they are told under its `id`, and break when one comes again, as it does
    /// when they connect again or had kept it.
    pub fn unnamed(&self) -> [&[u8]; 2] {
        if self.id_at.is_empty() {
            return [self.payload(), b""];
        }
        [&self.json[self.payload_at..self.id_at.start], &self.json[self.id_at.end..self.json.len() - 1]]
    }

    /// The payload alone.
    pub fn payload(&self) -> &[u8] {
        &self.json[self.payload_at..self.json.len() - 1]
    }
}

/// Appends an object with `id` and `seq` as its last fields, and `node` before them if it came from another node. A poster's
/// own field of that name stays (the pass-through dialect promises unchanged data), and so does a payload that is no object.
/// Returns where the `id` is, with the comma that goes with it.
fn splice(json: &mut BytesMut, payload: &str, event: &Event, epoch: &str) -> Range<usize> {
    let seq = event.seq;
    let Some(open) = payload.strip_suffix('}').filter(|p| p.starts_with('{')) else {
        json.extend_from_slice(payload.as_bytes());
        return 0..0;
    };
    json.extend_from_slice(open.as_bytes());
    let mut is_first = open.len() == 1;
    if let Some(origin) = event.origin.as_ref().filter(|_| !has_field(payload, "node")) {
        json.extend_from_slice(if is_first { b"" } else { b"," });
        json.extend_from_slice(format!("\"node\":{}", quoted(&origin.node)).as_bytes());
        is_first = false;
    }
    let mut id_at = 0..0;
    if !has_field(payload, "id") {
        let id = if epoch.is_empty() { seq.to_string() } else { format!("{epoch}-{seq}") };
        let begin = json.len();
        json.extend_from_slice(if is_first { b"" } else { b"," });
        json.extend_from_slice(format!("\"id\":{}", quoted(&id)).as_bytes());
        id_at = begin..json.len();
    }
    if !has_field(payload, "seq") {
        json.extend_from_slice(if is_first && id_at.is_empty() { b"" } else { b"," });
        // In an object that was empty it is the comma after the id that goes with it.
        id_at.end += usize::from(is_first && !id_at.is_empty());
        json.extend_from_slice(format!("\"seq\":{seq}").as_bytes());
    }
    json.extend_from_slice(b"}");
    id_at
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
    use crate::model::{Draft, Origin};

    fn arrays(name: &str, payload: &str) -> Vec<String> {
        let draft = Draft { name: name.into(), subtype: "x".into(), session: None, payload: payload.into() };
        let event = Event { seq: 7, accepted: jiff::Timestamp::UNIX_EPOCH, origin: None, draft };
        Shown::new(event, "e").arrays().map(|a| String::from_utf8(a.to_vec()).unwrap()).collect()
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
    fn what_comes_from_another_node_says_so() {
        let shown = |payload: &str| {
            let draft = Draft { name: "n".into(), subtype: "x".into(), session: None, payload: payload.into() };
            let origin = Origin { node: "build-2".into(), epoch: "f".into(), seq: 3 };
            let event = Event { seq: 7, accepted: jiff::Timestamp::UNIX_EPOCH, origin: Some(origin.into()), draft };
            let shown = Shown::new(event, "e");
            (String::from_utf8(shown.payload().to_vec()).unwrap(), String::from_utf8(shown.unnamed().concat()).unwrap())
        };
        let both = (r#"{"a":1,"node":"build-2","id":"e-7","seq":7}"#, r#"{"a":1,"node":"build-2","seq":7}"#);
        assert_eq!(shown(r#"{"a":1}"#), (both.0.into(), both.1.into()));
        assert_eq!(shown("{}").1, r#"{"node":"build-2","seq":7}"#);
        assert_eq!(shown(r#"{"node":"mine"}"#).0, r#"{"node":"mine","id":"e-7","seq":7}"#);
    }

    #[test]
    fn the_unasked_history_has_everything_but_the_id_that_was_added() {
        let unnamed = |payload: &str| {
            let draft = Draft { name: "n".into(), subtype: "x".into(), session: None, payload: payload.into() };
            let shown = Shown::new(Event { seq: 7, accepted: jiff::Timestamp::UNIX_EPOCH, origin: None, draft }, "e");
            String::from_utf8(shown.unnamed().concat()).unwrap()
        };
        assert_eq!(unnamed(r#"{"type":"x"}"#), r#"{"type":"x","seq":7}"#);
        assert_eq!(unnamed("{}"), r#"{"seq":7}"#);
        assert_eq!(unnamed(r#"{"seq":1}"#), r#"{"seq":1}"#);
        assert_eq!(unnamed(r#"{"id":"mine"}"#), r#"{"id":"mine","seq":7}"#);
        assert_eq!(unnamed(r#"{"id":"mine","seq":1}"#), r#"{"id":"mine","seq":1}"#);
        assert_eq!(unnamed("[1,2]"), "[1,2]");
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

    #[test]
    fn every_face_has_its_name_and_the_agent_session() {
        for (name, payload) in [(HOOK_EVENT, r#"{"a":1}"#), (SESSION_STARTED, r#"{"data":{}}"#), ("x", "{}")] {
            let draft =
                Draft { name: name.into(), subtype: "x".into(), session: Some("s".into()), payload: payload.into() };
            let event = Event { seq: 7, accepted: jiff::Timestamp::UNIX_EPOCH, origin: None, draft };
            let shown = Shown::new(event, "e");
            assert_eq!(shown.arrays().count(), shown.faces().count());
            let names: Vec<String> = shown.faces().map(|(name, _)| name).collect();
            let both = [quoted(name), quoted("claude_event")];
            assert_eq!(names, if name == "x" { &both[..1] } else { &both[..] });
            assert_eq!(shown.session(), Some("s"));
        }
    }
}
