//! `emit` and `events` against the real daemon.

use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use testkit::command::{Ran, Running, run};
use testkit::daemon::{Place, SOON, signal};
use testkit::http;

fn ran(place: &Place, port: u16, words: &[&str]) -> Ran {
    run(&mut with_port(place, port, words), SOON)
}

fn with_port(place: &Place, port: u16, words: &[&str]) -> Command {
    let mut command = place.command(words);
    command.env("MPM_MONITOR_PORT", port.to_string());
    command
}

fn lines(ran: &Ran) -> Vec<Value> {
    ran.stdout.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
}

#[test]
fn emit_says_by_its_exit_code_what_became_of_the_event() {
    let place = Place::new();
    let port = http::free_port();
    let away = ran(&place, port, &["emit", "x"]).expect(3);
    assert!(away.stderr.contains("mpm-monitor start"), "{away}");
    assert!(ran(&place, port, &["emit", "x", "--data", "nonsense"]).expect(2).stderr.contains("not valid JSON"));
    let token = place.path("token");
    std::fs::write(&token, "0123456789abcdef-secret\n").unwrap();
    run(Command::new("chmod").arg("600").arg(&token), SOON).ok();
    let monitor = place.serve_with(port, &[&format!("access.token_file={}", token.display()), "server.max_body=4 KiB"]);
    assert!(ran(&place, port, &["emit", "x"]).expect(77).stderr.contains("--token-file"));
    let with = ["--token-file", token.to_str().unwrap()];
    let emit = |words: &[&str]| ran(&place, port, &[&["emit"], words, &with].concat());
    emit(&["built", "--data", "{\"ok\": true}", "--session", "s-1"]).ok();
    emit(&["user_prompt", "--subtype", "pre_tool", "--data", "[1]"]).ok();
    let large = place.path("large.json");
    std::fs::write(&large, json!("x".repeat(9000)).to_string()).unwrap();
    let large = format!("@{}", large.display());
    assert!(emit(&["x", "--data", &large]).expect(8).stderr.contains("server.max_body"));
    let found = lines(&ran(&place, port, &["events", "search", "--json"]).ok());
    assert_eq!(found.len(), 2);
    let said = &found[0]["payload"];
    assert_eq!(
        (&said["subtype"], &said["session_id"], &said["data"]["ok"]),
        (&json!("built"), &json!("s-1"), &json!(true))
    );
    assert_eq!((&found[1]["name"], &found[1]["payload"]["data"]["value"]), (&json!("tool_event"), &json!([1])));
    signal(monitor.pid(), "STOP");
    let hung = ran(&place, port, &["emit", "x", "--deadline", "100ms"]).expect(4);
    assert!(hung.took < Duration::from_secs(5), "{hung}");
    signal(monitor.pid(), "CONT");
}

#[test]
fn search_and_export_find_what_fits() {
    let place = Place::new();
    let port = http::free_port();
    for verb in [&["events", "search"][..], &["events", "export"], &["events", "tail"]] {
        let away = ran(&place, port, verb).expect(3);
        assert!(away.stderr.contains("mpm-monitor start"), "{away}");
    }
    let _monitor = place.serve(port);
    // More than one page.
    for number in 0..1200 {
        let subtype = if number % 2 == 0 { "pre_tool" } else { "stop" };
        let text = if number == 600 { "G\u{e4}nsef\u{fc}\u{df}chen \u{1b}[31m \u{9b}2J" } else { "plain" };
        let body =
            json!({"data": {"subtype": subtype, "session_id": format!("s-{}", number % 3), "data": {"text": text}}});
        assert_eq!(http::request(port, "POST", "/api/events", Some(&body.to_string())).unwrap().status, 204);
    }
    let search = |words: &[&str]| ran(&place, port, &[&["events", "search"], words].concat()).ok();
    assert_eq!(search(&[]).stdout.lines().count(), 1200);
    assert_eq!(search(&["--subtype", "stop", "--session", "s-0"]).stdout.lines().count(), 200);
    assert_eq!(search(&["--type", "tool_event", "-n", "7"]).stdout.lines().count(), 7);
    assert_eq!(search(&["--since", "1 hour ago", "--until", "30 min ago"]).stdout, "");
    let one = search(&["g\u{c4}NSEF\u{fc}\u{df}"]);
    assert_eq!(one.stdout.lines().count(), 1);
    for text in [&one, &search(&["2J", "--json"])] {
        assert!(text.stdout.trim_end().chars().all(|c| !c.is_control()), "{text}");
    }
    assert!(search(&[]).stdout.lines().all(|line| line.chars().count() <= 80));
    assert!(search(&["nowhere"]).stderr.contains("no event fits"));

    let file = place.path("all.jsonl");
    let export =
        |words: &[&str]| ran(&place, port, &[&["events", "export", "-o", file.to_str().unwrap()], words].concat());
    let first = export(&[]).ok();
    assert!(first.stderr.contains("1200 events written; later, go on with --after 1200"), "{first}");
    assert!(export(&[]).expect(73).stderr.contains("--after"));
    http::post_event(port, "later").unwrap();
    export(&["--after", "1200"]).ok();
    let seqs: Vec<u64> = std::fs::read_to_string(&file)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["seq"].as_u64().unwrap())
        .collect();
    assert_eq!(seqs, (1..=1201).collect::<Vec<_>>());
    let last = ran(&place, port, &["events", "tail", "-n", "3", "--subtype", "stop", "--json"]).ok();
    assert_eq!(lines(&last).iter().map(|e| e["seq"].as_u64().unwrap()).collect::<Vec<_>>(), [1196, 1198, 1200]);
    assert_eq!(ran(&place, port, &["events", "tail", "-n", "5000"]).ok().stdout.lines().count(), 1201);
}

#[test]
fn tail_goes_on_over_a_restart_without_a_gap_or_a_double() {
    let place = Place::new();
    let port = http::free_port();
    let mut monitor = place.serve(port);
    let post = |marker: usize| assert_eq!(http::post_event(port, &format!("m-{marker}")).unwrap().status, 204);
    (0..5).for_each(post);
    let mut tail = Running::start(&mut with_port(&place, port, &["events", "tail", "-f", "-n", "2", "--json"]));
    let mut heard = Vec::new();
    let mut hear = |upto: usize, tail: &mut Running| {
        tail.until(SOON, &format!("event {upto}"), |line| {
            let event: Value = serde_json::from_str(line).ok()?;
            heard.push(event["payload"]["data"]["marker"].as_str()?.to_owned());
            (heard.last()? == &format!("m-{upto}")).then_some(())
        });
    };
    hear(4, &mut tail);
    (5..9).for_each(post);
    hear(8, &mut tail);
    signal(monitor.pid(), "KILL");
    monitor.end(SOON);
    let monitor = place.serve(port);
    (9..20).for_each(post);
    hear(19, &mut tail);
    assert_eq!(heard, (3..20).map(|n| format!("m-{n}")).collect::<Vec<_>>());
    drop(monitor);
}
