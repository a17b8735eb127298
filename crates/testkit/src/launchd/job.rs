//! One job: a real process, and when launchd starts, ends and forgets it.

use std::fs::{self, OpenOptions};
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Instant;

use super::Behaviour;
use super::plist::Definition;

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// By itself, or what launchd says where it could not start it.
    Code(i32),
    /// By a signal.
    Signal(i32),
    /// The kernel did not let it run: its code is not the one that was pinned when the job was loaded.
    CodeSigning,
}

/// A loaded job.
#[derive(Debug)]
pub struct Job {
    /// What it is.
    pub definition: Definition,
    child: Option<Child>,
    started: Option<Instant>,
    /// How often it was started since it was loaded.
    pub runs: u32,
    /// How the last process ended.
    pub last: Option<End>,
    /// When to start it.
    next: Option<Instant>,
    /// Since when it has been told to end.
    told: Option<Instant>,
    /// Whether it was booted out.
    pub leaving: bool,
    /// When it is forgotten, once it was booted out and has ended.
    forget: Option<Instant>,
    /// Whether it is to be started when it has ended, whatever its end.
    pub kicked: bool,
    /// Which file the program was when the job was loaded. It stands for the hash of the code, to which launchd holds a program
    /// that is signed ad hoc.
    pinned: Option<Stamp>,
    /// The sockets of `Sockets`, which listen as long as the job is loaded.
    sockets: Vec<TcpListener>,
    /// Whether the last start came to nothing.
    spawn_failed: bool,
}

type Stamp = (u64, u64, u64, i64, i64);

fn stamp(program: &Path) -> Option<Stamp> {
    let meta = fs::metadata(program).ok()?;
    Some((meta.dev(), meta.ino(), meta.len(), meta.mtime(), meta.mtime_nsec()))
}

impl Job {
    /// A job that was just loaded.
    pub fn new(definition: Definition) -> Self {
        // `KeepAlive` with `SuccessfulExit` implies `RunAtLoad`.
        let keep = definition.keep_alive;
        let starts = definition.run_at_load || keep.always || keep.successful_exit.is_some();
        let sockets = definition.sockets.iter().filter_map(|address| TcpListener::bind(address).ok()).collect();
        let pinned = stamp(&definition.program);
        Self {
            pinned,
            sockets,
            spawn_failed: false,
            definition,
            child: None,
            started: None,
            runs: 0,
            last: None,
            next: starts.then(Instant::now),
            told: None,
            leaving: false,
            forget: None,
            kicked: false,
        }
    }

    /// Its process.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// As `launchctl print` words it.
    pub fn state(&self) -> &'static str {
        match (self.leaving, self.child.is_some(), self.next.is_some()) {
            (true, _, _) => "SIGTERMed",
            (_, true, _) => "running",
            (_, _, true) if self.runs > 0 => "spawn scheduled",
            _ => "not running",
        }
    }

    /// Tells it to end.
    pub fn terminate(&mut self) {
        if self.told.is_none() && self.child.is_some() {
            self.told = Some(Instant::now());
            self.signal("TERM");
        }
    }

    /// Sends a signal; whether there was somebody to send it to.
    pub fn signal(&self, name: &str) -> bool {
        let Some(pid) = self.pid() else { return false };
        Command::new("kill").args([format!("-{name}"), pid.to_string()]).status().is_ok_and(|s| s.success())
    }

    /// Out of the domain, as soon as it has ended.
    pub fn boot_out(&mut self) {
        self.leaving = true;
        self.next = None;
        self.sockets.clear();
        self.terminate();
    }

    /// Started now, or anew.
    pub fn kick(&mut self, anew: bool, behaviour: &Behaviour) {
        if self.child.is_none() {
            let earliest = self.started.map(|s| s + behaviour.throttle(self.definition.throttle));
            let wait = earliest.filter(|_| behaviour.kickstart_is_throttled);
            self.next = Some(wait.map_or_else(Instant::now, |at| at.max(Instant::now())));
        } else if anew {
            self.kicked = true;
            self.terminate();
        }
    }

    /// Does what is due; whether the job is to be forgotten.
    pub fn tick(&mut self, behaviour: &Behaviour) -> bool {
        let ended: Option<ExitStatus> = self.child.as_mut().and_then(|c| c.try_wait().ok().flatten());
        if let Some(status) = ended {
            if let Some(child) = self.child.take() {
                // What the process leaves behind in its group is ended with it.
                let group = format!("-{}", child.id());
                let _ = Command::new("kill").args(["-TERM", "--", &group]).stderr(Stdio::null()).status();
            }
            self.ended(status.signal().map_or_else(|| End::Code(status.code().unwrap_or(0)), End::Signal), behaviour);
        }
        if self.told.is_some_and(|t| t.elapsed() >= behaviour.patience(self.definition.exit_timeout)) {
            self.signal("KILL");
        }
        if self.leaving && self.child.is_none() {
            return *self.forget.get_or_insert(Instant::now() + behaviour.bootout_lag) <= Instant::now();
        }
        if self.child.is_none() && self.next.is_none() && self.is_wanted() {
            let earliest = self.started.map_or_else(Instant::now, |s| s + behaviour.throttle(self.definition.throttle));
            self.next = Some(earliest.max(Instant::now()));
        }
        if self.child.is_none() && self.next.is_some_and(|at| at <= Instant::now()) {
            self.next = None;
            self.start(behaviour);
        }
        false
    }

    /// Whether a connection waits on one of its sockets.
    fn is_wanted(&self) -> bool {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let mut all: Vec<PollFd<'_>> = self.sockets.iter().map(|s| PollFd::new(s, PollFlags::IN)).collect();
        !all.is_empty() && poll(&mut all, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).is_ok_and(|ready| ready > 0)
    }

    fn ended(&mut self, end: End, behaviour: &Behaviour) {
        self.told = None;
        self.last = Some(end);
        if self.leaving {
            return;
        }
        if std::mem::take(&mut self.kicked) {
            self.next = Some(Instant::now());
            return;
        }
        let keep = self.definition.keep_alive;
        let again = keep.always
            || keep.successful_exit == Some(end == End::Code(0))
            || keep.crashed.is_some_and(|crashed| crashed == matches!(end, End::Signal(_)));
        // Only a job that lived for less than the interval waits, for the rest of it.
        let earliest = self.started.map_or_else(Instant::now, |s| s + behaviour.throttle(self.definition.throttle));
        self.next = again.then(|| earliest.max(Instant::now()));
    }

    fn start(&mut self, behaviour: &Behaviour) {
        self.runs += 1;
        self.started = Some(Instant::now());
        self.spawn_failed = true;
        if behaviour.pins_programs && self.pinned.is_some() && stamp(&self.definition.program) != self.pinned {
            return self.ended(End::CodeSigning, behaviour);
        }
        match self.spawn(behaviour) {
            Some(child) => {
                self.child = Some(child);
                self.spawn_failed = false;
            }
            // EX_CONFIG, and not a word why.
            None => self.ended(End::Code(78), behaviour),
        }
    }

    fn spawn(&self, behaviour: &Behaviour) -> Option<Child> {
        let definition = &self.definition;
        let stderr = match &definition.stderr {
            Some(path) => Stdio::from(OpenOptions::new().append(true).create(true).open(path).ok()?),
            None => Stdio::null(),
        };
        if !Path::new(&definition.program).is_file() {
            return None;
        }
        // Whatever becomes of the test, its jobs end with it. The sockets travel as standard input and output as far as the
        // shell, which gives them the numbers by which a service takes them on Linux.
        let (script, listening) = match self.sockets.len() {
            0 => ("exec \"$@\"", Vec::new()),
            1 => ("exec 3<&0 </dev/null; LISTEN_PID=$$ exec \"$@\"", vec!["http"]),
            _ => ("exec 3<&0 4<&1 </dev/null >/dev/null; LISTEN_PID=$$ exec \"$@\"", vec!["http", "http"]),
        };
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script, "sh", "/usr/bin/setpriv"]);
        if let Some(user) = &definition.user {
            command.args(["--reuid", user, "--regid", "nogroup", "--clear-groups"]);
        }
        command.args(["--pdeathsig", "KILL", "--"]).arg(&definition.program).args(definition.arguments.iter().skip(1));
        command.env_clear().env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin").envs(&behaviour.environment);
        command.env("XPC_SERVICE_NAME", &definition.label).envs(&definition.environment);
        // launchd is process 1, and this is not.
        command.env("MPM_MONITOR_TEST_LAUNCHD", std::process::id().to_string());
        if !listening.is_empty() {
            command.env("LISTEN_FDS", listening.len().to_string()).env("LISTEN_FDNAMES", listening.join(":"));
        }
        command.current_dir("/").process_group(0);
        let mut sockets = self.sockets.iter().map(|s| s.try_clone().map(std::os::fd::OwnedFd::from));
        let mut next = || match sockets.next() {
            Some(socket) => socket.ok().map(Stdio::from),
            None => Some(Stdio::null()),
        };
        command.stdin(next()?).stdout(next()?).stderr(stderr).spawn().ok()
    }

    /// Ends it without asking, with all its children.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let group = format!("-{}", child.id());
            let _ = Command::new("kill").args(["-KILL", "--", &group]).stderr(Stdio::null()).status();
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// The description that `launchctl print` gives.
    pub fn print(&self, domain: &str) -> String {
        let definition = &self.definition;
        let mut text = format!(
            "{domain}/{} = {{\n\tactive count = {}\n\tpath = {}\n\ttype = LaunchAgent\n\tstate = {}\n\n\tprogram = {}\n",
            definition.label,
            u32::from(self.child.is_some()),
            definition.path.display(),
            self.state(),
            definition.program.display()
        );
        text.push_str("\targuments = {\n");
        definition.arguments.iter().for_each(|a| text.push_str(&format!("\t\t{a}\n")));
        text.push_str("\t}\n\n\tenvironment = {\n");
        definition.environment.iter().for_each(|(k, v)| text.push_str(&format!("\t\t{k} => {v}\n")));
        text.push_str(&format!("\t}}\n\n\tdomain = {domain} [100005]\n\tminimum runtime = 10\n\texit timeout = 15\n"));
        text.push_str(&format!("\truns = {}\n", self.runs));
        if let Some(pid) = self.pid() {
            text.push_str(&format!("\tpid = {pid}\n"));
        }
        text.push_str("\timmediate reason = speculative\n");
        match self.last {
            None => text.push_str("\tlast exit code = (never exited)\n"),
            Some(End::CodeSigning) => text.push_str("\tlast exit reason = OS_REASON_CODESIGNING\n"),
            Some(End::Code(78)) => text.push_str("\tlast exit code = 78: EX_CONFIG\n"),
            Some(End::Code(70)) => text.push_str("\tlast exit code = 70: EX_SOFTWARE\n"),
            Some(End::Code(code)) => text.push_str(&format!("\tlast exit code = {code}\n")),
            Some(End::Signal(9)) => text.push_str("\tlast terminating signal = Killed: 9\n"),
            Some(End::Signal(n)) => text.push_str(&format!("\tlast terminating signal = Terminated: {n}\n")),
        }
        // Blocks of the same words, as the real one has them.
        text.push_str("\n\tresource coalition = {\n\t\tID = 7\n\t\tstate = active\n\t\tactive count = 1\n\t}\n\n");
        let state = match (self.spawn_failed, self.child.is_some()) {
            (true, _) => "spawn failed",
            (_, true) => "running",
            _ => "exited",
        };
        let update = if self.last == Some(End::CodeSigning) { " | needs LWCR update" } else { "" };
        text.push_str(&format!(
            "\tspawn type = daemon (3)\n\tjob state = {state}\n\tproperties = keepalive | runatload{update}\n}}\n"
        ));
        text
    }
}
