//! Monitors as nodes of a bus, each with a place, and if wanted a network, of its own. The test speaks to them over their Unix
//! sockets, which need no network.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;

use testkit::command::{Running, run};
use testkit::daemon::{Place, SOON, signal};
use testkit::wire::{Sio, status};
use testkit::{eventually, http, program, skip};

/// A network that a holder process keeps.
pub struct Net(Running);

impl Net {
    /// A network with nothing but the loopback; `None`, with the reason printed, where there can be none.
    #[track_caller]
    pub fn new(inside: Option<&Self>) -> Option<Self> {
        let hold = "ip link set lo up && echo up; exec cat";
        let mut command = match inside {
            Some(outer) => {
                let mut command = Self::command(outer.pid(), "unshare");
                command.args(["--net", "sh", "-c", hold]);
                command
            }
            None => {
                let mut command = Command::new("unshare");
                command.args(if is_root() { &["--net"][..] } else { &["--user", "--map-root-user", "--net"] });
                command.args(["sh", "-c", hold]);
                command
            }
        };
        let mut holder = Running::start(&mut command);
        let up = holder.until(SOON, "the network", |line| Some(line == "up"));
        if !up {
            skip(&format!("this machine lets nobody make a network: {:?}", holder.seen));
            return None;
        }
        Some(Self(holder))
    }

    /// The process that holds it.
    pub fn pid(&self) -> u32 {
        self.0.pid()
    }

    /// A command in a network.
    pub fn command(pid: u32, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.arg("--target").arg(pid.to_string()).arg("--net");
        if !is_root() {
            command.args(["--user", "--preserve-credentials"]);
        }
        command.arg("--").arg(program);
        command
    }

    /// `ip` in it.
    #[track_caller]
    pub fn ip(&self, arguments: &str) {
        run(Self::command(self.pid(), "ip").args(arguments.split(' ')), SOON).ok();
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A monitor on the bus.
pub struct Node {
    pub name: String,
    pub place: Place,
    settings: Vec<String>,
    bus: String,
    net: Option<Net>,
    port: u16,
    running: Option<Running>,
}

impl Node {
    /// Not started yet.
    pub fn new(name: &str, bus: &str, settings: &[&str], net: Option<Net>) -> Self {
        let port = if net.is_some() { 8765 } else { http::free_port() };
        let settings = settings.iter().map(|s| (*s).to_owned()).collect();
        Self { name: name.to_owned(), place: Place::new(), settings, bus: bus.to_owned(), net, port, running: None }
    }

    /// Started and ready.
    #[track_caller]
    pub fn serving(name: &str, bus: &str, settings: &[&str]) -> Self {
        let mut node = Self::new(name, bus, settings, None);
        node.up();
        node
    }

    /// Its Unix socket.
    pub fn socket(&self) -> PathBuf {
        self.place.path("run/node.sock")
    }

    /// Starts it, and waits until it is ready.
    #[track_caller]
    pub fn up(&mut self) {
        let mut command = match &self.net {
            Some(net) => Net::command(net.pid(), program()),
            None => Command::new(program()),
        };
        command
            .env_clear()
            .current_dir(self.place.dir.path())
            .env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("HOME", self.place.path("home")).env("XDG_RUNTIME_DIR", self.place.path("run"));
        command.env("MPM_MONITOR_STATE_DIR", self.place.path("state"));
        command.env("MPM_MONITOR_RUNTIME_DIR", self.place.path("run"));
        command.args(["run", "--port", &self.port.to_string()]);
        if !self.bus.is_empty() {
            command.args(["--bus", &self.bus, "--set", &format!("bus.node={}", self.name)]);
        }
        command.args(["--set", &format!("server.unix_socket={}", self.socket().display())]);
        for setting in &self.settings {
            command.args(["--set", setting]);
        }
        let running = Running::start(&mut command);
        let pid = running.pid();
        self.running = Some(running);
        eventually(SOON, &format!("node {} to be ready", self.name), || {
            let health = self.get("/health")?.1;
            if health["ready"] == true && health["pid"] == pid {
                Ok(())
            } else {
                Err(io::Error::other(health.to_string()))
            }
        });
    }

    /// Kills it.
    pub fn kill(&mut self) {
        self.running = None;
    }

    /// Tells it to stop and waits for its end: what it said.
    #[track_caller]
    pub fn stop(&mut self) -> String {
        let mut running = self.running.take().expect("it runs");
        signal(running.pid(), "TERM");
        let code = running.end(SOON);
        let said = running.seen.join("\n");
        assert_eq!(code, 0, "{said}");
        said
    }

    /// Cuts its connection to the others, or joins it again.
    #[track_caller]
    pub fn link(&self, up: bool) {
        self.net.as_ref().expect("it has a network").ip(&format!("link set eth0 {}", if up { "up" } else { "down" }));
    }

    /// One request: status and body.
    pub fn request(&self, method: &str, path: &str, body: &str) -> io::Result<(u16, String)> {
        request(&self.socket(), method, path, body)
    }

    /// A GET of JSON.
    pub fn get(&self, path: &str) -> io::Result<(u16, Value)> {
        let (status, body) = self.request("GET", path, "")?;
        Ok((status, serde_json::from_str(&body).unwrap_or(Value::String(body))))
    }

    /// Posts an event with this marker; how long the answer took.
    #[track_caller]
    pub fn post(&self, marker: &str) -> Duration {
        let began = Instant::now();
        let (status, body) = self.request("POST", "/api/events", &event(marker)).expect("an answer");
        assert_eq!(status, 204, "{body}");
        began.elapsed()
    }

    /// Posts this many events.
    #[track_caller]
    pub fn post_many(&self, prefix: &str, count: usize) {
        for index in 0..count {
            self.post(&format!("{prefix}-{index}"));
        }
    }

    /// The state of its bus, and why.
    pub fn bus(&self) -> (String, String) {
        let health = self.get("/health").map(|(_, body)| body).unwrap_or_default();
        let bus = &health["components"]["bus"];
        let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
        (text(&bus["state"]), text(&bus["detail"]))
    }

    /// Waits until its bus works; how long that took.
    #[track_caller]
    pub fn until_connected(&self) -> Duration {
        let began = Instant::now();
        eventually(SOON, &format!("the bus of {} to work", self.name), || {
            let (state, detail) = self.bus();
            if state == "ok" { Ok(()) } else { Err(format!("{state}: {detail}")) }
        });
        began.elapsed()
    }

    /// Waits until its bus is degraded for this reason.
    #[track_caller]
    pub fn until_degraded(&self, reason: &str) {
        eventually(SOON, &format!("the bus of {} to say {reason:?}", self.name), || {
            let (state, detail) = self.bus();
            if state == "degraded" && detail.contains(reason) { Ok(()) } else { Err(format!("{state}: {detail}")) }
        });
    }

    /// A figure of `/api/status`.
    pub fn figure(&self, name: &str) -> u64 {
        let status = self.get("/api/status").map(|(_, body)| body).unwrap_or_default();
        status["bus"][name].as_u64().unwrap_or_else(|| panic!("no {name} in {status}"))
    }

    /// Waits until all that it has of its own is in its stream.
    #[track_caller]
    pub fn until_published(&self) {
        eventually(SOON, &format!("all of {} to be published", self.name), || match self.figure("unpublished") {
            0 => Ok(()),
            left => Err(left),
        });
    }

    /// All events of a node, in the order of this one's numbers: each with its number there, if it is another's, and its marker.
    #[track_caller]
    pub fn events_of(&self, node: &str) -> Vec<Row> {
        let (mut rows, mut after) = (Vec::new(), 0);
        loop {
            let (status, page) =
                self.get(&format!("/api/events?limit=1000&after={after}&node={node}")).expect("a page");
            assert_eq!(status, 200, "{page}");
            let events = page["events"].as_array().expect("events");
            for event in events {
                let payload = &event["payload"];
                rows.push(Row {
                    seq: event["seq"].as_u64().unwrap(),
                    node_seq: event["node_seq"].as_u64(),
                    subtype: payload["subtype"].as_str().unwrap_or_default().to_owned(),
                    marker: payload["data"]["marker"].as_str().unwrap_or_default().to_owned(),
                });
            }
            let next = page["next"].as_u64().unwrap();
            if events.is_empty() || next == after {
                return rows;
            }
            after = next;
        }
    }

    /// The number that the newest event of a node has there, looked for among the last ones first.
    pub fn newest_of(&self, node: &str) -> io::Result<Option<u64>> {
        let last = self.get("/health")?.1["last_seq"].as_u64().unwrap_or_default();
        let number = |event: &Value| event[if node == "local" { "seq" } else { "node_seq" }].as_u64();
        let mut newest = None;
        for start in [last.saturating_sub(2000), 0] {
            let mut after = start;
            // A page may be full before the newest one came.
            while newest.is_none() || after < last {
                let page = self.get(&format!("/api/events?limit=1000&after={after}&node={node}"))?.1;
                newest = page["events"].as_array().and_then(|events| events.last()).and_then(number).or(newest);
                let next = page["next"].as_u64().unwrap_or(last);
                if next <= after {
                    break;
                }
                after = next;
            }
            if newest.is_some() {
                break;
            }
        }
        Ok(newest)
    }

    /// Only the markers.
    pub fn markers_of(&self, node: &str) -> Vec<String> {
        self.events_of(node).into_iter().map(|row| row.marker).collect()
    }

    /// Waits until it has all that the other node has of its own, exactly and in its order.
    #[track_caller]
    pub fn until_same_as(&self, other: &Self, deadline: Duration) -> Duration {
        let began = Instant::now();
        eventually(deadline, &format!("{} to have what {} has", self.name, other.name), || {
            let (here, there) = (self.events_of(&other.name), other.events_of("local"));
            differs(&here, &there).map_or(Ok(()), Err)
        });
        began.elapsed()
    }
}

/// An event as `/api/events` has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    pub seq: u64,
    pub node_seq: Option<u64>,
    pub subtype: String,
    pub marker: String,
}

/// How what is here of a node differs from what it has itself; `None` if it does not.
pub fn differs(here: &[Row], there: &[Row]) -> Option<String> {
    for (index, row) in there.iter().enumerate() {
        match here.get(index) {
            Some(copy) if copy.node_seq == Some(row.seq) && copy.marker == row.marker => {}
            other => {
                return Some(format!(
                    "at {index} of {}, {} here: {row:?} there, {other:?} here",
                    there.len(),
                    here.len()
                ));
            }
        }
    }
    here.get(there.len()).map(|more| format!("{more:?} is here and not there"))
}

/// The body of an event with this marker.
pub fn event(marker: &str) -> String {
    serde_json::json!({
        "namespace": "", "event": "claude_event",
        "data": {"type": "hook", "subtype": "pre_tool", "data": {"tool_name": "Bash", "marker": marker}},
    })
    .to_string()
}

/// One request over a Unix socket.
pub fn request(socket: &std::path::Path, method: &str, path: &str, body: &str) -> io::Result<(u16, String)> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(&[head.as_bytes(), body.as_bytes()].concat())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let code = status(&answer);
    match answer.split_once("\r\n\r\n") {
        Some((_, body)) if code > 0 => Ok((code, body.to_owned())),
        _ => Err(io::Error::new(io::ErrorKind::UnexpectedEof, format!("no HTTP answer: {answer:?}"))),
    }
}

/// What a subscriber heard: node (empty for the own one) and marker, with the moment.
pub type Heard = Vec<(String, String, Instant)>;

/// A Socket.IO client of a node that comes back after every break and says what it has.
pub struct Subscriber {
    stop: Arc<AtomicBool>,
    seen: Arc<AtomicU64>,
    heard: Arc<Mutex<Heard>>,
    thread: Option<JoinHandle<()>>,
}

impl Subscriber {
    /// Listens from the begin.
    pub fn of(node: &Node) -> Self {
        let (stop, seen, heard) =
            (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default(), Arc::<Mutex<Heard>>::default());
        let socket = node.socket();
        let thread = std::thread::spawn({
            let (stop, seen, heard) = (Arc::clone(&stop), Arc::clone(&seen), Arc::clone(&heard));
            move || {
                while !stop.load(Ordering::Acquire) {
                    let _ = listen(&socket, &stop, &seen, &heard);
                    std::thread::sleep(Duration::from_millis(20));
                }
            }
        });
        Self { stop, seen, heard, thread: Some(thread) }
    }

    /// What it heard so far.
    pub fn heard(&self) -> Heard {
        self.heard.lock().unwrap().clone()
    }

    /// The number of the last event it heard.
    pub fn seen(&self) -> u64 {
        self.seen.load(Ordering::Acquire)
    }

    /// The markers by node, in the order in which they were heard.
    pub fn by_node(&self) -> BTreeMap<String, Vec<String>> {
        let mut all = BTreeMap::<String, Vec<String>>::new();
        for (node, marker, _) in self.heard() {
            all.entry(node).or_default().push(marker);
        }
        all
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn listen(socket: &std::path::Path, stop: &AtomicBool, seen: &AtomicU64, heard: &Mutex<Heard>) -> io::Result<()> {
    let stream = UnixStream::connect(socket)?;
    // Short, so that it sees that it is to stop; what was read by then stays in the client's buffer.
    stream.set_read_timeout(Some(Duration::from_millis(300)))?;
    let mut client = Sio::open(stream)?;
    client.send(&format!("40{{\"last_seq\":{}}}", seen.load(Ordering::Acquire)))?;
    while !stop.load(Ordering::Acquire) {
        let text = match client.text() {
            Ok(text) => text,
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => continue,
            Err(e) => return Err(e),
        };
        let Some(array) = text.strip_prefix("42") else { continue };
        let packet: Value = serde_json::from_str(array).map_err(io::Error::other)?;
        let payload = &packet[1];
        let (Some(seq), Some(marker)) = (payload["seq"].as_u64(), payload["data"]["marker"].as_str()) else { continue };
        assert!(seq > seen.swap(seq, Ordering::AcqRel), "event {seq} came out of order: {text}");
        let node = payload["node"].as_str().unwrap_or_default().to_owned();
        heard.lock().unwrap().push((node, marker.to_owned(), Instant::now()));
    }
    Ok(())
}
