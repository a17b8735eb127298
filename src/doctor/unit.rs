//! What is installed: receipt, files, program, settings.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::check::{Check, Code, Looked, Outcome, Severity, none_of};
use super::{Fix, Subject};
use crate::cli::args::Run;
use crate::config::layers::Problem;
use crate::config::{self, Directories, Provenance, Settings};
use crate::service::drift::Drift;
use crate::service::manager::Phase;
use crate::service::receipt::{Receipt, ReceiptError};
use crate::service::report::Facts;
use crate::service::{Kind, Scope, desired, files, program, trust};

/// What was seen.
#[derive(Debug, Clone)]
pub struct Seen {
    /// The receipt, or why it cannot be read.
    pub receipt: Result<Option<Receipt>, Unreadable>,
    /// The installed files that somebody else can write, with their permissions.
    pub writable: Vec<(PathBuf, u32)>,
    /// Whether the program that the definition names is a file that can be run; `None` without a definition.
    pub program: Option<(PathBuf, bool)>,
    /// The settings of the service, or all that is wrong with them.
    pub settings: Result<Settings, Vec<String>>,
    /// The token file that the settings name, with its permissions, where it can be looked at.
    pub token: Option<(PathBuf, Option<u32>)>,
    /// What is wrong with the token.
    pub token_error: Option<String>,
}

/// Why a receipt is no use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unreadable {
    /// It is root's.
    Hidden,
    /// It is damaged, or the disk is.
    Damaged(String),
}

/// Looks.
pub fn look(subject: &Subject) -> Seen {
    let (paths, port) = (&subject.paths, subject.port);
    let receipt = Receipt::read(&paths.receipt(port)).map_err(|e| match &e {
        ReceiptError::Io(_, io) if io.kind() == std::io::ErrorKind::PermissionDenied => Unreadable::Hidden,
        _ => Unreadable::Damaged(e.to_string()),
    });
    let files = desired::candidates(port, paths).into_iter().map(|(path, _)| path);
    let writable = files.filter_map(|path| {
        let mode = std::fs::metadata(&path).ok()?.mode() & 0o7777;
        (mode & 0o022 != 0).then_some((path, mode))
    });
    let texts = desired::candidates(port, paths).into_iter();
    let texts = texts.filter_map(|(path, _)| Some((path.clone(), files::read(&path).ok().flatten()?))).collect();
    let definition = desired::definition_of(port, paths, &texts);
    let program = definition.and_then(|text| desired::program_of(text, paths.kind)).map(|path| {
        let runs = std::fs::metadata(&path).is_ok_and(|m| m.is_file() && m.mode() & 0o111 != 0);
        (path, runs)
    });
    let env = receipt.as_ref().ok().and_then(Option::as_ref).map(|r| r.env.clone()).unwrap_or_default();
    let settings = read_settings(subject, &env).map(|(settings, _)| settings);
    let settings = settings.map_err(|all| all.iter().map(ToString::to_string).collect::<Vec<_>>());
    let (token, token_error) = token_of(subject, &settings);
    Seen { receipt, writable: writable.collect(), program, settings, token, token_error }
}

/// The settings as the service reads them: the files, and the environment that install gave it.
///
/// # Errors
/// All that is wrong with them.
pub fn read_settings(
    subject: &Subject,
    env: &BTreeMap<String, String>,
) -> Result<(Settings, Provenance), Vec<Problem>> {
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

/// The token file that the settings name with its permissions, and what is wrong with the token.
fn token_of(
    subject: &Subject,
    settings: &Result<Settings, Vec<String>>,
) -> (Option<(PathBuf, Option<u32>)>, Option<String>) {
    let path = settings.as_ref().ok().and_then(|s| s.token_file.clone());
    // A token of the machine's is the service account's; whoever may not read it cannot judge it.
    let error = path.as_ref().and_then(|p| match config::Token::from_file(p) {
        Err(e) if e.to_string().contains("Permission denied") => None,
        Err(config::token::TokenError::Owner(_)) if subject.scope == Scope::System => None,
        other => other.err().map(|e| e.to_string()),
    });
    let token = path.map(|p| {
        let mode = std::fs::metadata(&p).ok().map(|m| m.mode() & 0o7777);
        (p, mode)
    });
    (token, error)
}

/// The checks that make sense only where something is installed.
const OF_INSTALLED: [Code; 6] =
    [Code::UnitMissing, Code::UnitEdited, Code::UnitOutdated, Code::UnitReread, Code::UnitMode, Code::UnitEnabled];

/// Judges.
pub fn judge(subject: &Subject, facts: &Looked<Facts>, seen: &Looked<Seen>) -> Vec<Check> {
    let mut checks = Vec::new();
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
    if !installed {
        checks.extend(none_of(&OF_INSTALLED, "nothing is installed"));
        checks.extend(none_of(&[Code::ProgramThere, Code::ProgramLasts], "nothing is installed"));
    } else {
        match (facts, seen) {
            (Err(why), _) | (_, Err(why)) => {
                checks.extend(none_of(&OF_INSTALLED, why));
                checks.extend(none_of(&[Code::ProgramThere, Code::ProgramLasts], why));
            }
            (Ok(facts), Ok(seen)) => {
                checks.extend(files(subject, facts, seen));
                checks.extend(program_checks(subject, seen));
            }
        }
    }
    match seen {
        Err(why) => checks.extend(none_of(&[Code::Config, Code::TokenFile], why)),
        Ok(seen) => checks.extend(settings_checks(subject, seen)),
    }
    checks
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
        Some(job) if job.stale => Check::failed(Code::UnitReread, "the files changed since the manager read them")
            .next(subject.verb("restart"))
            .fix(Fix::Restart),
        Some(_) if subject.paths.kind == Kind::Launchd => {
            Check::not_run(Code::UnitReread, "launchd does not tell what it read")
        }
        Some(_) => Check::verified(Code::UnitReread, "the manager has read them"),
    });
    checks.push(match seen.writable.as_slice() {
        [] => Check::verified(Code::UnitMode, "only their owner can write them"),
        [(path, _), ..] => {
            let check = Check::failed(Code::UnitMode, "others than the owner can write what the manager runs")
                .next(format!("{}chmod go-w {}", subject.sudo(), path.display()));
            seen.writable.iter().fold(check, |c, (path, mode)| {
                c.seen(format!("{} has mode {mode:04o}", path.display()))
                    .fix(Fix::Tighten { path: path.clone(), mode: mode & !0o022 })
            })
        }
    });
    checks.push(enabled(subject, facts));
    checks
}

fn enabled(subject: &Subject, facts: &Facts) -> Check {
    let Some(job) = &facts.service else {
        return Check::not_run(Code::UnitEnabled, "the manager did not answer");
    };
    let socket = facts.socket.as_ref().is_some_and(|s| s.enabled == "enabled");
    let off = match subject.paths.kind {
        Kind::Launchd => job.enabled == "disabled",
        Kind::Systemd => job.enabled != "enabled" && !socket,
    };
    if !off {
        return Check::verified(Code::UnitEnabled, "it comes up by itself");
    }
    Check::failed(Code::UnitEnabled, "it does not come up by itself")
        .seen(job.enabled.clone())
        .next(subject.verb("install"))
}

fn program_checks(subject: &Subject, seen: &Seen) -> [Check; 2] {
    let Some((path, runs)) = &seen.program else {
        let why = "the unit that names it cannot be read";
        return [Check::not_run(Code::ProgramThere, why), Check::not_run(Code::ProgramLasts, why)];
    };
    let shown = path.display().to_string();
    let there = match runs {
        true => Check::verified(Code::ProgramThere, format!("{shown} can be run")),
        false => Check::failed(Code::ProgramThere, "the program that the unit names is gone: no start can succeed")
            .seen(&shown)
            .next(subject.verb("install")),
    };
    let weak = if subject.scope == Scope::System { trust::only_root_changes(path).err() } else { None };
    let problem = program::here(path).map(|why| format!("the program {why}"));
    let problem = problem.or(weak.filter(|_| *runs).map(|weak| format!("others can change what root runs: {weak}")));
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
            Check::failed(Code::ProgramLasts, problem).seen(&shown).next(format!("{next} && {install}"))
        }
    };
    [there, lasts]
}

fn settings_checks(subject: &Subject, seen: &Seen) -> [Check; 2] {
    let config = match &seen.settings {
        Ok(_) => Check::verified(Code::Config, "the settings are valid"),
        Err(problems) => {
            let count = if problems.len() == 1 { "one error".to_owned() } else { format!("{} errors", problems.len()) };
            let check = Check::failed(Code::Config, format!("the settings have {count}: no start can succeed"));
            problems.iter().fold(check, |c, p| c.seen(p)).next("mpm-monitor config check")
        }
    };
    let token = match (&seen.settings, &seen.token, &seen.token_error) {
        (Err(_), ..) => Check::not_run(Code::TokenFile, "the settings that would name it have errors"),
        (_, None, _) => Check::verified(Code::TokenFile, "no token file is named"),
        (_, Some((path, Some(mode))), Some(_)) if mode & 0o077 != 0 => {
            Check::failed(Code::TokenFile, "others can read the token: the monitor refuses it and does not start")
                .seen(format!("{} has mode {mode:04o}", path.display()))
                .next(format!("chmod 600 {}", path.display()))
                .fix(Fix::Tighten { path: path.clone(), mode: mode & 0o700 })
        }
        (_, Some((path, _)), Some(error)) => Check::failed(Code::TokenFile, "the token cannot be used")
            .seen(format!("{}: {error}", path.display()))
            .next(format!("(umask 077; openssl rand -hex 32 > {})", path.display())),
        (_, Some((path, None)), None) => {
            Check::not_run(Code::TokenFile, format!("{} is the service's to read", path.display()))
                .next(subject.doctor_as_root())
        }
        (_, Some((path, _)), None) => Check::verified(Code::TokenFile, format!("{} is private", path.display())),
    };
    [config, token]
}

/// Whether these checks leave the installation able to start.
pub fn can_start(checks: &[Check]) -> bool {
    let needed = [Code::ProgramThere, Code::Config, Code::TokenFile, Code::UnitMissing];
    !checks.iter().any(|c| needed.contains(&c.code) && c.outcome == Outcome::Failed)
}

#[cfg(test)]
#[path = "unit_tests.rs"]
mod tests;
