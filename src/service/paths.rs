//! Where everything of one scope lies.

use std::path::{Path, PathBuf};

use super::Scope;
use super::definition::NAME;

/// The directories of one scope; every one absolute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths {
    /// Whose.
    pub scope: Scope,
    /// Where units are written.
    pub units: PathBuf,
    /// The file that tells systemd-sysusers of the service user; system scope only.
    pub sysusers: Option<PathBuf>,
    /// Where the events and crash ledgers are, one directory for each port.
    pub state: PathBuf,
    /// Where the receipts are, one file for each port.
    pub receipts: PathBuf,
    /// Where the running instances keep their lock files.
    pub runtime: PathBuf,
}

/// The environment that decides a user's directories (XDG base directory specification).
#[derive(Debug, Clone, Default)]
pub struct UserDirs {
    /// The home directory.
    pub home: PathBuf,
    /// `XDG_CONFIG_HOME`, if set and absolute.
    pub config: Option<PathBuf>,
    /// `XDG_STATE_HOME`, if set and absolute.
    pub state: Option<PathBuf>,
    /// `XDG_RUNTIME_DIR`, if set and absolute, or the existing `/run/user/UID`.
    pub runtime: Option<PathBuf>,
}

impl UserDirs {
    /// From this process's environment; `None` when even the home directory is unknown.
    pub fn from_env() -> Option<Self> {
        let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
        let home = absolute("HOME").or_else(|| directories::BaseDirs::new().map(|b| b.home_dir().to_owned()))?;
        Some(Self {
            home,
            config: absolute("XDG_CONFIG_HOME"),
            state: absolute("XDG_STATE_HOME"),
            runtime: absolute("XDG_RUNTIME_DIR").or_else(super::exec::own_runtime_dir),
        })
    }
}

impl Paths {
    /// The machine's directories.
    pub fn system() -> Self {
        let state = Path::new("/var/lib").join(NAME);
        Self {
            scope: Scope::System,
            units: service_manager::systemd_global_dir_path(),
            sysusers: Some(Path::new("/etc/sysusers.d").join(format!("{NAME}.conf"))),
            receipts: state.join("receipts"),
            state,
            runtime: Path::new("/run").join(NAME),
        }
    }

    /// A user's directories.
    pub fn user(dirs: &UserDirs) -> Self {
        let config = dirs.config.clone().unwrap_or_else(|| dirs.home.join(".config"));
        let state = dirs.state.clone().unwrap_or_else(|| dirs.home.join(".local/state")).join(NAME);
        Self {
            scope: Scope::User,
            units: config.join("systemd/user"),
            sysusers: None,
            receipts: state.join("receipts"),
            runtime: dirs.runtime.as_ref().map_or_else(|| state.join("run"), |r| r.join(NAME)),
            state,
        }
    }

    /// The directories of `scope` for this process; `None` when the user's home is unknown.
    pub fn of(scope: Scope) -> Option<Self> {
        match scope {
            Scope::System => Some(Self::system()),
            Scope::User => UserDirs::from_env().map(|d| Self::user(&d)),
        }
    }

    /// The service template.
    pub fn service(&self) -> PathBuf {
        self.units.join(format!("{NAME}@.service"))
    }

    /// The socket template.
    pub fn socket(&self) -> PathBuf {
        self.units.join(format!("{NAME}@.socket"))
    }

    /// The drop-in of one instance that install writes. Other files beside it are the user's.
    pub fn drop_in(&self, port: u16) -> PathBuf {
        self.units.join(format!("{NAME}@{port}.service.d/10-install.conf"))
    }

    /// The receipt of one instance.
    pub fn receipt(&self, port: u16) -> PathBuf {
        self.receipts.join(format!("{port}.json"))
    }

    /// The lock file of one running instance.
    pub fn lock(&self, port: u16) -> PathBuf {
        self.runtime.join(format!("{port}.lock"))
    }

    /// The events and the crash ledger of one instance.
    pub fn history(&self, port: u16) -> PathBuf {
        self.state.join(port.to_string())
    }

    /// The link that starts a unit with the machine or the session, as its `[Install]` section says.
    pub fn wants(&self, unit: &str) -> PathBuf {
        let target = match (unit.ends_with(".socket"), self.scope) {
            (true, _) => "sockets.target",
            (false, Scope::System) => "multi-user.target",
            (false, Scope::User) => "default.target",
        };
        self.units.join(format!("{target}.wants")).join(unit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn xdg_variables_win_over_the_defaults() {
        let mut dirs = UserDirs { home: "/home/a".into(), ..UserDirs::default() };
        let paths = Paths::user(&dirs);
        assert_eq!(paths.service(), Path::new("/home/a/.config/systemd/user/mpm-monitor@.service"));
        assert_eq!(paths.receipt(8765), Path::new("/home/a/.local/state/mpm-monitor/receipts/8765.json"));
        assert_eq!(paths.lock(1), Path::new("/home/a/.local/state/mpm-monitor/run/1.lock"));
        dirs.config = Some("/c".into());
        dirs.state = Some("/s".into());
        dirs.runtime = Some("/r".into());
        let paths = Paths::user(&dirs);
        assert_eq!(paths.drop_in(1), Path::new("/c/systemd/user/mpm-monitor@1.service.d/10-install.conf"));
        assert_eq!(paths.history(1), Path::new("/s/mpm-monitor/1"));
        assert_eq!(paths.lock(1), Path::new("/r/mpm-monitor/1.lock"));
    }

    #[test]
    fn the_wanting_target_is_the_one_of_the_install_section() {
        let system = Paths::system();
        let name = |p: PathBuf| p.parent().unwrap().file_name().unwrap().to_str().unwrap().to_owned();
        assert_eq!(name(system.wants("mpm-monitor@1.service")), "multi-user.target.wants");
        assert_eq!(name(system.wants("mpm-monitor@1.socket")), "sockets.target.wants");
    }
}
