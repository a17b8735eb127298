//! Many clients that do nothing: what each of them costs, that all of them hear, and that nothing of them stays.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use testkit::daemon::{Place, descriptors, metric, resident};
use testkit::wire::{Poster, Sio, code, connect, connect_to, status};
use testkit::{eventually, figure, how_many, http, skip};

/// After a crowd has left, everything must be back within this.
const PATIENCE: Duration = Duration::from_secs(30);
/// What a client may cost, bytes: its session, its task and its buffers.
const PER_CLIENT: u64 = 24 << 10;
/// What the allocator may keep of the memory of clients that are gone, as a part of what they took.
const KEPT: f64 = 0.35;

/// Descriptors this process and its children may open; both ends of each connection are on this machine.
fn descriptor_limit() -> u64 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

#[test]
fn a_crowd_of_idle_clients_hears_an_event_and_leaves_nothing_behind() {
    let wanted = how_many("MPM_MONITOR_IDLE_CLIENTS", 2_000);
    if descriptor_limit() < wanted as u64 + 200 {
        return skip("the limit of open files is too low for that many clients (ulimit -n)");
    }
    let place = Place::new();
    let port = http::free_port();
    let (clients, connections) =
        (format!("server.max_clients={wanted}"), format!("server.max_connections={}", wanted + 100));
    // No pings: they would be most of what is measured here.
    let daemon = place.serve_with(port, &[&clients, &connections, "socketio.ping_interval=1h", "log.level=warn"]);
    let pid = daemon.pid();
    // What every process takes once, however many clients come after.
    drop((0..50).map(|_| Sio::join(connect(port).unwrap()).unwrap()).collect::<Vec<_>>());
    let gone = || if metric(port, "sessions", "") == 0.0 { Ok(()) } else { Err("sessions are left") };
    eventually(PATIENCE, "the first clients to be gone", gone);
    let (memory, files) = (resident(pid), descriptors(pid));

    let began = Instant::now();
    let both = [IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(Ipv6Addr::LOCALHOST)];
    let addresses = if connect_to(both[1], port).is_ok() { &both[..] } else { &both[..1] };
    let mut all: Vec<Sio> = Vec::with_capacity(wanted);
    for n in 0..wanted {
        let mut client = Sio::join(connect_to(addresses[n % addresses.len()], port).unwrap()).unwrap();
        client.until("42[\"history\"").expect("the greeting");
        all.push(client);
    }
    let took = began.elapsed();
    eventually(PATIENCE, "all clients to be counted", || {
        let clients = metric(port, "clients", "");
        if clients as usize == wanted { Ok(()) } else { Err(clients) }
    });
    let (crowded, open) = (resident(pid), descriptors(pid));
    let each = (crowded.saturating_sub(memory) << 10) / wanted as u64;

    let began = Instant::now();
    assert_eq!(Poster::new(port).unwrap().post(r#"{"event":"x","data":{"marker":"for all"}}"#).unwrap(), 204);
    let mut heard = 0;
    for client in &mut all {
        heard += usize::from(client.until("for all").is_ok());
    }
    let told = began.elapsed();
    assert_eq!(heard, wanted, "who is connected hears every event");

    drop(all);
    eventually(PATIENCE, "all clients to be gone", gone);
    eventually(PATIENCE, "the descriptors to be closed", || {
        let now = descriptors(pid);
        if now <= files + 2 { Ok(()) } else { Err(format!("{now}, {files} before")) }
    });
    // The last of them still holds a little when it is counted as gone.
    let left = eventually(PATIENCE, "the memory to be given back", || {
        let now = resident(pid);
        let grown = now.saturating_sub(memory) as f64;
        let bound = (crowded.saturating_sub(memory) as f64 * KEPT).max((8 << 10) as f64);
        if grown < bound { Ok(now) } else { Err(format!("{now} KiB, {memory} before, {crowded} with all of them")) }
    });
    figure("idle_clients", wanted, "clients");
    figure("idle_clients_connect", format!("{:.1}", took.as_secs_f64()), "s");
    figure("idle_clients_memory_each", format!("{:.1}", each as f64 / 1024.0), "KiB");
    figure("idle_clients_memory_all", format!("{:.1}", (crowded - memory) as f64 / 1024.0), "MiB");
    figure("idle_clients_memory_kept_after", format!("{:.1}", left.saturating_sub(memory) as f64 / 1024.0), "MiB");
    figure("idle_clients_descriptors", open, "descriptors");
    figure("idle_clients_descriptors_after", descriptors(pid) as i64 - files as i64, "more than before");
    figure("idle_clients_all_heard_after", told.as_millis(), "ms");
    assert!(each < PER_CLIENT, "{each} bytes a client");
}

/// The review's own test, with the limits as they are out of the box.
#[test]
fn a_hundred_clients_fit_and_the_next_reads_why_it_does_not() {
    let place = Place::new();
    let port = http::free_port();
    let _daemon = place.serve(port);
    let mut all: Vec<Sio> = (0..100).map(|_| Sio::join(connect(port).unwrap()).unwrap()).collect();
    let refused = Sio::join(connect(port).unwrap()).unwrap_err().to_string();
    assert_eq!((status(&refused), code(&refused).as_str()), (503, "too_many_clients"), "{refused}");
    assert!(refused.contains("max_clients"), "no way out is named: {refused}");
    let polled = http::get(port, "/socket.io/?EIO=4&transport=polling").unwrap();
    assert_eq!((polled.status, polled.json()["code"].as_str()), (503, Some("too_many_clients")));
    assert_eq!(metric(port, "clients_refused_total", ""), 2.0);
    assert_eq!(http::post_event(port, "for a hundred").unwrap().status, 204);
    for client in &mut all {
        client.until("for a hundred").expect("every one of the hundred hears it");
    }
    all.pop();
    let room = || Sio::join(connect(port).unwrap()).map(drop);
    eventually(PATIENCE, "a place that was given back", room);
    figure("default_limit_clients", 100, "connected, the next refused with 503");
}
