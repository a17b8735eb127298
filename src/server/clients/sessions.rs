//! The agent sessions that clients announce: `hook:session:start`, `hook:session:end`, `hook:sessions:list`,
//! `hook:session:info`. Their begin and end are events like others, stored and sent to all.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};

use super::{HOOK_ERROR, Parts, binary};
use crate::events::model::Draft;
use crate::events::shown::{SESSION_ENDED, SESSION_STARTED};
use socketio::namespace::{Handled, Handler, Incoming, Socket};

/// How long an ended session is still listed, as in the original.
const REMEMBERED: SignedDuration = SignedDuration::from_secs(300);
/// The most sessions that are remembered; the one that was quiet longest gives way to a new one.
const MOST: usize = 1000;

/// The most bytes of what clients say of all of them; the same.
const MOST_BYTES: usize = 1 << 20;

/// One announced session.
#[derive(Debug, Clone, PartialEq)]
struct Record {
    id: String,
    started: Timestamp,
    ended: Option<Timestamp>,
    last_activity: Timestamp,
    events: u64,
    metadata: Value,
    /// How many bytes of JSON its id and its metadata are.
    bytes: usize,
}

impl Record {
    fn new(id: &str, metadata: Value, now: Timestamp) -> Self {
        let bytes = id.len() + metadata.to_string().len();
        Self { id: id.to_owned(), started: now, ended: None, last_activity: now, events: 0, metadata, bytes }
    }

    fn shown(&self) -> Value {
        let mut shown = json!({
            "session_id": self.id,
            "start_time": at(self.started),
            "status": if self.ended.is_some() { "ended" } else { "running" },
            "event_count": self.events,
            "last_activity": at(self.last_activity),
            "metadata": self.metadata,
        });
        if let Some(ended) = self.ended {
            shown["end_time"] = at(ended).into();
            shown["duration"] = ended.duration_since(self.started).as_secs_f64().into();
        }
        shown
    }

    /// The event that tells of its begin or end.
    fn draft(&self, now: Timestamp) -> Draft {
        let (name, kind) =
            if self.ended.is_some() { (SESSION_ENDED, "session.ended") } else { (SESSION_STARTED, "session.started") };
        let payload =
            json!({"type": kind, "session_id": self.id, "data": self.shown(), "timestamp": at(now)}).to_string();
        Draft { name: name.into(), subtype: kind.into(), session: Some(self.id.clone()), payload: payload.into() }
    }
}

fn at(time: Timestamp) -> String {
    format!("{time:.6}")
}

/// The sessions that are remembered.
#[derive(Debug, Default)]
pub(super) struct Book(Mutex<HashMap<String, Record>>);

impl Book {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Record>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An event of a session was stored.
    pub(super) fn saw_event(&self, id: &str, now: Timestamp) {
        if let Some(record) = self.lock().get_mut(id) {
            record.events += 1;
            record.last_activity = now;
        }
    }

    fn put(&self, record: Record, now: Timestamp) {
        let mut all = self.lock();
        forget(&mut all, now);
        all.remove(&record.id);
        let mut bytes = record.bytes + all.values().map(|r| r.bytes).sum::<usize>();
        while all.len() >= MOST || bytes > MOST_BYTES {
            let quiet = all.values().min_by_key(|r| r.last_activity).map(|r| r.id.clone());
            let Some(gone) = quiet.and_then(|id| all.remove(&id)) else { break };
            bytes -= gone.bytes;
        }
        all.insert(record.id.clone(), record);
    }

    /// A session that runs, as it is once it has ended.
    fn ending(&self, id: &str, now: Timestamp) -> Option<Record> {
        let mut record = self.get(id, now).filter(|r| r.ended.is_none())?;
        record.ended = Some(now);
        record.last_activity = now;
        Some(record)
    }

    fn get(&self, id: &str, now: Timestamp) -> Option<Record> {
        let mut all = self.lock();
        forget(&mut all, now);
        all.get(id).cloned()
    }

    /// All of them, oldest first.
    fn list(&self, now: Timestamp) -> Vec<Value> {
        let mut all = self.lock();
        forget(&mut all, now);
        let mut records: Vec<&Record> = all.values().collect();
        records.sort_by(|a, b| (a.started, &a.id).cmp(&(b.started, &b.id)));
        records.into_iter().map(Record::shown).collect()
    }
}

fn forget(all: &mut HashMap<String, Record>, now: Timestamp) {
    all.retain(|_, record| record.ended.is_none_or(|ended| now.duration_since(ended) < REMEMBERED));
}

pub(super) struct Sessions {
    pub parts: Parts,
    pub book: Arc<Book>,
}

impl Handler for Sessions {
    fn event(&self, socket: Socket<'_>, event: Incoming<'_>) -> Handled {
        let now = Timestamp::now();
        match event.name {
            "hook:session:start" => {
                let Some(mut said) = binary::object(&event) else { return Handled::No };
                let Some(id) = id(&said) else {
                    return self.parts.refuse(socket.keep(), "no_session_id", "No session ID provided");
                };
                let record = Record::new(&id, said.remove("metadata").unwrap_or_else(|| json!({})), now);
                let book = Arc::clone(&self.book);
                self.parts.take(socket.keep(), record.draft(now), move || book.put(record, now))
            }
            "hook:session:end" => {
                let Some(said) = event.object() else { return Handled::No };
                let Some(id) = id(&said) else {
                    return self.parts.refuse(socket.keep(), "no_session_id", "No session ID provided");
                };
                // Of one that nobody began, or that has ended, there is nothing to tell.
                let Some(record) = self.book.ending(&id, now) else { return Handled::done() };
                let book = Arc::clone(&self.book);
                self.parts.take(socket.keep(), record.draft(now), move || book.put(record, now))
            }
            "hook:sessions:list" => {
                let sessions = self.book.list(now);
                let total = sessions.len();
                socket.emit("hook:sessions:response", &json!({"sessions": sessions, "total": total}));
                Handled::done()
            }
            "hook:session:info" => {
                let Some(said) = event.object() else { return Handled::No };
                match id(&said) {
                    None => socket.emit(HOOK_ERROR, &json!({"error": "No session ID provided"})),
                    Some(id) => match self.book.get(&id, now) {
                        Some(record) => socket.emit("hook:session:info:response", &record.shown()),
                        None => socket.emit(HOOK_ERROR, &json!({"error": format!("Session not found: {id}")})),
                    },
                }
                Handled::done()
            }
            _ => Handled::No,
        }
    }
}

/// The session that an argument names; numbers are ids as well.
fn id(said: &Map<String, Value>) -> Option<String> {
    match said.get("session_id")? {
        Value::String(id) if !id.is_empty() => Some(id.clone()),
        Value::Number(id) => Some(id.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_session_begins_counts_ends_and_is_forgotten() {
        let book = Book::default();
        book.put(Record::new("s", json!({"a": 1}), time(10)), time(10));
        book.saw_event("s", time(11));
        book.saw_event("other", time(11));
        let running = book.get("s", time(12)).unwrap().shown();
        assert_eq!((&running["status"], &running["event_count"]), (&json!("running"), &json!(1)));
        assert_eq!(running["last_activity"], "1970-01-01T00:00:11.000000Z");
        assert!(running.get("end_time").is_none());
        let ended = book.ending("s", time(20)).unwrap();
        assert_eq!(ended.shown()["duration"], 10.0);
        assert_eq!(ended.draft(time(20)).name, "hook:session:ended");
        book.put(ended, time(20));
        assert_eq!(book.ending("s", time(21)), None, "it ends once");
        assert_eq!(book.list(time(319)).len(), 1);
        assert_eq!(book.list(time(320)).len(), 0);
        assert_eq!(book.ending("s", time(320)), None);
    }

    #[test]
    fn the_quietest_of_too_many_gives_way() {
        let book = Book::default();
        for n in 0..MOST {
            book.put(Record::new(&format!("s{n}"), json!({}), time(n as i64)), time(n as i64));
        }
        book.saw_event("s0", time(5000));
        book.put(Record::new("new", json!({}), time(5001)), time(5001));
        assert_eq!(book.lock().len(), MOST);
        assert!(book.get("s0", time(5001)).is_some() && book.get("s1", time(5001)).is_none());
        let large = || json!("x".repeat(MOST_BYTES / 2));
        book.put(Record::new("large", large(), time(5002)), time(5002));
        assert!(book.lock().len() > MOST / 2, "the others are small");
        book.put(Record::new("larger", large(), time(5003)), time(5003));
        assert_eq!(book.list(time(5003)).len(), 1, "the two do not fit");
    }
}
