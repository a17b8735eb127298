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
            boot_id: boot_id(),
            managed_by: Manager::of_this_process(),
        })
    }
}

impl Manager {
    /// Who runs this process.
    pub fn of_this_process() -> Self {
        manager(|name| std::env::var(name).ok(), is_child_of_launchd())
    }
}

/// The environment variable by which debug builds are told which process stands in for launchd, whose number is 1.
pub const TEST_LAUNCHD: &str = "MPM_MONITOR_TEST_LAUNCHD";

fn is_child_of_launchd() -> bool {
    let parent = rustix::process::getppid().map(rustix::process::Pid::as_raw_nonzero);
    let stands_in = || std::env::var(TEST_LAUNCHD).ok()?.parse().ok();
    let launchd = if cfg!(debug_assertions) { stands_in() } else { None };
    parent.map(std::num::NonZero::get) == Some(launchd.unwrap_or(1))
}

/// The kernel's name for this boot; empty where it has none.
pub fn boot_id() -> String {
    #[cfg(target_os = "macos")]
    let id = crate::sys::sysctl(c"kern.bootsessionuuid")
        .map(|bytes| String::from_utf8_lossy(&bytes).trim_end_matches('\0').to_owned());
    #[cfg(not(target_os = "macos"))]
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
    id.map(|id| id.trim().to_owned()).unwrap_or_default()
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
/// the job in `XPC_SERVICE_NAME`, which is `0` for everything that is no job. An application is a job as well, and what a job
/// starts inherits its name, but not its parent.
fn manager(variable: impl Fn(&str) -> Option<String>, is_child_of_launchd: bool) -> Manager {
    let ours = |name: &str| variable(name).is_some_and(|pid| pid == std::process::id().to_string());
    if ours("SYSTEMD_EXEC_PID") || variable("NOTIFY_SOCKET").is_some() && variable("INVOCATION_ID").is_some() {
        if variable("MANAGERPID").is_some() { Manager::SystemdUser } else { Manager::SystemdSystem }
    } else if is_child_of_launchd
        && variable("XPC_SERVICE_NAME").is_some_and(|n| n != "0" && !n.starts_with("application."))
    {
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
    fn a_boot_has_a_name() {
        assert!(boot_id().len() >= 32 && boot_id() == boot_id(), "{:?}", boot_id());
    }

    #[test]
    fn the_manager_is_who_started_this_very_process() {
        let pid = std::process::id().to_string();
        let under = |pairs: &[(&str, &str)], launchd| {
            manager(|name| pairs.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned()), launchd)
        };
        let with = |pairs: &[(&str, &str)]| under(pairs, true);
        assert_eq!(with(&[("SYSTEMD_EXEC_PID", &pid)]), Manager::SystemdSystem);
        assert_eq!(with(&[("SYSTEMD_EXEC_PID", &pid), ("MANAGERPID", "7")]), Manager::SystemdUser);
        // A shell in a terminal that a user service opened inherits these, but was not started as the service.
        assert_eq!(with(&[("SYSTEMD_EXEC_PID", "1"), ("INVOCATION_ID", "x"), ("MANAGERPID", "7")]), Manager::None);
        assert_eq!(with(&[]), Manager::None);
        assert_eq!(with(&[("XPC_SERVICE_NAME", "mpm-monitor.8765")]), Manager::Launchd);
        for shell in ["0", "application.com.example.terminal.123"] {
            assert_eq!(with(&[("XPC_SERVICE_NAME", shell)]), Manager::None);
        }
        // What another job of launchd's has started inherits the name of that job.
        assert_eq!(under(&[("XPC_SERVICE_NAME", "org.example.editor")], false), Manager::None);
    }
}
