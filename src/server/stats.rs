//! The server's figures, gathered once and shown as `/api/status` and `/metrics`; `/api/clients` lists who is connected.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::accept::Phase;
use super::answer::json;
use super::clients::opened;
use super::routes::App;
use super::{answer, metrics};
use crate::build;
use crate::events::intake::{Counts, Via};
use daemon::components::Component;
use daemon::program_file::Fate;
use daemon::usage::Usage;
use socketio::session::Session;

/// All figures of one moment.
#[derive(Debug, Clone, Default)]
pub struct Figures {
    /// Seconds since the process began.
    pub uptime: f64,
    /// Whether it is ready, and not on its way down.
    pub ready: bool,
    /// Clients in the namespace.
    pub clients: u64,
    /// Engine.IO sessions.
    pub sessions: u64,
    /// Readers of the stream.
    pub streams: u64,
    /// Bytes that wait for clients.
    pub backlog: u64,
    /// Engine.IO sessions opened so far.
    pub sessions_opened: u64,
    /// Streams opened so far.
    pub streams_opened: u64,
    /// Of them, reset because their reader took nothing.
    pub streams_stalled: u64,
    /// Handshakes refused for want of a place.
    pub clients_refused: u64,
    /// Times a client had to wait because it sent more than it may.
    pub clients_throttled: u64,
    /// Ends of sessions by reason.
    pub sessions_ended: [(&'static str, u64); 4],
    /// Open connections of any kind.
    pub connections: u64,
    /// Connections that came in so far.
    pub connections_accepted: u64,
    /// Of them, refused for want of a place.
    pub connections_refused: u64,
    /// Times that accept failed.
    pub accept_errors: u64,
    /// Requests and connections kept out, by the refusal's code.
    pub denied: BTreeMap<&'static str, u64>,
    /// Questions about files, by what was asked and how it ended.
    pub files: BTreeMap<(&'static str, &'static str), u64>,
    /// Events taken and refused.
    pub ingest: Counts,
    /// Events sent on to the clients.
    pub events_sent: u64,
    /// Times that clients were told of a changed dashboard.
    pub reloads: u64,
    /// Events that wait for the store.
    pub store_queue: u64,
    /// Events that wait for the fan-out.
    pub hub_queue: u64,
    /// Events committed.
    pub store_events: u64,
    /// Groups that they were committed in.
    pub store_batches: u64,
    /// Groups that could not be written, and transactions of the database that failed.
    pub store_errors: u64,
    /// Events that are in the journal only.
    pub store_unindexed: u64,
    /// Bytes that the journal takes.
    pub store_journal: u64,
    /// Old events removed.
    pub store_pruned: u64,
    /// Damaged events that readers met and left out.
    pub store_damaged: u64,
    /// The number of the last event.
    pub last_seq: u64,
    /// How often the configuration was read.
    pub config_generation: u64,
    /// Whether another file is where the program was started from.
    pub program_replaced: bool,
    /// When each phase of the start was done, seconds after its beginning.
    pub phases: Vec<(&'static str, f64)>,
    /// Parts that earlier lives had to cut off at their end.
    pub aborted_before: u64,
    /// The components.
    pub components: BTreeMap<&'static str, Component>,
    /// Parts that have not answered the watchdog's last question.
    pub silent: u64,
    /// The bus, if there is one.
    pub bus: Option<crate::bus::figures::Snapshot>,
    /// What the process takes of the machine.
    pub usage: Usage,
}

impl Figures {
    /// As of now.
    pub fn of(app: &App) -> Self {
        let (context, counters, store) = (&app.context, &app.counters, app.context.store.counters());
        let sessions = &app.sio.counters;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let mut backlog = app.streams.waiting() as u64;
        app.sio.registry.each(|session| backlog += session.queued() as u64);
        Self {
            uptime: context.instance.started.elapsed().as_secs_f64(),
            ready: context.readiness.is_ready() && *app.phase.borrow() == Phase::Serving,
            clients: app.sio.registry.connected() as u64,
            sessions: app.sio.registry.sessions() as u64,
            streams: app.streams.count() as u64,
            backlog,
            sessions_opened: read(&sessions.opened),
            streams_opened: read(&app.streams.counters.opened),
            streams_stalled: read(&app.streams.counters.stalled),
            clients_refused: read(&sessions.refused),
            clients_throttled: read(&sessions.throttled),
            sessions_ended: [
                ("backlog", read(&sessions.evicted_backlog)),
                ("stalled", read(&sessions.evicted_stalled)),
                ("ping_timeout", read(&sessions.ping_timeouts)),
                ("other", read(&sessions.ended_otherwise)),
            ],
            connections: app.open.count() as u64,
            connections_accepted: read(&counters.connections),
            connections_refused: read(&counters.connections_refused),
            accept_errors: read(&counters.accept_errors),
            denied: counters.denials(),
            files: counters.file_requests(),
            ingest: context.intake.counts(),
            events_sent: read(&counters.events),
            reloads: read(&counters.reloads),
            store_queue: context.store.waiting() as u64,
            hub_queue: context.hub.waiting() as u64,
            store_events: read(&store.events),
            store_batches: read(&store.batches),
            store_errors: read(&store.errors),
            store_pruned: read(&store.pruned),
            store_damaged: app.context.store.damaged(),
            store_unindexed: context.store.unindexed(),
            store_journal: context.store.journal_bytes(),
            last_seq: context.store.last_seq(),
            config_generation: context.config_generation.load(Ordering::Acquire),
            program_replaced: context.program.fate() == Fate::Replaced,
            phases: context.readiness.done().into_iter().map(|(name, after)| (name, after.as_secs_f64())).collect(),
            aborted_before: context.instance.aborted_before,
            components: context.components.snapshot(),
            silent: context.pulse.silent().len() as u64,
            bus: context.bus.as_ref().map(|bus| bus.snapshot(context.store.last_seq())),
            usage: Usage::now(),
        }
    }

    /// The part of `/api/status` that is figures.
    fn summary(&self) -> Value {
        let [backlog, stalled, ping_timeout, other] = self.sessions_ended.map(|(_, count)| count);
        json!({
            "success": true,
            "ready": self.ready,
            "uptime_seconds": self.uptime.floor() as u64,
            "clients": {
                "connected": self.clients,
                "sessions": self.sessions,
                "streams": self.streams,
                "opened": self.sessions_opened,
                "streams_opened": self.streams_opened,
                "streams_stalled": self.streams_stalled,
                "refused": self.clients_refused,
                "throttled": self.clients_throttled,
                "backlog_bytes": self.backlog,
                "ended": {"backlog": backlog, "stalled": stalled, "ping_timeout": ping_timeout, "other": other},
            },
            "connections": {
                "open": self.connections,
                "accepted": self.connections_accepted,
                "refused": self.connections_refused,
                "accept_errors": self.accept_errors,
            },
            "events": {
                "accepted": by_path(&self.ingest.accepted),
                "refused": by_path(&self.ingest.refused),
                "sent": self.events_sent,
                "waiting": self.hub_queue,
            },
            "files": by_question(&self.files),
            "store": {
                "events": self.store_events,
                "batches": self.store_batches,
                "errors": self.store_errors,
                "pruned": self.store_pruned,
                "damaged": self.store_damaged,
                "waiting": self.store_queue,
                "unindexed": self.store_unindexed,
                "journal_bytes": self.store_journal,
                "last_seq": self.last_seq,
            },
            "process": {
                "resident_memory_bytes": self.usage.resident,
                "threads": self.usage.threads,
                "open_fds": self.usage.descriptors,
            },
            "components": self.components,
            "config_generation": self.config_generation,
        })
    }
}

fn by_path(counts: &BTreeMap<(Via, &'static str), u64>) -> BTreeMap<&'static str, BTreeMap<&'static str, u64>> {
    let mut all = BTreeMap::from([(Via::Http.name(), BTreeMap::new()), (Via::SocketIo.name(), BTreeMap::new())]);
    for ((path, name), count) in counts {
        all.entry(path.name()).or_default().insert(*name, *count);
    }
    all
}

fn by_question(
    counts: &BTreeMap<(&'static str, &'static str), u64>,
) -> BTreeMap<&'static str, BTreeMap<&'static str, u64>> {
    let mut all: BTreeMap<_, BTreeMap<_, _>> = BTreeMap::new();
    for ((asked, result), count) in counts {
        all.entry(*asked).or_default().insert(*result, *count);
    }
    all
}

/// `GET /api/status`.
pub async fn status(State(app): State<Arc<App>>) -> Response {
    let figures = Figures::of(&app);
    let mut body = figures.summary();
    if let Some(bus) = &figures.bus {
        body["bus"] = bus.to_json();
    }
    let instance = &app.context.instance;
    body["service"] = build::SERVICE.into();
    body["version"] = build::VERSION.into();
    body["build"] = build::ID.into();
    body["instance_id"] = instance.id.as_str().into();
    body["pid"] = instance.pid.into();
    body["program"] = app.context.program.to_json();
    body["port"] = instance.port.into();
    body["store"]["epoch"] = app.context.store.epoch().into();
    json(StatusCode::OK, &body)
}

/// `GET /api/clients`.
pub async fn clients(State(app): State<Arc<App>>) -> Response {
    let mut sessions = Vec::new();
    app.sio.registry.each(|session| sessions.push(Arc::clone(session)));
    sessions.sort_by_key(|s| (s.opened, s.socket_sid.as_str().to_owned()));
    let clients: Vec<Value> = sessions.iter().map(|s| client(s)).chain(app.streams.list()).collect();
    json(StatusCode::OK, &json!({"success": true, "total": clients.len(), "clients": clients}))
}

/// The Engine.IO id is not told: whoever knows it can read the client's packets.
fn client(session: &Session) -> Value {
    json!({
        "session_id": session.socket_sid.as_str(),
        "transport": if session.is_socket() { "websocket" } else { "polling" },
        "in_namespace": session.is_connected(),
        "connected_at": opened(session),
        "backlog_bytes": session.queued(),
        "ping_interval_ms": session.ping_interval.as_millis() as u64,
        "ping_timeout_ms": session.ping_timeout.as_millis() as u64,
    })
}

/// `GET /metrics`.
pub async fn metrics(State(app): State<Arc<App>>) -> Response {
    match metrics::render(Figures::of(&app)) {
        Ok(text) => {
            let mut response = text.into_response();
            let headers = response.headers_mut();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(metrics::CONTENT_TYPE));
            headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
            response
        }
        Err(error) => answer::Refusal::internal(format!("the metrics cannot be encoded: {error}")).into_response(),
    }
}
