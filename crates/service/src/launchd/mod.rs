//! launchd, for agents of a user and daemons of the machine, through launchctl's current verbs.
//!
//! Implements the `service-manager` crate's trait, and [`Manager`], which the verbs use. The crate's own launchd back-end
//! is not used: it speaks the deprecated `load` and `unload`, which report success whatever happens, does not wait for
//! a job that is still ending, and chooses no domain (docs/dev/service-manager.md has the list).

pub mod codes;
pub mod domain;
pub mod print;
pub mod render;

use super::health;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use service_manager::{
    ServiceInstallCtx, ServiceLabel, ServiceLevel, ServiceManager, ServiceStartCtx, ServiceStatus, ServiceStatusCtx,
    ServiceStopCtx, ServiceUninstallCtx,
};

use super::exec::{self, ExecError, Output, QUICK};
use super::manager::{Job, LastExit, Manager, ManagerError, Phase};
use super::paths::Paths;
use super::receipt::Receipt;
use super::{Kind, Scope, files};
use codes::Asked;
use domain::Domain;
use print::Printed;

/// The time between two looks at a job that is ending or not taken yet.
const POLL: Duration = Duration::from_millis(100);
/// How long a bootstrap that is refused because the label is not free yet is repeated; Homebrew and others need up to five
/// seconds.
const RETRY: Duration = Duration::from_secs(10);
/// How long a stop may take: `ExitTimeOut` and what follows it.
const STOP: Duration = Duration::from_secs(25);

/// launchd, of one scope.
#[derive(Debug, Clone)]
pub struct Launchd {
    paths: Paths,
    uid: u32,
}

/// A job where it is loaded.
#[derive(Debug, Clone)]
struct Loaded {
    domain: Domain,
    printed: Printed,
}

impl Launchd {
    /// The one of the scope whose directories these are.
    pub fn new(paths: Paths) -> Self {
        Self { paths, uid: rustix::process::getuid().as_raw() }
    }

    fn domains(&self) -> Vec<Domain> {
        match self.paths.scope {
            Scope::System => vec![Domain::System],
            Scope::User => Domain::of_user(self.uid).into(),
        }
    }

    /// Where a job that is not loaded belongs: the first domain that is there.
    fn home(&self) -> Result<Domain, ManagerError> {
        let mut said = Vec::new();
        for domain in self.domains() {
            let output = call(&["print", &domain.to_string()], QUICK)?;
            if output.code == Some(0) {
                return Ok(domain);
            }
            said.push(complaint(&output, &Asked { verb: "print", domain, label: "" }));
        }
        // The last one is the one that needs the least.
        Err(ManagerError::Unusable(said.pop().unwrap_or_default()))
    }

    /// The domains in which a job is loaded; the one where it runs first.
    fn loaded(&self, label: &str) -> Result<Vec<Loaded>, ManagerError> {
        let mut all = Vec::new();
        for domain in self.domains() {
            let output = call(&["print", &domain.target(label)], QUICK)?;
            match output.code {
                Some(0) => {
                    let printed = print::job(&output.stdout);
                    if printed.phase() == Phase::Running {
                        // Nobody else can have the port, so the other domain need not be asked.
                        return Ok(vec![Loaded { domain, printed }]);
                    }
                    all.push(Loaded { domain, printed });
                }
                Some(codes::NO_SERVICE | codes::NO_DOMAIN | codes::UNSUPPORTED | codes::NOT_LOADED) => {}
                _ => return Err(failed(output, &Asked { verb: "print", domain, label })),
            }
        }
        Ok(all)
    }

    fn plist(&self, label: &str) -> PathBuf {
        self.paths.units.join(format!("{label}.plist"))
    }

    fn is_disabled(&self, domain: Domain, label: &str) -> bool {
        let text = call(&["print-disabled", &domain.to_string()], QUICK).ok().filter(|o| o.code == Some(0));
        text.and_then(|o| print::is_disabled(&o.stdout, label)).unwrap_or(false)
    }

    /// Whether the file was written after the process took its lock: `kickstart` would start it by what launchd read before.
    fn is_stale(&self, label: &str) -> bool {
        let changed = |path: &Path| fs::metadata(path).and_then(|m| m.modified()).ok();
        let Some(port) = self.port_of(label, &Receipt::all(&self.paths.receipts)) else { return true };
        match (changed(&self.plist(label)), changed(&self.paths.lock(port))) {
            (Some(plist), Some(lock)) => plist > lock,
            // Nothing to compare with: reading it again is never wrong.
            (Some(_), None) => true,
            (None, _) => false,
        }
    }

    /// Whether the process runs the file that is at its path now, as it says itself. launchd pins a program that is signed ad
    /// hoc when it loads the job, and macOS kills another one in its place. Where nobody tells, it may be another one: to load
    /// a job anew is never wrong.
    fn runs_what_is_there(&self, label: &str, pid: Option<u32>) -> bool {
        let port = self.port_of(label, &Receipt::all(&self.paths.receipts));
        let health = port.and_then(|port| health::health(port, &self.paths).ok());
        health.is_some_and(|h| Some(h.pid) == pid && h.program.is_some() && !h.program_replaced())
    }

    /// Whether the property list has sockets, which launchd listens on for as long as the job is loaded.
    fn has_sockets(&self, label: &str) -> bool {
        files::read(&self.plist(label)).ok().flatten().is_some_and(|text| render::has_sockets(&text))
    }

    /// The port of a label: by the receipts, where a person chose it, else by its usual form.
    fn port_of(&self, label: &str, receipts: &[Receipt]) -> Option<u16> {
        let chosen = receipts.iter().find(|r| r.label.as_deref() == Some(label)).map(|r| r.port);
        chosen.or_else(|| label.strip_prefix(self.paths.app.program.name)?.strip_prefix('.')?.parse().ok())
    }

    /// Loads a job, again and again while its label is not free.
    fn bootstrap(&self, domain: Domain, label: &str, timeout: Duration) -> Result<(), ManagerError> {
        let (file, place) = (self.plist(label).display().to_string(), domain.to_string());
        let asked = Asked { verb: "bootstrap", domain, label };
        self.enable(domain, label, true)?;
        let deadline = Instant::now() + timeout.min(RETRY);
        loop {
            let output = call(&["bootstrap", &place, &file], timeout.max(QUICK))?;
            match output.code {
                Some(0) => return Ok(()),
                // A neighbour was faster, or launchd took it while it said otherwise.
                Some(codes::ALREADY | codes::IO) if self.is_up(domain, label) => return Ok(()),
                Some(codes::IO | codes::ALREADY | codes::IN_PROGRESS) if Instant::now() < deadline => {
                    std::thread::sleep(POLL);
                }
                _ => return Err(failed(output, &asked)),
            }
        }
    }

    /// Whether the job is loaded from our file and not on its way out.
    fn is_up(&self, domain: Domain, label: &str) -> bool {
        let output = call(&["print", &domain.target(label)], QUICK).ok().filter(|o| o.code == Some(0));
        output.is_some_and(|o| {
            let printed = print::job(&o.stdout);
            let ours = printed.path.as_ref().is_none_or(|p| Path::new(p) == self.plist(label));
            ours && matches!(printed.phase(), Phase::Running | Phase::Starting)
        })
    }

    /// Unloads a job and waits until its label is free.
    fn bootout(&self, domain: Domain, label: &str, timeout: Duration) -> Result<(), ManagerError> {
        let target = domain.target(label);
        let deadline = Instant::now() + timeout;
        let mut last = call(&["bootout", &target], timeout.max(QUICK))?;
        loop {
            match last.code {
                Some(0 | codes::NOT_LOADED | codes::IN_PROGRESS | codes::NO_SERVICE) => {}
                _ => return Err(failed(last, &Asked { verb: "bootout", domain, label })),
            }
            let print = call(&["print", &target], QUICK)?;
            match print.code {
                Some(0) if Instant::now() < deadline => std::thread::sleep(POLL),
                Some(0) => {
                    let state = print::job(&print.stdout).state;
                    return Err(ManagerError::Unusable(format!(
                        "{label} is still {state} {timeout:?} after its bootout; `launchctl print {target}` shows it"
                    )));
                }
                _ => return Ok(()),
            }
            // One that had not begun to end when the first was said.
            if last.code != Some(0) {
                last = call(&["bootout", &target], timeout.max(QUICK))?;
            }
        }
    }

    fn enable(&self, domain: Domain, label: &str, enabled: bool) -> Result<(), ManagerError> {
        let verb = if enabled { "enable" } else { "disable" };
        told(call(&[verb, &domain.target(label)], QUICK)?, &Asked { verb, domain, label })
    }

    fn up(&self, label: &str, timeout: Duration) -> Result<(), ManagerError> {
        let loaded = self.loaded(label)?;
        let Some(Loaded { domain, printed }) = loaded.first() else {
            return self.bootstrap(self.home()?, label, timeout);
        };
        match printed.phase() {
            Phase::Running if !self.is_stale(label) => Ok(()),
            _ => {
                self.bootout(*domain, label, STOP)?;
                self.bootstrap(*domain, label, timeout)
            }
        }
    }
}

/// Runs launchctl.
fn call(arguments: &[&str], timeout: Duration) -> Result<Output, ManagerError> {
    Ok(exec::tool("launchctl", arguments, timeout)?)
}

fn told(output: Output, asked: &Asked<'_>) -> Result<(), ManagerError> {
    if output.code == Some(0) { Ok(()) } else { Err(failed(output, asked)) }
}

/// The code in words, with all that launchctl said.
fn complaint(output: &Output, asked: &Asked<'_>) -> String {
    let said = [output.stderr.trim(), output.stdout.trim()].into_iter().find(|t| !t.is_empty()).unwrap_or("");
    let said = said.lines().collect::<Vec<_>>().join("; ");
    let code = output.code.map_or("a signal".to_owned(), |c| format!("exit code {c}"));
    match output.code.and_then(|c| codes::explain(c, asked)) {
        Some(text) => format!("{text} (`{}`: {code}: {said})", output.command),
        None => format!("`{}` failed ({code}): {said}", output.command),
    }
}

fn failed(output: Output, asked: &Asked<'_>) -> ManagerError {
    let text = complaint(&output, asked);
    ExecError::Explained { command: output.command, code: output.code, text }.into()
}

impl Manager for Launchd {
    fn kind(&self) -> Kind {
        Kind::Launchd
    }

    fn scope(&self) -> Scope {
        self.paths.scope
    }

    fn usable(&self) -> Result<(), ManagerError> {
        match self.home() {
            Ok(_) => Ok(()),
            Err(error) => {
                Err(ManagerError::Unusable(format!("{error}; or `mpm-monitor run` serves in the foreground")))
            }
        }
    }

    fn service_name(&self, port: u16) -> String {
        self.paths.service_name(port)
    }

    fn socket_name(&self, port: u16) -> Option<String> {
        self.paths.socket_name(port)
    }

    fn has_notify_reload(&self) -> bool {
        false
    }

    fn ports(&self) -> Result<Vec<u16>, ManagerError> {
        let (mut ports, receipts) = (Vec::new(), Receipt::all(&self.paths.receipts));
        for domain in self.domains() {
            let output = call(&["print", &domain.to_string()], QUICK)?;
            if output.code == Some(0) {
                ports.extend(print::labels(&output.stdout).iter().filter_map(|l| self.port_of(l, &receipts)));
            }
        }
        ports.sort_unstable();
        ports.dedup();
        Ok(ports)
    }

    fn job(&self, name: &str) -> Result<Job, ManagerError> {
        let loaded = self.loaded(name)?.into_iter().next();
        let there = self.plist(name).exists();
        let domain = loaded.as_ref().map(|l| l.domain).or_else(|| self.home().ok());
        let enabled = match domain {
            Some(domain) if self.is_disabled(domain, name) => "disabled",
            _ if there || loaded.is_some() => "enabled",
            _ => "",
        };
        let Some(Loaded { domain, printed }) = loaded else { return Ok(unloaded(there, enabled)) };
        let phase = printed.phase();
        Ok(Job {
            loaded: true,
            refused: None,
            phase,
            state: format!("{} in {domain}", if printed.state.is_empty() { "unknown" } else { &printed.state }),
            result: result(&printed).to_owned(),
            enabled: enabled.to_owned(),
            pid: printed.pid,
            started_usec: None,
            restarts: None,
            runs: printed.runs,
            last_exit: printed.last_exit,
            status_text: None,
            stale: phase == Phase::Running && self.is_stale(name),
            held: true,
            listens: printed.pid.is_none() && self.has_sockets(name),
            note: matches!(domain, Domain::User(_)).then(|| forgotten(domain, name)),
            watchdog: None,
            pinged: false,
        })
    }

    /// launchd reads a property list when it loads it, and at no other time; see [`Manager::restart`].
    fn reread(&self) -> Result<(), ManagerError> {
        Ok(())
    }

    fn set_enabled(&self, names: &[String], enabled: bool) -> Result<(), ManagerError> {
        for name in names {
            let domain = match self.loaded(name)?.first() {
                Some(loaded) => loaded.domain,
                None => self.home()?,
            };
            self.enable(domain, name, enabled)?;
        }
        Ok(())
    }

    fn bring_up(&self, names: &[String], timeout: Duration) -> Result<(), ManagerError> {
        names.iter().try_for_each(|name| self.up(name, timeout))
    }

    /// Out of every domain: a login at the screen loads a job that runs already from an SSH session.
    fn bring_down(&self, names: &[String], timeout: Duration) -> Result<(), ManagerError> {
        for name in names {
            for domain in self.domains() {
                match call(&["print", &domain.target(name)], QUICK)?.code {
                    Some(0) => self.bootout(domain, name, timeout)?,
                    _ => continue,
                }
            }
        }
        Ok(())
    }

    fn restart(&self, name: &str, changed: bool, timeout: Duration) -> Result<(), ManagerError> {
        let Some(Loaded { domain, printed }) = self.loaded(name)?.into_iter().next() else {
            return self.bootstrap(self.home()?, name, timeout);
        };
        let is_same = !changed
            && printed.phase() == Phase::Running
            && !self.is_stale(name)
            && self.runs_what_is_there(name, printed.pid);
        if !is_same {
            self.bootout(domain, name, STOP)?;
            return self.bootstrap(domain, name, timeout);
        }
        let asked = Asked { verb: "kickstart", domain, label: name };
        // It comes back when the old process is gone, which may take all of `ExitTimeOut`.
        told(call(&["kickstart", "-k", &domain.target(name)], timeout.max(STOP))?, &asked)
    }

    fn reload(&self, name: &str, timeout: Duration) -> Result<(), ManagerError> {
        let loaded = self.loaded(name)?;
        let domain = loaded.first().map_or_else(|| self.home(), |l| Ok(l.domain))?;
        let output = call(&["kill", "SIGHUP", &domain.target(name)], timeout.max(QUICK))?;
        told(output, &Asked { verb: "kill", domain, label: name })
    }

    /// launchd holds no failure against a job; it waits for the throttle interval, and then tries again.
    fn forget_failure(&self, _names: &[String]) -> Result<(), ManagerError> {
        Ok(())
    }
}

/// A job that launchd does not know; `there` is whether it has a property list that the next login would load.
fn unloaded(there: bool, enabled: &str) -> Job {
    Job {
        loaded: there,
        refused: None,
        phase: Phase::Stopped,
        state: "not loaded".to_owned(),
        result: String::new(),
        enabled: enabled.to_owned(),
        pid: None,
        started_usec: None,
        restarts: None,
        runs: None,
        last_exit: None,
        status_text: None,
        stale: false,
        held: false,
        listens: false,
        note: None,
        watchdog: None,
        pinged: false,
    }
}

/// What to know of a job in the domain that needs no login at the screen.
fn forgotten(domain: Domain, label: &str) -> String {
    format!(
        "{label} runs in {domain}, the domain of a login over SSH, which macOS forgets when it restarts: then \
         `mpm-monitor start` over SSH, or a login at the screen, brings it back; for a Mac without logins: \
         `sudo mpm-monitor install --system`"
    )
}

/// The last run in one word.
fn result(printed: &Printed) -> &str {
    if printed.is_refused() {
        return "code-signing";
    }
    match printed.reason.as_deref() {
        None | Some("exited" | "JETSAM_REASON_MEMORY_IDLE_EXIT") => {}
        Some("OS_REASON_CODESIGNING") => return "code-signing",
        Some("OS_REASON_TCC") => return "privacy",
        Some("OS_REASON_DYLD") => return "library",
        Some("OS_REASON_EXEC") => return "launch-failed",
        Some(reason) if reason.starts_with("JETSAM_REASON") => return "oom-kill",
        Some(reason) => return reason,
    }
    match (&printed.last_exit, printed.pid) {
        // Its own code for a launch that came to nothing, too.
        (Some(LastExit::Code(78)), None) => "launch-failed",
        (Some(LastExit::Code(0)) | None, _) => "success",
        (Some(LastExit::Code(_)), _) => "exit-code",
        (Some(LastExit::Signal(_)), _) => "signal",
    }
}

impl ServiceManager for Launchd {
    fn available(&self) -> io::Result<bool> {
        Ok(self.usable().is_ok())
    }

    /// Writes the property list whose full text is `ctx.contents`; without contents this is an error.
    fn install(&self, ctx: ServiceInstallCtx) -> io::Result<()> {
        let contents =
            ctx.contents.ok_or_else(|| io::Error::other("install needs the property list's full contents"))?;
        let label = name(&ctx.label);
        fs::create_dir_all(&self.paths.units)?;
        files::write(&self.plist(&label), &contents, 0o644)?;
        if ctx.autostart {
            self.restart(&label, true, STOP)?;
        }
        Ok(())
    }

    fn uninstall(&self, ctx: ServiceUninstallCtx) -> io::Result<()> {
        let label = name(&ctx.label);
        self.bring_down(std::slice::from_ref(&label), STOP)?;
        fs::remove_file(self.plist(&label))
    }

    fn start(&self, ctx: ServiceStartCtx) -> io::Result<()> {
        Ok(self.bring_up(&[name(&ctx.label)], STOP)?)
    }

    fn stop(&self, ctx: ServiceStopCtx) -> io::Result<()> {
        Ok(self.bring_down(&[name(&ctx.label)], STOP)?)
    }

    fn level(&self) -> ServiceLevel {
        match self.paths.scope {
            Scope::System => ServiceLevel::System,
            Scope::User => ServiceLevel::User,
        }
    }

    fn set_level(&mut self, level: ServiceLevel) -> io::Result<()> {
        let scope = match level {
            ServiceLevel::System => Scope::System,
            ServiceLevel::User => Scope::User,
        };
        self.paths = match scope {
            Scope::System => Paths::system(self.paths.app, Kind::Launchd),
            Scope::User => daemon::dirs::UserDirs::find(self.paths.app.program.name)
                .map(|dirs| Paths::user(self.paths.app, Kind::Launchd, &dirs))
                .ok_or_else(|| io::Error::other("cannot tell where the home directory is; set HOME"))?,
        };
        Ok(())
    }

    fn status(&self, ctx: ServiceStatusCtx) -> io::Result<ServiceStatus> {
        let job = self.job(&name(&ctx.label))?;
        Ok(match job.phase {
            _ if !job.loaded => ServiceStatus::NotInstalled,
            Phase::Running => ServiceStatus::Running,
            _ => ServiceStatus::Stopped(Some(format!("{}, {}", job.state, job.result))),
        })
    }
}

fn name(label: &ServiceLabel) -> String {
    label.to_qualified_name()
}
