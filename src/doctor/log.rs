//! Where it logs.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use super::Subject;
use super::check::{Check, Code, Looked, none_of};
use crate::config::Settings;
use crate::service::journal::{self, Emptiness};
use crate::service::logfile;

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
        return Seen { journal: None, lines, error, files: files.collect(), directory };
    }
    let query = journal::Query::of(&subject.paths, subject.port, 5, None);
    let error = journal::read(&query, &mut |_| count(&mut lines)).err().map(|e| e.to_string());
    Seen { journal: Some(Emptiness::look(loaded, false)), lines, error, files: Vec::new(), directory: true }
}

/// Judges.
pub fn judge(subject: &Subject, seen: &Looked<Seen>, settings: Option<&Settings>, installed: bool) -> Vec<Check> {
    let seen = match seen {
        Ok(seen) => seen,
        Err(why) => return none_of(&[Code::LogReadable, Code::LogKept, Code::LogSize], why),
    };
    vec![readable(subject, seen, installed), kept(seen), size(subject, seen, settings)]
}

fn readable(subject: &Subject, seen: &Seen, installed: bool) -> Check {
    if seen.lines > 0 {
        return Check::verified(Code::LogReadable, "its last lines can be read");
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

fn kept(seen: &Seen) -> Check {
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
    fn pain_18_a_log_that_grows_on_a_mac_is_told() {
        let files = vec![(PathBuf::from("/l/8765.stderr.log"), 5 << 30)];
        let checks = all(Seen { lines: 5, files, directory: true, ..Seen::default() });
        assert_eq!(find(&checks, Code::LogSize).evidence, ["/l/8765.stderr.log: 5120 MiB"]);
        let gone = all(Seen { ..Seen::default() });
        assert!(find(&gone, Code::LogReadable).summary.contains("(78)"));
    }
}
