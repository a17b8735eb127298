//! What an application may set. It is asked for the values again for each session, so that it may change them as it runs.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::memory::{Memory, Unlimited};

/// What clients of Socket.IO 2 are told unless the application has other words.
const OLDER: &str = "this server speaks Socket.IO protocol 5 over Engine.IO protocol 4; \
                          connect with socket.io-client 3 or 4, or python-socketio 5";

/// The settings of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// The time between two pings, as the handshake announces it.
    pub ping_interval: Duration,
    /// How long a client may take to answer a ping, as announced.
    pub ping_timeout: Duration,
    /// A client that is in no namespace for so long is disconnected.
    pub connect_timeout: Option<Duration>,
    /// The largest message a client may send, bytes; announced as `maxPayload`.
    pub max_payload: usize,
    /// The most sessions.
    pub max_clients: usize,
    /// The most bytes that may wait for one client.
    pub backlog: usize,
    /// How many packets one client may send in a second, over a longer time.
    pub rate: u32,
    /// How many it may send at once.
    pub burst: u32,
}

impl Default for Options {
    /// The times and the payload limit of the reference server. It has no other limits; these suit a small server.
    fn default() -> Self {
        Self {
            ping_interval: Duration::from_secs(25),
            ping_timeout: Duration::from_secs(20),
            connect_timeout: Some(Duration::from_secs(45)),
            max_payload: 1_000_000,
            max_clients: 1000,
            backlog: 4 << 20,
            rate: 1000,
            burst: 4000,
        }
    }
}

/// What a server is made with.
pub struct Config {
    /// Returns the options of the moment.
    pub options: Box<dyn Fn() -> Options + Send + Sync>,
    /// What unfinished large messages may hold.
    pub memory: Arc<dyn Memory>,
    /// What a client of Socket.IO 2 is told, which is not served.
    pub refusal_of_older: &'static str,
}

impl Default for Config {
    fn default() -> Self {
        Options::default().into()
    }
}

impl From<Options> for Config {
    /// Options that stay as they are.
    fn from(options: Options) -> Self {
        let memory = Arc::new(Unlimited);
        Self { options: Box::new(move || options), memory, refusal_of_older: OLDER }
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config").field("options", &(self.options)()).finish_non_exhaustive()
    }
}
