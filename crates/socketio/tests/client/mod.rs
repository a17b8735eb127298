//! Clients made of bare sockets: what they send and read is what the tests are about.
#![allow(dead_code)]

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Long enough for a busy machine; a test that works never waits for it.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A server that is there to be asked.
pub trait Served {
    /// Where Engine.IO is.
    const PATH: &str = "/socket.io/";

    fn address(&self) -> SocketAddr;

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address()).await.unwrap()
    }

    /// Sends raw text and reads until the server closes; give `Connection: close` in the text.
    async fn raw(&self, text: &str) -> String {
        let mut stream = self.connect().await;
        stream.write_all(text.as_bytes()).await.unwrap();
        to_end(&mut stream).await
    }

    /// One request on a connection of its own.
    async fn ask(&self, method: &str, path: &str, headers: &str, body: &str) -> String {
        let length = if method == "GET" { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
        self.raw(&format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{length}{headers}\r\n{body}"
        ))
        .await
    }

    /// Opens a polling session: its id.
    async fn open(&self) -> String {
        let answer = self.ask("GET", &format!("{}?EIO=4&transport=polling", Self::PATH), "", "").await;
        let open: serde_json::Value = serde_json::from_str(body(&answer).strip_prefix('0').unwrap()).unwrap();
        open["sid"].as_str().unwrap().to_owned()
    }

    async fn poll(&self, sid: &str) -> String {
        self.ask("GET", &format!("{}?EIO=4&transport=polling&sid={sid}", Self::PATH), "", "").await
    }

    async fn send(&self, sid: &str, packets: &str) -> String {
        self.ask("POST", &format!("{}?EIO=4&transport=polling&sid={sid}", Self::PATH), "", packets).await
    }
}

pub async fn to_end(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    // A reset after the answer is the server's right; what was read counts.
    let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut bytes)).await.expect("the server closes");
    String::from_utf8_lossy(&bytes).into_owned()
}

pub fn status(answer: &str) -> u16 {
    answer.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or_else(|| panic!("no answer: {answer:?}"))
}

pub fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").map_or("", |(_, b)| b)
}

pub async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        tokio::task::yield_now().await;
    }
}

/// A WebSocket client of bare bytes.
pub struct Ws {
    pub stream: TcpStream,
    pub buffer: Vec<u8>,
}

#[derive(Debug, PartialEq, Eq, Clone)]
pub enum Frame {
    Text(String),
    Binary(Vec<u8>),
    Close(u16),
    Pong(Vec<u8>),
    /// The connection ended; whether by a reset.
    End(bool),
}

impl Ws {
    pub async fn open<S: Served>(rig: &S, query: &str, headers: &str) -> Result<Self, String> {
        let mut stream = rig.connect().await;
        let request = format!(
            "GET {}?EIO=4&transport=websocket{query} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n\
             Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             {headers}\r\n",
            S::PATH
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut buffer = Vec::new();
        let end = loop {
            if let Some(at) = buffer.windows(4).position(|w| w == b"\r\n\r\n") {
                break at + 4;
            }
            let n = tokio::time::timeout(PATIENCE, stream.read_buf(&mut buffer)).await.unwrap().unwrap();
            assert_ne!(n, 0, "closed within the handshake");
        };
        let head = String::from_utf8(buffer.drain(..end).collect()).unwrap();
        if status(&head) == 101 {
            assert!(head.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{head}");
            return Ok(Self { stream, buffer });
        }
        let length = head.to_lowercase().lines().find_map(|l| l.strip_prefix("content-length: ")?.parse().ok());
        while buffer.len() < length.unwrap_or(0) {
            let n = tokio::time::timeout(PATIENCE, stream.read_buf(&mut buffer)).await.unwrap().unwrap();
            assert_ne!(n, 0, "closed within the refusal");
        }
        Err(head + &String::from_utf8_lossy(&buffer))
    }

    /// Connected to the default namespace; its greeting is still to be read.
    pub async fn join<S: Served>(rig: &S) -> Self {
        let mut ws = Self::open(rig, "", "").await.unwrap();
        assert!(ws.text().await.starts_with("0{"));
        ws.send("40").await;
        ws
    }

    pub async fn send(&mut self, text: &str) {
        self.send_frame(0x81, text.as_bytes()).await;
    }

    pub async fn send_frame(&mut self, first: u8, payload: &[u8]) {
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
        let mask = [1, 2, 3, 4];
        frame.extend(mask);
        frame.extend(payload.iter().enumerate().map(|(i, b)| b ^ mask[i % 4]));
        let _ = self.stream.write_all(&frame).await;
    }

    pub async fn next(&mut self) -> Frame {
        tokio::time::timeout(PATIENCE, self.read()).await.expect("a frame in time")
    }

    async fn read(&mut self) -> Frame {
        loop {
            if let Some((frame, used)) = parse(&self.buffer) {
                self.buffer.drain(..used);
                return frame;
            }
            match self.stream.read_buf(&mut self.buffer).await {
                Ok(0) => return Frame::End(false),
                Ok(_) => {}
                Err(_) => return Frame::End(true),
            }
        }
    }

    pub async fn text(&mut self) -> String {
        match self.next().await {
            Frame::Text(text) => text,
            other => panic!("{other:?} instead of text"),
        }
    }

    /// The next event of this name, others skipped: its payload.
    pub async fn event(&mut self, name: &str) -> serde_json::Value {
        loop {
            let text = self.text().await;
            let Some(array) = text.strip_prefix("42") else { continue };
            let mut value: serde_json::Value = serde_json::from_str(array).unwrap();
            if value[0] == name {
                return value[1].take();
            }
        }
    }
}

fn parse(bytes: &[u8]) -> Option<(Frame, usize)> {
    let (first, second) = (*bytes.first()?, *bytes.get(1)?);
    assert_eq!(second & 0x80, 0, "a server does not mask");
    let (length, at) = match second {
        126 => (u16::from_be_bytes(bytes.get(2..4)?.try_into().unwrap()) as usize, 4),
        127 => (u64::from_be_bytes(bytes.get(2..10)?.try_into().unwrap()) as usize, 10),
        length => (length as usize, 2),
    };
    let payload = bytes.get(at..at + length)?;
    let frame = match first {
        0x81 => Frame::Text(String::from_utf8(payload.to_vec()).unwrap()),
        0x82 => Frame::Binary(payload.to_vec()),
        0x88 => Frame::Close(u16::from_be_bytes(payload[..2].try_into().unwrap())),
        0x8a => Frame::Pong(payload.to_vec()),
        other => panic!("frame type {other:#x}"),
    };
    Some((frame, at + length))
}

/// The packets of a payload.
pub fn packets(answer: &str) -> Vec<String> {
    assert_eq!(status(answer), 200, "{answer}");
    body(answer).split('\u{1e}').map(str::to_owned).collect()
}
