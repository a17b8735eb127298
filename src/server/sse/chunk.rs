//! Events in the format of server-sent events (HTML standard, section 9.2.6), encoded once for all readers.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use serde_json::Value;

use crate::events::hub::Shown;
use crate::events::model::Event;
use crate::events::store::Filter;
use crate::server::room::Room;

/// Events that went out together.
#[derive(Debug)]
pub struct Chunk {
    events: Vec<Placed>,
    bytes: Bytes,
}

#[derive(Debug)]
struct Placed {
    event: Arc<Event>,
    /// Where its text ends; it begins where that of the one before ends.
    end: usize,
}

impl Chunk {
    /// These, of the store that `epoch` names; in the order of their numbers, and at least one. The room is held as long as any
    /// of the text is.
    pub fn new(events: &[Shown], epoch: &str, room: Room) -> Self {
        let size = events.iter().map(|e| e.len() + epoch.len() + 64).sum();
        let mut bytes = BytesMut::with_capacity(size);
        let place = |shown: &Shown| {
            event(&mut bytes, shown, epoch);
            Placed { event: Arc::clone(shown.event()), end: bytes.len() }
        };
        let events = events.iter().map(place).collect();
        Self { events, bytes: room.held_by(bytes) }
    }

    /// The number of the last event.
    pub fn last(&self) -> u64 {
        self.events.last().map_or(0, |e| e.event.seq)
    }

    /// Bytes.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The text of the events after `cursor` that the filter lets through, in as few pieces as there are gaps, and the number
    /// of the last of them.
    pub fn after(&self, cursor: u64, filter: &Filter) -> (Vec<Bytes>, Option<u64>) {
        let (mut pieces, mut last) = (Vec::new(), None);
        let (mut from, mut to) = (0, 0);
        for placed in &self.events {
            let begin = std::mem::replace(&mut to, placed.end);
            let event = &placed.event;
            if event.seq > cursor && filter.fits(event) {
                last = Some(event.seq);
                continue;
            }
            if from < begin {
                pieces.push(self.bytes.slice(from..begin));
            }
            from = placed.end;
        }
        if from < to {
            pieces.push(self.bytes.slice(from..to));
        }
        (pieces, last)
    }
}

/// What makes a reader that comes back say that it has everything up to here, without an event.
pub fn mark(epoch: &str, seq: u64) -> String {
    format!("id: {epoch}-{seq}\n")
}

/// An event that is not stored; with an id only where it changes what the reader has.
pub fn notice(name: &str, id: Option<String>, data: &Value) -> Bytes {
    format!("{}event: {name}\ndata: {data}\n\n", id.unwrap_or_default()).into()
}

fn event(out: &mut BytesMut, shown: &Shown, epoch: &str) {
    out.put_slice(mark(epoch, shown.seq).as_bytes());
    out.put_slice(b"event: ");
    let name = &shown.event().draft.name;
    if name.contains(['\r', '\n']) {
        // In the pass-through dialect posters choose names, and a line must not end here.
        out.put_slice(name.replace(['\r', '\n'], " ").as_bytes());
    } else {
        out.put_slice(name.as_bytes());
    }
    // JSON in its compact form has no line breaks.
    out.put_slice(b"\ndata: ");
    out.put_slice(shown.payload());
    out.put_slice(b"\n\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::model::{Draft, Event};

    fn shown(seq: u64, name: &str, session: &str) -> Shown {
        let draft = Draft {
            name: name.into(),
            subtype: format!("sub-{seq}"),
            session: Some(session.into()),
            payload: "{\"a\":\"x\\ny\"}".into(),
        };
        Shown::new(Event { seq, accepted: jiff::Timestamp::UNIX_EPOCH, origin: None, draft }, "e")
    }

    fn text(chunk: &Chunk, cursor: u64, filter: &Filter) -> (usize, String) {
        let (pieces, _) = chunk.after(cursor, filter);
        (pieces.len(), String::from_utf8(pieces.concat()).unwrap())
    }

    #[test]
    fn an_event_is_its_id_its_name_and_its_payload() {
        let chunk = Chunk::new(&[shown(7, "tool_event", "s")], "e", Room::default());
        let (_, told) = text(&chunk, 0, &Filter::default());
        let payload = r#"{"a":"x\ny","id":"e-7","seq":7}"#;
        assert_eq!(told, format!("id: e-7\nevent: tool_event\ndata: {payload}\n\n"));
        let (_, told) =
            text(&Chunk::new(&[shown(8, "a\r\nid: e-1", "s")], "e", Room::default()), 0, &Filter::default());
        assert!(told.starts_with("id: e-8\nevent: a  id: e-1\ndata: {"), "{told}");
    }

    #[test]
    fn what_goes_out_is_shared_and_only_gaps_cut_it() {
        let events = [shown(3, "x", "a"), shown(4, "y", "a"), shown(5, "x", "b"), shown(6, "x", "a")];
        let chunk = Chunk::new(&events, "e", Room::default());
        let (all, last) = chunk.after(0, &Filter::default());
        assert_eq!((all.len(), all[0].as_ptr(), last), (1, chunk.bytes.as_ptr(), Some(6)));
        let (_, last) = chunk.after(0, &Filter { session: Some("b".into()), ..Filter::default() });
        assert_eq!(last, Some(5));
        let seqs = |cursor, filter: Filter| {
            let (pieces, told) = text(&chunk, cursor, &filter);
            let seqs: Vec<&str> = told.lines().filter_map(|l| l.strip_prefix("id: e-")).collect();
            (pieces, seqs.join(" "))
        };
        assert_eq!(seqs(4, Filter::default()), (1, "5 6".into()));
        assert_eq!(seqs(6, Filter::default()), (0, String::new()));
        assert_eq!(seqs(0, Filter { name: Some("x".into()), ..Filter::default() }), (2, "3 5 6".into()));
        assert_eq!(seqs(0, Filter { session: Some("a".into()), ..Filter::default() }), (2, "3 4 6".into()));
        assert_eq!(seqs(3, Filter { subtype: Some("sub-3".into()), ..Filter::default() }), (0, String::new()));
    }
}
