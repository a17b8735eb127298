//! What the server says about itself, its clients and its version, over real sockets.
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::process::{Command, Stdio};

use crate::support::*;
use serde_json::{Value, json};

async fn get(rig: &Rig, path: &str) -> Value {
    let answer = rig.ask("GET", path, "", "").await;
    assert_eq!(status(&answer), 200, "{path}: {answer}");
    serde_json::from_str(body(&answer)).unwrap()
}

/// A server that has seen a little of everything.
async fn busy() -> (Rig, Ws) {
    let rig = start(settings());
    rig.post(r#"{"data":{"subtype":"pre_tool"}}"#).await;
    rig.post("[").await;
    let mut ws = Ws::join(&rig).await;
    ws.event("history").await;
    ws.send(r#"421["claude_event",{}]"#).await;
    ws.event("hook:event").await;
    ws.send(r#"42["claude_event",1]"#).await;
    ws.event("hook:error").await;
    let accepted = || rig.events.intake.counts().accepted.len() == 2;
    until("both events are counted", accepted).await;
    (rig, ws)
}

#[tokio::test]
async fn status_sums_up_what_happened() {
    let (rig, _ws) = busy().await;
    let status = get(&rig, "/api/status").await;
    assert_eq!((&status["service"], &status["ready"]), (&json!("claude-mpm-monitor"), &json!(true)));
    assert_eq!(status["events"]["accepted"], json!({"http": {"tool_event": 1}, "socketio": {"hook:event": 1}}));
    assert_eq!(status["events"]["refused"], json!({"http": {"malformed_json": 1}, "socketio": {"not_an_object": 1}}));
    assert_eq!((&status["clients"]["connected"], &status["store"]["last_seq"]), (&json!(1), &json!(2)));
    assert_eq!((&status["store"]["events"], &status["components"]["http"]["state"]), (&json!(2), &json!("ok")));
    assert!(status["connections"]["accepted"].as_u64() >= Some(4) && status["process"]["open_fds"].is_u64());
}

#[tokio::test]
async fn clients_are_listed_without_the_key_to_their_session() {
    let rig = start(settings());
    let mut ws = Ws::join(&rig).await;
    ws.event("history").await;
    let key = rig.open().await;
    let answer = get(&rig, "/api/clients").await;
    assert_eq!(answer["total"], 2);
    assert!(!answer.to_string().contains(&key), "{answer}");
    let (first, second) = (&answer["clients"][0], &answer["clients"][1]);
    assert_eq!((&first["transport"], &first["in_namespace"]), (&json!("websocket"), &json!(true)));
    assert_eq!((&second["transport"], &second["in_namespace"]), (&json!("polling"), &json!(false)));
    assert_eq!((&first["backlog_bytes"], first["session_id"].as_str().map(str::len)), (&json!(0), Some(20)));
    assert!(second["backlog_bytes"].is_u64());
    first["connected_at"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
}

#[tokio::test]
async fn pages_of_claude_mpm_get_what_they_ask_about_the_project() {
    let rig = start(settings());
    let version = get(&rig, "/version.json").await;
    assert_eq!(
        (&version["version"], &version["service"]),
        (&json!(env!("CARGO_PKG_VERSION")), &json!("unified-monitor"))
    );
    assert!(version["build"].is_u64() && version["full_version"].is_string() && version["formatted_build"].is_string());
    let here = std::env::current_dir().unwrap();
    let directory = get(&rig, "/api/working-directory").await;
    assert_eq!(directory, json!({"working_directory": here, "success": true}));
    let config = get(&rig, "/api/config").await;
    assert_eq!((&config["workingDirectory"], &config["service"]), (&json!(here), &json!("unified-monitor")));
    assert!(config["gitBranch"].is_string());
    config["serverTime"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();

    // Nobody looked, so nothing is said to be healthy or empty; a page that shows no body shows the reason phrase.
    for path in [
        "validate",
        "agents/available?search=x",
        "skill-links/",
        "project/summary",
        "skills/one/detail",
        "agents/one/detail",
        "skill-links/agent/one",
    ] {
        let answer = rig.ask("GET", &format!("/api/config/{path}"), "", "").await;
        assert_eq!((status(&answer), code(&answer).as_str()), (404, "project_unavailable"), "{path}");
        assert!(answer.starts_with("HTTP/1.1 404 Unavailable here ("), "{answer}");
        assert!(body(&answer).contains(r#""success":false"#) && body(&answer).contains("unavailable"), "{answer}");
        assert!(answer.to_lowercase().contains("cache-control: no-store\r\n"), "{answer}");
    }
    assert_eq!(status(&rig.ask("PUT", "/api/config/skills/deployment-mode", "", "{}").await), 405);
    let icon = rig.ask("GET", "/favicon.svg", "", "").await;
    assert!(icon.to_lowercase().contains("content-type: image/svg+xml") && body(&icon).starts_with("<svg"), "{icon}");
}

/// Every family of the text, with its type.
fn families(text: &str) -> BTreeMap<String, String> {
    let types = text.lines().filter_map(|l| l.strip_prefix("# TYPE ")?.split_once(' '));
    types.map(|(name, kind)| (name.to_owned(), kind.to_owned())).collect()
}

#[tokio::test]
async fn metrics_are_open_metrics_and_the_page_about_them_is_complete() {
    let (rig, _ws) = busy().await;
    let answer = rig.ask("GET", "/metrics", "", "").await;
    assert!(answer.contains("application/openmetrics-text; version=1.0.0; charset=utf-8"), "{answer}");
    let text = body(&answer);
    for line in [
        r#"mpm_monitor_events_accepted_total{path="http",category="tool_event"} 1"#,
        r#"mpm_monitor_events_refused_total{path="socketio",code="not_an_object"} 1"#,
        r#"mpm_monitor_sessions_ended_total{reason="stalled"} 0"#,
        r#"mpm_monitor_component_ok{component="http"} 1"#,
        "mpm_monitor_clients 1",
        "mpm_monitor_last_seq 2",
        "# UNIT mpm_monitor_uptime_seconds seconds",
        "mpm_monitor_parts_aborted_total 3",
    ] {
        assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
    }
    assert!(text.ends_with("# EOF\n"));
    let told = families(text);

    let page = std::fs::read_to_string(testkit::here("docs/metrics.md")).unwrap();
    let documented: BTreeSet<&str> =
        page.lines().filter_map(|l| l.strip_prefix("| `mpm_monitor_")?.split('`').next()).collect();
    let names = told.iter().map(|(name, kind)| {
        let name = name.strip_prefix("mpm_monitor_").unwrap();
        if kind == "counter" { format!("{name}_total") } else { name.to_owned() }
    });
    let names: BTreeSet<String> = names.collect();
    #[cfg(target_os = "linux")]
    assert_eq!(names.iter().map(String::as_str).collect::<BTreeSet<_>>(), documented);
    #[cfg(not(target_os = "linux"))]
    assert!(names.iter().all(|n| documented.contains(n.as_str())), "{names:?}");

    let python = format!("{}/bin/python3", testkit::venv());
    if !std::path::Path::new(&python).exists() {
        return testkit::skip("there is no Python with Prometheus' parser; scripts/setup.sh test makes it");
    }
    let mut command = Command::new(python);
    command.arg(testkit::here("tests/clients/openmetrics.py")).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "Prometheus' parser refuses it, see above");
    let parsed: BTreeMap<String, String> = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(parsed, told);
}
