//! What other users leave for the verbs to find: files that trap a reader, texts that steer a terminal, outputs that nobody
//! reads.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};

use testkit::command::{Ran, run};
use testkit::daemon::{Place, SOON};

/// It retitles, clears, moves, and turns the direction of text.
const STEERS: &str = "9.9\u{1b}]0;owned\u{7}\u{1b}[2J\r\u{9b}31m\u{202e}x";

/// The escaped form of its beginning.
const ESCAPED: &str = "\\u001b]0;owned\\u0007\\u001b[2J";

/// Puts something in the place of a file; the second path is that of a secret.
type Trap = fn(&Path, &Path);

fn steers(text: &str) -> bool {
    text.chars().any(|c| (c.is_control() && c != '\n' && c != '\t') || c == '\u{202e}')
}

fn lock(version: &str, port: u16) -> String {
    serde_json::json!({
        "port": port, "pid": std::process::id(), "start_time": 1, "boot_id": "b", "instance_id": version,
        "version": version, "build": "b", "addresses": [format!("127.0.0.1:{port}")], "managed_by": "none",
    })
    .to_string()
}

/// A monitor of somebody else on a port of its own, which answers everything with this `/health`.
fn foreign(version: &str) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let body = serde_json::json!({
        "service": "claude-mpm-monitor", "status": "ok", "version": version, "port": port, "pid": std::process::id(),
        "instance_id": version, "ready": true,
    })
    .to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
            let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length:";
            let _ = write!(stream, "{head} {}\r\n\r\n{body}", body.len());
        }
    });
    port
}

fn verbs(place: &Place, port: u16) -> Vec<Ran> {
    let port = port.to_string();
    let report = place.path("report.tar.gz").display().to_string();
    let _ = std::fs::remove_file(&report);
    [
        vec!["status", "--user", "--port", &port],
        vec!["list"],
        vec!["doctor", "--user", "--port", &port],
        vec!["report", "--user", "--port", &port, "--output", &report],
        vec!["reload", "--user", "--port", &port],
        vec!["install", "--user", "--port", &port, "--dry-run", "--program", "/bin/true"],
        vec!["uninstall", "--user", "--port", &port, "--dry-run"],
    ]
    .into_iter()
    .map(|words| run(&mut place.command(words), SOON * 3))
    .collect()
}

#[test]
fn verbs_survive_traps_in_place_of_kept_files() {
    let place = Place::new();
    let port = 8765;
    let state = place.path("home/.local/state/mpm-monitor/8765");
    let receipts = place.path("home/.local/state/mpm-monitor/receipts");
    let locks = place.path("run/mpm-monitor");
    for dir in [&state, &receipts, &locks] {
        std::fs::create_dir_all(dir).unwrap();
    }
    std::fs::write(place.path("secret"), "root:$6$planted-secret").unwrap();
    let kept = [state.join("ledger.json"), receipts.join("8765.json"), locks.join("8765.lock")];
    let traps: [(&str, Trap); 4] = [
        ("pipe", |path, _| assert!(Command::new("mkfifo").arg(path).status().unwrap().success())),
        ("link to a device", |path, _| symlink("/dev/zero", path).unwrap()),
        ("link to a secret", |path, secret| symlink(secret, path).unwrap()),
        ("2 GiB", |path, _| std::fs::File::create(path).unwrap().set_len(2 << 30).unwrap()),
    ];
    for (what, make) in traps {
        for path in &kept {
            let _ = std::fs::remove_file(path);
            make(path, &place.path("secret"));
        }
        for ran in verbs(&place, port) {
            assert!(ran.code != 101 && !ran.all().contains("planted-secret"), "{what}: {ran}");
        }
        let packed = place.path("report.tar.gz");
        let text = Command::new("tar").arg("-xzOf").arg(&packed).output().unwrap();
        assert!(text.status.success() && !text.stdout.is_empty(), "{what}");
        assert!(!String::from_utf8_lossy(&text.stdout).contains("planted-secret"), "{what}");
    }
}

#[test]
fn foreign_texts_are_printed_escaped() {
    let place = Place::new();
    let port = foreign(STEERS);
    let locks = place.path("run/mpm-monitor");
    std::fs::create_dir_all(&locks).unwrap();
    let path = locks.join(format!("{port}.lock"));
    std::fs::write(&path, lock(STEERS, port)).unwrap();
    let held = std::fs::File::open(&path).unwrap();
    held.lock().unwrap();
    let (mut shown, mut said) = (0, String::new());
    for ran in verbs(&place, port) {
        assert!(!steers(&ran.all()), "{ran}");
        shown += usize::from(ran.all().contains(ESCAPED));
        said.push_str(&ran.all());
    }
    assert!(shown >= 2, "`status` and others show the version: {said}");
    let port = port.to_string();
    for words in [vec!["status", "--user", "--port", &port, "--json"], vec!["list", "--json"]] {
        let ran = place.ran(words);
        assert!(!steers(&ran.stdout), "{ran}");
        assert!(ran.json().to_string().contains("9.9\\u001b]0;owned"), "{ran}");
    }
    let ran = place.ran(["status", "--user", "--port", "\u{1b}[2J\u{9b}x"]).expect(2);
    assert!(!steers(&ran.all()) && ran.stderr.contains("\\u009bx"), "{ran}");
}

/// A shell script that leaves a trace.
fn tracer(path: &Path, trace: &Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, format!("#!/bin/sh\necho \"$0 $*\" >> {}\n", trace.display())).unwrap();
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o755)).unwrap();
}

#[test]
fn verbs_run_nothing_that_a_project_brings() {
    let place = Place::new();
    let (project, trace) = (place.path("project"), place.path("trace"));
    let hooks = |commands: &[&str]| {
        let hooks: Vec<_> = commands.iter().map(|c| serde_json::json!({"type": "command", "command": c})).collect();
        serde_json::json!({"hooks": {"PreToolUse": [{"matcher": "*", "hooks": hooks}]}}).to_string()
    };
    for name in [".x/python3", ".x/mpm-monitor", "python3"] {
        tracer(&project.join(name), &trace);
    }
    std::fs::write(project.join("claude_mpm.py"), format!("open('{}', 'a').write('imported')", trace.display()))
        .unwrap();
    std::fs::create_dir_all(project.join(".claude")).unwrap();
    std::fs::create_dir_all(place.path("home/.claude")).unwrap();
    let of_project = [
        "$CLAUDE_PROJECT_DIR/.x/python3 -m claude_mpm.hooks",
        "$CLAUDE_PROJECT_DIR/.x/mpm-monitor hook",
        &format!("{}/.x/mpm-monitor hook", project.display()),
        &format!("{}/.x/python3 -m claude_mpm.hooks", project.display()),
        "./.x/python3 -m claude_mpm.hooks",
        "python3 -m claude_mpm.hooks",
    ];
    for file in ["settings.json", "settings.local.json"] {
        std::fs::write(project.join(".claude").join(file), hooks(&of_project)).unwrap();
    }
    // The user's own settings name Pythons as well, which find the project's module first.
    std::fs::write(place.path("home/.claude/settings.json"), hooks(&["python3 -m claude_mpm.hooks"])).unwrap();
    let report = place.path("report.tar.gz").display().to_string();
    for words in [
        vec!["hooks", "status"],
        vec!["hooks", "status", "--project", "."],
        vec!["doctor", "--user", "--port", "8765"],
        vec!["doctor", "--system", "--port", "8765"],
        vec!["report", "--user", "--port", "8765", "--output", &report],
    ] {
        let mut command = place.command(&words);
        let path = format!("{}:{}", project.display(), std::env::var("PATH").unwrap_or_default());
        command
            .current_dir(&project)
            .env("PATH", path)
            .env("PYTHONPATH", &project)
            .env("VIRTUAL_ENV", project.join(".x"));
        let ran = run(&mut command, SOON * 3);
        let traces = std::fs::read_to_string(&trace).unwrap_or_default();
        assert!(traces.is_empty(), "{traces}: {ran}");
    }
}

#[test]
fn outputs_that_nobody_reads_are_no_panic() {
    let place = Place::new();
    let verbs = [
        vec!["status", "--user", "--port", "1"],
        vec!["list"],
        vec!["logs", "--user"],
        vec!["config", "check", "--set", "no.such=1"],
        vec!["config", "show"],
        vec!["hooks", "status"],
        vec!["no-such-verb"],
        vec!["--help"],
        vec!["hook", "--verbose"],
    ];
    for words in verbs {
        for (stdout, stderr) in [(true, false), (false, true), (true, true)] {
            let broken = || {
                let (reader, writer) = std::io::pipe().unwrap();
                drop(reader);
                Stdio::from(writer)
            };
            let mut command = place.command(&words);
            command.stdin(Stdio::null());
            command.stdout(if stdout { broken() } else { Stdio::null() });
            command.stderr(if stderr { broken() } else { Stdio::null() });
            let code = command.status().unwrap().code();
            let told = run(&mut place.command(&words), SOON).code;
            assert_eq!(code, Some(told), "{words:?}, stdout {stdout}, stderr {stderr}");
        }
    }
}
