//! What the program needs of its unit, and which lines of drop-ins take it away: a rule for each need, judged by what
//! systemd merged, not by what any one file says.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Subject;
use super::check::{Check, Code, Looked, Severity};
use super::merged::{self, Line, Merged};
use crate::hooks::claude::settings::quoted;
use daemon::dirs::UserDirs;
use service::Scope;
use service::exec::{self, QUICK};

/// What of the machine the rules need to know besides the unit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Around {
    /// Why the unit's user or group cannot be had.
    pub no_account: Vec<(&'static str, String)>,
    /// Files and folders that are not there, and the lines that name them.
    pub absent: Vec<(String, Line)>,
    /// Units that it needs and that are not there, or masked.
    pub no_units: Vec<String>,
    /// The program that install's unit runs.
    pub program: Option<PathBuf>,
    /// The socket of the instance, where one is in use.
    pub socket: Option<Merged>,
}

/// A need that is not met.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lack {
    /// The keys that can cause it; after `Environment` the variable.
    pub keys: &'static [&'static str],
    /// Why it matters.
    pub why: String,
    /// How bad it is.
    pub severity: Severity,
}

/// Looks at what the unit's own lines name.
pub fn look(subject: &Subject, unit: &Merged, program: Option<&Path>) -> Around {
    let mut around = Around { program: program.map(Path::to_owned), ..Around::default() };
    for (key, database, what) in [("User", "passwd", "no such user"), ("Group", "group", "no such group")] {
        let name = unit.get(key);
        let asked = exec::tool("getent", &[database, name], QUICK).ok().filter(|_| !name.is_empty());
        // getent(1): 2 means that there is none.
        if asked.is_some_and(|o| o.code == Some(2)) {
            around.no_account.push((key, format!("there is {what}: {name}")));
        }
    }
    around.absent = absent(subject, unit);
    let named = |key: &str| unit.setting(&[key]).into_iter().map(|l| l.value.clone()).collect::<Vec<_>>();
    for name in named("Requires").iter().chain(&named("BindsTo")).chain(&named("Requisite")) {
        for name in name.split_whitespace().filter(|n| !n.contains('%')) {
            let state = exec::systemctl(subject.scope, &["show", "-p", "LoadState", "--value", "--", name], QUICK);
            let state = state.and_then(exec::Output::success).unwrap_or_default();
            if matches!(state.trim(), "not-found" | "masked") {
                around.no_units.push(name.to_owned());
            }
        }
    }
    let socket = subject.paths.socket_name(subject.port).and_then(|name| merged::look(subject, &name).ok());
    around.socket = socket.filter(|s| s.get("UnitFileState") == "enabled" || s.get("ActiveState") == "active");
    around
}

/// What lines of the unit name and is not there, and the lines. What begins with a minus may be missing.
fn absent(subject: &Subject, unit: &Merged) -> Vec<(String, Line)> {
    let mut all = Vec::new();
    for key in ["WorkingDirectory", "EnvironmentFile", "LoadCredential", "ExecStart"] {
        let lines = unit.setting(&[key]);
        // An empty value takes back what stands before it.
        let from = lines.iter().rposition(|l| l.value.is_empty()).map_or(0, |at| at + 1);
        for line in lines.into_iter().skip(from) {
            let named = match key {
                "LoadCredential" => line.value.split_once(':').map_or("", |(_, path)| path),
                "ExecStart" => {
                    line.value.trim_start_matches(['@', ':', '+', '!']).split_whitespace().next().unwrap_or("")
                }
                _ => &line.value,
            };
            let path = expanded(subject, named).filter(|p| p.starts_with('/') && is_absent(Path::new(p)));
            all.extend(path.map(|path| (path, line.clone())));
        }
    }
    all
}

/// A path with its specifiers replaced, as systemd.unit(5) has them; `None` where one is not known here.
fn expanded(subject: &Subject, path: &str) -> Option<String> {
    let home = || Some(UserDirs::find(crate::build::PROGRAM.name)?.home.display().to_string());
    let (mut text, mut chars) = (String::new(), path.chars());
    while let Some(c) = chars.next() {
        if c != '%' {
            text.push(c);
            continue;
        }
        let value = match (chars.next()?, subject.scope) {
            ('%', _) => "%".to_owned(),
            ('i' | 'I', _) => subject.port.to_string(),
            ('n', _) => subject.unit(),
            ('h', Scope::User) => home()?,
            ('u', Scope::User) => subject.user.clone(),
            ('h', Scope::System) => "/root".to_owned(),
            ('t', Scope::System) => "/run".to_owned(),
            ('E', Scope::System) => "/etc".to_owned(),
            ('S', Scope::System) => "/var/lib".to_owned(),
            _ => return None,
        };
        text.push_str(&value);
    }
    Some(text)
}

/// Whether it is certain that there is nothing: what may not be looked at may be there.
pub fn is_absent(path: &Path) -> bool {
    std::fs::metadata(path).is_err_and(|e| e.kind() == std::io::ErrorKind::NotFound)
}

/// All needs that are not met, the worst first.
pub fn lacks(subject: &Subject, unit: &Merged, around: &Around) -> Vec<Lack> {
    let mut all = of_life(unit, around);
    all.extend(of_account(subject, unit, around));
    all.extend(of_files(subject, unit, around));
    all.extend(of_network(unit));
    all.extend(of_limits(unit));
    all.sort_by_key(|l| std::cmp::Reverse(l.severity));
    all
}

fn error(keys: &'static [&'static str], why: impl Into<String>) -> Lack {
    Lack { keys, why: why.into(), severity: Severity::Error }
}

fn warning(keys: &'static [&'static str], why: impl Into<String>) -> Lack {
    Lack { keys, why: why.into(), severity: Severity::Warning }
}

/// A span as systemd prints it; `None` for `infinity` and what is no span.
fn span(text: &str) -> Option<Duration> {
    humantime::parse_duration(text).ok()
}

/// Start, readiness, restart, end.
fn of_life(unit: &Merged, around: &Around) -> Vec<Lack> {
    let mut all = Vec::new();
    let kind = unit.get("Type");
    if !matches!(kind, "" | "notify" | "notify-reload") {
        let why = format!("with Type={kind} the manager learns neither when it is ready nor that it hangs");
        all.push(error(&["Type"], why));
    }
    let restart = unit.get("Restart");
    if matches!(restart, "no" | "on-success") {
        all.push(error(&["Restart"], format!("with Restart={restart} nothing starts it again after a crash")));
    }
    if unit.get("NotifyAccess") == "none" {
        all.push(error(&["NotifyAccess"], "with NotifyAccess=none its word that it is ready is not heard"));
    }
    if span(unit.get("TimeoutStartUSec")).is_some_and(|d| !d.is_zero() && d < Duration::from_secs(2)) {
        all.push(error(&["TimeoutStartSec", "TimeoutSec"], "it is ended before it can be ready"));
    }
    if span(unit.get("RuntimeMaxUSec")).is_some() {
        let why = format!("the manager ends it after {}", unit.get("RuntimeMaxUSec"));
        all.push(warning(&["RuntimeMaxSec"], why));
    }
    if matches!(unit.get("KillMode"), "none" | "process") {
        all.push(warning(&["KillMode"], "what it began would be left behind at a stop, and hold its port and files"));
    }
    if unit.get("StartLimitIntervalUSec") == "0" {
        all.push(warning(&["StartLimitIntervalSec", "StartLimitBurst"], "a crash loop would go on for ever"));
    }
    if unit.get("RefuseManualStart") == "yes" {
        all.push(error(&["RefuseManualStart"], "the manager starts it for nobody"));
    }
    // They are looked at when it starts; before, nothing is known.
    let looked = !matches!(unit.get("ConditionTimestampMonotonic"), "" | "0");
    if looked && (unit.get("ConditionResult") == "no" || unit.get("AssertResult") == "no") {
        all.push(error(CONDITIONS, "a condition of the unit does not hold, so the manager does not start it"));
    }
    for key in ["ExecStartPre", "ExecStartPost", "ExecCondition"] {
        for one in unit.get(key).lines().filter(|l| !l.contains("ignore_errors=yes")) {
            let status = field(one, "status=").and_then(|s| s.split('/').next()).unwrap_or("0");
            if field(one, "code=").is_some_and(|c| c != "(null)") && status != "0" {
                let command = field(one, "argv[]=").unwrap_or_default();
                let why = format!("`{command}` failed ({status}), so the start does");
                all.push(error(&["ExecStartPre", "ExecStartPost", "ExecCondition"], why));
            }
        }
    }
    let start = unit.get("ExecStart");
    let command = field(start, "argv[]=").unwrap_or_default();
    let runs_it = command.split_whitespace().any(|w| {
        Path::new(w).file_name().is_some_and(|n| n.to_string_lossy().starts_with("mpm-monitor"))
            || around.program.as_deref() == Some(Path::new(w))
    });
    if !start.is_empty() && !runs_it {
        all.push(error(&["ExecStart"], format!("it runs another program: `{command}`")));
    }
    if span(unit.get("WatchdogUSec")).is_some_and(|d| !d.is_zero() && d < Duration::from_secs(1)) {
        all.push(error(&["WatchdogSec"], "it is ended before a sign of life of it can come"));
    }
    for name in &around.no_units {
        all.push(error(&["Requires", "BindsTo", "Requisite"], format!("it needs {name}, which there is not")));
    }
    let env = unit.environment();
    if env.iter().any(|(name, _)| name == "MPM_MONITOR_FAILPOINT") {
        all.push(error(&["Environment", "MPM_MONITOR_FAILPOINT"], "MPM_MONITOR_FAILPOINT makes it fail on purpose"));
    }
    all
}

/// The part of `{ path=... ; argv[]=... ; ... }` that begins with this name.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.split(" ; ")
        .find_map(|part| part.trim_start_matches("{ ").strip_prefix(name))
        .map(|v| v.trim_end_matches(" }"))
}

/// Every condition there is.
const CONDITIONS: &[&str] = &[
    "ConditionPathExists",
    "ConditionPathExistsGlob",
    "ConditionPathIsDirectory",
    "ConditionPathIsMountPoint",
    "ConditionPathIsReadWrite",
    "ConditionPathIsSymbolicLink",
    "ConditionDirectoryNotEmpty",
    "ConditionFileNotEmpty",
    "ConditionFileIsExecutable",
    "ConditionUser",
    "ConditionGroup",
    "ConditionHost",
    "ConditionKernelCommandLine",
    "ConditionKernelVersion",
    "ConditionVirtualization",
    "ConditionArchitecture",
    "ConditionSecurity",
    "ConditionCapability",
    "ConditionACPower",
    "ConditionFirstBoot",
    "ConditionNeedsUpdate",
    "ConditionEnvironment",
    "ConditionMemory",
    "ConditionCPUs",
    "ConditionOSRelease",
    "ConditionFirmware",
    "AssertPathExists",
    "AssertPathExistsGlob",
    "AssertPathIsDirectory",
    "AssertPathIsMountPoint",
    "AssertPathIsReadWrite",
    "AssertPathIsSymbolicLink",
    "AssertDirectoryNotEmpty",
    "AssertFileNotEmpty",
    "AssertFileIsExecutable",
    "AssertUser",
    "AssertGroup",
    "AssertHost",
    "AssertVirtualization",
    "AssertACPower",
    "AssertEnvironment",
];

/// Whose rights it has.
fn of_account(subject: &Subject, unit: &Merged, around: &Around) -> Vec<Lack> {
    let mut all: Vec<Lack> = Vec::new();
    for (key, why) in &around.no_account {
        all.push(error(if *key == "User" { &["User"] } else { &["Group"] }, why));
    }
    if subject.scope == Scope::System && unit.get("LoadState") == "loaded" {
        match unit.get("User") {
            "root" | "" => {
                all.push(warning(&["User"], "with User=root every fault of it is root's; it needs no such right"));
            }
            "nobody" => {
                let why = "with User=nobody all that runs as nobody can read the events and end it";
                all.push(warning(&["User"], why));
            }
            _ => {}
        }
        if unit.get("DynamicUser") == "yes" {
            all.push(warning(&["DynamicUser"], "DynamicUser=yes hides /tmp, and with it the sockets of tmux"));
        }
        let has = |key: &str| unit.get(key).split_whitespace().any(|d| d.split('/').next() == Some("mpm-monitor"));
        if !unit.get("StateDirectory").is_empty() && !has("StateDirectory") {
            all.push(error(&["StateDirectory"], "it is given another folder than the one that it keeps events in"));
        }
    }
    all
}

/// The variables that say where a user's files are.
const HOMES: [&[&str]; 4] = [
    &["Environment", "HOME"],
    &["Environment", "XDG_CONFIG_HOME"],
    &["Environment", "XDG_RUNTIME_DIR"],
    &["Environment", "XDG_STATE_HOME"],
];

/// The program and the folders that it needs.
fn of_files(subject: &Subject, unit: &Merged, around: &Around) -> Vec<Lack> {
    let mut all = Vec::new();
    let env = unit.environment();
    for variable in HOMES.iter().filter(|_| subject.scope == Scope::User) {
        if let Some((name, value)) = env.iter().rev().find(|(n, _)| n == variable[1]) {
            let why = format!("with {name}={value} it looks for its files elsewhere than install and the doctor do");
            all.push(error(variable, why));
        }
    }
    let state = subject.paths.history(subject.port);
    let program = around.program.as_deref();
    let covers = |key: &str, path: Option<&Path>| {
        let paths = unit.get(key).split_whitespace().map(|p| p.trim_start_matches(['-', '+']));
        let mut paths = paths.map(|p| p.split(':').next().unwrap_or_default()).filter(|p| p.starts_with('/'));
        paths.any(|p| path.is_some_and(|path| path.starts_with(p)))
    };
    for (keys, key) in [
        (&["InaccessiblePaths", "InaccessibleDirectories"][..], "InaccessiblePaths"),
        (&["TemporaryFileSystem"], "TemporaryFileSystem"),
        (&["NoExecPaths"], "NoExecPaths"),
    ] {
        if covers(key, program) && !(key == "NoExecPaths" && covers("ExecPaths", program)) {
            all.push(error(keys, format!("{key} hides the program from the service")));
        } else if covers(key, Some(&state)) && key != "NoExecPaths" {
            all.push(error(keys, format!("{key} hides the folder of the events from the service")));
        }
    }
    if covers("ReadOnlyPaths", Some(&state)) && !covers("ReadWritePaths", Some(&state)) {
        let keys = &["ReadOnlyPaths", "ReadOnlyDirectories"];
        all.push(error(keys, "it may not write into the folder of its events"));
    }
    for key in ["RootDirectory", "RootImage"] {
        if !unit.get(key).is_empty() {
            let why = format!("{key} gives it another file system, without its program and folders");
            all.push(error(&["RootDirectory", "RootImage"], why));
        }
    }
    if subject.scope == Scope::User && !covers("ReadWritePaths", Some(&state)) {
        let home = unit.get("ProtectHome");
        if unit.get("ProtectSystem") == "strict" || matches!(home, "yes" | "read-only" | "tmpfs") {
            let why = "its events are kept in the home directory, where it may not write then";
            all.push(error(&["ProtectSystem", "ProtectHome"], why));
        }
    } else if matches!(unit.get("ProtectHome"), "yes" | "tmpfs")
        && program.is_some_and(|p| ["/home", "/root", "/run/user"].iter().any(|h| p.starts_with(h)))
    {
        all.push(error(&["ProtectHome"], "ProtectHome hides the program from the service"));
    }
    if level_of(unit.get("LogLevelMax")).is_some_and(|n| n < 6) {
        all.push(warning(&["LogLevelMax"], "what it says is thrown away, and no failure leaves a reason"));
    }
    if unit.get("StandardError") == "null" {
        all.push(warning(&["StandardError"], "a panic would leave no word"));
    }
    all
}

/// A level of syslog(3); `None` where none is set.
fn level_of(text: &str) -> Option<i32> {
    text.parse().ok().filter(|n| (0..=7).contains(n))
}

/// Who reaches it, and what it may reach.
fn of_network(unit: &Merged) -> Vec<Lack> {
    let mut all = Vec::new();
    let denies = unit.get("IPAddressDeny").split_whitespace().any(|a| a == "0.0.0.0/0" || a.starts_with("127."));
    if denies && !unit.get("IPAddressAllow").split_whitespace().any(|a| a.starts_with("127.") || a == "0.0.0.0/0") {
        let why = "the kernel lets no connection to 127.0.0.1 through";
        all.push(error(&["IPAddressAllow", "IPAddressDeny"], why));
    }
    let families = unit.get("RestrictAddressFamilies");
    let (names, denied) = families.strip_prefix('~').map_or((families, false), |n| (n, true));
    let has = |name: &str| names.split_whitespace().any(|n| n == name);
    // `none` is shown as nothing.
    let nothing = unit.setting(&["RestrictAddressFamilies"]).last().is_some_and(|l| l.value == "none");
    for (family, what) in [("AF_INET", "serve its port"), ("AF_UNIX", "tell the manager that it is ready")] {
        if (!names.is_empty() && has(family) == denied) || nothing {
            all.push(error(&["RestrictAddressFamilies"], format!("without {family} it cannot {what}")));
        }
    }
    if unit.get("PrivateNetwork") == "yes" || !unit.get("NetworkNamespacePath").is_empty() {
        let keys = &["PrivateNetwork", "NetworkNamespacePath"];
        all.push(error(keys, "it has a network of its own, where no client reaches it"));
    }
    if !unit.get("SocketBindDeny").is_empty() && unit.get("SocketBindAllow").is_empty() {
        all.push(error(&["SocketBindDeny"], "it may not listen on its port"));
    }
    let filter = unit.get("SystemCallFilter");
    let (names, denied) = filter.strip_prefix('~').map_or((filter, false), |n| (n, true));
    let has = |name: &str| names.split_whitespace().any(|n| n.split(':').next() == Some(name));
    let lacking: Vec<&str> = CALLS.iter().copied().filter(|c| !names.is_empty() && has(c) == denied).collect();
    if !lacking.is_empty() {
        let why = format!("it may not use system calls that it needs: {}", lacking.join(", "));
        all.push(error(&["SystemCallFilter"], why));
    }
    all
}

/// System calls of every architecture without which it does not get far.
const CALLS: [&str; 22] = [
    "accept4",
    "bind",
    "clone",
    "close",
    "connect",
    "epoll_ctl",
    "execve",
    "fdatasync",
    "flock",
    "fsync",
    "futex",
    "getrandom",
    "listen",
    "mmap",
    "munmap",
    "openat",
    "pread64",
    "pwrite64",
    "read",
    "recvfrom",
    "socket",
    "write",
];

/// How much it may have.
fn of_limits(unit: &Merged) -> Vec<Lack> {
    let below = |key: &str, least: u64| unit.get(key).parse::<u64>().ok().filter(|&n| n < least);
    let mut all = Vec::new();
    let limits: [(&str, &'static [&'static str], u64, &str); 7] = [
        ("MemoryMax", &["MemoryMax", "MemoryLimit"], 48 << 20, "of memory is too little: it is killed for it"),
        ("MemoryHigh", &["MemoryHigh"], 24 << 20, "of memory is too little: it is slowed down until it hangs"),
        ("TasksMax", &["TasksMax"], 32, "threads and processes are too few"),
        ("LimitNPROC", &["LimitNPROC"], 32, "threads and processes are too few"),
        ("LimitFSIZE", &["LimitFSIZE"], 256 << 20, "in a file are too little for the history"),
        ("LimitAS", &["LimitAS"], 512 << 20, "of addresses are too little"),
        ("LimitDATA", &["LimitDATA"], 64 << 20, "of data are too little"),
    ];
    for (key, keys, least, why) in limits {
        if let Some(found) = below(key, least) {
            let found = if least >= 1 << 20 { format!("{} KiB", found >> 10) } else { found.to_string() };
            all.push(error(keys, format!("{found} {why}")));
        }
    }
    if unit.get("LimitCPU").parse::<u64>().is_ok() {
        all.push(error(&["LimitCPU"], "it is killed when it has used that much time of the processor"));
    }
    if span(unit.get("CPUQuotaPerSecUSec")).is_some_and(|d| d < Duration::from_millis(50)) {
        let why = "so small a share of the processor makes it miss the watchdog";
        all.push(warning(&["CPUQuota"], why));
    }
    all
}

/// A failure of the manager, not of the program, that no rule explains.
fn unexplained(unit: &Merged) -> Option<String> {
    if unit.get("LoadState") == "bad-setting" {
        let said = unit.said.first().map_or("its settings do not go together", String::as_str);
        return Some(format!("the manager refuses the unit: {said}"));
    }
    if matches!(unit.get("ActiveState"), "active" | "reloading" | "inactive") {
        return None;
    }
    let (code, status) = (unit.get("ExecMainCode"), unit.get("ExecMainStatus").parse::<i32>().unwrap_or(0));
    match unit.get("Result") {
        // systemd.exec(5), "Process Exit Codes": a step before the program ran.
        "exit-code" if code == "1" && (200..=245).contains(&status) => {
            Some(format!("the manager could not run it (exit code {status}), and these lines are not install's"))
        }
        // waitid(2) and signal(7): 31 is SIGSYS, a call that the unit forbids.
        "signal" | "core-dump" if status == 31 => {
            Some("it used a system call that the unit forbids, and these lines are not install's".to_owned())
        }
        result @ ("resources" | "protocol" | "exec-condition" | "timeout" | "oom-kill") => {
            Some(format!("the manager could not start it ({result}), and these lines are not install's"))
        }
        _ => None,
    }
}

/// Judges: what systemd does not understand, then the needs that are not met, then what is only suspicious.
pub fn judge(subject: &Subject, unit: &Looked<Merged>, around: &Looked<Around>, installed: bool) -> Check {
    let code = Code::UnitSettings;
    let (unit, around) = match (unit, around) {
        (Ok(unit), Ok(around)) => (unit, around),
        (Err(why), _) | (_, Err(why)) => return Check::not_run(code, why),
    };
    if !installed || !matches!(unit.get("LoadState"), "loaded" | "bad-setting") {
        let why = if installed { "the manager has no unit to merge" } else { "nothing is installed" };
        return Check::not_run(code, why);
    }
    let is_the_managers = subject.sudo().is_empty();
    if let Some(path) = unit.unreadable.iter().find(|p| is_the_managers && unit.drop_ins.contains(p)) {
        let text = format!("a drop-in cannot be read, so systemd goes on without it: {}", path.display());
        let shown = quoted(&path.to_string_lossy());
        let (sudo, reread, restart) = (subject.sudo(), subject.reread(), subject.verb("restart"));
        return Check::failed(code, text).next(format!("{sudo}chmod 644 {shown} && {reread} && {restart}"));
    }
    let told = reasons(subject, unit, around);
    let Some((first, ..)) = told.first() else {
        return match unit.unreadable.is_empty() {
            true => Check::verified(code, "it has what the program needs"),
            false => Check::not_run(code, "a drop-in is root's to read").next(subject.doctor_as_root()),
        };
    };
    let check = Check::failed(code, first).severity(told[0].1);
    let check = told.iter().enumerate().fold(check, |check, (at, (why, _, lines))| {
        let check = if at == 0 || told[at - 1].0 == *why { check } else { check.seen(why) };
        lines.iter().fold(check, |c, l| c.seen(l.shown()))
    });
    let mut lines: Vec<(&Path, usize, usize)> =
        told.iter().flat_map(|(_, _, lines)| lines).map(|l| (l.file.as_path(), l.first, l.last)).collect();
    lines.sort_unstable();
    lines.dedup();
    check.next(Merged::without(subject, &lines))
}

/// What is wrong, how bad that is, and the lines that make it so.
fn reasons(subject: &Subject, unit: &Merged, around: &Around) -> Vec<(String, Severity, Vec<Line>)> {
    let mut told = Vec::new();
    for complaint in &unit.complaints {
        let at = unit.lines.iter().find(|l| l.file == complaint.file && (l.first..=l.last).contains(&complaint.line));
        let line =
            Line { file: complaint.file.clone(), first: complaint.line, last: complaint.line, ..Line::default() };
        let mut line = at.cloned().unwrap_or(line);
        line.value = format!("{} ({})", line.value, complaint.text);
        let why = "systemd does not understand a line, and goes on without it".to_owned();
        told.push((why, Severity::Error, vec![line]));
    }
    if let Some(socket) = &around.socket {
        let of_port = format!(":{} ", subject.port);
        let lines = socket.setting(&["ListenStream", "ListenDatagram"]);
        if !lines.is_empty() && !socket.get("Listen").lines().any(|l| l.contains(&of_port)) {
            let why = format!("its socket does not listen on port {}", subject.port);
            told.push((why, Severity::Error, lines.into_iter().cloned().collect()));
        }
    }
    for (path, line) in &around.absent {
        let why = format!("{path} is not there, and without it the start fails");
        // The empty one that took back install's has to go with the one that came in its place.
        let lines = if line.key == "ExecStart" { unit.setting(&["ExecStart"]) } else { vec![line] };
        told.push((why, Severity::Error, lines.into_iter().cloned().collect()));
    }
    for lack in lacks(subject, unit, around) {
        let found = match lack.keys {
            ["Environment", name] => unit.variable(name),
            keys => unit.setting(keys),
        };
        // The unit as install writes it has what it needs; without a line of others there is nothing to say here.
        if !found.is_empty() {
            told.push((lack.why, lack.severity, found.into_iter().cloned().collect()));
        }
    }
    if told.is_empty()
        && let Some(why) = unexplained(unit)
    {
        let suspects: Vec<Line> = unit.lines.iter().filter(|l| unit.drop_ins.contains(&l.file)).cloned().collect();
        if !suspects.is_empty() {
            told.push((why, Severity::Error, suspects));
        }
    }
    told
}

#[cfg(test)]
#[path = "needs_tests.rs"]
mod tests;
