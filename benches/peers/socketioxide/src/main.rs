//! The least that socketioxide on axum needs to do the monitor's work: peer-socketioxide PORT
//!
//! One thread, because the server gets one core; the payload stays text, because parsing it would only cost.

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::value::RawValue;
use socketioxide::SocketIo;
use socketioxide::extract::SocketRef;

#[derive(Deserialize)]
struct Posted {
    event: String,
    data: Box<RawValue>,
}

async fn post_event(State(io): State<SocketIo>, Json(posted): Json<Posted>) -> StatusCode {
    // An error names the clients whose buffers are full; the event is accepted all the same.
    let _ = io.emit(posted.event, &posted.data).await;
    StatusCode::NO_CONTENT
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let port: u16 = std::env::args().nth(1).ok_or("expected a port")?.parse()?;
    let (layer, io) = SocketIo::new_layer();
    io.ns("/", async |_: SocketRef| {});
    let app = Router::new()
        .route("/api/events", post(post_event))
        .route("/health", get(async || Json(serde_json::json!({"status": "ok"}))))
        .layer(layer)
        .with_state(io);
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    axum::serve(listener, app).await?;
    Ok(())
}
