//! Reads `systemctl show` and `systemctl list-units`. Whatever they print, an answer comes out: unknown words become
//! the nearest thing that promises nothing.

use std::collections::HashMap;

use crate::manager::{Job, LastExit, Phase};

/// The properties that [`job`] reads.
pub const PROPERTIES: &str = "LoadState,ActiveState,SubState,Result,UnitFileState,MainPID,NRestarts,ExecMainCode,\
ExecMainStatus,ExecMainStartTimestampMonotonic,StatusText,NeedDaemonReload,WatchdogUSec,WatchdogTimestampMonotonic,\
ActiveEnterTimestampMonotonic";

/// One job from the output of `systemctl show -p PROPERTIES UNIT`.
pub fn job(text: &str) -> Job {
    let values: HashMap<&str, &str> = text.lines().filter_map(|l| l.split_once('=')).collect();
    let get = |key: &str| values.get(key).copied().unwrap_or("");
    let number = |key: &str| get(key).parse::<u64>().ok();
    let (active, sub) = (get("ActiveState"), get("SubState"));
    let pid = number("MainPID").and_then(|p| u32::try_from(p).ok()).filter(|&p| p != 0);
    let status = get("ExecMainStatus").parse::<i32>().ok();
    Job {
        loaded: get("LoadState") == "loaded",
        refused: match get("LoadState") {
            "masked" => Some("its unit is masked".to_owned()),
            state @ ("bad-setting" | "error") => Some(format!("the manager cannot load its unit ({state})")),
            _ => None,
        },
        phase: phase(active),
        state: if sub.is_empty() { active.to_owned() } else { format!("{active} ({sub})") },
        result: get("Result").to_owned(),
        enabled: get("UnitFileState").to_owned(),
        pid,
        started_usec: number("ExecMainStartTimestampMonotonic").filter(|&t| t != 0 && pid.is_some()),
        restarts: number("NRestarts").and_then(|n| u32::try_from(n).ok()),
        runs: None,
        // waitid(2): CLD_EXITED 1, CLD_KILLED 2, CLD_DUMPED 3; 0 while no process has ended.
        last_exit: match get("ExecMainCode") {
            "1" => status.map(LastExit::Code),
            "2" | "3" => status.map(LastExit::Signal),
            _ => None,
        },
        held: false,
        // Its socket is a job of its own.
        listens: false,
        note: None,
        status_text: Some(get("StatusText")).filter(|t| !t.is_empty()).map(ToOwned::to_owned),
        stale: get("NeedDaemonReload") == "yes",
        watchdog: humantime::parse_duration(get("WatchdogUSec")).ok().filter(|limit| !limit.is_zero()),
        // The manager starts its clock before it calls the unit active; what comes after that is the process's own ping.
        pinged: number("WatchdogTimestampMonotonic") > number("ActiveEnterTimestampMonotonic"),
    }
}

fn phase(active: &str) -> Phase {
    match active {
        // A unit that reloads has served before and serves on.
        "active" | "reloading" | "refreshing" => Phase::Running,
        "activating" => Phase::Starting,
        "deactivating" => Phase::Stopping,
        "failed" => Phase::Failed,
        _ => Phase::Stopped,
    }
}

/// The ports of the units in `systemctl list-units --plain --no-legend 'NAME@*'`, sorted, each once.
pub fn ports(name: &str, text: &str) -> Vec<u16> {
    let mut ports: Vec<u16> = text
        .lines()
        .filter_map(|l| l.trim_start_matches(['●', '×', '*', '○', '↻', ' ']).split_whitespace().next())
        .filter_map(|unit| unit.strip_prefix(name)?.strip_prefix('@')?.rsplit_once('.')?.0.parse().ok())
        .collect();
    ports.sort_unstable();
    ports.dedup();
    ports
}

/// The version number in the first line of `systemctl --version`, `systemd 252 (252.39-1~deb12u2)`.
pub fn version(text: &str) -> Option<u32> {
    let word = text.lines().next()?.strip_prefix("systemd ")?.split([' ', '.', '~', '-']).next()?;
    word.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const RUNNING: &str = "LoadState=loaded\nActiveState=active\nSubState=running\nResult=success\nMainPID=4711\n\
UnitFileState=enabled\nNRestarts=2\nExecMainCode=0\nExecMainStatus=0\nExecMainStartTimestampMonotonic=123456\n\
StatusText=serving 3 clients, a=b\nNeedDaemonReload=no\n";

    #[test]
    fn a_running_unit() {
        let job = job(RUNNING);
        assert_eq!((job.phase, job.pid, job.restarts), (Phase::Running, Some(4711), Some(2)));
        assert_eq!(job.state, "active (running)");
        assert_eq!(job.status_text.as_deref(), Some("serving 3 clients, a=b"));
        assert_eq!((job.last_exit, job.started_usec, job.stale), (None, Some(123_456), false));
    }

    #[test]
    fn a_ping_counts_from_readiness_on() {
        let ping =
            |at: u64| format!("WatchdogUSec=10s\nActiveEnterTimestampMonotonic=700\nWatchdogTimestampMonotonic={at}\n");
        let (before, after) = (job(&ping(699)), job(&ping(701)));
        assert_eq!((before.pinged, after.pinged), (false, true));
        assert_eq!(after.watchdog, Some(std::time::Duration::from_secs(10)));
        let none = job("WatchdogUSec=0\nWatchdogTimestampMonotonic=0\nActiveEnterTimestampMonotonic=700\n");
        assert_eq!((none.watchdog, none.pinged), (None, false));
        assert_eq!(job("WatchdogUSec=infinity\n").watchdog, None);
    }

    #[test]
    fn a_port_conflict_a_kill_and_a_unit_that_does_not_exist() {
        let failed = job("LoadState=loaded\nActiveState=failed\nSubState=failed\nResult=exit-code\nMainPID=0\n\
ExecMainCode=1\nExecMainStatus=69\nExecMainStartTimestampMonotonic=5\n");
        assert_eq!((failed.phase, failed.last_exit, failed.pid), (Phase::Failed, Some(LastExit::Code(69)), None));
        let killed =
            job("ActiveState=activating\nSubState=auto-restart\nResult=signal\nExecMainCode=2\nExecMainStatus=9\n");
        assert_eq!((killed.phase, killed.last_exit), (Phase::Starting, Some(LastExit::Signal(9))));
        let absent = job("LoadState=not-found\nActiveState=inactive\nSubState=dead\n");
        assert!(!absent.loaded);
        assert_eq!(absent.phase, Phase::Stopped);
    }

    #[test]
    fn a_masked_unit_is_refused_and_not_absent() {
        let masked = job("LoadState=masked\nActiveState=inactive\nUnitFileState=masked\n");
        assert_eq!((masked.loaded, masked.refused.as_deref()), (false, Some("its unit is masked")));
        assert_eq!(job("LoadState=not-found\n").refused, None);
        assert!(job("LoadState=bad-setting\n").refused.unwrap().contains("bad-setting"));
    }

    #[test]
    fn ports_of_services_and_sockets() {
        let text = "  mpm-monitor@8765.service loaded active running Monitor\n\
● mpm-monitor@9000.service loaded failed failed Monitor\n\
  mpm-monitor@8765.socket  loaded active listening Socket\n  mpm-monitor@x.service loaded\n  other.service x\n";
        assert_eq!(ports("mpm-monitor", text), [8765, 9000]);
    }

    #[test]
    fn versions() {
        assert_eq!(version("systemd 252 (252.39-1~deb12u2)\n+PAM"), Some(252));
        assert_eq!(version("systemd 257.9-1\n"), Some(257));
        assert_eq!(version("busybox"), None);
    }

    proptest! {
        #[test]
        fn garbage_is_never_running_with_a_pid_of_zero(text in "[A-Za-z]{0,12}=?[ -~\n=]{0,80}") {
            let job = job(&text);
            prop_assert_ne!(job.pid, Some(0));
        }

        #[test]
        fn no_parser_panics(text in any::<String>()) {
            let (_, _, _) = (job(&text), ports("mpm-monitor", &text), version(&text));
        }
    }
}
