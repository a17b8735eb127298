//! What the program needs of its unit, and which lines of drop-ins take it away: a rule for each need, judged by what
//! systemd merged, not by what any one file says.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::Subject;
use super::check::{Check, Code, Group, Looked, Severity};
use super::merged::{self, Line, Merged};
use super::rights::Need;
use super::rules::broken;
use super::walls;
use crate::config::flags::Run;
use crate::hooks::claude::settings::quoted;
use clap::Parser as _;
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
    /// Units that it needs and cannot have, and why.
    pub no_units: Vec<(String, &'static str)>,
    /// Units that run, and that it cannot run beside.
    pub rivals: Vec<String>,
    /// Units whose start has to end before its own, and does not.
    pub awaited: Vec<String>,
    /// The groups of units that it is in, whose limits are its own, too; each with the manager that keeps it.
    pub slices: Vec<(Scope, Merged)>,
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
    let is_down = !matches!(unit.get("ActiveState"), "active" | "reloading");
    for line in unit.setting(NEEDED) {
        for name in line.value.split_whitespace().filter(|n| !n.contains('%')) {
            let words = ["show", "-p", "LoadState", "-p", "ActiveState", "--value", "--", name];
            let state = exec::systemctl(subject.scope, &words, QUICK).and_then(exec::Output::success);
            let state = state.unwrap_or_default();
            let mut states = state.lines();
            let how = match (states.next().unwrap_or_default(), states.next().unwrap_or_default()) {
                ("not-found", _) => "there is not",
                ("masked", _) => "is masked",
                (_, "failed") if is_down => "failed",
                (_, "inactive") if is_down => "does not run",
                _ => continue,
            };
            around.no_units.push((name.to_owned(), how));
        }
    }
    if is_down {
        let asks = |words: &[&str]| exec::systemctl(subject.scope, words, QUICK).and_then(exec::Output::success);
        let named = [unit.get("ConflictedBy"), unit.get("Conflicts")];
        let runs = |name: &&str| asks(&["show", "-P", "ActiveState", "--", name]).is_ok_and(|s| s.trim() == "active");
        let rivals = named.into_iter().flat_map(str::split_whitespace).filter(runs);
        around.rivals = rivals.map(str::to_owned).collect();
        let jobs = asks(&["list-jobs", "--no-legend", "--plain"]).unwrap_or_default();
        around.awaited = awaited(&jobs, &unit.unit, unit.get("After"));
    }
    around.slices = slices(subject, unit);
    let socket = subject.paths.socket_name(subject.port).and_then(|name| merged::look(subject, &name).ok());
    around.socket = socket.filter(|s| s.get("UnitFileState") == "enabled" || s.get("ActiveState") == "active");
    around
}

/// The units that the start of this one waits for, in the lines `JOB UNIT TYPE STATE` of `systemctl list-jobs`.
fn awaited(jobs: &str, unit: &str, after: &str) -> Vec<String> {
    let jobs = jobs.lines().filter_map(|l| {
        let mut words = l.split_whitespace().skip(1);
        Some((words.next()?, words.next()?, words.next()?))
    });
    let jobs: Vec<(&str, &str, &str)> = jobs.collect();
    let waits = jobs.iter().any(|(name, _, state)| *name == unit && *state == "waiting");
    let names = jobs.iter().map(|(name, ..)| *name).filter(|n| waits && after.split_whitespace().any(|a| a == *n));
    names.map(str::to_owned).collect()
}

/// The slices that the unit is in, and for a user's unit those of the user's manager.
fn slices(subject: &Subject, unit: &Merged) -> Vec<(Scope, Merged)> {
    let mut all = Vec::new();
    let uid = rustix::process::getuid().as_raw();
    let mut next = vec![(subject.scope, unit.get("Slice").to_owned())];
    if subject.scope == Scope::User {
        next.push((Scope::System, format!("user@{uid}.service")));
    }
    while let Some((scope, name)) = next.pop().filter(|_| all.len() < 8) {
        let keeper = Subject { scope, ..subject.clone() };
        // Lines of files that nobody changed are not looked for in what limits nothing.
        let Some(found) = Some(name).filter(|n| !n.is_empty()).and_then(|n| merged::show(&keeper, &n).ok()) else {
            continue;
        };
        next.push((scope, found.get("Slice").to_owned()));
        all.push((scope, found));
    }
    all
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
    let mut all = of_life(subject, unit, around);
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

/// Start, readiness, restart, end.
fn of_life(subject: &Subject, unit: &Merged, around: &Around) -> Vec<Lack> {
    let mut all: Vec<Lack> = broken(unit).collect();
    // They are looked at when it starts; before, nothing is known.
    let looked = !matches!(unit.get("ConditionTimestampMonotonic"), "" | "0");
    if looked && (unit.get("ConditionResult") == "no" || unit.get("AssertResult") == "no") {
        let keys = &["Condition*", "Assert*"];
        all.push(error(keys, "a condition of the unit does not hold, so the manager does not start it"));
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
    let command = field(unit.get("ExecStart"), "argv[]=").unwrap_or_default();
    all.extend(wrong_command(subject, command, around).map(|why| error(&["ExecStart"], why)));
    for (name, how) in &around.no_units {
        all.push(error(NEEDED, format!("it needs {name}, which {how}")));
    }
    let env = unit.environment();
    if env.iter().any(|(name, _)| name == "MPM_MONITOR_FAILPOINT") {
        all.push(error(&["Environment", "MPM_MONITOR_FAILPOINT"], "MPM_MONITOR_FAILPOINT makes it fail on purpose"));
    }
    all
}

/// The keys that name units without which it does not run.
const NEEDED: &[&str] = &["Requires", "BindsTo", "Requisite"];
/// The keys that name units whose start goes before its own, or that bring them along.
const WAITED: &[&str] = &["After", "Wants", "Requires", "BindsTo", "Requisite"];

/// The command line of a unit.
#[derive(Debug, clap::Parser)]
#[command(name = "mpm-monitor")]
struct Command {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    Run(Box<Run>),
    #[command(external_subcommand)]
    Other(Vec<String>),
}

/// Why a command does not run the monitor on its port, by this program's own reading of it.
fn wrong_command(subject: &Subject, command: &str, around: &Around) -> Option<String> {
    let words: Vec<&str> = command.split_whitespace().collect();
    let is_ours = |w: &&str| {
        Path::new(w).file_name().is_some_and(|n| n.to_string_lossy().starts_with("mpm-monitor"))
            || around.program.as_deref() == Some(Path::new(w))
    };
    if !words.is_empty() && !words.iter().any(is_ours) {
        return Some(format!("it runs another program: `{command}`"));
    }
    // Behind another program the words may have another meaning.
    words.first().filter(|w| is_ours(w))?;
    match Command::try_parse_from(&words) {
        Err(e) => {
            let said = e.to_string();
            let said = said.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned();
            Some(format!("the program does not understand `{command}`: {said}"))
        }
        Ok(Command { verb: Verb::Run(run) }) => match run.port {
            Some(port) if port != subject.port.to_string() => Some(format!(
                "it serves port {port}; of the unit {} everybody expects {}",
                subject.unit(),
                subject.port
            )),
            _ => None,
        },
        Ok(Command { verb: Verb::Other(words) }) => Some(format!("`{}` does not serve", words.join(" "))),
    }
}

/// The part of `{ path=... ; argv[]=... ; ... }` that begins with this name.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.split(" ; ")
        .find_map(|part| part.trim_start_matches("{ ").strip_prefix(name))
        .map(|v| v.trim_end_matches(" }"))
}

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

/// The program and the folders that it needs.
fn of_files(subject: &Subject, unit: &Merged, around: &Around) -> Vec<Lack> {
    let mut all = Vec::new();
    let env = unit.environment();
    for (keys, expected) in places(subject) {
        let given = env.iter().rev().find(|(n, _)| n == keys[1]).map(|(_, value)| Path::new(value));
        let is_expected = match given {
            Some(value) => value == expected,
            // The unit of the machine's manager names them; in that of a user the account does.
            None => subject.scope == Scope::User || unit.get("LoadState") != "loaded",
        };
        if !is_expected {
            let value = given.map_or("not set".to_owned(), |v| v.display().to_string());
            let why =
                format!("with {} {value} it looks for its files elsewhere than install and the doctor do", keys[1]);
            all.push(error(keys, why));
        }
    }
    let (state, runtime) = (subject.paths.history(subject.port), subject.paths.runtime_of(subject.port));
    for (what, need, path) in [
        ("program", Need::Pass, around.program.as_ref()),
        ("folder of the events", Need::Write, Some(&state)),
        ("folder of the lock", Need::Write, Some(&runtime)),
    ] {
        let wall = path.and_then(|path| walls::between(unit, need, path));
        all.extend(wall.map(|wall| error(wall.keys, format!("{} keeps the {what} from the service", wall.shown))));
    }
    all
}

/// The variables that say where its files are, and what they say where install's unit runs.
fn places(subject: &Subject) -> Vec<(&'static [&'static str], PathBuf)> {
    let state: &'static [&'static str] = &["Environment", "MPM_MONITOR_STATE_DIR"];
    let runtime: &'static [&'static str] = &["Environment", "MPM_MONITOR_RUNTIME_DIR"];
    let mut all = vec![(state, subject.paths.state.clone()), (runtime, subject.paths.runtime_of(subject.port))];
    if let Some(dirs) = UserDirs::find(crate::build::PROGRAM.name).filter(|_| subject.scope == Scope::User) {
        let parent = |path: &Path| path.parent().unwrap_or(path).to_owned();
        all.push((&["Environment", "HOME"], dirs.home.clone()));
        all.push((&["Environment", "XDG_CONFIG_HOME"], dirs.config_home.clone()));
        all.push((&["Environment", "XDG_RUNTIME_DIR"], parent(&dirs.runtime)));
        all.push((&["Environment", "XDG_STATE_HOME"], parent(&dirs.state)));
    }
    all
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
    all
}

/// A failure of the manager, not of the program, that no rule explains.
fn unexplained(unit: &Merged) -> Option<String> {
    if matches!(unit.get("ActiveState"), "active" | "reloading" | "inactive") {
        return None;
    }
    let (code, status) = (unit.get("ExecMainCode"), unit.get("ExecMainStatus").parse::<i32>().unwrap_or(0));
    match unit.get("Result") {
        // systemd.exec(5), "Process Exit Codes": a step before the program ran.
        "exit-code" if code == "1" && (200..=245).contains(&status) => {
            Some(format!("the manager could not run it (exit code {status})"))
        }
        // waitid(2) and signal(7): 31 is SIGSYS, a call that the unit forbids.
        "signal" | "core-dump" if status == 31 => Some("it used a system call that the unit forbids".to_owned()),
        result @ ("resources" | "protocol" | "exec-condition" | "timeout" | "oom-kill") => {
            Some(format!("the manager could not start it ({result})"))
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
    match (told.is_empty(), of_slices(subject, around), unit.unreadable.is_empty()) {
        (false, ..) => blame(subject, &told),
        (true, Some(check), _) => check,
        (true, None, _) if let Some(name) = around.awaited.first() => {
            let user = if subject.scope == Scope::User { "--user " } else { "" };
            Check::failed(code, format!("its start waits for that of {name}, which has not ended"))
                .next(format!("systemctl {user}status {name}"))
        }
        (true, None, _) if let Some(name) = around.rivals.first() => {
            let user = if subject.scope == Scope::User { "--user " } else { "" };
            Check::failed(code, format!("{name} runs, and one of the two ends when the other starts (Conflicts=)"))
                .seen(format!("this ends it, now and at every start; `{}` keeps it", subject.verb("uninstall")))
                .next(format!("{}systemctl {user}disable --now {name} && {}", subject.sudo(), subject.verb("start")))
        }
        (true, None, true) => Check::verified(code, "it has what the program needs"),
        (true, None, false) => Check::not_run(code, "a drop-in is root's to read").next(subject.doctor_as_root()),
    }
}

/// The check that names these lines, and the command that undoes them.
fn blame(subject: &Subject, told: &[Reason]) -> Check {
    let check = Check::failed(Code::UnitSettings, &told[0].why).severity(told[0].severity);
    let check = told.iter().enumerate().fold(check, |check, (at, reason)| {
        let check = if at == 0 || told[at - 1].why == reason.why { check } else { check.seen(&reason.why) };
        let check = reason.lines.iter().fold(check, |c, l| c.seen(l.shown()));
        match reason.given.filter(|_| reason.lines.is_empty()) {
            Some(name) => check.seen(format!("no file of the unit says so: the manager itself gives it {name}")),
            None => check,
        }
    });
    let lines: BTreeSet<(&Path, usize, usize)> = told.iter().flat_map(|r| &r.lines).map(Line::place).collect();
    let given = told.iter().filter_map(|r| r.given).collect();
    check.next(Merged::undone(subject, &lines.into_iter().collect::<Vec<_>>(), &given))
}

/// A limit of a slice that the unit is in, and the command that takes it away.
fn of_slices(subject: &Subject, around: &Around) -> Option<Check> {
    around.slices.iter().find_map(|(scope, slice)| {
        let found = of_limits(slice).into_iter().chain(broken(slice).filter(|l| l.keys == ["CPUQuota"]));
        let (why, lines) = found.map(|l| (l.why, slice.setting(l.keys))).find(|(_, lines)| !lines.is_empty())?;
        let keeper = Subject { scope: *scope, ..subject.clone() };
        let places: Vec<(&Path, usize, usize)> = lines.iter().map(|l| l.place()).collect();
        let mut steps = Merged::edits(&keeper, &places);
        steps.push(subject.verb("restart"));
        let check = Check::failed(Code::UnitSettings, format!("{}, which it is in, has a limit: {why}", slice.unit));
        Some(lines.iter().fold(check, |c, l| c.seen(l.shown())).next(steps.join(" && ")))
    })
}

/// What is wrong, and what makes it so.
struct Reason {
    why: String,
    severity: Severity,
    lines: Vec<Line>,
    /// The variable that the manager gives to all that it starts.
    given: Option<&'static str>,
}

impl Reason {
    fn of(why: String, severity: Severity, lines: Vec<Line>) -> Self {
        Self { why, severity, lines, given: None }
    }
}

/// All that is wrong.
fn reasons(subject: &Subject, unit: &Merged, around: &Around) -> Vec<Reason> {
    let mut told = Vec::new();
    for complaint in &unit.complaints {
        let at = unit.lines.iter().find(|l| l.file == complaint.file && (l.first..=l.last).contains(&complaint.line));
        let line =
            Line { file: complaint.file.clone(), first: complaint.line, last: complaint.line, ..Line::default() };
        let mut line = at.cloned().unwrap_or(line);
        line.value = format!("{} ({})", line.value, complaint.text);
        let why = "systemd does not understand a line, and goes on without it".to_owned();
        told.push(Reason::of(why, Severity::Error, vec![line]));
    }
    if let Some(socket) = &around.socket {
        let of_port = format!(":{} ", subject.port);
        let lines = socket.setting(&["ListenStream", "ListenDatagram"]);
        if !lines.is_empty() && !socket.get("Listen").lines().any(|l| l.contains(&of_port)) {
            let why = format!("its socket does not listen on port {}", subject.port);
            told.push(Reason::of(why, Severity::Error, lines.into_iter().cloned().collect()));
        }
    }
    if let Some(socket) =
        around.socket.as_ref().filter(|s| s.get("ActiveState") == "failed" || !s.complaints.is_empty())
    {
        let said = socket.complaints.first().map_or("it failed", |c| &c.text);
        told.extend(suspected(socket, format!("its socket is not as install makes it: {said}")));
    }
    let others: [(&[&str], &Vec<String>, &str); 2] = [
        (WAITED, &around.awaited, "its start waits for that of {}, which has not ended"),
        (&["Conflicts"], &around.rivals, "it cannot run beside {}, which runs"),
    ];
    for (keys, names, why) in others {
        for name in names {
            let lines = unit.setting(keys).into_iter().filter(|l| l.value.split_whitespace().any(|w| w == name));
            let lines: Vec<Line> = lines.cloned().collect();
            let why = why.replace("{}", name);
            told.extend((!lines.is_empty()).then(|| Reason::of(why, Severity::Error, lines)));
        }
    }
    for (path, line) in &around.absent {
        let why = format!("{path} is not there, and without it the start fails");
        // The empty one that took back install's has to go with the one that came in its place.
        let lines = if line.key == "ExecStart" { unit.setting(&["ExecStart"]) } else { vec![line] };
        told.push(Reason::of(why, Severity::Error, lines.into_iter().cloned().collect()));
    }
    for lack in lacks(subject, unit, around) {
        let (found, given) = match lack.keys {
            ["Environment", name] => (unit.variable(name), unit.given.iter().any(|(n, _)| n == name).then_some(*name)),
            keys => (unit.setting(keys), None),
        };
        // The unit as install writes it has what it needs; without a line of others there is nothing to say here.
        if !found.is_empty() || given.is_some() {
            let lines = found.into_iter().cloned().collect();
            told.push(Reason { why: lack.why, severity: lack.severity, lines, given });
        }
    }
    if told.is_empty() && unit.get("LoadState") == "bad-setting" {
        let said = unit.said.first().map_or("its settings do not go together", String::as_str);
        told.extend(suspected(unit, format!("the manager refuses the unit: {said}")));
    }
    told
}

/// Lines of drop-ins that may be the reason of a failure.
fn suspected(unit: &Merged, why: String) -> Option<Reason> {
    // What was never started did not fail by how it is run.
    let is_refused = unit.get("ActiveState") == "inactive" && unit.get("LoadState") == "loaded";
    let may = |l: &&Line| unit.drop_ins.contains(&l.file) && (!is_refused || l.is_about_others());
    let lines: Vec<Line> = unit.lines.iter().filter(may).cloned().collect();
    (!lines.is_empty()).then(|| Reason::of(why, Severity::Error, lines))
}

/// Where it does not run and no other check says why, what others changed in the unit is to blame.
pub fn suspect(subject: &Subject, unit: &Looked<Merged>, checks: &mut [Check]) {
    let symptoms = [Code::Ready, Code::CrashLoop, Code::LastEnd, Code::Components, Code::Watchdog];
    let is_symptom = |c: &Check| symptoms.contains(&c.code);
    let is_down = checks.iter().any(|c| c.code == Code::Ready && c.is_error());
    // Others than these do not keep it from running.
    let groups = [Group::Tools, Group::Log, Group::Hooks];
    let explains = |c: &Check| !is_symptom(c) && c.code != Code::UnitMode && !groups.contains(&c.code.group());
    let is_explained = checks.iter().any(|c| c.is_error() && explains(c));
    let Some(unit) = unit.as_ref().ok().filter(|_| is_down && !is_explained) else { return };
    let why = unexplained(unit).unwrap_or("it does not run".to_owned());
    let Some(told) = suspected(unit, format!("{why}, nothing else explains it, and these lines are not install's"))
    else {
        return;
    };
    for check in checks.iter_mut() {
        match check.code {
            Code::UnitSettings => *check = blame(subject, std::slice::from_ref(&told)),
            // A start cannot succeed before.
            Code::Ready => check.next = Some(subject.logs()),
            _ => {}
        }
    }
}

#[cfg(test)]
#[path = "needs_tests.rs"]
mod tests;
