//! Who is connected: `client:register` gives a client a name, `client:list` tells all of them.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};

use socketio::namespace::{Handled, Handler, Incoming, Socket};
use socketio::session::Session;

/// The longest name or type that is kept, characters.
const LONGEST: usize = 200;

#[derive(Debug, Clone, PartialEq, Eq)]
struct Name {
    name: String,
    kind: String,
}

/// The names that clients gave themselves, by their Socket.IO session id.
#[derive(Debug, Default)]
pub(super) struct Roster(Mutex<HashMap<String, Name>>);

impl Roster {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Name>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Handler for Roster {
    fn event(&self, socket: Socket<'_>, event: Incoming<'_>) -> Handled {
        match event.name {
            "client:register" => {
                let Some(said) = event.object() else { return Handled::No };
                let id = socket.id();
                let text = |key: &str| {
                    let text = said.get(key).and_then(Value::as_str);
                    text.map(|t| t.chars().take(LONGEST).collect::<String>())
                };
                let name = text("name").unwrap_or_else(|| default_name(id));
                let kind = text("type").unwrap_or_else(|| "dashboard".to_owned());
                socket.emit("client:registered", &json!({"name": name, "type": kind, "session_id": id}));
                self.lock().insert(id.to_owned(), Name { name, kind });
                Handled::done()
            }
            "client:list" => {
                if event.argument().is_none() {
                    return Handled::No;
                }
                let mut everyone = socket.everyone();
                everyone.sort_by_key(|(id, session)| (session.opened, id.as_str().to_owned()));
                let names = self.lock();
                let clients: Vec<Value> =
                    everyone.iter().map(|(id, s)| entry(id.as_str(), s, names.get(id.as_str()))).collect();
                drop(names);
                let total = clients.len();
                socket.emit("client:list:response", &json!({"clients": clients, "total": total}));
                Handled::done()
            }
            _ => Handled::No,
        }
    }

    fn left(&self, id: &str) {
        self.lock().remove(id);
    }
}

fn entry(id: &str, session: &Session, name: Option<&Name>) -> Value {
    json!({
        "session_id": id,
        "name": name.map_or_else(|| default_name(id), |n| n.name.clone()),
        "type": name.map_or("unknown", |n| n.kind.as_str()),
        "connected_at": super::opened(session),
        "registered": name.is_some(),
    })
}

fn default_name(id: &str) -> String {
    format!("Client-{}", id.get(..8).unwrap_or(id))
}
