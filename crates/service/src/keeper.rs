//! Under which manager a process runs, by the kernel's word: its control group. That holds whoever asks, also where that
//! manager is another user's and cannot be asked.

use std::fmt;

use super::Scope;
use super::users::name_of;

/// The manager that keeps a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Keeper {
    /// The manager that the unit belongs to.
    pub scope: Scope,
    /// The user whose it is; `None` for the machine's.
    pub uid: Option<u32>,
}

impl Keeper {
    /// The one of a process that is the service of an instance of the program `name`; `None` where it is none, or where there is no `/proc`.
    pub fn of(name: &str, pid: u32) -> Option<Self> {
        parse(name, &std::fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?)
    }

    /// Whether it is this user's own manager, or the machine's.
    pub fn is(self, scope: Scope) -> bool {
        let own = self.uid.is_none_or(|uid| uid == rustix::process::geteuid().as_raw());
        self.scope == scope && own
    }

    /// The name of the user whose it is, if that is another than the one who asks.
    pub fn other_user(self) -> Option<String> {
        let uid = self.uid.filter(|_| !self.is(Scope::User))?;
        Some(name_of(uid).unwrap_or_else(|| uid.to_string()))
    }

    /// What to add to a command line to mean that manager; nothing where only its user can.
    pub fn hint(self) -> String {
        if self.is(self.scope) { format!(" (add {})", self.scope.flag()) } else { String::new() }
    }
}

impl fmt::Display for Keeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.other_user() {
            Some(user) => write!(f, "the user manager of {user}"),
            None => write!(f, "the {} manager", self.scope),
        }
    }
}

/// Reads `/proc/PID/cgroup`.
fn parse(name: &str, text: &str) -> Option<Keeper> {
    let paths = text.lines().filter_map(|l| l.splitn(3, ':').nth(2));
    let is_ours = |part: &str| part.strip_prefix(name).is_some_and(|p| p.starts_with('@') && p.ends_with(".service"));
    let path = paths.into_iter().find(|p| p.split('/').any(is_ours))?;
    let user = path.split('/').find_map(|part| part.strip_prefix("user@")?.strip_suffix(".service"));
    match user {
        Some(uid) => Some(Keeper { scope: Scope::User, uid: Some(uid.parse().ok()?) }),
        None => Some(Keeper { scope: Scope::System, uid: None }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_control_group_names_the_manager() {
        let system = "0::/system.slice/system-mpm\\x2dmonitor.slice/mpm-monitor@8765.service\n";
        assert_eq!(parse("mpm-monitor", system), Some(Keeper { scope: Scope::System, uid: None }));
        let user = "12:pids:/\n1:name=systemd:/user.slice/user-7.slice/user@7.service/app.slice/\
app-mpm\\x2dmonitor.slice/mpm-monitor@8765.service\n0::/x\n";
        let keeper = parse("mpm-monitor", user).unwrap();
        assert_eq!(keeper, Keeper { scope: Scope::User, uid: Some(7) });
        assert!(!keeper.is(Scope::User) || rustix::process::geteuid().as_raw() == 7);
        assert_eq!(parse("mpm-monitor", "0::/user.slice/user-7.slice/session-1.scope\n"), None);
        assert_eq!(parse("mpm-monitor", ""), None);
    }

    #[test]
    fn another_users_manager_is_named_by_the_user() {
        let other = Keeper { scope: Scope::User, uid: Some(4_000_000) };
        assert_eq!((other.to_string().as_str(), other.hint().as_str()), ("the user manager of 4000000", ""));
        let system = Keeper { scope: Scope::System, uid: None };
        assert_eq!((system.to_string().as_str(), system.hint().as_str()), ("the system manager", " (add --system)"));
        let own = Keeper { scope: Scope::User, uid: Some(rustix::process::geteuid().as_raw()) };
        assert_eq!((own.to_string().as_str(), own.hint().as_str()), ("the user manager", " (add --user)"));
    }

    proptest! {
        #[test]
        fn no_text_panics(text in any::<String>()) {
            let _ = parse("mpm-monitor", &text);
        }
    }
}
