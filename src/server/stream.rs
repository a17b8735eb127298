//! The listening sockets, and who is at the ends of what they accept: addresses, or a user whom the kernel vouches for.

use std::io;
use std::net::IpAddr;
use std::task::{Context, Poll};

use tokio::net::{TcpListener, UnixListener};

use daemon::socket_owner::Pair;
pub use socketio::stream::Stream;

/// A listening socket of the runtime.
#[derive(Debug)]
pub enum Listener {
    /// For an address and port.
    Tcp(TcpListener),
    /// For a path.
    Unix(UnixListener),
}

/// Who is at the two ends of a connection, as far as the kernel says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ends {
    /// Two addresses.
    Tcp {
        /// Ours.
        local: IpAddr,
        /// The client's.
        peer: IpAddr,
    },
    /// A process of this machine.
    Unix {
        /// The user it ran as when it connected.
        uid: u32,
    },
}

impl Ends {
    /// Whether both ends are on this machine: a connection from one of its own addresses can come from nowhere else.
    pub fn is_local(self) -> bool {
        match self {
            Self::Tcp { local, peer } => peer.to_canonical().is_loopback() || peer == local,
            Self::Unix { .. } => true,
        }
    }
}

/// Who is at the ends, and by what the kernel finds a TCP connection.
///
/// # Errors
/// When the client has gone already.
pub fn ends(stream: &Stream) -> io::Result<(Ends, Option<Pair>)> {
    Ok(match stream {
        Stream::Tcp(stream) => {
            let (local, peer) = (stream.local_addr()?, stream.peer_addr()?);
            (Ends::Tcp { local: local.ip(), peer: peer.ip() }, Some(Pair { local, peer }))
        }
        Stream::Unix(stream) => (Ends::Unix { uid: stream.peer_cred()?.uid() }, None),
    })
}

impl Listener {
    /// The next connection, when there is one.
    pub fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<Stream>> {
        match self {
            Self::Tcp(listener) => listener.poll_accept(cx).map_ok(|(stream, _)| Stream::Tcp(stream)),
            Self::Unix(listener) => listener.poll_accept(cx).map_ok(|(stream, _)| Stream::Unix(stream)),
        }
    }
}
