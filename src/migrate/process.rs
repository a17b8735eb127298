//! What can be known of a process, from `/proc` where there is one, else from `ps` and `lsof`.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use daemon::identity;
use service::exec;

/// Ticks of `/proc/PID/stat` in a second; the kernel shows programs no other number.
const TICKS: u64 = 100;
/// The variables that matter to Claude MPM and hold no secrets.
const VARIABLES: [&str; 9] = [
    "CLAUDE_MPM_MONITOR_TIMEOUT",
    "CLAUDE_MPM_SOCKETIO_PORT",
    "CLAUDE_MPM_USER_PWD",
    "HOME",
    "LANG",
    "LC_ALL",
    "PATH",
    "PYTHONPATH",
    "VIRTUAL_ENV",
];

/// One process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// Whose it is.
    pub uid: u32,
    /// When it began, in the system's own words: with the number, this one and no later one.
    pub mark: String,
    /// The same in seconds since 1970, where it is known.
    pub began: Option<u64>,
    /// What it was started as.
    pub words: Vec<String>,
    /// Where it is.
    pub cwd: Option<PathBuf>,
    /// Some of its environment.
    pub variables: Vec<(String, String)>,
}

/// What is known of the process of that number, if there is one that runs.
pub fn look(pid: u32) -> Option<Process> {
    if Path::new("/proc/self/stat").exists() { from_proc(pid) } else { from_ps(pid) }
}

/// Whether that very process still runs.
pub fn is_there(process: &Process) -> bool {
    look(process.pid).is_some_and(|now| now.mark == process.mark)
}

fn from_proc(pid: u32) -> Option<Process> {
    let dir = PathBuf::from(format!("/proc/{pid}"));
    let words = zero_separated(&dir.join("cmdline")).unwrap_or_default();
    let ticks = identity::start_time(pid)?;
    let uid = std::fs::metadata(&dir).ok()?.uid();
    let stat = std::fs::read_to_string(dir.join("stat")).ok()?;
    // A zombie has ended; only its parent has not looked.
    if stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with(['Z', 'X'])) {
        return None;
    }
    let boot = std::fs::read_to_string("/proc/stat")
        .ok()
        .and_then(|text| text.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse::<u64>().ok()));
    let variables = zero_separated(&dir.join("environ")).unwrap_or_default();
    let pair = |line: String| line.split_once('=').map(|(n, v)| (n.to_owned(), v.to_owned()));
    Some(Process {
        pid,
        uid,
        mark: ticks.to_string(),
        began: boot.map(|boot| boot + ticks / TICKS),
        words,
        cwd: std::fs::read_link(dir.join("cwd")).ok(),
        variables: variables.into_iter().filter_map(pair).filter(|(n, _)| VARIABLES.contains(&n.as_str())).collect(),
    })
}

fn zero_separated(path: &Path) -> Option<Vec<String>> {
    let bytes = std::fs::read(path).ok()?;
    let text = String::from_utf8_lossy(bytes.strip_suffix(b"\0").unwrap_or(&bytes)).into_owned();
    if text.is_empty() { None } else { Some(text.split('\0').map(str::to_owned).collect()) }
}

fn from_ps(pid: u32) -> Option<Process> {
    let number = pid.to_string();
    let words = ["-ww", "-o", "uid=,stat=,lstart=,command=", "-p", number.as_str()];
    let said = exec::tool("ps", &words, exec::QUICK).ok().filter(|o| o.code == Some(0))?;
    let mut process = parse_ps(pid, &said.stdout)?;
    let words = ["-a", "-d", "cwd", "-F", "n", "-p", number.as_str()];
    let said = exec::tool("lsof", &words, exec::QUICK).ok();
    process.cwd = said.and_then(|o| o.stdout.lines().find_map(|l| l.strip_prefix('n')).map(PathBuf::from));
    Some(process)
}

/// `  501 S    Sun Nov 22 10:15:42 2026     /v/bin/python -m x`: arguments with spaces come apart, so that it says less than
/// `/proc` does.
fn parse_ps(pid: u32, text: &str) -> Option<Process> {
    let mut words = text.lines().next()?.split_whitespace();
    let uid = words.next()?.parse().ok()?;
    if words.next()?.starts_with('Z') {
        return None;
    }
    let mark: Vec<&str> = words.by_ref().take(5).collect();
    if mark.len() < 5 {
        return None;
    }
    let words: Vec<String> = words.map(str::to_owned).collect();
    let began = jiff::fmt::strtime::parse("%a %b %d %H:%M:%S %Y", mark.join(" ")).ok();
    let began = began.and_then(|t| t.to_datetime().ok()?.to_zoned(jiff::tz::TimeZone::system()).ok());
    let began = began.and_then(|t| u64::try_from(t.timestamp().as_second()).ok());
    Some(Process { pid, uid, mark: mark.join(" "), began, words, cwd: None, variables: Vec::new() })
}

/// Asks that very process to end, or with `kill` makes it.
///
/// # Errors
/// When it may not be signalled; that it is gone is none.
pub fn end(process: &Process, kill: bool) -> io::Result<()> {
    use rustix::process::Signal;
    let signal = if kill { Signal::KILL } else { Signal::TERM };
    match send(process, signal) {
        Err(rustix::io::Errno::SRCH) => Ok(()),
        other => Ok(other?),
    }
}

fn pid_of(process: &Process) -> rustix::io::Result<rustix::process::Pid> {
    let pid = i32::try_from(process.pid).ok().and_then(rustix::process::Pid::from_raw);
    pid.ok_or(rustix::io::Errno::SRCH)
}

/// Between the look and the signal the number could change hands; a descriptor of the process cannot.
#[cfg(target_os = "linux")]
fn send(process: &Process, signal: rustix::process::Signal) -> rustix::io::Result<()> {
    use rustix::process::{PidfdFlags, pidfd_open, pidfd_send_signal};
    let held = pidfd_open(pid_of(process)?, PidfdFlags::empty())?;
    if is_there(process) { pidfd_send_signal(held, signal) } else { Err(rustix::io::Errno::SRCH) }
}

#[cfg(not(target_os = "linux"))]
fn send(process: &Process, signal: rustix::process::Signal) -> rustix::io::Result<()> {
    let pid = pid_of(process)?;
    if is_there(process) { rustix::process::kill_process(pid, signal) } else { Err(rustix::io::Errno::SRCH) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn a_process_is_known_by_number_and_start_and_ended_by_no_other_mark() {
        let mut child = Command::new("sleep")
            .arg("600")
            .current_dir("/")
            .env("PATH", "/usr/bin:/bin")
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let found = look(child.id()).unwrap();
        assert_eq!(
            (found.uid, found.words.last().map(String::as_str)),
            (rustix::process::getuid().as_raw(), Some("600"))
        );
        assert!(is_there(&found));
        // One that began at another time has the number no more.
        let other = Process { mark: "1".into(), ..found.clone() };
        assert!(!is_there(&other));
        end(&other, true).unwrap();
        assert!(child.try_wait().unwrap().is_none(), "a stranger was ended");
        end(&found, false).unwrap();
        child.wait().unwrap();
        assert!(!is_there(&found) && look(child.id()).is_none());
        end(&found, false).unwrap();
    }

    #[test]
    fn ps_and_proc_say_the_same() {
        let Ok(ps) = exec::find("ps") else { return };
        if !Path::new("/proc/self/stat").exists() {
            return;
        }
        let pid = std::process::id();
        let words = ["-ww", "-o", "uid=,stat=,lstart=,command=", "-p", &pid.to_string()].map(str::to_owned);
        let text = exec::program(&ps, &words, exec::QUICK).unwrap().stdout;
        let (ps, proc) = (parse_ps(pid, &text).unwrap(), from_proc(pid).unwrap());
        assert_eq!((ps.uid, &ps.words[0]), (proc.uid, &proc.words[0]));
        let apart = ps.began.unwrap().abs_diff(proc.began.unwrap());
        assert!(apart <= 2, "{apart} s apart: {text}");
    }

    #[test]
    fn the_words_of_a_macs_ps() {
        let text = "  501 Ss   Sun Nov 22 10:15:42 2026     /v/Python -m claude_mpm.cli monitor start --port 8765\n";
        let found = parse_ps(7, text).unwrap();
        assert_eq!((found.uid, found.mark.as_str(), found.words.len()), (501, "Sun Nov 22 10:15:42 2026", 7));
        assert!(crate::migrate::command::monitor(&found.words).is_some_and(|i| i.port == Some(8765)));
        assert_eq!(parse_ps(7, "501 Z Sun Nov 22 10:15:42 2026 (python)"), None);
        assert_eq!((parse_ps(7, ""), parse_ps(7, "x y"), parse_ps(7, "501 S Sun Nov")), (None, None, None));
    }
}
