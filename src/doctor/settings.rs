//! The settings and the token as the service gets them: with the environment of its unit, and with its rights.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::check::{Check, Code, Looked, Severity};
use super::merged::{Line, Merged};
use super::rights::{Account, Need};
use super::{Fix, Subject};
use crate::config::flags::Run;
use crate::config::layers::{Origin, Problem};
use crate::config::token::{CREDENTIAL, TokenError};
use crate::config::{self, Directories, EXPOSED, Provenance, Settings, Token};
use crate::hooks::claude::settings::quoted;
use service::Scope;
use service::users::name_of;

/// What was seen.
#[derive(Debug, Clone)]
pub struct Seen {
    /// The settings of the service, or all that is wrong with them.
    pub settings: Result<Settings, Vec<Problem>>,
    /// Variables of the unit that look like settings and are none.
    pub unknown: Vec<String>,
    /// A configuration file that the service's user cannot read, and what stands in the way.
    pub blocked: Option<(PathBuf, PathBuf)>,
    /// Where the token comes from, with its permissions, where it can be looked at.
    pub token: Option<(PathBuf, Option<u32>)>,
    /// What is wrong with the token.
    pub token_error: Option<String>,
    /// What keeps the service's user from the token.
    pub token_blocked: Option<PathBuf>,
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
        if problems.is_empty() { Ok(settings) } else { Err(problems) }
    });
    let named = env.get("MPM_MONITOR_CONFIG").map(PathBuf::from);
    let files = [Some(Directories::of_this_user().system_config), named];
    let blocked = files.into_iter().flatten().find_map(|f| account.blocked(Need::Read, &f).map(|at| (f, at)));
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
    // The manager reads a credential, and with its own rights.
    let read_by_service = path.as_ref().filter(|_| credential.is_none());
    let user = account.name(subject).to_owned();
    let variables: Vec<(String, String)> = env.into_iter().collect();
    Seen {
        settings,
        unknown: config::layers::unknown_variables(&variables),
        blocked,
        token_blocked: read_by_service.and_then(|p| account.blocked(Need::Read, p)),
        token: path.map(|p| (p.clone(), std::fs::metadata(&p).ok().map(|m| m.mode() & 0o7777))),
        token_error,
        group: Some(unit.get("Group")).filter(|g| !g.is_empty()).unwrap_or(&user).to_owned(),
        user,
    }
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
    for (name, path) in [("server.unix_socket", &settings.unix_socket), ("log.file", &settings.log_file)] {
        let Some(folder) = path.as_deref().and_then(Path::parent) else { continue };
        let why = match super::needs::is_absent(folder) {
            true => "is not there",
            false if is_walled(unit, folder) => "is read-only for the service (ProtectSystem=strict)",
            false if account.may(Need::Write, folder) == Some(false) => "cannot be written by the service",
            false => continue,
        };
        let path = path.as_deref().unwrap_or(folder).display();
        let message = format!("{name}: {path} cannot be made: {} {why}", folder.display());
        problems.push(Problem { origin: origin(name), message });
    }
    problems
}

/// Whether the unit takes the right to write into a folder, whatever its permissions are.
fn is_walled(unit: &Merged, folder: &Path) -> bool {
    let of_unit = [("StateDirectory", "/var/lib"), ("RuntimeDirectory", "/run"), ("LogsDirectory", "/var/log")];
    let given =
        of_unit.iter().flat_map(|(key, base)| unit.get(key).split_whitespace().map(|d| Path::new(base).join(d)));
    let opened = unit.get("ReadWritePaths").split_whitespace().map(|p| PathBuf::from(p.trim_start_matches(['-', '+'])));
    let always = ["/dev", "/proc", "/sys", "/tmp", "/var/tmp"].map(PathBuf::from);
    unit.get("ProtectSystem") == "strict" && !given.chain(opened).chain(always).any(|p| folder.starts_with(p))
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
    if at.is_dir() && !at.starts_with("/etc/mpm-monitor") {
        return check.seen("the file has to be where the service's user may read it, as in /etc/mpm-monitor");
    }
    let (sudo, shown) = (subject.sudo(), quoted(&at.to_string_lossy()));
    let right = if at.is_dir() { "g+rx" } else { "g+r" };
    check.next(format!("{sudo}chgrp {group} {shown} && {sudo}chmod {right} {shown} && {}", subject.verb("restart")))
}

fn config(subject: &Subject, seen: &Seen, unit: &Merged) -> Check {
    if let Some((file, at)) = &seen.blocked {
        let text = format!("{} cannot read the configuration: no start can succeed", seen.user);
        let check = Check::failed(Code::Config, text).seen(file.display().to_string());
        let check = check.seen(closed(at));
        return let_in(subject, check, &seen.group, at);
    }
    let problems = match &seen.settings {
        Ok(_) => return unknown(subject, seen, unit),
        Err(problems) => problems,
    };
    let count = if problems.len() == 1 { "one error".to_owned() } else { format!("{} errors", problems.len()) };
    let mut check = Check::failed(Code::Config, format!("the settings have {count}: no start can succeed"));
    let mut next = None;
    for problem in problems {
        let lines = of_unit(problem, unit);
        check = check.seen(problem.to_string());
        check = lines.iter().fold(check, |c, l| c.seen(l.shown()));
        let given = given(problem, unit).filter(|_| lines.is_empty());
        check = given
            .iter()
            .fold(check, |c, name| c.seen(format!("no file of the unit says so: the manager itself gives it {name}")));
        next = next.or_else(|| match given {
            Some(name) => Some(taken_back(subject, name)),
            None => cure(subject, problem, &lines),
        });
    }
    check.next(next.unwrap_or_else(|| "mpm-monitor config check".to_owned()))
}

fn unknown(subject: &Subject, seen: &Seen, unit: &Merged) -> Check {
    let lines: Vec<&Line> = seen.unknown.iter().flat_map(|name| unit.variable(name)).collect();
    if lines.is_empty() {
        return Check::verified(Code::Config, "the settings are valid");
    }
    let text = format!("the unit sets what is no setting of this version: {}", seen.unknown.join(", "));
    let check = Check::failed(Code::Config, text).severity(Severity::Warning);
    let check = lines.iter().fold(check, |c, l| c.seen(l.shown()));
    let lines: Vec<(&Path, usize, usize)> = lines.iter().map(|l| (l.file.as_path(), l.first, l.last)).collect();
    check.next(Merged::without(subject, &lines))
}

/// The lines of the unit that a problem comes from.
fn of_unit<'a>(problem: &Problem, unit: &'a Merged) -> Vec<&'a Line> {
    match &problem.origin {
        Origin::Variable(name) => unit.variable(name),
        Origin::File(path, _) if !path.exists() => unit.variable("MPM_MONITOR_CONFIG"),
        _ => Vec::new(),
    }
}

/// The variable that a problem comes from, where the manager gives it to all that it starts.
fn given<'a>(problem: &'a Problem, unit: &Merged) -> Option<&'a str> {
    let Origin::Variable(name) = &problem.origin else { return None };
    unit.given.iter().any(|(given, _)| given == name).then_some(name)
}

/// The command that takes a variable from the manager.
fn taken_back(subject: &Subject, name: &str) -> String {
    let user = if subject.scope == Scope::User { "--user " } else { "" };
    format!("{}systemctl {user}unset-environment {name} && {}", subject.sudo(), subject.verb("restart"))
}

/// The command after which a problem is gone, where one can be known. A setting that protects something is not taken away.
fn cure(subject: &Subject, problem: &Problem, lines: &[&Line]) -> Option<String> {
    if !lines.is_empty() {
        let lines: Vec<(&Path, usize, usize)> = lines.iter().map(|l| (l.file.as_path(), l.first, l.last)).collect();
        return Some(Merged::without(subject, &lines));
    }
    let Origin::File(path, line) = &problem.origin else { return None };
    let (sudo, shown, restart) = (subject.sudo(), quoted(&path.to_string_lossy()), subject.verb("restart"));
    if !path.is_file() {
        return path.exists().then(|| format!("{sudo}mv {shown} {shown}.aside && {restart}"));
    }
    if problem.message.contains("Permission denied") {
        return Some(format!("chmod u+r {shown} && {restart}"));
    }
    if problem.message.contains("it is UTF-16") {
        let to = format!("{}.utf8", path.display());
        let to = quoted(&to);
        return Some(format!(
            "iconv -f UTF-16 -t UTF-8 {shown} | {sudo}tee {to} >/dev/null && {sudo}mv {to} {shown} && {restart}"
        ));
    }
    if problem.message.contains("cannot read the file") {
        return None;
    }
    let setting = problem.message.split(": ").next().unwrap_or_default();
    let protects = ["access", "files", "allow"].iter().any(|p| setting.contains(p));
    (!protects).then(|| format!("{sudo}sed -i '{line}s/^/# /' {shown} && {restart}"))
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
        (None, None) => {
            Check::not_run(code, format!("{shown} is the service's to read")).next(subject.doctor_as_root())
        }
        (Some(_), None) => Check::verified(code, format!("{shown} is private")),
    }
}

#[cfg(test)]
#[path = "settings_tests.rs"]
mod tests;
