//! The samples of `docs/operations.md`, taken out of the page and run against the real program.
#![cfg(target_os = "linux")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use clap::Parser;
use serde_json::Value;
use testkit::command::{Ran, Running, run};
use testkit::daemon::{Place, SOON};
use testkit::{eventually, figure, here, http, skip};

const NAME: &str = "monitor.example.org";
const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// The samples in that language, in the order of the page.
fn samples(language: &str) -> Vec<String> {
    let page = std::fs::read_to_string(here("docs/operations.md")).unwrap();
    let blocks = page.split("\n```").skip(1).step_by(2);
    let found: Vec<String> = blocks
        .filter_map(|b| b.split_once('\n'))
        .filter(|(l, _)| *l == language)
        .map(|(_, text)| text.to_owned() + "\n")
        .collect();
    assert!(!found.is_empty(), "docs/operations.md has no sample in {language}");
    found
}

/// A sample with something put in the place of what only the reader knows, which must be there.
fn with(sample: &str, replacements: &[(&str, &str)]) -> String {
    replacements.iter().fold(sample.to_owned(), |text, (from, to)| {
        assert!(text.contains(from), "the sample has no {from}:\n{text}");
        text.replace(from, to)
    })
}

/// A program that `scripts/setup.sh test` unpacked; not installed, as Debian would start a service of it.
fn tool(package: &str, program: &str) -> Option<PathBuf> {
    let target = testkit::target();
    let path = Path::new(&target).join("test-tools").join(package).join(program);
    if !path.exists() {
        skip(&format!("there is no {}; `scripts/setup.sh test` unpacks it", path.display()));
        return None;
    }
    Some(path)
}

/// A daemon behind a proxy: with a token, and the proxy's name.
fn behind(place: &Place) -> (u16, Running) {
    use std::os::unix::fs::PermissionsExt;
    let token = place.path("token");
    std::fs::write(&token, TOKEN).unwrap();
    std::fs::set_permissions(&token, PermissionsExt::from_mode(0o600)).unwrap();
    let settings = place.path("config.toml");
    let sample = samples("toml").remove(0);
    std::fs::write(&settings, with(&sample, &[("/etc/mpm-monitor/token", token.to_str().unwrap())])).unwrap();
    let port = http::free_port();
    let daemon = Running::start(&mut place.command([
        "run",
        "--port",
        &port.to_string(),
        "--config",
        settings.to_str().unwrap(),
    ]));
    testkit::daemon::ready(port, daemon.pid());
    (port, daemon)
}

/// curl, to the proxy's name at that port.
fn curl(place: &Place, port: u16, words: &[&str], path: &str) -> Ran {
    let mut command = Command::new("curl");
    command.args(["-sS", "--max-time", "15", "--cacert", place.path("cert.pem").to_str().unwrap()]);
    command.args(["--resolve", &format!("{NAME}:{port}:127.0.0.1"), "-w", "\n%{http_code}"]).args(words);
    run(command.arg(format!("https://{NAME}:{port}{path}")).env_clear(), SOON)
}

fn certificate(place: &Place) {
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]);
    openssl.args(["-subj", &format!("/CN={NAME}"), "-addext", &format!("subjectAltName=DNS:{NAME},DNS:localhost")]);
    openssl.arg("-keyout").arg(place.path("key.pem")).arg("-out").arg(place.path("cert.pem"));
    run(&mut openssl, SOON).ok();
}

/// What has to work through a proxy while it runs: requests, posts, both transports of Socket.IO, live; and nothing of it without the token.
fn works_through(proxy: &mut Command, place: &Place, port: u16, daemon: u16) {
    let mut proxy = Running::start(proxy);
    let bearer = format!("Authorization: Bearer {TOKEN}");
    let code = |ran: &Ran| ran.text().rsplit('\n').next().unwrap_or_default().to_owned();
    eventually(SOON, "the proxy to answer", || {
        let ran = curl(place, port, &[], "/ready");
        if code(&ran) == "200" { Ok(()) } else { Err(ran) }
    });
    for (words, path, expected) in [
        (&[][..], "/", "200"),
        (&[], "/api/events", "401"),
        (&["-H", &bearer], "/api/events", "200"),
        (&["-d", "{}"], "/api/events", "401"),
        (&["-H", &bearer, "-H", "Origin: https://evil.example"], "/api/events", "403"),
        (&["-H", &bearer, "-H", &format!("Origin: https://{NAME}:{port}")], "/api/status", "200"),
    ] {
        let ran = curl(place, port, words, path);
        assert_eq!(code(&ran), expected, "{ran}");
    }
    assert_eq!(http::get(daemon, "/health").unwrap().status, 200, "on loopback as ever");

    let python = format!("{}/bin/python3", testkit::venv());
    let mut clients: Vec<Running> = ["websocket", "polling"]
        .map(|transport| {
            let mut command = Command::new(&python);
            command.arg(here("tests/clients/sio_listen.py")).arg(format!("https://localhost:{port}")).arg(transport);
            Running::start(command.env("SIO_TOKEN", TOKEN))
        })
        .into();
    for client in &mut clients {
        client.until(SOON, "the connection", |line| line.contains("\"connected\"").then_some(()));
    }
    let marker = r#"{"event":"claude_event","data":{"subtype":"pre_tool","data":{"marker":"through the proxy"}}}"#;
    let posted = curl(place, port, &["-H", &bearer, "-d", marker], "/api/events");
    assert_eq!(code(&posted), "204", "{posted}");
    let began = std::time::Instant::now();
    for client in &mut clients {
        client.until(SOON, "the event", |line| line.contains("through the proxy").then_some(()));
    }
    println!("both transports had the event {} ms after it was posted", began.elapsed().as_millis());
    // It would wait for them.
    drop(clients);
    testkit::daemon::signal(proxy.pid(), "TERM");
    assert_eq!(proxy.end(SOON), 0);
}

#[test]
fn the_sample_for_nginx_works() {
    let Some(nginx) = tool("nginx", "usr/sbin/nginx") else { return };
    let place = Place::new();
    certificate(&place);
    let (daemon, _daemon) = behind(&place);
    let port = http::free_port();
    let at = |name: &str| place.path(name).display().to_string();
    let sample = with(
        &samples("nginx").remove(0),
        &[
            ("listen 443 ssl", &format!("listen 127.0.0.1:{port} ssl")),
            ("/etc/ssl/certs/monitor.example.org.pem", &at("cert.pem")),
            ("/etc/ssl/private/monitor.example.org.key", &at("key.pem")),
            ("127.0.0.1:8765", &format!("127.0.0.1:{daemon}")),
            // The name without its port is what a proxy on 443 has to pass on; here there is one.
            ("Host $host", "Host $host:$server_port"),
        ],
    );
    let temporary: String =
        ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map(|n| format!("{n}_temp_path {};\n", at(n))).concat();
    let user = if rustix::process::geteuid().is_root() { "user root;\n" } else { "" };
    let conf = format!(
        "{user}daemon off;\npid {};\nevents {{}}\nhttp {{\naccess_log off;\n{temporary}{sample}}}\n",
        at("nginx.pid")
    );
    std::fs::write(place.path("nginx.conf"), conf).unwrap();
    let words = ["-e", "stderr", "-p", &at(""), "-c", &at("nginx.conf")];
    run(Command::new(&nginx).arg("-t").args(words), SOON).ok();
    works_through(Command::new(&nginx).args(words), &place, port, daemon);
}

#[test]
fn the_sample_for_caddy_works() {
    let Some(caddy) = tool("caddy", "usr/bin/caddy") else { return };
    let place = Place::new();
    certificate(&place);
    let (daemon, _daemon) = behind(&place);
    let port = http::free_port();
    let at = |name: &str| place.path(name).display().to_string();
    // Its own certificate would have to come from somewhere; the names are those of the test.
    let sample = with(
        &samples("caddy").remove(0),
        &[
            (
                "monitor.example.org {",
                &format!(
                    "https://{NAME}:{port}, https://localhost:{port} {{\n    tls {} {}",
                    at("cert.pem"),
                    at("key.pem")
                ),
            ),
            ("127.0.0.1:8765", &format!("127.0.0.1:{daemon}")),
        ],
    );
    std::fs::write(
        place.path("Caddyfile"),
        format!("{{\n    admin off\n    auto_https disable_redirects\n}}\n{sample}"),
    )
    .unwrap();
    let mut command = Command::new(&caddy);
    command.args(["run", "--adapter", "caddyfile", "--config", &at("Caddyfile")]);
    command.env_clear().env("HOME", place.path("home"));
    works_through(&mut command, &place, port, daemon);
}

/// All events of an instance, by number.
fn history(port: u16) -> Vec<Value> {
    let mut all = Vec::new();
    let mut after = 0;
    loop {
        let page = http::get(port, &format!("/api/events?after={after}&limit=1000")).unwrap().json();
        let events = page["events"].as_array().unwrap();
        if events.is_empty() {
            return all;
        }
        all.extend(events.iter().cloned());
        after = page["next"].as_u64().unwrap();
    }
}

#[test]
fn a_backup_while_it_runs_serves_the_same_events_when_restored() {
    if run(Command::new("sh").args(["-c", "command -v sqlite3"]), SOON).code != 0 {
        return skip("there is no sqlite3; `scripts/setup.sh test` installs it");
    }
    let place = Place::new();
    let port = http::free_port();
    let mut daemon = place.serve(port);
    let (from, to) = (place.path(&format!("state/{port}")), place.path("backup"));
    for n in 0..300 {
        assert_eq!(http::post_event(port, &format!("before {n}")).unwrap().status, 204);
    }
    // All that was accepted by now must be in the copy; it is made while others come.
    let over = std::sync::atomic::AtomicBool::new(false);
    let posted = std::thread::scope(|scope| {
        let poster = scope.spawn(|| {
            let mut posted = 0;
            while !over.load(std::sync::atomic::Ordering::Relaxed) {
                posted += u32::from(http::post_event(port, "meanwhile").unwrap().status == 204);
            }
            posted
        });
        let script = |name: &str| samples("sh").into_iter().find(|s| s.starts_with(&format!("# {name} "))).unwrap();
        let in_shell = |text: &str| {
            let mut shell = Command::new("sh");
            shell.args(["-euc", text]).env("FROM", &from).env("TO", &to);
            run(&mut shell, SOON).ok()
        };
        let before = history(port);
        assert!(before.len() >= 300);
        let took = in_shell(&script("backup")).took;
        figure("backup_while_it_runs", took.as_millis(), "ms");
        over.store(true, std::sync::atomic::Ordering::Relaxed);
        let posted = poster.join().unwrap();
        testkit::daemon::signal(daemon.pid(), "TERM");
        assert_eq!(daemon.end(SOON), 0);
        in_shell(&script("restore"));
        let mut daemon = place.serve(port);
        let restored = history(port);
        assert_eq!(restored[..before.len()], before[..], "what was there before the backup");
        let numbers: Vec<u64> = restored.iter().map(|e| e["seq"].as_u64().unwrap()).collect();
        assert!(numbers.windows(2).all(|w| w[1] == w[0] + 1), "a hole, or one twice: {numbers:?}");
        assert!(restored.len() <= 300 + posted as usize);
        println!("{} before, {} restored, {posted} came meanwhile", before.len(), restored.len());
        assert_eq!(http::post_event(port, "goes on").unwrap().status, 204);
        assert_eq!(history(port).last().unwrap()["seq"].as_u64(), Some(numbers.len() as u64 + 1));
        testkit::daemon::signal(daemon.pid(), "TERM");
        assert_eq!(daemon.end(SOON), 0);
        posted
    });
    assert!(posted > 0, "nothing came meanwhile");
}

#[test]
fn what_else_the_page_says_is_understood() {
    for sample in samples("toml") {
        let layer = mpm_monitor::config::layers::from_toml(Path::new("sample"), &sample);
        assert!(layer.problems.is_empty() && !layer.values.is_empty(), "{:?} in:\n{sample}", layer.problems);
        for (name, raw, _) in layer.values {
            mpm_monitor::config::keys::find(name).unwrap().read(&raw).unwrap_or_else(|e| panic!("{name}: {e}"));
        }
    }
    // Drop-ins, on the unit that packages ship.
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        return skip("needs systemd-analyze (apt-get install systemd)");
    }
    let unit = std::fs::read_to_string(here("systemd/mpm-monitor@.service")).unwrap();
    let drop_ins = samples("ini");
    for sample in &drop_ins {
        let dir = tempfile::tempdir().unwrap();
        let (path, folder) =
            (dir.path().join("mpm-monitor@8765.service"), dir.path().join("mpm-monitor@8765.service.d"));
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(&path, unit.replace("/usr/bin/mpm-monitor", env!("CARGO_BIN_EXE_mpm-monitor"))).unwrap();
        std::fs::write(folder.join("override.conf"), sample).unwrap();
        let mut analyze = Command::new("systemd-analyze");
        analyze.args(["verify", "--man=no", "--recursive-errors=no"]).arg(&path).env("LC_ALL", "C");
        let said = run(analyze.env("SYSTEMD_UNIT_PATH", format!("{}:", dir.path().display())), Duration::from_secs(30));
        let ours: Vec<_> = said.stderr.lines().filter(|l| l.contains("mpm-monitor")).collect();
        assert!(said.code == 0 && ours.is_empty(), "{sample}\n{said}");
        let key = sample.lines().rfind(|l| l.contains('=')).unwrap().split('=').next().unwrap();
        std::fs::write(folder.join("override.conf"), sample.replace(key, "NoSuchKey")).unwrap();
        let said = run(&mut analyze, Duration::from_secs(30));
        assert!(said.stderr.contains("NoSuchKey"), "the drop-in was not read: {said}");
    }
    let mut commands = 0;
    for line in samples("sh").iter().flat_map(|s| s.lines()).filter(|l| l.starts_with("mpm-monitor ")) {
        let words = line.split('#').next().unwrap().split_whitespace();
        mpm_monitor::cli::args::Cli::try_parse_from(words).unwrap_or_else(|e| panic!("{line}: {e}"));
        commands += 1;
    }
    println!("{commands} commands, {} drop-ins", drop_ins.len());
}
