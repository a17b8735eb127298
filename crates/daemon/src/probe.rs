//! Asks whoever listens on a port who it is: the proof behind every "started", and the answer to "who has my port".

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use crate::Program;

use crate::ledger::Failure;
use crate::socket_owner::{self, Pair};

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
    /// The build, see [`Program::build`].
    #[serde(default)]
    pub build: Option<String>,
    /// How often the configuration was read: 1 at the start, one more with each successful reload.
    #[serde(default)]
    pub config_generation: Option<u64>,
    /// The states of its components, as [`crate::components`] has them; another monitor may mean something else.
    #[serde(default)]
    pub components: Option<serde_json::Value>,
    /// Why it has given up and only says so, if that is what it does.
    #[serde(default)]
    pub gave_up: Option<Failure>,
    /// The file it runs from, as [`crate::program_file`] has it; another monitor may mean something else.
    #[serde(default)]
    pub program: Option<serde_json::Value>,
}

impl Health {
    /// The path that it says its program was started from.
    pub fn program_path(&self) -> Option<&Path> {
        self.program.as_ref()?["path"].as_str().map(Path::new)
    }

    /// Whether it says that another file is by now where its program was started from.
    pub fn program_replaced(&self) -> bool {
        self.program.as_ref().is_some_and(|program| program["replaced"] == true)
    }

    /// What it says of the components that do not do all of their work, as `name: detail`; for managers that pass no
    /// `STATUS=` on.
    pub fn degraded(&self) -> Option<String> {
        let all = self.components.as_ref()?.as_object()?.iter();
        let said: Vec<String> = all
            .filter(|(_, c)| c["state"] == "degraded")
            .map(|(name, c)| format!("{name}: {}", c["detail"].as_str().unwrap_or("degraded")))
            .collect();
        (!said.is_empty()).then(|| said.join("; "))
    }
}

/// Where to ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// An address and port.
    Address(SocketAddr),
    /// A Unix socket.
    Path(PathBuf),
}

impl From<SocketAddr> for Target {
    /// Whoever listens on every address is asked on this machine's own.
    fn from(mut address: SocketAddr) -> Self {
        if address.ip().is_unspecified() {
            address.set_ip(match address.ip() {
                IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
                IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
            });
        }
        Self::Address(address)
    }
}

impl From<&Path> for Target {
    fn from(path: &Path) -> Self {
        Self::Path(path.to_owned())
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Path(path) => path.display().fmt(f),
        }
    }
}

/// Why nobody answered as a monitor.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// Nobody listens there.
    #[error("nothing listens on {0}")]
    Refused(Target),
    /// Somebody listens but did not answer in time.
    #[error("{0} accepted the connection but did not answer within {1:?}")]
    Timeout(Target, Duration),
    /// Somebody answered, but not as a monitor does.
    #[error("{0} answered, but not as a monitor does: {1}")]
    Foreign(Target, String),
    /// Something else went wrong on the way.
    #[error("cannot ask {0}: {1}")]
    Io(Target, #[source] std::io::Error),
}

impl ProbeError {
    /// Whether this machine has no such address, as `::1` where IPv6 is switched off: then nobody can be reached there.
    pub fn is_nowhere(&self) -> bool {
        use std::io::ErrorKind::{AddrNotAvailable, NetworkUnreachable, Unsupported};
        matches!(self, Self::Io(_, e) if [AddrNotAvailable, NetworkUnreachable, Unsupported].contains(&e.kind())
            || e.raw_os_error() == Some(rustix::io::Errno::AFNOSUPPORT.raw_os_error()))
    }
}

/// One `GET /health`, all within `timeout`, of a monitor that calls itself as `program` does.
///
/// # Errors
/// See [`ProbeError`]; a monitor that is not ready is no error, its [`Health::ready`] says so.
pub async fn health(target: impl Into<Target>, program: &Program, timeout: Duration) -> Result<Health, ProbeError> {
    let target = target.into();
    let (status, body) = get(target.clone(), "/health", program, timeout).await?;
    let health: Health = serde_json::from_slice(&body)
        .map_err(|e| ProbeError::Foreign(target.clone(), format!("status {status}, {e}")))?;
    if health.service == program.service {
        Ok(health)
    } else {
        Err(ProbeError::Foreign(target, format!("it calls itself {:?}", health.service)))
    }
}

/// [`health`] for code that has no runtime; builds one for the call.
///
/// # Errors
/// As [`health`].
pub fn health_blocking(target: impl Into<Target>, program: &Program, timeout: Duration) -> Result<Health, ProbeError> {
    let (target, runtime) = (target.into(), tokio::runtime::Builder::new_current_thread().enable_all().build());
    match runtime {
        Ok(runtime) => runtime.block_on(health(target, program, timeout)),
        Err(error) => Err(ProbeError::Io(target, error)),
    }
}

/// How a request is made.
#[derive(Debug, Clone, Copy)]
pub struct Manner<'a> {
    /// The program that asks.
    pub program: &'a Program,
    /// What it calls the host; the address itself if it says nothing.
    pub host: Option<&'a str>,
    /// The monitor's token; it is sent to no server that another user runs.
    pub token: Option<&'a str>,
    /// The monitor's port, whose service's user may have the token.
    pub port: u16,
    /// The most bytes of the answer.
    pub most: usize,
}

impl<'a> Manner<'a> {
    /// That of `program`: without a token, and at most 1 MiB.
    pub fn of(program: &'a Program) -> Self {
        Self { program, host: None, token: None, port: 0, most: 1 << 20 }
    }
}

/// One GET of at most 1 MiB, all within `timeout`: the status code and the body.
///
/// # Errors
/// See [`ProbeError`].
pub async fn get(
    target: impl Into<Target>,
    path: &str,
    program: &Program,
    timeout: Duration,
) -> Result<(u16, Vec<u8>), ProbeError> {
    get_as(target, path, Manner::of(program), timeout).await
}

/// The same in another manner.
///
/// # Errors
/// See [`ProbeError`].
pub async fn get_as(
    target: impl Into<Target>,
    path: &str,
    manner: Manner<'_>,
    timeout: Duration,
) -> Result<(u16, Vec<u8>), ProbeError> {
    let target = target.into();
    match tokio::time::timeout(timeout, request(&target, path, manner)).await {
        Ok(answer) => answer,
        Err(_) => Err(ProbeError::Timeout(target, timeout)),
    }
}

/// A connection to a target of either kind.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {
    /// Makes sure that the server may have the monitor's token, see [`socket_owner`].
    fn check_server(&self, manner: Manner<'_>) -> std::io::Result<()>;
}

impl Stream for TcpStream {
    fn check_server(&self, manner: Manner<'_>) -> std::io::Result<()> {
        socket_owner::check_server(manner.program, Pair { local: self.local_addr()?, peer: self.peer_addr()? })
    }
}

impl Stream for UnixStream {
    fn check_server(&self, manner: Manner<'_>) -> std::io::Result<()> {
        socket_owner::check_user(manner.program, self.peer_cred()?.uid(), manner.port)
    }
}

async fn connect(target: &Target) -> std::io::Result<Box<dyn Stream>> {
    Ok(match target {
        Target::Address(address) => Box::new(TcpStream::connect(address).await?),
        Target::Path(path) => Box::new(UnixStream::connect(path).await?),
    })
}

async fn request(target: &Target, path: &str, manner: Manner<'_>) -> Result<(u16, Vec<u8>), ProbeError> {
    use http_body_util::{BodyExt, Empty, Limited};
    let stream = connect(target).await.map_err(|e| match e.kind() {
        std::io::ErrorKind::ConnectionRefused => ProbeError::Refused(target.clone()),
        _ => ProbeError::Io(target.clone(), e),
    })?;
    if manner.token.is_some() {
        stream.check_server(manner).map_err(|e| ProbeError::Io(target.clone(), e))?;
    }
    let foreign = |e: &dyn fmt::Display| ProbeError::Foreign(target.clone(), e.to_string());
    let io = hyper_util::rt::TokioIo::new(stream);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.map_err(|e| foreign(&e))?;
    let host = match (manner.host, target) {
        (Some(host), _) => host.to_owned(),
        (None, Target::Address(address)) => address.to_string(),
        (None, Target::Path(_)) => "localhost".to_owned(),
    };
    let mut request = hyper::Request::get(path);
    if let Some(token) = manner.token {
        request = request.header(hyper::header::AUTHORIZATION, format!("Bearer {token}"));
    }
    let request = request
        .header(hyper::header::HOST, host)
        .header(hyper::header::USER_AGENT, manner.program.agent())
        .header(hyper::header::CONNECTION, "close")
        .body(Empty::<bytes::Bytes>::new())
        .map_err(|e| foreign(&e))?;
    let exchange = async {
        let response = sender.send_request(request).await.map_err(|e| foreign(&e))?;
        let status = response.status().as_u16();
        let body = Limited::new(response.into_body(), manner.most).collect().await.map_err(|e| foreign(&e))?;
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
