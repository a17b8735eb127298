//! A client's socket: TCP, or a Unix socket.
//!
//! Both are used the same way: written by whoever has something for the client, without waiting, and watched by the one
//! task that owns it.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf, Ready};
use tokio::net::{TcpStream, UnixStream};

/// The connected socket.
#[derive(Debug)]
pub enum Stream {
    /// Over an address and port.
    Tcp(TcpStream),
    /// Over a path.
    Unix(UnixStream),
}

/// The kernel's send buffer for one client; Linux doubles it to 256 KiB. Without a cap, a thousand clients that stop
/// reading pin gigabytes of kernel memory that no process is seen to use.
const SEND_BUFFER: usize = 128 << 10;

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
