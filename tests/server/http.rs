//! The HTTP side in-process, over real sockets: guard, limits, routes.

use std::sync::Arc;
use std::time::Duration;

use crate::support::*;
use mpm_monitor::config::Token;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[tokio::test]
async fn health_says_who_and_ready_says_what_is_missing() {
    let rig = start(settings());
    let latch = rig.readiness.latch("store");
    let answer = rig.ask("GET", "/health", "", "").await;
    let health: Value = serde_json::from_str(body(&answer)).unwrap();
    assert_eq!((status(&answer), &health["service"]), (200, &json!("claude-mpm-monitor")));
    assert_eq!(
        (&health["status"], &health["pid"], &health["port"]),
        (&json!("running"), &json!(1), &json!(rig.address.port()))
    );
    assert_eq!((&health["ready"], &health["instance_id"], &health["uptime"]), (&json!(false), &json!("me"), &json!(0)));
    assert_eq!((&health["components"]["http"]["state"], &health["config_generation"]), (&json!("ok"), &json!(1)));
    let answer = rig.ask("GET", "/ready", "", "").await;
    assert_eq!(status(&answer), 503);
    assert_eq!(serde_json::from_str::<Value>(body(&answer)).unwrap()["waiting_for"], json!(["store"]));
    drop(latch);
    let answer = rig.ask("GET", "/ready", "", "").await;
    assert_eq!((status(&answer), body(&answer)), (200, r#"{"ready":true}"#));
    let head = rig.ask("HEAD", "/health", "", "").await;
    assert_eq!((status(&head), body(&head)), (200, ""));
}

#[tokio::test]
async fn foreign_hosts_and_origins_are_refused_before_anything_else() {
    let rig = start(settings());
    let rebound = rig.raw("GET /health HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n").await;
    assert_eq!((status(&rebound), code(&rebound).as_str()), (421, "host_not_allowed"));
    let none = rig.raw("GET /health HTTP/1.1\r\nConnection: close\r\n\r\n").await;
    assert_eq!(code(&none), "host_not_allowed");
    assert_eq!(status(&rig.raw("GET /health HTTP/1.0\r\n\r\n").await), 200);
    for origin in ["http://evil.example", "null"] {
        let origin = format!("Origin: {origin}\r\n");
        let posted = rig.ask("POST", "/api/events", &origin, "{}").await;
        assert_eq!((status(&posted), code(&posted).as_str()), (403, "origin_not_allowed"));
        assert!(!posted.to_lowercase().contains("access-control"), "{posted}");
        assert_eq!(status(&Ws::open(&rig, "", &origin).await.err().unwrap()), 403);
        let poll = rig.ask("GET", "/socket.io/?EIO=4&transport=polling", &origin, "").await;
        assert_eq!(code(&poll), "origin_not_allowed");
        assert_eq!(status(&rig.ask("OPTIONS", "/api/events", &origin, "").await), 403);
    }
    assert_eq!(rig.events.hub.last_seq(), 0);
    let own = "Origin: http://localhost:5173\r\n";
    let posted = rig.ask("POST", "/api/events", own, "{}").await;
    assert_eq!(status(&posted), 204);
    let preflight = rig.ask("OPTIONS", "/anything", own, "").await.to_lowercase();
    assert_eq!(status(&preflight), 200);
    for answer in [posted.to_lowercase(), preflight.clone()] {
        assert!(answer.contains("access-control-allow-origin: http://localhost:5173\r\n"), "{answer}");
        assert!(answer.contains("vary: origin"), "{answer}");
    }
    assert!(preflight.contains("access-control-allow-methods: get, post"), "{preflight}");
    assert!(Ws::open(&rig, "", own).await.is_ok());
    let mut changed = settings();
    changed.allow_origin = vec!["https://board.example".into()];
    rig.settings.send_replace(changed.into());
    assert_eq!(status(&rig.ask("POST", "/api/events", "Origin: https://board.example\r\n", "{}").await), 204);
}

/// Whatever an answer holds, a browser neither guesses its type, nor runs it, nor frames it, nor tells where it came from.
#[tokio::test]
async fn every_answer_says_what_a_browser_must_not_do_with_it() {
    let rig = start(settings());
    for (method, path, expected) in [
        ("GET", "/", 200),
        ("GET", "/dashboard.js", 200),
        ("GET", "/health", 200),
        ("GET", "/api/events", 200),
        ("GET", "/metrics", 200),
        ("GET", "/socket.io/?EIO=4&transport=polling", 200),
        ("GET", "/socket.io/?EIO=3&transport=polling", 200),
        ("GET", "/socket.io/?EIO=2&transport=polling", 400),
        ("GET", "/nothing", 404),
        ("DELETE", "/health", 405),
        ("POST", "/api/events", 400),
        ("OPTIONS", "/api/events", 200),
    ] {
        let answer = rig.ask(method, path, "", "").await;
        assert_eq!(status(&answer), expected, "{method} {path}");
        let head = answer.split_once("\r\n\r\n").unwrap().0.to_lowercase();
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("x-frame-options", "deny"),
            ("referrer-policy", "no-referrer"),
            ("content-security-policy", "default-src 'none'"),
            ("cross-origin-resource-policy", "same-site"),
        ] {
            let lines: Vec<_> = head.lines().filter_map(|l| l.strip_prefix(name)).collect();
            assert_eq!(lines.len(), 1, "{name} of {method} {path}: {head}");
            assert!(lines[0].contains(value), "{method} {path}: {head}");
        }
    }
    let refused = rig.raw("GET / HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n").await.to_lowercase();
    assert!(refused.contains("x-content-type-options: nosniff"), "{refused}");
}

/// With a token, one that is wrong is told from none, and what was kept out is counted.
#[tokio::test]
async fn posting_needs_the_token_where_one_is_set() {
    let mut with_token = settings();
    with_token.token = Some(Token::new("0123456789abcdef").unwrap());
    let rig = start(with_token);
    let post = async |header: &str| rig.ask("POST", "/api/events", header, "{}").await;
    let without = post("").await;
    assert_eq!((status(&without), code(&without).as_str()), (401, "token_required"));
    assert!(without.to_lowercase().contains("www-authenticate: bearer"), "{without}");
    assert_eq!(code(&post("Authorization: Bearer 0123456789abcdeF\r\n").await), "token_wrong");
    assert_eq!(code(&post("Authorization: Basic 0123456789abcdef\r\n").await), "token_required");
    assert_eq!(status(&post("Authorization: Bearer 0123456789abcdef\r\n").await), 204);
    assert_eq!(status(&rig.ask("GET", "/api/events", "", "").await), 200);
    let proxied = rig.ask("GET", "/api/events", "X-Forwarded-For: 10.0.0.1\r\n", "").await;
    assert_eq!(code(&proxied), "token_required");
    let metrics = rig.ask("GET", "/metrics", "", "").await;
    assert!(metrics.contains("requests_denied_total{code=\"token_required\"} 3"), "{metrics}");
    assert!(metrics.contains("requests_denied_total{code=\"token_wrong\"} 1"), "{metrics}");
    // Pages may send the header: the preflight says so.
    let preflight = rig.ask("OPTIONS", "/api/events", "Origin: http://localhost\r\n", "").await;
    assert!(status(&preflight) == 200 && preflight.contains("Authorization"), "{preflight}");
    assert!(preflight.contains("Idempotency-Key, Idempotency-Retry"), "{preflight}");
}

#[tokio::test]
async fn events_are_taken_however_they_come_and_listed_in_pages() {
    let rig = start(settings());
    let event = r#"{"event":"claude_event","data":{"subtype":"pre_tool","n":1}}"#;
    assert_eq!(status(&rig.ask("POST", "/api/events", "Content-Type: text/plain\r\n", event).await), 204);
    let chunked = format!(
        "POST /api/events HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n\
         {:x}\r\n{}\r\n{:x}\r\n{}\r\n0\r\n\r\n",
        10,
        &event[..10],
        event.len() - 10,
        &event[10..]
    );
    assert_eq!(status(&rig.raw(&chunked).await), 204);
    let mut stream = rig.connect().await;
    let head = format!(
        "POST /api/events HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nExpect: 100-continue\r\n\
         Content-Length: {}\r\n\r\n",
        event.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut first = [0; 25];
    stream.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(event.as_bytes()).await.unwrap();
    assert_eq!(status(&to_end(&mut stream).await), 204);
    assert_eq!(status(&rig.post(r#"{"event":"other","data":{}}"#).await), 204);

    let page = |answer: String| serde_json::from_str::<Value>(body(&answer)).unwrap();
    let first = page(rig.ask("GET", "/api/events?limit=2", "", "").await);
    assert_eq!((&first["success"], &first["next"], &first["last_seq"]), (&json!(true), &json!(2), &json!(4)));
    assert_eq!(first["events"][1]["payload"]["data"], json!({"subtype": "pre_tool", "n": 1}));
    let rest = page(rig.ask("GET", "/api/events?after=2&type=tool_event", "", "").await);
    assert_eq!((rest["events"].as_array().unwrap().len(), &rest["next"]), (1, &json!(4)));
    let bad = rig.ask("GET", "/api/events?limit=0", "", "").await;
    assert_eq!((status(&bad), code(&bad).as_str()), (400, "bad_parameter"));
}

#[tokio::test]
async fn refusals_have_a_status_and_a_stable_code() {
    let mut small = settings();
    small.max_body = 1000;
    let rig = start(small);
    let large = "x".repeat(300_000);
    let announced = rig.post(&large).await;
    assert_eq!((status(&announced), code(&announced).as_str()), (413, "body_too_large"));
    let chunked = format!(
        "POST /api/events HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n\
         {:x}\r\n{large}\r\n0\r\n\r\n",
        large.len()
    );
    assert_eq!(code(&rig.raw(&chunked).await), "body_too_large");
    assert_eq!(code(&rig.post("{\"event\"").await), "malformed_json");
    let packed = rig.ask("POST", "/api/events", "Content-Encoding: gzip\r\n", "{}").await;
    assert_eq!((status(&packed), code(&packed).as_str()), (415, "unsupported_encoding"));
    let missing = rig.ask("GET", "/nothing", "", "").await;
    assert_eq!((status(&missing), code(&missing).as_str()), (404, "not_found"));
    let method = rig.ask("PUT", "/api/events", "", "").await;
    assert_eq!((status(&method), code(&method).as_str()), (405, "method_not_allowed"));
    assert!(method.to_lowercase().contains("allow: get,head,post"), "{method}");
    // A second monitor on the same events may read them only, so it cannot keep what is posted.
    let second = start_in(settings(), Arc::clone(&rig.events.dir));
    let kept_nowhere = second.post("{}").await;
    assert_eq!((status(&kept_nowhere), code(&kept_nowhere).as_str()), (503, "store_read_only"));
    assert!(rig.events.intake.counts().refused.values().sum::<u64>() >= 4);
}

#[tokio::test]
async fn a_head_that_never_ends_is_cut_while_others_are_served() {
    let mut hasty = settings();
    hasty.header_timeout = Duration::from_millis(100);
    let rig = start(hasty);
    let mut slow = rig.connect().await;
    slow.write_all(b"GET /health HTTP/1.1\r\nHost: loc").await.unwrap();
    let mut kept = rig.connect().await;
    kept.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    assert_eq!(status(&rig.ask("GET", "/health", "", "").await), 200);
    to_end(&mut slow).await;
    assert_eq!(status(&to_end(&mut kept).await), 200, "answered, and closed when idle");
    until("no connection is left", || rig.server().connections() == 0).await;
}

#[tokio::test]
async fn connections_over_the_limit_read_why_and_places_come_back() {
    let mut few = settings();
    few.max_connections = 2;
    let rig = start(few);
    let held = [rig.connect().await, rig.connect().await];
    until("both are counted", || rig.server().connections() == 2).await;
    let refused = rig.ask("GET", "/health", "", "").await;
    assert_eq!((status(&refused), code(&refused).as_str()), (503, "too_many_connections"));
    drop(held);
    until("both are gone", || rig.server().connections() == 0).await;
    assert_eq!(status(&rig.ask("GET", "/health", "", "").await), 200);
    let counters = rig.server().counters();
    assert_eq!(counters.connections_refused.load(std::sync::atomic::Ordering::Relaxed), 1);
}

#[tokio::test]
async fn the_accept_loop_and_the_hub_answer_the_pulse() {
    let rig = start(settings());
    rig.pulse.ask();
    let asked = rig.pulse.silent();
    assert!(asked.contains(&"hub") && asked.contains(&"accept"), "{asked:?}");
    until("both have answered", || rig.pulse.silent().is_empty()).await;
}

#[tokio::test]
async fn without_descriptors_the_server_waits_and_recovers() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let rig = start(settings());
    // Clients are made before the limit: they need descriptors of this same process.
    let mut clients = vec![rig.connect().await];
    until("the first is accepted", || rig.server().connections() == 1).await;
    let before = getrlimit(Resource::Nofile);
    let (a, b) = (std::net::TcpListener::bind("127.0.0.1:0").unwrap(), tokio::net::TcpSocket::new_v4().unwrap());
    drop(a);
    setrlimit(Resource::Nofile, Rlimit { current: Some(3), ..before }).unwrap();
    clients.push(b.connect(rig.address).await.unwrap());
    let counters = std::sync::Arc::clone(rig.server().counters());
    until("accept has failed", || counters.accept_errors.load(std::sync::atomic::Ordering::Relaxed) > 0).await;
    clients[0].write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await.unwrap();
    let health = to_end(&mut clients[0]).await;
    let health: Value = serde_json::from_str(body(&health)).unwrap();
    assert_eq!(health["components"]["http"]["state"], "degraded");
    let failures = counters.accept_errors.load(std::sync::atomic::Ordering::Relaxed);
    assert!(failures < 50, "{failures} failures: the loop spins");
    setrlimit(Resource::Nofile, before).unwrap();
    clients[1].write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await.unwrap();
    let health: Value = serde_json::from_str(body(&to_end(&mut clients[1]).await)).unwrap();
    assert_eq!(health["components"]["http"]["state"], "ok");
}
