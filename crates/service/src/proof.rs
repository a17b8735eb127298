//! Waits for what can be proved: never "started" unless this very process answered through its real socket.
//! The words of each failure are in [`Unproved`]; the command line puts the verb and the unit before them.

use super::health;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::manager::{Job, LastExit, Manager, ManagerError, Phase};
use super::paths::Paths;
use super::{Kind, interrupt};
use daemon::exit::Exit;
use daemon::ledger::{Failure, LedgerFile};
use daemon::probe::Health;

/// The time between two looks that cost no process: at `/health`, and whether a process is still there.
const POLL: Duration = Duration::from_millis(20);
/// The longest time between two looks at the manager.
const SELDOM: Duration = Duration::from_secs(1);
/// How long a process that was proved ready must stay: one that falls over at once is not good.
const SETTLE: Duration = Duration::from_secs(2);

/// Proved: the manager's main process is the one that answers on the port, it is ready, and it is not the one from
/// before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Proof {
    /// The process.
    pub pid: u32,
    /// Its identity.
    pub instance_id: String,
    /// Its version.
    pub version: String,
    /// Its build.
    pub build: Option<String>,
    /// Where to look at it.
    pub url: String,
}

/// Not proved.
#[derive(Debug, thiserror::Error)]
pub enum Unproved {
    /// The job ended, and the manager will not try again.
    #[error("{}", .gave_up.as_ref().map_or_else(|| ended(.job), |f| format!("it gave up: {}", f.reason)))]
    Ended {
        /// The job at the end.
        job: Box<Job>,
        /// Why the process asked launchd for no other start, if it did.
        gave_up: Option<Box<Failure>>,
    },
    /// The time is over.
    #[error("{reason} within {waited:?}; the manager says {}{}", job.state, said(job))]
    Late {
        /// What was not seen.
        reason: String,
        /// How long.
        waited: Duration,
        /// The job at the end.
        job: Box<Job>,
    },
    /// The manager cannot start it, and what ran before runs on.
    #[error("{0}, and the process from before runs on; `mpm-monitor doctor` names what repairs it")]
    Refused(String),
    /// A signal came in between.
    #[error("{} came before it was proved", signal_name(*.0))]
    Interrupted(i32),
    /// The manager does not answer.
    #[error(transparent)]
    Manager(#[from] ManagerError),
}

fn said(job: &Job) -> String {
    match &job.status_text {
        Some(text) => format!(", the process says {text:?}"),
        None if job.runs.is_some() && job.phase == Phase::Starting && job.last_exit.is_some() => {
            format!("; the last time {}", ended(job))
        }
        None => String::new(),
    }
}

/// The last end of a job in words, with the meaning of our own codes.
pub fn ended(job: &Job) -> String {
    // What macOS says in place of an exit code.
    match job.result.as_str() {
        "code-signing" => {
            return "macOS did not let it run: the program is not the one whose signature launchd pinned when it loaded the job \
                    (OS_REASON_CODESIGNING); `mpm-monitor restart` loads it anew"
                .to_owned();
        }
        "privacy" => {
            return "macOS ended it: it touched what the privacy settings keep from it (OS_REASON_TCC); see System Settings > \
                    Privacy & Security"
                .to_owned();
        }
        "library" => {
            return "macOS did not let it run: a library that the program needs is missing (OS_REASON_DYLD); install the \
                    program anew"
                .to_owned();
        }
        reason if reason.starts_with("OS_REASON_") => return format!("macOS ended it ({reason})"),
        _ => {}
    }
    let how = match &job.last_exit {
        Some(LastExit::Code(0)) => "it ended by itself, and without a failure; the log says why".to_owned(),
        Some(LastExit::Code(code)) => match Exit::from_code(*code) {
            Some(exit) => format!("it ended with exit code {code} ({})", exit.meaning()),
            // systemd.exec(5), "Process Exit Codes": what failed before the program ran at all.
            None if (200..=245).contains(code) => {
                format!(
                    "the manager could not run it (exit code {code}, see `man systemd.exec`); the log says which step"
                )
            }
            None => format!("it ended with exit code {code}"),
        },
        Some(LastExit::Signal(signal)) => format!("it was ended by {}", signal_name(*signal)),
        None => "it did not run".to_owned(),
    };
    match job.result.as_str() {
        "" | "success" | "exit-code" | "signal" | "core-dump" => how,
        "launch-failed" => {
            format!("{how}; or launchd could not start it at all: the program or the directory of its log is gone")
        }
        "start-limit-hit" if matches!(job.last_exit, Some(LastExit::Code(0))) => {
            "it was started too often in a short time, so the manager refused the last start".to_owned()
        }
        "start-limit-hit" => format!("{how}; it failed too often, so the manager stopped trying"),
        "watchdog" => format!("{how}, because it hung (watchdog)"),
        "timeout" => format!("{how}, because it was not ready or not gone in time"),
        "oom-kill" => format!("{how}, because the memory ran out"),
        other => format!("{how} (result {other})"),
    }
}

/// The name of a signal.
pub fn signal_name(signal: i32) -> String {
    // signal(7): the ones that end a service in practice.
    let name = match signal {
        1 => "SIGHUP",
        2 => "SIGINT",
        4 => "SIGILL",
        6 => "SIGABRT",
        7 => "SIGBUS",
        9 => "SIGKILL",
        11 => "SIGSEGV",
        15 => "SIGTERM",
        31 => "SIGSYS",
        other => return format!("signal {other}"),
    };
    name.to_owned()
}

impl Unproved {
    /// The exit code: that of the process where it says something, so that scripts can tell a taken port from a hang.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Ended { job, gave_up } => {
                let code = match (gave_up, &job.last_exit) {
                    (Some(failure), _) => failure.exit_code.map(i32::from),
                    (None, Some(LastExit::Code(code))) => Some(*code),
                    (None, _) => None,
                };
                code.and_then(Exit::from_code).filter(|e| e.code() >= 69).unwrap_or(Exit::Failure)
            }
            Self::Late { .. } => Exit::NotReady,
            Self::Refused(_) => Exit::Refused,
            Self::Interrupted(_) => Exit::Failure,
            Self::Manager(ManagerError::Unusable(_)) => Exit::NoManager,
            Self::Manager(_) => Exit::Failure,
        }
    }
}

/// What one look at job and port means.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Proved(Proof),
    Ended,
    Refused(String),
    NotYet(&'static str),
}

fn judge(job: &Job, health: Option<&Health>, before: Option<&str>, port: u16) -> Verdict {
    match job.phase {
        Phase::Failed | Phase::Stopped => return Verdict::Ended,
        Phase::Starting | Phase::Stopping => return Verdict::NotYet("it did not become ready"),
        Phase::Running => {}
    }
    let Some(health) = health else { return Verdict::NotYet("nobody answered /health on the port") };
    if health.gave_up.is_some() && job.pid == Some(health.pid) {
        return Verdict::Ended;
    }
    let Some(id) = &health.instance_id else { return Verdict::NotYet("the port was answered by another monitor") };
    if job.pid != Some(health.pid) {
        return Verdict::NotYet("the port was answered by another process");
    }
    if before == Some(id.as_str()) {
        if let Some(why) = &job.refused {
            return Verdict::Refused(why.clone());
        }
        return Verdict::NotYet("the process from before still answered");
    }
    if health.ready == Some(false) {
        return Verdict::NotYet("it did not become ready");
    }
    Verdict::Proved(Proof {
        pid: health.pid,
        instance_id: id.clone(),
        version: health.version.clone(),
        build: health.build.clone(),
        url: format!("http://127.0.0.1:{port}/"),
    })
}

/// When the manager is asked again. Its tools do the waiting: they return when a job is up, down or failed. What is left
/// is for a start that goes on after that, and each look is a process of its own: so it comes ever more rarely, and at once
/// where the process that it told of has ended.
struct Looks {
    pause: Duration,
    next: Instant,
}

impl Looks {
    fn new() -> Self {
        Self { pause: POLL, next: Instant::now() }
    }

    fn look(&mut self, manager: &dyn Manager, name: &str) -> Result<Job, ManagerError> {
        let job = manager.job(name)?;
        self.next = Instant::now() + self.pause;
        self.pause = (self.pause * 2).min(SELDOM);
        Ok(job)
    }

    fn is_due(&self, job: &Job) -> bool {
        Instant::now() >= self.next || job.pid.is_some_and(|pid| !process_exists(pid))
    }
}

/// What the ledger says of a job that ended well although it should run: under launchd that is how to end for good.
pub fn gave_up(job: &Job, paths: &Paths, port: u16) -> Option<Failure> {
    if paths.kind == Kind::Systemd || job.last_exit != Some(LastExit::Code(0)) {
        return None;
    }
    LedgerFile::in_dir(&paths.history(port)).read().gave_up
}

/// Waits until the instance is proved ready. `before` is the instance id that must not be the answer.
///
/// # Errors
/// [`Unproved`].
pub fn await_ready(
    manager: &dyn Manager,
    paths: &Paths,
    port: u16,
    before: Option<&str>,
    timeout: Duration,
) -> Result<Proof, Unproved> {
    uninterrupted()?;
    let (name, started) = (manager.service_name(port), Instant::now());
    let mut looks = Looks::new();
    let mut job = looks.look(manager, &name)?;
    loop {
        // The port is asked only while the job's own process serves it: where the manager holds the socket, any other
        // question would start the service, and the answer would be that start's.
        let health = if job.phase == Phase::Running { health::health(port, paths).ok() } else { None };
        match judge(&job, health.as_ref(), before, port) {
            Verdict::Proved(proof) => return Ok(proof),
            Verdict::Ended => {
                let says = health.and_then(|h| h.gave_up);
                let gave_up = says.or_else(|| gave_up(&job, paths, port)).map(Box::new);
                return Err(Unproved::Ended { job: Box::new(job), gave_up });
            }
            Verdict::Refused(why) => return Err(Unproved::Refused(why)),
            Verdict::NotYet(reason) if started.elapsed() >= timeout => {
                return Err(Unproved::Late { reason: reason.to_owned(), waited: timeout, job: Box::new(job) });
            }
            Verdict::NotYet(_) => wait()?,
        }
        if looks.is_due(&job) {
            job = looks.look(manager, &name)?;
        }
    }
}

/// Waits until a process that was proved ready has stayed for a while and, where the manager has a watchdog that will not
/// wait longer than `timeout`, has pinged it: what never does is ended by it.
///
/// # Errors
/// [`Unproved`].
pub fn await_steady(
    manager: &dyn Manager,
    paths: &Paths,
    port: u16,
    proof: &Proof,
    timeout: Duration,
) -> Result<(), Unproved> {
    let (name, started) = (manager.service_name(port), Instant::now());
    let mut looks = Looks::new();
    let mut job = looks.look(manager, &name)?;
    loop {
        if job.pid != Some(proof.pid) || job.phase != Phase::Running {
            let gave_up = gave_up(&job, paths, port).map(Box::new);
            return Err(Unproved::Ended { job: Box::new(job), gave_up });
        }
        let wanted = job.watchdog.filter(|limit| *limit <= timeout && !job.pinged);
        // The manager's own limit, and a moment for it to act on it.
        let enough = wanted.map_or(SETTLE, |limit| limit + SETTLE);
        if started.elapsed() >= enough {
            let answers = health::health(port, paths).is_ok_and(|h| h.pid == proof.pid);
            let reason = match (answers, wanted) {
                (true, None) => return Ok(()),
                (true, Some(_)) => "it became ready, and never pinged the watchdog",
                (false, _) => "it became ready, and does not answer any more",
            };
            return Err(Unproved::Late { reason: reason.to_owned(), waited: enough, job: Box::new(job) });
        }
        wait()?;
        if looks.is_due(&job) {
            job = looks.look(manager, &name)?;
        }
    }
}

/// A moment's pause.
fn wait() -> Result<(), Unproved> {
    std::thread::sleep(POLL);
    uninterrupted()
}

fn uninterrupted() -> Result<(), Unproved> {
    interrupt::caught().map_or(Ok(()), |signal| Err(Unproved::Interrupted(signal)))
}

/// Waits until the job is down, its process is gone, and nobody answers as `instance` any more.
///
/// # Errors
/// [`Unproved`].
pub fn await_gone(
    manager: &dyn Manager,
    paths: &Paths,
    port: u16,
    pid: Option<u32>,
    instance: Option<&str>,
    timeout: Duration,
) -> Result<(), Unproved> {
    let (name, started) = (manager.service_name(port), Instant::now());
    let mut looks = Looks::new();
    let mut job = looks.look(manager, &name)?;
    loop {
        let down = matches!(job.phase, Phase::Stopped | Phase::Failed) && job.pid.is_none();
        let alive = pid.is_some_and(process_exists);
        let answers =
            || instance.is_some() && health::health(port, paths).is_ok_and(|h| h.instance_id.as_deref() == instance);
        let reason = match (down, alive) {
            (false, _) => "it did not stop",
            (true, true) => "its process did not go away",
            (true, false) if answers() => "it still answered on the port",
            (true, false) => return Ok(()),
        };
        if started.elapsed() >= timeout {
            return Err(Unproved::Late { reason: reason.to_owned(), waited: timeout, job: Box::new(job) });
        }
        wait()?;
        if !down && looks.is_due(&job) {
            job = looks.look(manager, &name)?;
        }
    }
}

/// How an instance was before it was told to reload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Before {
    /// How often it had read its configuration.
    pub generation: u64,
    /// Whether its `STATUS=` said of an earlier reload that it was refused.
    pub refused: bool,
}

/// How long an old refusal may stand before it counts as the answer to this reload.
const PATIENCE: Duration = Duration::from_secs(2);

/// Waits until a running instance has read its configuration once more than `before`.
///
/// # Errors
/// [`Unproved::Late`] when it did not, or says that it refused; its `STATUS=` is in the job.
pub fn await_generation(
    manager: &dyn Manager,
    paths: &Paths,
    port: u16,
    before: &Before,
    timeout: Duration,
) -> Result<u64, Unproved> {
    let (name, started) = (manager.service_name(port), Instant::now());
    let mut looks = Looks::new();
    let mut seen = looks.look(manager, &name)?;
    loop {
        let health = health::health(port, paths).ok();
        if let Some(now) = health.as_ref().and_then(|h| h.config_generation).filter(|&n| n > before.generation) {
            return Ok(now);
        }
        if looks.is_due(&seen) {
            seen = looks.look(manager, &name)?;
        }
        let mut job = seen.clone();
        job.status_text = job.status_text.or_else(|| health.and_then(|h| h.degraded()));
        let says_no = job.phase == Phase::Running && job.status_text.as_deref().is_some_and(is_refusal);
        // It may still be saying so of an earlier reload.
        let refused = says_no && (!before.refused || started.elapsed() >= PATIENCE);
        if refused || started.elapsed() >= timeout || job.phase == Phase::Failed {
            let reason = "the new configuration was not taken".to_owned();
            return Err(Unproved::Late { reason, waited: started.elapsed(), job: Box::new(job) });
        }
        wait()?;
    }
}

/// Whether a `STATUS=` says that a reload was refused.
pub fn is_refusal(text: &str) -> bool {
    let text = text.to_lowercase();
    text.contains("reload")
        && ["fail", "refus", "kept", "keep", "invalid", "wrong", "not "].iter().any(|w| text.contains(w))
}

fn process_exists(pid: u32) -> bool {
    let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
    // EPERM means that there is one, of somebody else.
    pid.is_some_and(|p| rustix::process::test_kill_process(p) != Err(rustix::io::Errno::SRCH))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::systemd::show;

    fn running(pid: u32) -> Job {
        show::job(&format!("LoadState=loaded\nActiveState=active\nSubState=running\nMainPID={pid}\n"))
    }

    fn health(pid: u32, id: &str) -> Health {
        serde_json::from_value(serde_json::json!({
            "service": "claude-mpm-monitor", "version": "0.1.0", "port": 8765, "pid": pid, "instance_id": id, "ready": true
        }))
        .unwrap()
    }

    #[test]
    fn pain_6_only_the_managers_own_new_ready_process_is_proof() {
        let Verdict::Proved(proof) = judge(&running(7), Some(&health(7, "n")), Some("o"), 8765) else {
            panic!("no proof")
        };
        assert_eq!((proof.pid, proof.url.as_str()), (7, "http://127.0.0.1:8765/"));
        let not_yet = |job: &Job, h: Option<&Health>, before| matches!(judge(job, h, before, 1), Verdict::NotYet(_));
        assert!(not_yet(&running(7), None, None));
        assert!(not_yet(&running(7), Some(&health(8, "n")), None), "another process has the port");
        assert!(not_yet(&running(7), Some(&health(7, "o")), Some("o")), "the process from before");
        assert!(not_yet(&running(7), Some(&Health { ready: Some(false), ..health(7, "n") }), None));
        assert!(not_yet(&running(7), Some(&Health { instance_id: None, ..health(7, "n") }), None), "claude-mpm");
        let starting = show::job("ActiveState=activating\nSubState=auto-restart\n");
        assert!(not_yet(&starting, Some(&health(7, "n")), None));
        assert_eq!(judge(&show::job("ActiveState=failed\n"), None, None, 1), Verdict::Ended);
    }

    #[test]
    fn the_end_is_explained_and_keeps_its_code() {
        let job = show::job("ActiveState=failed\nResult=exit-code\nExecMainCode=1\nExecMainStatus=69\n");
        let error = Unproved::Ended { job: Box::new(job.clone()), gave_up: None };
        assert_eq!(error.exit(), Exit::PortTaken);
        assert!(error.to_string().contains("belongs to another program"), "{error}");
        let hang = show::job("ActiveState=failed\nResult=watchdog\nExecMainCode=3\nExecMainStatus=6\n");
        assert_eq!(ended(&hang), "it was ended by SIGABRT, because it hung (watchdog)");
        let exec = show::job("ActiveState=failed\nResult=exit-code\nExecMainCode=1\nExecMainStatus=203\n");
        assert!(ended(&exec).contains("could not run it"));
        assert_eq!(Unproved::Ended { job: Box::new(exec), gave_up: None }.exit(), Exit::Failure);
        // Under launchd the way to end for good is to end well; the ledger has the reason and its code.
        let failure = Failure { reason: "port 8765 is taken".into(), exit_code: Some(69), ..Failure::default() };
        let error = Unproved::Ended { job: Box::new(job), gave_up: Some(Box::new(failure)) };
        assert_eq!((error.exit(), error.to_string().as_str()), (Exit::PortTaken, "it gave up: port 8765 is taken"));
    }

    #[test]
    fn a_refused_reload_is_known_by_its_status() {
        assert!(is_refusal("serving x, 0 events; config: reload refused, config.toml:1: there is no setting y"));
        assert!(!is_refusal("serving 3 clients"));
        assert!(!is_refusal("reloading"));
    }

    #[test]
    fn a_process_that_is_there_is_not_gone() {
        assert!(process_exists(std::process::id()));
        assert!(!process_exists(0x7fff_fff0));
    }
}
