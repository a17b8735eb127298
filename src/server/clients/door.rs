//! Who may enter the default namespace: whoever may read, by its request or by the token in its auth payload
//! (`{"token":"…"}`).

use std::sync::Arc;

use serde_json::Value;
use tokio::sync::watch;

use super::visitor::Visitor;
use crate::config::Settings;
use crate::server::access::Access;
use crate::server::{Counters, access};
use socketio::namespace::{Entry, Middleware, Refused};

pub(super) struct Door {
    pub settings: watch::Receiver<Arc<Settings>>,
    pub counters: Arc<Counters>,
}

impl Middleware for Door {
    fn admit(&self, entry: Entry<'_>) -> Result<(), Refused> {
        let said = entry.auth.get("token").and_then(Value::as_str);
        let visitor = Visitor::of(entry.session);
        let requested = visitor.map_or(Access::NONE, |visitor| visitor.requested);
        let may = requested.with(said, self.settings.borrow().token.as_ref());
        if let Some(visitor) = visitor {
            visitor.grant(may);
        }
        if may.read {
            return Ok(());
        }
        let refusal = access::refusal(said.is_some());
        self.counters.denied(refusal.code);
        Err(Refused { code: refusal.code, message: refusal.message })
    }
}
