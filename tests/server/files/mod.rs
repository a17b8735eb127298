//! Files and repositories over real sockets: what is answered, what never is, and how much it may cost.

mod corpus;
mod git;
mod git_bounds;
mod limits;
mod shapes;
mod talk;
mod users;

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::support::*;
use mpm_monitor::config::Settings;
use mpm_monitor::server::files::Rules;
use serde_json::Value;

/// What is in every file that nobody may read.
pub(crate) const SECRET: &str = "the-foreign-bytes-that-nobody-may-read";
/// The same as a picture's content would be sent.
pub(crate) const SECRET64: &str = "dGhlLWZvcmVpZ24tYnl0ZXMtdGhhdC1ub2JvZHktbWF5LXJlYWQ";
/// A name that only a listing of a folder outside would show.
pub(crate) const FOREIGN_NAME: &str = "foreign-name-of-a-file";

/// A root with files, secrets beside it and in it, and links of every kind.
pub(crate) struct Place {
    _dir: tempfile::TempDir,
    pub(crate) base: PathBuf,
}

impl Place {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let base = std::fs::canonicalize(dir.path()).unwrap();
        let place = Self { _dir: dir, base };
        for (path, text) in [
            ("state/events.db", SECRET),
            ("root/a.txt", "hello\nchange\n"),
            ("root/deep/er/b.py", "import os\n"),
            ("root/Makefile", "all:\n"),
            ("root/.ssh/id", SECRET),
            ("root/.env", SECRET),
            ("root/.config/mpm-monitor/token", SECRET),
            ("root/.claude/.credentials.json", SECRET),
            ("outside/hidden.txt", SECRET),
            ("outside/hidden.png", SECRET),
            ("outside/foreign-name-of-a-file", SECRET),
            ("root-sibling/hidden.txt", SECRET),
            ("roothidden.txt", SECRET),
            ("hidden.txt", SECRET),
        ] {
            place.write(path, text.as_bytes());
        }
        let outside = place.path("outside");
        for (target, link) in [
            ("../outside", "out"),
            ("../outside/hidden.txt", "out.txt"),
            ("../outside/hidden.png", "out.png"),
            (outside.to_str().unwrap(), "absolute"),
            ("/etc", "etc"),
            ("/etc/passwd", "passwd"),
            ("..", "up"),
            ("../..", "upup"),
            ("loop", "loop"),
            ("/proc/self/root", "procroot"),
            ("/proc/self/cwd", "proccwd"),
            ("/proc/self/environ", "environ"),
            ("/dev/fd", "fd"),
            ("chain2", "chain"),
            ("chain3", "chain2"),
            ("../outside", "chain3"),
            (".ssh/id", "hidden.txt"),
            (".ssh", "hidden"),
            ("deep/../.env", "hidden2.txt"),
            ("a.txt", "fine.txt"),
        ] {
            symlink(target, place.path("root").join(link)).unwrap();
        }
        symlink("../../../outside/hidden.txt", place.path("root/deep/er/out.txt")).unwrap();
        place
    }

    pub(crate) fn path(&self, sub: &str) -> PathBuf {
        self.base.join(sub)
    }

    pub(crate) fn root(&self, sub: &str) -> String {
        self.path("root").join(sub).to_str().unwrap().to_owned()
    }

    pub(crate) fn write(&self, sub: &str, bytes: &[u8]) {
        let path = self.path(sub);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    pub(crate) fn rules(&self) -> Rules {
        Rules { home: false, sessions: false, roots: vec![self.path("root")], ..settings().files }
    }

    pub(crate) fn settings(&self) -> Settings {
        Settings { files: self.rules(), state_dir: self.path("state"), ..settings() }
    }

    /// Runs the system's git on a folder of the place.
    #[track_caller]
    pub(crate) fn git(&self, sub: &str, arguments: &[&str]) -> String {
        let mut command = self.git_command(sub, arguments);
        let out = command.output().expect("git is installed");
        assert!(out.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap()
    }

    pub(crate) fn git_command(&self, sub: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new("git");
        command.current_dir(self.path(sub)).args(["-c", "user.name=t", "-c", "user.email=t@example.org"]);
        command.args(arguments).env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_CONFIG_GLOBAL", "/dev/null");
        command.stdin(Stdio::null()).env("GIT_TERMINAL_PROMPT", "0");
        command
    }

    /// A repository in which `a.txt` is committed and then changed.
    pub(crate) fn repository(&self, sub: &str) {
        std::fs::create_dir_all(self.path(sub)).unwrap();
        self.git(sub, &["init", "-q", "-b", "main"]);
        self.write(&format!("{sub}/a.txt"), b"hello\n");
        self.git(sub, &["add", "a.txt"]);
        self.git(sub, &["commit", "-q", "-m", "add a"]);
        self.write(&format!("{sub}/a.txt"), b"hello\nchange\n");
    }
}

/// Every byte but letters and digits as `%XX`.
pub(crate) fn encoded(text: &str) -> String {
    let one = |b: u8| if b.is_ascii_alphanumeric() { char::from(b).to_string() } else { format!("%{b:02X}") };
    text.bytes().map(one).collect()
}

pub(crate) fn json_of(answer: &str) -> Value {
    serde_json::from_str(body(answer)).unwrap_or_else(|e| panic!("{e}: {answer:?}"))
}

/// Asks a route that takes its path in the query.
pub(crate) async fn get(rig: &Rig, route: &str, path: &str) -> String {
    rig.ask("GET", &format!("{route}?path={}", encoded(path)), "", "").await
}

/// Asks a route that takes its path in a body.
pub(crate) async fn post(rig: &Rig, route: &str, path: &str) -> String {
    rig.ask("POST", route, "", &serde_json::json!({"path": path}).to_string()).await
}

/// A refusal's code, which docs/openapi.json must have for this route under this status.
#[track_caller]
pub(crate) fn described(answer: &str, route: &str) -> String {
    let (status, code) = (status(answer).to_string(), code(answer));
    let document: &Value = {
        static DOCUMENT: std::sync::LazyLock<Value> =
            std::sync::LazyLock::new(|| serde_json::from_str(mpm_monitor::server::openapi::DOCUMENT).unwrap());
        &DOCUMENT
    };
    let method = if matches!(route, "/api/file" | "/api/git-history") { "post" } else { "get" };
    let mut said = &document["paths"][route][method]["responses"][&status];
    if let Some(name) = said["$ref"].as_str() {
        said = document.pointer(name.trim_start_matches('#')).unwrap();
    }
    let said = said["description"].as_str().unwrap_or_default();
    assert!(
        said.contains(&format!("`{code}`")),
        "{route} answers {status} {code}, of which docs/openapi.json has {said:?}"
    );
    code
}

pub(crate) fn resident() -> u64 {
    daemon::usage::Usage::now().resident.unwrap_or(0)
}

/// A program in place of git.
fn stand_in(place: &Place, text: &str) -> Settings {
    let program = place.path("git-stand-in");
    std::fs::write(&program, format!("#!/bin/sh\n{text}\n")).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let rules = Rules { git: Some(program), ..place.rules() };
    Settings { files: rules, ..place.settings() }
}
