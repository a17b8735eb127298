//! The listening sockets: from the service manager by name, else bound here. Binding is the check; nothing looks first.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

use super::ports::{self, Owner};
use crate::Program;

/// The name of our sockets in `FileDescriptorName=` (systemd) and `Sockets` (launchd).
pub const NAME: &str = "http";
/// Connections that may wait to be accepted; the kernel caps it at `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// A socket that listens.
#[derive(Debug)]
pub enum Listener {
    /// For an address and port.
    Tcp(TcpListener),
    /// For a path.
    Unix(UnixListener),
}

impl From<TcpListener> for Listener {
    fn from(listener: TcpListener) -> Self {
        Self::Tcp(listener)
    }
}

impl From<UnixListener> for Listener {
    fn from(listener: UnixListener) -> Self {
        Self::Unix(listener)
    }
}

impl Listener {
    /// The address, of one that has an address.
    pub fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(listener) => listener.local_addr().ok(),
            Self::Unix(_) => None,
        }
    }
}

/// Sockets that serve.
#[derive(Debug)]
pub struct Listeners {
    /// Them.
    pub sockets: Vec<Listener>,
    /// The one port of all that have one.
    pub port: u16,
    /// Whether the service manager holds them, so that they outlive this process.
    pub activated: bool,
}

/// Why there is no socket to serve on.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Another program has the port.
    #[error("port {port} is taken by {}; stop that program, or choose another port with --port", show(owner.as_ref()))]
    Taken {
        /// The port.
        port: u16,
        /// Who has it, if that can be known.
        owner: Option<Owner>,
    },
    /// The port needs a permission.
    #[error("no permission to listen on {0}; ports below 1024 are root's, choose a higher one with --port")]
    Denied(SocketAddr),
    /// No address at all could be bound.
    #[error("cannot listen on {address}: {source}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the kernel says.
        source: io::Error,
    },
    /// The Unix socket's path cannot be used.
    #[error("cannot listen on {}: {source}; set server.unix_socket to a path in a directory of this user's", path.display())]
    Path {
        /// The path.
        path: PathBuf,
        /// What stands in the way.
        source: io::Error,
    },
    /// Another process listens on the Unix socket.
    #[error("another process listens on {}; stop it, or set server.unix_socket to another path", _0.display())]
    PathTaken(PathBuf),
    /// The manager passed something else than expected.
    #[error("the service manager passed a socket that cannot serve: {0}; check the socket unit")]
    Passed(String),
}

fn show(owner: Option<&Owner>) -> String {
    owner.map_or_else(|| "a program that is gone again".into(), ToString::to_string)
}

/// The sockets that the service manager holds for us under our name; none if it holds none. Takes ownership of them: call it
/// once, first of all.
///
/// # Errors
/// When one of them is no listening stream socket, they differ in their port, or none has one.
pub fn passed() -> Result<Option<Listeners>, SocketError> {
    let mut sockets = of_launchd()?;
    all_inherited()?;
    let fds = sd_notify::listen_fds_with_names().map_err(|e| SocketError::Passed(e.to_string()))?;
    for (fd, name) in fds {
        let Some(fd) = crate::sys::adopt_passed_fd(fd) else {
            return Err(SocketError::Passed(format!("descriptor {fd}, named {name:?} by LISTEN_FDS, is not open")));
        };
        if name == NAME {
            sockets.push(checked(fd).map_err(SocketError::Passed)?);
        } else {
            tracing::warn!(name, "the service manager passed a socket that is not called {NAME}; it is closed");
        }
    }
    if sockets.is_empty() {
        return Ok(None);
    }
    let port = one_port(&sockets).map_err(SocketError::Passed)?;
    Ok(Some(Listeners { sockets, port, activated: true }))
}

/// What launchd holds for this job, where `Sockets` in its plist has our name.
#[cfg(target_os = "macos")]
fn of_launchd() -> Result<Vec<Listener>, SocketError> {
    use rustix::io::Errno;
    match crate::sys::launchd_sockets(c"http") {
        Ok(fds) => fds.into_iter().map(|fd| checked(fd).map_err(SocketError::Passed)).collect(),
        // No job of launchd's, or one without such a socket.
        Err(e) if [Errno::SRCH, Errno::NOENT].iter().any(|errno| e.raw_os_error() == Some(errno.raw_os_error())) => {
            Ok(Vec::new())
        }
        Err(e) => Err(SocketError::Passed(format!("launchd does not give the socket {NAME:?}: {e}"))),
    }
}

#[cfg(not(target_os = "macos"))]
fn of_launchd() -> Result<Vec<Listener>, SocketError> {
    Ok(Vec::new())
}

/// The port that all sockets with an address share.
fn one_port(sockets: &[Listener]) -> Result<u16, String> {
    let mut ports = sockets.iter().filter_map(Listener::address).map(|address| address.port());
    let port = ports.next().ok_or("no socket with a port")?;
    match ports.find(|other| *other != port) {
        Some(other) => Err(format!("two ports, {port} and {other}")),
        None => Ok(port),
    }
}

/// An environment that was left over names descriptors that were not passed. Taking one of these would take it from the
/// part of this process that opened it.
fn all_inherited() -> Result<(), SocketError> {
    let number = |name: &str| std::env::var(name).ok()?.parse::<u32>().ok();
    if number("LISTEN_PID") != Some(std::process::id()) {
        return Ok(());
    }
    let named = (3..=std::os::fd::RawFd::MAX).take(number("LISTEN_FDS").unwrap_or(0) as usize);
    // The first that is not open ends it; sd-notify has the words for that.
    for (fd, closes) in named.map_while(|fd| Some((fd, crate::sys::closes_on_exec(fd)?))) {
        if closes {
            return Err(SocketError::Passed(format!("descriptor {fd}, counted by LISTEN_FDS, was not passed")));
        }
    }
    Ok(())
}

/// Whether this descriptor is what the socket unit promises, as a listener.
fn checked(fd: OwnedFd) -> Result<Listener, String> {
    let socket = Socket::from(fd);
    // No child of ours has a use for it; a listener that a child kept would outlive us.
    let _ = socket.set_cloexec(true);
    let kind = socket.r#type().map_err(|e| format!("not a socket ({e})"))?;
    if kind != Type::STREAM {
        return Err("not a stream socket".into());
    }
    if !listens(&socket) {
        return Err("a stream socket that does not listen".into());
    }
    let address = socket.local_addr().map_err(|e| format!("a socket without an address ({e})"))?;
    if address.is_unix() {
        return Ok(Listener::Unix(OwnedFd::from(socket).into()));
    }
    address.as_socket().ok_or("neither an IPv4 nor an IPv6 nor a Unix socket")?;
    Ok(Listener::Tcp(socket.into()))
}

#[cfg(not(target_vendor = "apple"))]
fn listens(socket: &Socket) -> bool {
    use std::os::fd::AsFd;
    rustix::net::sockopt::socket_acceptconn(socket.as_fd()).unwrap_or(false)
}

/// Apple's kernel cannot be asked (it names the option and does not implement it); there, accepting shows it.
#[cfg(target_vendor = "apple")]
fn listens(_: &Socket) -> bool {
    true
}

/// Binds `port` on each of these addresses. One family that this machine lacks is only a warning, as long as another is there.
///
/// # Errors
/// When one of the addresses is taken or forbidden, or none is left.
pub fn bind(program: &Program, addresses: &[IpAddr], port: u16) -> Result<Listeners, SocketError> {
    let mut sockets = Vec::new();
    let mut missing = None;
    for address in addresses {
        let address = SocketAddr::new(*address, port);
        match bind_one(address) {
            Ok(socket) => sockets.push(socket.into()),
            Err(e) if e.kind() == io::ErrorKind::AddrInUse => {
                let owner = ports::owner(program, address.ip(), port, Duration::from_secs(1));
                return Err(SocketError::Taken { port, owner });
            }
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => return Err(SocketError::Denied(address)),
            Err(source) => {
                tracing::warn!(%address, error = %source, "cannot listen on this address; clients that use it will not find us");
                missing = Some(SocketError::Bind { address, source });
            }
        }
    }
    match (sockets.is_empty(), missing) {
        (true, Some(error)) => Err(error),
        _ => Ok(Listeners { sockets, port, activated: false }),
    }
}

fn bind_one(address: SocketAddr) -> io::Result<TcpListener> {
    bind_first_alone(|shared| listen(address, shared), || is_served(address))
}

/// Binds without `SO_REUSEADDR` first: with it, macOS binds an address beside a socket of the same user's that listens on all
/// addresses, and that one would never get another connection. What stands in the way may also be connections of the process
/// before us, in TIME_WAIT, which would keep the port for a minute: then nobody answers, and it is bound with the option.
fn bind_first_alone<T>(bind: impl Fn(bool) -> io::Result<T>, is_served: impl FnOnce() -> bool) -> io::Result<T> {
    match bind(false) {
        Err(e) if e.kind() == io::ErrorKind::AddrInUse && !is_served() => bind(true),
        other => other,
    }
}

/// Whether somebody takes connections there. A full queue takes none and refuses none.
fn is_served(address: SocketAddr) -> bool {
    match TcpStream::connect_timeout(&address, Duration::from_secs(1)) {
        Err(e) => e.kind() != io::ErrorKind::ConnectionRefused,
        Ok(_) => true,
    }
}

fn listen(address: SocketAddr, shared: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(shared)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    // Its connections inherit this; Linux gives the port of one in TIME_WAIT away only where both have it.
    socket.set_reuse_address(true)?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, UdpSocket};

    use super::*;

    #[test]
    fn a_taken_port_names_its_owner() {
        let holder = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = holder.local_addr().unwrap().port();
        let error = bind(&Program::TEST, &[Ipv4Addr::LOCALHOST.into()], port).unwrap_err();
        assert!(error.to_string().contains(&format!("(pid {})", std::process::id())), "{error}");
        assert!(matches!(error, SocketError::Taken { owner: Some(_), .. }));
    }

    #[test]
    fn address_that_answers_is_never_shared() {
        let in_use = || io::Error::from(io::ErrorKind::AddrInUse);
        // As on macOS: with the option there is room beside the stranger.
        let crowded = |shared: bool| if shared { Ok("beside the stranger") } else { Err(in_use()) };
        assert_eq!(bind_first_alone(crowded, || true).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        assert_eq!(bind_first_alone(crowded, || false).unwrap(), "beside the stranger");
        assert!(!bind_first_alone(Ok, || panic!("asked without a cause")).unwrap(), "bound alone");
        let denied = |_| Err::<(), _>(io::Error::from(io::ErrorKind::PermissionDenied));
        let error = bind_first_alone(denied, || panic!("asked without a cause")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
    }

    #[test]
    fn port_of_closed_connections_is_free() {
        let listener = listen("127.0.0.1:0".parse().unwrap(), true).unwrap();
        let address = listener.local_addr().unwrap();
        let client = TcpStream::connect(address).unwrap();
        // The end that closes first keeps the port in TIME_WAIT.
        drop((listener.accept().unwrap(), listener));
        drop(client);
        bind(&Program::TEST, &[address.ip()], address.port()).unwrap();
    }

    #[test]
    fn wildcard_listener_is_not_shadowed() {
        let wildcard = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        let port = wildcard.local_addr().unwrap().port();
        let error = bind(&Program::TEST, &[Ipv4Addr::LOCALHOST.into()], port).unwrap_err();
        assert!(matches!(error, SocketError::Taken { .. }), "{error}");
    }

    #[test]
    fn both_families_get_the_same_port() {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let listeners = bind(&Program::TEST, &["127.0.0.1".parse().unwrap(), "::1".parse().unwrap()], port).unwrap();
        assert_eq!(one_port(&listeners.sockets), Ok(port));
        assert!(!listeners.activated);
    }

    #[test]
    fn what_the_manager_passes_must_listen() {
        let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        assert_eq!(checked(udp.into()).unwrap_err(), "not a stream socket");
        let idle = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        assert_eq!(checked(idle.into()).unwrap_err(), "a stream socket that does not listen");
        let file = std::fs::File::open("/dev/null").unwrap();
        assert!(checked(file.into()).unwrap_err().contains("not a socket"));
        let dir = tempfile::tempdir().unwrap();
        let unix = UnixListener::bind(dir.path().join("s")).unwrap();
        let good = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let (first, second) = (checked(good().into()).unwrap(), checked(good().into()).unwrap());
        let port = first.address().unwrap().port();
        let mut sockets = vec![checked(unix.into()).unwrap()];
        assert_eq!(one_port(&sockets), Err("no socket with a port".into()));
        sockets.push(first);
        assert_eq!(one_port(&sockets), Ok(port));
        sockets.push(second);
        assert!(one_port(&sockets).unwrap_err().starts_with("two ports"));
    }
}
