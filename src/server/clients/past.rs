//! What clients ask about the past: `hook:history:get`, and `get_history`, `request_history` of the older dialect.

use serde_json::{Map, Value, json};

use super::Parts;
use crate::events::hub::Shown;
use crate::server::socketio::namespace::{Handled, Handler, Incoming, Socket};

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
                let found = select(self.parts.hub.recent(), &Wanted::of_hooks(&asked));
                let tail = json!({"total": found.len(), "filters": filters(&asked)});
                socket.emit_json("hook:history:response", &answer(&found, &tail));
                Handled::done()
            }
            "get_history" | "request_history" => {
                let asked = event.object().unwrap_or_default();
                let all = self.parts.hub.recent();
                let available = all.len();
                let found = select(all, &Wanted::of_older(&asked));
                let tail = json!({"count": found.len(), "total_available": available});
                socket.emit_json("history", &answer(&found, &tail));
                Handled::done()
            }
            _ => Handled::No,
        }
    }
}

/// Which events are asked for; the newest `limit` of those that fit.
#[derive(Debug, PartialEq, Eq)]
struct Wanted {
    limit: usize,
    /// Any of these; all when it is empty.
    types: Vec<String>,
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

    fn fits(&self, payload: &[u8]) -> bool {
        #[derive(serde::Deserialize)]
        struct Head {
            #[serde(rename = "type", default)]
            kind: Value,
            #[serde(default)]
            session_id: Value,
        }
        if self.types.is_empty() && self.session.is_none() {
            return true;
        }
        // An array would count as an object whose members are in order.
        let Some(head) =
            Some(payload).filter(|p| p.starts_with(b"{")).and_then(|p| serde_json::from_slice::<Head>(p).ok())
        else {
            return false;
        };
        (self.types.is_empty() || self.types.iter().any(|t| head.kind == t.as_str()))
            && self.session.as_ref().is_none_or(|s| head.session_id == s.as_str())
    }
}

/// Oldest first.
fn select(all: Vec<Shown>, wanted: &Wanted) -> Vec<Shown> {
    let mut found: Vec<Shown> = all.into_iter().rev().filter(|e| wanted.fits(e.payload())).take(wanted.limit).collect();
    found.reverse();
    found
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
    use crate::events::model::{Draft, Event};

    fn shown(seq: u64, payload: &str) -> Shown {
        let draft = Draft { name: "n".into(), subtype: String::new(), session: None, payload: payload.into() };
        Shown::new(Event { seq, accepted: jiff::Timestamp::UNIX_EPOCH, origin: None, draft }, "e")
    }

    fn seqs(asked: Value) -> Vec<u64> {
        let all = [
            r#"{"type":"hook","session_id":"a"}"#,
            r#"{"type":"x","session_id":"a"}"#,
            r#"{"type":"hook","session_id":"b"}"#,
            "[1]",
            r#"{"type":"hook","session_id":"a","type2":0}"#,
        ];
        let all = all.iter().enumerate().map(|(i, p)| shown(i as u64 + 1, p)).collect();
        select(all, &Wanted::of_hooks(asked.as_object().unwrap())).iter().map(|s| s.seq).collect()
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
        assert_eq!(wanted(json!({})), Wanted { limit: 100, types: vec![], session: None });
        let some = wanted(json!({"limit": 1000, "event_types": ["a", 1, "b"]}));
        assert_eq!(some, Wanted { limit: 100, types: vec!["a".into(), "b".into()], session: None });
        assert!(!some.fits(b"[\"b\"]") && some.fits(br#"{"type":"b"}"#));
        assert_eq!(wanted(json!({"limit": 7})).limit, 7);
    }

    #[test]
    fn an_answer_is_json() {
        let tail = json!({"total": 2});
        let two = [shown(1, "{}"), shown(2, "{}")];
        let value: Value = serde_json::from_slice(&answer(&two, &tail)).unwrap();
        assert_eq!(value, json!({"events": [{"id": "e-1", "seq": 1}, {"id": "e-2", "seq": 2}], "total": 2}));
        assert_eq!(answer(&[], &tail), br#"{"events":[],"total":2}"#);
    }
}
