//! The validated settings of one process.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::events::model::Dialect;

/// The port that clients expect a monitor on.
pub const DEFAULT_PORT: u16 = 8765;
/// The ports that clients search, and that `--port auto` chooses from.
pub const AUTO_PORTS: std::ops::RangeInclusive<u16> = 8765..=8785;

/// Which port to serve on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PortChoice {
    /// This one or none.
    Fixed(u16),
    /// The first free one of [`AUTO_PORTS`].
    Auto,
}

impl fmt::Display for PortChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(port) => write!(f, "{port}"),
            Self::Auto => f.write_str("auto"),
        }
    }
}

/// The shape of the log lines on standard error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// To the journal with structured fields when standard error is the journal, else human.
    Auto,
    /// For people.
    Human,
    /// One JSON object a line.
    Json,
}

/// What one process does, complete and checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The port, or the wish for any free one.
    pub port: PortChoice,
    /// The addresses to listen on; loopback by default, both families.
    pub bind: Vec<IpAddr>,
    /// The most Socket.IO clients at once; more are refused with a reason.
    pub max_clients: usize,
    /// The most open connections of any kind.
    pub max_connections: usize,
    /// The largest request body, bytes.
    pub max_body: usize,
    /// How long a client may take to send a request's head.
    pub header_timeout: Duration,
    /// The most bytes that wait for one slow client before it is cut off.
    pub client_backlog: usize,
    /// The time between two Engine.IO pings.
    pub ping_interval: Duration,
    /// How long a client may stay silent after a ping.
    pub ping_timeout: Duration,
    /// Origins of web pages beyond this machine's own that may post events and connect.
    pub allow_origin: Vec<String>,
    /// How posted events are shown to clients.
    pub dialect: Dialect,
    /// Whether an event is accepted only once it is on the disk, not merely in the kernel.
    pub durable: bool,
    /// The most events kept.
    pub history_events: u64,
    /// The most bytes of events kept.
    pub history_bytes: u64,
    /// How long events are kept.
    pub history_age: Duration,
    /// How many events a client gets when it connects.
    pub history_on_connect: usize,
    /// How long shutdown waits for clients and requests before it cuts them.
    pub drain_timeout: Duration,
    /// Where the events and the crash ledger are.
    pub state_dir: PathBuf,
    /// Where the lock and instance file of each port is.
    pub runtime_dir: PathBuf,
    /// Which log lines are written: a level, or directives such as `info,mpm_monitor::server=debug`.
    pub log_level: String,
    /// Their shape.
    pub log_format: LogFormat,
    /// Whether a stall ends the process where no manager would.
    pub watchdog_exit: bool,
    /// How long a stall may last before [`Settings::watchdog_exit`] acts, where no manager says.
    pub watchdog_timeout: Duration,
}
