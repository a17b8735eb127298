//! A session's worth of hooks with the monitor up, down, restarting and hung.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use super::session::{
    DEADLINE, all_steps, call, command, expected, fed, hook, inputs, steps, stored, subtypes, wait_for,
};
use testkit::command::run;
use testkit::daemon::{Place, SOON, ready, signal};
use testkit::{http, percentile};

#[test]
fn a_session_arrives_whole_and_in_order() {
    let place = Place::new();
    let port = http::free_port();
    let _monitor = place.serve(port);
    let mut took: Vec<Duration> = inputs("up", 10).iter().map(|input| hook(&place, port, input).took).collect();
    let events = wait_for(port, "up", expected(10).len());
    assert_eq!(subtypes(&events), expected(10));
    assert_eq!(steps(&events), all_steps(10), "each call and its result are paired");
    let keys: std::collections::BTreeSet<_> = events.iter().map(|e| e["data"]["event_id"].to_string()).collect();
    assert_eq!(keys.len(), events.len());
    assert!(events.iter().all(|e| e["source"] == "hook" && e["cwd"] == "/w/project"), "{events:?}");
    assert!(!place.path("state").join(format!("spool/{port}")).exists(), "nothing had to wait");
    println!("{} hooks, median {:.1} ms (unoptimised build)", took.len(), percentile(&mut took, 50));
}

#[test]
fn what_no_monitor_takes_waits_and_is_taken_in_at_its_start() {
    let place = Place::new();
    let port = http::free_port();
    for (one, two) in inputs("down-1", 5).iter().zip(&inputs("down-2", 5)) {
        hook(&place, port, one);
        hook(&place, port, two);
    }
    // Nobody helps: the daemon finds them by itself.
    let _monitor = place.serve(port);
    for session in ["down-1", "down-2"] {
        let events = wait_for(port, session, expected(5).len());
        assert_eq!((subtypes(&events), steps(&events)), (expected(5), all_steps(5)), "{session}");
    }
    hook(&place, port, &call("down-1", 99)[0]);
    wait_for(port, "down-1", expected(5).len() + 1);
}

/// The daemon of another user does not look into this user's folders: then hooks deliver.
#[test]
fn hooks_deliver_in_order_what_others_left() {
    let (place, other) = (Place::new(), Place::new());
    let port = http::free_port();
    for input in (0..30).flat_map(|step| call("left", step)) {
        hook(&place, port, &input);
    }
    let _monitor = other.serve(port);
    // Some go with each hook, as its time allows.
    let mut count = 60;
    for step in 30..80 {
        if step > 30 && !waits(&place, port) {
            break;
        }
        for input in call("left", step) {
            hook(&place, port, &input);
            count += 1;
        }
    }
    let events = wait_for(port, "left", count);
    assert_eq!(steps(&events), all_steps(count / 2));
}

fn waits(place: &Place, port: u16) -> bool {
    mpm_monitor::hooks::spool::Spool::new(place.path("state").join(format!("spool/{port}"))).waits()
}

/// Two sessions go on while the monitor is killed and started again.
#[test]
fn a_restart_costs_nothing_and_doubles_nothing() {
    const CALLS: usize = 40;
    let place = Place::new();
    let port = http::free_port();
    let first = place.serve(port);
    let over = AtomicBool::new(false);
    let (place, over) = (&place, &over);
    let monitor = std::thread::scope(|scope| {
        let sessions: Vec<_> = ["kill-a", "kill-b"]
            .map(|session| {
                scope.spawn(move || {
                    for input in (0..CALLS).flat_map(|step| call(session, step)) {
                        hook(place, port, &input);
                    }
                })
            })
            .into_iter()
            .collect();
        let killer = scope.spawn(move || {
            let mut monitor = first;
            let mut kills = 0;
            while !over.load(Ordering::Acquire) {
                // As it comes: somewhere between two hooks or in the middle of one.
                signal(monitor.pid(), "KILL");
                monitor.end(SOON);
                kills += 1;
                monitor = place.serve(port);
            }
            (monitor, kills)
        });
        sessions.into_iter().for_each(|s| s.join().unwrap());
        over.store(true, Ordering::Release);
        let (monitor, kills) = killer.join().unwrap();
        println!("{kills} kills in {} hooks", 4 * CALLS);
        assert!(kills > 1);
        monitor
    });
    for session in ["kill-a", "kill-b"] {
        let events = wait_for(port, session, 2 * CALLS);
        assert_eq!(steps(&events), all_steps(CALLS), "{session}");
    }
    drop(monitor);
}

#[test]
fn a_monitor_that_hangs_delays_nobody_past_the_deadline() {
    let place = Place::new();
    let port = http::free_port();
    let monitor = place.serve(port);
    hook(&place, port, &call("hang", 0)[0]);
    signal(monitor.pid(), "STOP");
    let mut took: Vec<Duration> = Vec::new();
    took.push(hook(&place, port, &call("hang", 0)[1]).took);
    for input in (1..8).flat_map(|step| call("hang", step)) {
        took.push(hook(&place, port, &input).took);
    }
    signal(monitor.pid(), "CONT");
    ready(port, monitor.pid());
    let events = wait_for(port, "hang", 16);
    assert_eq!(steps(&events), all_steps(8));
    // After the first, they know.
    println!(
        "{} hooks while it hung: median {:.1} ms, longest {:.1} ms",
        took.len(),
        percentile(&mut took.clone(), 50),
        percentile(&mut took, 100)
    );
}

#[test]
fn many_hooks_at_once_lose_nothing() {
    let place = Place::new();
    let port = http::free_port();
    std::thread::scope(|scope| {
        for session in 0..8 {
            let place = &place;
            scope.spawn(move || {
                for input in (0..5).flat_map(|step| call(&format!("many-{session}"), step)) {
                    hook(place, port, &input);
                }
            });
        }
    });
    let _monitor = place.serve(port);
    for session in 0..8 {
        assert_eq!(steps(&wait_for(port, &format!("many-{session}"), 10)), all_steps(5));
    }
}

#[test]
fn large_inputs_become_events_that_say_what_was_cut() {
    let place = Place::new();
    let port = http::free_port();
    let _monitor = place.serve(port);
    let [_, mut after] = call("large", 0);
    after["tool_response"] = json!({"stdout": "x\u{1f600}\"".repeat(600_000)});
    let input = after.to_string();
    let ran = fed(&mut command(&place, port, &["--deadline", "10s"]), input.as_bytes()).unnoticed(DEADLINE * 5);
    println!("{} bytes in {:?}", input.len(), ran.took);
    let [mut before, _] = call("large", 1);
    before["tool_input"]["list"] = json!(vec![1; 400_000]);
    fed(&mut command(&place, port, &["--deadline", "10s"]), before.to_string().as_bytes()).unnoticed(DEADLINE * 5);
    let events = wait_for(port, "large", 2);
    assert_eq!((&events[0]["subtype"], &events[0]["correlation_id"]), (&json!("post_tool"), &json!("toolu_large_0")));
    assert!(events.iter().all(|e| e["data"]["input_cut_bytes"].as_u64() > Some(100_000)), "{events:?}");
    assert_eq!(events[1]["subtype"], "pre_tool");
}

#[test]
fn the_token_and_the_unix_socket_let_it_in() {
    let place = Place::new();
    let port = http::free_port();
    let token = place.path("token");
    std::fs::write(&token, "0123456789abcdef-secret\n").unwrap();
    run(std::process::Command::new("chmod").arg("600").arg(&token), SOON).ok();
    let socket = place.path("run/m.sock");
    let set = [format!("access.token_file={}", token.display()), format!("server.unix_socket={}", socket.display())];
    let _monitor = place.serve_with(port, &[&set[0], &set[1]]);
    // Without it: 401, which may pass once somebody names the file.
    let told = hook(&place, port, &call("token", 0)[0]);
    assert!(told.stderr.contains("401") && told.stderr.contains("kept"), "{told:?}");
    let with = ["--token-file", token.to_str().unwrap()];
    fed(&mut command(&place, port, &with), call("token", 0)[1].to_string().as_bytes()).unnoticed(DEADLINE);
    let through = ["--unix-socket", socket.to_str().unwrap()];
    fed(&mut command(&place, port, &through), call("token", 1)[0].to_string().as_bytes()).unnoticed(DEADLINE);
    // The settings name it as well.
    let mut configured = command(&place, port, &[]);
    configured.env("MPM_MONITOR_ACCESS_TOKEN_FILE", &token);
    fed(&mut configured, call("token", 1)[1].to_string().as_bytes()).unnoticed(DEADLINE);
    let events = wait_for(port, "token", 4);
    assert_eq!(steps(&events), all_steps(2));
}

#[test]
fn what_is_no_input_is_passed_over() {
    let place = Place::new();
    let port = http::free_port();
    let _monitor = place.serve(port);
    for input in ["", "[]", "null", "garbage", "{\"a\"", "\u{0}"] {
        fed(&mut command(&place, port, &[]), input.as_bytes()).unnoticed(DEADLINE);
    }
    // A wrong command line would veto the tool, were it told by the exit code.
    for words in [&["--nonsense"][..], &["--port", "x"], &["--deadline"], &["stray"]] {
        let ran = fed(&mut command(&place, port, words), b"").unnoticed(DEADLINE);
        assert!(ran.stderr.contains("passed over"), "{ran:?}");
    }
    fed(&mut command(&place, port, &[]), b"{\"hook_event_name\":\"Stop\",\"session_id\":\"\xff\"}").unnoticed(DEADLINE);
    assert_eq!(stored(port, "%EF%BF%BD").len(), 1);
    let help = run(&mut place.command(["hook", "--help"]), SOON).ok();
    assert!(help.stdout.contains("--deadline"), "{help}");
}

#[test]
fn keys_keep_posts_from_being_stored_twice_over_a_restart() {
    let place = Place::new();
    let port = http::free_port();
    let key = "01234567-89ab-7cde-8f01-23456789abcd";
    let post = |again: bool| {
        use std::io::{Read, Write};
        let body =
            json!({"data": {"subtype": "pre_tool", "session_id": "once", "data": {"event_id": key}}}).to_string();
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
        let retry = if again { "Idempotency-Retry: true\r\n" } else { "" };
        let head = format!(
            "POST /api/events HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nIdempotency-Key: {key}\r\n{retry}Content-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all((head + &body).as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer[9..12].to_owned()
    };
    let mut monitor = place.serve(port);
    assert_eq!([post(false), post(false), post(true)], ["204", "204", "204"]);
    assert_eq!(stored(port, "once").len(), 1);
    signal(monitor.pid(), "KILL");
    monitor.end(SOON);
    let _monitor = place.serve(port);
    assert_eq!(post(true), "204");
    assert_eq!(stored(port, "once").len(), 1, "the store knows it");
    let answer: Value = http::get(port, "/api/events?session=once").unwrap().json();
    assert_eq!(answer["events"].as_array().unwrap().len(), 1);
}
