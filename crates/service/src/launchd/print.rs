//! Reads `launchctl print` and `print-disabled`. Apple calls their output "NOT API in any sense at all", so that only what
//! is plainly there is believed: unknown is an answer, and never becomes "running".

use crate::manager::{LastExit, Phase};

/// What `launchctl print DOMAIN/LABEL` says of a job.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Printed {
    /// `running`, `not running`, `waiting`, `spawn scheduled`, `SIGTERMed`; empty if it was not said.
    pub state: String,
    /// The process.
    pub pid: Option<u32>,
    /// How often it was started since it was loaded.
    pub runs: Option<u32>,
    /// How the last process ended, if one did.
    pub last_exit: Option<LastExit>,
    /// Whether it says outright that no process has ended yet.
    pub never_exited: bool,
    /// Why the kernel or launchd ended the last process, or did not let it run: `OS_REASON_CODESIGNING`. It stands in place of
    /// the exit code.
    pub reason: Option<String>,
    /// `running`, `exited`, `spawn failed`: what became of the last start.
    pub job_state: Option<String>,
    /// Whether the program is another than the one whose signature was pinned when the job was loaded.
    pub needs_update: bool,
    /// The property list it was loaded from.
    pub path: Option<String>,
}

/// Reads the description of a job.
pub fn job(text: &str) -> Printed {
    let mut printed = Printed::default();
    for (key, value) in fields(text) {
        match key {
            // The first of each: a nested block that lost its indentation must not overwrite it.
            "state" if printed.state.is_empty() => value.clone_into(&mut printed.state),
            "pid" if printed.pid.is_none() => printed.pid = value.parse().ok().filter(|&p| p != 0),
            "runs" if printed.runs.is_none() => printed.runs = value.parse().ok(),
            "path" if printed.path.is_none() => printed.path = Some(value.to_owned()),
            "last exit reason" => printed.reason = printed.reason.or(Some(value.to_owned())),
            "job state" => printed.job_state = printed.job_state.or(Some(value.to_owned())),
            // `keepalive | runatload | needs LWCR update`: LWCR is Apple's name of a launch constraint.
            "properties" => printed.needs_update |= value.split('|').any(|p| p.trim() == "needs LWCR update"),
            "last exit code" if value == "(never exited)" => printed.never_exited = true,
            // `78: EX_CONFIG`
            "last exit code" => {
                let code = value.split(':').next().and_then(|n| n.trim().parse().ok());
                printed.last_exit = printed.last_exit.or(code.map(LastExit::Code));
            }
            // `Killed: 9`
            "last terminating signal" => {
                let signal = value.rsplit(':').next().and_then(|n| n.trim().parse().ok());
                printed.last_exit = signal.map(LastExit::Signal).or(printed.last_exit);
            }
            _ => {}
        }
    }
    printed
}

impl Printed {
    /// What it does, as far as can be told.
    pub fn phase(&self) -> Phase {
        match self.state.as_str() {
            "running" if self.pid.is_some() => Phase::Running,
            state if state.starts_with("SIGTERM") || state.starts_with("SIGKILL") => Phase::Stopping,
            // launchd goes on trying, and no try can succeed.
            _ if self.is_refused() => Phase::Failed,
            // Between the fork and the exec there may be no number yet.
            "running" | "spawn scheduled" | "spawning" | "xpcproxy" => Phase::Starting,
            _ if self.pid.is_some() => Phase::Starting,
            // It was loaded a moment ago.
            "not running" | "waiting"
                if self.last_exit.is_none() && self.reason.is_none() && self.runs.is_none_or(|n| n == 0) =>
            {
                Phase::Starting
            }
            _ if self.failed() => Phase::Failed,
            _ => Phase::Stopped,
        }
    }

    /// Whether the last process ended badly.
    pub fn failed(&self) -> bool {
        let killed = self.reason.as_deref().is_some_and(|r| r != "exited" && r != "JETSAM_REASON_MEMORY_IDLE_EXIT");
        killed || !matches!(self.last_exit, None | Some(LastExit::Code(0)))
    }

    /// Whether macOS does not let the program run any more, because it is not the one that launchd pinned when the job was
    /// loaded. Only loading it anew helps.
    pub fn is_refused(&self) -> bool {
        let unsigned = self.reason.as_deref() == Some("OS_REASON_CODESIGNING");
        self.pid.is_none() && (unsigned || self.needs_update && self.job_state.as_deref() == Some("spawn failed"))
    }
}

/// The `key = value` lines of the outermost block. Deeper ones have keys of the same names, and a job's arguments are printed
/// raw, so that only lines with exactly one tab count.
fn fields(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.lines().filter_map(|line| {
        let line = line.strip_prefix('\t').filter(|rest| !rest.starts_with(['\t', ' ']))?;
        let (key, value) = line.split_once(" = ")?;
        Some((key.trim(), value.trim())).filter(|(_, value)| *value != "{")
    })
}

/// Whether `launchctl print-disabled DOMAIN` says that a job is disabled; `None` if it does not name the job.
pub fn is_disabled(text: &str, label: &str) -> Option<bool> {
    text.lines().find_map(|line| {
        let (name, value) = line.split_once("=>")?;
        if name.trim().trim_matches('"') != label {
            return None;
        }
        // Older systems say true and false.
        match value.trim().trim_end_matches(',') {
            "disabled" | "true" => Some(true),
            "enabled" | "false" => Some(false),
            _ => None,
        }
    })
}

/// The labels in the `services` block of `launchctl print DOMAIN`, whose lines end with the label.
pub fn labels(text: &str) -> Vec<String> {
    let mut lines = text.lines().skip_while(|l| l.trim_end() != "\tservices = {").skip(1);
    let mut all = Vec::new();
    for line in lines.by_ref().take_while(|l| l.trim_end() != "\t}") {
        all.extend(line.split_whitespace().last().map(ToOwned::to_owned));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// As a current macOS prints it, shortened; gathered from public issues.
    const RUNNING: &str = "gui/501/mpm-monitor.8765 = {\n\tactive count = 1\n\
\tpath = /Users/ann/Library/LaunchAgents/mpm-monitor.8765.plist\n\ttype = LaunchAgent\n\tstate = running\n\n\
\tprogram = /usr/local/bin/mpm-monitor\n\targuments = {\n\t\t/usr/local/bin/mpm-monitor\n\t\trun\n\t\tpid = 1\n\t}\n\n\
\tenvironment = {\n\t\tXPC_SERVICE_NAME => mpm-monitor.8765\n\t}\n\n\tdomain = gui/501 [100005]\n\tminimum runtime = 10\n\
\texit timeout = 15\n\truns = 3\n\tpid = 4711\n\timmediate reason = inefficient\n\tlast exit code = 70: EX_SOFTWARE\n\n\
\tresource coalition = {\n\t\tID = 7\n\t\tstate = active\n\t\tactive count = 1\n\t}\n\n\tspawn type = daemon (3)\n}\n";

    #[test]
    fn a_running_job() {
        let printed = job(RUNNING);
        assert_eq!((printed.phase(), printed.pid, printed.runs), (Phase::Running, Some(4711), Some(3)));
        assert_eq!(printed.last_exit, Some(LastExit::Code(70)));
        assert_eq!(printed.path.as_deref(), Some("/Users/ann/Library/LaunchAgents/mpm-monitor.8765.plist"));
    }

    #[test]
    fn the_other_states() {
        let state = |text: &str| {
            let lines: String = text.lines().map(|l| format!("\t{l}\n")).collect();
            job(&format!("gui/501/x = {{\n{lines}}}\n"))
        };
        let throttled = state("state = spawn scheduled\nruns = 9\nlast exit code = 1");
        assert_eq!((throttled.phase(), throttled.last_exit), (Phase::Starting, Some(LastExit::Code(1))));
        assert_eq!(state("state = SIGTERMed\npid = 7").phase(), Phase::Stopping);
        assert_eq!(state("state = not running\nruns = 0\nlast exit code = (never exited)").phase(), Phase::Starting);
        assert_eq!(state("state = not running\nruns = 6\nlast exit code = 0").phase(), Phase::Stopped);
        assert_eq!(state("state = not running\nruns = 6\nlast exit code = 78: EX_CONFIG").phase(), Phase::Failed);
        let killed = state("state = spawn scheduled\nlast exit code = 0\nlast terminating signal = Killed: 9");
        assert_eq!(killed.last_exit, Some(LastExit::Signal(9)));
        // A word of a later macOS is no reason to claim anything.
        assert_eq!(state("state = dreaming\nruns = 1\nlast exit code = 0").phase(), Phase::Stopped);
        assert_eq!(job("").phase(), Phase::Stopped);
    }

    /// The reason stands in place of the exit code, and a job that launchd goes on trying in vain has failed.
    #[test]
    fn reasons_of_the_kernel_are_read() {
        let state = |text: &str| {
            let lines: String = text.lines().map(|l| format!("\t{l}\n")).collect();
            job(&format!("gui/501/x = {{\n{lines}}}\n"))
        };
        let refused = state(
            "state = spawn scheduled\nruns = 7\nlast exit reason = OS_REASON_CODESIGNING\njob state = spawn failed\n\
             properties = keepalive | runatload | needs LWCR update",
        );
        assert!(refused.is_refused() && refused.needs_update && refused.failed());
        assert_eq!((refused.phase(), refused.last_exit), (Phase::Failed, None));
        let as_config = state(
            "state = spawn scheduled\nlast exit code = 78: EX_CONFIG\njob state = spawn failed\n\
             properties = needs LWCR update | managed LWCR",
        );
        assert_eq!(as_config.phase(), Phase::Failed);
        // The directory of the log is gone: the next try may succeed.
        let config = state("state = spawn scheduled\nlast exit code = 78: EX_CONFIG\njob state = spawn failed");
        assert_eq!(config.phase(), Phase::Starting);
        // It runs, whatever the earlier end was.
        let runs = state("state = running\npid = 7\nlast exit reason = OS_REASON_CODESIGNING");
        assert_eq!((runs.phase(), runs.is_refused()), (Phase::Running, false));
        let memory = state("state = spawn scheduled\nruns = 2\nlast exit reason = JETSAM_REASON_MEMORY_HIGHWATER");
        assert_eq!((memory.phase(), memory.failed()), (Phase::Starting, true));
        let idle = state("state = not running\nruns = 2\nlast exit reason = JETSAM_REASON_MEMORY_IDLE_EXIT");
        assert_eq!((idle.phase(), idle.failed()), (Phase::Stopped, false));
    }

    #[test]
    fn disabled_in_both_dialects() {
        let text = "\tdisabled services = {\n\t\t\"a.b\" => disabled\n\t\t\"mpm-monitor.8765\" => enabled\n\
\t\t\"c\" => true\n\t\t\"d\" => false\n\t}\n";
        let answers: Vec<_> = ["a.b", "mpm-monitor.8765", "c", "d", "e"].iter().map(|l| is_disabled(text, l)).collect();
        assert_eq!(answers, [Some(true), Some(false), Some(true), Some(false), None]);
    }

    #[test]
    fn the_labels_of_a_domain() {
        let text = "gui/501 = {\n\ttype = login\n\tservices = {\n\t\t       0      - \tcom.apple.x\n\
\t\t    4711      - \tmpm-monitor.8765\n\t}\n\n\tunmanaged processes = {\n\t\tcom.apple.y\n\t}\n}\n";
        assert_eq!(labels(text), ["com.apple.x", "mpm-monitor.8765"]);
        assert_eq!(labels(""), Vec::<String>::new());
    }

    proptest! {
        #[test]
        fn garbage_is_never_running(text in "[a-z {}=\t\n0-9]{0,200}") {
            prop_assume!(!text.contains("state = running"));
            prop_assert_ne!(job(&text).phase(), Phase::Running);
        }

        #[test]
        fn no_parser_panics(text in any::<String>()) {
            let (_, _, _) = (job(&text).phase(), is_disabled(&text, "x"), labels(&text));
        }
    }
}
