//! What the command line says.

use std::net::{SocketAddr, ToSocketAddrs};

use clap::{Parser, ValueEnum};

/// How an event enters the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// JSON to an HTTP route
    Post,
    /// An event of one Socket.IO client
    Emit,
}

/// How subscribers receive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Transport {
    /// WebSocket from the first byte
    Websocket,
    /// HTTP long-polling
    Polling,
    /// Every second one polls
    Mixed,
}

/// Fan-out load for a Socket.IO server on this machine; prints one line of JSON.
#[derive(Debug, Parser)]
#[command(version)]
pub struct Options {
    /// The server, for example http://127.0.0.1:8765
    #[arg(long, value_parser = loopback, value_name = "URL")]
    pub url: SocketAddr,
    /// Publish at another node of the same cluster
    #[arg(long, value_parser = loopback, value_name = "URL")]
    pub post_url: Option<SocketAddr>,
    /// How many subscribers
    #[arg(long, default_value_t = 50)]
    pub clients: usize,
    /// Events a second, on schedule; 0 saturates
    #[arg(long, default_value_t = 0.0)]
    pub rate: f64,
    /// Seconds that are measured
    #[arg(long, default_value_t = 5.0)]
    pub duration: f64,
    /// Seconds of load before that
    #[arg(long, default_value_t = 1.0)]
    pub warmup: f64,
    /// Seconds to wait at the end for what is still under way
    #[arg(long, default_value_t = 3.0)]
    pub drain: f64,
    /// Size of an event's JSON
    #[arg(long, default_value_t = 600)]
    pub payload_bytes: usize,
    /// How events enter the server
    #[arg(long, value_enum, default_value_t = Mode::Post)]
    pub mode: Mode,
    /// With --rate 0: at most so many events that the average subscriber has not got yet
    #[arg(long, default_value_t = 32)]
    pub window: u64,
    /// Connections that post
    #[arg(long, default_value_t = 16)]
    pub publishers: usize,
    /// How subscribers receive
    #[arg(long, value_enum, default_value_t = Transport::Websocket)]
    pub transport: Transport,
    /// So many more clients, which stop reading once connected
    #[arg(long, default_value_t = 0)]
    pub slow: usize,
    /// The receive buffer of these, in bytes
    #[arg(long, default_value_t = 4096)]
    pub slow_rcvbuf: i32,
    /// Where Socket.IO is
    #[arg(long, default_value = "/socket.io/")]
    pub path: String,
    /// Where events are posted
    #[arg(long, default_value = "/api/events")]
    pub post_path: String,
    /// The event's name, with --mode emit
    #[arg(long, default_value = "claude_event")]
    pub event: String,
    /// The namespace
    #[arg(long, default_value = "/")]
    pub namespace: String,
    /// The payload of CONNECT, as JSON
    #[arg(long, default_value = "")]
    pub auth_json: String,
    /// A further header of every request, `Name: value` (repeatable)
    #[arg(long = "header", value_name = "HEADER")]
    pub headers: Vec<String>,
    /// The server's process: its CPU time and memory are reported, too
    #[arg(long, default_value_t = 0)]
    pub server_pid: i32,
    /// Connect and hold; publish nothing
    #[arg(long)]
    pub idle: bool,
    /// So many connections are opened at a time
    #[arg(long, default_value_t = 64)]
    pub connect_batch: usize,
}

/// The address behind `http://host:port`; this is a load generator, so it aims at nobody else's machine.
fn loopback(url: &str) -> Result<SocketAddr, String> {
    let rest = url.strip_prefix("http://").ok_or("expected http://host:port")?;
    let host = rest.split('/').next().unwrap_or_default();
    let address = host.to_socket_addrs().map_err(|e| format!("{host}: {e}"))?.next().ok_or("no such address")?;
    if address.ip().is_loopback() { Ok(address) } else { Err("only loopback addresses".into()) }
}

impl Options {
    /// The further headers as they stand in a request.
    pub fn header_lines(&self) -> String {
        self.headers.iter().map(|h| format!("{h}\r\n")).collect()
    }

    /// `/name,` before a packet's payload; nothing for the main namespace.
    pub fn namespace_prefix(&self) -> String {
        if self.namespace == "/" { String::new() } else { format!("{},", self.namespace) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_a_target() {
        assert!(loopback("http://127.0.0.1:8765/").is_ok());
        assert!(loopback("http://[::1]:8765").is_ok());
        assert!(loopback("http://192.0.2.1:80").is_err());
        assert!(loopback("https://127.0.0.1:8765").is_err());
    }
}
