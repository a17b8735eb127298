//! Looks for Claude MPM's daemon: its PID files where it leaves them, and who serves the ports.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::process::{self, Process};
use crate::build::PROGRAM;
use crate::config::settings::DEFAULT_PORT;
use daemon::ports::{self, Owner};

/// The folder of a project in which it keeps its files.
const FOLDER: &str = ".claude-mpm";
/// More than any process id has, bytes.
const LONGEST: u64 = 32;
/// The ports that clients search.
const PORTS: std::ops::RangeInclusive<u16> = 8765..=8785;
/// How long whoever serves a port may take to say who it is.
const LOOK: Duration = Duration::from_secs(2);

/// One PID file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PidFile {
    /// Where it is.
    pub path: PathBuf,
    /// The project whose it is.
    pub project: PathBuf,
    /// The port in its name; older ones have none.
    pub port: Option<u16>,
    /// What it says.
    pub said: Said,
    /// When it was written, seconds since 1970.
    pub written: u64,
}

/// What a PID file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// This process.
    Pid(u32),
    /// Something that is no process id.
    Nonsense(String),
    /// It cannot be read.
    Unreadable(String),
}

/// Everything that was found.
#[derive(Debug, Clone, Default)]
pub struct Found {
    /// Who looks.
    pub uid: u32,
    /// The one port that matters, if somebody said so.
    pub wanted: Option<u16>,
    /// The PID files.
    pub pid_files: Vec<PidFile>,
    /// The processes that they name, and those that serve the ports.
    pub processes: BTreeMap<u32, Process>,
    /// Who serves which port.
    pub served: BTreeMap<u16, Owner>,
    /// The directories that were searched.
    pub searched: Vec<PathBuf>,
}

/// Looks in the directories and above them, in the home, and where those processes are that serve the ports.
pub fn search(wanted: Option<u16>, directories: &[PathBuf]) -> Found {
    let mut found = Found { uid: rustix::process::geteuid().as_raw(), wanted, ..Found::default() };
    let mut seen = BTreeSet::new();
    for directory in directories {
        look_in(&mut found, &mut seen, directory);
    }
    let named = found.pid_files.iter().filter_map(|f| f.port).chain([wanted.unwrap_or(DEFAULT_PORT)]);
    let mut all: BTreeSet<u16> = named.collect();
    all.extend(PORTS);
    all.retain(|port| wanted.is_none_or(|wanted| wanted == *port));
    for port in all {
        let owner = [IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(Ipv6Addr::LOCALHOST)]
            .into_iter()
            .find_map(|address| ports::owner(&PROGRAM, address, port, LOOK));
        let Some(owner) = owner else { continue };
        if let Some(process) = owner.pid.and_then(process::look) {
            if matches!(owner.kind, ports::Kind::ClaudeMpm { .. } | ports::Kind::Silent)
                && let Some(cwd) = &process.cwd
            {
                look_in(&mut found, &mut seen, cwd);
            }
            found.processes.insert(process.pid, process);
        }
        found.served.insert(port, owner);
    }
    let named: Vec<u32> =
        found.pid_files.iter().filter_map(|f| if let Said::Pid(pid) = f.said { Some(pid) } else { None }).collect();
    found.processes.extend(named.into_iter().filter_map(|pid| Some((pid, process::look(pid)?))));
    found
}

fn look_in(found: &mut Found, seen: &mut BTreeSet<PathBuf>, directory: &Path) {
    let Ok(directory) = std::fs::canonicalize(directory) else { return };
    for project in directory.ancestors() {
        if !seen.insert(project.to_owned()) {
            return;
        }
        found.searched.push(project.to_owned());
        let entries = std::fs::read_dir(project.join(FOLDER)).into_iter().flatten().flatten();
        let mut files: Vec<PidFile> =
            entries.filter_map(|e| pid_file(project, &e.path(), e.file_name().to_str()?)).collect();
        files.retain(|f| found.wanted.is_none() || f.port.is_none() || f.port == found.wanted);
        files.sort_by(|a, b| a.path.cmp(&b.path));
        found.pid_files.extend(files);
    }
}

/// The port in the name of a PID file, as `Some(None)` where it is an older one without; `None` for any other file.
fn port_of(name: &str) -> Option<Option<u16>> {
    let middle = name.strip_prefix("monitor-daemon")?.strip_suffix(".pid")?;
    match middle.strip_prefix('-') {
        Some(port) => port.parse().ok().map(Some),
        None => middle.is_empty().then_some(None),
    }
}

fn pid_file(project: &Path, path: &Path, name: &str) -> Option<PidFile> {
    let port = port_of(name)?;
    let (said, written) = match read(path) {
        Ok((text, written)) => match text.trim().parse::<u32>().ok().filter(|pid| *pid > 0) {
            Some(pid) => (Said::Pid(pid), written),
            None => (Said::Nonsense(text), written),
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
        Err(error) => (Said::Unreadable(error.to_string()), 0),
    };
    Some(PidFile { path: path.to_owned(), project: project.to_owned(), port, said, written })
}

/// A small regular file, behind no link.
fn read(path: &Path) -> std::io::Result<(String, u64)> {
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let file = File::options().read(true).custom_flags(flags.bits().cast_signed()).open(path)?;
    let meta = file.metadata()?;
    if !meta.is_file() || meta.len() > LONGEST {
        return Err(std::io::Error::other("not a PID file: too long, or no regular file"));
    }
    let mut bytes = Vec::new();
    file.take(LONGEST).read_to_end(&mut bytes)?;
    Ok((String::from_utf8_lossy(&bytes).into_owned(), u64::try_from(meta.mtime()).unwrap_or(0)))
}

/// Removes a PID file that still says what it said.
///
/// # Errors
/// The system's; one that changed or is gone is none.
pub fn remove(file: &PidFile) -> std::io::Result<bool> {
    if pid_file(&file.project, &file.path, &file.path.file_name().unwrap_or_default().to_string_lossy()).as_ref()
        != Some(file)
    {
        return Ok(false);
    }
    std::fs::remove_file(&file.path)?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pid_files_of_both_ages_are_found_here_and_above() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        let (outer, inner) = (root.join(FOLDER), root.join("a/b/.claude-mpm"));
        for dir in [&outer, &inner] {
            std::fs::create_dir_all(dir).unwrap();
        }
        std::fs::write(outer.join("monitor-daemon.pid"), "4711\n").unwrap();
        std::fs::write(inner.join("monitor-daemon-8799.pid"), "x").unwrap();
        std::fs::write(inner.join("monitor-daemon-8798.pid"), "1".repeat(100)).unwrap();
        std::fs::write(inner.join("monitor-daemon-x.pid"), "7").unwrap();
        std::fs::write(inner.join("other.pid"), "7").unwrap();
        std::os::unix::fs::symlink("/etc/hostname", inner.join("monitor-daemon-8797.pid")).unwrap();
        let (mut found, mut seen) = (Found::default(), BTreeSet::new());
        look_in(&mut found, &mut seen, &root.join("a/b"));
        look_in(&mut found, &mut seen, &root.join("a/b"));
        let ours: Vec<_> = found.pid_files.iter().filter(|f| f.path.starts_with(&root)).collect();
        let ports: Vec<_> = ours.iter().map(|f| f.port).collect();
        assert_eq!(ports, [Some(8797), Some(8798), Some(8799), None], "{ours:?}");
        assert!(matches!(ours[0].said, Said::Unreadable(_)), "a link is not followed");
        assert!(matches!(ours[1].said, Said::Unreadable(_)));
        assert_eq!((&ours[2].said, &ours[3].said), (&Said::Nonsense("x".into()), &Said::Pid(4711)));
        assert_eq!((ours[3].project.as_path(), found.searched.contains(&root.join("a"))), (root.as_path(), true));
        // What changed meanwhile is another's.
        let old = ours[3].clone();
        std::fs::write(&old.path, "4712").unwrap();
        assert!(!remove(&old).unwrap() && old.path.exists());
        let ours = ours[2].clone();
        assert!(remove(&ours).unwrap() && !ours.path.exists());
        assert!(!remove(&ours).unwrap());
    }
}
