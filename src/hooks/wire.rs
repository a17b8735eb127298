//! One small HTTP client that blocks, with a deadline over all it does. A runtime would cost a hook more than all its work.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use socket2::{Domain, SockAddr, Socket, Type};

use super::place::Place;
use crate::build::PROGRAM;
use daemon::probe::Target;
use daemon::socket_owner::{self, Pair};

/// The most of an answer's head.
const HEAD: usize = 16 << 10;
/// The most of an answer's body that is read over, so that the connection can be used again.
const BODY: usize = 64 << 10;
/// How long one address may take to be reached.
const CONNECT: Duration = Duration::from_millis(100);

/// What became of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sent {
    /// The monitor has it.
    Accepted,
    /// The monitor will never take it, with the status it said.
    Useless(u16),
    /// The monitor has not taken it now, for this reason.
    NotNow(String),
    /// Nobody knows, as no answer came, for this reason.
    Unknown(String),
}

#[derive(Debug)]
enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    /// Connects, and makes sure that nobody listens there who must not know what will be sent.
    fn connect(target: &Target, port: u16, deadline: Instant) -> io::Result<Self> {
        let timeout = left(deadline)?.min(CONNECT);
        match target {
            Target::Address(address) => {
                let stream = TcpStream::connect_timeout(address, timeout)?;
                socket_owner::check_server(&PROGRAM, Pair { local: stream.local_addr()?, peer: stream.peer_addr()? })?;
                stream.set_nodelay(true)?;
                Ok(Self::Tcp(stream))
            }
            Target::Path(path) => {
                let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
                socket.connect_timeout(&SockAddr::unix(path)?, timeout)?;
                socket.set_nonblocking(false)?;
                socket_owner::check_unix_server(&PROGRAM, &socket, port)?;
                Ok(Self::Unix(socket.into()))
            }
        }
    }

    fn write_all(&mut self, bytes: &[u8], deadline: Instant) -> io::Result<()> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let timeout = Some(left(deadline)?);
            let written = match self {
                Self::Tcp(s) => s.set_write_timeout(timeout).and_then(|()| s.write(rest)),
                Self::Unix(s) => s.set_write_timeout(timeout).and_then(|()| s.write(rest)),
            };
            match written {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => rest = &rest[n..],
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// What has come, within the deadline; nothing at the end.
    fn read(&mut self, buffer: &mut [u8], deadline: Instant) -> io::Result<usize> {
        loop {
            let timeout = Some(left(deadline)?);
            let read = match self {
                Self::Tcp(s) => s.set_read_timeout(timeout).and_then(|()| s.read(buffer)),
                Self::Unix(s) => s.set_read_timeout(timeout).and_then(|()| s.read(buffer)),
            };
            match read {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                other => return other,
            }
        }
    }
}

fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}

/// A connection to a monitor, made when it is first needed and again when it was closed.
#[derive(Debug)]
pub struct Client<'a> {
    place: &'a Place,
    targets: Vec<Target>,
    stream: Option<Stream>,
}

impl<'a> Client<'a> {
    /// Not connected yet.
    pub fn new(place: &'a Place) -> Self {
        Self { place, targets: Vec::new(), stream: None }
    }

    /// Posts one event; `again` says that an earlier attempt may have arrived.
    pub fn post(&mut self, key: &str, body: &str, again: bool, deadline: Instant) -> Sent {
        let mut stream = match self.stream.take().map_or_else(|| self.connect(deadline), Ok) {
            Ok(stream) => stream,
            Err(error) => return Sent::NotNow(format!("cannot connect: {error}")),
        };
        let mut request = format!(
            "POST /api/events HTTP/1.1\r\nHost: {}\r\nUser-Agent: mpm-monitor-hook/{}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\nIdempotency-Key: {key}\r\n",
            self.place.host,
            crate::build::VERSION,
            body.len()
        );
        if again {
            request.push_str("Idempotency-Retry: true\r\n");
        }
        if let Some(token) = &self.place.token {
            request.push_str(&format!("Authorization: Bearer {token}\r\n"));
        }
        request.push_str("\r\n");
        request.push_str(body);
        if let Err(error) = stream.write_all(request.as_bytes(), deadline) {
            // A refusal may have come before all was written.
            if error.kind() == io::ErrorKind::TimedOut {
                return Sent::Unknown(format!("it takes nothing: {error}"));
            }
        }
        match answer(&mut stream, deadline) {
            Ok((status, reusable)) => {
                if reusable {
                    self.stream = Some(stream);
                }
                judge(status)
            }
            Err(error) => Sent::Unknown(format!("no answer: {error}")),
        }
    }

    fn connect(&mut self, deadline: Instant) -> io::Result<Stream> {
        if self.targets.is_empty() {
            self.targets = self.place.resolve(left(deadline)?);
        }
        let mut failed = io::Error::new(io::ErrorKind::NotFound, "the host's name is not known");
        for target in &self.targets {
            match Stream::connect(target, self.place.port, deadline) {
                Ok(stream) => return Ok(stream),
                // That a stranger listens says more than that nobody does on the next address.
                Err(_) if failed.kind() == io::ErrorKind::PermissionDenied => {}
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }
}

/// What a status means for an event. Bodies that are no events are refused for good; a server of another kind, a missing
/// token, a full disk and all the rest may pass.
fn judge(status: u16) -> Sent {
    match status {
        200 | 204 => Sent::Accepted,
        400 | 413 | 415 | 422 => Sent::Useless(status),
        _ => Sent::NotNow(format!("it said {status}")),
    }
}

/// The status of an answer, and whether the connection can be used again.
fn answer(stream: &mut Stream, deadline: Instant) -> io::Result<(u16, bool)> {
    let mut head = Vec::new();
    let mut buffer = [0_u8; 4096];
    loop {
        if let Some(end) = head.windows(4).position(|w| w == b"\r\n\r\n") {
            let Some(said) = Head::parse(&head[..end]) else {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "it does not speak HTTP"));
            };
            if said.status / 100 == 1 {
                head.drain(..end + 4);
                continue;
            }
            let reusable = said.body.is_some_and(|len| {
                let mut rest = len.saturating_sub(head.len() - end - 4);
                while rest > 0 && len <= BODY {
                    match stream.read(&mut buffer, deadline) {
                        Ok(n) if n > 0 => rest = rest.saturating_sub(n),
                        _ => return false,
                    }
                }
                rest == 0
            });
            return Ok((said.status, reusable));
        }
        if head.len() > HEAD {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "its answer has no end"));
        }
        match stream.read(&mut buffer, deadline) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => head.extend_from_slice(&buffer[..n]),
            Err(error) => return Err(error),
        }
    }
}

struct Head {
    status: u16,
    /// How long the body is; nothing if it ends with the connection, or the connection with it.
    body: Option<usize>,
}

impl Head {
    fn parse(head: &[u8]) -> Option<Self> {
        let text = String::from_utf8_lossy(head);
        let mut lines = text.split("\r\n");
        let first = lines.next()?.strip_prefix("HTTP/1.")?;
        let status: u16 = first.split(' ').nth(1)?.parse().ok()?;
        let (mut length, mut closes) = ((status == 204).then_some(0), first.starts_with('0'));
        for (name, value) in lines.filter_map(|line| line.split_once(':')) {
            match &*name.to_ascii_lowercase() {
                "content-length" => length = value.trim().parse().ok(),
                "connection" => closes |= value.to_ascii_lowercase().contains("close"),
                "transfer-encoding" => closes = true,
                _ => {}
            }
        }
        Some(Self { status, body: length.filter(|_| !closes) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_say_whether_the_connection_lasts() {
        let of = |text: &str| Head::parse(text.as_bytes()).map(|h| (h.status, h.body));
        assert_eq!(of("HTTP/1.1 204 No Content\r\nVary: Origin"), Some((204, Some(0))));
        assert_eq!(of("HTTP/1.1 503 x\r\nContent-Length: 12"), Some((503, Some(12))));
        assert_eq!(of("HTTP/1.1 503 x\r\nContent-Length: 12\r\nConnection: Close"), Some((503, None)));
        assert_eq!(of("HTTP/1.0 200 OK\r\nContent-Length: 1"), Some((200, None)));
        assert_eq!(of("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked"), Some((200, None)));
        assert_eq!((of("SSH-2.0-OpenSSH"), of("HTTP/1.1")), (None, None));
    }

    #[test]
    fn only_what_can_never_be_an_event_is_given_up() {
        assert_eq!((judge(200), judge(204)), (Sent::Accepted, Sent::Accepted));
        assert_eq!((judge(400), judge(413)), (Sent::Useless(400), Sent::Useless(413)));
        for status in [301, 401, 403, 404, 405, 408, 421, 429, 500, 502, 503] {
            assert!(matches!(judge(status), Sent::NotNow(_)), "{status}");
        }
    }
}
