//! `subscribe` and `unsubscribe`: a client that wants only some of the events says so. Without it a client gets all.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::HOOK_ERROR;
use crate::server::feed::EventFeed;
use socketio::namespace::{Handled, Handler, Incoming, Socket};

/// The categories of posted events, by which the older dialect names its channels without their ending.
const ENDING: &str = "_event";

/// The longest name or id that can be subscribed to, bytes.
const LONGEST: usize = 256;

pub(super) struct Subscribe {
    pub feed: Arc<EventFeed>,
}

impl Handler for Subscribe {
    fn event(&self, socket: Socket<'_>, event: Incoming<'_>) -> Handled {
        let wish = match event.name {
            // The older dialect asks for everything without an argument.
            "subscribe" => Wish::of(&event.object().unwrap_or_default()),
            "unsubscribe" => Wish::default(),
            _ => return Handled::No,
        };
        if wish.is_too_long() {
            let message = format!("a name or an id to subscribe to may have at most {LONGEST} bytes");
            socket.emit(HOOK_ERROR, &json!({"error": message}));
            return Handled::done();
        }
        match self.feed.narrow(socket, &wish.sessions, &wish.names()) {
            Ok(()) => socket.emit("subscribed", &wish.told()),
            Err(error) => socket.emit(HOOK_ERROR, &json!({"error": error.to_string()})),
        }
        Handled::done()
    }
}

/// What a client wants; an empty list is no condition.
#[derive(Debug, Default, PartialEq, Eq)]
struct Wish {
    sessions: Vec<String>,
    events: Vec<String>,
    channels: Vec<String>,
}

impl Wish {
    fn of(asked: &Map<String, Value>) -> Self {
        let list = |name: &str| {
            let items = asked.get(name).and_then(Value::as_array);
            let mut items: Vec<String> = items.into_iter().flatten().filter_map(text).collect();
            items.sort_unstable();
            items.dedup();
            items
        };
        let all = |items: Vec<String>| if items.iter().any(|item| item == "*") { Vec::new() } else { items };
        Self { sessions: all(list("sessions")), events: all(list("events")), channels: all(list("channels")) }
    }

    fn is_too_long(&self) -> bool {
        [&self.sessions, &self.events, &self.channels].into_iter().flatten().any(|name| name.len() > LONGEST)
    }

    /// The names of events that are wanted. A channel is one, with or without its ending.
    fn names(&self) -> Vec<String> {
        let channels = self.channels.iter().flat_map(|channel| [channel.clone(), format!("{channel}{ENDING}")]);
        self.events.iter().cloned().chain(channels).collect()
    }

    fn told(&self) -> Value {
        let shown = |list: &[String]| if list.is_empty() { json!(["*"]) } else { json!(list) };
        json!({"sessions": shown(&self.sessions), "events": shown(&self.events), "channels": shown(&self.channels)})
    }
}

/// Numbers are ids of sessions as well.
fn text(item: &Value) -> Option<String> {
    match item {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(asked: Value) -> Wish {
        Wish::of(asked.as_object().unwrap())
    }

    #[test]
    fn a_star_and_an_empty_list_are_everything() {
        for all in [json!({}), json!({"channels": ["*"]}), json!({"sessions": [], "events": ["x", "*"]})] {
            assert_eq!(wish(all), Wish::default());
        }
        assert_eq!(Wish::default().told(), json!({"sessions": ["*"], "events": ["*"], "channels": ["*"]}));
    }

    #[test]
    fn a_name_has_a_bounded_length() {
        let of = |length: usize| wish(json!({"sessions": ["s"], "channels": ["x".repeat(length)]}));
        assert!(!of(LONGEST).is_too_long() && of(LONGEST + 1).is_too_long());
    }

    #[test]
    fn channels_are_names_of_events() {
        let wish = wish(json!({"sessions": ["s", 7, "s"], "events": ["claude_event"], "channels": ["tool"]}));
        assert_eq!(wish.sessions, ["7", "s"]);
        assert_eq!(wish.names(), ["claude_event", "tool", "tool_event"]);
        assert_eq!(wish.told(), json!({"sessions": ["7", "s"], "events": ["claude_event"], "channels": ["tool"]}));
    }
}
