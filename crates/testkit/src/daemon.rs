//! `mpm-monitor run` in the foreground, with directories and a port of its own.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use super::command::{Ran, Running, run};
use super::{eventually, http, program};

/// Long enough for a loaded machine; what has to be quick is measured.
pub const SOON: Duration = Duration::from_secs(20);

/// A place for one or more processes: a home, a state and a runtime directory that nobody else has.
#[derive(Debug)]
pub struct Place {
    /// All of it.
    pub dir: TempDir,
}

impl Default for Place {
    fn default() -> Self {
        Self::new()
    }
}

impl Place {
    /// An empty place.
    pub fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("mpm-monitor-test-").tempdir().expect("a temporary directory");
        for sub in ["home", "state", "run"] {
            std::fs::create_dir(dir.path().join(sub)).expect("make a directory");
        }
        Self { dir }
    }

    /// A path in it.
    pub fn path(&self, sub: &str) -> std::path::PathBuf {
        self.dir.path().join(sub)
    }

    /// The program with `arguments`, in an environment that holds nothing of the caller's but the search path.
    pub fn command<S: AsRef<std::ffi::OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(program());
        command.args(arguments).env_clear().current_dir(self.dir.path());
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("HOME", self.path("home")).env("XDG_RUNTIME_DIR", self.path("run"));
        command.env("MPM_MONITOR_STATE_DIR", self.path("state")).env("MPM_MONITOR_RUNTIME_DIR", self.path("run"));
        command
    }

    /// Runs it to its end.
    #[track_caller]
    pub fn ran<S: AsRef<std::ffi::OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Ran {
        run(&mut self.command(arguments), SOON)
    }

    /// `run` on a port, not waited for.
    #[track_caller]
    pub fn start(&self, port: u16) -> Running {
        Running::start(&mut self.command(["run", "--port", &port.to_string()]))
    }

    /// `run` on a port with these settings, ready.
    #[track_caller]
    pub fn serve_with(&self, port: u16, settings: &[&str]) -> Running {
        let port_text = port.to_string();
        let arguments = ["run", "--port", &port_text].into_iter().chain(settings.iter().flat_map(|s| ["--set", s]));
        let daemon = Running::start(&mut self.command(arguments));
        ready(port, daemon.pid());
        daemon
    }

    /// `run` on a port, ready.
    #[track_caller]
    pub fn serve(&self, port: u16) -> Running {
        let daemon = self.start(port);
        ready(port, daemon.pid());
        daemon
    }
}

impl AsRef<Path> for Place {
    fn as_ref(&self) -> &Path {
        self.dir.path()
    }
}

/// Waits until the process `pid` says on `port` that it is ready; its `/health`.
#[track_caller]
pub fn ready(port: u16, pid: u32) -> Value {
    eventually(SOON, &format!("process {pid} to be ready on port {port}"), || {
        let answer = http::get(port, "/health").map_err(|e| e.to_string())?;
        let health: Value = serde_json::from_str(&answer.body).map_err(|e| e.to_string())?;
        if health["ready"] == true && health["pid"] == pid { Ok(health) } else { Err(health.to_string()) }
    })
}

/// Sends a signal by its name.
#[track_caller]
pub fn signal(pid: u32, name: &str) {
    run(Command::new("kill").args([format!("-{name}"), pid.to_string()]), SOON).ok();
}

/// The open file descriptors of a process.
#[cfg(target_os = "linux")]
pub fn descriptors(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}

/// The resident memory of a process, in KiB.
///
/// # Panics
/// When it is gone.
#[cfg(target_os = "linux")]
#[track_caller]
pub fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the process is there");
    let field = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).expect("VmRSS");
    field.trim().trim_end_matches(" kB").parse().expect("a number")
}

/// The sum of all series of a metric of `/metrics` that carry `label`.
#[track_caller]
pub fn metric(port: u16, name: &str, label: &str) -> f64 {
    let text = http::get(port, "/metrics").expect("the metrics").body;
    let of = |line: &str| {
        let rest = line.strip_prefix("mpm_monitor_")?.strip_prefix(name)?;
        (rest.starts_with([' ', '{']) && rest.contains(label)).then(|| rest.rsplit(' ').next()?.parse::<f64>().ok())?
    };
    text.lines().filter_map(of).sum()
}
