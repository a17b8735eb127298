//! A whole server in one call, for an application that has no HTTP server of its own.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioTimer;
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::answer::{Refused, text};
use super::connection::{Connection, Phase};
use super::engine::{Engine, Protocol};
use super::extensions::Extensions;
use super::heartbeat;
use super::io::ClientIo;
use super::polling;
use super::stream::Stream;

/// How long a connection may take to send the head of a request.
const HEADER_DEADLINE: Duration = Duration::from_secs(30);
/// How long the loop waits when accept fails, as it does for want of descriptors: at once it would fail again.
const PAUSE: Duration = Duration::from_millis(200);

/// Serves the requests to `path`, for example `/socket.io/`; all others get 404. It ends only by being dropped.
pub async fn listen<P: Protocol>(engine: Arc<Engine<P>>, listener: TcpListener, path: &'static str) {
    // Open as long as this runs: no connection is cut before.
    let (_phase, phase) = watch::channel(Phase::Serving);
    tokio::join!(heartbeat::run(Arc::clone(&engine)), async {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    drop(tokio::spawn(serve(Stream::Tcp(stream), Arc::clone(&engine), path, phase.clone())))
                }
                Err(error) => {
                    tracing::debug!(%error, "accept");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    });
}

async fn serve<P: Protocol>(
    stream: Stream,
    engine: Arc<Engine<P>>,
    path: &'static str,
    phase: watch::Receiver<Phase>,
) -> io::Result<()> {
    stream.tune();
    let connection: Arc<Connection> = Arc::new(Connection::new(phase, ()));
    let io = ClientIo::new(stream, Arc::clone(&connection));
    let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        let (engine, connection) = (Arc::clone(&engine), Arc::clone(&connection));
        async move {
            let answer = if request.uri().path() == path {
                polling::serve(engine, request, connection, Extensions::default()).await
            } else {
                Ok(text(StatusCode::NOT_FOUND, "Not found"))
            };
            Ok::<_, Infallible>(answer.unwrap_or_else(Refused::into_answer))
        }
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_DEADLINE)
        .serve_connection(io, service)
        .with_upgrades();
    serving.await.map_err(io::Error::other)
}
