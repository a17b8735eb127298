//! `kill -9` at random moments: what was accepted is there exactly once, what was not is there at most once.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use testkit::command::Running;
use testkit::daemon::{Place, SOON, ready, signal};
use testkit::wire::{Poster, Sio, connect};
use testkit::{Random, figure, how_many, http};

/// Connections that post, and Socket.IO clients that send.
const POSTERS: usize = 3;
const SENDERS: usize = 2;
/// Events of one client that wait for their acknowledgement.
const WINDOW: u64 = 8;
/// The longest that a life lasts after it was ready.
const LIFE: Duration = Duration::from_millis(120);

/// What a client has sent, and how much of it from the start was acknowledged, each event by its marker.
#[derive(Default)]
struct Sent {
    markers: Vec<String>,
    acknowledged: Vec<String>,
}

fn event(marker: &str) -> String {
    format!(r#"{{"type":"hook","subtype":"pre_tool","timestamp":"t","session_id":"s","data":{{"marker":"{marker}"}}}}"#)
}

/// Posts until the connection breaks.
fn post(port: u16, name: &str, stop: &AtomicBool) -> Sent {
    let mut sent = Sent::default();
    while !stop.load(Ordering::Acquire) {
        let Ok(mut poster) = Poster::new(port) else { continue };
        while !stop.load(Ordering::Acquire) {
            let marker = format!("{name}-{}", sent.markers.len());
            sent.markers.push(marker.clone());
            match poster.post(&format!(r#"{{"event":"claude_event","data":{}}}"#, event(&marker))) {
                Ok(204) => sent.acknowledged.push(marker),
                // 503: it starts or stops, and says so.
                Ok(503) => {}
                Ok(other) => panic!("answered {other}"),
                Err(_) => break,
            }
        }
    }
    sent
}

/// Sends over Socket.IO, some events at a time, until the connection breaks.
fn send(port: u16, name: &str, stop: &AtomicBool) -> Sent {
    let mut sent = Sent::default();
    while !stop.load(Ordering::Acquire) {
        let Ok(mut client) = connect(port).and_then(Sio::join) else { continue };
        let mut waiting = HashMap::new();
        while !stop.load(Ordering::Acquire) {
            while (waiting.len() as u64) < WINDOW {
                let number = sent.markers.len() as u64;
                let marker = format!("{name}-{number}");
                sent.markers.push(marker.clone());
                if client.send(&format!(r#"42{number}["claude_event",{}]"#, event(&marker))).is_err() {
                    break;
                }
                waiting.insert(number, marker);
            }
            let Ok(text) = client.until("43") else { break };
            let number = text.strip_prefix("43").and_then(|rest| rest.strip_suffix("[]")?.parse().ok());
            sent.acknowledged.extend(number.and_then(|n: u64| waiting.remove(&n)));
        }
    }
    sent
}

/// What the clients know and what the store says, compared as it grows.
#[derive(Default)]
struct Book {
    /// Each marker with whether it was acknowledged and how often it was found.
    events: HashMap<String, (bool, u32)>,
    /// The number up to which the history was read.
    read: u64,
}

impl Book {
    fn add(&mut self, sent: Sent) {
        for marker in sent.markers {
            self.events.entry(marker).or_default();
        }
        for marker in sent.acknowledged {
            self.events.entry(marker).or_default().0 = true;
        }
    }

    /// Reads the history on from where it was read to.
    fn read(&mut self, port: u16) {
        loop {
            let page = http::get(port, &format!("/api/events?limit=1000&after={}", self.read)).unwrap().json();
            assert_eq!(page["success"], true, "{page}");
            let events = page["events"].as_array().unwrap();
            for event in events {
                let seq = event["seq"].as_u64().unwrap();
                assert!(seq > self.read, "{seq} comes after {}", self.read);
                self.read = seq;
                let marker = event["payload"]["data"]["marker"].as_str().unwrap();
                self.events.get_mut(marker).unwrap_or_else(|| panic!("{marker} was never sent")).1 += 1;
            }
            if events.is_empty() {
                return;
            }
        }
    }

    fn count(&self, which: impl Fn(bool, u32) -> bool) -> usize {
        self.events.values().filter(|(acknowledged, found)| which(*acknowledged, *found)).count()
    }
}

fn begin(place: &Place, port: u16, durable: bool) -> Running {
    let port = port.to_string();
    let durable = format!("events.durable={durable}");
    let all = ["history.events=100000000", "history.bytes=64GiB", "log.level=warn", &durable];
    let arguments = ["run", "--port", &port].into_iter().chain(all.into_iter().flat_map(|s| ["--set", s]));
    Running::start(&mut place.command(arguments))
}

fn killed_at_random(durable: bool) {
    let what = if durable { "kill9_durable" } else { "kill9" };
    let rounds = how_many("MPM_MONITOR_KILL_ROUNDS", 15);
    let seed = how_many("MPM_MONITOR_KILL_SEED", std::process::id() as usize) as u64;
    println!("MPM_MONITOR_KILL_SEED={seed}");
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let place = Place::new();
    let port = http::free_port();
    let mut book = Book::default();
    let (mut to_ready, mut in_start) = (Vec::new(), 0);
    let began = Instant::now();
    for round in 0..rounds {
        let mut daemon = begin(&place, port, durable);
        let stop = Arc::new(AtomicBool::new(false));
        // The clients are there from the start, and knock until they are let in.
        let client = |kind: &str, n: usize, go: fn(u16, &str, &AtomicBool) -> Sent| -> JoinHandle<Sent> {
            let (name, stop) = (format!("{kind}{n}-{round}"), Arc::clone(&stop));
            thread::spawn(move || go(port, &name, &stop))
        };
        let mut clients: Vec<_> = (0..POSTERS).map(|n| client("post", n, post)).collect();
        clients.extend((0..SENDERS).map(|n| client("send", n, send)));
        // One life in eight ends while it starts, and perhaps recovers what the one before left.
        let unready = round % 8 == 7;
        if unready {
            in_start += 1;
        } else {
            let start = Instant::now();
            ready(port, daemon.pid());
            to_ready.push(start.elapsed());
        }
        let longest = if unready { LIFE / 4 } else { LIFE };
        // The moment is what is random here; nothing is waited for.
        thread::sleep(Duration::from_micros(random.below(longest.as_micros() as u64)));
        signal(daemon.pid(), "KILL");
        assert_eq!(daemon.end(SOON), -9, "it ended by itself: {:?}", daemon.seen);
        stop.store(true, Ordering::Release);
        clients.into_iter().for_each(|c| book.add(c.join().expect("a client that did not panic")));
    }
    let daemon = begin(&place, port, durable);
    ready(port, daemon.pid());
    book.read(port);
    let (acknowledged, lost) = (book.count(|a, _| a), book.count(|a, n| a && n == 0));
    let (doubled, kept) = (book.count(|_, n| n > 1), book.count(|a, n| !a && n > 0));
    let took = began.elapsed();
    figure(&format!("{what}_rounds"), rounds, "kills");
    figure(&format!("{what}_rounds_before_ready"), in_start, "kills");
    figure(&format!("{what}_sent"), book.events.len(), "events");
    figure(&format!("{what}_acknowledged"), acknowledged, "events");
    figure(&format!("{what}_lost"), lost, "events");
    figure(&format!("{what}_doubled"), doubled, "events");
    figure(&format!("{what}_stored_unacknowledged"), kept, "events");
    figure(&format!("{what}_to_ready_p50"), format!("{:.0}", testkit::percentile(&mut to_ready, 50)), "ms");
    figure(&format!("{what}_took"), format!("{:.1}", took.as_secs_f64()), "s");
    assert!(acknowledged > rounds * 10, "only {acknowledged} events in {rounds} rounds are no load");
    assert_eq!((lost, doubled), (0, 0), "seed {seed}");
}

#[test]
fn killed_at_random_moments_nothing_accepted_is_lost_or_doubled() {
    killed_at_random(false);
}

#[test]
fn the_same_with_every_event_on_the_disk() {
    killed_at_random(true);
}
