//! Is the plumbing of the service as it should be? One check for each thing that breaks in practice, with what was seen and
//! the next command to type.
//!
//! Each group has a file: a *look*, which does the IO and ends in time, and a *judge*, which is pure and makes the checks of
//! what was seen. Looking changes nothing, starts nothing and ends nothing.
//!
//! A new check takes: a line in `codes!` in [`check`], within its group; what it must see in the group's look; its verdict in the
//! group's judge, in the order of `codes!`, exactly once, and as *not run* where the look failed; a case in
//! `tests/system/sabotages.toml`. `MPM_MONITOR_BLESS=1 cargo test --test project every_code_of_the_doctor` writes the table of
//! `docs/doctor.md`. On a throw-away systemd, the same variable writes its examples and `INSTA_UPDATE=always` the snapshots.
//!
//! - [`check`]: one check as data, and the list of all codes.
//! - [`look`]: looks with a deadline.
//! - [`manager`], [`unit`], [`process`], [`port`], [`resources`], [`log`], [`tools`], [`hooks`]: the groups.
//! - [`properties`], [`procs`]: what several of them look at.
//! - [`fix`]: the repairs that harm nothing.
//! - [`show`]: the report, for people and for programs.

pub mod check;
pub mod cure;
pub mod fix;
pub mod hooks;
pub mod log;
pub mod look;
pub mod manager;
pub mod merged;
pub mod needs;
pub mod port;
pub mod posts;
pub mod process;
pub mod procs;
pub mod properties;
pub mod resources;
pub mod rights;
pub mod rules;
pub mod settings;
pub mod show;
pub mod state;
pub mod sweep;
pub mod tools;
pub mod unit;
pub mod walls;

use service::health;
use std::time::Duration;

pub use check::{Check, Code, Fix, Group, Outcome, Severity};

use crate::build::PROGRAM;
use daemon::ports;
use daemon::probe;
use properties::Properties;
use rights::Account;
use service::paths::Paths;
use service::report::Facts;
use service::{Kind, Scope};

/// How long what `status` asks may take.
const FACTS: Duration = Duration::from_secs(5);
/// How long any other look may take.
const LOOK: Duration = Duration::from_secs(3);
/// How long the hooks may take, beside all others.
const HOOKS: Duration = Duration::from_secs(8);

/// One instance that is looked at.
#[derive(Debug, Clone)]
pub struct Subject {
    /// Its port.
    pub port: u16,
    /// Whose manager.
    pub scope: Scope,
    /// Where its files are.
    pub paths: Paths,
    /// Who asks.
    pub user: String,
    /// Whether that is root.
    pub is_root: bool,
}

impl Subject {
    /// `sudo `, where root must type it.
    pub fn sudo(&self) -> &'static str {
        if self.scope == Scope::System && !self.is_root { "sudo " } else { "" }
    }

    /// One of our verbs for this instance.
    pub fn verb(&self, verb: &str) -> String {
        format!("{}mpm-monitor {verb} {} --port {}", self.sudo(), self.scope.flag(), self.port)
    }

    /// The command that shows its log.
    pub fn logs(&self) -> String {
        format!("{} -n 100", self.verb("logs"))
    }

    /// The command that makes a drop-in, or what comes nearest to it.
    pub fn edit_unit(&self) -> String {
        match (self.paths.kind, self.scope) {
            (Kind::Systemd, Scope::User) => format!("systemctl --user edit mpm-monitor@{}", self.port),
            (Kind::Systemd, Scope::System) => format!("{}systemctl edit mpm-monitor@{}", self.sudo(), self.port),
            (Kind::Launchd, _) => self.verb("install"),
        }
    }

    /// The command that makes the manager read its files again.
    pub fn reread(&self) -> String {
        let user = if self.scope == Scope::User { "--user " } else { "" };
        format!("{}systemctl {user}daemon-reload", self.sudo())
    }

    /// The command that tells how the manager is.
    pub fn status_of_manager(&self) -> String {
        match (self.paths.kind, self.scope) {
            (Kind::Systemd, Scope::User) => "systemctl --user is-system-running".to_owned(),
            (Kind::Systemd, Scope::System) => "systemctl is-system-running".to_owned(),
            (Kind::Launchd, Scope::User) => "launchctl print gui/$(id -u)".to_owned(),
            (Kind::Launchd, Scope::System) => "sudo launchctl print system".to_owned(),
        }
    }

    /// The same look as root.
    pub fn doctor_as_root(&self) -> String {
        format!("sudo mpm-monitor doctor {} --port {}", self.scope.flag(), self.port)
    }

    /// The unit's or job's name.
    pub fn unit(&self) -> String {
        self.paths.service_name(self.port)
    }

    /// The same on another port.
    #[must_use]
    pub fn on(&self, port: u16) -> Self {
        Self { port, ..self.clone() }
    }
}

/// Looks at one instance; `gather` is what `status` finds out.
pub fn examine(subject: &Subject, gather: impl FnOnce() -> Facts + Send + 'static) -> Vec<Check> {
    let this = || subject.clone();
    let kind = subject.paths.kind;
    let facts = look::begin(FACTS, gather);
    let manager = look::begin(LOOK, move || manager::look(kind));
    let (for_merged, for_properties) = (this(), this());
    let merged = look::begin(LOOK, move || merged::look(&for_merged, &for_merged.unit()));
    let properties = look::begin(LOOK, move || properties::look(&for_properties));
    let tools = look::begin(LOOK, tools::look);

    let merged = merged.end().and_then(|m| m);
    let (for_unit, seen_by_unit) = (this(), merged.clone());
    let unit = look::begin(LOOK, move || unit::look(&for_unit, &seen_by_unit));
    let (unit, facts) = (unit.end(), facts.end());
    let known = facts.as_ref().ok();
    let pid = known.and_then(|f| f.service.as_ref()).and_then(|j| j.pid);
    let answers = known.and_then(|f| f.health.as_ref()).is_some_and(|h| h.instance_id.is_some());
    let owner = known.and_then(|f| f.owner.as_ref()).map(|o| &o.kind);
    let is_strange = owner == Some(&ports::Kind::Foreign);
    let is_unknown = matches!(owner, Some(ports::Kind::Foreign | ports::Kind::Silent));
    let loaded = known.and_then(|f| f.service.as_ref()).is_some_and(|j| j.loaded);
    let installed = unit::is_installed(subject, &facts, &unit);
    let program = known.and_then(|f| f.program.clone());
    let env = unit.as_ref().ok().and_then(|u| u.receipt.as_ref().ok()?.as_ref()).map(|r| r.env.clone());
    let (for_settings, seen_by_settings) = (this(), merged.clone());
    let settings =
        look::begin(LOOK, move || settings::look(&for_settings, &env.unwrap_or_default(), &seen_by_settings));
    let (for_needs, seen_by_needs, runs) = (this(), merged.clone(), program.clone());
    let around = look::begin(LOOK, move || match seen_by_needs {
        Ok(merged) => Ok(needs::look(&for_needs, &merged, runs.as_deref())),
        Err(why) => Err(why),
    });
    let read = settings.end();
    let settings = read.as_ref().ok().and_then(|s| s.settings.as_ref().ok()).cloned();

    let account = merged.as_ref().map_or(Account::Unknown, |unit| Account::of(subject, unit));
    let (for_process, for_port, for_log) = (this(), this(), this());
    let served_by = known.and_then(|f| f.health.as_ref()).map(|h| h.pid).filter(|p| Some(*p) != pid);
    let process = look::begin(LOOK, move || look_at_process(&for_process, pid, answers, served_by));
    let their_settings = settings.clone();
    let port_account = account.clone();
    let port = look::begin(LOOK, move || port::Seen {
        sockets: if is_unknown { port::sockets(&for_port) } else { Vec::new() },
        orchestrator: is_strange && port::is_orchestrator(for_port.port, Duration::from_secs(1)),
        ..port::look(&for_port, their_settings.as_ref(), &port_account)
    });
    // Where settings name another folder, that one.
    let history = settings
        .as_ref()
        .map_or_else(|| subject.paths.history(subject.port), |s| s.state_dir.join(subject.port.to_string()));
    let (for_folder, dir, its_account) = (this(), history.clone(), account.clone());
    let folder = look::begin(LOOK, move || state::look(&for_folder, &dir, &its_account));
    let runtime = subject.paths.runtime_of(subject.port);
    let resources = look::begin(LOOK, move || resources::look(history, &runtime, program.as_deref()));
    let log = look::begin(LOOK, move || log::look(&for_log, loaded));

    let (manager, properties) = (manager.end(), properties.end().and_then(|p| p));
    let properties = properties.map(|p| Properties { unit: merged.clone().unwrap_or_default(), ..p });
    let (process, settings) = (process.end(), settings.as_ref());
    let mut checks = manager::judge(subject, &facts, &manager);
    checks.extend(unit::judge(subject, &facts, &unit, &merged, &around.end().and_then(|a| a)));
    checks.extend(settings::judge(subject, &read, &merged, pid.is_some()));
    let can_start = unit::can_start(&checks);
    checks.extend(process::judge(subject, &facts, &process, &properties, installed, can_start));
    checks.extend(port::judge(subject, &facts, &port.end()));
    checks.extend(resources::judge(
        subject,
        &process,
        &properties,
        settings,
        &resources.end(),
        state::judge(subject, &folder.end(), pid.is_some()),
    ));
    checks.extend(log::judge(subject, &log.end(), settings, installed));
    checks.extend(tools::judge(subject, &tools.end(), &process, &properties, installed));
    needs::suspect(subject, &merged, &mut checks);
    checks
}

/// Looks at what is the user's and of no instance: the hooks of Claude Code.
pub fn begin_of_user() -> look::Look<Option<hooks::Seen>> {
    look::begin(HOOKS, || hooks::Place::this().map(|place| hooks::look(&place)))
}

fn look_at_process(subject: &Subject, pid: Option<u32>, answers: bool, served_by: Option<u32>) -> process::Seen {
    let all = procs::all();
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let usec = u64::try_from(now.tv_sec).unwrap_or(0) * 1_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0) / 1000;
    process::Seen {
        main: pid.map(procs::main).unwrap_or_default(),
        keeper: served_by.and_then(|pid| process::keeper(&all, pid)),
        last_words: if answers { None } else { process::last_words(subject) },
        all,
        silent: if answers { silent(subject) } else { None },
        now_usec: usec,
    }
}

/// How many parts have not answered the watchdog's last question, out of `/metrics`.
fn silent(subject: &Subject) -> Option<u64> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
    let address = *health::addresses(subject.port, &subject.paths).first()?;
    let (status, body) = runtime.block_on(probe::get(address, "/metrics", &PROGRAM, health::LOOK)).ok()?;
    let text = String::from_utf8_lossy(&body);
    let line =
        text.lines().find_map(|l| l.strip_prefix("mpm_monitor_watchdog_silent_parts ")).filter(|_| status == 200)?;
    line.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use daemon::dirs::UserDirs;
    use daemon::probe::Health;
    use service::manager::Job;
    use service::systemd::show;

    /// A user's instance on systemd, of a machine that is not this one.
    pub fn subject() -> Subject {
        let dirs = UserDirs {
            home: "/nonexistent/ann".into(),
            config_home: "/nonexistent/ann/.config".into(),
            config: "/nonexistent/ann/.config/mpm-monitor".into(),
            state: "/nonexistent/ann/.local/state/mpm-monitor".into(),
            runtime: "/nonexistent/run".into(),
        };
        let paths = Paths::user(&crate::app::APP, Kind::Systemd, &dirs);
        Subject { port: 8765, scope: Scope::User, paths, user: "ann".into(), is_root: false }
    }

    pub fn find(checks: &[Check], code: Code) -> &Check {
        checks.iter().find(|c| c.code == code).unwrap_or_else(|| panic!("no check {code:?} in {checks:#?}"))
    }

    pub fn job(pid: u32) -> Job {
        show::job(&format!(
            "LoadState=loaded\nActiveState=active\nSubState=running\nResult=success\nUnitFileState=enabled\nMainPID={pid}\n"
        ))
    }

    pub fn health(pid: u32) -> Health {
        let text = serde_json::json!({
            "service": "claude-mpm-monitor", "version": "0.1.0", "build": "a", "port": 8765, "pid": pid, "instance_id": "x",
            "ready": true, "components": {}
        });
        serde_json::from_value(text).unwrap()
    }

    #[test]
    fn the_commands_name_scope_and_port_and_ask_for_root_only_where_it_is_needed() {
        let user = subject();
        assert_eq!(user.verb("restart"), "mpm-monitor restart --user --port 8765");
        let system = Subject { scope: Scope::System, paths: Paths::system(&crate::app::APP, Kind::Systemd), ..user };
        assert_eq!(system.on(9000).verb("restart"), "sudo mpm-monitor restart --system --port 9000");
        assert_eq!(Subject { is_root: true, ..system }.edit_unit(), "systemctl edit mpm-monitor@8765");
    }

    #[test]
    fn every_code_is_judged_exactly_once() {
        let facts = || Ok(Facts { service: Some(job(7)), receipt: true, ..Facts::default() });
        let (subject, late) = (subject(), "it did not end within 3s");
        let all = |bad: bool| {
            let properties = if bad { Err(late.to_owned()) } else { Ok(properties::Properties::default()) };
            let process = if bad { Err(late.to_owned()) } else { Ok(process::Seen::default()) };
            let facts = if bad { Err(late.to_owned()) } else { facts() };
            let mut checks = manager::judge(&subject, &facts, &Err(late.into()));
            let merged = Err(late.to_owned());
            checks.extend(unit::judge(&subject, &facts, &Err(late.into()), &merged, &Err(late.into())));
            checks.extend(settings::judge(&subject, &Err(late.into()), &merged, false));
            checks.extend(process::judge(&subject, &facts, &process, &properties, true, true));
            checks.extend(port::judge(&subject, &facts, &Ok(port::Seen::default())));
            let folder = state::judge(&subject, &Ok(state::Seen::default()), false);
            let seen = Ok(resources::Seen::default());
            checks.extend(resources::judge(&subject, &process, &properties, None, &seen, folder));
            checks.extend(log::judge(&subject, &Ok(log::Seen::default()), None, true));
            checks.extend(tools::judge(&subject, &Ok(tools::Seen::default()), &process, &properties, true));
            checks.extend(hooks::judge(&Err(late.into())));
            checks
        };
        for bad in [false, true] {
            let codes: Vec<Code> = all(bad).iter().map(|c| c.code).collect();
            assert_eq!(codes, Code::ALL, "bad: {bad}");
        }
    }

    #[test]
    fn an_examination_of_a_machine_without_anything_ends_and_claims_no_error_about_what_is_not_there() {
        let began = std::time::Instant::now();
        let subject = subject().on(1);
        let checks = examine(&subject, || Facts { manager_error: Some("there is none".into()), ..Facts::default() });
        assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
        assert_eq!(find(&checks, Code::Installed).outcome, Outcome::Failed);
        assert_eq!(find(&checks, Code::Ready).outcome, Outcome::NotRun);
        assert!(find(&checks, Code::ManagerReachable).is_error());
    }
}
