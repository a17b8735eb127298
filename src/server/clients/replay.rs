//! `hook:replay:start`: the events of a session once more, with the pauses that were between them. A client has one replay at
//! a time; it ends with the client.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::task::AbortHandle;

use super::{HOOK_ERROR, Parts};
use crate::events::hub::Hub;
use crate::events::model::Event;
use socketio::namespace::{Handled, Handler, Incoming, Kept, Socket};

/// The shortest pause, as in the original: pages draw each event.
const SHORTEST: f64 = 0.1;
/// The longest: over night nothing happened.
const LONGEST: f64 = 10.0;

/// The replays that run, by the client's id.
type Running = Arc<Mutex<HashMap<String, AbortHandle>>>;

pub(super) struct Replay {
    parts: Parts,
    running: Running,
}

impl Replay {
    pub(super) fn new(parts: Parts) -> Self {
        Self { parts, running: Running::default() }
    }
}

impl Handler for Replay {
    fn event(&self, socket: Socket<'_>, event: Incoming<'_>) -> Handled {
        let ("hook:replay:start", Some(said)) = (event.name, event.object()) else { return Handled::No };
        let fail = |message: String| {
            socket.emit(HOOK_ERROR, &json!({"error": message}));
            Handled::done()
        };
        let session = match said.get("session_id") {
            Some(Value::String(id)) if !id.is_empty() => id.clone(),
            Some(Value::Number(id)) => id.to_string(),
            _ => return fail("No session ID provided for replay".to_owned()),
        };
        let speed = said.get("speed").cloned().unwrap_or_else(|| json!(1.0));
        let Some(times) = speed.as_f64().filter(|s| *s > 0.0 && s.is_finite()) else {
            return fail(format!(
                "Replay error: the speed must be a number above 0, not {}",
                shorten(&speed.to_string())
            ));
        };
        let mut events = self.parts.hub.kept();
        events.retain(|event| event.draft.session.as_deref() == Some(&*session));
        if events.is_empty() {
            return fail(format!("No events found for session: {}", shorten(&session)));
        }
        socket.emit("hook:replay:started", &json!({"event_count": events.len(), "speed": speed}));
        let work = run(socket.keep(), Arc::clone(&self.parts.hub), events, times);
        // The one that ran gives way.
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.retain(|_, replay| !replay.is_finished());
        if let Some(old) = running.insert(socket.id().to_owned(), tokio::spawn(work).abort_handle()) {
            old.abort();
        }
        Handled::done()
    }

    fn left(&self, id: &str) {
        if let Some(replay) = self.running.lock().unwrap_or_else(PoisonError::into_inner).remove(id) {
            replay.abort();
        }
    }
}

async fn run(to: Kept, hub: Arc<Hub>, events: Vec<Arc<Event>>, speed: f64) {
    let total = events.len();
    let mut before = None;
    for (index, event) in events.into_iter().enumerate() {
        let event = hub.show(event);
        let now = moment(event.payload());
        if index > 0 {
            tokio::time::sleep(pause(before, now, speed)).await;
        }
        before = now.or(before);
        let head = format!("{{\"index\":{index},\"total\":{total},\"event\":");
        to.socket().emit_json("hook:replay:event", &[head.as_bytes(), event.payload(), b"}"].concat());
    }
    to.socket().emit("hook:replay:completed", &json!({"event_count": total}));
}

/// When an event says that it happened, in seconds: as a time, or on any clock of the sender's.
fn moment(payload: &[u8]) -> Option<f64> {
    #[derive(serde::Deserialize)]
    struct Head {
        timestamp: Value,
    }
    // An array would count as an object whose members are in order.
    let head: Head = serde_json::from_slice(Some(payload).filter(|p| p.starts_with(b"{"))?).ok()?;
    match head.timestamp {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.parse::<Timestamp>().ok().map(|t| t.as_microsecond() as f64 / 1e6),
        _ => None,
    }
}

fn pause(before: Option<f64>, now: Option<f64>, speed: f64) -> Duration {
    let between = before.zip(now).map_or(0.0, |(before, now)| (now - before) / speed);
    // What is no number, as after times that overflow, is the shortest.
    let seconds = if between.is_nan() { SHORTEST } else { between.clamp(SHORTEST, LONGEST) };
    Duration::from_secs_f64(seconds)
}

fn shorten(text: &str) -> String {
    text.chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_are_those_between_the_events_within_bounds() {
        let at = |text: &str| moment(format!("{{\"timestamp\":{text}}}").as_bytes());
        assert_eq!((at("1.5"), at("null"), at("\"soon\"")), (Some(1.5), None, None));
        let (first, second) = (at("\"2026-01-01T00:00:00Z\""), at("\"2026-01-01T00:00:04+00:00\""));
        let seconds = |before, now, speed| pause(before, now, speed).as_secs_f64();
        assert_eq!(seconds(first, second, 2.0), 2.0);
        assert_eq!(seconds(first, second, 1e9), 0.1);
        assert_eq!(seconds(first, second, 1e-9), 10.0);
        assert_eq!(seconds(second, first, 1.0), 0.1);
        assert_eq!(seconds(None, second, 1.0), 0.1);
        assert_eq!(seconds(Some(f64::MAX), Some(f64::MIN), 1e-300), 0.1);
        assert_eq!(moment(b"[1]"), None);
    }
}
