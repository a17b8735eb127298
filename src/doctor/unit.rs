//! What is installed: receipt, files, program, settings.

use std::io::ErrorKind::PermissionDenied;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::check::{Check, Code, Looked, Outcome, Severity, none_of};
use super::merged::Merged;
use super::rights::{Account, Need};
use super::{Fix, Subject, needs, walls};
use crate::hooks::claude::settings::quoted;
use service::drift::Drift;
use service::exec::{self, QUICK};
use service::manager::Phase;
use service::receipt::{Receipt, ReceiptError};
use service::report::Facts;
use service::trust::{self, Weak};
use service::{Kind, Scope, desired, files, program};

/// What was seen.
#[derive(Debug, Clone)]
pub struct Seen {
    /// The receipt, or why it cannot be read.
    pub receipt: Result<Option<Receipt>, Unreadable>,
    /// The installed files that somebody else can write, with their permissions.
    pub writable: Vec<(PathBuf, u32)>,
    /// The program that the definition names, and what stands in the way of running it; `None` without a definition.
    pub program: Option<(PathBuf, Option<Obstacle>)>,
    /// The files of install that cannot be read.
    pub unreadable: Vec<PathBuf>,
    /// The target that a boot, or the start of a user's manager, reaches, where that does not bring it along.
    pub passed_by: Option<String>,
    /// A link in the place of the unit that leads to what is not there, and where it leads.
    pub dangling: Option<(PathBuf, PathBuf)>,
}

/// Why a program cannot be run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Obstacle {
    /// There is none.
    Gone,
    /// A folder or the like stands in its place.
    NoFile,
    /// It is no executable file; its permissions.
    Mode(u32),
    /// The file system is mounted so that nothing on it is run; where.
    NoExec(PathBuf),
    /// The unit itself hides it from the service; by which directive.
    Walled(String),
    /// The service's user may not pass this file or folder.
    Closed(PathBuf),
    /// It is a script, and the interpreter that its first line names is not there.
    Interpreter(String),
    /// It is built for another system: the loader that it names is not there.
    Loader(String),
}

/// Why a receipt is no use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unreadable {
    /// It is root's.
    Hidden,
    /// It is damaged, or the disk is.
    Damaged(String),
}

/// Looks; `unit` is what the manager merged.
pub fn look(subject: &Subject, unit: &Looked<Merged>) -> Seen {
    let (paths, port) = (&subject.paths, subject.port);
    let receipt = Receipt::read(&paths.receipt(port)).map_err(|e| match &e {
        ReceiptError::Io(_, io) if io.kind() == std::io::ErrorKind::PermissionDenied => Unreadable::Hidden,
        _ => Unreadable::Damaged(e.to_string()),
    });
    let files: Vec<PathBuf> = desired::candidates(port, paths).into_iter().map(|(path, _)| path).collect();
    let writable = files.iter().filter_map(|path| {
        let mode = std::fs::metadata(path).ok()?.mode() & 0o7777;
        (mode & 0o022 != 0).then_some((path.clone(), mode))
    });
    let closed = |path: &&PathBuf| path.is_file() && Account::Own.may(Need::Read, path) == Some(false);
    let unreadable = files.iter().filter(|_| subject.sudo().is_empty()).filter(closed).cloned().collect();
    let texts = desired::candidates(port, paths).into_iter();
    let texts = texts.filter_map(|(path, _)| Some((path.clone(), files::read(&path).ok().flatten()?))).collect();
    let definition = desired::definition_of(port, paths, &texts);
    let account = unit.as_ref().map_or(Account::Unknown, |unit| Account::of(subject, unit));
    let program = definition.and_then(|text| desired::program_of(text, paths.kind)).map(|path| {
        let obstacle = obstacle(&path, &account, unit.as_ref().ok());
        (path, obstacle)
    });
    let mut places = files.clone();
    places.push(paths.service(port));
    let dangling = places.into_iter().find_map(|path| {
        let to = std::fs::read_link(&path).ok().filter(|_| needs::is_absent(&path))?;
        Some((path, to))
    });
    Seen { receipt, writable: writable.collect(), program, unreadable, passed_by: passed_by(subject), dangling }
}

fn passed_by(subject: &Subject) -> Option<String> {
    let ask = |words: &[&str]| exec::systemctl(subject.scope, words, QUICK).and_then(exec::Output::success).ok();
    let kind = Some(subject.paths.kind).filter(|k| *k == Kind::Systemd);
    let tree = kind.and_then(|_| ask(&["list-dependencies", "--plain", "default.target"]))?;
    let own = [Some(subject.unit()), subject.paths.socket_name(subject.port)];
    let is_in = tree.lines().any(|l| own.iter().flatten().any(|unit| l.trim() == unit));
    (!is_in).then(|| ask(&["show", "-P", "Id", "default.target"]).unwrap_or_default().trim().to_owned())
}

fn obstacle(path: &Path, account: &Account, unit: Option<&Merged>) -> Option<Obstacle> {
    match std::fs::metadata(path) {
        Err(e) if e.kind() == PermissionDenied => account.blocked(Need::Pass, path).map(Obstacle::Closed),
        Err(_) => Some(Obstacle::Gone),
        Ok(meta) if !meta.is_file() => Some(Obstacle::NoFile),
        Ok(meta) if meta.mode() & 0o111 == 0 => Some(Obstacle::Mode(meta.mode() & 0o7777)),
        Ok(_) => {
            let real = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
            // What a line of a drop-in hides has a check of its own.
            let wall = || {
                let (unit, wall) = unit.and_then(|u| Some((u, walls::between(u, Need::Pass, &real)?)))?;
                unit.setting(wall.keys).is_empty().then_some(Obstacle::Walled(wall.shown))
            };
            let interpreter = || interpreter(path).filter(|i| needs::is_absent(Path::new(i)));
            no_exec(&real)
                .map(Obstacle::NoExec)
                .or_else(|| account.blocked(Need::Pass, path).map(Obstacle::Closed))
                .or_else(wall)
                .or_else(|| interpreter().map(Obstacle::Interpreter))
                .or_else(|| loader(path).filter(|l| needs::is_absent(Path::new(l))).map(Obstacle::Loader))
        }
    }
}

/// The mount of a file, where nothing on it may be run. macOS does not say through the safe interface.
#[cfg(not(target_os = "linux"))]
fn no_exec(_: &Path) -> Option<PathBuf> {
    None
}

/// The mount of a file, where nothing on it may be run.
#[cfg(target_os = "linux")]
fn no_exec(path: &Path) -> Option<PathBuf> {
    let flags = rustix::fs::statvfs(path).ok()?.f_flag;
    if !flags.contains(rustix::fs::StatVfsMountFlags::NOEXEC) {
        return None;
    }
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let points = mounts.lines().filter_map(|l| l.split(' ').nth(1)).map(Path::new);
    let of_file = points.filter(|p| path.starts_with(p)).max_by_key(|p| p.components().count());
    Some(of_file.unwrap_or(Path::new("/")).to_owned())
}

/// The interpreter of a script, as the kernel reads its first line: a carriage return belongs to the name.
fn interpreter(path: &Path) -> Option<String> {
    let mut start = Vec::new();
    std::fs::File::open(path).ok()?.take(256).read_to_end(&mut start).ok()?;
    let line = start.strip_prefix(b"#!")?.split(|&b| b == b'\n').next()?;
    let text = String::from_utf8_lossy(line);
    Some(text.trim_start_matches([' ', '\t']).split([' ', '\t']).next()?.to_owned())
}

/// The loader that a program of 64 bits names (PT_INTERP of elf(5)).
fn loader(path: &Path) -> Option<String> {
    let mut head = Vec::new();
    std::fs::File::open(path).ok()?.take(64 << 10).read_to_end(&mut head).ok()?;
    // 64 bits, the lowest byte of a number first.
    if !head.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let bytes = |at: usize, count: usize| head.get(at..at.saturating_add(count));
    let number = |at: usize, count: usize| {
        let value = bytes(at, count)?.iter().rev().fold(0_u64, |all, &byte| (all << 8) | u64::from(byte));
        usize::try_from(value).ok()
    };
    let (table, size, count) = (number(32, 8)?, number(54, 2)?, number(56, 2)?);
    let mut entries = (0..count).map(|n| table.saturating_add(n * size));
    let entry = entries.find(|&at| number(at, 4) == Some(3))?;
    let name = bytes(number(entry.saturating_add(8), 8)?, number(entry.saturating_add(32), 8)?)?;
    Some(String::from_utf8_lossy(name).trim_end_matches('\0').to_owned()).filter(|name| name.starts_with('/'))
}

/// The checks that make sense only where something is installed.
const OF_INSTALLED: [Code; 4] = [Code::UnitMissing, Code::UnitEdited, Code::UnitOutdated, Code::UnitReread];

/// Judges.
pub fn judge(
    subject: &Subject,
    facts: &Looked<Facts>,
    seen: &Looked<Seen>,
    unit: &Looked<Merged>,
    around: &Looked<needs::Around>,
) -> Vec<Check> {
    let mut checks = Vec::new();
    let nothing = "nothing is installed".to_owned();
    let installed = is_installed(subject, facts, seen);
    checks.push(match installed {
        true => Check::verified(Code::Installed, format!("{} is installed", subject.unit())),
        false => Check::failed(Code::Installed, format!("nothing is installed on port {}", subject.port))
            .next(subject.verb("install")),
    });
    match seen {
        Err(why) => checks.push(Check::not_run(Code::Receipt, why)),
        Ok(seen) => checks.push(receipt(subject, seen, installed)),
    }
    let both = if installed { facts.as_ref().and_then(|f| Ok((f, seen.as_ref()?))) } else { Err(&nothing) };
    let both = both.map_err(String::as_str);
    match both {
        Err(why) => checks.extend(none_of(&OF_INSTALLED, why)),
        Ok((facts, seen)) => checks.extend(files(subject, facts, seen)),
    }
    let loads = loads(subject, seen, unit, installed);
    let is_loaded = loads.outcome != Outcome::Failed;
    checks.extend([loads, needs::judge(subject, unit, around, installed)]);
    match both {
        Err(why) => {
            checks.extend(none_of(&[Code::UnitMode, Code::UnitEnabled, Code::ProgramThere, Code::ProgramLasts], why));
        }
        Ok((facts, seen)) => {
            checks.push(mode(subject, seen));
            checks.push(if is_loaded {
                enabled(subject, facts, seen, unit)
            } else {
                Check::not_run(Code::UnitEnabled, "the manager cannot load it at all")
            });
            checks.extend(program_checks(subject, facts, seen));
        }
    }
    checks
}

/// Whether the manager has the unit, and that of install.
fn loads(subject: &Subject, seen: &Looked<Seen>, unit: &Looked<Merged>, installed: bool) -> Check {
    let code = Code::UnitLoads;
    let unit = match unit {
        _ if subject.paths.kind == Kind::Launchd => return Check::not_run(code, "launchd reads one file only"),
        Ok(unit) => unit,
        Err(why) => return Check::not_run(code, why),
    };
    let (install, fragment) = (subject.verb("install"), unit.fragment.as_ref());
    if unit.get("LoadState") == "masked" {
        let runtime = if unit.get("UnitFileState") == "masked-runtime" { "--runtime " } else { "" };
        let user = if subject.scope == Scope::User { "--user " } else { "" };
        let check = Check::failed(code, "the unit is masked: the manager starts it for nobody");
        return fragment
            .into_iter()
            .fold(check, |c, f| c.seen(format!("{} leads to /dev/null", f.display())))
            .next(format!("{}systemctl {user}unmask {runtime}{} && {install}", subject.sudo(), unit.unit));
    }
    if !installed {
        return Check::not_run(code, "nothing is installed");
    }
    if let Some((path, to)) = seen.as_ref().ok().and_then(|s| s.dangling.as_ref()) {
        let (sudo, shown) = (subject.sudo(), quoted(&path.to_string_lossy()));
        return Check::failed(code, "a link stands in the place of the unit and leads nowhere")
            .seen(format!("{} leads to {}, which is not there", path.display(), to.display()))
            .next(format!("{sudo}rm {shown} && {} && {install}", subject.reread()));
    }
    if let Some(path) = seen.as_ref().ok().and_then(|s| s.unreadable.first()) {
        let shown = quoted(&path.to_string_lossy());
        return Check::failed(code, format!("a file of the unit cannot be read: {}", path.display()))
            .next(format!("chmod 644 {shown} && {} && {install}", subject.reread()));
    }
    if !matches!(unit.get("LoadState"), "loaded" | "") {
        // Which of its files is to blame has checks of its own.
        let check = Check::failed(code, format!("the manager cannot load the unit ({})", unit.get("LoadState")));
        let check = unit.said.iter().fold(check, |c, said| c.seen(said));
        let blamed = unit.lines.iter().any(|l| unit.drop_ins.contains(&l.file));
        return match fragment.filter(|f| !blamed && unit.lines.iter().any(|l| l.file == **f)) {
            Some(path) => check.seen(path.display().to_string()).next(aside(subject, path)),
            None if unit.get("LoadState") == "not-found" => Check::not_run(code, "its file is gone"),
            None => check,
        };
    }
    match fragment.filter(|f| f.file_name().is_some_and(|n| *n == *unit.unit)) {
        Some(path) if *path != subject.paths.service(subject.port) => {
            Check::failed(code, "another unit file stands in the place of install's, so no upgrade reaches it")
                .severity(Severity::Warning)
                .seen(path.display().to_string())
                .next(aside(subject, path))
        }
        _ => Check::verified(code, "the manager has it, and it is install's"),
    }
}

/// The command that takes a unit file that a person wrote out of the way, and keeps it.
fn aside(subject: &Subject, path: &Path) -> String {
    let path = path.display();
    format!("{}mv {path} {path}.edited && {} && {}", subject.sudo(), subject.reread(), subject.verb("install"))
}

/// Whether there is an instance: a receipt says so, or its definition is enabled or runs.
pub fn is_installed(subject: &Subject, facts: &Looked<Facts>, seen: &Looked<Seen>) -> bool {
    let receipt = seen.as_ref().is_ok_and(|s| matches!(s.receipt, Ok(Some(_)) | Err(Unreadable::Damaged(_))));
    let known = facts.as_ref().is_ok_and(|f| {
        f.receipt
            || f.service.as_ref().is_some_and(|j| j.loaded && (j.enabled == "enabled" || j.phase != Phase::Stopped))
    });
    receipt || known || subject.paths.is_installed(subject.port)
}

fn receipt(subject: &Subject, seen: &Seen, installed: bool) -> Check {
    let path = subject.paths.receipt(subject.port);
    match &seen.receipt {
        Ok(Some(receipt)) if receipt.unfinished => Check::failed(
            Code::Receipt,
            "an install was broken off half way: what it did was neither finished nor taken back",
        )
        .next(subject.verb("install"))
        .fix(Fix::Install),
        Ok(Some(_)) => Check::verified(Code::Receipt, "the receipt says what install made"),
        Ok(None) if installed => {
            let text =
                "there is no receipt: uninstall goes by the headers of the files; a package may have installed it";
            Check::failed(Code::Receipt, text).severity(Severity::Note).next(subject.verb("install"))
        }
        Ok(None) => Check::not_run(Code::Receipt, "nothing is installed"),
        Err(Unreadable::Hidden) => Check::not_run(Code::Receipt, "it is root's to read").next(subject.doctor_as_root()),
        Err(Unreadable::Damaged(error)) => Check::failed(Code::Receipt, "the receipt cannot be used")
            .seen(error)
            .next(format!("rm {} && {}", path.display(), subject.verb("install"))),
    }
}

fn files(subject: &Subject, facts: &Facts, seen: &Seen) -> Vec<Check> {
    let install = subject.verb("install");
    let found = |state: Drift| facts.drift.iter().filter(move |(_, d)| *d == state).map(|(p, _)| p);
    let named = |check: Check, state: Drift| found(state).fold(check, |c, p| c.seen(p.display().to_string()));
    let mut checks = Vec::new();
    if facts.drift.is_empty() {
        let why = match &seen.receipt {
            Err(Unreadable::Hidden) => "what install wrote stands in the receipt, which is root's to read",
            _ => "without a receipt it is not known what install wrote",
        };
        checks.extend(none_of(&[Code::UnitMissing, Code::UnitEdited, Code::UnitOutdated], why));
    } else {
        checks.push(match found(Drift::Absent).next() {
            None => Check::verified(Code::UnitMissing, "every file that install wrote is there"),
            Some(_) => named(Check::failed(Code::UnitMissing, "a file that install wrote is gone"), Drift::Absent)
                .next(&install)
                .fix(Fix::Install),
        });
        checks.push(match found(Drift::Edited).next() {
            None => Check::verified(Code::UnitEdited, "nobody edited them by hand"),
            Some(path) => {
                let text = "edited by hand: no upgrade touches it; changes in a drop-in or in the settings would last";
                let path = path.display();
                named(Check::failed(Code::UnitEdited, text), Drift::Edited)
                    .next(format!("{}mv {path} {path}.edited && {install}", subject.sudo()))
            }
        });
        checks.push(match found(Drift::Outdated).next() {
            None => Check::verified(Code::UnitOutdated, "all are as this version writes them"),
            Some(_) => {
                let check = named(Check::failed(Code::UnitOutdated, "another version wrote them"), Drift::Outdated);
                let check = check.next(&install);
                // What a person edited is not overwritten, and install stops before the first change.
                if found(Drift::Edited).next().is_some() { check } else { check.fix(Fix::Install) }
            }
        });
    }
    checks.push(match &facts.service {
        None => Check::not_run(Code::UnitReread, "the manager did not answer"),
        Some(job) if job.refused.is_some() => Check::not_run(Code::UnitReread, "the manager cannot load it at all"),
        Some(job) if job.stale => Check::failed(Code::UnitReread, "the files changed since the manager read them")
            .next(subject.verb("restart"))
            .fix(Fix::Restart),
        Some(_) if subject.paths.kind == Kind::Launchd => {
            Check::not_run(Code::UnitReread, "launchd does not tell what it read")
        }
        Some(_) => Check::verified(Code::UnitReread, "the manager has read them"),
    });
    checks
}

fn mode(subject: &Subject, seen: &Seen) -> Check {
    match seen.writable.as_slice() {
        [] => Check::verified(Code::UnitMode, "only their owner can write them"),
        [(path, _), ..] => {
            let check = Check::failed(Code::UnitMode, "others than the owner can write what the manager runs")
                .next(format!("{}chmod go-w {}", subject.sudo(), path.display()));
            seen.writable.iter().fold(check, |c, (path, mode)| {
                c.seen(format!("{} has mode {mode:04o}", path.display()))
                    .fix(Fix::Tighten { path: path.clone(), mode: mode & !0o022 })
            })
        }
    }
}

fn enabled(subject: &Subject, facts: &Facts, seen: &Seen, unit: &Looked<Merged>) -> Check {
    let Some(job) = &facts.service else {
        return Check::not_run(Code::UnitEnabled, "the manager did not answer");
    };
    let socket = facts.socket.as_ref().is_some_and(|s| s.enabled == "enabled");
    let off = match subject.paths.kind {
        Kind::Launchd => job.enabled == "disabled",
        Kind::Systemd => job.enabled != "enabled" && !socket,
    };
    if !off {
        let Some(reached) = &seen.passed_by else {
            return Check::verified(Code::UnitEnabled, "it comes up by itself");
        };
        let target = if subject.scope == Scope::User { "default.target" } else { "multi-user.target" };
        let by = unit.as_ref().map(|u| [u.get("WantedBy"), u.get("RequiredBy"), u.get("UpheldBy")].join(" "));
        let by = by.unwrap_or_default();
        let by: Vec<&str> = by.split_whitespace().collect();
        let (sudo, unit) = (subject.sudo(), subject.unit());
        let user = if subject.scope == Scope::User { "--user " } else { "" };
        let text = "it is enabled, but default.target does not reach it: it does not come up by itself";
        let named = if by.is_empty() { "no target that is loaded".to_owned() } else { by.join(" ") };
        let check = Check::failed(Code::UnitEnabled, text).seen(format!("{unit} is wanted by {named}"));
        let check = check.seen(format!("default.target is {reached}"));
        return check.next(match by.contains(&target) && subject.scope == Scope::System {
            true => format!("{sudo}systemctl set-default {target}"),
            false => format!("{sudo}systemctl {user}enable {unit}"),
        });
    }
    Check::failed(Code::UnitEnabled, "it does not come up by itself")
        .seen(job.enabled.clone())
        .next(subject.verb("install"))
}

fn program_checks(subject: &Subject, facts: &Facts, seen: &Seen) -> [Check; 2] {
    let Some((path, obstacle)) = &seen.program else {
        let why = "the unit that names it cannot be read";
        return [Check::not_run(Code::ProgramThere, why), Check::not_run(Code::ProgramLasts, why)];
    };
    let (shown, sudo) = (path.display().to_string(), subject.sudo());
    let word = quoted(&shown);
    let failed = |why: &str| Check::failed(Code::ProgramThere, why);
    let restart = subject.verb("restart");
    // This very program can be run, and has its place there.
    let this = std::env::current_exe().unwrap_or_default().display().to_string();
    let copy = || format!("{sudo}install -m755 {} {word}", quoted(this.trim_end_matches(" (deleted)")));
    // Where the service can reach it: in place of the link that leads to it, or where programs of the machine are.
    let elsewhere = || match std::fs::canonicalize(path) {
        Ok(real) if path.is_symlink() => {
            let real = quoted(&real.to_string_lossy());
            format!("{sudo}rm {word} && {sudo}install -m755 {real} {word} && {restart}")
        }
        _ => {
            let install = subject.verb("install").replacen("mpm-monitor", "/usr/local/bin/mpm-monitor", 1);
            format!("{sudo}install -m755 {word} /usr/local/bin/mpm-monitor && {install}")
        }
    };
    let there = match obstacle {
        Some(Obstacle::Gone) => failed("the program that the unit names is gone: no start can succeed")
            .seen(&shown)
            .next(subject.verb("install")),
        Some(Obstacle::Mode(mode)) => failed("the program that the unit names is no executable file")
            .seen(format!("{shown} has mode {mode:04o}"))
            .next(format!("{sudo}chmod 755 {word} && {restart}")),
        Some(Obstacle::NoFile) => failed("what stands in the place of the program is no file, as a folder is none")
            .seen(&shown)
            .next(format!("{sudo}mv {word} {word}.aside && {} && {restart}", copy())),
        Some(Obstacle::NoExec(mount)) => {
            let root = if subject.is_root { "" } else { "sudo " };
            let mount = quoted(&mount.to_string_lossy());
            failed("the program is on a file system from which nothing may be run (noexec)")
                .seen(format!("{shown} is on {mount}"))
                .next(format!("{root}mount -o remount,bind,exec {mount} && {restart}"))
        }
        Some(Obstacle::Closed(at)) if subject.scope == Scope::User => {
            let folder = quoted(&at.to_string_lossy());
            failed("the service's user may not run the program that the unit names")
                .seen(&shown)
                .seen(format!("{} is closed to {}", at.display(), subject.user))
                .next(format!("chmod u+rx {folder} && {restart}"))
        }
        Some(Obstacle::Closed(at)) => {
            let why = "is closed to others; the service runs as mpm-monitor or as its unit says";
            let check = failed("the service's user may not run the program that the unit names").seen(&shown);
            // A closed folder may be closed for a reason; a copy of the program elsewhere opens nothing.
            let next = if at == path { format!("{sudo}chmod go+rx {word} && {restart}") } else { elsewhere() };
            check.seen(format!("{} {why}", at.display())).next(next)
        }
        Some(Obstacle::Walled(wall)) => {
            failed("the unit hides the program from the service").seen(&shown).seen(wall).next(elsewhere())
        }
        Some(Obstacle::Interpreter(name)) => {
            let check = failed("the program that the unit names is a script whose interpreter is not there")
                .seen(format!("the first line of {shown} names {name:?}"));
            match name.ends_with('\r') {
                true => check
                    .seen("its lines end as those of Windows do, and the end belongs to the name")
                    .next(format!("{sudo}sed -i 's/\\r$//' {word} && {restart}")),
                false => check.next(subject.verb("install")),
            }
        }
        Some(Obstacle::Loader(name)) => {
            failed("the program that the unit names is built for another system: its loader is not there")
                .seen(format!("{shown} names {name}"))
                .next(format!("{} && {restart}", copy()))
        }
        None if facts.program.is_some() && facts.installed.is_none() && may_ask_version(subject, path) => {
            failed("what the unit names cannot be run, or is not mpm-monitor: it does not tell its version")
                .seen(&shown)
                .next(format!("{} && {restart}", copy()))
        }
        None => Check::verified(Code::ProgramThere, format!("{shown} can be run")),
    };
    let weak = if subject.scope == Scope::System { trust::only_root_changes(path).err() } else { None };
    // A folder above the place for programs of the machine: a copy there would be as open.
    let open = weak.as_ref().and_then(|weak| match weak {
        Weak::Writable { path: at, .. } => Some((at, format!("chmod go-w {}", at.display()))),
        Weak::Owner { path: at, .. } => Some((at, format!("chown root {}", at.display()))),
        Weak::Unknown { .. } => None,
    });
    let open = open.filter(|(at, _)| Path::new("/usr/local/bin").starts_with(at) && program::here(path).is_none());
    let problem = program::here(path).map(|why| format!("the program {why}"));
    let problem = problem.or(weak
        .as_ref()
        .filter(|_| obstacle.is_none())
        .map(|weak| format!("others can change what root runs: {weak}")));
    let lasts = match problem {
        None => Check::verified(Code::ProgramLasts, "its path lasts"),
        Some(problem) => {
            let (to, sudo) = match subject.scope {
                Scope::System => ("/usr/local/bin/mpm-monitor", "sudo "),
                Scope::User => ("~/.local/bin/mpm-monitor", ""),
            };
            let install = subject.verb("install").replacen("mpm-monitor", to, 1);
            let copy = program::advice(Path::new(&shown), subject.scope);
            let next = if subject.is_root { copy.replace(sudo, "") } else { copy };
            let next = open.map_or(format!("{next} && {install}"), |(_, close)| {
                format!("{}{close}", if subject.is_root { "" } else { sudo })
            });
            Check::failed(Code::ProgramLasts, problem).seen(&shown).next(next)
        }
    };
    [there, lasts]
}

/// Whether a program that tells no version means something: root runs nothing that others could have changed.
fn may_ask_version(subject: &Subject, path: &Path) -> bool {
    !subject.is_root || trust::only_root_changes(path).is_ok()
}

/// Whether these checks leave the installation able to start.
pub fn can_start(checks: &[Check]) -> bool {
    let needed =
        [Code::UnitLoads, Code::UnitSettings, Code::ProgramThere, Code::Config, Code::TokenFile, Code::UnitMissing];
    !checks.iter().any(|c| needed.contains(&c.code) && c.outcome == Outcome::Failed)
}

#[cfg(test)]
#[path = "unit_tests.rs"]
mod tests;
