//! Over Socket.IO: sessions that nobody polls, attachments that never come, names and numbers without end.

use std::io::Write;
use std::time::{Duration, Instant};

use super::{PATIENCE, Victim};
use testkit::daemon::metric;
use testkit::wire::{Sio, connect, frame, status, to_end};
use testkit::{eventually, figure, http};

const POLLING: &str = "/socket.io/?EIO=4&transport=polling";

/// Ten thousand handshakes and not one poll: as many sessions as may be, each gone after its deadline.
#[test]
fn sessions_that_nobody_polls_are_bounded_and_reaped() {
    let victim = Victim::new(&["socketio.ping_interval=2s", "socketio.ping_timeout=2s"]);
    let (mut opened, mut refused) = (0, 0);
    let began = Instant::now();
    let mut stream = connect(victim.port).unwrap();
    for _ in 0..10_000 {
        let request = format!("GET {POLLING} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        match answer(&mut stream) {
            200 => opened += 1,
            503 => refused += 1,
            other => panic!("{other}"),
        }
        assert!(metric_sometimes(victim.port, opened + refused) <= 100.0);
    }
    drop(stream);
    figure("hostile_sessions_opened", opened, &format!("of 10 000 in {:.1} s", began.elapsed().as_secs_f64()));
    assert!(opened >= 100 && refused > 0 && opened < 10_000);
    eventually(PATIENCE, "the sessions to be reaped", || match metric(victim.port, "sessions", "") {
        0.0 => Ok(()),
        n => Err(n),
    });
    Sio::join(connect(victim.port).unwrap()).expect("there is room again");
    victim.survived("unpolled_sessions", 0, 16);
}

/// Looks at every five hundredth.
fn metric_sometimes(port: u16, n: u32) -> f64 {
    if n.is_multiple_of(500) { metric(port, "sessions", "") } else { 0.0 }
}

/// The status of one answer on a kept-alive connection, its body read.
fn answer(stream: &mut std::net::TcpStream) -> u16 {
    use std::io::Read;
    let (mut bytes, mut piece) = (Vec::new(), [0; 4096]);
    loop {
        let n = stream.read(&mut piece).unwrap();
        assert_ne!(n, 0, "closed");
        bytes.extend_from_slice(&piece[..n]);
        let text = String::from_utf8_lossy(&bytes).to_lowercase();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length: usize = head.lines().find_map(|l| l.strip_prefix("content-length: ")?.parse().ok()).unwrap();
        if body.len() >= length {
            return status(&text);
        }
    }
}

/// What the end of a session looks like: a close frame with this code, or the connection's end (0).
fn end_of(mut client: Sio) -> u16 {
    loop {
        match client.text() {
            Ok(_) => {}
            Err(e) if e.kind() == std::io::ErrorKind::ConnectionAborted => return e.to_string().parse().unwrap_or(0),
            Err(e) => {
                assert!(e.kind() != std::io::ErrorKind::WouldBlock, "the session goes on");
                return 0;
            }
        }
    }
}

#[test]
fn packets_that_nobody_means_end_the_session() {
    let victim = Victim::new(&["socketio.ping_interval=2s", "socketio.ping_timeout=3s"]);
    let deep = format!("42[\"claude_event\",{}{}]", "[".repeat(100_000), "]".repeat(100_000));
    let malformed: [(&str, String); 10] = [
        ("a billion attachments", "451000000000-[\"x\",{\"_placeholder\":true,\"num\":0}]".into()),
        ("an acknowledgement beyond u64", "4218446744073709551616[\"claude_event\",{}]".into()),
        ("an acknowledgement without end", format!("42{}[\"x\"]", "9".repeat(500_000))),
        ("an attachment count without end", format!("45{}-[\"x\"]", "9".repeat(500_000))),
        ("no array", "42{\"a\":1}".into()),
        ("a name that is no string", "42[{},1]".into()),
        ("an unclosed array", format!("42[\"x\",{}", "[".repeat(500_000))),
        ("no packet type", "4z".into()),
        ("no engine packet", "x".into()),
        ("half a character", "42[\"\\ud800\"]".into()),
    ];
    for (what, packet) in malformed {
        let mut client = Sio::join(connect(victim.port).unwrap()).unwrap();
        client.send(&packet).unwrap();
        assert_eq!(end_of(client), 1002, "{what}");
    }
    // Frames that break WebSocket itself.
    for (what, bytes, code) in [
        ("text that is not UTF-8", frame(0x81, b"42[\"\xff\xfe\"]"), 1007),
        ("a reserved bit", frame(0xf1, b"x"), 1002),
        ("an unknown opcode", frame(0x83, b"x"), 1002),
        ("a continuation of nothing", frame(0x80, b"x"), 1002),
        ("a fragmented ping", frame(0x09, b"x"), 1002),
        ("no mask", vec![0x81, 1, b'3'], 1002),
        ("a frame of 8 EiB", [&[0x81, 0xff][..], &(1_u64 << 62).to_be_bytes(), &[0; 4]].concat(), 1009),
        ("a message over the limit", frame(0x81, &vec![b'4'; 1_000_001]), 1009),
    ] {
        let mut client = Sio::join(connect(victim.port).unwrap()).unwrap();
        // What is too large is refused before all of it is there.
        let _ = client.stream.write_all(&bytes);
        assert_eq!(end_of(client), code, "{what}");
    }
    // Deep data is valid JSON: refused as an event, and no reason to end the session.
    let mut client = Sio::join(connect(victim.port).unwrap()).unwrap();
    client.send(&deep).unwrap();
    client.until("hook:error").expect("a refusal");
    // A namespace with a name of a megabyte is refused like any other.
    let mut named = Sio::open(connect(victim.port).unwrap()).unwrap();
    named.send(&format!("40/{},", "n".repeat(999_000))).unwrap();
    assert!(named.until("Invalid namespace").unwrap().starts_with("44/nnn"));
    // An attachment that never comes: the session lives by its pings, and holds what it sent.
    let mut waiting: Vec<Sio> = (0..80).map(|_| Sio::join(connect(victim.port).unwrap()).unwrap()).collect();
    for client in &mut waiting {
        let pad = "x".repeat(10_000);
        client.send(&format!("4564-[\"x\",\"{pad}\",{{\"_placeholder\":true,\"num\":0}}]")).unwrap();
        client.stream.write_all(&frame(0x82, &[0; 1000])).unwrap();
    }
    // A text packet in its place breaks the protocol.
    waiting[0].send("42[\"x\"]").unwrap();
    assert_eq!(end_of(waiting.remove(0)), 1002, "an event in an attachment's place");
    drop((waiting, named, client));
    victim.survived("packets", 0, 24);
}

/// A client that goes without a word, or says half of its goodbye, is gone after its ping's deadline.
#[test]
fn half_open_sockets_do_not_stay() {
    let victim = Victim::new(&["socketio.ping_interval=1s", "socketio.ping_timeout=1s"]);
    let silent: Vec<Sio> = (0..50).map(|_| Sio::join(connect(victim.port).unwrap()).unwrap()).collect();
    let began = Instant::now();
    let half: Vec<Sio> = (0..40).map(|_| Sio::join(connect(victim.port).unwrap()).unwrap()).collect();
    for client in &half {
        client.stream.shutdown(std::net::Shutdown::Write).unwrap();
    }
    eventually(PATIENCE, "all of them to be gone", || match metric(victim.port, "sessions", "") {
        0.0 => Ok(()),
        n => Err(n),
    });
    assert_eq!(metric(victim.port, "sessions_ended_total", "ping_timeout"), 50.0);
    figure("hostile_half_open_gone_after", format!("{:.1}", began.elapsed().as_secs_f64()), "s (ping 1 s + 1 s)");
    assert!(began.elapsed() < Duration::from_secs(10));
    for client in silent {
        let mut stream = client.stream;
        assert!(to_end(&mut stream).is_ok(), "its connection is still open");
    }
    drop(half);
    victim.survived("half_open", 0, 8);
}

/// How many events were stored, once no more are on their way.
fn settled(victim: &Victim) -> u64 {
    let mut last = 0.0;
    let stored = eventually(PATIENCE, "the last event to be stored", || {
        std::thread::sleep(Duration::from_millis(200));
        let before = std::mem::replace(&mut last, metric(victim.port, "last_seq", ""));
        let waiting = metric(victim.port, "store_queue_events", "");
        if before == last && waiting == 0.0 { Ok(last) } else { Err(format!("{last}, {waiting} wait")) }
    });
    stored as u64 - 50
}

/// Everybody asks for the past and nobody reads it.
#[test]
fn histories_that_nobody_reads_are_bounded() {
    let victim = Victim::new(&["history.on_connect=0"]);
    let large = format!(r#"{{"event":"x","data":{{"pad":"{}"}}}}"#, "x".repeat(500_000));
    for _ in 0..12 {
        assert_eq!(http::request(victim.port, "POST", "/api/events", Some(&large)).unwrap().status, 204);
    }
    let greedy: Vec<Sio> = (0..100)
        .map(|_| {
            let mut client = Sio::join(connect(victim.port).unwrap()).unwrap();
            for _ in 0..20 {
                let _ = client.send("42[\"get_history\",{\"limit\":100}]");
            }
            client
        })
        .collect();
    let began = Instant::now();
    let mut most = 0;
    while began.elapsed() < Duration::from_secs(4) {
        assert_eq!(http::get(victim.port, "/ready").unwrap().status, 200);
        most = most.max(victim.growth());
    }
    figure(
        "hostile_unread_histories_held",
        format!("{:.1}", most as f64 / 1024.0),
        "MiB for 100 clients and 6 MB each",
    );
    assert!(most < 192 << 10, "{most} KiB");
    drop(greedy);
    victim.survived("unread_histories", 12, 96);
}

/// One request with as many events as fit into it.
#[test]
fn a_polling_request_full_of_events_costs_no_multiple_of_itself() {
    let victim = Victim::new(&[]);
    let open = http::get(victim.port, POLLING).unwrap();
    let sid: serde_json::Value = serde_json::from_str(&open.body[1..]).unwrap();
    let path = format!("{POLLING}&sid={}", sid["sid"].as_str().unwrap());
    assert_eq!(http::request(victim.port, "POST", &path, Some("40")).unwrap().status, 200);
    let packets = vec![r#"42["claude_event",{}]"#; 40_000].join("\u{1e}");
    let mut stream = connect(victim.port).unwrap();
    let head = format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n", packets.len());
    stream.write_all(&[head.as_bytes(), packets.as_bytes()].concat()).unwrap();
    // Asked meanwhile; between two answers the server works on those events.
    let began = Instant::now();
    let (mut most, mut worst) = (0, Duration::ZERO);
    while began.elapsed() < Duration::from_secs(3) {
        let start = Instant::now();
        assert_eq!(http::get(victim.port, "/health").unwrap().status, 200);
        worst = worst.max(start.elapsed());
        most = most.max(victim.growth());
    }
    drop(stream);
    let stored = settled(&victim);
    figure("hostile_polling_burst_stored", stored, "events of one request of 880 kB");
    figure("hostile_polling_burst_held", format!("{:.1}", most as f64 / 1024.0), "MiB at most");
    figure("hostile_polling_burst_others_wait", worst.as_millis(), "ms at most");
    assert!(most < 64 << 10, "{most} KiB");
    victim.survived("polling_burst", stored, 64);
}

/// Events of a megabyte as fast as they go: who sends faster than events are kept waits.
#[test]
fn a_flood_of_large_events_is_held_back() {
    let victim = Victim::new(&["history.bytes=64MiB"]);
    let pad = "x".repeat(900_000);
    let event = frame(0x81, format!("42[\"claude_event\",{{\"pad\":\"{pad}\"}}]").as_bytes());
    let senders: Vec<_> = (0..8)
        .map(|_| {
            let (event, port) = (event.clone(), victim.port);
            std::thread::spawn(move || {
                let client = Sio::open(connect(port).unwrap()).unwrap();
                let mut stream = client.stream;
                // Or its own events would be too much for it.
                let mut reader = stream.try_clone().unwrap();
                std::thread::spawn(move || std::io::copy(&mut reader, &mut std::io::sink()));
                stream.set_write_timeout(Some(Duration::from_secs(2))).unwrap();
                let _ = stream.write_all(&frame(0x81, b"40"));
                let began = Instant::now();
                let mut sent = 0;
                while began.elapsed() < Duration::from_secs(5) && stream.write_all(&event).is_ok() {
                    sent += 1;
                }
                let _ = stream.shutdown(std::net::Shutdown::Both);
                sent
            })
        })
        .collect();
    let began = Instant::now();
    let mut most = 0;
    while began.elapsed() < Duration::from_secs(5) {
        most = most.max(victim.growth());
        assert_eq!(http::get(victim.port, "/ready").unwrap().status, 200);
    }
    let sent: usize = senders.into_iter().map(|s| s.join().unwrap()).sum();
    figure("hostile_large_events_sent", sent, "events of 0.9 MB by 8 clients");
    figure("hostile_large_events_held", format!("{:.1}", most as f64 / 1024.0), "MiB at most");
    assert!(most < 192 << 10, "{most} KiB");
    let stored = settled(&victim);
    victim.survived("large_events", stored, 192);
}
