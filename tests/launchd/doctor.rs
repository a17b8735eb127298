//! `doctor` and `report` on launchd.

use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use crate::{health, installed, label, plist};
use testkit::command::{Ran, run};
use testkit::http::free_port;
use testkit::launchd::Launchd;

#[track_caller]
fn doctor(launchd: &Launchd, port: u16) -> Value {
    launchd.verb("doctor", port, &["--json"]).json()
}

#[track_caller]
fn find(report: &Value, code: &str) -> Value {
    let all = report["instances"][0]["checks"].as_array().unwrap();
    all.iter().find(|c| c["code"] == code).unwrap_or_else(|| panic!("no {code}: {report:#}")).clone()
}

/// Types what a check says to type, one of ours.
#[track_caller]
fn typed(launchd: &Launchd, check: &Value) -> Ran {
    let next = check["next"].as_str().unwrap_or_else(|| panic!("nothing to type: {check:#}"));
    let words = next.strip_prefix("mpm-monitor ").unwrap_or_else(|| panic!("not ours: {next}"));
    run(&mut launchd.command(words.split(' ')), std::time::Duration::from_secs(90))
}

#[test]
fn the_doctor_finds_nothing_on_a_mac_that_is_well_and_changes_nothing() {
    let (launchd, port) = installed(&[]);
    launchd.forget_calls();
    let report = doctor(&launchd, port);
    let failed: Vec<&Value> = report["instances"][0]["checks"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|c| c["outcome"] == "failed" && c["severity"] != "note")
        .collect();
    // The program under test is in a build tree.
    assert!(failed.iter().all(|c| c["code"] == "program-lasts"), "{failed:#?}");
    for code in
        ["manager-reachable", "ready", "identity", "versions", "unit-edited", "log-readable", "tool-paths", "watchdog"]
    {
        assert_eq!(find(&report, code)["outcome"], "verified", "{report:#}");
    }
    assert_eq!(find(&report, "linger")["outcome"], "not-run");
    assert_eq!(launchd.told(), Vec::<String>::new());
}

#[test]
fn what_is_broken_on_a_mac_is_found_and_repaired_by_what_is_typed() {
    let (launchd, port) = installed(&[]);
    // Stopped: booted out.
    launchd.verb("stop", port, &[]).ok();
    let ready = find(&doctor(&launchd, port), "ready");
    assert_eq!(ready["outcome"], "failed");
    typed(&launchd, &ready).ok();
    assert_eq!(find(&doctor(&launchd, port), "ready")["outcome"], "verified");
    // Edited by hand.
    let file = plist(&launchd, port);
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace("<integer>10</integer>", "<integer>99</integer>")).unwrap();
    let edited = find(&doctor(&launchd, port), "unit-edited");
    assert!(edited["outcome"] == "failed" && edited.get("fixes").is_none(), "{edited:#}");
    // Outdated, and writable by others, which --fix repairs without an installation that was not asked for.
    let body = text.replacen("program=0.1.0", "program=0.0.9", 1);
    fs::write(&file, &body).unwrap();
    fs::set_permissions(&file, PermissionsExt::from_mode(0o666)).unwrap();
    let report = doctor(&launchd, port);
    for code in ["unit-outdated", "unit-mode"] {
        assert_eq!(find(&report, code)["outcome"], "failed", "{report:#}");
    }
    let before = health(port)["instance_id"].clone();
    let fixed = launchd.verb("doctor", port, &["--fix", "--yes"]);
    assert!(
        fixed.stdout.contains("anew, and restart; unit-outdated") && fixed.stdout.contains("unit-mode: verified"),
        "{fixed}"
    );
    assert_eq!(fs::read_to_string(&file).unwrap(), text);
    assert_ne!(health(port)["instance_id"], before, "the old process still runs by the old definition");
    // The directory of its log is gone.
    launchd.verb("stop", port, &[]).ok();
    fs::remove_dir_all(launchd.path("home/Library/Logs")).unwrap();
    let log = find(&doctor(&launchd, port), "log-readable");
    assert!(log["summary"].as_str().unwrap().contains("(78)"), "{log:#}");
    typed(&launchd, &log).ok();
    assert_eq!(find(&doctor(&launchd, port), "log-readable")["outcome"], "verified");
}

/// The program was replaced and the process crashed: macOS refuses the new one, and what is typed loads it anew.
#[test]
fn program_that_macos_refuses_is_named_and_repaired() {
    let (launchd, port) = installed(&[]);
    let beside = launchd.path("opt/new");
    fs::copy(launchd.program(), &beside).unwrap();
    fs::rename(&beside, launchd.program()).unwrap();
    testkit::daemon::signal(launchd.pid(&label(port)).unwrap(), "KILL");
    let ready = testkit::eventually(testkit::daemon::SOON, "the refusal", || {
        let ready = find(&doctor(&launchd, port), "ready");
        if ready.to_string().contains("OS_REASON_CODESIGNING") { Ok(ready) } else { Err(ready.to_string()) }
    });
    assert_eq!(ready["outcome"], "failed", "{ready:#}");
    typed(&launchd, &ready).ok();
    assert_eq!(find(&doctor(&launchd, port), "ready")["outcome"], "verified");
}

#[test]
fn a_mac_without_a_session_is_told_and_nothing_hangs() {
    let (launchd, port) = (Launchd::start(), free_port());
    launchd.state().behaviour.domains.clear();
    let ran = launchd.verb("doctor", port, &["--json"]).expect(1);
    let check = find(&ran.json(), "manager-reachable");
    assert_eq!(check["outcome"], "failed", "{check:#}");
    launchd.state().behaviour.slow = std::time::Duration::from_secs(60);
    let ran = launchd.verb("doctor", port, &["--json"]).expect(1);
    assert!(ran.took < std::time::Duration::from_secs(14), "{ran}");
}

/// Every file in a bundle, by its name in the folder.
fn unpacked(bytes: &[u8]) -> Vec<(String, String)> {
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(bytes));
    let mut files = Vec::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        assert_eq!(entry.header().mode().unwrap(), 0o600);
        let name = entry.path().unwrap().display().to_string();
        let mut text = String::new();
        entry.read_to_string(&mut text).unwrap();
        files.push((name.split_once('/').unwrap().1.to_owned(), text));
    }
    files
}

/// What must never leave the machine is put into every place that the report looks at.
#[test]
fn no_secret_that_was_planted_anywhere_is_in_the_bundle() {
    let (launchd, port) = (Launchd::start(), free_port());
    let secret = |n: u8| format!("PLANTED{n}xQ7z4Lm2Vt9");
    let config = launchd.path("home/.config/mpm-monitor");
    fs::create_dir_all(&config).unwrap();
    fs::write(config.join("token"), secret(1)).unwrap();
    fs::set_permissions(config.join("token"), PermissionsExt::from_mode(0o600)).unwrap();
    let settings = format!(
        "[access]\ntoken_file = \"{}\"\nlocal = \"all\"\n[server]\nallow_origin = [\"https://ann:{}@a.example\"]\n",
        config.join("token").display(),
        secret(2)
    );
    fs::write(config.join("config.toml"), &settings).unwrap();
    // Whether that origin is taken or refused, what is said of it must not tell.
    let refused = launchd.verb("report", port, &["--output", "-"]);
    assert!(!refused.stderr.contains("PLANTED"), "{refused}");
    let settings = settings.replace("https://ann:", "https://a").replace(&format!("{}@", secret(2)), "");
    fs::write(config.join("config.toml"), settings).unwrap();

    let token = format!("UPSTREAM_API_KEY={}", secret(3));
    let dsn = format!("DSN=redis://ann:{}@db/0", secret(4));
    let plain = format!("PLAIN={}", secret(15));
    launchd.verb("install", port, &["--env", &token, "--env", &dsn, "--env", &plain]).ok();
    // An event with a prompt.
    let event = format!(
        r#"{{"event":"claude_event","data":{{"type":"hook","subtype":"user_prompt","data":{{"prompt":"{}"}}}}}}"#,
        secret(5)
    );
    assert_eq!(testkit::http::request(port, "POST", "/api/events", Some(&event)).unwrap().status, 204);
    // The log, what launchd captured, and the ledger.
    let logs = launchd.path("home/Library/Logs/mpm-monitor");
    let line = format!(
        "2026-11-22T10:00:00Z INFO Authorization: Bearer {}\n2026-11-22T10:00:01Z WARN {{\"password\": \"{}\"}} sk-{} \
         https://x/?token={}\n",
        secret(6),
        secret(7),
        secret(8),
        secret(9)
    );
    // Each text of the corpus is between lines that must stay. A key without an end hides all that follows.
    let corpus = crate::corpus::planted(11);
    let (endless, texts): (Vec<_>, Vec<_>) =
        corpus.iter().partition(|p| p.text.contains("BEGIN ") && !p.text.contains("END "));
    let texts: Vec<&str> = texts.into_iter().map(|p| p.text.as_str()).collect();
    let all_planted = texts.join("\nstays as it is\n") + "\nthe last that stays\n" + &endless[0].text + "\n";
    for file in [format!("{port}.log"), format!("{port}.stderr.log")] {
        let path = logs.join(&file);
        let text = fs::read_to_string(&path).unwrap_or_default();
        let planted = if file.ends_with("stderr.log") { "" } else { &all_planted };
        fs::write(&path, text + &line + planted).unwrap();
    }
    let state = launchd.path(&format!("home/.local/state/mpm-monitor/{port}/ledger.json"));
    let mut ledger: Value = serde_json::from_str(&fs::read_to_string(&state).unwrap()).unwrap();
    ledger["last_failure"] = serde_json::json!({
        "reason": format!("cannot reach postgres://ann:{}@db: secret={}\n{all_planted}", secret(10), secret(11)),
        "at": "2026-11-22T10:00:00Z", "was_ready": true,
    });
    ledger["consecutive_failures"] = 1.into();
    fs::write(&state, ledger.to_string()).unwrap();
    // Claude Code's settings.
    fs::create_dir_all(launchd.path("home/.claude")).unwrap();
    let hooks = serde_json::json!({"env": {"ANTHROPIC_API_KEY": secret(12)}, "hooks": {"Stop": [{"hooks": [
        {"type": "command", "command": format!("API_TOKEN={} /opt/gone/claude-hook-fast.sh --api-key {}", secret(13), secret(14))}
    ]}]}});
    fs::write(launchd.path("home/.claude/settings.json"), hooks.to_string()).unwrap();

    let path = launchd.path("bundle.tar.gz");
    let path = path.to_str().unwrap();
    let ran = launchd.verb("report", port, &["--output", path]).ok();
    assert!(ran.stdout.contains("bundle.tar.gz") && ran.stdout.contains("redacted"), "{ran}");
    use std::os::unix::fs::MetadataExt;
    assert_eq!(fs::metadata(path).unwrap().mode() & 0o777, 0o600);
    let bytes = fs::read(path).unwrap();
    let files = unpacked(&bytes);
    let names: Vec<&str> = files.iter().map(|(n, _)| n.as_str()).collect();
    for wanted in [
        "doctor.json",
        "doctor.txt",
        "versions.txt",
        "status.json",
        "figures.json",
        "config.toml",
        "log.txt",
        "ledger.json",
        "receipt.json",
    ] {
        assert!(names.iter().any(|n| n.ends_with(wanted)), "no {wanted} in {names:?}\n{ran}");
    }
    assert!(names.iter().any(|n| n.contains(&format!("unit/{}.plist", label(port)))), "{names:?}");
    assert_eq!(names[0], "MANIFEST.txt");
    let all: String = files.iter().map(|(n, t)| format!("--- {n}\n{t}\n")).collect();
    let leaks: Vec<&str> = all.lines().filter(|l| l.contains("PLANTED")).collect();
    assert!(leaks.is_empty(), "{leaks:#?}");
    let around: String = corpus.iter().map(|p| p.around.as_str()).collect();
    let planted: Vec<_> = corpus.iter().filter_map(|p| Some((p.leaked_by(&all, 12, &around)?, &p.text))).collect();
    assert!(planted.is_empty(), "{planted:#?}\n{all}");
    let kept = all.matches("stays as it is").count();
    println!("redaction, whole bundle: leaked 0 of {} texts, {kept} lines between them kept", corpus.len());
    assert!(kept > corpus.len() * 3 / 4 && all.contains("the last that stays"), "{kept} lines between them:\n{all}");
    assert!(all.matches("[redacted]").count() > 15, "too few were taken out to trust the test:\n{all}");
    // What is there stays, and the same goes to standard output.
    let again = launchd.verb("report", port, &["--output", path]).expect(73);
    assert!(again.stderr.contains("is there already"), "{again}");
    assert_eq!(fs::read(path).unwrap(), bytes);
    let mut command = launchd.command(["report", "--user", "--port", &port.to_string(), "--output", "-"]);
    let output = command.output().unwrap();
    assert_eq!(unpacked(&output.stdout).len(), files.len());
    assert!(!String::from_utf8_lossy(&output.stderr).contains("PLANTED"));
}
