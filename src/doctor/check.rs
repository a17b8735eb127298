//! One check, as data: what was looked at, how it came out, what was seen, and what to type next.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use daemon::out;

/// How bad it is where a check fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing, nothing to repair.
    Note,
    /// It works, but will not always, or not as well as it could.
    Warning,
    /// It does not work.
    Error,
}

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Looked at, and as it should be.
    Verified,
    /// Looked at, and not as it should be.
    Failed,
    /// Not looked at; the summary says why. It is no verdict.
    NotRun,
}

/// What a check is about; the table is shown in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Group {
    /// The service manager and the way to it.
    Manager,
    /// What is installed.
    Unit,
    /// What runs.
    Process,
    /// The port, and what others left.
    Port,
    /// What the machine gives.
    Resources,
    /// Where it logs.
    Log,
    /// The programs it needs, and tmux.
    Tools,
    /// The hooks of Claude Code that post to it.
    Hooks,
}

impl Group {
    /// As the table heads it.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Manager => "service manager",
            Self::Unit => "installation",
            Self::Process => "process",
            Self::Port => "port",
            Self::Resources => "resources",
            Self::Log => "log",
            Self::Tools => "tools and tmux",
            Self::Hooks => "hooks",
        }
    }
}

/// Makes the enum and the table of one list, so that they cannot differ.
macro_rules! codes {
    ($($variant:ident $text:literal $group:ident $severity:ident $about:literal;)+) => {
        /// Which check it is. The texts are stable: scripts look for them.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Code {
            $(#[doc = $about] $variant,)+
        }

        impl Code {
            /// All of them, in the order in which they are shown.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The stable text.
            pub const fn text(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }

            /// What it is about.
            pub const fn group(self) -> Group {
                match self { $(Self::$variant => Group::$group,)+ }
            }

            /// How bad a failure is, unless the check says otherwise.
            pub const fn severity(self) -> Severity {
                match self { $(Self::$variant => Severity::$severity,)+ }
            }

            /// What is as it should be where it is verified.
            pub const fn about(self) -> &'static str {
                match self { $(Self::$variant => $about,)+ }
            }
        }
    };
}

codes! {
    ManagerReachable "manager-reachable" Manager Error "systemd or launchd answers";
    UserBus "user-bus" Manager Error "the user's manager has a socket to be asked through";
    SessionEnvironment "session-environment" Manager Note "this session names its runtime directory";
    Linger "linger" Manager Warning "the user's manager runs without a login";
    HomebrewCopy "homebrew-copy" Manager Warning "Homebrew runs no second copy on the port";
    Installed "installed" Unit Note "the instance is installed";
    Receipt "receipt" Unit Error "the receipt of the installation can be read";
    UnitMissing "unit-missing" Unit Error "every file that install wrote is there";
    UnitEdited "unit-edited" Unit Warning "no file that install wrote was edited by hand";
    UnitOutdated "unit-outdated" Unit Warning "every file is as this version writes it";
    UnitReread "unit-reread" Unit Warning "the manager has read the files as they are";
    UnitLoads "unit-loads" Unit Error "the manager can load the unit, and it is install's";
    UnitSettings "unit-settings" Unit Error "no drop-in takes from the unit what the program needs";
    UnitMode "unit-mode" Unit Error "nobody but the owner can write them";
    UnitEnabled "unit-enabled" Unit Warning "it comes up by itself";
    ProgramThere "program-there" Unit Error "the program that the unit names can be run";
    ProgramLasts "program-lasts" Unit Warning "its path is still that program after the next build or upgrade";
    Config "config" Unit Error "the settings are valid";
    TokenFile "token-file" Unit Error "the token is one, and nobody else can read it";
    Ready "ready" Process Error "it answers on its port and is ready";
    Identity "identity" Process Error "the process that answers is the manager's";
    Versions "versions" Process Warning "running, installed and unit are one version";
    ProgramReplaced "program-replaced" Process Warning "the process runs the file that is installed";
    CrashLoop "crash-loop" Process Error "it does not fail again and again";
    LastEnd "last-end" Process Warning "the process before it ended well";
    Components "components" Process Warning "every component does all of its work";
    Watchdog "watchdog" Process Warning "a hang would be seen, and the last sign of life is fresh";
    Strays "strays" Process Warning "no other process is in its control group, and no child is a zombie";
    PortOwner "port-owner" Port Error "no stranger has the port";
    OtherMonitor "other-monitor" Port Error "no other monitor has the port";
    Lock "lock" Port Error "its lock file can be had, and is there while it runs";
    StaleLock "stale-lock" Port Note "no killed process left its lock file";
    StalePidFiles "stale-pid-files" Port Warning "no PID file names a process that is gone or another's";
    DeadSocket "dead-socket" Port Note "the Unix socket belongs to a process that listens";
    OpenFiles "open-files" Resources Warning "it may open as many files as its settings need";
    Memory "memory" Resources Warning "it is far from its memory limit";
    DiskSpace "disk-space" Resources Error "there is room where events are kept";
    StateDir "state-dir" Resources Error "the directory of the events is the service's, and can be written";
    History "history" Resources Warning "no damaged history was set aside";
    Clock "clock" Resources Warning "the clock is not behind what was written, nor behind the program";
    LogReadable "log-readable" Log Warning "this user can read the log";
    LogKept "log-kept" Log Note "the log outlives a reboot";
    LogSize "log-size" Log Warning "the log files are within their bounds";
    ToolPaths "tool-paths" Tools Warning "the service finds the tools that this shell finds";
    TmuxCgroup "tmux-cgroup" Tools Error "no tmux server would die with the service";
    TmuxSocket "tmux-socket" Tools Warning "every tmux server can be reached through its socket";
    TmuxHidden "tmux-hidden" Tools Error "the unit hides neither /tmp nor its sockets";
    HookCommands "hook-commands" Hooks Note "Claude Code has hooks that post events";
    HookPrograms "hook-programs" Hooks Error "the programs of these hooks can be run";
    HookImport "hook-import" Hooks Error "the hooks' Python can import claude_mpm";
    HookTarget "hook-target" Hooks Warning "our hook posts where a monitor is";
    HookSpool "hook-spool" Hooks Warning "no event of our hook waits for long, and none found no room";
}

impl Serialize for Code {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.text())
    }
}

impl<'de> Deserialize<'de> for Code {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let found = Self::ALL.iter().copied().find(|c| c.text() == text);
        found.ok_or_else(|| serde::de::Error::custom(format!("{text:?} is no code of the doctor")))
    }
}

/// A repair that harms nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "fix", rename_all = "kebab-case")]
pub enum Fix {
    /// Remove a file, if it is still the one that was looked at.
    RemoveFile {
        /// Which.
        path: PathBuf,
        /// What it said; a file that says something else by then stays.
        content: String,
    },
    /// Remove a lock file, if nobody holds it by then.
    RemoveLock {
        /// Which.
        path: PathBuf,
    },
    /// Take a file from all but its owner.
    Tighten {
        /// Which.
        path: PathBuf,
        /// Its permissions then.
        mode: u32,
    },
    /// Keep the user's manager running without a login.
    EnableLinger {
        /// The user.
        user: String,
    },
    /// Write what is missing or outdated anew, and restart; what was edited stays.
    Install,
    /// Restart by the installed program and unit.
    Restart,
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// Which.
    pub code: Code,
    /// How bad a failure is.
    pub severity: Severity,
    /// How it came out.
    pub outcome: Outcome,
    /// In one sentence.
    pub summary: String,
    /// What was seen.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub evidence: Vec<String>,
    /// The next command to type.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// What `--fix` would do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fixes: Vec<Fix>,
}

impl Check {
    fn new(code: Code, outcome: Outcome, summary: String) -> Self {
        let severity = code.severity();
        // What others wrote (names of programs, messages) must not steer a terminal.
        let summary = out::escaped(&summary).into_owned();
        Self { code, severity, outcome, summary, evidence: Vec::new(), next: None, fixes: Vec::new() }
    }

    /// As it should be.
    pub fn verified(code: Code, summary: impl Into<String>) -> Self {
        Self::new(code, Outcome::Verified, summary.into())
    }

    /// Not as it should be.
    pub fn failed(code: Code, summary: impl Into<String>) -> Self {
        Self::new(code, Outcome::Failed, summary.into())
    }

    /// Not looked at, and why.
    pub fn not_run(code: Code, why: impl Into<String>) -> Self {
        Self::new(code, Outcome::NotRun, why.into())
    }

    /// With something that was seen.
    #[must_use]
    pub fn seen(mut self, evidence: impl Into<String>) -> Self {
        self.evidence.push(out::escaped(&evidence.into()).into_owned());
        self
    }

    /// With the next command to type.
    #[must_use]
    pub fn next(mut self, command: impl Into<String>) -> Self {
        self.next = Some(out::escaped(&command.into()).into_owned());
        self
    }

    /// With what `--fix` does.
    #[must_use]
    pub fn fix(mut self, fix: Fix) -> Self {
        self.fixes.push(fix);
        self
    }

    /// As bad as this, where that is not as usual.
    #[must_use]
    pub fn severity(mut self, severity: Severity) -> Self {
        self.severity = severity;
        self
    }

    /// Whether it is a failure that the exit code tells.
    pub fn is_error(&self) -> bool {
        self.outcome == Outcome::Failed && self.severity == Severity::Error
    }
}

/// What a look brought, or why it brought nothing: it took too long, or was not possible.
pub type Looked<T> = Result<T, String>;

/// All of these, not run for one reason.
pub fn none_of(codes: &[Code], why: &str) -> Vec<Check> {
    codes.iter().map(|&code| Check::not_run(code, why)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_stable_words_and_in_the_order_of_their_groups() {
        let mut texts: Vec<_> = Code::ALL.iter().map(|c| c.text()).collect();
        let word = |t: &&str| !t.is_empty() && t.bytes().all(|b| b.is_ascii_lowercase() || b == b'-');
        assert!(texts.iter().all(word), "{texts:?}");
        assert!(Code::ALL.is_sorted_by_key(|c| c.group()));
        texts.sort_unstable();
        texts.dedup();
        assert_eq!(texts.len(), Code::ALL.len());
    }

    #[test]
    fn what_strangers_wrote_does_not_steer_the_terminal() {
        let check = Check::failed(Code::PortOwner, "a\u{1b}[2J").seen("b\u{7}").next("c\u{9b}");
        let text = format!("{}{}{}", check.summary, check.evidence[0], check.next.unwrap());
        assert!(!text.chars().any(char::is_control), "{text:?}");
    }
}
