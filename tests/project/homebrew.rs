//! The Homebrew formula, read by Ruby: it is complete, and what `brew services` would write from its `service` block is what
//! the golden files say, so that drift is seen. The words' translation is that of Homebrew 6.0 (August 2026), noted in
//! `packaging/homebrew/README.md`.

use std::process::Command;
use std::time::Duration;

use plist::{Dictionary, Value};
use serde_json::Value as Json;
use testkit::command::run;
use testkit::{here, skip};

fn formula() -> Option<Json> {
    if Command::new("ruby").arg("--version").output().is_err() {
        skip("there is no Ruby");
        return None;
    }
    let dir = tempfile::tempdir().unwrap();
    let url = "https://example.org/mpm-monitor-0.0.0.tar.gz";
    let tarball = here("Cargo.toml");
    let mut render = Command::new(here("packaging/homebrew/render.sh"));
    let text = run(render.args(["https://example.org/", url, &tarball]), Duration::from_secs(20)).ok().stdout;
    assert!(!text.contains('@') || !text.lines().any(|l| l.matches('@').count() >= 2), "not filled in:\n{text}");
    let path = dir.path().join("mpm-monitor.rb");
    std::fs::write(&path, text).unwrap();
    let mut ruby = Command::new("ruby");
    Some(run(ruby.arg(here("tests/clients/formula.rb")).arg(&path), Duration::from_secs(60)).ok().json())
}

fn text(value: &Json) -> Value {
    Value::String(value.as_str().unwrap().to_owned())
}

/// What `brew services` makes of the block for launchd.
fn plist_of(words: &Json) -> Value {
    let mut job = Dictionary::new();
    job.insert("Label".into(), "homebrew.mxcl.mpm-monitor".into());
    let sessions = ["Aqua", "Background", "LoginWindow", "StandardIO", "System"];
    job.insert("LimitLoadToSessionType".into(), Value::Array(sessions.map(Value::from).into()));
    job.insert("RunAtLoad".into(), true.into());
    for (word, value) in words.as_object().unwrap() {
        let (key, value) = match word.as_str() {
            "run" => ("ProgramArguments", Value::Array(value.as_array().unwrap().iter().map(text).collect())),
            "keep_alive" => {
                let dictionary = value.as_object().unwrap().iter().map(|(name, value)| {
                    let key = if name == "successful_exit" { "SuccessfulExit" } else { "Crashed" };
                    (key.to_owned(), Value::Boolean(value.as_bool().unwrap()))
                });
                ("KeepAlive", Value::Dictionary(dictionary.collect()))
            }
            "throttle_interval" => ("ThrottleInterval", value.as_i64().unwrap().into()),
            "stop_timeout" => ("ExitTimeOut", value.as_i64().unwrap().into()),
            "process_type" => ("ProcessType", value.as_str().map(|t| t[..1].to_uppercase() + &t[1..]).unwrap().into()),
            "environment_variables" => {
                let pairs = value.as_object().unwrap().iter().map(|(name, value)| (name.clone(), text(value)));
                ("EnvironmentVariables", Value::Dictionary(pairs.collect()))
            }
            "error_log_path" => ("StandardErrorPath", text(value)),
            other => panic!("a new word, {other}: teach this test what brew makes of it"),
        };
        job.insert(key.into(), value);
    }
    job.sort_keys();
    Value::Dictionary(job)
}

/// What it makes of it for systemd.
fn unit_of(words: &Json) -> String {
    let quoted = |value: &Json| format!("\"{}\"", value.as_str().unwrap());
    let command: Vec<String> = words["run"].as_array().unwrap().iter().map(quoted).collect();
    let mut unit = "[Unit]\nDescription=Homebrew generated unit for mpm-monitor\n\n[Install]\nWantedBy=default.target\n\n[Service]\n\
                    Type=simple\n"
        .to_owned();
    unit += &format!("ExecStart={}\n", command.join(" "));
    if words["keep_alive"]["crashed"] == true {
        unit += "Restart=on-failure\n";
    }
    unit += &format!("TimeoutStopSec={}\n", words["stop_timeout"]);
    unit += &format!("StandardError=append:{}\n", words["error_log_path"].as_str().unwrap());
    for (name, value) in words["environment_variables"].as_object().unwrap() {
        unit += &format!("Environment=\"{name}={}\"\n", value.as_str().unwrap());
    }
    unit
}

#[track_caller]
fn golden(name: &str, made: &str) {
    let path = here(&format!("packaging/homebrew/golden/{name}"));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, made).unwrap();
    }
    let known = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        known == made,
        "{path} differs; with UPDATE_GOLDEN=1 it is written anew\n--- made\n{made}\n--- known\n{known}"
    );
}

#[test]
fn what_brew_services_writes_is_known() {
    let Some(formula) = formula() else { return };
    let mut xml = Vec::new();
    plist_of(&formula["macos"]).to_writer_xml(&mut xml).unwrap();
    golden("homebrew.mxcl.mpm-monitor.plist", &(String::from_utf8(xml).unwrap() + "\n"));
    golden("homebrew.mpm-monitor.service", &unit_of(&formula["linux"]));
}

#[test]
fn the_formula_is_complete() {
    let Some(formula) = formula() else { return };
    for word in ["desc", "homepage", "url", "version", "license", "test"] {
        assert!(!formula["formula"][word].is_null(), "{word}: {formula:#}");
    }
    assert_eq!(formula["formula"]["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(formula["formula"]["sha256"].as_str().map(str::len), Some(64));
    assert_eq!(formula["methods"], serde_json::json!(["caveats", "install"]));
}

/// The daemon as brew's plain unit runs it: no notify socket, no watchdog, standard error in a file.
#[test]
fn it_serves_under_the_plain_unit_that_brew_writes() {
    let Some(formula) = formula() else { return };
    let place = testkit::daemon::Place::new();
    let port = testkit::http::free_port();
    let words: Vec<&str> =
        formula["linux"]["run"].as_array().unwrap().iter().skip(1).filter_map(Json::as_str).collect();
    let mut command = place.command(&words);
    command.env("MPM_MONITOR_PORT", port.to_string()).env("MPM_MONITOR_LOG_FILE", place.path("logs/monitor.log"));
    command.env("SYSTEMD_EXEC_PID", "1").env("INVOCATION_ID", "0123456789abcdef0123456789abcdef");
    let mut daemon = testkit::command::Running::start(&mut command);
    testkit::daemon::ready(port, daemon.pid());
    testkit::daemon::signal(daemon.pid(), "TERM");
    assert_eq!(daemon.end(testkit::daemon::SOON), 0);
    assert!(std::fs::read_to_string(place.path("logs/monitor.log")).unwrap().contains("cleanup completed"));
}

/// Under that unit nobody but the process itself ends a hang; systemd then starts another one.
#[cfg(debug_assertions)]
#[test]
fn hang_under_the_plain_unit_ends_the_process() {
    let Some(formula) = formula() else { return };
    let (place, port) = (testkit::daemon::Place::new(), testkit::http::free_port());
    let mut command = place.command(["run", "--port", &port.to_string()]);
    for (name, value) in formula["linux"]["environment_variables"].as_object().unwrap() {
        if name.starts_with("MPM_MONITOR_WATCHDOG") {
            command.env(name, value.as_str().unwrap());
        }
    }
    command.env("MPM_MONITOR_FAILPOINT", "hang-after-ready").env("MPM_MONITOR_WATCHDOG_TIMEOUT", "1s");
    let mut daemon = testkit::command::Running::start(&mut command);
    assert_eq!(daemon.end(testkit::daemon::SOON), 70, "{:?}", daemon.seen);
}
