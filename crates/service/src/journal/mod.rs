//! The log of one instance out of the journal: through libsystemd where that is built in, else through journalctl.

pub mod ctl;
#[cfg(all(feature = "libsystemd", target_os = "linux"))]
pub mod sd;
pub mod since;

use std::collections::BTreeMap;
use std::io;
use std::ops::ControlFlow;
use std::path::Path;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::Scope;
use super::exec::ExecError;
use super::paths::Paths;

/// What to show.
#[derive(Debug, Clone)]
pub struct Query {
    /// Whose units.
    pub scope: Scope,
    /// The service and the socket.
    pub units: Vec<String>,
    /// The user whose user units they are.
    pub uid: u32,
    /// How many of the last lines.
    pub lines: usize,
    /// Only lines since then.
    pub since: Option<Timestamp>,
    /// Whether to wait for more.
    pub follow: bool,
}

/// One line of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// All fields as the journal has them; see systemd.journal-fields(7).
    pub fields: BTreeMap<String, String>,
}

/// Why the journal could not be read.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The library said no.
    #[error("cannot read the journal: {0}")]
    Library(io::Error),
    /// journalctl said no.
    #[error(transparent)]
    Exec(#[from] ExecError),
    /// The reader of our output went away or failed.
    #[error("cannot write the log lines: {0}")]
    Output(io::Error),
}

/// Takes one entry; says whether more are wanted.
pub type Sink<'a> = &'a mut dyn FnMut(Entry) -> io::Result<ControlFlow<()>>;

impl Query {
    /// For an instance, up to now.
    pub fn of(paths: &Paths, port: u16, lines: usize, since: Option<Timestamp>) -> Self {
        let uid = rustix::process::getuid().as_raw();
        Self { scope: paths.scope, units: paths.jobs(port, true), uid, lines, since, follow: false }
    }

    /// The matches, as in `journalctl A B + C D`: each inner list must match as a whole, any of them is enough.
    ///
    /// The first of each unit is what the process wrote, the second what its manager wrote about it.
    pub fn matches(&self) -> Vec<Vec<(&'static str, String)>> {
        let uid = || ("_UID", self.uid.to_string());
        self.units
            .iter()
            .flat_map(|unit| match self.scope {
                Scope::System => {
                    [vec![("_SYSTEMD_UNIT", unit.clone())], vec![("UNIT", unit.clone()), ("_PID", "1".to_owned())]]
                }
                Scope::User => {
                    [vec![("_SYSTEMD_USER_UNIT", unit.clone()), uid()], vec![("USER_UNIT", unit.clone()), uid()]]
                }
            })
            .collect()
    }
}

/// Hands the entries to `sink`, oldest first, and waits for more if the query says so.
///
/// # Errors
/// [`JournalError`].
pub fn read(query: &Query, sink: Sink<'_>) -> Result<(), JournalError> {
    #[cfg(all(feature = "libsystemd", target_os = "linux"))]
    return sd::read(query, sink);
    #[cfg(not(all(feature = "libsystemd", target_os = "linux")))]
    return ctl::read(query, sink);
}

/// The last messages of an instance, as lines; none if they cannot be read.
pub fn tail(query: &Query) -> Vec<String> {
    let mut lines = Vec::new();
    // This decorates an error message that stands without it.
    let _ = read(&Query { follow: false, ..query.clone() }, &mut |entry| {
        lines.push(entry.human(&TimeZone::system()));
        Ok(ControlFlow::Continue(()))
    });
    lines
}

impl Entry {
    fn field(&self, name: &str) -> Option<&str> {
        self.fields.get(name).map(String::as_str)
    }

    /// When it was logged.
    pub fn time(&self) -> Option<Timestamp> {
        Timestamp::from_microsecond(self.field("__REALTIME_TIMESTAMP")?.parse().ok()?).ok()
    }

    /// For people: time, program, process, message. What would steer a terminal is shown as an escape.
    pub fn human(&self, zone: &TimeZone) -> String {
        let time = self
            .time()
            .map_or_else(|| "-".to_owned(), |t| t.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M:%S").to_string());
        let name = self.field("SYSLOG_IDENTIFIER").or_else(|| self.field("_COMM")).unwrap_or("-");
        let pid = self.field("_PID").map_or(String::new(), |p| format!("[{p}]"));
        // Levels of syslog(3): 3 and below are errors, 4 is a warning.
        let level = match self.field("PRIORITY") {
            Some("0" | "1" | "2" | "3") => "ERROR ",
            Some("4") => "WARN ",
            _ => "",
        };
        let message = self.field("MESSAGE").unwrap_or("");
        daemon::out::escaped(&format!("{time} {name}{pid}: {level}{message}")).into_owned()
    }

    /// One JSON object in one line, with the journal's own field names.
    pub fn json(&self) -> String {
        serde_json::to_string(&self.fields).unwrap_or_default()
    }
}

/// What is known where there was no line at all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Emptiness {
    /// There is a journal on the disk.
    pub persistent: bool,
    /// There is a journal in memory.
    pub volatile: bool,
    /// We may read the machine's journal.
    pub readable: bool,
    /// The manager has a definition of the unit.
    pub loaded: bool,
    /// Lines before some time were left out.
    pub since: bool,
}

impl Emptiness {
    /// Looks at the journal's directories (systemd-journald.service(8)).
    pub fn look(loaded: bool, since: bool) -> Self {
        let (disk, memory) = (Path::new("/var/log/journal"), Path::new("/run/log/journal"));
        let readable = |dir: &Path| {
            let files = |d: std::fs::DirEntry| std::fs::read_dir(d.path()).into_iter().flatten().flatten();
            std::fs::read_dir(dir)
                .into_iter()
                .flatten()
                .flatten()
                .flat_map(files)
                .any(|f| f.file_name() == "system.journal" && std::fs::File::open(f.path()).is_ok())
        };
        Self {
            persistent: disk.is_dir(),
            volatile: memory.is_dir(),
            readable: readable(disk) || readable(memory),
            loaded,
            since,
        }
    }

    /// Whether there may be lines that this user may not read.
    pub fn is_hidden(self, scope: Scope) -> bool {
        (self.persistent || self.volatile) && !self.readable && (scope == Scope::System || !self.persistent)
    }

    /// Why there is nothing, in one sentence, and what to do about it.
    pub fn explain(self, scope: Scope, user: &str) -> String {
        let mut text = if !self.persistent && !self.volatile {
            "no journal is kept on this machine (Storage=none, or journald does not run); `mpm-monitor run` logs to the terminal".to_owned()
        } else if self.is_hidden(scope) {
            format!(
                "the machine's journal may not be read by {user}, and {}; use sudo, or `sudo usermod -aG systemd-journal {user}` and log in again",
                if scope == Scope::System {
                    "a system unit logs there"
                } else {
                    "without a journal on the disk user units log there, too"
                }
            )
        } else if self.since {
            "nothing was logged since then; leave --since out to see what came before".to_owned()
        } else if self.loaded {
            "the unit has not logged anything; `mpm-monitor start` starts it".to_owned()
        } else {
            "there is no such unit, and nothing of an earlier one; `mpm-monitor install` makes it, `mpm-monitor list` shows what there is".to_owned()
        };
        if !self.persistent && self.volatile {
            text.push_str(
                " (the journal is in memory only: a reboot empties it; `sudo mkdir /var/log/journal` keeps it)",
            );
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(scope: Scope) -> Query {
        Query { scope, units: vec!["mpm-monitor@1.service".into()], uid: 7, lines: 5, since: None, follow: false }
    }

    #[test]
    fn pain_19_user_units_are_found_with_the_managers_own_words() {
        let matches = query(Scope::User).matches();
        assert_eq!(matches[0], [("_SYSTEMD_USER_UNIT", "mpm-monitor@1.service".into()), ("_UID", "7".into())]);
        assert_eq!(matches[1][0].0, "USER_UNIT");
        assert_eq!(query(Scope::System).matches()[1][0].0, "UNIT");
    }

    #[test]
    fn a_line_for_people() {
        let fields = [
            ("__REALTIME_TIMESTAMP", "1795000000000000"),
            ("SYSLOG_IDENTIFIER", "mpm-monitor"),
            ("_PID", "42"),
            ("PRIORITY", "3"),
            ("MESSAGE", "the port is taken"),
        ];
        let entry = Entry { fields: fields.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect() };
        assert_eq!(entry.human(&TimeZone::UTC), "2026-11-18 11:06:40 mpm-monitor[42]: ERROR the port is taken");
        assert!(entry.json().starts_with('{') && !entry.json().contains('\n'));
        assert_eq!(Entry { fields: BTreeMap::new() }.human(&TimeZone::UTC), "- -: ");
        let hostile = Entry { fields: [("MESSAGE".to_owned(), "a\u{1b}[2J\tb\u{9b}".to_owned())].into() };
        assert_eq!(hostile.human(&TimeZone::UTC), "- -: a\\u001b[2J\tb\\u009b");
    }

    #[test]
    fn every_emptiness_has_its_reason() {
        let full = Emptiness { persistent: true, volatile: true, readable: true, loaded: true, since: false };
        let text = |e: Emptiness| e.explain(Scope::System, "ann");
        assert!(text(Emptiness::default()).contains("no journal is kept"));
        assert!(text(Emptiness { readable: false, ..full }).contains("systemd-journal ann"));
        assert!(text(Emptiness { since: true, ..full }).contains("--since"));
        assert!(text(full).contains("mpm-monitor start"));
        assert!(text(Emptiness { loaded: false, ..full }).contains("mpm-monitor install"));
        assert!(text(Emptiness { persistent: false, ..full }).contains("in memory only"));
        let user = Emptiness { readable: false, persistent: false, ..full }.explain(Scope::User, "ann");
        assert!(user.contains("user units log there, too"), "{user}");
    }
}
