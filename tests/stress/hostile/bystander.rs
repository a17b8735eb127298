//! Another client, which means no harm and only wants its answers while an attack goes on: over HTTP and over Socket.IO,
//! each kept open. It remembers how long it had to wait, and how much memory the monitor took meanwhile.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::PATIENCE;
use testkit::daemon::resident;
use testkit::wire::{Sio, connect};

/// Between two questions, so that they do not load the machine themselves.
const PAUSE: Duration = Duration::from_millis(5);
/// How long after the attack the memory may take to be given back.
const CALM: Duration = Duration::from_secs(20);
/// The most that the monitor may grow while it is attacked, KiB.
const PEAK: u64 = 96 << 10;
/// The most that may be left of it afterwards, KiB.
const LEFT: u64 = 16 << 10;

/// How long another client may wait. A debug build on a loaded machine is many times slower than what is promised; the
/// promise is for the release build on a machine with nothing else to do, where this variable is set.
fn longest_allowed() -> Duration {
    match std::env::var_os("MPM_MONITOR_TESTS_QUIET") {
        Some(_) => Duration::from_millis(100),
        None => Duration::from_secs(1),
    }
}

/// See the module.
pub struct Bystander {
    name: &'static str,
    pid: u32,
    /// KiB.
    start: u64,
    seen: Arc<Seen>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Seen {
    over: AtomicBool,
    answers: AtomicU64,
    longest_micros: AtomicU64,
    peak_kib: AtomicU64,
}

impl Seen {
    /// Asks until it is over; panics, and the attack's test with it, when there is no answer.
    fn ask(&self, mut question: impl FnMut()) {
        self.repeat(|| {
            let began = Instant::now();
            question();
            self.longest_micros.fetch_max(began.elapsed().as_micros() as u64, Ordering::AcqRel);
            self.answers.fetch_add(1, Ordering::AcqRel);
        });
    }

    fn repeat(&self, mut what: impl FnMut()) {
        while !self.over.load(Ordering::Acquire) {
            what();
            std::thread::sleep(PAUSE);
        }
    }
}

impl Bystander {
    /// Begins to ask; it has had answers when this returns.
    pub fn beside(name: &'static str, port: u16, pid: u32) -> Self {
        let seen = Arc::<Seen>::default();
        let mut http = connect(port).unwrap();
        let mut sio = Sio::join(connect(port).unwrap()).unwrap();
        let mut health = move || health(&mut http);
        let mut ping = move || {
            sio.send(r#"42["dashboard:ping",{"timestamp":1}]"#).unwrap();
            sio.until("dashboard:pong").expect("an answer over Socket.IO");
        };
        health();
        ping();
        let start = resident(pid);
        let [one, two, memory] = std::array::from_fn(|_| Arc::clone(&seen));
        let threads = vec![
            std::thread::spawn(move || one.ask(health)),
            std::thread::spawn(move || two.ask(ping)),
            std::thread::spawn(move || {
                memory.repeat(|| {
                    memory.peak_kib.fetch_max(resident(pid), Ordering::AcqRel);
                });
            }),
        ];
        Self { name, pid, start, seen, threads }
    }

    /// The attack is over, its connections are closed: waits for the memory to be given back, prints what was seen, and fails
    /// if another client waited too long or the monitor took or kept too much memory.
    #[track_caller]
    pub fn holds(self) {
        let peak = self.seen.peak_kib.load(Ordering::Acquire).max(self.start);
        let calm = Instant::now();
        let after = loop {
            let after = resident(self.pid);
            if after <= self.start + LEFT || calm.elapsed() >= CALM {
                break after;
            }
            std::thread::sleep(Duration::from_millis(100));
        };
        self.seen.over.store(true, Ordering::Release);
        for thread in self.threads {
            thread.join().expect("every question was answered");
        }
        let longest = Duration::from_micros(self.seen.longest_micros.load(Ordering::Acquire));
        let mib = |kib: u64| format!("{:.1}", kib as f64 / 1024.0);
        println!(
            "{} longest_delay_ms={:.1} rss_start={} peak={} after={} MiB ({} answers)",
            self.name,
            longest.as_secs_f64() * 1000.0,
            mib(self.start),
            mib(peak),
            mib(after),
            self.seen.answers.load(Ordering::Acquire),
        );
        assert!(longest < longest_allowed(), "{}: another client waited {longest:?}", self.name);
        assert!(peak <= self.start + PEAK, "{}: grew from {} to {} KiB", self.name, self.start, peak);
        assert!(after <= self.start + LEFT, "{}: {} KiB are left of {} KiB", self.name, after, self.start);
    }
}

/// One `GET /health` on a connection that stays open.
fn health(stream: &mut TcpStream) {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("the connection is open");
    let (mut answer, mut piece) = (Vec::new(), [0; 4096]);
    loop {
        let n = stream.read(&mut piece).expect("an answer over HTTP");
        assert_ne!(n, 0, "the connection was closed");
        answer.extend_from_slice(&piece[..n]);
        let text = String::from_utf8_lossy(&answer).to_lowercase();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length: usize = head.lines().find_map(|l| l.strip_prefix("content-length: ")?.parse().ok()).unwrap();
        if body.len() >= length {
            return assert!(head.starts_with("http/1.1 200"), "{head}");
        }
    }
}
