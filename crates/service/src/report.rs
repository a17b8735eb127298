//! What `status` says, and its exit code.

use std::path::PathBuf;

use serde::Serialize;

use super::Scope;
use super::drift::Drift;
use super::keeper::Keeper;
use super::manager::{Job, LastExit, Phase};
use super::proof::ended;
use daemon::exit::Exit;
use daemon::ledger::Ledger;
use daemon::ports::{self, Owner};
use daemon::probe::Health;
use daemon::text::{counted, wrap};

/// Everything that was found out about one instance.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// The service as its manager sees it, or why the manager does not answer.
    pub service: Option<Job>,
    /// Why the manager did not answer, if it did not.
    pub manager_error: Option<String>,
    /// The socket as the manager sees it.
    pub socket: Option<Job>,
    /// Who answers `/health` on the port.
    pub health: Option<Health>,
    /// Why nobody did.
    pub health_error: Option<String>,
    /// Who has the port.
    pub owner: Option<Owner>,
    /// The program that the unit names.
    pub program: Option<PathBuf>,
    /// Why root does not run that program to ask for its version.
    pub program_weak: Option<String>,
    /// What that program's `--version` says: version and build.
    pub installed: Option<(String, Option<String>)>,
    /// The version in the unit's header.
    pub unit_version: Option<String>,
    /// Each installed file against what would be written now.
    pub drift: Vec<(PathBuf, Drift)>,
    /// The crash ledger, if it may be read.
    pub ledger: Option<Ledger>,
    /// Whether the user lingers; only for a user's unit.
    pub linger: Option<bool>,
    /// The manager that runs the process that answers, if that is another than the one that was asked.
    pub elsewhere: Option<Keeper>,
    /// The definition of a copy that Homebrew runs on this port, if there is one.
    pub homebrew: Option<PathBuf>,
    /// Whether there is a receipt.
    pub receipt: bool,
    /// Whether that receipt says that the installation was not proved yet.
    pub unfinished: bool,
    /// Microseconds of the monotonic clock, now.
    pub now_usec: u64,
}

/// What `status --json` prints; `schema_version` rises when a field changes its meaning.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The shape of this object: 1.
    pub schema_version: u32,
    /// The instance.
    pub port: u16,
    /// Whose manager.
    pub scope: Scope,
    /// Where to look at it.
    pub url: String,
    /// `ready`, `not-ready`, `not-running` or `unknown`.
    pub state: &'static str,
    /// The exit code of `status`.
    pub exit_code: u8,
    /// In one sentence.
    pub summary: String,
    /// Whether the manager runs the process that serves the port.
    pub managed: bool,
    /// Whether there is a receipt of an installation.
    pub installed: bool,
    /// Whether that installation was broken off half way, or is under way at this moment.
    pub unfinished: bool,
    /// The service as the manager sees it.
    pub manager: Option<Job>,
    /// Why the manager did not answer, if it did not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manager_error: Option<String>,
    /// The socket as the manager sees it, if there is one.
    pub socket: Option<Job>,
    /// The process that serves.
    pub process: Option<Process>,
    /// Who has the port.
    pub port_owner: Option<Owner>,
    /// The three versions.
    pub versions: Versions,
    /// Each installed file against what would be written now.
    pub files: Vec<FileState>,
    /// How the last process ended, in words.
    pub last_exit: Option<String>,
    /// What the crash ledger says.
    pub ledger: Option<Ledger>,
    /// Whether the user lingers.
    pub linger: Option<bool>,
    /// The definition of a copy that Homebrew runs on this port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub homebrew: Option<PathBuf>,
}

/// The process that serves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// Its identity.
    pub instance_id: Option<String>,
    /// Whole seconds since it started.
    pub uptime_seconds: Option<u64>,
    /// Whether it says that it is ready.
    pub ready: Option<bool>,
}

/// Running, installed and unit: three versions that should be one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Versions {
    /// Of the process that runs.
    pub running: Option<String>,
    /// Its build.
    pub running_build: Option<String>,
    /// Of the program that the unit names.
    pub installed: Option<String>,
    /// Its build.
    pub installed_build: Option<String>,
    /// Of the program that wrote the unit.
    pub unit: Option<String>,
    /// That program.
    pub program: Option<PathBuf>,
    /// Why root does not run it to ask for its version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub program_weak: Option<String>,
    /// Whether the process itself says that its program file was replaced.
    pub program_replaced: bool,
    /// Whether an older build runs than is installed.
    pub restart_needed: bool,
}

/// One installed file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileState {
    /// Which.
    pub path: PathBuf,
    /// How it is.
    pub state: Drift,
}

/// What the facts mean: the exit code, one sentence, and whether the manager runs what serves.
pub fn decide(facts: &Facts) -> (Exit, String, bool) {
    let job = facts.service.as_ref();
    let pid = job.and_then(|j| j.pid);
    if let Some(health) = &facts.health {
        let managed = pid == Some(health.pid);
        let ours = health.instance_id.is_some();
        if let Some((keeper, job)) = displaced(facts) {
            let how = if job.phase == Phase::Failed { format!("failed: {}", ended(job)) } else { "not running".into() };
            let by = format!("port {} is served under {keeper}, by pid {}", health.port, health.pid);
            return (Exit::NotRunning, format!("{how}; {by}{}", keeper.hint()), false);
        }
        if managed || ours || health.gave_up.is_some() {
            let by = match facts.elsewhere {
                _ if managed => String::new(),
                Some(keeper) => format!(", under {keeper}{}", keeper.hint()),
                None if facts.homebrew.is_some() => ", run by Homebrew (`brew services info mpm-monitor`)".to_owned(),
                None if facts.manager_error.is_some() => ", but who runs it cannot be told".to_owned(),
                None => ", but not managed: somebody ran it by hand".to_owned(),
            };
            return match health.ready {
                _ if let Some(failure) = &health.gave_up => {
                    let text =
                        format!("gave up at {}: {}; `mpm-monitor start` tries again{by}", failure.at, failure.reason);
                    (Exit::NotRunning, text, managed)
                }
                Some(false) => (Exit::NotReady, format!("running, not ready yet{by}"), managed),
                // What depends on it waits, and the manager will end it.
                _ if managed && job.is_some_and(|j| j.phase == Phase::Starting) => {
                    let text =
                        "it answers, but has not told its manager that it is ready, which ends it when its time is up";
                    (Exit::NotReady, text.to_owned(), managed)
                }
                _ => (Exit::Ok, format!("running and ready{by}"), managed),
            };
        }
    }
    if let Some(error) = &facts.manager_error {
        return (Exit::Unknown, error.clone(), false);
    }
    let taken = || {
        let Some(owner) = &facts.owner else { return String::new() };
        // `claude-mpm monitor restart` finds our process by its PID file, ends it, and starts its own.
        let next = match owner.kind {
            ports::Kind::ClaudeMpm { .. } if facts.receipt => "; `mpm-monitor migrate` takes the port back",
            _ => "",
        };
        format!("; the port belongs to {owner}{next}")
    };
    let Some(job) = job else { return (Exit::NotRunning, format!("not running{}", taken()), false) };
    // Under launchd the way to end for good is to end well; the ledger has the reason.
    let gave_up = facts.ledger.as_ref().and_then(|l| l.gave_up.as_ref()).filter(|_| job.runs.is_some());
    match job.phase {
        Phase::Stopped | Phase::Failed if let Some(failure) = gave_up => {
            let text = format!("gave up at {}: {}; `mpm-monitor start` tries again", failure.at, failure.reason);
            (Exit::NotRunning, text, false)
        }
        Phase::Running | Phase::Starting | Phase::Stopping if pid.is_some() => {
            let why = facts.health_error.as_deref().map_or(String::new(), |e| format!(": {e}"));
            (Exit::NotReady, format!("running ({}), but it does not answer as ready{why}", job.state), true)
        }
        // Between two attempts: no process, but the manager is at it.
        Phase::Starting => {
            let runs = job.runs.filter(|&n| n > 1).map_or(String::new(), |n| format!(" after {n} starts"));
            (Exit::NotReady, format!("about to be started again{runs}; the last time {}", ended(job)), true)
        }
        Phase::Failed => {
            // The result only names the last end; that the manager tried before it gave up is the other half of the story.
            let tries = match job.restarts {
                None | Some(0) => String::new(),
                Some(n) => format!("; the manager gave up after {}", counted(n, "restart")),
            };
            (Exit::NotRunning, format!("failed: {}{tries}{}", ended(job), taken()), false)
        }
        _ if job.refused.is_some() => {
            let why = job.refused.as_deref().unwrap_or_default();
            (Exit::NotRunning, format!("cannot be started: {why}; `mpm-monitor doctor` names what repairs it"), false)
        }
        _ if !job.loaded || (!facts.receipt && job.enabled == "disabled") => {
            (Exit::NotRunning, format!("not installed{}", taken()), false)
        }
        _ if job.listens || facts.socket.as_ref().is_some_and(|s| s.phase == Phase::Running) => {
            (Exit::NotRunning, "not running; the first connection to its socket starts it".to_owned(), false)
        }
        _ => (Exit::NotRunning, format!("not running{}", taken()), false),
    }
}

/// The manager that serves the port in this one's place, and this one's job, which is installed and cannot run beside it.
pub fn displaced(facts: &Facts) -> Option<(Keeper, &Job)> {
    let (keeper, job) = (facts.elsewhere?, facts.service.as_ref()?);
    let wanted = facts.receipt || job.enabled == "enabled" || job.phase == Phase::Failed;
    (job.loaded && wanted && job.pid.is_none()).then_some((keeper, job))
}

/// The whole report.
pub fn report(port: u16, scope: Scope, facts: Facts) -> Report {
    let (exit, summary, managed) = decide(&facts);
    let served_here = displaced(&facts).is_none();
    let health = facts.health.as_ref().filter(|h| served_here && (managed || h.instance_id.is_some()));
    let job_uptime =
        facts.service.as_ref().and_then(|j| j.started_usec).map(|t| facts.now_usec.saturating_sub(t) / 1_000_000);
    let process = match (health, facts.service.as_ref().and_then(|j| j.pid)) {
        (Some(h), _) => Some(Process {
            pid: h.pid,
            instance_id: h.instance_id.clone(),
            uptime_seconds: Some(h.uptime),
            ready: h.ready,
        }),
        (None, Some(pid)) => Some(Process { pid, instance_id: None, uptime_seconds: job_uptime, ready: None }),
        (None, None) => None,
    };
    let (installed, installed_build) = facts.installed.map_or((None, None), |(v, b)| (Some(v), b));
    let (running, running_build) = health.map_or((None, None), |h| (Some(h.version.clone()), h.build.clone()));
    let differs = |a: &Option<String>, b: &Option<String>| matches!((a, b), (Some(a), Some(b)) if a != b);
    let program_replaced = health.is_some_and(Health::program_replaced);
    let restart_needed =
        managed && (differs(&running, &installed) || differs(&running_build, &installed_build) || program_replaced);
    let last_exit = facts
        .service
        .as_ref()
        .filter(|j| {
            let clean = matches!(j.last_exit, None | Some(LastExit::Code(0)));
            !clean || !matches!(j.result.as_str(), "" | "success")
        })
        .map(ended);
    let linger = facts.linger.filter(|_| scope == Scope::User);
    Report {
        schema_version: 1,
        port,
        scope,
        url: format!("http://127.0.0.1:{port}/"),
        state: match exit {
            Exit::Ok => "ready",
            Exit::NotReady => "not-ready",
            Exit::NotRunning => "not-running",
            _ => "unknown",
        },
        exit_code: exit.code(),
        summary,
        managed,
        installed: facts.receipt,
        unfinished: facts.unfinished,
        manager: facts.service.filter(|j| j.loaded || j.refused.is_some()),
        manager_error: facts.manager_error,
        socket: facts.socket.filter(|j| j.loaded && j.enabled != "disabled" || j.phase == Phase::Running),
        process,
        port_owner: facts.owner,
        versions: Versions {
            running,
            running_build,
            installed,
            installed_build,
            unit: facts.unit_version,
            program: facts.program,
            program_weak: facts.program_weak,
            program_replaced,
            restart_needed,
        },
        files: facts.drift.into_iter().map(|(path, state)| FileState { path, state }).collect(),
        last_exit,
        ledger: facts.ledger,
        linger,
        homebrew: facts.homebrew,
    }
}

/// The version and build that `mpm-monitor --version` prints, `mpm-monitor 0.1.0 (build 0123)`.
pub fn parse_version(text: &str) -> Option<(String, Option<String>)> {
    let mut words = text.lines().next()?.split_whitespace();
    words.next().filter(|w| *w == "mpm-monitor")?;
    let version = words.next()?.to_owned();
    let build = words.nth(1).map(|b| b.trim_end_matches(')').to_owned());
    Some((version, build))
}

impl Report {
    /// For people; lines of at most 80 columns.
    pub fn human(&self) -> String {
        let mut rows: Vec<(&str, String)> = vec![("", format!("mpm-monitor on port {}: {}", self.port, self.summary))];
        if let Some(job) = &self.manager {
            let restarts = job
                .restarts
                .filter(|&n| n > 0)
                .map_or(String::new(), |n| format!(", restarted {}", counted(n, "time")));
            let runs =
                job.runs.filter(|&n| n > 1).map_or(String::new(), |n| format!(", started {}", counted(n, "time")));
            rows.push(("manager", format!("{} manager: {}, {}{restarts}{runs}", self.scope, job.state, job.enabled)));
            // What it said last, while it says it.
            rows.extend(job.status_text.clone().filter(|_| job.pid.is_some()).map(|t| ("says", t)));
            if let Some(why) = job.refused.as_ref().filter(|_| job.pid.is_some()) {
                rows.push(("note", format!("{why}, so that the next start fails (`mpm-monitor doctor`)")));
            }
            rows.extend(job.note.clone().map(|note| ("note", note)));
        } else if let Some(error) = &self.manager_error {
            rows.push(("manager", format!("the {} manager did not answer: {error}", self.scope)));
        } else {
            rows.push(("manager", format!("the {} manager has no such service", self.scope)));
        }
        if let Some(socket) = &self.socket {
            rows.push(("socket", format!("{}, {}", socket.state, socket.enabled)));
        }
        if let Some(process) = &self.process {
            let up = process.uptime_seconds.map_or(String::new(), |s| {
                format!(", up {}", humantime::format_duration(std::time::Duration::from_secs(s)))
            });
            let id = process.instance_id.as_ref().map_or(String::new(), |i| format!(", instance {i}"));
            rows.push(("process", format!("pid {}{up}{id}", process.pid)));
            rows.push(("url", self.url.clone()));
        }
        let v = &self.versions;
        let mut versions: Vec<String> = Vec::new();
        // Two builds of one version are told apart by more than that.
        let same = v.running == v.installed && v.running_build != v.installed_build;
        let full = |version: &String, build: &Option<String>| match build {
            Some(build) if same => format!("{version} (build {build})"),
            _ => version.clone(),
        };
        versions.extend(v.running.as_ref().map(|x| format!("running {}", full(x, &v.running_build))));
        versions.extend(v.installed.as_ref().map(|x| format!("installed {}", full(x, &v.installed_build))));
        versions.extend(v.unit.as_ref().map(|x| format!("unit {x}")));
        if v.restart_needed {
            versions.push("restart needed (`mpm-monitor restart`)".to_owned());
        }
        if !versions.is_empty() {
            rows.push(("versions", versions.join(" · ")));
        }
        let weak = v.program_weak.as_ref().map(|weak| format!(" (root does not run it: {weak})")).unwrap_or_default();
        rows.extend(v.program.as_ref().map(|p| ("program", format!("{}{weak}", p.display()))));
        if self.unfinished {
            rows.push(("receipt", "the installation is unfinished (`mpm-monitor install` finishes it)".to_owned()));
        }
        for file in self.files.iter().filter(|f| f.state != Drift::Clean) {
            let what = match file.state {
                Drift::Absent => "is missing (`mpm-monitor install` writes it)",
                Drift::Outdated => "is outdated (`mpm-monitor install` rewrites it)",
                _ => "was edited by hand (`mpm-monitor install` shows how)",
            };
            rows.push(("file", format!("{} {what}", file.path.display())));
        }
        rows.extend(self.last_exit.clone().map(|e| ("last end", e)));
        if let Some(failure) = self.ledger.as_ref().and_then(|l| l.last_failure.as_ref()) {
            rows.push(("last crash", format!("{}: {}", failure.when(), failure.reason)));
        }
        if self.linger == Some(false) {
            rows.push(("linger", "off: it ends with the last logout (`sudo loginctl enable-linger $USER`)".to_owned()));
        }
        if let Some(path) = &self.homebrew {
            let what = match path.extension().is_some_and(|x| x == "plist") {
                true => "its log is one file that only a restart shortens, and `logs` does not know it",
                false => "it has neither readiness nor watchdog there",
            };
            let next = "`brew services stop mpm-monitor` and `mpm-monitor install` make it ours";
            rows.push(("homebrew", format!("{}: {what}; {next}", path.display())));
        }
        rows.iter().fold(String::new(), |text, (key, value)| text + &row(key, value))
    }
}

/// One row, wrapped at words.
fn row(key: &str, value: &str) -> String {
    let indent = if key.is_empty() { 0 } else { 14 };
    let mut text = if key.is_empty() { String::new() } else { format!("  {key:<12}") };
    wrap(value, indent, 14, &mut text);
    text
}

#[cfg(test)]
#[path = "report_tests.rs"]
mod tests;
