//! A reader of server-sent events made of a blocking socket.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;

use super::wire::connect;

/// One event as the format has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Told {
    /// Its name; empty where none was said.
    pub name: String,
    /// The id that came with it.
    pub id: Option<String>,
    /// Its data, lines joined.
    pub data: String,
    /// Whether it was a comment.
    pub comment: bool,
}

impl Told {
    /// The data as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.data).unwrap_or_else(|e| panic!("no JSON ({e}): {self:?}"))
    }
}

/// An open stream.
#[derive(Debug)]
pub struct Sse {
    /// The answer's head.
    pub head: String,
    stream: BufReader<TcpStream>,
    text: Vec<u8>,
    /// The last id, as a browser remembers it.
    pub last_id: String,
    /// The time to wait before coming back, as told.
    pub retry: Option<u32>,
    /// The stream ended in good order.
    pub ended: bool,
}

impl Sse {
    /// Opens `/api/stream` with that query and these header lines, each with its end.
    ///
    /// # Errors
    /// What the socket says; another answer than 200 is `Other`, with its head and body.
    pub fn open(port: u16, query: &str, headers: &str) -> io::Result<Self> {
        Self::over(connect(port)?, port, query, headers)
    }

    /// The same over a connection that is open already.
    ///
    /// # Errors
    /// As [`Sse::open`].
    pub fn over(mut stream: TcpStream, port: u16, query: &str, headers: &str) -> io::Result<Self> {
        let request = format!(
            "GET /api/stream{query} HTTP/1.1\r\nHost: localhost:{port}\r\nAccept: text/event-stream\r\n{headers}\r\n"
        );
        stream.write_all(request.as_bytes())?;
        let mut stream = BufReader::new(stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if stream.read_line(&mut head)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        if !head.starts_with("HTTP/1.1 200 ") {
            let length = head.to_lowercase().lines().find_map(|l| l.strip_prefix("content-length: ")?.parse().ok());
            let mut body = vec![0; length.unwrap_or(0)];
            stream.read_exact(&mut body)?;
            return Err(io::Error::other(head + &String::from_utf8_lossy(&body)));
        }
        let mut sse = Self { head, stream, text: Vec::new(), last_id: String::new(), retry: None, ended: false };
        sse.opening()?;
        Ok(sse)
    }

    /// Goes on where `last` was.
    ///
    /// # Errors
    /// As [`Sse::open`].
    pub fn resume(port: u16, query: &str, last: &str) -> io::Result<Self> {
        Self::open(port, query, &format!("Last-Event-ID: {last}\r\n"))
    }

    /// How long a read may take.
    pub fn patience(&self, time: Duration) {
        self.stream.get_ref().set_read_timeout(Some(time)).expect("set a timeout");
    }

    fn opening(&mut self) -> io::Result<()> {
        let block = self.block()?;
        self.note(&block);
        match self.retry {
            Some(_) => Ok(()),
            None => Err(io::Error::other(format!("it begins with {block:?}"))),
        }
    }

    fn note(&mut self, block: &str) -> Told {
        let mut told = Told::default();
        let mut data = Vec::new();
        for line in block.lines().filter(|line| !line.is_empty()) {
            match line.split_once(':').map(|(field, value)| (field, value.strip_prefix(' ').unwrap_or(value))) {
                Some(("", _)) => told.comment = true,
                Some(("id", id)) => told.id = Some(id.to_owned()),
                Some(("event", name)) => told.name = name.to_owned(),
                Some(("data", line)) => data.push(line),
                Some(("retry", time)) => self.retry = time.parse().ok(),
                _ => panic!("no field: {line:?}"),
            }
        }
        told.data = data.join("\n");
        if let Some(id) = &told.id {
            self.last_id.clone_from(id);
        }
        told
    }

    /// The next block, whatever it is.
    ///
    /// # Errors
    /// What the socket says; a stream that ended in good order is `UnexpectedEof` with [`Sse::ended`].
    pub fn next_told(&mut self) -> io::Result<Told> {
        let block = self.block()?;
        Ok(self.note(&block))
    }

    /// The next event; comments and bare ids are passed over.
    ///
    /// # Errors
    /// As [`Sse::next`].
    pub fn event(&mut self) -> io::Result<Told> {
        loop {
            let told = self.next_told()?;
            if !told.data.is_empty() {
                return Ok(told);
            }
        }
    }

    fn block(&mut self) -> io::Result<String> {
        let mut looked = 0;
        loop {
            if let Some(at) = memchr::memmem::find(&self.text[looked..], b"\n\n") {
                let block: Vec<u8> = self.text.drain(..looked + at + 2).collect();
                return String::from_utf8(block).map_err(io::Error::other);
            }
            looked = self.text.len().saturating_sub(1);
            self.chunk()?;
        }
    }

    /// Reads one chunk of the transfer coding.
    fn chunk(&mut self) -> io::Result<()> {
        let mut size = String::new();
        if self.ended || self.stream.read_line(&mut size)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let size = usize::from_str_radix(size.trim_end(), 16).map_err(io::Error::other)?;
        let mut data = vec![0; size + 2];
        self.stream.read_exact(&mut data)?;
        if size == 0 {
            self.ended = true;
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.text.extend_from_slice(&data[..size]);
        Ok(())
    }

    /// The socket, for a reader that reads no more.
    pub fn into_socket(self) -> TcpStream {
        self.stream.into_inner()
    }
}
