//! Where everything of one scope lies, and what it is called.

use std::path::{Path, PathBuf};

use super::app::App;
use super::receipt::Receipt;
use super::{Kind, Scope};
use daemon::dirs::UserDirs;
use daemon::lock;

/// The directories of one scope; every one absolute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths {
    /// Whose program's.
    pub app: &'static App,
    /// Which manager's.
    pub kind: Kind,
    /// Whose.
    pub scope: Scope,
    /// Where units or plists are written.
    pub units: PathBuf,
    /// Where a package puts its units, which those in `units` go before; systemd only.
    pub packaged: Option<PathBuf>,
    /// The file that tells systemd-sysusers of the service user; systemd's system scope only.
    pub sysusers: Option<PathBuf>,
    /// Where the events and crash ledgers are, one directory for each port.
    pub state: PathBuf,
    /// Where the receipts are, one file for each port.
    pub receipts: PathBuf,
    /// Where the running instances keep their lock files; of the machine's, each has a directory of its own in it.
    pub runtime: PathBuf,
    /// Where the log files are; systemd has the journal.
    pub logs: Option<PathBuf>,
    /// The label of the launchd job, where it is another than the port's usual one.
    pub label: Option<String>,
}

impl Paths {
    /// The machine's directories.
    pub fn system(app: &'static App, kind: Kind) -> Self {
        let state = match kind {
            Kind::Systemd => Path::new("/var/lib").join(app.program.name),
            Kind::Launchd => Path::new("/Library/Application Support").join(app.program.name),
        };
        Self {
            app,
            kind,
            scope: Scope::System,
            units: match kind {
                Kind::Systemd => service_manager::systemd_global_dir_path(),
                Kind::Launchd => "/Library/LaunchDaemons".into(),
            },
            packaged: (kind == Kind::Systemd).then(|| "/usr/lib/systemd/system".into()),
            sysusers: (kind == Kind::Systemd)
                .then(|| Path::new("/etc/sysusers.d").join(format!("{}.conf", app.program.name))),
            receipts: state.join("receipts"),
            runtime: match kind {
                Kind::Systemd => Path::new("/run").join(app.program.name),
                // /var/run is root's and emptied at boot, and launchd makes no directory there for a daemon.
                Kind::Launchd => state.clone(),
            },
            state,
            logs: (kind == Kind::Launchd).then(|| Path::new("/Library/Logs").join(app.program.name)),
            label: None,
        }
    }

    /// A user's directories.
    pub fn user(app: &'static App, kind: Kind, dirs: &UserDirs) -> Self {
        Self {
            app,
            kind,
            scope: Scope::User,
            units: match kind {
                Kind::Systemd => dirs.config_home.join("systemd/user"),
                Kind::Launchd => dirs.home.join("Library/LaunchAgents"),
            },
            packaged: (kind == Kind::Systemd).then(|| "/usr/lib/systemd/user".into()),
            sysusers: None,
            receipts: dirs.state.join("receipts"),
            runtime: dirs.runtime.clone(),
            state: dirs.state.clone(),
            logs: (kind == Kind::Launchd).then(|| dirs.home.join("Library/Logs").join(app.program.name)),
            label: None,
        }
    }

    /// The directories of `scope` for this process and this machine's manager; `None` when the user's home is unknown.
    pub fn of(app: &'static App, scope: Scope) -> Option<Self> {
        let kind = Kind::of_this_machine();
        match scope {
            Scope::System => Some(Self::system(app, kind).below(super::test_root())),
            Scope::User => UserDirs::find(app.program.name).map(|d| Self::user(app, kind, &d)),
        }
    }

    /// The machine's directories in another one, for tests.
    fn below(mut self, root: Option<PathBuf>) -> Self {
        let Some(root) = root else { return self };
        let all = [&mut self.units, &mut self.state, &mut self.receipts, &mut self.runtime].into_iter();
        for path in all.chain(self.logs.as_mut()) {
            *path = root.join(path.strip_prefix("/").unwrap_or(path));
        }
        self
    }

    /// The same, with the label that the receipt of an instance names, or the one that is `given`.
    #[must_use]
    pub fn labelled(mut self, port: u16, given: Option<String>) -> Self {
        self.label = match self.kind {
            Kind::Systemd => None,
            Kind::Launchd => given.or_else(|| Receipt::read(&self.receipt(port)).ok().flatten().and_then(|r| r.label)),
        };
        self
    }

    /// What the manager calls an instance's service.
    pub fn service_name(&self, port: u16) -> String {
        match (self.kind, &self.label) {
            (Kind::Systemd, _) => format!("{}@{port}.service", self.app.program.name),
            (Kind::Launchd, Some(label)) => label.clone(),
            (Kind::Launchd, None) => format!("{}.{port}", self.app.program.name),
        }
    }

    /// What it calls its socket, where that is a job of its own.
    pub fn socket_name(&self, port: u16) -> Option<String> {
        (self.kind == Kind::Systemd).then(|| format!("{}@{port}.socket", self.app.program.name))
    }

    /// The jobs of an instance, in the order they start.
    pub fn jobs(&self, port: u16, socket: bool) -> Vec<String> {
        let socket = self.socket_name(port).filter(|_| socket);
        socket.into_iter().chain([self.service_name(port)]).collect()
    }

    /// The definition of the service: systemd's unit of this instance alone, launchd's plist.
    pub fn service(&self, port: u16) -> PathBuf {
        match self.kind {
            Kind::Systemd => self.units.join(self.service_name(port)),
            Kind::Launchd => self.units.join(format!("{}.plist", self.service_name(port))),
        }
    }

    /// The service template of a package, where a package would put it.
    pub fn packaged_service(&self) -> Option<PathBuf> {
        Some(self.packaged.as_ref()?.join(format!("{}@.service", self.app.program.name)))
    }

    /// The definition of the socket, where it is a job of its own.
    pub fn socket(&self, port: u16) -> Option<PathBuf> {
        self.socket_name(port).map(|name| self.units.join(name))
    }

    /// The templates that earlier versions wrote for all instances of the scope. A unit of an instance goes before them.
    pub fn old_templates(&self) -> Vec<PathBuf> {
        match self.kind {
            Kind::Systemd => {
                ["service", "socket"].map(|kind| self.units.join(format!("{}@.{kind}", self.app.program.name))).into()
            }
            Kind::Launchd => Vec::new(),
        }
    }

    /// The drop-in of one instance that install writes, where the manager has drop-ins. Other files beside it are the user's.
    pub fn drop_in(&self, port: u16) -> Option<PathBuf> {
        (self.kind == Kind::Systemd)
            .then(|| self.units.join(format!("{}@{port}.service.d/10-install.conf", self.app.program.name)))
    }

    /// The receipt of one instance.
    pub fn receipt(&self, port: u16) -> PathBuf {
        self.receipts.join(format!("{port}.json"))
    }

    /// Where one running instance keeps its lock file. The machine's have a directory each, which their manager makes.
    pub fn runtime_of(&self, port: u16) -> PathBuf {
        match (self.kind, self.scope) {
            (Kind::Launchd, Scope::System) => self.history(port).join("run"),
            (Kind::Systemd, Scope::System) => self.runtime.join(port.to_string()),
            (_, Scope::User) => self.runtime.clone(),
        }
    }

    /// The lock file of one running instance.
    pub fn lock(&self, port: u16) -> PathBuf {
        lock::path_of(&self.runtime_of(port), port)
    }

    /// Where the lock file can be: of a process that an older unit started, it is beside those of all others.
    pub fn locks(&self, port: u16) -> Vec<PathBuf> {
        let mut all = vec![self.lock(port), lock::path_of(&self.runtime, port)];
        all.dedup();
        all
    }

    /// The directories in which lock files of this scope can be.
    pub fn lock_dirs(&self) -> Vec<PathBuf> {
        let each = std::fs::read_dir(&self.runtime).into_iter().flatten().flatten();
        // A link is none.
        let each = each.filter(|e| self.scope == Scope::System && e.file_type().is_ok_and(|kind| kind.is_dir()));
        std::iter::once(self.runtime.clone()).chain(each.map(|e| e.path())).collect()
    }

    /// The events and the crash ledger of one instance.
    pub fn history(&self, port: u16) -> PathBuf {
        self.state.join(port.to_string())
    }

    /// The log that an instance writes itself; older ones have `.1` and so on appended.
    pub fn log(&self, port: u16) -> Option<PathBuf> {
        Some(self.logs.as_ref()?.join(format!("{port}.log")))
    }

    /// What an instance said before its log was open, and its panics: where launchd redirects standard error.
    pub fn stderr(&self, port: u16) -> Option<PathBuf> {
        Some(self.logs.as_ref()?.join(format!("{port}.stderr.log")))
    }

    /// The link that starts a unit with the machine or the session, as its `[Install]` section says; launchd needs none.
    pub fn wants(&self, unit: &str) -> Option<PathBuf> {
        let target = match (unit.ends_with(".socket"), self.scope) {
            _ if self.kind == Kind::Launchd => return None,
            (true, _) => "sockets.target",
            (false, Scope::System) => "multi-user.target",
            (false, Scope::User) => "default.target",
        };
        Some(self.units.join(format!("{target}.wants")).join(unit))
    }

    /// Whether an instance was installed in this scope, as far as its files tell.
    pub fn is_installed(&self, port: u16) -> bool {
        match self.wants(&self.service_name(port)) {
            Some(link) => link.is_symlink(),
            None => self.service(port).exists(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dirs() -> UserDirs {
        UserDirs {
            home: "/home/a".into(),
            config_home: "/home/a/.config".into(),
            config: "/home/a/.config/mpm-monitor".into(),
            state: "/home/a/.local/state/mpm-monitor".into(),
            runtime: "/run/user/7/mpm-monitor".into(),
        }
    }

    #[test]
    fn a_users_files() {
        let paths = Paths::user(App::TEST, Kind::Systemd, &dirs());
        assert_eq!(paths.service(1), Path::new("/home/a/.config/systemd/user/mpm-monitor@1.service"));
        assert_eq!(
            paths.drop_in(1).unwrap(),
            Path::new("/home/a/.config/systemd/user/mpm-monitor@1.service.d/10-install.conf")
        );
        assert_eq!(paths.receipt(8765), Path::new("/home/a/.local/state/mpm-monitor/receipts/8765.json"));
        assert_eq!(paths.history(1), Path::new("/home/a/.local/state/mpm-monitor/1"));
        assert_eq!(paths.lock(1), Path::new("/run/user/7/mpm-monitor/1.lock"));
        assert_eq!(paths.locks(1), [paths.lock(1)]);
        assert_eq!(paths.log(1), None);
    }

    #[test]
    fn the_machines_files() {
        let paths = Paths::system(App::TEST, Kind::Systemd);
        assert!(paths.service(1).starts_with("/etc/systemd/system") || paths.service(1).starts_with("/usr"));
        assert_eq!(paths.lock(8765), Path::new("/run/mpm-monitor/8765/8765.lock"));
        assert_eq!(paths.locks(8765)[1], Path::new("/run/mpm-monitor/8765.lock"), "of an older unit");
        assert_eq!(paths.old_templates()[0].file_name().unwrap(), "mpm-monitor@.service");
        let link = |unit: &str| paths.wants(unit).unwrap();
        assert!(link("mpm-monitor@1.service").ends_with("multi-user.target.wants/mpm-monitor@1.service"));
        assert!(link("mpm-monitor@1.socket").ends_with("sockets.target.wants/mpm-monitor@1.socket"));
    }

    #[test]
    fn a_mac_has_one_plist_for_each_port_and_no_links() {
        let paths = Paths::user(App::TEST, Kind::Launchd, &dirs());
        assert_eq!(paths.service(8765), Path::new("/home/a/Library/LaunchAgents/mpm-monitor.8765.plist"));
        assert_eq!(paths.stderr(8765).unwrap(), Path::new("/home/a/Library/Logs/mpm-monitor/8765.stderr.log"));
        assert_eq!((paths.socket(1), paths.drop_in(1), paths.wants("x.service")), (None, None, None));
        assert_eq!(paths.jobs(1, true), ["mpm-monitor.1"], "the socket is a part of the job");
        let named = paths.labelled(1, Some("org.example.monitor".into()));
        assert_eq!(named.service(1), Path::new("/home/a/Library/LaunchAgents/org.example.monitor.plist"));
        assert_eq!(
            Paths::system(App::TEST, Kind::Launchd).service(1),
            Path::new("/Library/LaunchDaemons/mpm-monitor.1.plist")
        );
    }
}
