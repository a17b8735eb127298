//! Readers that read slowly or not at all.

use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use super::PATIENCE;
use testkit::daemon::{Place, metric, resident};
use testkit::sse::Sse;
use testkit::wire::{Poster, narrow, to_end};
use testkit::{eventually, figure, http};

const HEALTHY: usize = 100;
const STALLED: usize = 10;
/// After so long without taking a byte a reader is cut off (`WRITE_DEADLINE`).
const DEADLINE: Duration = Duration::from_secs(10);
const EVENTS: usize = 150;
const EVENT_BYTES: usize = 16 << 10;

/// Reads all that was published, in order, with a pause after each if it is to be slow.
fn hears_all(mut sse: Sse, from: u64, pace: Option<Duration>) -> Sse {
    for n in 0..EVENTS as u64 {
        let told = sse.event().unwrap_or_else(|e| panic!("event {n}: {e}"));
        assert_eq!(told.json()["seq"], from + n);
        if let Some(pause) = pace {
            thread::sleep(pause);
        }
    }
    sse
}

/// Who asks for the past and does not take it holds a piece of it, not all.
#[test]
fn what_waits_for_a_reader_is_bounded_however_much_it_asked_for() {
    const ASKING: usize = 80;
    let (place, port) = (Place::new(), http::free_port());
    let daemon = place.serve_with(port, &["server.max_clients=200"]);
    let mut poster = Poster::new(port).unwrap();
    let pad = "x".repeat(EVENT_BYTES);
    // More than memory holds, so that it comes from the store.
    for _ in 0..2000 {
        let event = format!(r#"{{"event":"claude_event","data":{{"pad":"{pad}"}}}}"#);
        assert_eq!(poster.post(&event).unwrap(), 204);
    }
    // One that reads it all first: what the database takes to be read once.
    let mut reader = Sse::open(port, "?after=0", "").unwrap();
    for seq in 1..=2000_u64 {
        assert_eq!(reader.event().unwrap().id.unwrap().rsplit_once('-').unwrap().1, seq.to_string());
    }
    let memory = resident(daemon.pid());
    let asking: Vec<TcpStream> =
        (0..ASKING).map(|_| Sse::over(narrow(port).unwrap(), port, "?after=0", "").unwrap().into_socket()).collect();
    let mut before = -1.0;
    let waiting = eventually(PATIENCE, "all to have what they hold", || {
        thread::sleep(Duration::from_millis(100));
        let now = metric(port, "client_backlog_bytes", "");
        if std::mem::replace(&mut before, now) == now { Ok(now) } else { Err(now) }
    });
    let grown = resident(daemon.pid()).saturating_sub(memory);
    figure("stream_asked", format!("{:.1}", waiting / 1024.0), "KiB wait for 80 readers that asked for 32 MiB each");
    figure("stream_asked_memory", grown, "KiB more for them");
    // Two pieces of 128 KiB and what the connection holds, for each.
    assert!(grown < ASKING as u64 * 512, "{grown} KiB");
    drop(asking);
}

#[test]
fn a_hundred_read_everything_a_slow_one_too_and_who_reads_nothing_is_reset() {
    let (place, port) = (Place::new(), http::free_port());
    let daemon = place.serve_with(port, &["server.max_clients=200"]);
    let healthy: Vec<Sse> = (0..HEALTHY).map(|_| Sse::open(port, "", "").unwrap()).collect();
    let slow = Sse::over(narrow(port).unwrap(), port, "", "").unwrap();
    let mut stalled: Vec<TcpStream> =
        (0..STALLED).map(|_| Sse::over(narrow(port).unwrap(), port, "", "").unwrap().into_socket()).collect();
    assert_eq!(metric(port, "streams", "") as usize, HEALTHY + STALLED + 1);
    let memory = resident(daemon.pid());
    let began = Instant::now();
    let readers: Vec<_> = healthy.into_iter().map(|s| thread::spawn(move || hears_all(s, 1, None))).collect();
    // Longer than the deadline in all: it is slow, but it takes something all the time.
    let slow = thread::spawn(move || hears_all(slow, 1, Some(Duration::from_millis(80))));
    let mut poster = Poster::new(port).unwrap();
    let pad = "x".repeat(EVENT_BYTES);
    for _ in 0..EVENTS {
        let event = format!(r#"{{"event":"claude_event","data":{{"pad":"{pad}"}}}}"#);
        assert_eq!(poster.post(&event).unwrap(), 204);
    }
    let published = began.elapsed();
    let healthy: Vec<Sse> = readers.into_iter().map(|r| r.join().unwrap()).collect();
    let heard = began.elapsed();
    let grown = resident(daemon.pid()).saturating_sub(memory);
    let evicted = eventually(DEADLINE + PATIENCE, "those that read nothing to be cut off", || {
        let n = metric(port, "streams_stalled_total", "") as usize;
        if n == STALLED { Ok(began.elapsed()) } else { Err(n) }
    });
    assert!(evicted > DEADLINE, "cut off after {evicted:?}, before the deadline");
    for stream in &mut stalled {
        let (_, reset) = to_end(stream).expect("its connection is over");
        assert!(reset, "closed instead of reset");
    }
    let slow = slow.join().unwrap();
    let took = began.elapsed();
    assert!(took > DEADLINE, "the slow one was not slow: {took:?}");
    assert_eq!(metric(port, "streams", "") as usize, HEALTHY + 1);
    figure("stream_published", published.as_millis(), format!("ms, {EVENTS} events of 16 KiB to 111 readers").as_str());
    figure("stream_heard", heard.as_millis(), "ms until 100 readers had all of them");
    figure("stream_memory", grown, "KiB more while 10 readers took nothing");
    figure("stream_cut_off", format!("{:.1}", evicted.as_secs_f64()), "s (deadline 10 s)");
    figure("stream_slow", format!("{:.1}", took.as_secs_f64()), "s until the slow reader had all of them");
    // What waits is shared, and bounded for each.
    assert!(grown < (60 << 10), "{grown} KiB");
    drop((healthy, slow));
    eventually(PATIENCE, "all to be gone", || match metric(port, "streams", "") {
        0.0 => Ok(()),
        n => Err(n),
    });
}
