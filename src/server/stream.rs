//! A client's socket: TCP, or a Unix socket whose other end the kernel vouches for.
//!
//! Both are used the same way: written by whoever has something for the client, without waiting, and watched by the one
//! task that owns it.

use std::io::{self, IoSlice};
use std::net::IpAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf, Ready};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use daemon::socket_owner::Pair;

/// A listening socket of the runtime.
#[derive(Debug)]
pub enum Listener {
    /// For an address and port.
    Tcp(TcpListener),
    /// For a path.
    Unix(UnixListener),
}

/// The connected socket.
#[derive(Debug)]
pub enum Stream {
    /// Over an address and port.
    Tcp(TcpStream),
    /// Over a path.
    Unix(UnixStream),
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

/// The kernel's send buffer for one client; Linux doubles it to 256 KiB. Without a cap, a thousand clients that stop
/// reading pin gigabytes of kernel memory that no process is seen to use.
const SEND_BUFFER: usize = 128 << 10;

impl Ends {
    /// Whether both ends are on this machine: a connection from one of its own addresses can come from nowhere else.
    pub fn is_local(self) -> bool {
        match self {
            Self::Tcp { local, peer } => peer.to_canonical().is_loopback() || peer == local,
            Self::Unix { .. } => true,
        }
    }
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

/// Does the same with either kind of socket.
macro_rules! either {
    ($self:expr, $stream:ident => $what:expr) => {
        match $self {
            Stream::Tcp($stream) => $what,
            Stream::Unix($stream) => $what,
        }
    };
}

impl Stream {
    /// Who is at the ends, and by what the kernel finds a TCP connection.
    ///
    /// # Errors
    /// When the client has gone already.
    pub fn ends(&self) -> io::Result<(Ends, Option<Pair>)> {
        Ok(match self {
            Self::Tcp(stream) => {
                let (local, peer) = (stream.local_addr()?, stream.peer_addr()?);
                (Ends::Tcp { local: local.ip(), peer: peer.ip() }, Some(Pair { local, peer }))
            }
            Self::Unix(stream) => (Ends::Unix { uid: stream.peer_cred()?.uid() }, None),
        })
    }

    /// Sets what every client's socket gets. Improvements, not conditions, so a refusal of the kernel is no error.
    pub fn tune(&self) {
        if let Self::Tcp(stream) = self {
            // Each event is one small write that must not wait for another.
            let _ = stream.set_nodelay(true);
        }
        let _ = either!(self, s => socket2::SockRef::from(s).set_send_buffer_size(SEND_BUFFER));
    }

    /// Makes the close of the connection a reset (`SO_LINGER` 0): a FIN would queue behind what the peer does not read.
    /// A Unix socket's close throws away nothing that the peer could wait for, and needs no such thing.
    pub fn reset_on_close(&self) {
        // It fails only on a socket that is closed already.
        let _ = either!(self, s => socket2::SockRef::from(s).set_linger(Some(Duration::ZERO)));
    }

    /// Says that nothing more will be written.
    pub fn finish_writing(&self) {
        let _ = either!(self, s => socket2::SockRef::from(s).shutdown(std::net::Shutdown::Write));
    }

    /// Reads what is there.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when nothing is.
    pub fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        either!(self, s => s.try_read(buffer))
    }

    /// Writes what the kernel takes.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when it takes nothing.
    pub fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        either!(self, s => s.try_write(bytes))
    }

    /// Writes what the kernel takes of several pieces.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when it takes nothing.
    pub fn try_write_vectored(&self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        either!(self, s => s.try_write_vectored(pieces))
    }

    /// Waits until there may be something to read.
    ///
    /// # Errors
    /// When the runtime ends.
    pub async fn readable(&self) -> io::Result<()> {
        either!(self, s => s.readable().await)
    }

    /// Waits until the kernel may take something.
    ///
    /// # Errors
    /// When the runtime ends.
    pub async fn writable(&self) -> io::Result<()> {
        either!(self, s => s.writable().await)
    }

    /// Waits for any of these.
    ///
    /// # Errors
    /// When the runtime ends.
    pub async fn ready(&self, interest: Interest) -> io::Result<Ready> {
        either!(self, s => s.ready(interest).await)
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        either!(self.get_mut(), s => Pin::new(s).poll_read(cx, buffer))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        either!(self.get_mut(), s => Pin::new(s).poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        either!(self.get_mut(), s => Pin::new(s).poll_write_vectored(cx, pieces))
    }

    fn is_write_vectored(&self) -> bool {
        either!(self, s => s.is_write_vectored())
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self.get_mut(), s => Pin::new(s).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self.get_mut(), s => Pin::new(s).poll_shutdown(cx))
    }
}
