//! Who may enter the default namespace: whoever may read, by its request or by the token in its auth payload
//! (`{"token":"…"}`).

use std::sync::Arc;

use serde_json::Value;
use tokio::sync::watch;

use crate::config::Settings;
use crate::server::socketio::namespace::{Entry, Middleware, Refused};
use crate::server::{Counters, access};

pub(super) struct Door {
    pub settings: watch::Receiver<Arc<Settings>>,
    pub counters: Arc<Counters>,
}

impl Middleware for Door {
    fn admit(&self, entry: Entry<'_>) -> Result<(), Refused> {
        let said = entry.auth.get("token").and_then(Value::as_str);
        let may = entry.session.handshake.access.with(said, self.settings.borrow().token.as_ref());
        entry.session.set_access(may);
        if may.read {
            return Ok(());
        }
        let refusal = access::refusal(said.is_some());
        self.counters.denied(refusal.code);
        Err(Refused { code: refusal.code, message: refusal.message })
    }
}
