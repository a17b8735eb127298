//! A page of another site in a real browser, which tries everything a page can: it stores nothing and reads nothing. The
//! same page from this machine can do both, or its tries would prove nothing.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::Value;

use super::Victim;
use testkit::command::Running;
use testkit::daemon::SOON;
use testkit::{eventually, figure, http, skip};

const SECRET: &str = "the-agents-secret";
/// A browser on a busy machine takes its time.
const LONG: Duration = Duration::from_secs(60);
/// The foreign names lead to this machine, as an attacker's own name server would have them.
const RULES: &str = "--host-resolver-rules=MAP evil.example 127.0.0.1, MAP rebound.example 127.0.0.1";

/// Serves the page, and hands over what it sends back.
fn attacker(monitor: u16) -> (u16, Receiver<Value>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let (sender, results) = channel();
    let page = include_str!("page.html").replace("MONITOR", &monitor.to_string());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let (page, sender) = (page.clone(), sender.clone());
            // Browsers open connections ahead of their use.
            std::thread::spawn(move || {
                let _ = stream.set_read_timeout(Some(LONG));
                let (mut request, mut piece) = (Vec::new(), [0; 8192]);
                let (head, length) = loop {
                    match stream.read(&mut piece) {
                        Ok(0) | Err(_) => return,
                        Ok(n) => request.extend_from_slice(&piece[..n]),
                    }
                    let text = String::from_utf8_lossy(&request).into_owned();
                    let Some(at) = text.find("\r\n\r\n") else { continue };
                    let length =
                        text.to_lowercase().lines().find_map(|l| l.strip_prefix("content-length: ")?.parse().ok());
                    if request.len() >= at + 4 + length.unwrap_or(0) {
                        break (text, at + 4);
                    }
                };
                if head.starts_with("POST /results")
                    && let Ok(value) = serde_json::from_slice(&request[length..])
                {
                    let _ = sender.send(value);
                }
                let page = if head.starts_with("GET / ") { page.as_str() } else { "" };
                let answer = format!(
                    "HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{page}",
                    page.len()
                );
                let _ = stream.write_all(answer.as_bytes());
            });
        }
    });
    (port, results)
}

/// A browser with a profile of its own. It is many processes, which outlive the first one and write into the profile; they
/// are a session, and all of them end with it.
struct Browser {
    running: Running,
    _profile: tempfile::TempDir,
}

impl Browser {
    #[track_caller]
    fn start(more: &[&str]) -> Self {
        let profile = tempfile::tempdir().unwrap();
        let mut command = Command::new("setsid");
        command.args(["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]);
        command.args(["--no-first-run", RULES]).arg(format!("--user-data-dir={}", profile.path().display()));
        command.env("HOME", profile.path()).env("TMPDIR", profile.path()).args(more);
        Self { running: Running::start(&mut command), _profile: profile }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let session = self.running.pid().to_string();
        eventually(SOON, "the end of the browser's processes", || {
            let left = of_session(&session);
            for pid in &left {
                let _ = rustix::process::kill_process(*pid, rustix::process::Signal::KILL);
            }
            if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
        });
    }
}

/// The processes of a session that have not ended.
fn of_session(session: &str) -> Vec<rustix::process::Pid> {
    let of = |process: &Path| {
        let stat = std::fs::read_to_string(process.join("stat")).ok()?;
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
        let (state, is_of) = (fields.next()?, fields.nth(2)? == session);
        let pid = process.file_name()?.to_str()?.parse().ok()?;
        (is_of && !matches!(state, "Z" | "X")).then(|| rustix::process::Pid::from_raw(pid)).flatten()
    };
    std::fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| of(&entry.path())).collect()
}

fn is_there() -> bool {
    std::env::var_os("PATH").is_some_and(|p| std::env::split_paths(&p).any(|dir| dir.join("chromium").exists()))
}

/// What the page's tries came to when a browser has it from `host`.
fn tries(victim: &Victim, host: &str) -> Value {
    let (port, results) = attacker(victim.port);
    let url = format!("http://{host}:{port}/");
    let _browser = Browser::start(&["--remote-debugging-port=0", &url]);
    results.recv_timeout(LONG).expect("the page's results")
}

fn planted(victim: &Victim) -> Vec<String> {
    let page = http::get(victim.port, "/api/events?limit=1000&after=51").unwrap().json();
    let how = |e: &Value| e["payload"].to_string();
    page["events"].as_array().unwrap().iter().map(how).filter(|e| e.contains("planted")).collect()
}

#[test]
fn a_foreign_page_can_neither_read_nor_write() {
    if !is_there() {
        return skip("there is no chromium; scripts/setup.sh test installs it");
    }
    let victim = Victim::new(&[]);
    assert_eq!(http::post_event(victim.port, SECRET).unwrap().status, 204);

    let foreign = tries(&victim, "evil.example");
    for (name, result) in foreign.as_object().unwrap() {
        let result = result.as_str().unwrap();
        // A simple request or a form leaves the browser; whether anything came of it is seen in the history.
        let leaves = matches!(name.as_str(), "post_simple" | "form" | "beacon");
        assert!(result.starts_with("no") || (leaves && result.starts_with("sent")), "{name}: {result}");
        assert!(!result.contains(SECRET), "{name} has read it: {result}");
    }
    assert_eq!(planted(&victim), [""; 0], "a foreign page has stored something: {foreign}");
    figure("hostile_page_tries", foreign.as_object().unwrap().len(), "ways tried by a foreign page, 0 led in");

    // The attacker's own name, made to resolve to this machine, in the address bar.
    let url = format!("http://rebound.example:{}/api/events", victim.port);
    let mut browser = Browser::start(&["--dump-dom", &url]);
    browser.running.end(LONG);
    let dump = browser.running.seen.join("\n");
    assert!(dump.contains("host_not_allowed") && !dump.contains(SECRET), "{dump}");

    // The same page from this machine: every way that is closed above is one.
    let own = tries(&victim, "localhost");
    for name in ["read_events", "read_health", "post_json", "websocket", "polling"] {
        assert!(own[name].as_str().is_some_and(|r| r.starts_with("yes")), "{name}: {own}");
    }
    assert!(own["read_events"].as_str().is_some_and(|r| r.contains("before-0")), "{own}");
    let stored = planted(&victim);
    for how in ["no-cors", "cors", "beacon", "form", "websocket"] {
        assert!(stored.iter().any(|e| e.contains(&format!("\"how\":\"{how}\""))), "{how} is no way in at all: {own}");
    }
    victim.survived("page", 1 + stored.len() as u64, 32);
}
