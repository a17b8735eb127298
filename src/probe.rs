//! Asks whoever listens on a port who it is: the proof behind every "started", and the answer to "who has my port".

use std::net::SocketAddr;
use std::time::Duration;

use serde::Deserialize;

/// What `/health` of a monitor says of itself; fields that only mpm-monitor has are optional, so that a Claude MPM
/// daemon is recognised as well.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Health {
    /// `claude-mpm-monitor` for every monitor of the family.
    pub service: String,
    /// The version of the program.
    pub version: String,
    /// The port it believes to serve.
    pub port: u16,
    /// Its process.
    pub pid: u32,
    /// Whole seconds since its start.
    #[serde(default)]
    pub uptime: u64,
    /// The random identity of this one process; absent in Claude MPM's own daemon.
    #[serde(default)]
    pub instance_id: Option<String>,
    /// Whether it is ready; absent in Claude MPM's own daemon.
    #[serde(default)]
    pub ready: Option<bool>,
    /// The build, see [`crate::build::ID`].
    #[serde(default)]
    pub build: Option<String>,
    /// How often the configuration was read: 1 at the start, one more with each successful reload.
    #[serde(default)]
    pub config_generation: Option<u64>,
}

/// Why nobody answered as a monitor.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// Nobody listens there.
    #[error("nothing listens on {0}")]
    Refused(SocketAddr),
    /// Somebody listens but did not answer in time.
    #[error("{0} accepted the connection but did not answer within {1:?}")]
    Timeout(SocketAddr, Duration),
    /// Somebody answered, but not as a monitor does.
    #[error("{0} answered, but not as a monitor does: {1}")]
    Foreign(SocketAddr, String),
    /// Something else went wrong on the way.
    #[error("cannot ask {0}: {1}")]
    Io(SocketAddr, #[source] std::io::Error),
}

/// One `GET /health`, all within `timeout`.
///
/// # Errors
/// See [`ProbeError`]; a monitor that is not ready is no error, its [`Health::ready`] says so.
pub async fn health(address: SocketAddr, timeout: Duration) -> Result<Health, ProbeError> {
    let (status, body) = get(address, "/health", timeout).await?;
    let health: Health =
        serde_json::from_slice(&body).map_err(|e| ProbeError::Foreign(address, format!("status {status}, {e}")))?;
    if health.service == crate::build::SERVICE {
        Ok(health)
    } else {
        Err(ProbeError::Foreign(address, format!("it calls itself {:?}", health.service)))
    }
}

/// [`health`] for code that has no runtime; builds one for the call.
///
/// # Errors
/// As [`health`].
pub fn health_blocking(address: SocketAddr, timeout: Duration) -> Result<Health, ProbeError> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| ProbeError::Io(address, e))?;
    runtime.block_on(health(address, timeout))
}

/// One GET of at most 1 MiB, all within `timeout`: the status code and the body.
///
/// # Errors
/// See [`ProbeError`].
pub async fn get(address: SocketAddr, path: &str, timeout: Duration) -> Result<(u16, Vec<u8>), ProbeError> {
    match tokio::time::timeout(timeout, request(address, path)).await {
        Ok(answer) => answer,
        Err(_) => Err(ProbeError::Timeout(address, timeout)),
    }
}

async fn request(address: SocketAddr, path: &str) -> Result<(u16, Vec<u8>), ProbeError> {
    use http_body_util::{BodyExt, Empty, Limited};
    let stream = tokio::net::TcpStream::connect(address).await.map_err(|e| match e.kind() {
        std::io::ErrorKind::ConnectionRefused => ProbeError::Refused(address),
        _ => ProbeError::Io(address, e),
    })?;
    let foreign = |e: &dyn std::fmt::Display| ProbeError::Foreign(address, e.to_string());
    let io = hyper_util::rt::TokioIo::new(stream);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.map_err(|e| foreign(&e))?;
    let request = hyper::Request::get(path)
        .header(hyper::header::HOST, address.to_string())
        .header(hyper::header::USER_AGENT, concat!("mpm-monitor/", env!("CARGO_PKG_VERSION")))
        .header(hyper::header::CONNECTION, "close")
        .body(Empty::<bytes::Bytes>::new())
        .map_err(|e| foreign(&e))?;
    let exchange = async {
        let response = sender.send_request(request).await.map_err(|e| foreign(&e))?;
        let status = response.status().as_u16();
        let body = Limited::new(response.into_body(), 1 << 20).collect().await.map_err(|e| foreign(&e))?;
        Ok((status, body.to_bytes().to_vec()))
    };
    tokio::pin!(connection);
    tokio::pin!(exchange);
    tokio::select! {
        answer = &mut exchange => answer,
        end = &mut connection => match exchange.await {
            Ok(answer) => Ok(answer),
            Err(e) => Err(end.err().map_or(e, |e| foreign(&e))),
        },
    }
}
