//! The HTTP routes: who the monitor is, whether it is ready, events in and out.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::Router;
use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::{Request, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use serde_json::json;
use tokio::sync::watch;

use super::accept::{Open, Phase};
use super::answer::{Refusal, json, json_bytes, read_body};
use super::counters::Path;
use super::socketio::{SocketIo, polling};
use super::{Context, Counters};
use crate::build;
use crate::events::ingest;
use crate::events::store::{Filter, Page};

/// How many events one answer holds unless the request says.
const DEFAULT_LIMIT: usize = 100;
/// The most events of one answer.
const MAX_LIMIT: usize = 1000;

/// What the routes need.
#[derive(Debug)]
pub struct App {
    /// What the server was started with.
    pub context: Context,
    /// The Socket.IO server.
    pub sio: Arc<SocketIo>,
    /// What happened so far.
    pub counters: Arc<Counters>,
    /// The open connections.
    pub open: Arc<Open>,
    /// How far the server is on its way down.
    pub phase: watch::Receiver<Phase>,
}

/// All routes.
pub fn router(app: Arc<App>) -> Router {
    let page = super::page::router(app.context.dashboard.as_ref(), app.context.instance.port);
    Router::new()
        .route("/health", get(health))
        .route("/ready", get(ready))
        .route("/api/events", get(events_after).post(post_event))
        .route("/socket.io/", any(socket_io))
        .merge(page)
        .merge(super::project::router())
        .merge(super::stats::router())
        .fallback(not_found)
        .method_not_allowed_fallback(wrong_method)
        .with_state(app)
}

async fn not_found(uri: Uri) -> Response {
    let path: String = uri.path().chars().take(200).collect();
    Refusal::new(StatusCode::NOT_FOUND, "not_found", format!("there is no {path}")).into_response()
}

async fn wrong_method(uri: Uri) -> Response {
    let message = format!("{} does not answer this method, see the Allow header", uri.path());
    // The router adds Allow.
    Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message).into_response()
}

async fn socket_io(State(app): State<Arc<App>>, request: Request<Body>) -> Response {
    polling::serve(Arc::clone(&app.sio), request).await
}

async fn health(State(app): State<Arc<App>>) -> Response {
    let (context, instance) = (&app.context, &app.context.instance);
    let body = json!({
        "status": "running",
        "service": build::SERVICE,
        "version": build::VERSION,
        "port": instance.port,
        "pid": instance.pid,
        "uptime": instance.started.elapsed().as_secs(),
        "instance_id": instance.id,
        "ready": context.readiness.is_ready() && *app.phase.borrow() == Phase::Serving,
        "build": build::ID,
        "config_generation": context.config_generation.load(Ordering::Acquire),
        "components": context.components.snapshot(),
        "clients": app.sio.registry.connected(),
        "last_seq": context.store.last_seq(),
    });
    json(StatusCode::OK, &body)
}

async fn ready(State(app): State<Arc<App>>) -> Response {
    let waiting = app.context.readiness.pending();
    let (status, body) = readiness(&waiting, *app.phase.borrow());
    json(status, &body)
}

fn readiness(waiting: &[&str], phase: Phase) -> (StatusCode, serde_json::Value) {
    let reason = match (phase, waiting) {
        (Phase::Serving, []) => return (StatusCode::OK, json!({"ready": true})),
        (Phase::Serving, parts) => format!("the start waits for {}", parts.join(", ")),
        _ => "the server shuts down".to_owned(),
    };
    (StatusCode::SERVICE_UNAVAILABLE, json!({"ready": false, "waiting_for": waiting, "reason": reason}))
}

/// 204 only when the store has the event: what is acknowledged survives.
async fn post_event(State(app): State<Arc<App>>, request: Request<Body>) -> Response {
    match accept(&app, request).await {
        Ok(name) => {
            app.counters.accepted(Path::Http, &name);
            StatusCode::NO_CONTENT.into_response()
        }
        Err(refusal) => {
            app.counters.rejected(Path::Http, refusal.code);
            tracing::debug!(code = refusal.code, reason = %refusal.message, "event refused");
            refusal.into_response()
        }
    }
}

/// Takes an event; its name.
async fn accept(app: &App, request: Request<Body>) -> Result<String, Refusal> {
    let (limit, dialect) = {
        let settings = app.context.settings.borrow();
        (settings.max_body, settings.dialect)
    };
    let body = read_body(request, limit).await?;
    let draft = ingest::draft(&body, dialect, jiff::Timestamp::now())?;
    let name = draft.name.clone();
    app.context.store.append(draft).await?;
    Ok(name)
}

/// What a request for events asks for.
#[derive(Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Events with greater numbers.
    pub after: u64,
    /// At most so many.
    pub limit: usize,
    /// Only those that it lets through.
    pub filter: Filter,
}

impl Wanted {
    /// Reads the query of `GET /api/events`.
    ///
    /// # Errors
    /// 400 `bad_parameter`.
    pub fn parse(uri: &Uri) -> Result<Self, Refusal> {
        let query = Query::<HashMap<String, String>>::try_from_uri(uri).map_err(|e| {
            Refusal::new(StatusCode::BAD_REQUEST, "bad_parameter", format!("the query is malformed: {e}"))
        })?;
        wanted(query.0)
    }
}

fn wanted(query: HashMap<String, String>) -> Result<Wanted, Refusal> {
    let bad = |message: String| Refusal::new(StatusCode::BAD_REQUEST, "bad_parameter", message);
    let mut wanted = Wanted { after: 0, limit: DEFAULT_LIMIT, filter: Filter::default() };
    // In a fixed order, so that the same mistake gets the same answer.
    for (name, value) in BTreeMap::from_iter(query) {
        match name.as_str() {
            "after" => {
                wanted.after = value.parse().map_err(|_| bad(format!("after={value:?} is no event number")))?;
            }
            "limit" => {
                let limit = value.parse().ok().filter(|n| (1..=MAX_LIMIT).contains(n));
                wanted.limit = limit.ok_or_else(|| bad(format!("limit={value:?} is not from 1 to {MAX_LIMIT}")))?;
            }
            "session" => wanted.filter.session = Some(value),
            "type" => wanted.filter.name = Some(value),
            "subtype" => wanted.filter.subtype = Some(value),
            _ => {
                return Err(bad(format!(
                    "{name:?} is no parameter; there are after, limit, session, type and subtype"
                )));
            }
        }
    }
    Ok(wanted)
}

async fn events_after(State(app): State<Arc<App>>, uri: Uri) -> Response {
    let wanted = match Wanted::parse(&uri) {
        Ok(wanted) => wanted,
        Err(refusal) => return refusal.into_response(),
    };
    match app.context.store.after(wanted.after, wanted.limit, &wanted.filter).await {
        Ok(page) => json_bytes(StatusCode::OK, render(&page, wanted.after, app.context.store.epoch()).into_bytes()),
        Err(error) => Refusal::from(error).into_response(),
    }
}

/// Payloads are JSON already and go out as they are. `next` is what to pass as `after` to go on: where more
/// events fit the last one of the page, else the newest of all, for then everything up to it was looked at.
fn render(page: &Page, after: u64, epoch: &str) -> String {
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let size = page.events.iter().map(|e| e.draft.payload.len() + 96).sum::<usize>();
    let mut out = String::with_capacity(size + 128);
    out.push_str("{\"success\":true,\"events\":[");
    for (index, event) in page.events.iter().enumerate() {
        let comma = if index > 0 { "," } else { "" };
        // Writing to a String cannot fail.
        let _ = write!(
            out,
            "{comma}{{\"seq\":{},\"id\":\"{epoch}-{}\",\"accepted\":\"{}\",\"name\":{},\"payload\":{}}}",
            event.seq,
            event.seq,
            event.accepted,
            quoted(&event.draft.name),
            event.draft.payload
        );
    }
    let next = match page.events.last() {
        Some(last) if !page.complete => last.seq,
        _ => page.last_seq.max(after),
    };
    let _ = write!(
        out,
        "],\"last_seq\":{},\"oldest_seq\":{},\"next\":{next},\"epoch\":{}}}",
        page.last_seq,
        page.oldest_seq,
        quoted(epoch)
    );
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::model::{Draft, Event};

    fn ask(pairs: &[(&str, &str)]) -> Result<Wanted, &'static str> {
        wanted(pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect()).map_err(|r| r.code)
    }

    #[test]
    fn parameters_have_bounds_and_unknown_ones_are_told() {
        let all = ask(&[("after", "7"), ("limit", "1000"), ("type", "tool_event"), ("session", "s")]).unwrap();
        assert_eq!((all.after, all.limit, all.filter.name.as_deref()), (7, 1000, Some("tool_event")));
        assert_eq!(ask(&[]).unwrap().limit, 100);
        for bad in [("limit", "0"), ("limit", "1001"), ("limit", "x"), ("after", "-1"), ("since", "1")] {
            assert_eq!(ask(&[bad]), Err("bad_parameter"), "{bad:?}");
        }
    }

    #[test]
    fn a_page_is_json_and_says_where_to_go_on() {
        let draft = Draft { name: "a\"b".into(), subtype: "x".into(), session: None, payload: r#"{"k":[1]}"#.into() };
        let event = |seq| Event { seq, accepted: jiff::Timestamp::UNIX_EPOCH, draft: draft.clone() };
        let page = Page { events: vec![event(3), event(4)], last_seq: 9, oldest_seq: 1, complete: false };
        let value: serde_json::Value = serde_json::from_str(&render(&page, 2, "e")).unwrap();
        assert_eq!((&value["next"], &value["events"][0]["payload"]["k"][0]), (&json!(4), &json!(1)));
        assert_eq!((&value["events"][1]["id"], &value["events"][1]["name"]), (&json!("e-4"), &json!("a\"b")));
        assert_eq!(value["events"][0]["accepted"], "1970-01-01T00:00:00Z");
        let all = Page { complete: true, ..page };
        let value: serde_json::Value = serde_json::from_str(&render(&all, 2, "e")).unwrap();
        assert_eq!(value["next"], 9);
    }

    #[test]
    fn readiness_says_what_it_waits_for() {
        assert_eq!(readiness(&[], Phase::Serving).0, 200);
        let (status, body) = readiness(&["store", "hub"], Phase::Serving);
        assert_eq!((status.as_u16(), &body["reason"]), (503, &json!("the start waits for store, hub")));
        assert_eq!(body["waiting_for"], json!(["store", "hub"]));
        assert_eq!(readiness(&[], Phase::Draining).0, 503);
    }
}
