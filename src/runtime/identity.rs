//! Who this process is: what makes it this one and not another that happens to have the same number.

use std::time::{Instant, SystemTime};

/// The identity of one process, made once at its start.
#[derive(Debug, Clone)]
pub struct Identity {
    /// 128 random bits in hexadecimal; new in every process.
    pub instance_id: String,
    /// Its process number.
    pub pid: u32,
    /// When it began, by the wall clock.
    pub started: SystemTime,
    /// When it began, by the clock that uptime is measured with.
    pub since: Instant,
    /// When the kernel says it began: clock ticks after boot on Linux, seconds since 1970 elsewhere. With the boot id it
    /// tells a process from a later one with the same number.
    pub start_time: u64,
    /// The kernel's name for this boot, where it has one.
    pub boot_id: String,
    /// Who runs it.
    pub managed_by: Manager,
}

/// Who runs this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Manager {
    /// The machine's systemd.
    SystemdSystem,
    /// A user's systemd.
    SystemdUser,
    /// launchd.
    Launchd,
    /// Nobody: it was started by hand.
    None,
}

impl Identity {
    /// Of this process.
    ///
    /// # Errors
    /// When the system has no randomness to give.
    pub fn new() -> std::io::Result<Self> {
        let mut random = [0_u8; 16];
        getrandom::fill(&mut random).map_err(|e| std::io::Error::other(e.to_string()))?;
        let pid = std::process::id();
        let started = SystemTime::now();
        let fallback = started.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs());
        Ok(Self {
            instance_id: random.iter().map(|b| format!("{b:02x}")).collect(),
            pid,
            started,
            since: Instant::now(),
            start_time: start_time(pid).unwrap_or(fallback),
            boot_id: std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
                .map(|id| id.trim().to_owned())
                .unwrap_or_default(),
            managed_by: Manager::of_this_process(),
        })
    }
}

impl Manager {
    /// Who runs this process.
    pub fn of_this_process() -> Self {
        manager(|name| std::env::var(name).ok())
    }
}

/// When the kernel says that process began; nothing where there is no `/proc` or no such process.
pub fn start_time(pid: u32) -> Option<u64> {
    parse_start_time(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// Field 22 of `/proc/PID/stat` (`proc(5)`), counted after the name, which may hold spaces and parentheses.
fn parse_start_time(stat: &str) -> Option<u64> {
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(19)?.parse().ok()
}

/// systemd gives the process it starts `SYSTEMD_EXEC_PID` (since 248), and a user's manager adds `MANAGERPID`; launchd names
/// the job in `XPC_SERVICE_NAME`, which is `0` for everything that is no job. An application is a job as well, and the
/// shells that a terminal application opens inherit its name.
fn manager(variable: impl Fn(&str) -> Option<String>) -> Manager {
    let ours = |name: &str| variable(name).is_some_and(|pid| pid == std::process::id().to_string());
    if ours("SYSTEMD_EXEC_PID") || variable("NOTIFY_SOCKET").is_some() && variable("INVOCATION_ID").is_some() {
        if variable("MANAGERPID").is_some() { Manager::SystemdUser } else { Manager::SystemdSystem }
    } else if variable("XPC_SERVICE_NAME").is_some_and(|n| n != "0" && !n.starts_with("application.")) {
        Manager::Launchd
    } else {
        Manager::None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let stat = "42 (a) b) (c) S 1 42 42 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 98765 1000 2 18446744073709551615";
        assert_eq!(parse_start_time(stat), Some(98765));
        assert_eq!(parse_start_time("42 (a"), None);
    }

    #[test]
    fn the_manager_is_who_started_this_very_process() {
        let pid = std::process::id().to_string();
        let with = |pairs: &[(&str, &str)]| {
            manager(|name| pairs.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned()))
        };
        assert_eq!(with(&[("SYSTEMD_EXEC_PID", &pid)]), Manager::SystemdSystem);
        assert_eq!(with(&[("SYSTEMD_EXEC_PID", &pid), ("MANAGERPID", "7")]), Manager::SystemdUser);
        // A shell in a terminal that a user service opened inherits these, but was not started as the service.
        assert_eq!(with(&[("SYSTEMD_EXEC_PID", "1"), ("INVOCATION_ID", "x"), ("MANAGERPID", "7")]), Manager::None);
        assert_eq!(with(&[]), Manager::None);
        assert_eq!(with(&[("XPC_SERVICE_NAME", "mpm-monitor.8765")]), Manager::Launchd);
        for shell in ["0", "application.com.example.terminal.123"] {
            assert_eq!(with(&[("XPC_SERVICE_NAME", shell)]), Manager::None);
        }
    }
}
