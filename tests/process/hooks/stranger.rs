//! Another user listens on the monitor's port while the monitor is stopped.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use mpm_monitor::hooks::spool::Spool;

use super::session::{call, hook};
use testkit::daemon::Place;

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// A server that takes everything, answers like a monitor, and prints what it was sent when its input ends.
const SERVER: &str = r#"
import socket, sys, threading
got = []
def serve(c):
    data = c.recv(1 << 20)
    got.append(data)
    c.sendall(b"HTTP/1.1 204 No Content\r\n\r\n" if data else b"")
    c.close()
def accept(s):
    while True:
        threading.Thread(target=serve, args=(s.accept()[0],), daemon=True).start()
s = socket.create_server(("127.0.0.1", 0))
print(s.getsockname()[1], flush=True)
threading.Thread(target=accept, args=(s,), daemon=True).start()
sys.stdin.read()
print(len(got), b"".join(got).decode(errors="replace"), flush=True)
"#;

struct Stranger {
    child: Child,
    said: BufReader<ChildStdout>,
    port: u16,
}

impl Stranger {
    /// As the user with this number.
    fn start(uid: u32) -> Self {
        let mut command = Command::new("setpriv");
        command.args([&format!("--reuid={uid}"), "--clear-groups", "/usr/bin/python3", "-I", "-c", SERVER]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).current_dir("/").spawn().unwrap();
        let mut said = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        said.read_line(&mut line).unwrap();
        Self { port: line.trim().parse().unwrap(), child, said }
    }

    /// How many connections it took, and what came over them.
    fn heard(mut self) -> (usize, String) {
        drop(self.child.stdin.take());
        let mut text = String::new();
        self.said.read_line(&mut text).unwrap();
        self.child.wait().unwrap();
        let (count, heard) = text.split_once(' ').unwrap();
        (count.parse().unwrap(), heard.trim().to_owned())
    }
}

#[test]
fn another_users_server_gets_neither_token_nor_event() {
    if !rustix::process::geteuid().is_root() || !Path::new("/usr/bin/setpriv").exists() {
        return testkit::skip("needs root and setpriv, to listen as another user");
    }
    let place = Place::new();
    std::fs::write(place.path("token"), TOKEN).unwrap();
    std::fs::create_dir_all(place.path("home/.config/mpm-monitor")).unwrap();
    let settings = format!("[access]\ntoken_file = {:?}\n", place.path("token"));
    std::fs::write(place.path("home/.config/mpm-monitor/config.toml"), settings).unwrap();

    let stranger = Stranger::start(65534);
    let port = stranger.port.to_string();
    let ran = hook(&place, stranger.port, &call("secret", 0)[0]);
    println!("hook: {:?}", ran.took);
    let emit = place.ran(["emit", "secret", "--port", &port]);
    assert!(emit.stderr.contains("another user (uid 65534)"), "{emit:?}");
    let events = place.ran(["events", "tail", "--port", &port]);
    assert!(events.stderr.contains("another user (uid 65534)"), "{events:?}");
    let (connections, heard) = stranger.heard();
    assert!(connections >= 3 && heard.is_empty(), "{connections}: {heard}");
    let spool = Spool::new(place.path("state").join(format!("spool/{port}")));
    assert_eq!(spool.waiting().events, 1, "the hook's event waits");

    // The same server of the same user gets both, so that the test would see it.
    let own = Stranger::start(rustix::process::geteuid().as_raw());
    let emit = place.ran(["emit", "secret", "--port", &own.port.to_string()]);
    assert_eq!(emit.code, 0, "{emit:?}");
    let (_, heard) = own.heard();
    assert!(heard.contains("POST /api/events"), "{heard}");
}
