//! A daemon that installs itself: `hello install PORT`, `hello uninstall PORT`; the service manager types `hello run PORT`.

use std::collections::BTreeMap;
use std::error::Error;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::time::Duration;

use daemon::watchdog::{Plan, Watchdog};
use daemon::{Program, identity::Identity, notify::Notifier, pulse::Pulse};
use service::app::{App, Env, Units};
use service::definition::Definition;
use service::files::Lock;
use service::plan::{Linger, Wish};
use service::{Scope, apply, managers, observe, paths::Paths, plan, program, proof, users};

static HELLO: App = App {
    program: Program { name: "hello", version: "1.0.0", build: "1", service: "hello" },
    units: Units {
        system_service: include_str!("system.service"),
        user_service: include_str!("user.service"),
        socket: "",
        sysusers: "u hello - \"Says hello\"\n",
    },
    env: Env { state_dir: "HELLO_STATE_DIR", runtime_dir: "HELLO_RUNTIME_DIR", log_file: "HELLO_LOG_FILE" },
    default_port: 8080,
};
const PATIENCE: Duration = Duration::from_secs(30);

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let port = words.iter().find_map(|word| word.parse().ok()).unwrap_or(HELLO.default_port);
    let scope = Scope::choose(false, false, users::user_name() == "root");
    match words.first().map(String::as_str) {
        Some("install") => install(scope, port),
        Some("uninstall") => uninstall(scope, port),
        _ => run(port),
    }
}

fn install(scope: Scope, port: u16) -> Result<(), Box<dyn Error>> {
    let paths = Paths::of(&HELLO, scope).ok_or("cannot find the home directory; set HOME")?;
    let manager = managers::of(&paths);
    manager.usable()?;
    let turn = Lock::acquire(&paths.receipts, PATIENCE)?;
    let mut observed = observe::observe(port, &paths, Some(&*manager), &users::user_name())?;
    let definition = Definition {
        port,
        scope,
        program: program::choose(None, scope)?,
        env: BTreeMap::new(),
        socket: false,
        notify_reload: manager.has_notify_reload(),
        account: users::behind_sudo().filter(|_| cfg!(target_os = "macos") && scope == Scope::System),
        tool_dirs: Vec::new(),
    };
    observed.made_dirs.extend(turn.made.clone());
    observe::needs_directories(&definition, &paths, &mut observed);
    let wish = Wish { start: true, linger: Linger::Auto, user: users::user_name(), build: None };
    let plan = plan::install(&definition, &paths, &wish, &observed)?;
    let applied = apply::apply(&plan, &*manager, PATIENCE)?;
    let taken_back = |e| format!("{e}; taken back, but for {:?}", applied.rollback());
    let proof = proof::await_ready(&*manager, &paths, port, None, PATIENCE).map_err(taken_back)?;
    println!("ready: pid {}, {}", proof.pid, proof.url);
    Ok(())
}

fn uninstall(scope: Scope, port: u16) -> Result<(), Box<dyn Error>> {
    let paths = Paths::of(&HELLO, scope).ok_or("cannot find the home directory; set HOME")?;
    let manager = managers::of(&paths);
    let observed = observe::observe(port, &paths, Some(&*manager), &users::user_name())?;
    apply::apply(&plan::uninstall(port, &paths, true, &observed), &*manager, PATIENCE)?;
    proof::await_gone(&*manager, &paths, port, observed.service.and_then(|job| job.pid), None, PATIENCE)?;
    println!("uninstalled");
    Ok(())
}

/// Serves `/health`, tells the manager that it is ready, and answers its watchdog as long as it serves.
fn run(port: u16) -> Result<(), Box<dyn Error>> {
    let (identity, notifier, pulse) = (Identity::new()?, Notifier::from_environment(), Pulse::new());
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
    listener.set_nonblocking(true)?;
    let serving = pulse.register("server");
    let plan = Plan::new(Duration::from_secs(9), true, identity.managed_by);
    Watchdog::start(plan, pulse, notifier.clone(), |_| std::process::exit(70))?;
    notifier.ready("says hello");
    let body = serde_json::json!({"service": HELLO.program.service, "version": HELLO.program.version, "port": port,
        "pid": identity.pid, "instance_id": identity.instance_id, "ready": true})
    .to_string();
    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
    loop {
        serving.answer();
        while let Ok((mut client, _)) = listener.accept() {
            client.set_nonblocking(false)?;
            let _ = client.read(&mut [0; 1024]).and_then(|_| client.write_all(answer.as_bytes()));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}
