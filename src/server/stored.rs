//! The event store as the server sees it.

use axum::http::StatusCode;

use super::answer::Refusal;
use super::{Events, Filter, Later, Page};
use crate::events::ingest;
use crate::events::model::{Dialect, Draft};
use crate::events::store::{self, Store, StoreError};

impl Events for Store {
    fn draft(&self, body: &[u8], dialect: Dialect) -> Result<Draft, Refusal> {
        ingest::draft(body, dialect, jiff::Timestamp::now()).map_err(|error| {
            let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::BAD_REQUEST);
            Refusal::new(status, error.code(), error.to_string())
        })
    }

    fn append(&self, draft: Draft) -> Later<'_, u64> {
        Box::pin(async move { self.append(draft).await.map_err(|error| refusal(&error)) })
    }

    fn after<'a>(&'a self, seq: u64, limit: usize, filter: &'a Filter) -> Later<'a, Page> {
        Box::pin(async move {
            let filter = store::Filter {
                session: filter.session.clone(),
                name: filter.name.clone(),
                subtype: filter.subtype.clone(),
            };
            let page = self.after(seq, limit, &filter).await.map_err(|error| refusal(&error))?;
            Ok(Page { events: page.events, last_seq: page.last_seq, oldest_seq: page.oldest_seq })
        })
    }

    fn last_seq(&self) -> u64 {
        self.last_seq()
    }

    fn epoch(&self) -> String {
        self.epoch().to_owned()
    }
}

/// Nothing the store refuses is the client's fault, and all of it may pass.
fn refusal(error: &StoreError) -> Refusal {
    Refusal::new(StatusCode::SERVICE_UNAVAILABLE, error.code(), error.to_string())
}
