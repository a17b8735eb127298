//! What the machine gives: files, memory, disk, time.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{StatVfsMountFlags, statvfs};

use super::Subject;
use super::check::{Check, Code, Looked, Severity};
use super::process;
use super::properties::Properties;
use crate::config::Settings;
use service::exec;

/// Less than this is an error: a segment of the journal and SQLite's own must fit.
const NO_ROOM: u64 = 64 << 20;
/// Less than this has no room for a lock file.
const LOCK_ROOM: u64 = 4 << 10;
/// Less than this is a warning.
const LITTLE_ROOM: u64 = 512 << 20;
/// How far ahead of the clock a file's time may be: file servers and virtual machines differ by seconds.
const AHEAD: i64 = 300;
/// How long a question may take whose answer is only worth knowing.
const SHORT: Duration = Duration::from_millis(800);
/// Files that the process has open besides connections: the store, the log, sockets, a folder that is served.
const OWN_FILES: u64 = 64;

/// What was seen.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// The directory of the events.
    pub state: PathBuf,
    /// The nearest directory that is there, and its file system.
    pub room: Option<Room>,
    /// The clock, in seconds since 1970.
    pub now: i64,
    /// The files with the latest time: the program, and what the service wrote.
    pub newest: Option<(PathBuf, i64)>,
    /// Whether the system calls its clock synchronized.
    pub synchronized: Option<bool>,
}

/// A file system.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Room {
    /// Free bytes for users.
    pub bytes: u64,
    /// Free inodes; `None` where the file system has no fixed number of them.
    pub inodes: Option<u64>,
    /// Whether it is mounted read-only.
    pub read_only: bool,
}

/// Looks.
pub fn look(state: PathBuf, runtime: &Path, program: Option<&Path>) -> Seen {
    let there = state.ancestors().find(|d| d.exists()).map(Path::to_owned);
    let written = std::fs::read_dir(&state).into_iter().flatten().flatten().map(|e| e.path());
    let files = written.chain(program.map(Path::to_owned)).take(1000);
    let newest = files.filter_map(|p| Some((p.clone(), std::fs::metadata(&p).ok()?.mtime()))).max_by_key(|(_, t)| *t);
    // It is a service of its own behind that, which may not come up; nothing depends on the answer.
    let synchronized = exec::tool("timedatectl", &["show", "-p", "NTPSynchronized", "--value"], SHORT).ok();
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    // The lock takes little, but not nothing.
    let full = room(runtime).filter(|r| r.bytes < LOCK_ROOM);
    Seen {
        room: full.or_else(|| there.as_deref().and_then(room)),
        state: if full.is_some() { runtime.to_owned() } else { state },
        now: now.tv_sec,
        newest,
        synchronized: synchronized.and_then(|o| match o.stdout.trim() {
            "yes" => Some(true),
            "no" => Some(false),
            _ => None,
        }),
    }
}

fn room(dir: &Path) -> Option<Room> {
    let fs = statvfs(dir).ok()?;
    Some(Room {
        bytes: fs.f_bavail.saturating_mul(fs.f_frsize),
        inodes: (fs.f_files > 0).then_some(fs.f_favail),
        read_only: fs.f_flag.contains(StatVfsMountFlags::RDONLY),
    })
}

/// Judges; `folder` is what [`super::state`] says of the folder of the events.
pub fn judge(
    subject: &Subject,
    running: &Looked<process::Seen>,
    properties: &Looked<Properties>,
    settings: Option<&Settings>,
    seen: &Looked<Seen>,
    folder: Vec<Check>,
) -> Vec<Check> {
    let mut checks = vec![open_files(subject, running, properties, settings), memory(subject, running, properties)];
    match seen {
        Err(why) => {
            checks.push(Check::not_run(Code::DiskSpace, why));
            checks.extend(folder);
            checks.push(Check::not_run(Code::Clock, why));
        }
        Ok(seen) => {
            checks.push(disk(seen));
            checks.extend(folder);
            checks.push(clock(subject, seen));
        }
    }
    checks
}

fn open_files(
    subject: &Subject,
    running: &Looked<process::Seen>,
    properties: &Looked<Properties>,
    settings: Option<&Settings>,
) -> Check {
    let main = running.as_ref().ok().map(|s| &s.main);
    let properties = properties.as_ref().ok();
    let limit = main.and_then(|m| m.files_max).or(properties.and_then(|p| p.files));
    let Some(limit) = limit else {
        return Check::not_run(Code::OpenFiles, "neither the process nor the manager tells its limit");
    };
    let wanted = settings.map_or(1024, |s| s.max_connections as u64) + OWN_FILES;
    let open = main.and_then(|m| m.files);
    let shown = open.map_or(format!("{limit} allowed"), |n| format!("{n} of {limit} open"));
    if open.is_some_and(|n| n * 10 > limit * 9) {
        return Check::failed(Code::OpenFiles, format!("{shown}: new connections will soon be refused"))
            .severity(Severity::Error)
            .next(subject.verb("restart"));
    }
    if limit < wanted {
        let text = format!("{shown}, but {wanted} may be needed (server.max_connections and its own)");
        let check = Check::failed(Code::OpenFiles, text);
        return match properties {
            Some(properties) => properties.blame(subject, check, &["LimitNOFILE"]),
            None => check.next(subject.edit_unit()),
        };
    }
    Check::verified(Code::OpenFiles, shown)
}

fn memory(subject: &Subject, running: &Looked<process::Seen>, properties: &Looked<Properties>) -> Check {
    let properties = properties.as_ref().ok();
    let resident = running.as_ref().ok().and_then(|s| s.main.resident);
    let mib = |bytes: u64| format!("{} MiB", bytes >> 20);
    let used = properties.and_then(|p| p.memory);
    match (properties.and_then(|p| p.memory_max), used.or(resident)) {
        (Some(max), Some(used)) if used * 10 > max * 9 => {
            let text = format!("{} of {} used: it will soon be killed for it", mib(used), mib(max));
            let check = Check::failed(Code::Memory, text);
            match properties {
                Some(properties) => properties.blame(subject, check, &["MemoryMax", "MemoryLimit"]),
                None => check.next(subject.edit_unit()),
            }
        }
        (Some(max), Some(used)) => Check::verified(Code::Memory, format!("{} of {} used", mib(used), mib(max))),
        (None, Some(used)) => Check::verified(Code::Memory, format!("{} used, no limit", mib(used))),
        (_, None) => Check::not_run(Code::Memory, "it does not run, or this system does not tell"),
    }
}

fn disk(seen: &Seen) -> Check {
    let Some(room) = seen.room else { return Check::not_run(Code::DiskSpace, "the file system does not tell") };
    let state = seen.state.display();
    let free = format!("{} MiB free at {state}", room.bytes >> 20);
    let next = format!("df -h {state}");
    if room.read_only {
        let text = format!("{state} is on a file system that is mounted read-only");
        Check::failed(Code::DiskSpace, text).next(format!("findmnt -T {state}"))
    } else if room.bytes < NO_ROOM {
        Check::failed(Code::DiskSpace, format!("{free}: events will not be accepted")).next(next)
    } else if room.inodes.is_some_and(|n| n < 100) {
        Check::failed(Code::DiskSpace, format!("no inodes left at {state}")).next(format!("df -i {state}"))
    } else if room.bytes < LITTLE_ROOM {
        Check::failed(Code::DiskSpace, free).severity(Severity::Warning).next(next)
    } else {
        Check::verified(Code::DiskSpace, free)
    }
}

/// So many seconds, as exact as a person would say it.
fn about(seconds: u64) -> Duration {
    let unit = match seconds {
        86_400.. => 3600,
        3600.. => 60,
        _ => 1,
    };
    Duration::from_secs((seconds + unit / 2) / unit * unit)
}

fn clock(subject: &Subject, seen: &Seen) -> Check {
    let sudo = subject.sudo();
    if let Some((path, time)) = seen.newest.as_ref().filter(|(_, t)| *t > seen.now + AHEAD) {
        let behind = humantime::format_duration(about((*time - seen.now).unsigned_abs()));
        return Check::failed(Code::Clock, format!("the clock is {behind} behind a file that was written already"))
            .seen(path.display().to_string())
            .next(format!("{sudo}timedatectl set-ntp true"));
    }
    match seen.synchronized {
        Some(false) => Check::failed(Code::Clock, "the system does not call its clock synchronized")
            .severity(Severity::Note)
            .next(format!("{sudo}timedatectl set-ntp true")),
        Some(true) => Check::verified(Code::Clock, "synchronized"),
        None => Check::verified(Code::Clock, "not behind what was written; whether it is synchronized, nobody tells"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::Outcome;
    use super::super::procs::Main;
    use super::super::tests::{find, subject};
    use super::*;

    fn fine() -> Seen {
        let room = Room { bytes: 1 << 40, inodes: Some(1 << 20), read_only: false };
        Seen { state: "/s".into(), room: Some(room), now: 1_800_000_000, synchronized: Some(true), ..Seen::default() }
    }

    fn all(main: Main, properties: Properties, seen: Seen) -> Vec<Check> {
        let running = process::Seen { main, ..process::Seen::default() };
        let settings = crate::config::settings::defaults();
        judge(&subject(), &Ok(running), &Ok(properties), Some(&settings), &Ok(seen), Vec::new())
    }

    #[test]
    fn files_memory_and_disk_have_their_bounds() {
        let main = |files_max, files| Main { files_max: Some(files_max), files: Some(files), ..Main::default() };
        let code = |main, properties, seen, code| find(&all(main, properties, seen), code).clone();
        let files = |main| code(main, Properties::default(), fine(), Code::OpenFiles);
        assert_eq!(files(main(16384, 20)).outcome, Outcome::Verified);
        let few = files(main(256, 20));
        assert_eq!((few.outcome, few.severity), (Outcome::Failed, Severity::Warning));
        assert!(few.next.unwrap().contains("systemctl --user edit mpm-monitor@8765"));
        assert_eq!(files(main(2000, 1900)).severity, Severity::Error);
        let memory = |memory| {
            let properties = Properties { memory_max: Some(100 << 20), memory: Some(memory), ..Properties::default() };
            code(Main::default(), properties, fine(), Code::Memory).outcome
        };
        assert_eq!((memory(20 << 20), memory(95 << 20)), (Outcome::Verified, Outcome::Failed));
        let disk = |bytes, read_only| {
            let seen = Seen { room: Some(Room { bytes, inodes: None, read_only }), ..fine() };
            let check = code(Main::default(), Properties::default(), seen, Code::DiskSpace);
            (check.outcome, check.severity)
        };
        assert_eq!(disk(1 << 20, false), (Outcome::Failed, Severity::Error));
        assert_eq!(disk(100 << 20, false), (Outcome::Failed, Severity::Warning));
        assert_eq!(disk(1 << 40, true), (Outcome::Failed, Severity::Error));
        assert_eq!(disk(1 << 40, false).0, Outcome::Verified);
    }

    #[test]
    fn a_clock_that_went_back_is_told_by_what_was_written_before() {
        let clock = |newest: i64| {
            let seen = Seen { newest: Some(("/s/ledger.json".into(), newest)), ..fine() };
            find(&all(Main::default(), Properties::default(), seen), Code::Clock).clone()
        };
        assert_eq!(clock(1_800_000_100).outcome, Outcome::Verified);
        let back = clock(1_800_086_400);
        assert_eq!(back.outcome, Outcome::Failed);
        assert!(back.summary.contains("1day behind"), "{back:?}");
    }

    #[test]
    fn this_machine_has_a_file_system() {
        let dir = tempfile::tempdir().unwrap();
        let room = room(dir.path()).unwrap();
        assert!(room.bytes > 0 && !room.read_only, "{room:?}");
    }
}
