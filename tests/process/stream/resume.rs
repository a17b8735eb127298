//! Readers that are cut off, and come back: none misses an event, none sees one twice, and what is gone is told.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use super::{PATIENCE, event, post};
use testkit::command::Running;
use testkit::daemon::{Place, SOON, ready, signal};
use testkit::sse::Sse;
use testkit::wire::Poster;
use testkit::{eventually, figure, how_many, http};

/// Readers of everything; half as many read one session's events alone.
const READERS: usize = 8;

/// What one reader has seen over all its visits.
struct Seen {
    /// The numbers that events carry, in the order in which they came.
    numbers: Vec<u64>,
    visits: usize,
}

/// Reads until it is told to stop and has seen `goal`; comes back whenever it is cut off, with the id it had last.
fn reader(port: u16, query: &str, goal: &AtomicU64) -> Seen {
    let mut seen = Seen { numbers: Vec::new(), visits: 0 };
    let mut last = String::new();
    let began = Instant::now();
    loop {
        assert!(began.elapsed() < 4 * PATIENCE, "has {} events, not {goal:?}", seen.numbers.len());
        // The first visit asks for everything.
        let opened = match &*last {
            "" => Sse::open(port, query, "Last-Event-ID: 0\r\n"),
            last => Sse::resume(port, query, last),
        };
        let Ok(mut sse) = opened else {
            thread::sleep(Duration::from_millis(3));
            continue;
        };
        sse.patience(Duration::from_millis(200));
        seen.visits += 1;
        loop {
            match sse.event() {
                Ok(told) if told.name == "server_restarting" => {}
                Ok(told) => {
                    assert_ne!(told.name, "gap", "{told:?}");
                    let payload = told.json();
                    seen.numbers.push(payload["seq"].as_u64().unwrap());
                    last.clone_from(&sse.last_id);
                }
                Err(e) if matches!(e.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {
                    if seen.numbers.last().is_some_and(|n| *n >= goal.load(Ordering::Acquire)) {
                        return seen;
                    }
                    // A read that was given up in the middle leaves half a chunk behind.
                    break;
                }
                Err(_) => break,
            }
        }
    }
}

#[test]
fn killed_under_load_readers_that_come_back_see_every_event_once_and_in_order() {
    let rounds = how_many("MPM_MONITOR_STREAM_KILLS", 6);
    let (place, port) = (Place::new(), http::free_port());
    let mut daemon = place.serve_with(port, &["server.max_clients=500"]);
    // Until it is known, nobody has seen enough.
    let goal = Arc::new(AtomicU64::new(u64::MAX));
    let readers: Vec<_> = (0..READERS + READERS / 2)
        .map(|n| {
            let goal = Arc::clone(&goal);
            let query = if n < READERS { "" } else { "?session=odd" };
            thread::spawn(move || (query, reader(port, query, &goal)))
        })
        .collect();
    let stop = Arc::new(AtomicBool::new(false));
    let posters: Vec<_> = ["even", "odd"]
        .map(|session| {
            let stop = Arc::clone(&stop);
            thread::spawn(move || {
                let (mut accepted, mut number) = (0_u64, 0);
                while !stop.load(Ordering::Acquire) {
                    let Ok(mut poster) = Poster::new(port) else { continue };
                    while !stop.load(Ordering::Acquire) {
                        number += 1;
                        match poster.post(&event("pre_tool", session, number)) {
                            Ok(204) => accepted += 1,
                            Ok(_) => {}
                            Err(_) => break,
                        }
                        // Some hundred a second each, so that readers in a debug build keep up.
                        thread::sleep(Duration::from_millis(1));
                    }
                }
                accepted
            })
        })
        .into();
    let mut pause = 150;
    for _ in 0..rounds {
        thread::sleep(Duration::from_millis(pause));
        pause = (pause * 7 + 31) % 300 + 50;
        signal(daemon.pid(), "KILL");
        daemon.end(SOON);
        let settings = ["run", "--port", &port.to_string(), "--set", "server.max_clients=500"];
        daemon = Running::start(&mut place.command(settings));
        ready(port, daemon.pid());
    }
    thread::sleep(Duration::from_millis(200));
    stop.store(true, Ordering::Release);
    let accepted: u64 = posters.into_iter().map(|p| p.join().unwrap()).sum();
    // The last ones, so that both kinds of reader know that they are at the end.
    let mut poster = Poster::new(port).unwrap();
    post(&mut poster, "pre_tool", "odd", 0);
    let (mut all, mut odd, mut after) = (Vec::new(), Vec::new(), 0);
    loop {
        let page = http::get(port, &format!("/api/events?limit=1000&after={after}")).unwrap().json();
        for event in page["events"].as_array().unwrap() {
            let seq = event["seq"].as_u64().unwrap();
            all.push(seq);
            if event["payload"]["session_id"] == "odd" {
                odd.push(seq);
            }
        }
        after = page["next"].as_u64().unwrap();
        if after == page["last_seq"] {
            break;
        }
    }
    assert_eq!(all.last(), odd.last());
    goal.store(*all.last().unwrap(), Ordering::Release);
    let mut visits = 0;
    for reader in readers {
        let (query, seen) = reader.join().unwrap();
        let expected = if query.is_empty() { &all } else { &odd };
        assert!(seen.numbers == *expected, "{query:?}: {} events, not {}", seen.numbers.len(), expected.len());
        visits += seen.visits;
    }
    assert!(all.len() as u64 > accepted && accepted > 0);
    figure("stream_kills", rounds, "kills");
    figure("stream_kills_events", all.len(), "events, each once and in order to each of 12 readers");
    figure("stream_kills_visits", visits, "visits");
}

#[test]
fn what_is_kept_no_more_and_what_is_of_another_store_is_told() {
    let (place, port) = (Place::new(), http::free_port());
    let daemon = place.serve_with(port, &["history.events=50"]);
    let mut poster = Poster::new(port).unwrap();
    let oldest = eventually(PATIENCE, "old events to be removed", || {
        (0..200).for_each(|n| post(&mut poster, "pre_tool", "s", n));
        let oldest = http::get(port, "/api/events?limit=1").unwrap().json()["oldest_seq"].as_u64().unwrap();
        if oldest > 100 { Ok(oldest) } else { Err(oldest) }
    });
    // A new process, whose memory goes no further back than the store.
    drop((poster, daemon));
    let _daemon = place.serve_with(port, &["history.events=50"]);
    let page = http::get(port, "/api/events?limit=1").unwrap().json();
    let (last, epoch) = (page["last_seq"].as_u64().unwrap(), page["epoch"].as_str().unwrap().to_owned());
    assert!(page["oldest_seq"].as_u64().unwrap() >= oldest);
    let oldest = page["oldest_seq"].as_u64().unwrap();

    let read_all = |mut sse: Sse| {
        let gap = sse.event().unwrap();
        assert_eq!((gap.name.as_str(), gap.id.clone()), ("gap", Some(format!("{epoch}-{}", oldest - 1))));
        for seq in oldest..=last {
            assert_eq!(sse.event().unwrap().json()["seq"], json!(seq));
        }
        gap.json()
    };
    let told = read_all(Sse::resume(port, "", &format!("{epoch}-10")).unwrap());
    let expected = json!({"reason": "pruned", "from": 10, "to": oldest - 1, "missed": oldest - 11, "epoch": epoch});
    assert_eq!(told, expected);
    let told = read_all(Sse::resume(port, "?after=1", "0123456789abcdef-10").unwrap());
    assert_eq!((&told["reason"], &told["from"]), (&json!("other_store"), &json!(0)));
    let told = read_all(Sse::open(port, "?after=999999999", "").unwrap());
    assert_eq!(told["reason"], "unknown_number");

    // Nothing is missing for who has the one before the oldest.
    let mut sse = Sse::resume(port, "", &format!("{epoch}-{}", oldest - 1)).unwrap();
    assert_eq!(sse.event().unwrap().json()["seq"], json!(oldest));
}

#[test]
fn at_the_end_readers_are_told_and_their_streams_end_in_good_order() {
    let (place, port) = (Place::new(), http::free_port());
    let mut daemon = place.serve_with(port, &["server.drain_timeout=5s"]);
    let mut readers: Vec<Sse> = (0..20).map(|_| Sse::open(port, "", "").unwrap()).collect();
    post(&mut Poster::new(port).unwrap(), "pre_tool", "s", 0);
    let began = Instant::now();
    signal(daemon.pid(), "TERM");
    for sse in &mut readers {
        assert_eq!(sse.event().unwrap().json()["seq"], 1);
        let told = sse.event().unwrap();
        assert_eq!((told.name.as_str(), told.id.as_ref()), ("server_restarting", None));
        assert_eq!(told.json()["reason"], "shutdown");
        assert!(sse.event().is_err() && sse.ended, "cut off in the middle");
    }
    assert_eq!(daemon.end(SOON), 0, "{:?}", daemon.seen);
    figure("stream_drain", began.elapsed().as_millis(), "ms with 20 readers");
    assert!(began.elapsed() < Duration::from_secs(4), "took {:?}", began.elapsed());
    let _daemon = place.serve(port);
    let mut poster = Poster::new(port).unwrap();
    post(&mut poster, "pre_tool", "s", 1);
    for sse in readers {
        let mut back = Sse::resume(port, "", &sse.last_id).unwrap();
        assert_eq!(back.event().unwrap().json()["seq"], 2);
    }
}
