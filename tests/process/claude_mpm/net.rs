//! A network of its own for each test, with nothing in it but the loopback, and Claude MPM installed beside it.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use testkit::command::{Ran, Running, run};
use testkit::daemon::{Place, SOON};
use testkit::{here, program, skip, venv};

/// The port that everything of Claude MPM looks for a monitor on.
pub const URL: &str = "http://localhost:8765";

/// The environment with the real Claude MPM, made by `scripts/setup.sh test`.
pub fn claude_mpm() -> PathBuf {
    let target = std::env::var("CARGO_TARGET_DIR").unwrap_or_else(|_| here("target"));
    Path::new(&target).join("test-claude-mpm")
}

/// Where its package is.
pub fn package() -> PathBuf {
    let lib = std::fs::read_dir(claude_mpm().join("lib")).expect("the environment's lib");
    let python = lib.flatten().find(|e| e.file_name().to_string_lossy().starts_with("python3."));
    python.expect("a Python in the environment").path().join("site-packages/claude_mpm")
}

/// The network, a home, and a project to work in.
pub struct Net {
    holder: Running,
    place: Place,
}

impl Net {
    /// A new one; `None`, with the reason printed, where there can be none.
    #[track_caller]
    pub fn new() -> Option<Self> {
        if !claude_mpm().join(".installed").exists() {
            skip("there is no real Claude MPM; scripts/setup.sh test installs it");
            return None;
        }
        let place = Place::new();
        for folder in ["project", "bin"] {
            std::fs::create_dir(place.path(folder)).unwrap();
        }
        // The hooks look for Claude Code and ask for its version before they do anything.
        let claude = place.path("bin/claude");
        std::fs::write(&claude, "#!/bin/sh\necho '2.1.4 (Claude Code)'\n").unwrap();
        // The hook in bash gives up after 0.3 s, which a busy machine may need for a start of curl alone.
        let curl = place.path("bin/curl");
        std::fs::write(&curl, "#!/bin/sh\nPATH=${PATH#*:}\nexec curl \"$@\" --connect-timeout 10 --max-time 10\n")
            .unwrap();
        run(Command::new("chmod").arg("755").args([&claude, &curl]), SOON).ok();
        run(Command::new("git").args(["init", "-q", "-b", "main"]).arg(place.path("project")), SOON).ok();

        // It holds the network until its input ends, which is when this test does, however that happens.
        let mut unshare = Command::new("unshare");
        unshare.args(if is_root() { &["--net"][..] } else { &["--user", "--map-root-user", "--net"] });
        let mut holder = Running::start(unshare.args(["sh", "-c", "ip link set lo up && echo up; exec cat"]));
        let up = holder.until(SOON, "the network", |line| Some(line == "up"));
        if !up {
            skip(&format!("this machine lets nobody make a network: {:?}", holder.seen));
            return None;
        }
        Some(Self { holder, place })
    }

    /// A path in the place.
    pub fn path(&self, sub: &str) -> PathBuf {
        self.place.path(sub)
    }

    /// A command in the network and in the project, in an environment that has nothing of the caller's.
    pub fn command<S: AsRef<OsStr>>(
        &self,
        program: impl AsRef<OsStr>,
        arguments: impl IntoIterator<Item = S>,
    ) -> Command {
        let mut command = Command::new("nsenter");
        command.arg("--target").arg(self.holder.pid().to_string()).arg("--net");
        if !is_root() {
            command.args(["--user", "--preserve-credentials"]);
        }
        let path = format!("{}:{}", self.path("bin").display(), std::env::var("PATH").unwrap_or_default());
        command.arg("--").arg(program).args(arguments).current_dir(self.path("project")).env_clear();
        command
            .env("PATH", path)
            .env("HOME", self.path("home"))
            .env("LC_ALL", "C.UTF-8")
            .env("PYTHONDONTWRITEBYTECODE", "1");
        command.env("XDG_RUNTIME_DIR", self.path("run")).env("TMPDIR", self.place.dir.path());
        command.env("MPM_MONITOR_STATE_DIR", self.path("state")).env("MPM_MONITOR_RUNTIME_DIR", self.path("run"));
        command
    }

    /// The monitor under test on port 8765, serving.
    #[track_caller]
    pub fn monitor(&self, arguments: &[&str]) -> Running {
        let mut monitor = Running::start(&mut self.command(program(), [&["run"], arguments].concat()));
        monitor.until(SOON, "readiness", |line| line.contains("ready: serving").then_some(()));
        monitor
    }

    /// A script of `tests/clients` in the environment of the real Claude MPM.
    pub fn theirs(&self, script: &str, arguments: &[&str]) -> Command {
        let script = here(&format!("tests/clients/claude_mpm/{script}"));
        self.command(claude_mpm().join("bin/python3"), std::iter::once(&*script).chain(arguments.iter().copied()))
    }

    /// A command that Claude MPM installs.
    pub fn installed(&self, name: &str, arguments: &[&str]) -> Command {
        self.command(claude_mpm().join("bin").join(name), arguments)
    }

    /// A script of `tests/clients` in the environment of our own clients.
    pub fn client(&self, script: &str, arguments: &[&str]) -> Command {
        let script = here(&format!("tests/clients/{script}"));
        self.command(format!("{}/bin/python3", venv()), std::iter::once(&*script).chain(arguments.iter().copied()))
    }

    /// A python-socketio client, connected.
    #[track_caller]
    pub fn listener(&self) -> Running {
        let mut listener = Running::start(&mut self.client("sio_listen.py", &[URL]));
        listener.until(SOON, "a connected listener", |line| line.contains("\"connected\"").then_some(()));
        listener
    }

    /// Posts a body to the monitor: the status.
    #[track_caller]
    pub fn post(&self, body: &Value) -> String {
        let url = format!("{URL}/api/events");
        let body = body.to_string();
        let mut curl =
            self.command("curl", ["-sS", "-m", "10", "-o", "/dev/null", "-w", "%{http_code}", "-d", &body, &url]);
        self.ran(&mut curl).ok().stdout
    }

    /// Runs a command to its end.
    #[track_caller]
    pub fn ran(&self, command: &mut Command) -> Ran {
        run(command, std::time::Duration::from_secs(60))
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
