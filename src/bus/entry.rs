//! An event as it stands in a stream, and where it belongs in its node's sequence. Pure, and safe on any input: whoever can
//! write to the server can write anything there.
//!
//! The id of an entry is `SEQ-0`, with the event's number on its node, so that Redis itself refuses to take it twice. `p` links
//! it to what came before: the node has no other event between `p` and SEQ. So a gap is seen although the numbers are not
//! contiguous (a node gives numbers to what it receives as well).
//!
//! | field | what |
//! |---|---|
//! | `p` | the link |
//! | `l` | present: what is missing before `p` is gone on the node, too |
//! | `a` | when the node accepted it, microseconds since 1970 |
//! | `n`, `s` | name and subtype |
//! | `i` | the agent session, if it has one |
//! | `d` | the payload, JSON |
//!
//! In an answer to a question for missing events the last entry may be `THROUGH-1` with `m`: there is nothing more up to THROUGH.

use std::collections::HashMap;

use redis::Value;
use redis::streams::StreamId;
use serde_json::value::RawValue;

use crate::events::ingest::compact;
use crate::events::model::{Draft, Event};

/// The deepest nesting of a payload: that of a posted body and what wrapping adds.
const MAX_DEPTH: usize = 124;
/// The longest name, subtype and session.
const MAX_NAME: usize = 64 << 10;

/// What an entry says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// An event.
    Event {
        /// When its node accepted it, microseconds since 1970.
        accepted: i64,
        /// What it says.
        draft: Draft,
    },
    /// There is no event up to its number.
    Nothing,
    /// Not what a node writes.
    Unreadable(&'static str),
}

/// An entry of a node's stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The event's number on its node.
    pub seq: u64,
    /// The node has no event between this number and `seq`.
    pub after: u64,
    /// What is missing before `after` is missing on the node, too.
    pub lost: bool,
    /// What it says.
    pub content: Content,
}

impl Entry {
    /// The entry of an own event.
    pub fn of(event: &Event, after: u64, lost: bool) -> Self {
        let content = Content::Event { accepted: event.accepted.as_microsecond(), draft: event.draft.clone() };
        Self { seq: event.seq, after, lost, content }
    }

    /// Its id in the stream.
    pub fn id(&self) -> String {
        let end = u8::from(self.content == Content::Nothing);
        format!("{}-{end}", self.seq)
    }

    /// Its fields and values, in turn.
    pub fn fields(&self) -> Vec<(&'static str, Vec<u8>)> {
        let mut fields = vec![("p", self.after.to_string().into_bytes())];
        if self.lost {
            fields.push(("l", b"1".to_vec()));
        }
        if let Content::Event { accepted, draft } = &self.content {
            fields.push(("a", accepted.to_string().into_bytes()));
            fields.push(("n", draft.name.clone().into_bytes()));
            fields.push(("s", draft.subtype.clone().into_bytes()));
            if let Some(session) = &draft.session {
                fields.push(("i", session.clone().into_bytes()));
            }
            fields.push(("d", draft.payload.as_bytes().to_vec()));
        } else {
            fields.push(("m", b"1".to_vec()));
        }
        fields
    }

    /// Reads an entry; `None` if even its id is not one of ours.
    pub fn read(raw: &StreamId) -> Option<Self> {
        let (seq, end) = raw.id.split_once('-')?;
        let seq = seq.parse().ok().filter(|seq| (1..=i64::MAX as u64).contains(seq))?;
        let number = |name| text(&raw.map, name).and_then(|t| t.parse::<u64>().ok());
        let lost = raw.map.contains_key("l");
        let after = number("p").filter(|after| *after < seq || (*after == seq && end == "1"));
        let (after, content) = match (after, end) {
            (Some(after), "0") => match event(&raw.map) {
                Ok(content) => (after, content),
                Err(reason) => (after, Content::Unreadable(reason)),
            },
            (Some(after), "1") => (after, Content::Nothing),
            // Without its link it stands for itself alone: what is before it has to be asked for.
            _ => (seq - 1, Content::Unreadable("it has no link to what was before")),
        };
        Some(Self { seq, after, lost, content })
    }

    /// About the bytes it takes.
    pub fn size(&self) -> usize {
        match &self.content {
            Content::Event { draft, .. } => draft.payload.len() + draft.name.len() + draft.subtype.len() + 128,
            _ => 64,
        }
    }
}

fn text<'a>(map: &'a HashMap<String, Value>, name: &str) -> Option<&'a str> {
    match map.get(name)? {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok(),
        Value::SimpleString(text) => Some(text),
        _ => None,
    }
}

fn event(map: &HashMap<String, Value>) -> Result<Content, &'static str> {
    let field = |name| text(map, name).ok_or("a field is missing or no text");
    let named = |name| field(name).and_then(|t| if t.len() <= MAX_NAME { Ok(t) } else { Err("a name is too long") });
    let accepted = field("a")?.parse().map_err(|_| "its time is no number")?;
    let payload = field("d")?;
    serde_json::from_str::<&RawValue>(payload).map_err(|_| "its payload is no JSON")?;
    if depth(payload) > MAX_DEPTH {
        return Err("its payload is nested too deeply");
    }
    let session = if map.contains_key("i") { Some(named("i")?.to_owned()) } else { None };
    let draft = Draft {
        name: named("n")?.to_owned(),
        subtype: named("s")?.to_owned(),
        session,
        payload: compact(payload).into(),
    };
    Ok(Content::Event { accepted, draft })
}

/// How deeply valid JSON is nested.
fn depth(json: &str) -> usize {
    let (mut now, mut most, mut quoted, mut escaped) = (0_usize, 0, false, false);
    for byte in json.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'{' | b'[' if !quoted => {
                now += 1;
                most = most.max(now);
            }
            b'}' | b']' if !quoted => now = now.saturating_sub(1),
            _ => {}
        }
    }
    most
}

/// How far a node's events are here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Position {
    /// The last number that is stored.
    pub stored: u64,
    /// The node has nothing more up to here.
    pub verified: u64,
}

/// What is to be done with an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is the next one.
    Take,
    /// It is here.
    Known,
    /// Others come before it, after the first number and up to the second.
    Missing(u64, u64),
    /// Others came before it, after the first number and up to the second, that nobody has any more.
    Lost(u64, u64),
}

impl Position {
    /// From where on something is new.
    pub fn at(&self) -> u64 {
        self.stored.max(self.verified)
    }

    /// What is to be done with `entry`. A node that nothing is known of yet begins with what it has.
    pub fn judge(&self, entry: &Entry) -> Verdict {
        let at = self.at();
        match entry.content {
            Content::Nothing if entry.seq <= at => Verdict::Known,
            _ if entry.seq <= self.stored => Verdict::Known,
            _ if at == 0 || entry.after <= at => Verdict::Take,
            _ if entry.lost => Verdict::Lost(at, entry.after),
            _ => Verdict::Missing(at, entry.after),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    fn raw(id: &str, fields: &[(&str, &str)]) -> StreamId {
        let map = fields.iter().map(|(n, v)| ((*n).to_owned(), Value::BulkString(v.as_bytes().to_vec()))).collect();
        StreamId { id: id.to_owned(), map, ..StreamId::default() }
    }

    fn written(entry: &Entry) -> StreamId {
        let map = entry.fields().into_iter().map(|(n, v)| (n.to_owned(), Value::BulkString(v))).collect();
        StreamId { id: entry.id(), map, ..StreamId::default() }
    }

    /// An entry with the least of an event.
    pub(in crate::bus) fn sample(seq: u64, after: u64) -> Entry {
        let draft = Draft { name: "n".into(), subtype: "s".into(), session: None, payload: "{}".into() };
        Entry { seq, after, lost: false, content: Content::Event { accepted: 5, draft } }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            seq in 1..i64::MAX as u64, lost in any::<bool>(), nothing in any::<bool>(), name in ".{0,9}",
            session in proptest::option::of(".{0,9}"), data in ".{0,40}",
        ) {
            let payload = serde_json::json!({"a": [data]}).to_string();
            let draft = Draft { name: name.clone(), subtype: name, session, payload: payload.into() };
            let content = if nothing { Content::Nothing } else { Content::Event { accepted: -7, draft } };
            let entry = Entry { seq, after: seq - 1, lost, content };
            prop_assert_eq!(Entry::read(&written(&entry)), Some(entry));
        }
    }

    #[test]
    fn what_no_node_writes_is_told_and_keeps_its_place() {
        for id in ["", "0-0", "x-0", "9223372036854775808-0", "-1-0", "5"] {
            assert_eq!(Entry::read(&raw(id, &[])), None, "{id}");
        }
        let deep = format!("{}{}", "[".repeat(125), "]".repeat(125));
        let whole = [("p", "4"), ("a", "1"), ("n", "n"), ("s", "s"), ("d", "{}")];
        assert!(matches!(Entry::read(&raw("5-0", &whole)).unwrap().content, Content::Event { .. }));
        for (field, value, part) in [
            ("d", "{]", "no JSON"),
            ("d", "{} {}", "no JSON"),
            ("d", &deep, "deeply"),
            ("a", "soon", "time"),
            ("n", &"x".repeat(70_000), "too long"),
            ("p", "5", "link"),
            ("p", "-1", "link"),
        ] {
            let mut fields = whole;
            fields.iter_mut().find(|(n, _)| *n == field).unwrap().1 = value;
            let entry = Entry::read(&raw("5-0", &fields)).unwrap();
            assert_eq!(entry.seq, 5);
            assert!(matches!(entry.content, Content::Unreadable(why) if why.contains(part)), "{field}: {entry:?}");
        }
        assert!(matches!(Entry::read(&raw("5-7", &whole)).unwrap().content, Content::Unreadable(_)));
    }

    /// Who passes events on relies on it: a line break within a payload would end a line of the event stream.
    #[test]
    fn a_payload_is_compact_whoever_wrote_it() {
        let spaced = "{\n \"a\" :\r\n[1,\t\"x\\n y\"] }";
        let fields = [("p", "4"), ("a", "1"), ("n", "n"), ("s", "s"), ("d", spaced)];
        let Content::Event { draft, .. } = Entry::read(&raw("5-0", &fields)).unwrap().content else {
            panic!("no event")
        };
        assert_eq!(&*draft.payload, r#"{"a":[1,"x\n y"]}"#);
    }

    #[test]
    fn brackets_in_strings_nest_nothing() {
        assert_eq!(depth(r#"{"a[[[":"\"[{","b":[1,{"c":2}]}"#), 3);
    }

    #[test]
    fn the_link_tells_whether_something_is_missing() {
        let here = Position { stored: 10, verified: 0 };
        assert_eq!(here.judge(&sample(12, 10)), Verdict::Take);
        assert_eq!(here.judge(&sample(12, 7)), Verdict::Take);
        assert_eq!(here.judge(&sample(10, 9)), Verdict::Known);
        assert_eq!(here.judge(&sample(14, 12)), Verdict::Missing(10, 12));
        let gone = Entry { lost: true, ..sample(14, 12) };
        assert_eq!(here.judge(&gone), Verdict::Lost(10, 12));
        assert_eq!(Position { stored: 10, verified: 12 }.judge(&sample(14, 12)), Verdict::Take);
        assert_eq!(Position::default().judge(&sample(14, 12)), Verdict::Take, "a node that is new begins somewhere");
        let nothing = |seq, after, lost| Entry { seq, after, lost, content: Content::Nothing };
        assert_eq!(here.judge(&nothing(12, 10, false)), Verdict::Take);
        assert_eq!(here.judge(&nothing(12, 12, true)), Verdict::Lost(10, 12));
        assert_eq!(here.judge(&nothing(9, 9, false)), Verdict::Known);
    }
}
