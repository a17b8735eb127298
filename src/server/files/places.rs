//! Where sessions run, as their events say. Each event is read for it once, when files are first asked for after it came.

use std::collections::{BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::asked::Asked;
use crate::events::model::Event;

/// The most directories of sessions that are looked at; the newest count.
const SESSIONS: usize = 256;

/// What the events in memory have said so far.
#[derive(Debug, Default)]
pub struct Book {
    /// Events up to this number were read.
    read: u64,
    /// The number of an event and the directory that it named, the oldest first.
    said: VecDeque<(u64, PathBuf)>,
}

/// The sessions of this moment.
#[derive(Debug, Default)]
pub struct Sessions {
    /// The newest events, the oldest of them first.
    pub events: Vec<Arc<Event>>,
    /// What was read before.
    pub book: Arc<Mutex<Book>>,
}

impl Sessions {
    /// Where they run, the newest first. What is new since the last time is read, which takes time where it is large.
    pub fn places(&self) -> Vec<PathBuf> {
        let mut book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
        book.follow(&self.events);
        let mut seen = BTreeSet::new();
        let places = book.said.iter().rev().map(|(_, path)| path);
        places.filter(|path| seen.insert(*path)).take(SESSIONS).cloned().collect()
    }
}

impl Book {
    /// Reads the events that are new, and forgets what those have said that are gone.
    fn follow(&mut self, events: &[Arc<Event>]) {
        let Some((oldest, newest)) = events.first().zip(events.last()) else { return self.said.clear() };
        let new = events.partition_point(|event| event.seq <= self.read);
        for event in &events[new..] {
            let path = said(&event.draft.payload).and_then(|text| Asked::read(&text, None).ok());
            self.said.extend(path.map(|path| (event.seq, path.path().to_owned())));
        }
        self.read = self.read.max(newest.seq);
        let gone = self.said.partition_point(|(seq, _)| *seq < oldest.seq);
        self.said.drain(..gone);
    }
}

/// The working directory that an event names.
fn said(payload: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Names<'a> {
        #[serde(default)]
        cwd: Value,
        #[serde(default)]
        working_directory: Value,
        #[serde(borrow, default)]
        data: Option<&'a RawValue>,
    }
    // An array would count as an object whose members are in order.
    let read = |text: &str| {
        let names: Names<'_> = serde_json::from_str(Some(text).filter(|t| t.starts_with('{'))?).ok()?;
        let [cwd, other] = [names.cwd, names.working_directory].map(|v| v.as_str().map(str::to_owned));
        Some((cwd.or(other), names.data.map(|d| d.get().to_owned())))
    };
    match read(payload)? {
        (Some(path), _) => Some(path),
        (None, data) => read(&data?)?.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::model::Draft;

    fn event(seq: u64, payload: &str) -> Arc<Event> {
        let draft = Draft { name: "n".into(), subtype: String::new(), session: None, payload: payload.into() };
        Arc::new(Event { seq, accepted: jiff::Timestamp::UNIX_EPOCH, origin: None, draft })
    }

    fn shown(sessions: &Sessions) -> Vec<String> {
        sessions.places().iter().map(|p| p.display().to_string()).collect()
    }

    #[test]
    fn what_was_read_stays_known_as_long_as_memory_has_its_event() {
        let book = Arc::<Mutex<Book>>::default();
        let at = |events: &[(u64, &str)]| {
            let events = events.iter().map(|(seq, payload)| event(*seq, payload)).collect();
            shown(&Sessions { events, book: Arc::clone(&book) })
        };
        let (a, b, c) = (r#"{"cwd":"/a"}"#, r#"{"cwd":"/b"}"#, r#"{"cwd":"/c"}"#);
        assert_eq!(at(&[(3, a), (4, b)]), ["/b", "/a"]);
        // They are not read again: these texts say something else.
        assert_eq!(at(&[(3, "{}"), (4, "{}"), (5, c)]), ["/c", "/b", "/a"]);
        assert_eq!(at(&[(4, "{}"), (5, "{}"), (6, "{}")]), ["/c", "/b"]);
        assert!(at(&[]).is_empty());
    }

    #[test]
    fn sessions_say_where_they_run() {
        let events: Vec<_> = [
            r#"{"cwd":"/old","data":{"cwd":"/not"}}"#,
            r#"{"data":{"working_directory":"/inner"}}"#,
            r#"{"cwd":null,"working_directory":"/second"}"#,
            r#"{"cwd":"relative"}"#,
            r#"{"cwd":"/a/../etc"}"#,
            r#"{"cwd":7,"data":["/x"]}"#,
            r#"["/x"]"#,
            r#"{"cwd":"/old/"}"#,
            r#"{"cwd":"/new"}"#,
        ]
        .iter()
        .zip(1..)
        .map(|(payload, seq)| event(seq, payload))
        .collect();
        let sessions = Sessions { events, ..Sessions::default() };
        assert_eq!(shown(&sessions), ["/new", "/old", "/second", "/inner"]);
    }
}
