//! The port, and what others left about it: lock files, PID files, dead sockets.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::check::{Check, Code, Looked, none_of};
use super::rights::{Account, Need};
use super::{Fix, Subject};
use crate::build::PROGRAM;
use crate::config::Settings;
use crate::config::settings::AUTO_PORTS;
use crate::hooks::claude::settings::quoted;
use daemon::guarded::Guard;
use daemon::identity::start_time;
use daemon::probe;
use daemon::{lock, ports};
use service::Scope;
use service::exec::{self, QUICK};
use service::report::Facts;
use service::users::name_of;

/// What was seen.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// The first port that clients search and nobody has.
    pub free: Option<u16>,
    /// Whether a stranger on the port answers as the dashboard of Claude Orchestrator MCP, which takes the same port.
    pub orchestrator: bool,
    /// The socket units of others that listen on the port, each with the command that ends that.
    pub sockets: Vec<(String, String)>,
    /// Why nothing on this machine reaches 127.0.0.1.
    pub no_loopback: Option<String>,
    /// The first port that the kernel gives to others than root.
    pub free_from: u16,
    /// What is wrong with the instance's own lock file.
    pub lock: Option<(PathBuf, LockFault)>,
    /// Lock files that nobody holds.
    pub locks: Vec<PathBuf>,
    /// PID files of Claude MPM.
    pub pid_files: Vec<PidFile>,
    /// The Unix socket of the settings: whether somebody listens; `None` where there is no such file.
    pub socket: Option<(PathBuf, bool)>,
}

/// What can be wrong with a lock file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LockFault {
    /// There is none.
    Gone,
    /// It is a folder.
    Folder,
    /// The service's user may not open it, as it is this user's.
    Closed(String),
    /// What stands in the place of its folder is no folder, or is closed to the service's user.
    NoFolder(PathBuf),
}

/// One PID file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PidFile {
    /// Where.
    pub path: PathBuf,
    /// What it says; `None` where it cannot be read.
    pub content: Option<String>,
    /// How the process that it names is.
    pub names: Named,
}

/// The process that a PID file names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Named {
    /// There is one, and it was there before the file was written.
    Alive,
    /// There is none.
    Gone,
    /// There is one, but it began after the file was written: the number was given away again.
    Another,
    /// The file says no number, or cannot be read.
    Unknown,
}

/// Looks.
pub fn look(subject: &Subject, settings: Option<&Settings>, account: &Account) -> Seen {
    let runtime = settings.map_or_else(|| subject.paths.runtime_of(subject.port), |s| s.runtime_dir.clone());
    let mut folders: BTreeSet<PathBuf> = settings.map(|s| s.pid_files_in.iter().cloned().collect()).unwrap_or_default();
    folders.extend(std::env::current_dir());
    folders.extend(daemon::dirs::UserDirs::find(crate::build::PROGRAM.name).map(|d| d.home));
    let files = std::fs::read_dir(&runtime).into_iter().flatten().flatten();
    let locks = files.map(|e| e.path()).filter(|p| p.is_file() && p.extension().is_some_and(|x| x == "lock"));
    let socket = settings.and_then(|s| s.unix_socket.clone()).and_then(|path| {
        let is_socket = std::fs::symlink_metadata(&path).is_ok_and(|m| m.file_type().is_socket());
        let listens = is_socket && UnixStream::connect(&path).is_ok();
        is_socket.then_some((path, listens))
    });
    Seen {
        free: AUTO_PORTS.into_iter().find(|&p| TcpListener::bind((Ipv4Addr::LOCALHOST, p)).is_ok()),
        orchestrator: false,
        sockets: Vec::new(),
        free_from: free_from().unwrap_or(0),
        no_loopback: loopback().err().map(|e| e.to_string()),
        lock: lock_fault(&lock::path_of(&runtime, subject.port), account),
        locks: locks.filter(|p| lock::is_held(p) == Some(false)).collect(),
        pid_files: folders.iter().flat_map(|f| pid_files(&f.join(".claude-mpm"), subject.port)).collect(),
        socket,
    }
}

fn free_from() -> Option<u16> {
    std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").ok()?.trim().parse().ok()
}

/// Connects to a socket of this process on 127.0.0.1.
fn loopback() -> std::io::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    TcpStream::connect_timeout(&listener.local_addr()?, Duration::from_millis(500)).map(drop)
}

fn lock_fault(path: &Path, account: &Account) -> Option<(PathBuf, LockFault)> {
    let folder = path.parent().unwrap_or(path);
    let there = folder.ancestors().find(|a| a.symlink_metadata().is_ok());
    if let Some(at) = there.filter(|at| !at.is_dir()) {
        return Some((path.to_owned(), LockFault::NoFolder(at.to_owned())));
    }
    if let Some(at) = account.blocked(Need::Write, folder) {
        return Some((path.to_owned(), LockFault::NoFolder(at)));
    }
    let fault = match std::fs::symlink_metadata(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => LockFault::Gone,
        Err(_) => return None,
        Ok(meta) if meta.is_dir() => LockFault::Folder,
        Ok(meta) if account.may(Need::Write, path) == Some(false) => {
            LockFault::Closed(name_of(meta.uid()).unwrap_or_else(|| meta.uid().to_string()))
        }
        Ok(_) => return None,
    };
    Some((path.to_owned(), fault))
}

/// The socket units, of this user's manager and the machine's, that listen on a port: then systemd itself has it, and what it
/// started for them.
pub fn sockets(subject: &Subject) -> Vec<(String, String)> {
    let mut all = Vec::new();
    for (scope, systemctl) in [(Scope::System, "systemctl"), (Scope::User, "systemctl --user")] {
        let listed = exec::systemctl(scope, &["list-sockets", "--no-legend", "--plain"], QUICK);
        let listed = listed.and_then(exec::Output::success).unwrap_or_default();
        let sudo = if scope == Scope::System && !subject.is_root { "sudo " } else { "" };
        all.extend(listening(&listed, subject.port).map(|(unit, starts)| {
            let command = format!("{sudo}{systemctl} disable --now {unit} {starts}");
            (unit.to_owned(), command.trim_end().to_owned())
        }));
    }
    all
}

/// The units of others, and what they start, in the lines `ADDRESS UNIT ACTIVATES` of a port.
fn listening(listed: &str, port: u16) -> impl Iterator<Item = (&str, &str)> {
    listed.lines().filter_map(move |line| {
        let mut words = line.split_whitespace();
        let (address, unit) = (words.next()?, words.find(|w| w.ends_with(".socket"))?);
        let of_port = address.rsplit(':').next()?.parse() == Ok(port);
        (of_port && !unit.starts_with("mpm-monitor@")).then(|| (unit, words.next().unwrap_or_default()))
    })
}

/// Whether who answers on the port is the other dashboard that takes 8765 by default.
pub fn is_orchestrator(port: u16, limit: Duration) -> bool {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let ask = async {
        let address = std::net::SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let (status, body) = probe::get(address, "/openapi.json", &PROGRAM, limit).await.ok()?;
        let value: serde_json::Value = serde_json::from_slice(&body).ok().filter(|_| status == 200)?;
        Some(value["paths"].as_object()?.keys().any(|k| k.starts_with("/api/tmux/sessions")))
    };
    runtime.ok().and_then(|r| r.block_on(ask)) == Some(true)
}

/// Those of the port, and of versions that wrote no port into the name.
fn pid_files(folder: &Path, port: u16) -> Vec<PidFile> {
    let names = [format!("monitor-daemon-{port}.pid"), "monitor-daemon.pid".to_owned()];
    let files = names.into_iter().map(|n| folder.join(n));
    files.filter(|p| p.symlink_metadata().is_ok()).map(|p| pid_file(&p)).collect()
}

fn pid_file(path: &Path) -> PidFile {
    let meta = path.symlink_metadata().ok().filter(|m| m.is_file() && m.len() < 64);
    let content = meta.as_ref().and_then(|_| Guard::KEPT.text(path).ok().flatten());
    let pid = content.as_ref().and_then(|c| c.trim().parse::<u32>().ok()).filter(|&p| p > 0);
    let names = match (pid, meta) {
        (Some(pid), Some(meta)) => named(pid, meta.mtime()),
        _ => Named::Unknown,
    };
    PidFile { path: path.to_owned(), content, names }
}

fn named(pid: u32, written: i64) -> Named {
    let raw = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
    // EPERM means that there is one, of somebody else.
    if raw.is_none_or(|p| rustix::process::test_kill_process(p) == Err(rustix::io::Errno::SRCH)) {
        return Named::Gone;
    }
    match started(pid) {
        // A file's time and a process's are from different clocks; a minute is more than they differ.
        Some(began) if began > written + 60 => Named::Another,
        _ => Named::Alive,
    }
}

/// When a process began, in seconds since 1970; nothing without `/proc`.
fn started(pid: u32) -> Option<i64> {
    let stat = std::fs::read_to_string("/proc/stat").ok()?;
    let boot: i64 = stat.lines().find_map(|l| l.strip_prefix("btime "))?.trim().parse().ok()?;
    let ticks = i64::try_from(start_time(pid)?).ok()?;
    let per_second = i64::try_from(rustix::param::clock_ticks_per_second()).ok()?;
    Some(boot + ticks / per_second)
}

/// Judges.
pub fn judge(subject: &Subject, facts: &Looked<Facts>, seen: &Looked<Seen>) -> Vec<Check> {
    let mut checks = match facts {
        Err(why) => none_of(&[Code::PortOwner, Code::OtherMonitor], why),
        Ok(facts) => owner(subject, facts, seen.as_ref().ok()),
    };
    match seen {
        Err(why) => {
            checks.extend(none_of(&[Code::Lock, Code::StaleLock, Code::StalePidFiles, Code::DeadSocket], why));
        }
        Ok(seen) => {
            let own = own_lock(subject, facts, seen);
            checks.extend([own, stale_lock(seen), stale_pid_files(seen), dead_socket(facts, seen)]);
        }
    }
    checks
}

fn owner(subject: &Subject, facts: &Facts, seen: Option<&Seen>) -> Vec<Check> {
    let port = subject.port;
    if facts.health_error.as_deref().is_some_and(|e| e.starts_with("not asked")) {
        return none_of(&[Code::PortOwner, Code::OtherMonitor], "a look would start it through its socket");
    }
    if let Some(error) = seen.and_then(|s| s.no_loopback.as_ref()) {
        let sudo = if subject.is_root { "" } else { "sudo " };
        let check =
            Check::failed(Code::PortOwner, "nothing on this machine reaches 127.0.0.1: the interface lo is down")
                .seen(error)
                .next(format!("{sudo}ip link set lo up && {}", subject.verb("restart")));
        return vec![check, Check::not_run(Code::OtherMonitor, "nothing on this machine reaches 127.0.0.1")];
    }
    if let Some(from) = seen.map(|s| s.free_from).filter(|&from| port >= 1024 && port < from) {
        let sudo = if subject.is_root { "" } else { "sudo " };
        let key = "net.ipv4.ip_unprivileged_port_start";
        let check =
            Check::failed(Code::PortOwner, format!("the kernel gives no port below {from} to others than root"))
                .seen(format!("{key} is {from}"))
                .next(format!("{sudo}sysctl -w {key}=1024 && {}", subject.verb("restart")));
        return vec![check, Check::not_run(Code::OtherMonitor, "the kernel gives nobody the port")];
    }
    let nobody = |code| Check::verified(code, format!("nobody has port {port}"));
    let Some(owner) = &facts.owner else { return vec![nobody(Code::PortOwner), nobody(Code::OtherMonitor)] };
    let pid = facts.service.as_ref().and_then(|j| j.pid);
    let ours = match &owner.kind {
        ports::Kind::MpmMonitor { .. } => true,
        // A process of ours that hangs does not answer, and another check says so.
        _ => pid.is_some() && owner.pid == pid,
    };
    if ours {
        let text = format!("port {port} is mpm-monitor's");
        return vec![Check::verified(Code::PortOwner, &text), Check::verified(Code::OtherMonitor, text)];
    }
    let free = seen.and_then(|s| s.free);
    let elsewhere = || match free {
        Some(free) => subject.on(free).verb("install"),
        None => format!("mpm-monitor install {} --port PORT", subject.scope.flag()),
    };
    let from_sockets = |check: Check| {
        let sockets = seen.into_iter().flat_map(|s| &s.sockets);
        sockets.fold(check, |c, (unit, end)| c.seen(format!("systemd listens there for {unit}; `{end}` ends that")))
    };
    let not_other = || Check::verified(Code::OtherMonitor, "what has the port is no monitor that is known");
    match &owner.kind {
        ports::Kind::ClaudeMpm { version } => vec![
            Check::verified(Code::PortOwner, format!("port {port} is a monitor's")),
            Check::failed(Code::OtherMonitor, format!("Claude MPM's own monitor {version} has port {port}"))
                .seen(owner.to_string())
                .next(format!("claude-mpm monitor stop --port {port}")),
        ],
        _ if seen.is_some_and(|s| s.orchestrator) => vec![
            Check::verified(Code::PortOwner, format!("port {port} is a monitor's")),
            Check::failed(Code::OtherMonitor, format!("the dashboard of Claude Orchestrator MCP has port {port}"))
                .seen(owner.to_string())
                .next(elsewhere()),
        ],
        ports::Kind::Silent => vec![
            from_sockets(Check::failed(
                Code::PortOwner,
                format!("whoever has port {port} takes connections and does not answer"),
            ))
            .seen(owner.to_string())
            .next(elsewhere()),
            not_other(),
        ],
        _ => vec![
            from_sockets(Check::failed(Code::PortOwner, format!("port {port} belongs to another program")))
                .seen(owner.to_string())
                .seen("it is left alone; stop it yourself, or let the monitor have another port")
                .next(elsewhere()),
            not_other(),
        ],
    }
}

fn own_lock(subject: &Subject, facts: &Looked<Facts>, seen: &Seen) -> Check {
    let runs = facts.as_ref().is_ok_and(|f| f.service.as_ref().is_some_and(|j| j.pid.is_some()));
    let Some((path, fault)) = &seen.lock else { return Check::verified(Code::Lock, "it can be had") };
    let (shown, word, sudo) = (path.display(), quoted(&path.to_string_lossy()), subject.sudo());
    let restart = subject.verb("restart");
    match fault {
        LockFault::Gone if !runs => Check::verified(Code::Lock, "it is made at the start"),
        LockFault::Gone => {
            let folder = path.parent().filter(|d| !d.is_dir()).unwrap_or(path);
            let text =
                "its lock file is gone while it runs: nobody finds it by that, and a second one could take its place";
            Check::failed(Code::Lock, text).seen(format!("{} is gone", folder.display())).next(restart)
        }
        LockFault::Folder => {
            Check::failed(Code::Lock, "a folder stands in the place of its lock file: no start can succeed")
                .seen(shown.to_string())
                .next(format!("{sudo}mv {word} {word}.aside && {restart}"))
        }
        LockFault::NoFolder(at) => {
            let word = quoted(&at.to_string_lossy());
            let owner =
                std::fs::metadata(at).ok().map(|m| (name_of(m.uid()).unwrap_or_else(|| m.uid().to_string()), m));
            let text = "the folder of its lock file is no folder, or is closed to it: no start can succeed";
            let told = owner
                .map(|(name, m)| format!("{} belongs to {name} and has mode {:04o}", at.display(), m.mode() & 0o7777));
            told.into_iter()
                .fold(Check::failed(Code::Lock, text), Check::seen)
                .next(format!("{sudo}mv {word} {word}.aside && {restart}"))
        }
        LockFault::Closed(owner) => Check::failed(Code::Lock, "it may not open its lock file: no start can succeed")
            .seen(format!("{shown} belongs to {owner}"))
            .next(format!("{sudo}rm -f {word} && {restart}")),
    }
}

fn stale_lock(seen: &Seen) -> Check {
    match seen.locks.as_slice() {
        [] => Check::verified(Code::StaleLock, "none"),
        [first, ..] => {
            let check = Check::failed(Code::StaleLock, "a killed process left its lock file; nobody holds it")
                .next(format!("rm {}", first.display()));
            let told = |c: Check, p: &PathBuf| c.seen(p.display().to_string()).fix(Fix::RemoveLock { path: p.clone() });
            seen.locks.iter().fold(check, told)
        }
    }
}

fn stale_pid_files(seen: &Seen) -> Check {
    let stale: Vec<&PidFile> =
        seen.pid_files.iter().filter(|f| matches!(f.names, Named::Gone | Named::Another)).collect();
    let Some(first) = stale.first() else {
        return match seen.pid_files.iter().find(|f| f.names == Named::Unknown) {
            Some(file) => Check::not_run(Code::StalePidFiles, "a PID file cannot be read, which proves nothing")
                .seen(file.path.display().to_string()),
            None => Check::verified(Code::StalePidFiles, "none"),
        };
    };
    let check = Check::failed(Code::StalePidFiles, "Claude MPM's commands take a process for the monitor that is none")
        .next(format!("rm {}", first.path.display()));
    stale.iter().fold(check, |check, file| {
        let pid = file.content.as_deref().unwrap_or_default().trim();
        let what = if file.names == Named::Gone { "is gone" } else { "is a younger process" };
        let content = file.content.clone().unwrap_or_default();
        check
            .seen(format!("{}: pid {pid} {what}", file.path.display()))
            .fix(Fix::RemoveFile { path: file.path.clone(), content })
    })
}

fn dead_socket(facts: &Looked<Facts>, seen: &Seen) -> Check {
    match &seen.socket {
        None => Check::verified(Code::DeadSocket, "none is there"),
        Some((path, true)) => Check::verified(Code::DeadSocket, format!("{} takes connections", path.display())),
        Some((path, false)) => {
            let check = Check::failed(Code::DeadSocket, "nobody listens on it; the next start removes it")
                .seen(path.display().to_string());
            let runs = facts.as_ref().is_ok_and(|f| f.health.is_some());
            if runs { check.severity(super::Severity::Error) } else { check }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::Outcome;
    use super::super::tests::{find, job, subject};
    use super::*;
    use daemon::ports::Owner;

    fn all(owner: Option<Owner>, seen: Seen) -> Vec<Check> {
        judge(&subject(), &Ok(Facts { owner, service: Some(job(7)), ..Facts::default() }), &Ok(seen))
    }

    fn owned(kind: ports::Kind) -> Option<Owner> {
        Some(Owner { pid: Some(99), program: Some("python3".into()), kind })
    }

    #[test]
    fn pain_9_a_stranger_is_named_and_never_to_be_killed() {
        let checks = all(owned(ports::Kind::Foreign), Seen { free: Some(8766), ..Seen::default() });
        let check = find(&checks, Code::PortOwner);
        assert!(check.is_error() && check.evidence[0].contains("python3 (pid 99)"), "{check:?}");
        assert_eq!(check.next.as_deref(), Some("mpm-monitor install --user --port 8766"));
        assert!(checks.iter().all(|c| !c.next.as_deref().unwrap_or("").contains("kill")));
        let theirs = all(owned(ports::Kind::ClaudeMpm { version: "6.5".into() }), Seen::default());
        assert_eq!(find(&theirs, Code::OtherMonitor).next.as_deref(), Some("claude-mpm monitor stop --port 8765"));
        assert_eq!(find(&theirs, Code::PortOwner).outcome, Outcome::Verified);
        let dashboard =
            all(owned(ports::Kind::Foreign), Seen { orchestrator: true, free: Some(8766), ..Seen::default() });
        assert!(find(&dashboard, Code::OtherMonitor).summary.contains("Orchestrator"));
    }

    #[test]
    fn pain_7_stale_files_are_proved_before_they_are_called_so() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join(".claude-mpm");
        std::fs::create_dir(&folder).unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.join(name), text).unwrap();
        write("monitor-daemon.pid", "2147480000");
        write("monitor-daemon-8765.pid", &std::process::id().to_string());
        let files = pid_files(&folder, 8765);
        assert_eq!(files.iter().map(|f| f.names).collect::<Vec<_>>(), [Named::Alive, Named::Gone]);
        let checks = all(None, Seen { pid_files: files, ..Seen::default() });
        let check = find(&checks, Code::StalePidFiles);
        let path = folder.join("monitor-daemon.pid");
        assert_eq!(check.fixes, [Fix::RemoveFile { path, content: "2147480000".into() }]);
        // Written long before the process of that number began.
        #[cfg(target_os = "linux")]
        assert_eq!(named(std::process::id(), 0), Named::Another);
        write("monitor-daemon.pid", "no number");
        write("monitor-daemon-8765.pid", "");
        let checks = all(None, Seen { pid_files: pid_files(&folder, 8765), ..Seen::default() });
        assert_eq!(find(&checks, Code::StalePidFiles).outcome, Outcome::NotRun);
    }

    #[test]
    fn pain_8_a_dead_socket_is_an_error_only_beside_a_running_monitor() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let settings = Settings { unix_socket: Some(path.clone()), ..crate::config::settings::defaults() };
        let seen = look(&subject(), Some(&settings), &Account::Own);
        assert_eq!(seen.socket, Some((path, false)));
        let check = find(&all(None, seen), Code::DeadSocket).clone();
        assert!(check.outcome == Outcome::Failed && !check.is_error());
    }

    #[test]
    fn port_of_a_socket_unit_names_the_unit() {
        let listed = "127.0.0.1:8765 legacy.socket legacy.service\n[::]:87650 other.socket other.service\n\
127.0.0.1:8765 mpm-monitor@8765.socket mpm-monitor@8765.service\n/run/x:8765/s x.socket\n";
        assert_eq!(listening(listed, 8765).collect::<Vec<_>>(), [("legacy.socket", "legacy.service")]);
        let sockets = vec![("legacy.socket".to_owned(), "systemctl disable --now legacy.socket".to_owned())];
        for kind in [ports::Kind::Foreign, ports::Kind::Silent] {
            let checks = all(owned(kind), Seen { sockets: sockets.clone(), free: Some(8766), ..Seen::default() });
            let check = find(&checks, Code::PortOwner);
            assert!(check.evidence[0].contains("legacy.socket") && check.is_error(), "{check:?}");
            assert_eq!(check.next.as_deref(), Some("mpm-monitor install --user --port 8766"));
        }
    }

    #[test]
    fn a_socket_that_waits_is_not_asked() {
        let facts = Facts { health_error: Some("not asked: that would start it".into()), ..Facts::default() };
        let checks = judge(&subject(), &Ok(facts), &Ok(Seen::default()));
        assert_eq!(find(&checks, Code::PortOwner).outcome, Outcome::NotRun);
    }

    #[test]
    fn file_above_the_folder_of_the_lock_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("mpm-monitor");
        std::fs::write(&file, "").unwrap();
        let path = file.join("8765/8765.lock");
        assert_eq!(lock_fault(&path, &Account::Own), Some((path, LockFault::NoFolder(file))));
    }
}
