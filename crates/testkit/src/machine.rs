//! A throw-away machine with a real systemd, see `tests/systemd-box.md`.

use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::Value;

use super::command::{Ran, Running, run};
use super::{here, program, skip, venv};

/// The machine's clients and their Python.
const TESTS: &str = "/opt/mpm-tests";
/// Long enough for a loaded machine; what has to be quick is measured.
const DEADLINE: Duration = Duration::from_secs(90);
/// Where clients expect it.
pub const PORT: u16 = 8765;

/// Whose manager a test drives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// PID 1.
    System,
    /// The lingering user's.
    User,
}

impl Scope {
    /// The flag that chooses it.
    pub const fn flag(self) -> &'static str {
        match self {
            Self::System => "--system",
            Self::User => "--user",
        }
    }

    /// For names of figures.
    pub const fn name(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
        }
    }
}

/// One machine, with the program where an administrator (or the user) would put it. It is gone when the test is.
#[derive(Debug)]
pub struct Machine {
    name: String,
    /// The user's id.
    pub uid: String,
    /// Whose manager the short forms drive.
    pub scope: Scope,
}

impl Machine {
    /// Boots one; `None`, with the reason printed, where none can be booted.
    #[track_caller]
    pub fn boot(scope: Scope) -> Option<Self> {
        Self::boot_with(scope, &[])
    }

    /// The same, with more of this machine's folders in it: here and there.
    #[track_caller]
    pub fn boot_with(scope: Scope, folders: &[(&str, &str)]) -> Option<Self> {
        let machine = Self::boot_without_program(scope, folders)?;
        match scope {
            Scope::System => machine.copy(&program(), "/usr/local/bin/mpm-monitor"),
            Scope::User => {
                machine.copy(&program(), &format!("{}/mpm-monitor", machine.user_bin()));
                machine.root(&["chown", "-R", &machine.uid, "/home/boxuser"]).ok();
            }
        }
        Some(machine)
    }

    /// Boots one without the program, for other programs.
    #[track_caller]
    pub fn boot_empty(scope: Scope) -> Option<Self> {
        Self::boot_without_program(scope, &[])
    }

    #[track_caller]
    fn boot_without_program(scope: Scope, folders: &[(&str, &str)]) -> Option<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let script = here("tests/systemd-box");
        let check = run(Command::new(&script).arg("check"), DEADLINE);
        if check.code == 77 {
            skip(check.stderr.trim());
            return None;
        }
        check.ok();
        let venv = venv();
        if !std::path::Path::new(&venv).join("bin/python3").exists() {
            skip(&format!("there is no {venv}; `scripts/setup.sh test` makes it"));
            return None;
        }
        let name = format!("mpm-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let mut start = Command::new(&script);
        start.args(["start", &name, "--net", "private", "--ttl", "600"]);
        start.args(["--bind", &format!("{venv}:{TESTS}/venv")]);
        start.args(["--bind", &format!("{}:{TESTS}/clients", here("tests/clients"))]);
        for (from, to) in folders {
            start.args(["--bind", &format!("{from}:{to}")]);
        }
        let started = run(&mut start, DEADLINE).ok();
        let value = |key: &str| {
            let line = started.stdout.lines().find_map(|l| l.strip_prefix(key)).unwrap_or_default();
            line.trim_start_matches('=').to_owned()
        };
        Some(Self { name, uid: value("BOX_UID"), scope })
    }

    /// Puts another build of the program into that machine, see [`super::builds`]; the scope's user may run it.
    #[track_caller]
    pub fn other_build(&self, to: &str, id: &str, texts: &[(&str, &str)]) {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let made = super::builds::other_build(&dir.path().join("mpm-monitor"), id, texts);
        self.copy(&made.to_string_lossy(), to);
        self.root(&["chmod", "755", to]).ok();
    }

    fn user_bin(&self) -> &'static str {
        "/home/boxuser/.local/bin"
    }

    /// Where the program is.
    pub fn program(&self) -> String {
        match self.scope {
            Scope::System => "/usr/local/bin/mpm-monitor".to_owned(),
            Scope::User => format!("{}/mpm-monitor", self.user_bin()),
        }
    }

    /// Puts a file of this machine into that one.
    #[track_caller]
    pub fn copy(&self, from: &str, to: &str) {
        run(Command::new(here("tests/systemd-box")).args(["cp", &self.name, from, to]), DEADLINE).ok();
    }

    /// Writes a file, as the scope's user, making its directory.
    #[track_caller]
    pub fn write(&self, path: &str, content: &str) {
        self.run(&["sh", "-c", "mkdir -p \"$(dirname \"$1\")\" && printf %s \"$2\" > \"$1\"", "sh", path, content])
            .ok();
    }

    fn command(&self, scope: Scope, words: &[&str]) -> Command {
        let mut command = Command::new(here("tests/systemd-box"));
        command.args([if scope == Scope::System { "exec" } else { "user-exec" }, &self.name, "--"]).args(words);
        command
    }

    /// Runs a command as root.
    #[track_caller]
    pub fn root(&self, words: &[&str]) -> Ran {
        run(&mut self.command(Scope::System, words), DEADLINE)
    }

    /// Runs a command as the user.
    #[track_caller]
    pub fn user(&self, words: &[&str]) -> Ran {
        run(&mut self.command(Scope::User, words), DEADLINE)
    }

    /// Runs a command as the one whose manager is driven.
    #[track_caller]
    pub fn run(&self, words: &[&str]) -> Ran {
        run(&mut self.command(self.scope, words), DEADLINE)
    }

    /// Starts a command as the one whose manager is driven, and lets it go on.
    #[track_caller]
    pub fn spawn(&self, words: &[&str]) -> Running {
        Running::start(&mut self.command(self.scope, words))
    }

    /// The program with these words.
    #[track_caller]
    pub fn program_with(&self, words: &[&str]) -> Ran {
        let program = self.program();
        self.run(&[&[program.as_str()], words].concat())
    }

    /// A verb of the program, for the scope.
    #[track_caller]
    pub fn verb(&self, verb: &str, words: &[&str]) -> Ran {
        self.program_with(&[&[verb, self.scope.flag()], words].concat())
    }

    /// `install` with these words, which must succeed.
    #[track_caller]
    pub fn install(&self, words: &[&str]) -> Ran {
        self.verb("install", words).ok()
    }

    /// `systemctl` of the scope's manager.
    #[track_caller]
    pub fn systemctl(&self, words: &[&str]) -> Ran {
        self.run(&[&["systemctl", self.scope.flag(), "--no-pager"], words].concat())
    }

    /// One property of the instance's unit.
    #[track_caller]
    pub fn property(&self, port: u16, name: &str) -> String {
        self.systemctl(&["show", "--value", "-p", name, &unit(port)]).ok().text().to_owned()
    }

    /// What the manager holds the instance for: `active`, `failed` ...
    #[track_caller]
    pub fn state(&self, port: u16) -> String {
        self.property(port, "ActiveState")
    }

    /// A drop-in of the instance's unit, known to the manager.
    #[track_caller]
    pub fn drop_in(&self, port: u16, content: &str) {
        let folder = match self.scope {
            Scope::System => "/etc/systemd/system".to_owned(),
            Scope::User => "/home/boxuser/.config/systemd/user".to_owned(),
        };
        self.write(&format!("{folder}/{}.d/test.conf", unit(port)), content);
        self.systemctl(&["daemon-reload"]).ok();
    }

    /// The scope's configuration file.
    pub const fn config_file(&self) -> &'static str {
        match self.scope {
            Scope::System => "/etc/mpm-monitor/config.toml",
            Scope::User => "/home/boxuser/.config/mpm-monitor/config.toml",
        }
    }

    /// `/health` of an instance.
    #[track_caller]
    pub fn health(&self, port: u16) -> Value {
        self.get(port, "/health")
    }

    /// Posts an event with curl, as a hook would.
    #[track_caller]
    pub fn post(&self, port: u16, marker: &str) {
        let event = format!(
            r#"{{"namespace":"","event":"claude_event","data":{{"type":"hook","subtype":"pre_tool","data":{{"marker":"{marker}"}}}}}}"#
        );
        let url = format!("http://127.0.0.1:{port}/api/events");
        let status = self.run(&["curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", "-d", &event, &url]).ok();
        assert_eq!(status.text(), "204");
    }

    /// The JSON that a path of an instance answers with.
    #[track_caller]
    pub fn get(&self, port: u16, path: &str) -> Value {
        self.run(&["curl", "-sS", "--max-time", "10", &format!("http://127.0.0.1:{port}{path}")]).ok().json()
    }

    /// A client of `tests/clients` that ends by itself; the JSON it prints.
    #[track_caller]
    pub fn client(&self, words: &[&str]) -> Value {
        self.as_client(self.scope, words).ok().json()
    }

    /// The same as root, who may send signals to anybody.
    #[track_caller]
    pub fn root_client(&self, words: &[&str]) -> Value {
        self.as_client(Scope::System, words).ok().json()
    }

    fn as_client(&self, scope: Scope, words: &[&str]) -> Ran {
        let words = client(words);
        run(&mut self.command(scope, &words.iter().map(String::as_str).collect::<Vec<_>>()), DEADLINE)
    }

    /// A client of `tests/clients` that goes on.
    #[track_caller]
    pub fn spawn_client(&self, words: &[&str]) -> Running {
        let words = client(words);
        self.spawn(&words.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// What of the machine an installation could touch; see `tests/clients/tree.py`.
    #[track_caller]
    pub fn tree(&self) -> super::tree::Tree {
        self.tree_with(&[])
    }

    /// The same, with more folders.
    #[track_caller]
    pub fn tree_with(&self, more: &[&str]) -> super::tree::Tree {
        let script = format!("{TESTS}/clients/tree.py");
        super::tree::Tree::from_lines(&self.root(&[&["/usr/bin/python3", &script], more].concat()).ok().stdout)
    }

    /// Restarts PID 1; files but those of `/run` and `/tmp` stay.
    #[track_caller]
    pub fn reboot(&self) {
        run(Command::new(here("tests/systemd-box")).args(["reboot", &self.name]), DEADLINE).ok();
    }

    /// The last lines of the instance's journal, for messages.
    #[track_caller]
    pub fn journal(&self, port: u16) -> String {
        let of = if self.scope == Scope::System { "--unit" } else { "--user-unit" };
        self.root(&["journalctl", "--no-pager", "-o", "cat", "-n", "60", of, &unit(port)]).stdout
    }
}

/// The unit of a port.
pub fn unit(port: u16) -> String {
    format!("mpm-monitor@{port}.service")
}

fn client(words: &[&str]) -> Vec<String> {
    let mut all = vec![format!("{TESTS}/venv/bin/python3"), format!("{TESTS}/clients/{}", words[0])];
    all.extend(words[1..].iter().map(|&w| w.to_owned()));
    all
}

impl Drop for Machine {
    fn drop(&mut self) {
        // It would end with this process anyhow.
        let _ = Command::new(here("tests/systemd-box")).args(["stop", &self.name]).status();
    }
}
