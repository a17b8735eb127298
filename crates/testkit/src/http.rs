//! One request to a server on this machine's loopback, by hand, so that nothing of the crate answers for itself.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

/// An answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The body, read to the connection's end.
    pub body: String,
}

impl Answer {
    /// The body as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("no JSON ({e}): {self:?}"))
    }
}

/// One request on a connection of its own.
///
/// # Errors
/// What the socket says; an answer that is no HTTP is `InvalidData`.
pub fn request(port: u16, method: &str, path: &str, body: Option<&str>) -> io::Result<Answer> {
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let body = body.unwrap_or_default();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let bad = || io::Error::new(io::ErrorKind::InvalidData, format!("no HTTP answer: {answer:?}"));
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(bad)?;
    let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).ok_or_else(bad)?;
    Ok(Answer { status, body: body.to_owned() })
}

/// A GET.
///
/// # Errors
/// As [`request`].
pub fn get(port: u16, path: &str) -> io::Result<Answer> {
    request(port, "GET", path, None)
}

/// Posts one hook event that carries `marker`.
///
/// # Errors
/// As [`request`].
pub fn post_event(port: u16, marker: &str) -> io::Result<Answer> {
    let body = serde_json::json!({
        "namespace": "", "event": "claude_event",
        "data": {"type": "hook", "subtype": "pre_tool", "data": {"tool_name": "Bash", "marker": marker}},
    });
    request(port, "POST", "/api/events", Some(&body.to_string()))
}

/// A port of this machine that nothing listens on, outside the range that clients search.
pub fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("bind a port of the kernel's choice");
    listener.local_addr().expect("the port of a listener").port()
}
