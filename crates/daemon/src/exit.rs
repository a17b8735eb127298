//! Every exit code, in one table. `docs/exit-codes.md`, the man page and the units' `RestartPreventExitStatus=`
//! are checked against it by a test.

use std::process::ExitCode;

/// What the process tells its caller when it ends.
///
/// `0`, `3` and `4` of `status` are those of the Linux Standard Base; `69` to `78` are those of `sysexits.h`, which
/// systemd and launchd print by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// It did what was asked; for `status`: running and ready.
    Ok = 0,
    /// It failed for a reason that has no code of its own; the message says which.
    Failure = 1,
    /// The command line is wrong.
    Usage = 2,
    /// `status`: not running.
    NotRunning = 3,
    /// `status`: cannot tell (the manager or the process did not answer).
    Unknown = 4,
    /// `status`: running but not ready. `start`, `restart`, `install`, `reload`: readiness was not proved in time.
    NotReady = 5,
    /// There is no such installed instance.
    NotInstalled = 6,
    /// There is no usable service manager here (container, missing user bus, another init).
    NoManager = 7,
    /// Refused in order to harm nothing: a unit edited by hand, a transient program path, a copy that Homebrew manages.
    Refused = 8,
    /// `run`: the port belongs to another program. Permanent: a restart cannot help.
    PortTaken = 69,
    /// `run`: it panicked or its watchdog gave up. A restart helps.
    Software = 70,
    /// `run`: a file or directory it needs cannot be made or opened.
    CantCreate = 73,
    /// `run`: another mpm-monitor already serves this port. Permanent: a restart cannot help.
    AlreadyRunning = 75,
    /// It lacks the permission, for example for a port below 1024 or for `--system`. Permanent.
    NoPermission = 77,
    /// `run`: the configuration is wrong. Permanent.
    Config = 78,
}

impl Exit {
    /// All codes, in numeric order.
    pub const ALL: [Self; 15] = [
        Self::Ok,
        Self::Failure,
        Self::Usage,
        Self::NotRunning,
        Self::Unknown,
        Self::NotReady,
        Self::NotInstalled,
        Self::NoManager,
        Self::Refused,
        Self::PortTaken,
        Self::Software,
        Self::CantCreate,
        Self::AlreadyRunning,
        Self::NoPermission,
        Self::Config,
    ];

    /// The number the caller sees.
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// Whether a restart cannot help: these stand in the units' `RestartPreventExitStatus=`.
    pub const fn is_permanent(self) -> bool {
        matches!(self, Self::Usage | Self::PortTaken | Self::AlreadyRunning | Self::NoPermission | Self::Config)
    }

    /// The code with this number, if it is one of ours.
    pub fn from_code(code: i32) -> Option<Self> {
        Self::ALL.into_iter().find(|e| i32::from(e.code()) == code)
    }

    /// What the code means and what it wants from the reader, in one line.
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Ok => "done; for status: running and ready",
            Self::Failure => "failed; the message says what to do",
            Self::Usage => "the command line is wrong; see --help",
            Self::NotRunning => "status: not running; `mpm-monitor start`",
            Self::Unknown => "status: cannot tell, the manager or the process did not answer",
            Self::NotReady => "running but not ready, or readiness was not proved in time; `mpm-monitor logs`",
            Self::NotInstalled => "no such installed instance; `mpm-monitor install`",
            Self::NoManager => "no usable service manager here; `mpm-monitor run` serves in the foreground",
            Self::Refused => "refused in order to harm nothing; the message says what to change",
            Self::PortTaken => "the port belongs to another program; free it or choose another with --port",
            Self::Software => "internal failure (panic or watchdog); the manager restarts it, see the logs",
            Self::CantCreate => "a file or directory cannot be made or opened; check owner, mode and disk space",
            Self::AlreadyRunning => "another mpm-monitor serves this port already; nothing to do",
            Self::NoPermission => "the permission is missing; use --user, another port, or root",
            Self::Config => "the configuration is wrong; `mpm-monitor config check` lists every error",
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// An error that knows its exit code; `main` looks for it in the error's chain.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Failed {
    /// The code to exit with.
    pub exit: Exit,
    /// What happened, to what, and what to do next.
    pub message: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_found_again() {
        for exit in Exit::ALL {
            assert_eq!(Exit::from_code(i32::from(exit.code())), Some(exit));
        }
        let mut codes: Vec<_> = Exit::ALL.iter().map(|e| e.code()).collect();
        codes.dedup();
        assert_eq!(codes.len(), Exit::ALL.len());
        assert_eq!(Exit::from_code(255), None);
    }
}
