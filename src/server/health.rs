//! Who this process is (`GET /health`), and whether it serves with all its parts (`GET /ready`).

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::json;

use super::accept::Phase;
use super::answer::json;
use super::routes::App;
use crate::build;

/// `GET /health`.
pub async fn health(State(app): State<Arc<App>>) -> Response {
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
        "program": context.program.to_json(),
        "config_generation": context.config_generation.load(Ordering::Acquire),
        "components": context.components.snapshot(),
        "clients": app.sio.registry.connected(),
        "last_seq": context.store.last_seq(),
    });
    json(StatusCode::OK, &body)
}

/// `GET /ready`.
pub async fn ready(State(app): State<Arc<App>>) -> Response {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readiness_says_what_it_waits_for() {
        assert_eq!(readiness(&[], Phase::Serving).0, 200);
        let (status, body) = readiness(&["store", "hub"], Phase::Serving);
        assert_eq!((status.as_u16(), &body["reason"]), (503, &json!("the start waits for store, hub")));
        assert_eq!(body["waiting_for"], json!(["store", "hub"]));
        assert_eq!(readiness(&[], Phase::Draining).0, 503);
    }
}
