//! The listening sockets: from the service manager by name, else bound here. Binding is the check; nothing looks first.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

use super::ports::{self, Owner};

/// The name of our sockets in `FileDescriptorName=` (systemd) and `Sockets` (launchd).
pub const NAME: &str = "http";
/// Connections that may wait to be accepted; the kernel caps it at `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// Sockets that serve.
#[derive(Debug)]
pub struct Listeners {
    /// Them.
    pub sockets: Vec<TcpListener>,
    /// The one port of all of them.
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
    /// The manager passed something else than expected.
    #[error("the service manager passed a socket that cannot serve: {0}; check the socket unit")]
    Passed(String),
}

fn show(owner: Option<&Owner>) -> String {
    owner.map_or_else(|| "a program that is gone again".into(), ToString::to_string)
}

/// The sockets that systemd passed under our name; none if it passed none. Takes ownership of them: call it once, first of all.
///
/// # Errors
/// When one of them is not a listening TCP socket on a loopback address, or they differ in their port.
pub fn passed() -> Result<Option<Listeners>, SocketError> {
    let fds = sd_notify::listen_fds_with_names().map_err(|e| SocketError::Passed(e.to_string()))?;
    let mut sockets = Vec::new();
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
    let Some(first) = sockets.first() else { return Ok(None) };
    let port = port_of(first)?;
    for socket in &sockets {
        if port_of(socket)? != port {
            return Err(SocketError::Passed(format!("two ports, {port} and {}", port_of(socket)?)));
        }
    }
    Ok(Some(Listeners { sockets, port, activated: true }))
}

fn port_of(socket: &TcpListener) -> Result<u16, SocketError> {
    socket.local_addr().map(|a| a.port()).map_err(|e| SocketError::Passed(e.to_string()))
}

/// Whether this descriptor is what the socket unit promises, as a listener.
fn checked(fd: OwnedFd) -> Result<TcpListener, String> {
    let socket = Socket::from(fd);
    let kind = socket.r#type().map_err(|e| format!("not a socket ({e})"))?;
    if kind != Type::STREAM {
        return Err("not a stream socket".into());
    }
    if !listens(&socket) {
        return Err("a stream socket that does not listen".into());
    }
    let address = socket.local_addr().ok().and_then(|a| a.as_socket()).ok_or("not an IPv4 or IPv6 socket")?;
    if !address.ip().is_loopback() {
        return Err(format!("{address} is not a loopback address"));
    }
    Ok(TcpListener::from(socket))
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
pub fn bind(addresses: &[IpAddr], port: u16) -> Result<Listeners, SocketError> {
    let mut sockets = Vec::new();
    let mut missing = None;
    for address in addresses {
        let address = SocketAddr::new(*address, port);
        match bind_one(address) {
            Ok(socket) => sockets.push(socket),
            Err(e) if e.kind() == io::ErrorKind::AddrInUse => {
                let owner = ports::owner(address.ip(), port, Duration::from_secs(1));
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
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // Without it the connections of the process before us, in TIME_WAIT, would keep the port for a minute.
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
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
        let error = bind(&[Ipv4Addr::LOCALHOST.into()], port).unwrap_err();
        assert!(error.to_string().contains(&format!("(pid {})", std::process::id())), "{error}");
        assert!(matches!(error, SocketError::Taken { owner: Some(_), .. }));
    }

    #[test]
    fn both_families_get_the_same_port() {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let listeners = bind(&["127.0.0.1".parse().unwrap(), "::1".parse().unwrap()], port).unwrap();
        assert!(listeners.sockets.iter().all(|s| s.local_addr().unwrap().port() == port));
        assert!(!listeners.activated);
    }

    #[test]
    fn what_the_manager_passes_must_listen_on_loopback() {
        let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        assert_eq!(checked(udp.into()).unwrap_err(), "not a stream socket");
        let everywhere = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        assert!(checked(everywhere.into()).unwrap_err().contains("not a loopback address"));
        let idle = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        assert_eq!(checked(idle.into()).unwrap_err(), "a stream socket that does not listen");
        let file = std::fs::File::open("/dev/null").unwrap();
        assert!(checked(file.into()).unwrap_err().contains("not a socket"));
        let good = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        checked(good.into()).unwrap();
    }
}
