//! systemd, system and user manager.
//!
//! Implements the `service-manager` crate's trait, so that whatever knows that trait can drive it, and [`Manager`], which
//! the verbs use. From the crate come the trait and its types, the unit directories and the look whether systemctl
//! is there. Its own systemd back-end leaves these gaps, which are closed here (seen in version 0.11):
//!
//! - it writes a unit in place; a crash leaves half a file (here: [`files::write`]),
//! - it quotes nothing in `ExecStart=` and `Environment=` (here: [`escape`], [`render`], given as `contents`),
//! - no daemon-reload after writing or removing, no stop and no reset-failed at uninstall,
//! - no restart, no reload, no socket units, no readiness,
//! - no deadline on systemctl, and in a session without `XDG_RUNTIME_DIR` no user bus (here: [`exec`]).

pub mod escape;
pub mod render;
pub mod show;

use std::io;
use std::path::Path;
use std::time::Duration;

use service_manager::{
    ServiceInstallCtx, ServiceLabel, ServiceLevel, ServiceManager, ServiceStartCtx, ServiceStatus, ServiceStatusCtx,
    ServiceStopCtx, ServiceUninstallCtx, SystemdServiceManager,
};

use super::exec::{self, ExecError, QUICK};
use super::manager::{Job, Manager, ManagerError, Phase};
use super::paths::Paths;
use super::users::user_name;
use super::{Kind, Scope, files};

/// How long a stop may take: the unit's TimeoutStopSec= and the SIGKILL after it.
const STOP: Duration = Duration::from_secs(25);

/// One systemd manager.
#[derive(Debug, Clone)]
pub struct Systemd {
    scope: Scope,
    /// Where its units are, and what they are called.
    paths: Paths,
    /// The crate's own back-end, for what it does well.
    base: SystemdServiceManager,
}

/// What this machine is, where it matters for whether systemd can be used.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// systemd is the machine's init (`/run/systemd/system` exists, sd_booted(3)).
    pub booted: bool,
    /// Inside a container.
    pub container: bool,
    /// Inside the Windows Subsystem for Linux.
    pub wsl: bool,
    /// The name of process 1.
    pub init: String,
    /// Who asks.
    pub user: String,
}

impl Systemd {
    /// The manager of the scope whose directories these are.
    pub fn new(paths: Paths) -> Self {
        let base = match paths.scope {
            Scope::User => SystemdServiceManager::user(),
            Scope::System => SystemdServiceManager::system(),
        };
        Self { scope: paths.scope, paths, base }
    }

    fn call(&self, verb: &[&str], names: &[String], timeout: Duration) -> Result<(), ManagerError> {
        let mut arguments = verb.to_vec();
        arguments.extend(names.iter().map(String::as_str));
        exec::systemctl(self.scope, &arguments, timeout)?.success().map_err(polite)?;
        Ok(())
    }

    fn unit_path(&self, label: &ServiceLabel) -> io::Result<std::path::PathBuf> {
        let dir = match self.scope {
            Scope::System => service_manager::systemd_global_dir_path(),
            Scope::User => service_manager::systemd_user_dir_path()?,
        };
        Ok(dir.join(format!("{}.service", label.to_script_name())))
    }
}

/// A failed start says the same in three lines, and sends people to commands that our own verbs replace.
fn polite(error: ExecError) -> ExecError {
    match error {
        ExecError::Failed { command, code, stderr } => {
            let kept: Vec<_> = stderr.lines().filter(|l| !l.starts_with("See \"systemctl")).collect();
            ExecError::Failed { command, code, stderr: kept.join(" ") }
        }
        other => other,
    }
}

impl Surroundings {
    /// Looks around.
    pub fn look() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        Self {
            booted: Path::new("/run/systemd/system").is_dir(),
            container: Path::new("/.dockerenv").exists()
                || Path::new("/run/.containerenv").exists()
                || std::env::var_os("container").is_some(),
            wsl: read("/proc/sys/kernel/osrelease").to_lowercase().contains("microsoft"),
            init: read("/proc/1/comm").trim().to_owned(),
            user: user_name(),
        }
    }

    /// Why there is no usable manager, in one sentence, and what to type next.
    pub fn explain(&self, scope: Scope, said: &str) -> String {
        let run = "`mpm-monitor run` serves in the foreground";
        if !self.booted {
            return if self.wsl {
                format!(
                    "systemd is off in this WSL: set `systemd=true` under [boot] in /etc/wsl.conf and `wsl --shutdown`; until then {run}"
                )
            } else if self.container {
                format!("this container runs no systemd; {run}, and the container's own restart policy restarts it")
            } else {
                format!("this machine's init is {:?}, not systemd; {run}, under that init's supervision", self.init)
            };
        }
        match scope {
            Scope::System => format!("the system manager does not answer ({said}); try again, or {run}"),
            Scope::User => format!(
                "there is no user manager for {user} ({said}): log in as {user} (not through su or sudo), or have root type \
                 `loginctl enable-linger {user}`, then repeat; or {run}",
                user = self.user
            ),
        }
    }
}

impl Manager for Systemd {
    fn kind(&self) -> Kind {
        Kind::Systemd
    }

    fn scope(&self) -> Scope {
        self.scope
    }

    fn has_notify_reload(&self) -> bool {
        exec::tool("systemctl", &["--version"], QUICK)
            .ok()
            .and_then(|o| show::version(&o.stdout))
            .is_some_and(|v| v >= 253)
    }

    fn ports(&self) -> Result<Vec<u16>, ManagerError> {
        let name = self.paths.app.program.name;
        let (services, sockets) = (format!("{name}@*.service"), format!("{name}@*.socket"));
        let arguments = ["list-units", "--all", "--plain", "--no-legend", "--full", &services, &sockets];
        Ok(show::ports(name, &exec::systemctl(self.scope, &arguments, QUICK)?.success()?))
    }

    fn usable(&self) -> Result<(), ManagerError> {
        let said = match exec::systemctl(self.scope, &["show", "-p", "Version", "--value"], QUICK) {
            Ok(output) if output.code == Some(0) => return Ok(()),
            Ok(output) => output.stderr,
            Err(error) => error.to_string(),
        };
        Err(ManagerError::Unusable(Surroundings::look().explain(self.scope, &said)))
    }

    fn service_name(&self, port: u16) -> String {
        self.paths.service_name(port)
    }

    fn socket_name(&self, port: u16) -> Option<String> {
        self.paths.socket_name(port)
    }

    fn job(&self, name: &str) -> Result<Job, ManagerError> {
        let text = exec::systemctl(self.scope, &["show", "-p", show::PROPERTIES, "--", name], QUICK)?.success()?;
        Ok(show::job(&text))
    }

    fn reread(&self) -> Result<(), ManagerError> {
        self.call(&["daemon-reload"], &[], Duration::from_secs(60))
    }

    fn set_enabled(&self, names: &[String], enabled: bool) -> Result<(), ManagerError> {
        self.call(&[if enabled { "enable" } else { "disable" }, "--quiet"], names, QUICK)
    }

    fn bring_up(&self, names: &[String], timeout: Duration) -> Result<(), ManagerError> {
        self.call(&["start"], names, timeout)
    }

    fn bring_down(&self, names: &[String], timeout: Duration) -> Result<(), ManagerError> {
        self.call(&["stop"], names, timeout)
    }

    /// What changed is known by then: a daemon-reload comes before.
    fn restart(&self, name: &str, _changed: bool, timeout: Duration) -> Result<(), ManagerError> {
        self.call(&["restart"], &[name.to_owned()], timeout)
    }

    fn reload(&self, name: &str, timeout: Duration) -> Result<(), ManagerError> {
        self.call(&["reload"], &[name.to_owned()], timeout)
    }

    fn forget_failure(&self, names: &[String]) -> Result<(), ManagerError> {
        self.call(&["reset-failed"], names, QUICK)
    }
}

impl ServiceManager for Systemd {
    fn available(&self) -> io::Result<bool> {
        Ok(self.base.available()? && self.usable().is_ok())
    }

    /// Writes the unit whose full text is `ctx.contents`; the crate's own rendering escapes nothing, so that without
    /// contents this is an error.
    fn install(&self, ctx: ServiceInstallCtx) -> io::Result<()> {
        let contents = ctx.contents.ok_or_else(|| io::Error::other("install needs the unit's full contents"))?;
        let path = self.unit_path(&ctx.label)?;
        if let Some(dir) = path.parent() {
            std::fs::create_dir_all(dir)?;
        }
        files::write(&path, &contents, 0o644)?;
        self.reread()?;
        if ctx.autostart {
            self.set_enabled(&[format!("{}.service", ctx.label.to_script_name())], true)?;
        }
        Ok(())
    }

    fn uninstall(&self, ctx: ServiceUninstallCtx) -> io::Result<()> {
        let name = format!("{}.service", ctx.label.to_script_name());
        self.bring_down(std::slice::from_ref(&name), STOP)?;
        self.set_enabled(std::slice::from_ref(&name), false)?;
        std::fs::remove_file(self.unit_path(&ctx.label)?)?;
        self.reread()?;
        Ok(())
    }

    fn start(&self, ctx: ServiceStartCtx) -> io::Result<()> {
        Ok(self.bring_up(&[format!("{}.service", ctx.label.to_script_name())], STOP)?)
    }

    fn stop(&self, ctx: ServiceStopCtx) -> io::Result<()> {
        Ok(self.bring_down(&[format!("{}.service", ctx.label.to_script_name())], STOP)?)
    }

    fn level(&self) -> ServiceLevel {
        self.base.level()
    }

    fn set_level(&mut self, level: ServiceLevel) -> io::Result<()> {
        self.scope = match level {
            ServiceLevel::System => Scope::System,
            ServiceLevel::User => Scope::User,
        };
        self.base.set_level(level)
    }

    fn status(&self, ctx: ServiceStatusCtx) -> io::Result<ServiceStatus> {
        let job = self.job(&format!("{}.service", ctx.label.to_script_name()))?;
        Ok(match job.phase {
            _ if !job.loaded => ServiceStatus::NotInstalled,
            Phase::Running => ServiceStatus::Running,
            _ => ServiceStatus::Stopped(Some(format!("{}, {}", job.state, job.result))),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::App;

    #[test]
    fn each_surrounding_gets_one_sentence_and_a_next_command() {
        let base = Surroundings { user: "ann".into(), init: "openrc".into(), ..Surroundings::default() };
        let wsl = Surroundings { wsl: true, ..base.clone() }.explain(Scope::User, "");
        assert!(wsl.contains("/etc/wsl.conf"), "{wsl}");
        let container = Surroundings { container: true, ..base.clone() }.explain(Scope::System, "");
        assert!(container.contains("container"), "{container}");
        assert!(base.explain(Scope::System, "").contains("\"openrc\""));
        let bus = Surroundings { booted: true, ..base }.explain(Scope::User, "Failed to connect to bus");
        assert!(bus.contains("loginctl enable-linger ann") && bus.contains("Failed to connect to bus"), "{bus}");
        for text in [wsl, container, bus] {
            assert!(text.contains("`mpm-monitor run`") && !text.contains('\n'), "{text}");
        }
    }

    #[test]
    fn the_level_follows_the_scope() {
        let mut manager = Systemd::new(Paths::user(App::TEST, Kind::Systemd, &daemon::dirs::UserDirs::default()));
        assert_eq!(manager.level(), ServiceLevel::User);
        manager.set_level(ServiceLevel::System).unwrap();
        assert_eq!(manager.scope(), Scope::System);
        assert_eq!(manager.service_name(8765), "mpm-monitor@8765.service");
    }
}
