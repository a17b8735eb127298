//! What the verbs about the installed service share: whose manager, where the files are, how a failure is told.

use service::health;
use service::managers;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::args::{ScopeArgs, Target};
use super::failed;
use super::progress::{self, Waiting};
use crate::build::PROGRAM;
use daemon::exit::Exit;
use daemon::out;
use daemon::ports;
use daemon::probe::Health;
use service::manager::{Job, LastExit, Manager, ManagerError, Phase};
use service::paths::Paths;
use service::proof::{Proof, Unproved};
use service::receipt::Receipt;
use service::users::{behind_sudo, user_name};
use service::{Kind, Scope, journal, logfile};

/// How many of the last log lines a failure shows.
const TAIL: usize = 10;
/// How long to wait for the journal to have them: journald writes a moment after the process.
const TAIL_WAIT: Duration = Duration::from_millis(300);

/// One instance and its manager.
pub struct Context {
    /// Whose.
    pub scope: Scope,
    /// Where its files are.
    pub paths: Paths,
    /// Its manager.
    pub manager: Box<dyn Manager>,
    /// Who asks.
    pub user: String,
    /// The instance.
    pub port: u16,
    /// How long a proof may take.
    pub timeout: Duration,
    /// Whether to print JSON.
    pub json: bool,
    /// When the verb began.
    began: Timestamp,
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context").field("scope", &self.scope).field("port", &self.port).finish_non_exhaustive()
    }
}

/// Whether this process is root.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The scope, refusing `sudo` with a user's unit: it would be root's, or nobody's.
///
/// # Errors
/// [`Exit::Refused`].
pub fn scope(args: &ScopeArgs, verb: &str) -> anyhow::Result<Scope> {
    let scope = Scope::choose(args.user, args.system, is_root());
    match behind_sudo() {
        Some(user) if args.user && is_root() => Err(failed(
            Exit::Refused,
            format!(
                "sudo and --user do not go together: it would be root's own service, not {user}'s. Type it without sudo: \
                 `mpm-monitor {verb} --user`; for a service of the whole machine: `sudo mpm-monitor {verb} --system`"
            ),
        )),
        _ => Ok(scope),
    }
}

impl Context {
    /// For a target; does not yet talk to the manager.
    ///
    /// # Errors
    /// When the scope is refused or the user's home is unknown.
    pub fn new(target: &Target, verb: &str) -> anyhow::Result<Self> {
        Self::labelled(target, verb, None)
    }

    /// The same, with a label of launchd that the person chose.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn labelled(target: &Target, verb: &str, label: Option<String>) -> anyhow::Result<Self> {
        let scope = scope(&target.scope, verb)?;
        let paths = paths(scope)?.labelled(target.port, label);
        Ok(Self {
            scope,
            manager: managers::of(&paths),
            paths,
            user: user_name(),
            port: target.port,
            timeout: target.timeout,
            json: target.json,
            began: Timestamp::now(),
        })
    }

    /// The manager, or one sentence on why there is none.
    ///
    /// # Errors
    /// [`Exit::NoManager`].
    pub fn need_manager(&self) -> anyhow::Result<&dyn Manager> {
        self.manager.usable().map_err(|e| failed(Exit::NoManager, e.to_string()))?;
        Ok(&*self.manager)
    }

    /// Fails unless root asks, where it is the machine's manager.
    ///
    /// # Errors
    /// [`Exit::NoPermission`].
    pub fn need_root(&self, verb: &str) -> anyhow::Result<()> {
        if self.scope == Scope::User || is_root() {
            return Ok(());
        }
        let port = self.port;
        Err(failed(
            Exit::NoPermission,
            format!(
                "--system needs root: `sudo mpm-monitor {verb} --system --port {port}`; or take your own manager with --user"
            ),
        ))
    }

    /// The service, which must be installed.
    ///
    /// # Errors
    /// [`Exit::NotInstalled`], and the manager's.
    pub fn need_installed(&self) -> anyhow::Result<Job> {
        let manager = self.need_manager()?;
        let name = manager.service_name(self.port);
        let mut job = manager.job(&name)?;
        // What was repaired since the manager read it counts; without the right to ask for that, it stays as it is.
        if job.refused.is_some() && manager.reread().is_ok() {
            job = manager.job(&name)?;
        }
        let receipt = self.paths.receipt(self.port).exists();
        // Every port has a definition where a package has put its template. What runs can be stopped, whatever became of that.
        if (job.loaded || job.pid.is_some()) && (receipt || job.enabled == "enabled" || job.phase != Phase::Stopped) {
            return Ok(job);
        }
        self.need_loaded(&job, "start")?;
        let other = if self.scope == Scope::User { Scope::System } else { Scope::User };
        let there =
            Paths::of(&crate::app::APP, other).is_some_and(|p| p.labelled(self.port, None).is_installed(self.port));
        let next = if there {
            format!("there is one of the {other} manager: add {}", other.flag())
        } else {
            format!("`mpm-monitor install {} --port {}` makes one", self.scope.flag(), self.port)
        };
        Err(failed(
            Exit::NotInstalled,
            format!("the {} manager has no instance on port {}; {next}", self.scope, self.port),
        ))
    }

    /// Fails at once where the manager cannot load the definition, and so does nothing with it but end what runs.
    ///
    /// # Errors
    /// [`Exit::Refused`].
    pub fn need_loaded(&self, job: &Job, verb: &str) -> anyhow::Result<()> {
        let Some(why) = &job.refused else { return Ok(()) };
        let name = self.manager.service_name(self.port);
        let doctor = format!("`mpm-monitor doctor {} --port {}`", self.scope.flag(), self.port);
        let goes_on = if job.pid.is_some() { "; what runs goes on" } else { "" };
        let text = format!("cannot {verb} {name}: {why}{goes_on}; {doctor} names what repairs it");
        Err(failed(Exit::Refused, text))
    }

    /// The units of the instance: with the socket where there is one.
    ///
    /// # Errors
    /// The manager's.
    pub fn units(&self) -> anyhow::Result<Vec<String>> {
        // Only root may read the machine's receipts; the socket's own state tells the same.
        let receipt = Receipt::read(&self.paths.receipt(self.port)).ok().flatten();
        let socket = self.manager.socket_name(self.port).map(|name| self.manager.job(&name)).transpose()?;
        let has_socket = receipt.is_some_and(|r| r.socket)
            || socket.is_some_and(|s| s.enabled == "enabled" || s.phase == Phase::Running);
        Ok(self.paths.jobs(self.port, has_socket))
    }

    /// Who answers on the port now, the service being as `job` says. Nobody is asked where it has no process and the manager
    /// holds its socket: the question would start it.
    pub fn health(&self, job: &Job) -> Option<Health> {
        if job.listens || job.pid.is_none() && self.socket().is_some_and(|socket| socket.phase == Phase::Running) {
            return None;
        }
        health::health(self.port, &self.paths).ok()
    }

    /// The socket of the instance, where it is a job of its own.
    fn socket(&self) -> Option<Job> {
        self.manager.socket_name(self.port).and_then(|name| self.manager.job(&name).ok())
    }

    /// Fails at once if the manager does not let this user do it: there is nothing to wait for.
    ///
    /// # Errors
    /// [`Exit::NoPermission`].
    pub fn allowed(&self, manager_said: Option<&str>) -> anyhow::Result<()> {
        const REFUSALS: [&str; 4] =
            ["Access denied", "authentication required", "Permission denied", "Operation not permitted"];
        match manager_said {
            Some(said) if REFUSALS.iter().any(|w| said.contains(w)) => {
                Err(failed(Exit::NoPermission, format!("{said} Repeat it with sudo")))
            }
            _ => Ok(()),
        }
    }

    /// The error for a proof that failed: what happened, what the manager said, the last log lines.
    pub fn unproved(&self, verb: &str, error: &Unproved, manager_said: Option<&str>) -> anyhow::Error {
        let name = self.manager.service_name(self.port);
        let mut exit = error.exit();
        if matches!(error, Unproved::Interrupted(_)) {
            return failed(exit, format!("{verb} {name}: {error}"));
        }
        let mut text = format!("{verb} {name}: {error}");
        if let Some(said) = manager_said {
            text.push_str(&format!("\n{said}"));
        }
        // launchd would start it for ever, so that a process which finds the port served by its like ends without a failure.
        if let Unproved::Ended { job, gave_up: None } = error
            && job.last_exit == Some(LastExit::Code(0))
            && let Some(other) = self.health(job)
        {
            exit = Exit::AlreadyRunning;
            text.push_str(&format!(
                "\nPort {} is served already, by pid {} (version {})",
                self.port, other.pid, other.version
            ));
        }
        // Where the manager is to hold the port, it is the socket that cannot have it, and the service does not even start.
        let no_socket = self.socket().is_some_and(|socket| socket.phase == Phase::Failed);
        // The service may not be allowed to see whose it is; whoever types this may.
        if (exit == Exit::PortTaken || no_socket)
            && let Some(owner) = ports::owner_of(&PROGRAM, self.port, health::LOOK)
        {
            exit = Exit::PortTaken;
            text.push_str(&format!("\nPort {} belongs to {owner}", self.port));
        }
        let lines = self.tail();
        if lines.is_empty() {
            text.push_str(&format!(
                "\nThe log has nothing on it yet: `mpm-monitor logs {} --port {}`",
                self.scope.flag(),
                self.port
            ));
        } else {
            text.push_str("\nThe last log lines:\n  ");
            text.push_str(&lines.join("\n  "));
        }
        failed(exit, text)
    }

    /// The last log lines since this verb began.
    fn tail(&self) -> Vec<String> {
        if let Some(query) = logfile::Query::of(&self.paths, self.port, TAIL, Some(self.began), false) {
            let mut lines = Vec::new();
            // This decorates an error message that stands without it.
            let _ = logfile::read(&query, &mut |line| {
                lines.push(line.human());
                Ok(std::ops::ControlFlow::Continue(()))
            });
            return lines;
        }
        let query = journal::Query::of(&self.paths, self.port, TAIL, Some(self.began));
        let started = Instant::now();
        loop {
            let lines = journal::tail(&query);
            // What the manager says of itself comes first; the process's own words are worth a moment's wait.
            if lines.iter().any(|l| l.contains(" mpm-monitor[")) || started.elapsed() > TAIL_WAIT {
                return lines;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What the definitions are called, in messages.
    pub fn unit_word(&self) -> &'static str {
        match self.paths.kind {
            Kind::Systemd => "unit",
            Kind::Launchd => "job",
        }
    }

    /// Tells a terminal what is waited for, until the result is dropped.
    pub fn waiting(&self, what: &str) -> Waiting {
        progress::waiting(&format!("{} to {what}", self.manager.service_name(self.port)))
    }

    /// Prints what was proved.
    ///
    /// # Errors
    /// When standard output fails.
    pub fn print_proof(&self, what: &str, proof: &Proof) -> anyhow::Result<()> {
        if self.json {
            let object = serde_json::json!({ "schema_version": 1, "result": what, "port": self.port, "scope": self.scope, "proof": proof });
            return print_json(&object);
        }
        let job = self.manager.job(&self.manager.service_name(self.port));
        if let Some(note) = job.ok().and_then(|job| job.note) {
            out::tell(&format!("note: {note}"));
        }
        print_text(&format!("{what}: {} (pid {}, instance {})\n", proof.url, proof.pid, proof.instance_id))
    }

    /// Prints an outcome that has no process to show.
    ///
    /// # Errors
    /// When standard output fails.
    pub fn print_result(&self, what: &str) -> anyhow::Result<()> {
        if self.json {
            let object =
                serde_json::json!({ "schema_version": 1, "result": what, "port": self.port, "scope": self.scope });
            return print_json(&object);
        }
        print_text(&format!("{what}\n"))
    }
}

/// The directories of a scope.
///
/// # Errors
/// When the user's home is unknown.
pub fn paths(scope: Scope) -> anyhow::Result<Paths> {
    Paths::of(&crate::app::APP, scope)
        .ok_or_else(|| failed(Exit::CantCreate, "cannot tell where the home directory is; set HOME"))
}

/// Turns a manager's error into one with the right exit code.
pub fn manager_failed(error: ManagerError) -> anyhow::Error {
    match error {
        ManagerError::Unusable(text) => failed(Exit::NoManager, text),
        other => other.into(),
    }
}

/// Prints a text.
///
/// # Errors
/// When standard output fails.
pub fn print_text(text: &str) -> anyhow::Result<()> {
    Ok(daemon::out::print(text)?)
}

/// Prints one JSON object.
///
/// # Errors
/// When standard output fails.
pub fn print_json(object: &impl serde::Serialize) -> anyhow::Result<()> {
    print_text(&(serde_json::to_string_pretty(object)? + "\n"))
}
