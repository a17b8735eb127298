//! Who gets in: from other machines with the token alone, over the Unix socket by user.

use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use testkit::command::{Running, run};
use testkit::daemon::{Place, SOON, ready, signal};
use testkit::{eventually, http, skip};

const TOKEN: &str = "3a7bd3e2360a3d29eea436fcfb7e44c7";

fn token_file(place: &Place, mode: u32) -> String {
    let path = place.path("token");
    std::fs::write(&path, format!("{TOKEN}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    path.display().to_string()
}

#[test]
fn an_address_of_other_machines_needs_a_token_that_only_we_can_read() {
    let place = Place::new();
    let port = http::free_port().to_string();
    let said = place.ran(["run", "--port", &port, "--bind", "0.0.0.0"]).expect(78).all();
    assert!(said.contains("0.0.0.0 is not a loopback address") && said.contains("access.token_file"), "{said}");
    let open = format!("access.token_file={}", token_file(&place, 0o644));
    let said = place.ran(["run", "--port", &port, "--bind", "0.0.0.0", "--set", &open]).expect(78).all();
    assert!(said.contains("chmod 600"), "{said}");
    assert!(!said.contains(TOKEN), "{said}");
}

/// The credential of systemd's `LoadCredential=token:PATH` counts as well, and a reload takes a new one.
#[test]
fn a_token_is_asked_for_and_changes_with_a_reload() {
    let place = Place::new();
    let port = http::free_port();
    token_file(&place, 0o400);
    let mut daemon = Running::start(
        place.command(["run", "--port", &port.to_string()]).env("CREDENTIALS_DIRECTORY", place.path("")),
    );
    ready(port, daemon.pid());
    assert_eq!(http::get(port, "/api/status").unwrap().status, 200, "programs of this machine may read");
    let refused = http::post_event(port, "without").unwrap();
    assert_eq!((refused.status, &refused.json()["code"]), (401, &"token_required".into()));
    let post = |token: &str| {
        let header = format!("Authorization: Bearer {token}");
        let url = format!("http://127.0.0.1:{port}/api/events");
        let ran =
            run(Command::new("curl").args(["-sS", "-o/dev/null", "-w%{http_code}", "-H", &header, "-d{}", &url]), SOON);
        ran.ok().text().to_owned()
    };
    assert_eq!((post(TOKEN).as_str(), post("wrong").as_str()), ("204", "401"));

    let new = TOKEN.to_uppercase();
    std::fs::remove_file(place.path("token")).unwrap();
    std::fs::write(place.path("token"), &new).unwrap();
    signal(daemon.pid(), "HUP");
    eventually(SOON, "the new token to count", || if post(&new) == "204" { Ok(()) } else { Err("refused") });
    assert_eq!(post(TOKEN), "401");
    // What it said about itself must not help anybody who reads the log.
    signal(daemon.pid(), "TERM");
    assert_eq!(daemon.end(SOON), 0);
    assert!(!daemon.seen.join("\n").to_lowercase().contains(TOKEN));
}

fn ask(path: &Path, request: &str) -> std::io::Result<String> {
    let mut stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    // A WebSocket stays open: what has come until it closes is the answer.
    let mut piece = [0; 4096];
    while !String::from_utf8_lossy(&answer).contains("pingInterval") {
        match stream.read(&mut piece)? {
            0 => break,
            n => answer.extend_from_slice(&piece[..n]),
        }
    }
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

#[test]
fn the_unix_socket_is_for_its_user_and_comes_and_goes_with_the_process() {
    let place = Place::new();
    let port = http::free_port();
    let path = place.path("http.sock");
    let arguments = |more: &[&str]| {
        let mut all = vec!["run".into(), "--port".into(), port.to_string()];
        all.extend(["--set".into(), format!("server.unix_socket={}", path.display())]);
        all.extend(more.iter().map(|m| (*m).to_owned()));
        all
    };
    // A token does not matter to whom the kernel names.
    let token = format!("access.token_file={}", token_file(&place, 0o600));
    let mut daemon = Running::start(&mut place.command(arguments(&["--set", &token])));
    ready(port, daemon.pid());
    assert_eq!(std::fs::symlink_metadata(&path).unwrap().mode() & 0o777, 0o600);
    let post = "POST /api/events HTTP/1.1\r\nHost: whoever\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}";
    assert!(ask(&path, post).unwrap().starts_with("HTTP/1.1 204"));
    let socket = "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                  Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    let answer = ask(&path, socket).unwrap();
    assert!(answer.starts_with("HTTP/1.1 101") && answer.contains("pingInterval"), "{answer}");

    // A second one, on another port, must not take the path away.
    let other = format!("server.unix_socket={}", path.display());
    let said = place.ran(["run", "--port", &http::free_port().to_string(), "--set", &other]).expect(69).all();
    assert!(said.contains("another process listens on"), "{said}");

    signal(daemon.pid(), "KILL");
    daemon.end(SOON);
    assert!(path.exists(), "kill -9 leaves it");
    let mut daemon = Running::start(&mut place.command(arguments(&[])));
    ready(port, daemon.pid());
    assert!(ask(&path, post).unwrap().starts_with("HTTP/1.1 204"));
    signal(daemon.pid(), "TERM");
    assert_eq!(daemon.end(SOON), 0);
    assert!(!path.exists());
}

/// Needs root, which alone may speak as another user.
#[test]
fn another_user_gets_in_over_the_unix_socket_only_if_listed() {
    if !rustix::process::geteuid().is_root() {
        return skip("only root can connect as another user");
    }
    const NOBODY: u32 = 65534;
    let place = Place::new();
    let shared = tempfile::Builder::new().prefix("mpm-monitor-test-").tempdir().unwrap();
    std::fs::set_permissions(shared.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = shared.path().join("http.sock");
    let (port, other) = (http::free_port(), http::free_port());
    let socket = format!("server.unix_socket={}", path.display());
    let fetch = || {
        let mut curl = Command::new("curl");
        curl.args([
            "-sS",
            "-w",
            "\n%{http_code}",
            "--unix-socket",
            &path.display().to_string(),
            "http://localhost/health",
        ]);
        run(curl.uid(NOBODY).gid(NOBODY), SOON).text().to_owned()
    };
    let daemon = Running::start(&mut place.command([
        "run",
        "--port",
        &port.to_string(),
        "--set",
        &socket,
        "--set",
        "access.unix_users=64000",
    ]));
    ready(port, daemon.pid());
    let said = fetch();
    assert!(said.contains("user_not_allowed") && said.ends_with("403"), "{said}");
    drop(daemon);
    let daemon = Running::start(&mut place.command([
        "run",
        "--port",
        &other.to_string(),
        "--set",
        &socket,
        "--set",
        "access.unix_users=65534",
    ]));
    ready(other, daemon.pid());
    let said = fetch();
    assert!(said.ends_with("200"), "{said}");
}

/// Two machines, as the kernel sees it: network namespaces with a cable between them.
#[cfg(target_os = "linux")]
struct Machines {
    names: [String; 2],
}

#[cfg(target_os = "linux")]
const SERVER: &str = "192.0.2.1";

#[cfg(target_os = "linux")]
impl Machines {
    fn connected() -> Self {
        let id = std::process::id();
        let machines = Self { names: [format!("mpm-a-{id}"), format!("mpm-b-{id}")] };
        let [a, b] = &machines.names;
        for line in [
            format!("netns add {a}"),
            format!("netns add {b}"),
            format!("link add v0 netns {a} type veth peer name v0 netns {b}"),
            format!("-n {a} addr add {SERVER}/24 dev v0"),
            format!("-n {b} addr add 192.0.2.2/24 dev v0"),
            format!("-n {a} link set v0 up"),
            format!("-n {b} link set v0 up"),
            format!("-n {a} link set lo up"),
        ] {
            run(Command::new("ip").args(line.split(' ')), SOON).ok();
        }
        machines
    }

    fn on(&self, machine: usize, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.names[machine], program]);
        command
    }
}

#[cfg(target_os = "linux")]
impl Drop for Machines {
    fn drop(&mut self) {
        for name in &self.names {
            run(Command::new("ip").args(["netns", "del", name]), SOON);
        }
    }
}

#[cfg(target_os = "linux")]
#[test]
fn another_machine_gets_in_with_the_token_alone() {
    if !rustix::process::geteuid().is_root() {
        return skip("only root can make network namespaces");
    }
    let (place, machines) = (Place::new(), Machines::connected());
    let token = token_file(&place, 0o600);
    let mut command = machines.on(0, &testkit::program());
    command.args(["run", "--bind", "0.0.0.0", "--set", &format!("access.token_file={token}")]);
    command.args(["--state-dir", &place.path("state").display().to_string()]);
    command.env("MPM_MONITOR_RUNTIME_DIR", place.path("run")).env("HOME", place.path("home"));
    let mut daemon = Running::start(&mut command);
    daemon.until(SOON, "it to be ready", |line| line.contains("ready: serving").then_some(()));
    assert!(daemon.seen.join("\n").contains("nothing encrypts what goes there"), "{:?}", daemon.seen);

    let python = format!("{}/bin/python3", testkit::venv());
    let ran = run(machines.on(1, &python).args([&testkit::here("tests/clients/remote.py"), SERVER, TOKEN]), SOON).ok();
    let told = ran.json();
    for (what, expected) in [
        ("health without", 401),
        ("health with", 200),
        ("post without", 401),
        ("post with", 204),
        ("post with a wrong one", 401),
        ("metrics without", 401),
        ("page without", 200),
        ("ready without", 200),
        ("by another name", 421),
    ] {
        assert_eq!(told[what], expected, "{what}: {told:#}");
    }
    for (what, expected) in [
        ("socket without", "token_required"),
        ("socket with", "stored"),
        ("socket with a wrong one", "token_wrong"),
        ("socket with a header", "stored"),
    ] {
        assert_eq!(told[what], expected, "{what}: {told:#}");
    }
}
