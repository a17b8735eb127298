//! What clients ask about the past: `hook:history:get`, and `get_history`, `request_history` of the older dialect.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use serde::Deserializer as _;
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::Parts;
use crate::events::hub::{HISTORY_BYTES, Hub, Shown};
use crate::events::model::{Draft, Event};
use crate::server::room::{SMALL, Share};
use socketio::namespace::{Handled, Handler, Incoming, Socket};
use socketio::outgoing::Arguments;

/// How many events an answer holds unless the request says.
const DEFAULT_LIMIT: usize = 100;
/// The most events that the older dialect gets at once.
const OLD_LIMIT: usize = 100;

pub(super) struct Past {
    pub parts: Parts,
}

impl Handler for Past {
    fn event(&self, socket: Socket<'_>, event: Incoming<'_>) -> Handled {
        match event.name {
            "hook:history:get" => {
                let Some(asked) = event.object() else { return Handled::No };
                let filters = filters(&asked);
                let tail = move |count, _| json!({"total": count, "filters": filters});
                self.tell(socket, "hook:history:response", Wanted::of_hooks(&asked), tail)
            }
            "get_history" | "request_history" => {
                let asked = event.object().unwrap_or_default();
                let tail = |count, available| json!({"count": count, "total_available": available});
                self.tell(socket, "history", Wanted::of_older(&asked), tail)
            }
            _ => Handled::No,
        }
    }
}

impl Past {
    /// Answers with what is wanted; `tail` makes the rest of the answer, of how many events it has and how many there are. A
    /// large answer waits for its share of the memory for the past.
    fn tell(
        &self,
        socket: Socket<'_>,
        name: &'static str,
        wanted: Wanted,
        tail: impl FnOnce(usize, usize) -> Value + Send + 'static,
    ) -> Handled {
        let hub = Arc::clone(&self.parts.hub);
        let send = move |hub: &Hub, socket: Socket<'_>, found: Vec<&Arc<Event>>, available: usize, share: Share| {
            let found: Vec<Shown> = found.into_iter().map(|event| hub.show(Arc::clone(event))).collect();
            let arguments = Arguments::default().json(&answer(&found, &tail(found.len(), available)));
            socket.emit_packets(&share.sent_in(socket.packets(name, &arguments)));
        };
        let all = hub.kept();
        let found = select(&all, &wanted, HISTORY_BYTES);
        let size = size(&found);
        if size <= SMALL {
            send(&hub, socket, found, all.len(), Share::default());
            return Handled::done();
        }
        let kept = socket.keep();
        Handled::Later(Box::pin(async move {
            let share = Share::of(size).await;
            // What memory has now: what it had would have been held all the while.
            let all = hub.kept();
            send(&hub, kept.socket(), select(&all, &wanted, share.bytes), all.len(), share);
            Some(Arguments::default())
        }))
    }
}

/// Which events are asked for; the newest `limit` of those that fit.
#[derive(Debug, PartialEq, Eq)]
struct Wanted {
    limit: usize,
    /// Any of these; all when it is empty.
    types: HashSet<String>,
    session: Option<String>,
}

impl Wanted {
    /// Any limit below one asks for everything, as in the original.
    fn of_hooks(asked: &Map<String, Value>) -> Self {
        let limit = match asked.get("limit").and_then(Value::as_i64) {
            None => DEFAULT_LIMIT,
            Some(n) => usize::try_from(n).ok().filter(|n| *n > 0).unwrap_or(usize::MAX),
        };
        let text = |name: &str| asked.get(name).and_then(Value::as_str).filter(|s| !s.is_empty()).map(str::to_owned);
        Self { limit, types: text("type").into_iter().collect(), session: text("session_id") }
    }

    fn of_older(asked: &Map<String, Value>) -> Self {
        let limit = asked.get("limit").and_then(Value::as_u64).and_then(|n| usize::try_from(n).ok());
        let types = asked.get("event_types").and_then(Value::as_array);
        let types = types.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
        Self { limit: limit.unwrap_or(OLD_LIMIT).min(OLD_LIMIT), types, session: None }
    }

    fn fits(&self, draft: &Draft) -> bool {
        self.session.as_deref().is_none_or(|id| draft.session.as_deref() == Some(id))
            && (self.types.is_empty() || type_of(&draft.payload).is_some_and(|kind| self.types.contains(&kind)))
    }
}

/// The `type` of a payload, where that is an object and this a text. Read no further than to it: in what is posted in the
/// usual dialect it comes first.
fn type_of(payload: &str) -> Option<String> {
    struct Search<'f>(&'f mut Option<String>);
    impl<'de> Visitor<'de> for Search<'_> {
        type Value = ();

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
            while let Some(key) = members.next_key::<Cow<'_, str>>()? {
                if key == "type" {
                    *self.0 = serde_json::from_str(members.next_value::<&RawValue>()?.get()).ok();
                    break;
                }
                members.next_value::<IgnoredAny>()?;
            }
            Ok(())
        }
    }
    let mut found = None;
    // That it was not read to its end is an error, and of no interest.
    let _ = serde_json::Deserializer::from_str(payload).deserialize_map(Search(&mut found));
    found
}

/// The newest that fit, oldest first: no more than are wanted, and no more than so many bytes, but one in any case.
fn select<'a>(all: &'a [Arc<Event>], wanted: &Wanted, most: usize) -> Vec<&'a Arc<Event>> {
    let (mut found, mut bytes) = (Vec::new(), 0);
    for event in all.iter().rev().filter(|event| wanted.fits(&event.draft)).take(wanted.limit) {
        bytes += event.draft.payload.len();
        if bytes > most && !found.is_empty() {
            break;
        }
        found.push(event);
    }
    found.reverse();
    found
}

fn size(events: &[&Arc<Event>]) -> usize {
    events.iter().map(|event| event.draft.payload.len()).sum()
}

fn filters(asked: &Map<String, Value>) -> Value {
    let limit = asked.get("limit").cloned().unwrap_or_else(|| DEFAULT_LIMIT.into());
    json!({"type": asked.get("type"), "session_id": asked.get("session_id"), "limit": limit})
}

/// `{"events":[..],` and the members of `tail`. The events are JSON already, and go out as they are.
fn answer(events: &[Shown], tail: &Value) -> Vec<u8> {
    let payloads: Vec<&[u8]> = events.iter().map(Shown::payload).collect();
    let tail = tail.to_string();
    [b"{\"events\":[", payloads.join(&b","[..]).as_slice(), b"],", &tail.as_bytes()[1..]].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(seq: u64, session: Option<&str>, payload: &str) -> Arc<Event> {
        let session = session.map(str::to_owned);
        let draft = Draft { name: "n".into(), subtype: String::new(), session, payload: payload.into() };
        Arc::new(Event { seq, accepted: jiff::Timestamp::UNIX_EPOCH, origin: None, draft })
    }

    fn shown(event: &Arc<Event>) -> Shown {
        Shown::new(Arc::clone(event), "e")
    }

    fn seqs(asked: Value) -> Vec<u64> {
        let all = [
            event(1, Some("a"), r#"{"type":"hook"}"#),
            event(2, Some("a"), r#"{"n":{"type":"hook"},"type":"x"}"#),
            event(3, Some("b"), r#"{"type":"hook"}"#),
            event(4, None, "[1]"),
            event(5, Some("a"), r#"{"n":1,"type":"hook","type2":0}"#),
        ];
        let wanted = Wanted::of_hooks(asked.as_object().unwrap());
        select(&all, &wanted, HISTORY_BYTES).iter().map(|e| e.seq).collect()
    }

    #[test]
    fn the_newest_that_fit_come_oldest_first() {
        assert_eq!(seqs(json!({})), [1, 2, 3, 4, 5]);
        assert_eq!(seqs(json!({"limit": 2})), [4, 5]);
        assert_eq!(seqs(json!({"limit": 0})), [1, 2, 3, 4, 5]);
        assert_eq!(seqs(json!({"limit": -5})), [1, 2, 3, 4, 5]);
        assert_eq!(seqs(json!({"type": "hook", "limit": 2})), [3, 5]);
        assert_eq!(seqs(json!({"session_id": "a", "type": "x"})), [2]);
        assert_eq!(seqs(json!({"session_id": "nobody"})), [0_u64; 0]);
    }

    #[test]
    fn the_older_dialect_has_a_list_of_types_and_a_bound() {
        let wanted = |asked: Value| Wanted::of_older(asked.as_object().unwrap());
        assert_eq!(wanted(json!({})), Wanted { limit: 100, types: HashSet::new(), session: None });
        let some = wanted(json!({"limit": 1000, "event_types": ["a", 1, "b"]}));
        assert_eq!(some, Wanted { limit: 100, types: ["a".into(), "b".into()].into(), session: None });
        let fits = |payload: &str| some.fits(&event(1, None, payload).draft);
        assert!(!fits("[\"b\"]") && !fits("{}") && !fits(r#"{"type":7}"#) && fits(r#"{"type":"b"}"#));
        assert_eq!(wanted(json!({"limit": 7})).limit, 7);
    }

    #[test]
    fn an_answer_holds_the_newest_that_fit_into_it_and_at_least_one() {
        let large = format!("{{\"pad\":\"{}\"}}", "x".repeat(HISTORY_BYTES / 2));
        let all: Vec<_> = (1..=4).map(|seq| event(seq, None, &large)).collect();
        let seqs = |all: &[Arc<Event>]| {
            let found = select(all, &Wanted::of_hooks(&Map::new()), HISTORY_BYTES);
            found.iter().map(|e| e.seq).collect::<Vec<_>>()
        };
        assert_eq!(seqs(&all), [4]);
        let small = [&all[..], &[event(5, None, "{}"), event(6, None, "{}")]].concat();
        assert_eq!(seqs(&small), [4, 5, 6]);
    }

    #[test]
    fn an_answer_is_json() {
        let tail = json!({"total": 2});
        let two = [shown(&event(1, None, "{}")), shown(&event(2, None, "{}"))];
        let value: Value = serde_json::from_slice(&answer(&two, &tail)).unwrap();
        assert_eq!(value, json!({"events": [{"id": "e-1", "seq": 1}, {"id": "e-2", "seq": 2}], "total": 2}));
        assert_eq!(answer(&[], &tail), br#"{"events":[],"total":2}"#);
    }
}
