//! Over HTTP: foreign pages' requests as bytes, slow and endless ones, smuggled ones, floods.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use super::{PATIENCE, Victim};
use testkit::daemon::metric;
use testkit::wire::{code, connect, raw, status, to_end};
use testkit::{eventually, figure, http};

fn ask(port: u16, request: &str) -> String {
    raw(port, request.as_bytes()).expect("an end").0
}

#[test]
fn requests_of_foreign_pages_are_refused_on_every_path() {
    let victim = Victim::new(&[]);
    let event = r#"{"event":"x","data":{}}"#;
    let post = |host: &str, more: &str| {
        let length = event.len();
        let head =
            format!("POST /api/events HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Length: {length}\r\n");
        ask(victim.port, &format!("{head}{more}\r\n{event}"))
    };
    // A simple request, as fetch with no-cors or a form sends it: no preflight asks before.
    for kind in ["text/plain;charset=UTF-8", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"] {
        let answer = post("localhost", &format!("Origin: http://evil.example\r\nContent-Type: {kind}\r\n"));
        assert_eq!((status(&answer), code(&answer).as_str()), (403, "origin_not_allowed"), "{kind}");
        assert!(!answer.to_lowercase().contains("access-control-allow"), "{answer}");
    }
    for origin in ["null", "http://localhost.evil.example", "http://evil.example:8765", "http://localhost@evil.example"]
    {
        assert_eq!(status(&post("localhost", &format!("Origin: {origin}\r\n"))), 403, "{origin}");
    }
    for host in ["evil.example", "evil.example:8765", "127.0.0.1.evil.example", "127.1", "0.0.0.0", "0x7f000001", ""] {
        assert_eq!(status(&post(host, "")), 421, "the name {host:?} was made to resolve to this machine");
        let read = ask(victim.port, &format!("GET /api/events HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"));
        assert_eq!((status(&read), code(&read).as_str()), (421, "host_not_allowed"), "{host}");
        assert!(!read.contains("payload"), "{read}");
    }
    let upgrade = "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n\
                   Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
                   Origin: http://evil.example\r\n\r\n";
    let mut socket = connect(victim.port).unwrap();
    socket.write_all(upgrade.as_bytes()).unwrap();
    socket.shutdown(Shutdown::Write).unwrap();
    assert_eq!(status(&to_end(&mut socket).unwrap().0), 403, "a WebSocket knows no preflight at all");
    victim.survived("foreign_pages", 0, 8);
}

#[test]
fn no_path_leads_out_of_what_is_served() {
    let victim = Victim::new(&[]);
    let paths = [
        "/../../../../etc/passwd",
        "/..%2f..%2f..%2fetc%2fpasswd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/....//....//etc/passwd",
        "/..%252f..%252fetc/passwd",
        "/..\\..\\etc\\passwd",
        "//etc/passwd",
        "/dashboard.js/../../../etc/passwd",
        "/static/..%2f..%2f..%2f..%2fetc%2fpasswd",
        "/static/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
        "/_app/../../../../etc/passwd",
        "/_app/%2fetc%2fpasswd",
        "/%00/etc/passwd",
        "/api/config/../../etc/passwd",
        "/etc/passwd%00.js",
        "/dashboard.js%00",
    ];
    for path in paths {
        let answer = ask(victim.port, &format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"));
        assert!(matches!(status(&answer), 400 | 404), "{path}: {answer}");
        assert!(!answer.contains("root:"), "{path}: {answer}");
    }
    victim.survived("traversal", 0, 8);
}

/// Heads that never end: each is cut at the deadline, and nobody waits for them meanwhile.
#[test]
fn slow_heads_are_cut_while_others_are_served() {
    let victim = Victim::new(&["server.header_timeout=2s"]);
    let began = Instant::now();
    let slow: Vec<TcpStream> = (0..500)
        .map(|_| {
            let mut stream = connect(victim.port).unwrap();
            stream.write_all(b"POST /api/events HTTP/1.1\r\nHost: localhost\r\nX-Slow: ").unwrap();
            stream
        })
        .collect();
    let mut worst = Duration::ZERO;
    let mut asked = 0;
    // A byte of each now and then: what counts is the whole head, not the time between two bytes.
    while began.elapsed() < Duration::from_millis(1500) {
        for stream in &slow {
            let _ = (&*stream).write(b"x");
        }
        let start = Instant::now();
        assert_eq!(http::get(victim.port, "/health").unwrap().status, 200);
        worst = worst.max(start.elapsed());
        asked += 1;
    }
    for mut stream in slow {
        let (answer, _) = to_end(&mut stream).expect("it is cut");
        assert!(matches!(status(&answer), 0 | 408), "{answer}");
    }
    figure("hostile_slow_heads_cut_after", format!("{:.1}", began.elapsed().as_secs_f64()), "s (header_timeout 2 s)");
    figure("hostile_slow_heads_others_wait", worst.as_millis(), format!("ms at most, of {asked}").as_str());
    assert!(began.elapsed() < Duration::from_secs(15) && worst < Duration::from_secs(1), "{worst:?}");
    victim.survived("slow_heads", 0, 16);
}

/// Bodies that never end hold what was sent of them, and no more than they are allowed.
#[test]
fn slow_and_endless_bodies_are_bounded() {
    let victim = Victim::new(&[]);
    let mut slow: Vec<TcpStream> = Vec::new();
    for _ in 0..200 {
        let mut stream = connect(victim.port).unwrap();
        // As much as may come, announced; a kilobyte of it sent.
        let head = "POST /api/events HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2097152\r\n\r\n";
        stream.write_all(&[head.as_bytes(), &[b' '; 1024]].concat()).unwrap();
        slow.push(stream);
    }
    let start = Instant::now();
    assert_eq!(http::post_event(victim.port, "between").unwrap().status, 204);
    assert!(start.elapsed() < Duration::from_secs(1));
    let held = victim.growth();
    figure("hostile_slow_bodies_held", format!("{:.1}", held as f64 / 1024.0), "MiB for 200 bodies of 2 MiB, begun");
    assert!(held < 24 << 10, "what is announced is not allocated: {held} KiB");
    // Now all of each but the end: together no more than there is room for, and small events are taken all the same.
    let rest = vec![b' '; 1_900_000];
    for stream in &mut slow {
        let _ = stream.write_all(&rest);
    }
    assert_eq!(http::post_event(victim.port, "between").unwrap().status, 204);
    let held = victim.growth();
    figure("hostile_full_bodies_held", format!("{:.1}", held as f64 / 1024.0), "MiB for 200 bodies of 1.9 MB");
    assert!(held < 96 << 10, "{held} KiB");
    // Which of them found room is left to chance; 64 MiB hold 35 at a time.
    let mut refused = 0;
    for stream in &mut slow {
        let _ = stream.write_all(&vec![b' '; 2_097_152 - 1_901_024]);
        let mut first = [0; 256];
        let n = stream.read(&mut first).unwrap_or(0);
        let answer = String::from_utf8_lossy(&first[..n]);
        assert!(matches!(status(&answer), 400 | 503), "{answer}");
        refused += usize::from(status(&answer) == 503);
    }
    figure("hostile_full_bodies_refused", refused, "of 200 for want of room");
    assert!(refused >= 100, "{refused}");
    drop(slow);

    let mut endless = connect(victim.port).unwrap();
    endless.write_all(b"POST /api/events HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
    let chunk = [b"10000\r\n".as_slice(), &[b' '; 0x10000], b"\r\n"].concat();
    let mut sent = 0_usize;
    while endless.write_all(&chunk).is_ok() {
        sent += chunk.len();
        assert!(sent < 256 << 20, "an endless body is read for ever");
    }
    figure("hostile_endless_body_cut_after", format!("{:.1}", sent as f64 / (1 << 20) as f64), "MiB");
    // Once more, by a client that looks at what it is told.
    let mut endless = connect(victim.port).unwrap();
    let head =
        b"POST /api/events HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n";
    endless.write_all(head).unwrap();
    for _ in 0..64 {
        endless.write_all(&chunk).unwrap();
    }
    endless.write_all(b"0\r\n\r\n").unwrap();
    let (answer, _) = to_end(&mut endless).unwrap();
    assert_eq!((status(&answer), code(&answer).as_str()), (413, "body_too_large"));
    victim.survived("bodies", 2, 64);
}

#[test]
fn huge_heads_get_431() {
    let victim = Victim::new(&[]);
    let long = format!("GET /health HTTP/1.1\r\nHost: localhost\r\nX-Long: {}\r\n\r\n", "x".repeat(1 << 20));
    let many = format!("GET /health HTTP/1.1\r\nHost: localhost\r\n{}\r\n", "X-A: b\r\n".repeat(100_000));
    let target = format!("GET /{} HTTP/1.1\r\nHost: localhost\r\n\r\n", "x".repeat(1 << 20));
    let name = format!("GET / HTTP/1.1\r\nHost: localhost\r\n{}: x\r\n\r\n", "x".repeat(1 << 20));
    for (what, request) in [("a header", &long), ("100 000 headers", &many), ("a target", &target), ("a name", &name)] {
        for _ in 0..10 {
            let mut stream = connect(victim.port).unwrap();
            // The answer comes while this is still being sent, and is lost if it is not read before the reset.
            let mut reader = stream.try_clone().unwrap();
            let answer = std::thread::spawn(move || {
                let mut first = [0; 64];
                let n = reader.read(&mut first).unwrap_or(0);
                String::from_utf8_lossy(&first[..n]).into_owned()
            });
            let _ = stream.write_all(request.as_bytes());
            let answer = answer.join().unwrap();
            assert!(matches!(status(&answer), 431 | 414 | 400 | 0), "{what}: {answer}");
        }
    }
    let small = format!("GET /health HTTP/1.1\r\nHost: localhost\r\n{}\r\n", "X-A: b\r\n".repeat(200));
    assert_eq!(status(&ask(victim.port, &small)), 431, "more headers than are read, in one piece");
    victim.survived("heads", 0, 16);
}

/// What two servers could understand differently is refused, and nothing behind it is taken for a request.
#[test]
fn smuggled_requests_are_refused() {
    let victim = Victim::new(&[]);
    let inner = "POST /api/events HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}";
    let post = "POST /api/events HTTP/1.1\r\nHost: localhost\r\n";
    let forms = [
        ("two lengths", format!("{post}Content-Length: 2\r\nContent-Length: {}\r\n\r\n{inner}", inner.len())),
        ("a list of lengths", format!("{post}Content-Length: 0, {}\r\n\r\n{inner}", inner.len())),
        ("a signed length", format!("{post}Content-Length: +0\r\n\r\n{inner}")),
        ("a length in hex", format!("{post}Content-Length: 0x0\r\n\r\n{inner}")),
        ("a length beyond u64", format!("{post}Content-Length: 99999999999999999999\r\n\r\n{inner}")),
        ("a negative length", format!("{post}Content-Length: -1\r\n\r\n{inner}")),
        ("another coding last", format!("{post}Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n{inner}")),
        ("an unknown coding", format!("{post}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n{inner}")),
        ("a folded header", format!("{post}X-A: b\r\n Content-Length: 5\r\n\r\n{inner}")),
        ("a space before the colon", format!("{post}Content-Length : 0\r\n\r\n{inner}")),
        ("a NUL in a header", format!("{post}X-A: b\0c\r\n\r\n{inner}")),
        ("a NUL in the target", format!("GET /\0 HTTP/1.1\r\nHost: localhost\r\n\r\n{inner}")),
        ("a chunk size that is none", format!("{post}Transfer-Encoding: chunked\r\n\r\n-1\r\n\r\n{inner}")),
        ("a chunk size beyond u64", format!("{post}Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n{inner}")),
        ("garbage", format!("\x16\x03\x01\x02\x00\x01{inner}")),
        ("HTTP/2", format!("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n{inner}")),
        ("HTTP/9.9", format!("GET / HTTP/9.9\r\nHost: localhost\r\n\r\n{inner}")),
    ];
    for (what, request) in &forms {
        let (answer, _) = raw(victim.port, request.as_bytes()).unwrap();
        assert!(matches!(status(&answer), 400 | 413 | 0), "{what}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), usize::from(status(&answer) != 0), "{what}: {answer}");
    }
    // Both lengths, where chunked counts (RFC 9112, 6.3): refused, or closed behind it; never is the rest a request.
    let both =
        format!("{post}Content-Length: {}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{inner}", 5 + inner.len());
    let (answer, _) = raw(victim.port, both.as_bytes()).unwrap();
    assert_eq!((status(&answer), answer.matches("HTTP/1.1 ").count()), (400, 1), "{answer}");
    // Bare line feeds end lines for whoever is lenient (RFC 9112, 2.2); each request is still one request.
    let bare = "GET /ready HTTP/1.1\nHost: localhost\nConnection: close\n\n";
    let (answer, _) = raw(victim.port, bare.as_bytes()).unwrap();
    assert!(matches!(status(&answer), 200 | 400) && answer.matches("HTTP/1.1 ").count() == 1, "{answer}");
    victim.survived("smuggling", 0, 8);
}

/// What follows a good request on its connection is looked at like any other.
#[test]
fn garbage_behind_a_request_ends_its_connection_only() {
    let victim = Victim::new(&["server.header_timeout=1s"]);
    for garbage in ["\0\0\0\0\r\n\r\n", "{}{}{}\r\n\r\n", "GET\r\n\r\n", "GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n"]
    {
        let both = format!("GET /ready HTTP/1.1\r\nHost: localhost\r\n\r\n{garbage}");
        let (answer, _) = raw(victim.port, both.as_bytes()).unwrap_or_else(|e| panic!("{garbage:?}: {e}"));
        assert_eq!(status(&answer), 200, "{garbage:?}: {answer}");
        let second = answer.rsplit("HTTP/1.1 ").next().unwrap();
        assert!(second.starts_with("400") || second.starts_with("421"), "{garbage:?}: {answer}");
    }
    // A thousand requests at once, never read: what is answered is bounded by what the kernel takes.
    let mut greedy = connect(victim.port).unwrap();
    let many = "GET /api/events?limit=1000 HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(1000);
    let _ = greedy.write_all(many.as_bytes());
    assert_eq!(http::get(victim.port, "/health").unwrap().status, 200);
    drop(greedy);
    victim.survived("pipelining", 0, 16);
}

/// Connections up to the limit and beyond, of which nobody says anything, half of them half closed.
#[test]
fn a_flood_of_connections_leaves_a_healthy_monitor() {
    let victim = Victim::new(&["server.header_timeout=5s"]);
    let mut flood = Vec::new();
    for n in 0..3000 {
        let Ok(stream) = connect(victim.port) else { continue };
        if n % 2 == 0 {
            let _ = stream.shutdown(Shutdown::Write);
        }
        flood.push(stream);
    }
    let ask = || {
        let head = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        let mut stream = connect(victim.port).map_err(|e| e.to_string())?;
        stream.write_all(head).map_err(|e| e.to_string())?;
        to_end(&mut stream).map(|(answer, _)| answer).map_err(|e| e.to_string())
    };
    // Of those that are too many only some are told at a time, the others are closed.
    eventually(PATIENCE, "one to be told that there are too many", || {
        let answer = ask()?;
        if code(&answer) == "too_many_connections" {
            return Ok(());
        }
        // Those that closed their half have left places after the others were refused.
        flood.extend((0..50).filter_map(|_| connect(victim.port).ok()));
        Err(answer.chars().take(100).collect::<String>())
    });
    let held = victim.growth();
    figure("hostile_flood_held", format!("{:.1}", held as f64 / 1024.0), "MiB at the limit of 1024 connections");
    // The silent ones run into the header's deadline, and who asks is served again.
    eventually(PATIENCE, "the metrics to be answered", || {
        let answer = ask()?;
        if status(&answer) == 200 { Ok(()) } else { Err(answer.chars().take(100).collect::<String>()) }
    });
    assert!(metric(victim.port, "connections_refused_total", "") >= 1.0);
    drop(flood);
    victim.survived("flood", 0, 24);
}

/// Large answers that nobody reads.
#[test]
fn answers_that_nobody_reads_are_bounded() {
    let victim = Victim::new(&["history.bytes=64MiB"]);
    let large = format!(r#"{{"event":"x","data":{{"pad":"{}"}}}}"#, "x".repeat(1 << 20));
    for _ in 0..10 {
        assert_eq!(http::request(victim.port, "POST", "/api/events", Some(&large)).unwrap().status, 204);
    }
    let greedy: Vec<TcpStream> = (0..150)
        .map(|_| {
            let mut stream = connect(victim.port).unwrap();
            let request = b"GET /api/events?limit=1000 HTTP/1.1\r\nHost: localhost\r\n\r\n";
            stream.write_all(request).unwrap();
            stream
        })
        .collect();
    let began = Instant::now();
    let mut most = 0;
    while began.elapsed() < Duration::from_secs(6) {
        assert_eq!(http::get(victim.port, "/health").unwrap().status, 200);
        most = most.max(victim.growth());
    }
    figure("hostile_unread_answers_held", format!("{:.1}", most as f64 / 1024.0), "MiB for 150 requests of 8 MiB");
    assert!(most < 192 << 10, "{most} KiB");
    // Nobody waits for ever: who finds no room reads so, and can ask again.
    let answers = greedy.into_iter().filter_map(|mut stream| {
        let mut first = [0; 4096];
        let n = stream.read(&mut first).ok()?;
        Some(status(&String::from_utf8_lossy(&first[..n])))
    });
    let answers: Vec<u16> = answers.collect();
    assert!(answers.contains(&200) && answers.iter().all(|s| matches!(s, 0 | 200 | 503)), "{answers:?}");
    eventually(PATIENCE, "room for an answer", || match http::get(victim.port, "/api/events?limit=1000") {
        Ok(answer) if answer.status == 200 => Ok(()),
        other => Err(format!("{:?}", other.map(|a| a.status))),
    });
    victim.survived("unread_answers", 10, 64);
}
