//! A Redis or Valkey of the test's own.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::fleet::Net;
use testkit::command::{Running, run};
use testkit::daemon::{SOON, signal};
use testkit::{http, skip};

/// The programs that speak the protocol, as far as they are installed.
pub fn kinds() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = |name: &str| std::env::split_paths(&path).map(|dir| dir.join(name)).find(|p| p.is_file());
    ["redis-server", "valkey-server"].into_iter().filter_map(found).collect()
}

/// A server, with a directory of its own.
pub struct Server {
    program: PathBuf,
    dir: TempDir,
    pub port: u16,
    extra: Vec<String>,
    net: Option<u32>,
    running: Option<Running>,
}

impl Server {
    /// The first kind that is installed, started; `None`, with the reason printed, where there is none.
    #[track_caller]
    pub fn start(extra: &[&str]) -> Option<Self> {
        match kinds().first() {
            Some(program) => Some(Self::of(program, extra, None)),
            None => {
                skip("there is no redis-server; scripts/setup.sh test installs it");
                None
            }
        }
    }

    /// A server of this kind on a free port; in a network of its own if one is given.
    #[track_caller]
    pub fn of(program: &Path, extra: &[&str], net: Option<&Net>) -> Self {
        let dir = tempfile::Builder::new().prefix("mpm-monitor-test-bus-").tempdir().expect("a temporary directory");
        let extra = extra.iter().map(|e| (*e).to_owned()).collect();
        let port = if net.is_some() { 6379 } else { http::free_port() };
        let mut server = Self { program: program.to_owned(), dir, port, extra, net: net.map(Net::pid), running: None };
        server.up();
        server
    }

    /// Starts it again, with what it has saved.
    #[track_caller]
    pub fn up(&mut self) {
        let mut command = match self.net {
            Some(pid) => Net::command(pid, &self.program),
            None => Command::new(&self.program),
        };
        command.args([
            "--port",
            &self.port.to_string(),
            "--save",
            "",
            "--appendonly",
            "yes",
            "--appendfsync",
            "everysec",
        ]);
        let bind = if self.net.is_some() { "0.0.0.0" } else { "127.0.0.1" };
        command.args(["--bind", bind, "--protected-mode", "no", "--daemonize", "no", "--dir"]).arg(self.dir.path());
        command.args(&self.extra);
        let mut running = Running::start(&mut command);
        running.until(SOON, "the server", |line| {
            line.to_lowercase().contains("ready to accept connections").then_some(())
        });
        self.running = Some(running);
    }

    /// Kills it.
    pub fn kill(&mut self) {
        self.running = None;
    }

    /// Kills it, and with it all that it has saved.
    pub fn lose_everything(&mut self) {
        self.kill();
        for entry in std::fs::read_dir(self.dir.path()).expect("its directory").flatten() {
            let path = entry.path();
            let _ = if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
        }
    }

    /// Sends it a signal.
    #[track_caller]
    pub fn signal(&self, name: &str) {
        signal(self.running.as_ref().expect("it runs").pid(), name);
    }

    /// Says something to it, with `redis-cli`: the answer.
    #[track_caller]
    pub fn say(&self, words: &[&str]) -> String {
        let beside = self
            .program
            .with_file_name(self.program.file_name().unwrap_or_default().to_string_lossy().replace("-server", "-cli"));
        let mut command = match self.net {
            Some(pid) => Net::command(pid, &beside),
            None => Command::new(&beside),
        };
        command.args(["-p", &self.port.to_string()]).args(words);
        run(&mut command, SOON).ok().text().to_owned()
    }

    /// As `--bus` wants it.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }
}
