//! Events outlive what happens to their files: a directory that is removed while the monitor runs, damaged rows, kills
//! between a post and its answer.

use std::io::{Read, Write};

use serde_json::Value;

use testkit::command::{Running, run};
use testkit::daemon::{Place, SOON, metric, ready, signal};
use testkit::sse::Sse;
use testkit::wire::connect;
use testkit::{eventually, figure, http};

/// The markers of all events that are kept, oldest first.
fn kept(port: u16) -> Vec<String> {
    let page = http::get(port, "/api/events?limit=1000").unwrap().json();
    let marker = |event: &Value| event["payload"]["data"]["marker"].as_str().unwrap_or_default().to_owned();
    page["events"].as_array().unwrap().iter().map(marker).collect()
}

fn component(port: u16) -> (String, String) {
    let store = &http::get(port, "/health").unwrap().json()["components"]["store"];
    let text = |name: &str| store[name].as_str().unwrap_or_default().to_owned();
    (text("state"), text("detail"))
}

#[test]
fn removed_state_directory_loses_no_event_and_is_told() {
    let (place, port) = (Place::new(), http::free_port());
    let state = place.path("state").join(port.to_string());
    let mut daemon = place.serve(port);
    let markers: Vec<String> = (0..40).map(|n| format!("m{n}")).collect();
    let post = |markers: &[String]| {
        markers.iter().for_each(|m| assert_eq!(http::post_event(port, m).unwrap().status, 204));
    };
    post(&markers[..20]);
    std::fs::remove_dir_all(&state).unwrap();
    post(&markers[20..30]);
    eventually(SOON, "a new database to be there and said", || match component(port) {
        (state, detail) if state == "degraded" && detail.contains("removed or replaced") => Ok(()),
        (state, detail) => Err(format!("{state}: {detail}")),
    });
    post(&markers[30..]);
    assert_eq!(kept(port), markers);
    let doctor = place.ran(["doctor", "--port", &port.to_string()]).all();
    let doctor = doctor.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(doctor.contains("removed or replaced while it was in use"), "{doctor}");
    signal(daemon.pid(), "KILL");
    daemon.end(SOON);

    let mut daemon = place.serve(port);
    assert_eq!(kept(port), markers, "after a kill");
    std::fs::remove_dir_all(&state).unwrap();
    signal(daemon.pid(), "TERM");
    assert_eq!(daemon.end(SOON), 0, "{:?}", daemon.seen);
    let _daemon = place.serve(port);
    assert_eq!(kept(port), markers, "after a clean end right behind the removal");
}

#[test]
fn damaged_rows_are_left_out_of_every_answer() {
    let (place, port) = (Place::new(), http::free_port());
    let mut daemon = place.serve(port);
    for n in 0..1200 {
        assert_eq!(http::post_event(port, &format!("m{n}")).unwrap().status, 204);
    }
    signal(daemon.pid(), "TERM");
    assert_eq!(daemon.end(SOON), 0, "{:?}", daemon.seen);
    let database = rusqlite::Connection::open(place.path("state").join(port.to_string()).join("events.db")).unwrap();
    database
        .execute_batch(
            "UPDATE events SET payload = CAST(x'ff' AS TEXT) WHERE seq IN (5, 1200);
             UPDATE events SET payload = '{' WHERE seq = 7;",
        )
        .unwrap();
    drop(database);

    let daemon = place.serve(port);
    let page = http::get(port, "/api/events?limit=10").unwrap().json();
    let seqs: Vec<_> = page["events"].as_array().unwrap().iter().map(|e| e["seq"].as_u64().unwrap()).collect();
    assert_eq!(seqs, [1, 2, 3, 4, 6, 8, 9, 10, 11, 12]);
    assert_eq!((&page["next"], &page["last_seq"]), (&12.into(), &1200.into()));
    assert_eq!(component(port), ("degraded".into(), "3 damaged events of the database are left out".into()));
    assert_eq!(metric(port, "store_damaged_events", ""), 3.0);
    let status = http::get(port, "/api/status").unwrap().json();
    assert_eq!(status["store"]["damaged"], 3);

    let mut stream = Sse::resume(port, "", "0").unwrap();
    let (mut numbers, mut missed) = (Vec::new(), 0);
    while numbers.last() != Some(&1199) || missed < 2 {
        let told = stream.next_told().unwrap();
        match told.name.as_str() {
            "gap" => {
                assert_eq!(told.json()["reason"], "unreadable");
                missed += told.json()["missed"].as_u64().unwrap();
            }
            "stream" => {}
            _ => numbers.push(told.json()["seq"].as_u64().unwrap()),
        }
    }
    assert_eq!(numbers, (1..1200).filter(|n| ![5, 7].contains(n)).collect::<Vec<_>>());
    assert_eq!(http::post_event(port, "more").unwrap().status, 204);
    ready(port, daemon.pid());
}

/// Posts an event whose key is in its header alone; the status, if an answer came.
fn keyed(port: u16, key: &str, again: bool, before_the_answer: impl FnOnce()) -> Option<u16> {
    let body = format!(r#"{{"data":{{"subtype":"pre_tool","data":{{"marker":"{key}"}}}}}}"#);
    let retry = if again { "Idempotency-Retry: true\r\n" } else { "" };
    let head = format!(
        "POST /api/events HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nIdempotency-Key: {key}\r\n{retry}Content-Length: {}\r\n\r\n",
        body.len()
    );
    let mut stream = connect(port).ok()?;
    stream.write_all((head + &body).as_bytes()).ok()?;
    before_the_answer();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer.get(9..12)?.parse().ok()
}

#[test]
fn keyed_posts_are_stored_once_over_kills() {
    let (place, port) = (Place::new(), http::free_port());
    // Random ones: they tell no time.
    let random = || u128::from(getrandom::u64().unwrap()) << 64 | u128::from(getrandom::u64().unwrap());
    let text = |key: u128| {
        let hex = format!("{key:032x}");
        [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
    };
    let keys: Vec<String> = (0..8).map(|_| text(random())).collect();
    let mut daemon = place.serve(port);
    let mut unanswered = 0;
    for (round, key) in keys.iter().enumerate() {
        let pid = daemon.pid();
        let kill_early = || {
            if round % 2 == 0 {
                signal(pid, "KILL")
            }
        };
        unanswered += u32::from(keyed(port, key, false, kill_early).is_none());
        signal(pid, "KILL");
        daemon.end(SOON);
        daemon = place.serve(port);
        for _ in 0..2 {
            assert_eq!(keyed(port, key, true, || {}), Some(204));
        }
        // What came before is known as well.
        assert_eq!(keyed(port, &keys[0], true, || {}), Some(204));
    }
    let mut found = kept(port);
    found.sort();
    let mut wanted = keys.clone();
    wanted.sort();
    assert_eq!(found, wanted, "each once");
    figure("keyed_posts_without_answer", unanswered, "posts");
}

/// The folders are those that the user's own instances have, as whoever starts it by hand uses them.
#[test]
fn purge_leaves_the_files_of_a_monitor_started_by_hand() {
    let (place, port) = (Place::new(), http::free_port());
    let state = place.path("home/.local/state/mpm-monitor");
    let history = state.join(port.to_string());
    let command = |arguments: &[&str]| {
        let mut command = place.command(arguments.iter().copied().chain(["--port", &port.to_string()]));
        command.env("MPM_MONITOR_STATE_DIR", &state).env("MPM_MONITOR_RUNTIME_DIR", place.path("run/mpm-monitor"));
        command
    };
    let mut daemon = Running::start(&mut command(&["run"]));
    ready(port, daemon.pid());
    assert_eq!(http::post_event(port, "mine").unwrap().status, 204);
    let said = run(&mut command(&["uninstall", "--user", "--purge"]), SOON).all();
    let told = said.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(told.contains(&format!("(pid {}) serves port {port}", daemon.pid())), "{said}");
    assert!(history.join("events.db").exists(), "{said}");
    assert!(place.path("run/mpm-monitor").join(format!("{port}.lock")).exists(), "{said}");
    assert_eq!(kept(port), ["mine"]);
    signal(daemon.pid(), "TERM");
    assert_eq!(daemon.end(SOON), 0, "{:?}", daemon.seen);
    run(&mut command(&["uninstall", "--user", "--purge"]), SOON).ok();
    assert!(!history.exists());
}
