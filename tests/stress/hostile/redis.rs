//! A server for the bus that answers without end, or with little that becomes much.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::bystander::Bystander;
use super::{PATIENCE, Victim};
use testkit::{eventually, figure, http};

/// How long each attack lasts: several connections, each of which may last some seconds.
const ATTACK: Duration = Duration::from_secs(6);

/// Closes every connection until it attacks; then it answers every question of every one with `start` and then `more`, again
/// and again.
struct Redis {
    port: u16,
    attacks: Arc<AtomicBool>,
    over: Arc<AtomicBool>,
    connections: Arc<AtomicU64>,
    sent: Arc<AtomicU64>,
    accepting: JoinHandle<()>,
}

impl Redis {
    fn start(start: &'static [u8], more: Vec<u8>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (over, attacks) = (Arc::<AtomicBool>::default(), Arc::<AtomicBool>::default());
        let (connections, sent) = (Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default());
        let (ends, begins, counts, sums) =
            (Arc::clone(&over), Arc::clone(&attacks), Arc::clone(&connections), Arc::clone(&sent));
        let accepting = std::thread::spawn(move || {
            let more = Arc::new(more);
            while let Ok((stream, _)) = listener.accept() {
                if ends.load(Ordering::Acquire) {
                    return;
                }
                if !begins.load(Ordering::Acquire) {
                    continue;
                }
                let (more, sums) = (Arc::clone(&more), Arc::clone(&sums));
                counts.fetch_add(1, Ordering::AcqRel);
                std::thread::spawn(move || flood(stream, start, &more, &sums));
            }
        });
        Self { port, attacks, over, connections, sent, accepting }
    }

    /// No connection is taken any more; how many there were, and how many bytes were sent.
    fn end(self) -> (u64, u64) {
        self.over.store(true, Ordering::Release);
        // The listener is closed only after it has seen one more.
        let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
        self.accepting.join().unwrap();
        (self.connections.load(Ordering::Acquire), self.sent.load(Ordering::Acquire))
    }
}

fn flood(mut stream: TcpStream, start: &[u8], more: &[u8], sent: &AtomicU64) {
    let began = Instant::now();
    let _ = stream.read(&mut [0; 1024]);
    let mut next = start;
    while stream.write_all(next).is_ok() && began.elapsed() < ATTACK {
        sent.fetch_add(next.len() as u64, Ordering::AcqRel);
        next = more;
    }
}

/// Runs one such attack against a monitor of its own.
#[track_caller]
fn attack(name: &'static str, start: &'static [u8], more: &[u8]) {
    let redis = Redis::start(start, more.repeat((64 << 10) / more.len()));
    let victim = Victim::new(&[&format!("bus.url=redis://127.0.0.1:{}", redis.port)]);
    let bystander = Bystander::beside(name, victim.port, victim.pid());
    redis.attacks.store(true, Ordering::Release);
    std::thread::sleep(ATTACK);
    eventually(PATIENCE, "the bus to say what is wrong", || {
        let bus = http::get(victim.port, "/health").unwrap().json()["components"]["bus"].clone();
        let reason = bus["reason"].as_str().or(bus["detail"].as_str()).unwrap_or_default();
        if reason.contains("in one answer") { Ok(()) } else { Err(bus.to_string()) }
    });
    let (connections, sent) = redis.end();
    figure(&format!("{name}_sent"), sent >> 20, &format!("MiB over {connections} connections"));
    assert!(connections >= 2, "it does not come back");
    bystander.holds();
}

#[test]
fn a_line_without_end_from_redis_is_cut() {
    attack("redis_line", b"+", b"x");
}

#[test]
fn a_string_of_half_a_gigabyte_from_redis_is_cut() {
    attack("redis_string", b"$536870912\r\n", b"x");
}

#[test]
fn small_values_without_end_from_redis_are_cut() {
    attack("redis_values", b"*1000000000\r\n", b"*1\r\n_\r\n");
}

#[test]
fn lines_that_seem_to_end_are_cut() {
    attack("redis_returns", b"+", b"\r");
}
