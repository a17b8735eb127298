//! Clients that stop reading: the others get everything, they themselves are reset, and nobody waits for them.

use std::io;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use testkit::daemon::{Place, metric, resident, signal};
use testkit::wire::{Poster, Sio, connect, narrow, to_end};
use testkit::{eventually, figure, http};

const HEALTHY: usize = 100;
const STALLED: usize = 20;
/// After so long without taking a byte a client is cut off (`WRITE_DEADLINE`); the rest is for a busy machine.
const DEADLINE: Duration = Duration::from_secs(10);
const SLACK: Duration = Duration::from_secs(10);
/// Enough to fill the kernel's buffers of a client that stalls, and less than its backlog may hold, so that it is the
/// deadline that ends it.
const EVENTS: usize = 150;
const EVENT_BYTES: usize = 16 << 10;

fn publish(port: u16, from: usize) {
    let mut poster = Poster::new(port).unwrap();
    let pad = "x".repeat(EVENT_BYTES);
    for n in from..from + EVENTS {
        let event = format!(r#"{{"event":"claude_event","data":{{"marker":"e-{n}-","pad":"{pad}"}}}}"#);
        assert_eq!(poster.post(&event).unwrap(), 204);
    }
}

/// Reads everything that was published, in order.
fn hears_all(mut client: Sio, from: usize) -> io::Result<Sio> {
    for n in from..from + EVENTS {
        let text = client.until("\"marker\":\"e-")?;
        if !text.contains(&format!("\"e-{n}-\"")) {
            return Err(io::Error::other(format!("not event {n}: {}", &text[..text.len().min(120)])));
        }
    }
    Ok(client)
}

#[test]
fn clients_that_stop_reading_are_reset_while_all_others_get_everything() {
    let place = Place::new();
    let port = http::free_port();
    let settings = ["server.max_clients=200", "history.on_connect=0", "server.drain_timeout=2s"];
    let mut daemon = place.serve_with(port, &settings);
    let healthy: Vec<Sio> = (0..HEALTHY).map(|_| Sio::join(connect(port).unwrap()).unwrap()).collect();
    let stall =
        || -> Vec<TcpStream> { (0..STALLED).map(|_| Sio::join(narrow(port).unwrap()).unwrap().stream).collect() };
    let mut stalled = stall();
    eventually(SLACK, "all to be there", || {
        let clients = metric(port, "clients", "") as usize;
        if clients == HEALTHY + STALLED { Ok(()) } else { Err(clients) }
    });
    let memory = resident(daemon.pid());

    let began = Instant::now();
    let readers: Vec<_> = healthy.into_iter().map(|c| std::thread::spawn(move || hears_all(c, 0))).collect();
    publish(port, 0);
    let published = began.elapsed();
    let healthy: Vec<Sio> = readers
        .into_iter()
        .map(|r| r.join().unwrap().expect("a client that reads gets everything, in order"))
        .collect();
    let with_stalled = resident(daemon.pid());
    assert_eq!(metric(port, "sessions_ended_total", "backlog"), 0.0, "the deadline is what is tested here");
    let evicted = eventually(DEADLINE + SLACK, "those that stall to be cut off", || {
        let n = metric(port, "sessions_ended_total", "stalled") as usize;
        if n == STALLED { Ok(began.elapsed()) } else { Err(n) }
    });
    assert!(evicted > DEADLINE, "cut off after {evicted:?}, before the deadline");
    assert_eq!(metric(port, "clients", "") as usize, HEALTHY);
    for stream in &mut stalled {
        let (_, reset) = to_end(stream).expect("its connection is over");
        assert!(reset, "closed instead of reset: what it did not read would pin the kernel's memory");
    }
    let after = resident(daemon.pid());
    figure("stalled_clients_cut_off_after", format!("{:.1}", evicted.as_secs_f64()), "s (deadline 10 s)");
    figure("stalled_clients_published_in", published.as_millis(), "ms");
    figure("stalled_clients_memory", format!("{:.1}", (with_stalled.saturating_sub(memory)) as f64 / 1024.0), "MiB");
    figure("stalled_clients_memory_after", format!("{:.1}", (after.saturating_sub(memory)) as f64 / 1024.0), "MiB");
    // What waits for twenty is one copy of each event, not twenty.
    let all = (EVENTS * EVENT_BYTES) >> 10;
    let grown = with_stalled.saturating_sub(memory) as usize;
    assert!(grown < 6 * all + (24 << 10), "{grown} KiB for {all} KiB of events");

    // Once more, and now the process is told to end while they stall.
    let again = stall();
    let readers: Vec<_> = healthy.into_iter().map(|c| std::thread::spawn(move || hears_all(c, EVENTS))).collect();
    publish(port, EVENTS);
    let healthy: Vec<Sio> = readers.into_iter().map(|r| r.join().unwrap().unwrap()).collect();
    assert!(metric(port, "client_backlog_bytes", "") > 0.0, "nothing waits for those that stall");
    signal(daemon.pid(), "TERM");
    let began = Instant::now();
    let closed = healthy.into_iter().filter_map(|mut c| c.until("never sent").err());
    assert_eq!(
        closed.filter(|e| e.kind() == io::ErrorKind::ConnectionAborted).count(),
        HEALTHY,
        "told by a close frame"
    );
    assert_eq!(daemon.end(SLACK), 0, "{:?}", daemon.seen);
    figure("stalled_clients_drain", began.elapsed().as_millis(), "ms (server.drain_timeout 2 s)");
    assert!(began.elapsed() < Duration::from_secs(4), "took {:?}", began.elapsed());
    drop(again);
}
