//! Where it logs.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use super::Subject;
use super::check::{Check, Code, Looked, Severity, none_of};
use crate::config::Settings;
use service::exec::{self, QUICK};
use service::journal::{self, Emptiness};
use service::{Scope, files, logfile};

/// More than this in a file that only a start shortens is too much, bytes.
const MUCH: u64 = 64 << 20;

/// What was seen.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// What is known of the journal; `None` where the log is in files.
    pub journal: Option<Emptiness>,
    /// How many of the last lines could be read.
    pub lines: usize,
    /// Why none could be.
    pub error: Option<String>,
    /// The log files with their sizes, of launchd's jobs.
    pub files: Vec<(PathBuf, u64)>,
    /// Whether the directory of the log files is there.
    pub directory: bool,
    /// Why journald keeps nothing.
    pub journald: Option<Silence>,
    /// What is wrong with the machine's id, without which no journal is found, and the command that makes it right.
    pub no_id: Option<(String, String)>,
}

/// What is wrong with the id of the machine.
fn no_id() -> Option<(String, String)> {
    const FILE: &str = "/etc/machine-id";
    let is_id = |text: &str| text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit());
    let said = std::fs::read_to_string(FILE).ok().filter(|text| !is_id(text.trim()))?;
    let folders = ["/var/log/journal", "/run/log/journal"].into_iter();
    let folders = folders.flat_map(|f| std::fs::read_dir(f).into_iter().flatten().flatten());
    let mut ids: Vec<String> = folders.map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    ids.retain(|name| is_id(name));
    ids.sort();
    ids.dedup();
    let how = if said.trim().is_empty() { "is empty" } else { "has no id" };
    let why = format!("{FILE} {how}");
    match ids.as_slice() {
        // The id that the journal was written under.
        [id] => Some((why, format!("sh -c 'echo {id} > {FILE}'"))),
        _ => Some((why, "systemd-machine-id-setup".to_owned())),
    }
}

/// Why journald keeps nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Silence {
    /// It does not run.
    Stopped,
    /// This line of this file says so; what it says.
    Setting(PathBuf, usize, String),
}

fn silence() -> Option<Silence> {
    let words = ["show", "-p", "ActiveState", "--value", "systemd-journald.service"];
    let state = exec::systemctl(Scope::System, &words, QUICK).and_then(exec::Output::success).unwrap_or_default();
    if matches!(state.trim(), "inactive" | "failed") {
        return Some(Silence::Stopped);
    }
    let all = exec::tool("systemd-analyze", &["cat-config", "systemd/journald.conf"], QUICK).ok()?.success().ok()?;
    let (path, said) = losing(&all)?;
    let text = files::read(&path).ok()??;
    let line = text.lines().position(|l| l.trim() == said)?;
    Some(Silence::Setting(path, line + 1, said))
}

/// Whether a setting of journald makes it drop what the service says.
fn loses(key: &str, value: &str) -> bool {
    match key {
        "Storage" => value == "none",
        "MaxLevelStore" => {
            ["emerg", "alert", "crit", "err", "warning", "notice", "0", "1", "2", "3", "4", "5"].contains(&value)
        }
        "RateLimitBurst" => value.parse().is_ok_and(|n: u32| (1..100).contains(&n)),
        _ => false,
    }
}

/// The last word on a setting that makes journald drop lines, and its file, of `systemd-analyze cat-config`, which puts the
/// name of each file above it.
fn losing(text: &str) -> Option<(PathBuf, String)> {
    let (mut file, mut last) = (None, BTreeMap::new());
    for line in text.lines().map(str::trim) {
        if let Some(path) = line.strip_prefix("# /").filter(|p| p.ends_with(".conf")) {
            file = Some(PathBuf::from(format!("/{path}")));
        } else if let Some((key, value)) = line.split_once('=').filter(|_| !line.starts_with(['#', ';'])) {
            last.insert(key.trim(), (value.trim(), file.clone(), line));
        }
    }
    let lossy = last.into_iter().find(|(key, (value, ..))| loses(key, value));
    lossy.and_then(|(_, (_, file, line))| Some((file?, line.to_owned())))
}

/// Looks.
pub fn look(subject: &Subject, loaded: bool) -> Seen {
    let count = |lines: &mut usize| {
        *lines += 1;
        Ok(std::ops::ControlFlow::Continue(()))
    };
    let mut lines = 0;
    if let Some(query) = logfile::Query::of(&subject.paths, subject.port, 5, None, false) {
        let error = logfile::read(&query, &mut |_| count(&mut lines)).err().map(|e| e.to_string());
        let files = [&query.log, &query.stderr].into_iter();
        let files = files.filter_map(|p| Some((p.clone(), std::fs::metadata(p).ok()?.size())));
        let directory = query.log.parent().is_some_and(std::path::Path::is_dir);
        return Seen { journal: None, lines, error, files: files.collect(), directory, journald: None, no_id: None };
    }
    let query = journal::Query::of(&subject.paths, subject.port, 5, None);
    let error = journal::read(&query, &mut |_| count(&mut lines)).err().map(|e| e.to_string());
    let journal = Some(Emptiness::look(loaded, false));
    Seen { journal, lines, error, files: Vec::new(), directory: true, journald: silence(), no_id: no_id() }
}

/// Judges.
pub fn judge(subject: &Subject, seen: &Looked<Seen>, settings: Option<&Settings>, installed: bool) -> Vec<Check> {
    let seen = match seen {
        Ok(seen) => seen,
        Err(why) => return none_of(&[Code::LogReadable, Code::LogKept, Code::LogSize], why),
    };
    vec![readable(subject, seen, installed), kept(subject, seen), size(subject, seen, settings)]
}

fn readable(subject: &Subject, seen: &Seen, installed: bool) -> Check {
    if let Some((why, cure)) = &seen.no_id {
        let sudo = if subject.is_root { "" } else { "sudo " };
        let text = "the machine has no id, under which the journal is found: its log cannot be read, or not for long";
        return Check::failed(Code::LogReadable, text).seen(why).next(format!("{sudo}{cure}"));
    }
    if seen.lines > 0 {
        return Check::verified(Code::LogReadable, "its last lines can be read");
    }
    if seen.journald.is_some() {
        return Check::not_run(Code::LogReadable, "journald keeps nothing that could be read");
    }
    if let Some(error) = &seen.error {
        return Check::failed(Code::LogReadable, "the log cannot be read").seen(error).next(subject.logs());
    }
    match &seen.journal {
        _ if !installed => Check::not_run(Code::LogReadable, "nothing is installed"),
        Some(journal) if journal.readable => {
            Check::verified(Code::LogReadable, "it can be read, and has no line of this instance yet")
        }
        Some(journal) => Check::failed(Code::LogReadable, "no line of this instance can be read by this user")
            .seen(journal.explain(subject.scope, &subject.user))
            .next(format!("sudo usermod -aG systemd-journal {}", subject.user)),
        None if !seen.directory => {
            Check::failed(Code::LogReadable, "the directory of the log is gone, and launchd then starts nothing (78)")
                .next(subject.verb("install"))
        }
        None => Check::verified(Code::LogReadable, "there is no line yet"),
    }
}

fn kept(subject: &Subject, seen: &Seen) -> Check {
    let sudo = if subject.is_root { "" } else { "sudo " };
    let failed = |why: &str| Check::failed(Code::LogKept, why).severity(Severity::Warning);
    match &seen.journald {
        Some(Silence::Stopped) => {
            return failed("systemd-journald does not run: nothing that the service says is kept")
                .next(format!("{sudo}systemctl start systemd-journald.socket systemd-journald.service"));
        }
        Some(Silence::Setting(path, line, said)) => {
            let path = path.display();
            return failed("journald drops what the service says")
                .seen(format!("{path}:{line}: {said}"))
                .next(format!("{sudo}sed -i '{line}s/^/# /' {path} && {sudo}systemctl restart systemd-journald"));
        }
        None => {}
    }
    match seen.journal {
        None => Check::verified(Code::LogKept, "it is in files"),
        Some(Emptiness { persistent: true, .. }) => Check::verified(Code::LogKept, "the journal is on the disk"),
        Some(Emptiness { volatile: true, .. }) => {
            Check::failed(Code::LogKept, "the journal is in memory only: a reboot empties it")
                .next("sudo mkdir -p /var/log/journal && sudo journalctl --flush")
        }
        Some(_) => Check::failed(Code::LogKept, "no journal is kept on this machine")
            .next("grep -r Storage= /etc/systemd/journald.conf /etc/systemd/journald.conf.d"),
    }
}

fn size(subject: &Subject, seen: &Seen, settings: Option<&Settings>) -> Check {
    if seen.journal.is_some() {
        return Check::not_run(Code::LogSize, "the journal bounds itself");
    }
    let bound = settings.map_or(MUCH, |s| s.log_bounds.bytes.max(MUCH));
    match seen.files.iter().find(|(_, size)| *size > bound) {
        None => Check::verified(Code::LogSize, "no file is large"),
        Some((path, size)) => Check::failed(Code::LogSize, "a log file grew beyond its bound; a start shortens it")
            .seen(format!("{}: {} MiB", path.display(), size >> 20))
            .next(subject.verb("restart")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::Outcome;
    use super::super::tests::{find, subject};
    use super::*;

    fn all(seen: Seen) -> Vec<Check> {
        judge(&subject(), &Ok(seen), None, true)
    }

    #[test]
    fn pain_19_an_unreadable_or_fleeting_journal_is_told() {
        let journal = Emptiness { persistent: true, volatile: false, readable: false, loaded: true, since: false };
        let checks = all(Seen { journal: Some(journal), ..Seen::default() });
        let check = find(&checks, Code::LogReadable);
        assert_eq!(check.next.as_deref(), Some("sudo usermod -aG systemd-journal ann"));
        assert_eq!(find(&checks, Code::LogKept).outcome, Outcome::Verified);
        let volatile = Emptiness { persistent: false, volatile: true, readable: true, ..journal };
        let checks = all(Seen { journal: Some(volatile), lines: 3, ..Seen::default() });
        assert_eq!(find(&checks, Code::LogReadable).outcome, Outcome::Verified);
        assert_eq!(find(&checks, Code::LogKept).outcome, Outcome::Failed);
    }

    #[test]
    fn a_journald_that_keeps_nothing_is_told_by_its_file() {
        let text = "# /etc/systemd/journald.conf\n[Journal]\nStorage=auto\n\n# /etc/systemd/journald.conf.d/a.conf\n\
[Journal]\nStorage=none\n";
        let file = PathBuf::from("/etc/systemd/journald.conf.d/a.conf");
        assert_eq!(losing(text), Some((file.clone(), "Storage=none".to_owned())));
        assert_eq!(losing(&format!("{text}Storage=persistent\n")), None);
        assert_eq!(losing("# /a.conf\n#MaxLevelStore=crit\nMaxLevelStore=debug\nRateLimitBurst=10000\n"), None);
        assert_eq!(
            losing("# /a.conf\nMaxLevelStore=crit\n"),
            Some(("/a.conf".into(), "MaxLevelStore=crit".to_owned()))
        );
        let journald = Some(Silence::Setting(file, 3, "Storage=none".to_owned()));
        let checks = all(Seen { journal: Some(Emptiness::default()), journald, ..Seen::default() });
        let kept = find(&checks, Code::LogKept);
        assert_eq!(kept.evidence, ["/etc/systemd/journald.conf.d/a.conf:3: Storage=none"]);
        assert_eq!(find(&checks, Code::LogReadable).outcome, Outcome::NotRun, "no group would help");
    }

    #[test]
    fn pain_18_a_log_that_grows_on_a_mac_is_told() {
        let files = vec![(PathBuf::from("/l/8765.stderr.log"), 5 << 30)];
        let checks = all(Seen { lines: 5, files, directory: true, ..Seen::default() });
        assert_eq!(find(&checks, Code::LogSize).evidence, ["/l/8765.stderr.log: 5120 MiB"]);
        let gone = all(Seen { ..Seen::default() });
        assert!(find(&gone, Code::LogReadable).summary.contains("(78)"));
    }

    #[test]
    fn machine_without_an_id_is_told() {
        let no_id = Some(("/etc/machine-id is empty".to_owned(), "systemd-machine-id-setup".to_owned()));
        let checks = all(Seen { lines: 5, no_id, ..Seen::default() });
        let check = find(&checks, Code::LogReadable);
        assert_eq!(check.evidence, ["/etc/machine-id is empty"]);
        assert_eq!(check.next.as_deref(), Some("sudo systemd-machine-id-setup"));
    }
}
