//! Clients made of blocking sockets, many of them cheap: kept-alive HTTP, and Socket.IO over WebSocket.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

/// How long a client waits for anything.
const PATIENCE: Duration = Duration::from_secs(30);

fn invalid(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}

/// A connection to the monitor.
///
/// # Errors
/// What the kernel says.
pub fn connect(port: u16) -> io::Result<TcpStream> {
    connect_to(IpAddr::from(Ipv4Addr::LOCALHOST), port)
}

/// The same with a small receive buffer, which must be set before it connects.
///
/// # Errors
/// What the kernel says.
pub fn narrow(port: u16) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_recv_buffer_size(4096)?;
    socket.connect(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into())?;
    socket.set_read_timeout(Some(PATIENCE))?;
    Ok(socket.into())
}

/// The same, to one of its addresses.
///
/// # Errors
/// What the kernel says.
pub fn connect_to(address: IpAddr, port: u16) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&SocketAddr::new(address, port), PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Sends raw bytes on a connection of its own and reads to its end: what came, and whether a reset ended it.
///
/// # Errors
/// When nothing listens, or the connection is not over in time.
pub fn raw(port: u16, bytes: &[u8]) -> io::Result<(String, bool)> {
    let mut stream = connect(port)?;
    // The other side may refuse in the middle of it.
    let written = stream.write_all(bytes);
    to_end(&mut stream).map(|(text, reset)| (text, reset || written.is_err()))
}

/// Reads to the end: what came, and whether a reset ended it.
///
/// # Errors
/// When the end does not come in time.
pub fn to_end(stream: &mut TcpStream) -> io::Result<(String, bool)> {
    let mut bytes = Vec::new();
    let reset = match stream.read_to_end(&mut bytes) {
        Ok(_) => false,
        Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => return Err(e),
        Err(_) => true,
    };
    Ok((String::from_utf8_lossy(&bytes).into_owned(), reset))
}

/// The status of an HTTP answer; 0 when there is none.
pub fn status(answer: &str) -> u16 {
    answer.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0)
}

/// The `code` of a refusal.
pub fn code(answer: &str) -> String {
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, b)| b);
    let value: serde_json::Value = serde_json::from_str(body).unwrap_or_default();
    value["code"].as_str().unwrap_or_default().to_owned()
}

/// Posts on one kept-alive connection.
#[derive(Debug)]
pub struct Poster {
    stream: TcpStream,
    port: u16,
}

impl Poster {
    /// Connects.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn new(port: u16) -> io::Result<Self> {
        Ok(Self { stream: connect(port)?, port })
    }

    /// Posts one event: the status.
    ///
    /// # Errors
    /// When the connection breaks before the answer is there.
    pub fn post(&mut self, body: &str) -> io::Result<u16> {
        let head = format!(
            "POST /api/events HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            self.port,
            body.len()
        );
        self.stream.write_all(&[head.as_bytes(), body.as_bytes()].concat())?;
        let mut answer = Vec::new();
        let mut piece = [0; 1024];
        let end = loop {
            if let Some(at) = answer.windows(4).position(|w| w == b"\r\n\r\n") {
                break at + 4;
            }
            match self.stream.read(&mut piece)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                n => answer.extend_from_slice(&piece[..n]),
            }
        };
        let head = String::from_utf8_lossy(&answer[..end]).to_lowercase();
        let length = head.lines().find_map(|l| l.strip_prefix("content-length: ")?.parse().ok()).unwrap_or(0);
        while answer.len() < end + length {
            match self.stream.read(&mut piece)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                n => answer.extend_from_slice(&piece[..n]),
            }
        }
        Ok(status(&head))
    }
}

/// A Socket.IO client over WebSocket.
#[derive(Debug)]
pub struct Sio<S = TcpStream> {
    /// Its connection.
    pub stream: S,
    buffer: Vec<u8>,
}

impl<S: Read + Write> Sio<S> {
    /// A WebSocket whose Engine.IO session is open.
    ///
    /// # Errors
    /// What the kernel says; a refusal is `InvalidData` with the whole answer.
    pub fn open(stream: S) -> io::Result<Self> {
        let request = "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n\
                       Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        let mut client = Self { stream, buffer: Vec::new() };
        client.stream.write_all(request.as_bytes())?;
        let end = loop {
            if let Some(at) = client.buffer.windows(4).position(|w| w == b"\r\n\r\n") {
                break at + 4;
            }
            client.fill()?;
        };
        let head = String::from_utf8_lossy(&client.buffer[..end]).into_owned();
        if status(&head) != 101 {
            let length =
                head.to_lowercase().lines().find_map(|l| l.strip_prefix("content-length: ")?.parse().ok()).unwrap_or(0);
            while client.buffer.len() < end + length {
                client.fill()?;
            }
            return Err(invalid(String::from_utf8_lossy(&client.buffer)));
        }
        client.buffer.drain(..end);
        let open = client.text()?;
        if open.starts_with("0{") { Ok(client) } else { Err(invalid(open)) }
    }

    /// In the default namespace; its greeting is still to be read.
    ///
    /// # Errors
    /// As [`Sio::open`].
    pub fn join(stream: S) -> io::Result<Self> {
        let mut client = Self::open(stream)?;
        client.send("40")?;
        Ok(client)
    }

    fn fill(&mut self) -> io::Result<()> {
        let mut piece = [0; 16 << 10];
        match self.stream.read(&mut piece)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            n => {
                self.buffer.extend_from_slice(&piece[..n]);
                Ok(())
            }
        }
    }

    /// Sends a text frame.
    ///
    /// # Errors
    /// What the socket says.
    pub fn send(&mut self, text: &str) -> io::Result<()> {
        self.stream.write_all(&frame(0x81, text.as_bytes()))
    }

    /// The next text packet; pings are answered and left out.
    ///
    /// # Errors
    /// What the socket says; a close frame is `ConnectionAborted` with its code.
    pub fn text(&mut self) -> io::Result<String> {
        loop {
            let (first, payload) = loop {
                if let Some((first, start, end)) = parse(&self.buffer) {
                    let payload = self.buffer[start..end].to_vec();
                    self.buffer.drain(..end);
                    break (first, payload);
                }
                self.fill()?;
            };
            match first {
                0x81 if payload == b"2" => self.send("3")?,
                0x81 => return String::from_utf8(payload).map_err(|e| invalid(e.to_string())),
                0x88 => {
                    let code = payload.get(..2).map_or(0, |c| u16::from_be_bytes([c[0], c[1]]));
                    return Err(io::Error::new(io::ErrorKind::ConnectionAborted, code.to_string()));
                }
                0x8a => {}
                other => return Err(invalid(format!("frame type {other:#x}"))),
            }
        }
    }

    /// The next text packet that contains `part`, others skipped.
    ///
    /// # Errors
    /// As [`Sio::text`].
    pub fn until(&mut self, part: &str) -> io::Result<String> {
        loop {
            let text = self.text()?;
            if text.contains(part) {
                return Ok(text);
            }
        }
    }
}

/// One masked frame, as clients send them.
pub fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        0..=125 => frame.push(0x80 | payload.len() as u8),
        126..=65_535 => {
            frame.push(0x80 | 126);
            frame.extend((payload.len() as u16).to_be_bytes());
        }
        length => {
            frame.push(0x80 | 127);
            frame.extend((length as u64).to_be_bytes());
        }
    }
    // A mask of zeros is a mask, and spares the test the work.
    frame.extend([0; 4]);
    frame.extend_from_slice(payload);
    frame
}

/// The first frame of some bytes, if it is whole: its first byte, where its payload starts and ends.
fn parse(bytes: &[u8]) -> Option<(u8, usize, usize)> {
    let (first, second) = (*bytes.first()?, *bytes.get(1)?);
    let (length, at) = match second {
        126 => (u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?) as usize, 4),
        127 => (u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?) as usize, 10),
        length => (length as usize, 2),
    };
    (bytes.len() >= at + length).then_some((first, at, at + length))
}
