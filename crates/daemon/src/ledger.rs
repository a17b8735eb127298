//! The crash ledger: how the lives before this one ended.
//!
//! systemd counts restarts but forgets the reasons; launchd counts nothing. The ledger is a small file beside the events. A
//! life writes down that it begins, that it became ready, and how it ends; one that could not write its end was killed, and
//! the next life writes that for it.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::guarded::Guard;

/// The file, in the instance's state directory.
pub const FILE: &str = "ledger.json";

/// So many bad ends ...
pub const BURST: usize = 5;
/// ... within this time are a crash loop, where the manager counts none: as `StartLimitBurst=` of the units, and longer than
/// their interval, as launchd waits 10 s before each start (`ThrottleInterval`).
pub const INTERVAL: Duration = Duration::from_secs(120);

/// What the ledger says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Ledger {
    /// How many lives began.
    pub starts: u64,
    /// The starts in a row, up to the last, that became ready.
    pub consecutive_good: u64,
    /// The lives in a row, up to the last, that ended badly: in a crash, a stall, or before they were ready.
    pub consecutive_failures: u64,
    /// The parts of all lives so far that did not end by themselves when they were told to, and were cut off.
    #[serde(skip_serializing_if = "is_zero")]
    pub aborted_parts: u64,
    /// How the last bad life ended.
    pub last_failure: Option<Failure>,
    /// When the last lives that ended badly did so, at most [`BURST`] of them, oldest first.
    pub recent_failures: Vec<Timestamp>,
    /// Why launchd was told not to try again, until somebody starts it.
    pub gave_up: Option<Failure>,
    /// The life that runs now, or that ended without a word.
    pub life: Option<Life>,
}

/// A bad end.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Why.
    pub reason: String,
    /// When, in RFC 3339; for a life that ended without a word, when it was found out.
    pub at: Timestamp,
    /// The last sign of that life, where its end was found out later; it ended between the two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alive_at: Option<Timestamp>,
    /// Whether it had been ready.
    pub was_ready: bool,
    /// The exit code that tells why, where the process could not end with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<u8>,
}

impl Failure {
    /// When it was, in words.
    pub fn when(&self) -> String {
        match self.alive_at.filter(|alive| *alive < self.at) {
            Some(alive) => format!("between {alive} and {}", self.at),
            None => self.at.to_string(),
        }
    }
}

/// One life.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Life {
    /// Its process.
    pub pid: u32,
    /// Its boot.
    pub boot_id: String,
    /// When it began.
    pub since: Timestamp,
    /// Whether it became ready.
    pub ready: bool,
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// Now, to the second: nobody reads more of it.
pub fn now() -> Timestamp {
    let now = Timestamp::now();
    now.round(jiff::Unit::Second).unwrap_or(now)
}

impl Ledger {
    /// A new life begins. If the one before left no word, says so for it; `sign` is when its last sign was.
    pub fn begin(&mut self, pid: u32, boot_id: &str, now: Timestamp, sign: Option<Timestamp>) {
        if let Some(before) = self.life.take() {
            let how = if before.boot_id == boot_id {
                "killed, by the watchdog or another, or out of memory"
            } else {
                "the machine went down"
            };
            let when = if before.ready { "" } else { " before it was ready" };
            self.fail(format!("pid {} ended without a word{when}: {how}", before.pid), before.ready, now);
            if let Some(failure) = &mut self.last_failure {
                failure.alive_at = Some(sign.unwrap_or(before.since).max(before.since));
            }
        }
        // Whoever started it after it gave up has a reason to try again.
        if self.gave_up.take().is_some() {
            self.recent_failures.clear();
        }
        self.starts = self.starts.saturating_add(1);
        self.life = Some(Life { pid, boot_id: boot_id.to_owned(), since: now, ready: false });
    }

    /// This life became ready.
    pub fn ready(&mut self) {
        if let Some(life) = &mut self.life {
            life.ready = true;
        }
        self.consecutive_good = self.consecutive_good.saturating_add(1);
    }

    /// This life ends as it should.
    pub fn end(&mut self) {
        self.life = None;
        self.consecutive_failures = 0;
        self.recent_failures.clear();
    }

    /// Whether it fails so often that another try makes no sense.
    pub fn is_crash_loop(&self, now: Timestamp) -> bool {
        // In both directions: a clock that was set back makes no old end a recent one.
        let recent = |at: &&Timestamp| now.duration_since(**at).unsigned_abs() < INTERVAL;
        self.recent_failures.iter().filter(recent).count() >= BURST
    }

    /// The life of process `pid` ends, and no other follows by itself. It may not have begun yet: what another process has
    /// written down of its own stays.
    pub fn give_up(&mut self, pid: u32, reason: impl Into<String>, exit_code: u8, now: Timestamp) {
        let was_ready = self.life.take_if(|life| life.pid == pid).is_some_and(|l| l.ready);
        let exit_code = Some(exit_code);
        self.gave_up = Some(Failure { reason: reason.into(), at: now, alive_at: None, was_ready, exit_code });
    }

    /// This life ends badly.
    pub fn crash(&mut self, reason: impl Into<String>, now: Timestamp) {
        let ready = self.life.take().is_some_and(|l| l.ready);
        self.fail(reason.into(), ready, now);
    }

    fn fail(&mut self, reason: String, was_ready: bool, now: Timestamp) {
        self.consecutive_failures = self.consecutive_failures.saturating_add(1);
        if !was_ready {
            self.consecutive_good = 0;
        }
        self.recent_failures.push(now);
        let extra = self.recent_failures.len().saturating_sub(BURST);
        self.recent_failures.drain(..extra);
        self.last_failure = Some(Failure { reason, at: now, alive_at: None, was_ready, exit_code: None });
    }
}

/// The ledger's file. A ledger that cannot be read or written never stops the process: it is told to the log.
#[derive(Debug, Clone)]
pub struct LedgerFile {
    path: PathBuf,
}

impl LedgerFile {
    /// In this instance directory.
    pub fn in_dir(dir: &Path) -> Self {
        Self { path: dir.join(FILE) }
    }

    /// What it says; an unreadable one begins anew.
    pub fn read(&self) -> Ledger {
        match Guard::KEPT.text(&self.path) {
            Ok(Some(text)) => serde_json::from_str(&text).unwrap_or_else(|error| {
                tracing::warn!(%error, path = %self.path.display(), "the crash ledger is damaged; it begins anew");
                Ledger::default()
            }),
            Ok(None) => Ledger::default(),
            Err(error) => {
                tracing::warn!(%error, path = %self.path.display(), "cannot read the crash ledger; it begins anew");
                Ledger::default()
            }
        }
    }

    /// When the last sign of the life before was: it wrote this file or one beside it whose name begins with `prefix`.
    pub fn last_sign(&self, prefix: &str) -> Option<Timestamp> {
        let entries = std::fs::read_dir(self.path.parent()?).ok()?.flatten();
        let own = entries.filter(|e| {
            let name = e.file_name();
            name.to_str().is_some_and(|name| name == FILE || name.starts_with(prefix))
        });
        let latest = own.filter_map(|e| e.metadata().ok()?.modified().ok()).max()?;
        Timestamp::try_from(latest).ok()?.round(jiff::Unit::Second).ok()
    }

    /// Changes it, atomically: a reader sees the old or the new one.
    pub fn update(&self, change: impl FnOnce(&mut Ledger)) -> Ledger {
        let mut ledger = self.read();
        change(&mut ledger);
        if let Err(error) = self.write(&ledger) {
            tracing::warn!(%error, path = %self.path.display(), "cannot write the crash ledger");
        }
        ledger
    }

    fn write(&self, ledger: &Ledger) -> io::Result<()> {
        let dir = self.path.parent().unwrap_or(Path::new("/"));
        let mut file = tempfile::Builder::new().prefix(".ledger").tempfile_in(dir)?;
        serde_json::to_writer_pretty(&mut file, ledger)?;
        file.persist(&self.path)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn at_ten() -> Timestamp {
        "2026-11-22T10:00:00Z".parse().unwrap()
    }

    #[test]
    fn a_clock_that_is_set_makes_no_crash_loop() {
        let (day, mut ledger) = (jiff::SignedDuration::from_hours(24), Ledger::default());
        for _ in 0..BURST {
            ledger.begin(1, "boot", at_ten(), None);
            ledger.crash("panic", at_ten());
        }
        assert!(ledger.is_crash_loop(at_ten()));
        assert!(!ledger.is_crash_loop(at_ten() + day), "set forward by a day");
        assert!(!ledger.is_crash_loop(at_ten() - day), "set back by a day");
    }

    #[test]
    fn a_life_that_ends_well_leaves_no_failure() {
        let mut ledger = Ledger::default();
        ledger.begin(1, "b", at_ten(), None);
        ledger.ready();
        ledger.end();
        assert_eq!((ledger.starts, ledger.consecutive_good, ledger.consecutive_failures), (1, 1, 0));
        assert_eq!(ledger.last_failure, None);
    }

    #[test]
    fn a_killed_life_is_written_down_by_the_next() {
        let mut ledger = Ledger::default();
        ledger.begin(1, "b", at_ten(), None);
        ledger.ready();
        let at = |minute: i64| at_ten() + jiff::SignedDuration::from_mins(minute);
        ledger.begin(2, "b", at(7), Some(at(3)));
        let failure = ledger.last_failure.clone().unwrap();
        assert_eq!(
            failure.when(),
            "between 2026-11-22T10:03:00Z and 2026-11-22T10:07:00Z",
            "not when it was found out"
        );
        assert_eq!(failure.reason, "pid 1 ended without a word: killed, by the watchdog or another, or out of memory");
        assert_eq!((failure.was_ready, ledger.consecutive_failures, ledger.consecutive_good), (true, 1, 1));
        ledger.begin(3, "another boot", at(9), None);
        let failure = ledger.last_failure.clone().unwrap();
        assert_eq!(failure.alive_at, Some(at(7)), "it began then, and gave no other sign");
        assert_eq!(failure.reason, "pid 2 ended without a word before it was ready: the machine went down");
        assert_eq!((ledger.consecutive_failures, ledger.consecutive_good), (2, 0));
    }

    #[test]
    fn a_crash_says_why_and_a_good_end_ends_the_row() {
        let mut ledger = Ledger::default();
        for pid in 1..=3 {
            ledger.begin(pid, "b", at_ten(), None);
            ledger.ready();
            ledger.crash("panic in hub", at_ten());
        }
        assert_eq!((ledger.consecutive_failures, ledger.consecutive_good), (3, 3));
        ledger.begin(4, "b", at_ten(), None);
        ledger.ready();
        ledger.end();
        assert_eq!(ledger.consecutive_failures, 0);
        assert_eq!(ledger.last_failure.unwrap().reason, "panic in hub");
    }

    #[test]
    fn pain_10_five_bad_ends_in_two_minutes_are_a_crash_loop_until_somebody_tries_again() {
        let at = |second: i64| at_ten() + jiff::SignedDuration::from_secs(second);
        let mut ledger = Ledger::default();
        for n in 0..5 {
            assert!(!ledger.is_crash_loop(at(10 * n)), "after {n}");
            ledger.begin(1, "b", at(10 * n), None);
            ledger.crash("panic", at(10 * n + 1));
        }
        assert!(ledger.is_crash_loop(at(50)));
        assert!(!ledger.is_crash_loop(at(122)), "the first of them is long ago");
        ledger.begin(6, "b", at(50), None);
        ledger.give_up(6, "it failed 5 times", 70, at(50));
        assert_eq!(
            (ledger.life.clone(), ledger.gave_up.clone().unwrap().reason),
            (None, "it failed 5 times".to_owned())
        );
        ledger.begin(7, "b", at(60), None);
        assert!(ledger.gave_up.is_none() && !ledger.is_crash_loop(at(60)));
        ledger.ready();
        ledger.end();
        assert!(ledger.recent_failures.is_empty());
    }

    #[test]
    fn a_damaged_file_begins_anew() {
        let dir = tempfile::tempdir().unwrap();
        let file = LedgerFile::in_dir(dir.path());
        fs::write(dir.path().join(FILE), "{\"starts\":").unwrap();
        let ledger = file.update(|l| l.begin(1, "b", at_ten(), file.last_sign("events.db.journal-")));
        assert_eq!(ledger.starts, 1);
        assert_eq!(file.read(), ledger);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no temporary file is left");
    }

    #[test]
    fn only_what_the_process_itself_writes_is_a_sign_of_life() {
        let dir = tempfile::tempdir().unwrap();
        let file = LedgerFile::in_dir(dir.path());
        assert_eq!(file.last_sign("events.db.journal-"), None);
        let at = |minute: i64| at_ten() + jiff::SignedDuration::from_mins(minute);
        for (name, minute) in [(FILE, 1), ("events.db.journal-7", 3), ("events.db.journal-6", 2), ("events.db-wal", 9)]
        {
            let made = std::fs::File::create(dir.path().join(name)).unwrap();
            made.set_modified(at(minute).into()).unwrap();
        }
        assert_eq!(file.last_sign("events.db.journal-"), Some(at(3)));
    }
}
