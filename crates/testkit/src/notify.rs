//! A service manager's end of `NOTIFY_SOCKET`, see sd_notify(3).

use std::collections::BTreeMap;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::{Duration, Instant};

/// The socket that the process under test reports to.
#[derive(Debug)]
pub struct NotifySocket {
    socket: UnixDatagram,
    /// The value for `NOTIFY_SOCKET`.
    pub name: String,
}

/// One datagram: its assignments, and when it came.
#[derive(Debug, Clone)]
pub struct Message {
    /// As it came.
    pub text: String,
    /// Its assignments.
    pub fields: BTreeMap<String, String>,
    /// When.
    pub at: Instant,
}

impl Message {
    /// Whether it says `name=1`.
    pub fn says(&self, name: &str) -> bool {
        self.fields.get(name).is_some_and(|v| v == "1")
    }
}

impl NotifySocket {
    /// A socket in the file system.
    pub fn in_directory(directory: &Path) -> Self {
        let path = directory.join("notify");
        let socket = UnixDatagram::bind(&path).expect("bind a notification socket");
        Self { socket, name: path.to_string_lossy().into_owned() }
    }

    /// A socket of Linux's abstract namespace, which systemd uses where a unit has its own root directory.
    #[cfg(target_os = "linux")]
    pub fn in_abstract_namespace(name: &str) -> Self {
        use std::os::linux::net::SocketAddrExt;
        let address = std::os::unix::net::SocketAddr::from_abstract_name(name).expect("an abstract name");
        let socket = UnixDatagram::bind_addr(&address).expect("bind an abstract notification socket");
        Self { socket, name: format!("@{name}") }
    }

    /// The next datagram, if one comes in time.
    pub fn next(&self, within: Duration) -> Option<Message> {
        self.socket.set_read_timeout(Some(within.max(Duration::from_millis(1)))).expect("set a timeout");
        let mut buffer = [0; 8192];
        let length = self.socket.recv(&mut buffer).ok()?;
        let at = Instant::now();
        let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
        let fields =
            text.lines().filter_map(|l| l.split_once('=')).map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
        Some(Message { text, fields, at })
    }

    /// All datagrams up to and with the first that `wanted` likes.
    #[track_caller]
    pub fn until(&self, deadline: Duration, what: &str, wanted: impl Fn(&Message) -> bool) -> Vec<Message> {
        let start = Instant::now();
        let mut all: Vec<Message> = Vec::new();
        loop {
            let left = deadline.saturating_sub(start.elapsed());
            match self.next(left) {
                Some(message) => {
                    let found = wanted(&message);
                    all.push(message);
                    if found {
                        return all;
                    }
                }
                None if start.elapsed() >= deadline => panic!("waited {deadline:?} for {what}; came: {all:#?}"),
                None => {}
            }
        }
    }
}
