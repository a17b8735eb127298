//! The settings and the token as the service gets them: with the environment of its unit, and with its rights.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::check::{Check, Code, Looked, Severity};
use super::merged::{Line, Merged};
use super::rights::{Account, Need};
use super::{Fix, Subject, cure, walls};
use crate::bus::url::Password;
use crate::config::flags::Run;
use crate::config::layers::{Origin, Problem};
use crate::config::token::{CREDENTIAL, TokenError};
use crate::config::{self, Directories, EXPOSED, Provenance, Settings, Token};
use crate::hooks::claude::settings::quoted;
use daemon::dirs::UserDirs;
use service::Scope;
use service::users::name_of;

/// The variable that names the token's file.
const TOKEN_FILE: &str = "MPM_MONITOR_ACCESS_TOKEN_FILE";

/// What was seen.
#[derive(Debug, Clone)]
pub struct Seen {
    /// The settings of the service, or all that is wrong with them.
    pub settings: Result<Settings, Vec<Problem>>,
    /// What is wrong, and the service starts all the same.
    pub weak: Vec<Problem>,
    /// Variables of the unit that look like settings and are none.
    pub unknown: Vec<String>,
    /// A configuration file that the service's user cannot read, and what stands in the way.
    pub blocked: Option<(PathBuf, PathBuf)>,
    /// A configuration file that the unit hides from the service, and by what.
    pub hidden: Option<(PathBuf, String)>,
    /// Where the token comes from, with its permissions, where it can be looked at.
    pub token: Option<(PathBuf, Option<u32>)>,
    /// What is wrong with the token.
    pub token_error: Option<String>,
    /// What keeps the service's user from the token.
    pub token_blocked: Option<PathBuf>,
    /// Whether no file, but only the service's environment, names the token.
    pub token_untold: bool,
    /// The directive of the unit that hides the token.
    pub token_hidden: Option<String>,
    /// The name of the service's user.
    pub user: String,
    /// The group that the service runs as.
    pub group: String,
}

/// Looks; `env` is what install gave to the service.
pub fn look(subject: &Subject, env: &BTreeMap<String, String>, unit: &Looked<Merged>) -> Seen {
    let mut env = env.clone();
    let (account, unit) = match unit {
        Ok(unit) => (Account::of(subject, unit), unit),
        Err(_) => (Account::Unknown, &Merged::default()),
    };
    env.extend(unit.environment());
    let settings = read(subject, &env).and_then(|(settings, provenance)| {
        let problems = beyond(&settings, &provenance, unit, &account);
        if problems.is_empty() { Ok((settings, provenance)) } else { Err(problems) }
    });
    let named = env.get("MPM_MONITOR_CONFIG").map(PathBuf::from);
    let own = Directories::of_this_user().user_config.filter(|_| subject.scope == Scope::User && named.is_none());
    let files: Vec<PathBuf> =
        [Some(Directories::of_this_user().system_config), named, own].into_iter().flatten().collect();
    let mut weak: Vec<Problem> = files.iter().filter_map(|f| leads_nowhere(f)).collect();
    weak.extend(settings.iter().flat_map(|(settings, provenance)| unreachable(settings, provenance)));
    let settings = settings.map(|(settings, _)| settings);
    let blocked = files.iter().find_map(|f| account.blocked(Need::Read, f).map(|at| (f.clone(), at)));
    let wall = |path: &Path| {
        let real = std::fs::canonicalize(path).ok()?;
        walls::between(unit, Need::Read, &real).map(|wall| wall.shown)
    };
    let hidden = files.iter().find_map(|f| Some((f.clone(), wall(f)?)));
    let credential = credential(unit);
    let path = credential.clone().or_else(|| settings.as_ref().ok().and_then(|s| s.token_file.clone()));
    let token_error = path.as_ref().and_then(|p| {
        let read = if credential.is_some() { Token::from_credential(p) } else { Token::from_file(p) };
        match read {
            Err(TokenError::Io(e)) if e.kind() == std::io::ErrorKind::PermissionDenied => None,
            // Whose it must be is judged by who may read it.
            Err(TokenError::Owner(_)) if subject.scope == Scope::System => None,
            other => other.err().map(|e| e.to_string()),
        }
    });
    // What hooks and other commands of this user read.
    let told = || {
        std::env::var_os(TOKEN_FILE).is_some()
            || !matches!(read(subject, &BTreeMap::new()), Ok((s, _)) if s.token_file.is_none())
    };
    let token_untold = subject.scope == Scope::User && credential.is_none() && path.is_some() && !told();
    // The manager reads a credential, and with its own rights.
    let read_by_service = path.as_ref().filter(|_| credential.is_none());
    let user = account.name(subject).to_owned();
    let variables: Vec<(String, String)> = env.into_iter().collect();
    Seen {
        settings,
        weak,
        hidden,
        unknown: config::layers::unknown_variables(&variables),
        blocked,
        token_blocked: read_by_service.and_then(|p| account.blocked(Need::Read, p)),
        token_hidden: read_by_service.and_then(|p| wall(p)),
        token: path.map(|p| (p.clone(), std::fs::metadata(&p).ok().map(|m| m.mode() & 0o7777))),
        token_error,
        token_untold,
        group: Some(unit.get("Group")).filter(|g| !g.is_empty()).unwrap_or(&user).to_owned(),
        user,
    }
}

/// A link in the place of a configuration file that leads nowhere: the service starts as if there were no file.
fn leads_nowhere(path: &Path) -> Option<Problem> {
    let to = std::fs::read_link(path).ok().filter(|_| super::needs::is_absent(path))?;
    let to = to.display();
    let message =
        format!("it is a link to {to}, which is not there; restore {to}, or put a file in the place of the link");
    Some(Problem { origin: Origin::File(path.to_owned(), 1), message })
}

/// The addresses of the settings that this machine does not have.
fn unreachable(settings: &Settings, provenance: &Provenance) -> Option<Problem> {
    let origin = provenance.0.get("bind").map(|(_, origin)| origin.clone()).filter(|o| *o != Origin::Default)?;
    let is_elsewhere = |a: &&IpAddr| {
        let bound = std::net::TcpListener::bind((**a, 0));
        bound.is_err_and(|e| e.kind() == std::io::ErrorKind::AddrNotAvailable)
    };
    let address = settings.bind.iter().find(is_elsewhere)?;
    Some(Problem { origin, message: format!("bind: this machine does not have the address {address}") })
}

/// The file behind the credential `token`, where the unit loads one.
fn credential(unit: &Merged) -> Option<PathBuf> {
    let lines = unit.setting(&["LoadCredential"]);
    let path = lines.iter().filter_map(|l| l.value.split_once(':')).find(|(name, _)| *name == CREDENTIAL)?.1;
    Some(PathBuf::from(path)).filter(|p| p.is_absolute())
}

/// The settings as the service reads them: the files, and the environment that it gets.
///
/// # Errors
/// All that is wrong with them.
pub fn read(subject: &Subject, env: &BTreeMap<String, String>) -> Result<(Settings, Provenance), Vec<Problem>> {
    let mut directories = Directories::of_this_user();
    if subject.scope == Scope::System {
        // The service's account has neither a home nor this session.
        directories.user_config = None;
    }
    directories.state.clone_from(&subject.paths.state);
    directories.runtime = subject.paths.runtime_of(subject.port);
    let variables: Vec<(String, String)> = env.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
    let flags = Run { port: Some(subject.port.to_string()), ..Run::default() };
    config::read(&flags, &variables, &directories)
}

/// What the settings alone do not show to be wrong: it takes the machine, or the unit.
fn beyond(settings: &Settings, provenance: &Provenance, unit: &Merged, account: &Account) -> Vec<Problem> {
    let origin = |name: &str| provenance.0.get(name).map_or(Origin::Default, |(_, origin)| origin.clone());
    let mut problems = Vec::new();
    let has_token = settings.token_file.is_some() || credential(unit).is_some();
    if let Some(address) = settings.bind.iter().find(|a| !a.is_loopback())
        && !has_token
    {
        let message = format!("bind: {address} is not a loopback address, and {EXPOSED}");
        problems.push(Problem { origin: origin("bind"), message });
    }
    let closed = |p: &Path| account.may(Need::Write, p) == Some(false);
    for (name, path) in [("server.unix_socket", &settings.unix_socket), ("log.file", &settings.log_file)] {
        let Some((path, folder)) = path.as_deref().and_then(|p| Some((p, p.parent()?))) else { continue };
        let is_socket = std::fs::metadata(path).map(|m| m.file_type().is_socket());
        let (at, why) = match is_socket {
            _ if super::needs::is_absent(folder) => (folder, "is not there"),
            _ if walls::between(unit, Need::Write, folder).is_some() => {
                (folder, "is closed to the service by its unit")
            }
            Ok(false) if name == "server.unix_socket" => (path, "is no socket"),
            Ok(_) if path.is_dir() => (path, "is a folder"),
            Ok(false) if closed(path) => (path, "cannot be written by the service"),
            Err(_) if closed(folder) => (folder, "cannot be written by the service"),
            _ => continue,
        };
        let message = format!("{name}: {} cannot be made: {} {why}", path.display(), at.display());
        problems.push(Problem { origin: origin(name), message });
    }
    if let (Some(url), Some(path)) = (&settings.bus_url, &settings.bus_password_file) {
        let why = match account {
            _ if url.password.is_some() => Some("bus.url has a password, too".to_owned()),
            // Whose it must be is judged with the service's rights.
            Account::Own => Password::from_file(path).err(),
            _ if super::needs::is_absent(path) => Some("it is not there".to_owned()),
            _ => account.blocked(Need::Read, path).map(|at| format!("{} is closed to it", at.display())),
        };
        problems.extend(why.map(|why| Problem {
            origin: origin("bus.password_file"),
            message: format!("bus.password_file: {}: {why}", path.display()),
        }));
    }
    problems
}

/// Judges. `runs` says whether the service runs, in spite of all.
pub fn judge(subject: &Subject, seen: &Looked<Seen>, unit: &Looked<Merged>, runs: bool) -> [Check; 2] {
    match seen {
        Err(why) => [Check::not_run(Code::Config, why), Check::not_run(Code::TokenFile, why)],
        Ok(seen) => {
            let nothing = Merged::default();
            let unit = unit.as_ref().unwrap_or(&nothing);
            [config(subject, seen, unit), token(subject, seen, unit, runs)]
        }
    }
}

/// What keeps the service's user out, with the permissions that do.
fn closed(at: &Path) -> String {
    let why = std::fs::metadata(at).map(|meta| {
        let owner = name_of(meta.uid()).unwrap_or_else(|| meta.uid().to_string());
        format!(": it belongs to {owner} and has mode {:04o}", meta.mode() & 0o7777)
    });
    format!("{} is closed to it{}", at.display(), why.unwrap_or_default())
}

/// What gives a group the right to read a file, or to pass a folder of ours. Whoever closed another folder had a reason.
fn let_in(subject: &Subject, check: Check, group: &str, at: &Path) -> Check {
    if subject.scope == Scope::User {
        let (shown, restart) = (quoted(&at.to_string_lossy()), subject.verb("restart"));
        let is_own = std::fs::metadata(at).is_ok_and(|m| m.uid() == rustix::process::geteuid().as_raw());
        let take = if is_own { String::new() } else { format!("sudo chown {} {shown} && ", subject.user) };
        // Who closed a folder closed those in it by the same command, and nobody sees that from outside.
        let home = UserDirs::find(crate::build::PROGRAM.name).is_some_and(|dirs| dirs.home.starts_with(at));
        let all = if at.is_dir() && !home { "-R " } else { "" };
        // What the manager could not read there it reads now.
        let reread = match subject.paths.service(subject.port).starts_with(at) {
            true => format!("{} && ", subject.reread()),
            false => String::new(),
        };
        return check.next(format!("{take}chmod {all}u+rX {shown} && {reread}{restart}"));
    }
    if at.is_dir() && !at.starts_with("/etc/mpm-monitor") {
        return check.seen("the file has to be where the service's user may read it, as in /etc/mpm-monitor");
    }
    let (sudo, shown) = (subject.sudo(), quoted(&at.to_string_lossy()));
    let right = if at.is_dir() { "g+rx" } else { "g+r" };
    check.next(format!("{sudo}chgrp {group} {shown} && {sudo}chmod {right} {shown} && {}", subject.verb("restart")))
}

fn config(subject: &Subject, seen: &Seen, unit: &Merged) -> Check {
    // A file that a drop-in names need not be the service's to read.
    let named = |check: Check, file: &Path| {
        let is_named = file != Directories::of_this_user().system_config;
        let lines = if is_named { unit.variable("MPM_MONITOR_CONFIG") } else { Vec::new() };
        let check = lines.iter().fold(check, |c, l| c.seen(l.shown()));
        let lines: Vec<(&Path, usize, usize)> = lines.iter().map(|l| l.place()).collect();
        if lines.is_empty() || check.next.is_some() { check } else { check.next(Merged::without(subject, &lines)) }
    };
    if let Some((file, at)) = &seen.blocked {
        let text = format!("{} cannot read the configuration: no start can succeed", seen.user);
        let check = Check::failed(Code::Config, text).seen(file.display().to_string());
        let check = check.seen(closed(at));
        return named(let_in(subject, check, &seen.group, at), file);
    }
    if let Some((file, wall)) = &seen.hidden {
        let (shown, sudo) = (quoted(&file.to_string_lossy()), subject.sudo());
        let text = format!("the unit hides the configuration from the service ({wall}): no start can succeed");
        let check = Check::failed(Code::Config, text).seen(file.display().to_string());
        let Ok(real) = std::fs::canonicalize(file) else { return check };
        let copy = format!("{sudo}cp --remove-destination {} {shown}", quoted(&real.to_string_lossy()));
        return match real == *file {
            true => named(check.seen("the file has to be where the service may read it, as in /etc/mpm-monitor"), file),
            false => {
                let check = check.seen(format!("it is a link to {}", real.display()));
                check.next(format!("{copy} && {sudo}chmod 644 {shown} && {}", subject.verb("restart")))
            }
        };
    }
    let (problems, is_error) = match &seen.settings {
        Ok(_) if seen.weak.is_empty() => return unknown(subject, seen, unit),
        Ok(_) => (&seen.weak, false),
        Err(problems) => (problems, true),
    };
    let mut check = match (problems.len(), is_error) {
        (_, false) => {
            let text = "the settings name what is not there, and the service goes on without it";
            Check::failed(Code::Config, text).severity(Severity::Warning)
        }
        (1, true) => Check::failed(Code::Config, "the settings have one error: no start can succeed"),
        (n, true) => Check::failed(Code::Config, format!("the settings have {n} errors: no start can succeed")),
    };
    for problem in problems {
        let lines = of_unit(problem, unit);
        check = check.seen(format!("{problem}{}", begin(problem)));
        check = lines.iter().fold(check, |c, l| c.seen(l.shown()));
        let given = given(problem, unit).filter(|_| lines.is_empty());
        check = given
            .iter()
            .fold(check, |c, name| c.seen(format!("no file of the unit says so: the manager itself gives it {name}")));
    }
    let next = cure::command(subject, &problems.iter().collect::<Vec<_>>(), unit);
    check.next(next.unwrap_or_else(|| "mpm-monitor config check".to_owned()))
}

/// How the line of a problem begins, where the problem itself does not say; what stands behind `=` may be a secret.
fn begin(problem: &Problem) -> String {
    let Origin::File(path, line) = &problem.origin else { return String::new() };
    // Text that is wrong was read as a file, and not as a pipe.
    if !problem.message.starts_with("not valid TOML") {
        return String::new();
    }
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let begin = text.lines().nth(line - 1).and_then(|l| l.split('=').next()).map_or("", str::trim);
    if begin.is_empty() { String::new() } else { format!(" (the line begins with {begin:?})") }
}

fn unknown(subject: &Subject, seen: &Seen, unit: &Merged) -> Check {
    let lines: Vec<&Line> = seen.unknown.iter().flat_map(|name| unit.variable(name)).collect();
    if lines.is_empty() {
        return Check::verified(Code::Config, "the settings are valid");
    }
    let text = format!("the unit sets what is no setting of this version: {}", seen.unknown.join(", "));
    let check = Check::failed(Code::Config, text).severity(Severity::Warning);
    let check = lines.iter().fold(check, |c, l| c.seen(l.shown()));
    let lines: Vec<(&Path, usize, usize)> = lines.iter().map(|l| l.place()).collect();
    check.next(Merged::without(subject, &lines))
}

/// The lines of the unit that a problem comes from.
pub fn of_unit<'a>(problem: &Problem, unit: &'a Merged) -> Vec<&'a Line> {
    match &problem.origin {
        Origin::Variable(name) => unit.variable(name),
        Origin::File(path, _) if !path.exists() => unit.variable("MPM_MONITOR_CONFIG"),
        _ => Vec::new(),
    }
}

/// The variable that a problem comes from, where the manager gives it to all that it starts.
pub fn given<'a>(problem: &'a Problem, unit: &Merged) -> Option<&'a str> {
    let Origin::Variable(name) = &problem.origin else { return None };
    unit.given.iter().any(|(given, _)| given == name).then_some(name)
}

fn token(subject: &Subject, seen: &Seen, unit: &Merged, runs: bool) -> Check {
    let code = Code::TokenFile;
    let Some((path, mode)) = &seen.token else {
        return match &seen.settings {
            Err(_) => Check::not_run(code, "the settings that would name it have errors"),
            Ok(_) => Check::verified(code, "no token file is named"),
        };
    };
    let (shown, word, sudo) = (path.display(), quoted(&path.to_string_lossy()), subject.sudo());
    let then = if runs { String::new() } else { format!(" && {}", subject.verb("restart")) };
    let is_credential = credential(unit).is_some();
    match (mode, &seen.token_error) {
        (Some(mode), Some(_)) if mode & 0o077 != 0 && !is_credential => {
            Check::failed(code, "others can read the token: the monitor refuses it and does not start")
                .seen(format!("{shown} has mode {mode:04o}"))
                .next(format!("{sudo}chmod 600 {word}{then}"))
                .fix(Fix::Tighten { path: path.clone(), mode: mode & 0o700 })
        }
        (_, Some(error)) => {
            let owner = match subject.scope {
                Scope::System if !is_credential => format!(" && {sudo}chown {} {word}", seen.user),
                _ => String::new(),
            };
            let make = match sudo {
                "" => format!("(umask 077; openssl rand -hex 32 > {word})"),
                _ => format!("sudo sh -c 'umask 077; openssl rand -hex 32 > {shown}'"),
            };
            let lines = unit.setting(&["LoadCredential"]);
            let check = Check::failed(code, "the token cannot be used").seen(format!("{shown}: {error}"));
            let check = lines.iter().filter(|_| is_credential).fold(check, |c, l| c.seen(l.shown()));
            check.next(format!("{make}{owner}{then}"))
        }
        (_, None) if seen.token_blocked.is_some() => {
            let at = seen.token_blocked.as_deref().unwrap_or(path);
            let text = format!("{} cannot read the token: no start can succeed", seen.user);
            let check = Check::failed(code, text).seen(shown.to_string());
            let check = check.seen(closed(at));
            match at == path.as_path() {
                // Nobody but its owner may read it, so that must be the service's user.
                true => check.next(format!("{sudo}chown {} {word} && {}", seen.user, subject.verb("restart"))),
                false => let_in(subject, check, &seen.group, at),
            }
        }
        (_, None) if seen.token_hidden.is_some() => {
            let wall = seen.token_hidden.as_deref().unwrap_or_default();
            Check::failed(code, format!("the unit hides the token from the service ({wall}): no start can succeed"))
                .seen(shown.to_string())
                .seen("the file has to be where the service may read it, as in /etc/mpm-monitor")
        }
        (None, None) => {
            Check::not_run(code, format!("{shown} is the service's to read")).next(subject.doctor_as_root())
        }
        (Some(_), None) if seen.token_untold => {
            let text =
                "only the service's environment names the token: hooks and commands do not know it, and are refused";
            let check = Check::failed(code, text).severity(Severity::Warning).seen(shown.to_string());
            let check = unit.variable(TOKEN_FILE).iter().fold(check, |c, l| c.seen(l.shown()));
            let Some(file) = Directories::of_this_user().user_config else { return check };
            let text = std::fs::read_to_string(&file).unwrap_or_default();
            let check = check.seen(format!("access.token_file has to be set in {}", file.display()));
            if text.contains("access") {
                return check;
            }
            let (folder, file) = (file.parent().unwrap_or(&file), quoted(&file.to_string_lossy()));
            let folder = quoted(&folder.to_string_lossy());
            check.next(format!("mkdir -p {folder} && printf '\\n[access]\\ntoken_file = \"%s\"\\n' {word} >> {file}"))
        }
        (Some(_), None) => Check::verified(code, format!("{shown} is private")),
    }
}

#[cfg(test)]
#[path = "settings_tests.rs"]
mod tests;
