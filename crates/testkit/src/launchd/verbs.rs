//! The words of launchctl, its texts and its exit codes.

use std::path::Path;

use super::job::Job;
use super::{State, plist, uid};

/// What launchctl prints and ends with.
#[derive(Debug, Default)]
pub struct Answer {
    /// Its exit code.
    pub code: i32,
    /// On standard output.
    pub out: String,
    /// On standard error.
    pub err: String,
    /// The job whose old process must have ended before it says so.
    pub waits_for: Option<(String, String)>,
}

fn said(code: i32, err: impl Into<String>) -> Answer {
    Answer { code, err: err.into() + "\n", ..Answer::default() }
}

fn printed(out: String) -> Answer {
    Answer { out, ..Answer::default() }
}

/// Does what it is told.
pub fn answer(words: &[&str], state: &mut State) -> Answer {
    state.calls.push(words.join(" "));
    match words {
        ["print", target] => print(target, state),
        ["print-disabled", domain] => print_disabled(domain, state),
        [verb @ ("enable" | "disable"), target] => match split(target) {
            Some((domain, label)) if state.behaviour.domains.contains(&domain) => {
                state.disabled.insert((domain, label), *verb == "disable");
                Answer::default()
            }
            _ => said(112, "Could not find domain"),
        },
        ["bootstrap", domain, path] => bootstrap(domain, path, state),
        ["bootout", target] => bootout(target, state),
        ["kickstart", "-k", target] => kickstart(target, true, state),
        ["kickstart", target] => kickstart(target, false, state),
        ["kill", signal, target] => kill(signal, target, state),
        _ => said(64, "Unrecognized subcommand or wrong arguments. Usage: launchctl <subcommand> ..."),
    }
}

/// A target's domain and label.
fn split(target: &str) -> Option<(String, String)> {
    let (domain, label) = target.rsplit_once('/')?;
    Some((domain.to_owned(), label.to_owned()))
}

fn find<'a>(target: &str, state: &'a mut State) -> Option<&'a mut Job> {
    state.jobs.get_mut(&split(target)?)
}

fn no_domain(domain: &str) -> Answer {
    let (kind, number) = domain.split_once('/').unwrap_or((domain, ""));
    said(112, format!("Could not find domain for user {kind}: {number}"))
}

fn no_service(target: &str) -> Answer {
    let (domain, label) = split(target).unwrap_or_default();
    let (kind, number) = domain.split_once('/').unwrap_or((&domain, ""));
    said(113, format!("Bad request.\nCould not find service \"{label}\" in domain for user {kind}: {number}"))
}

fn print(target: &str, state: &mut State) -> Answer {
    if state.behaviour.domains.contains(target) {
        let mut text = format!("{target} = {{\n\ttype = login\n\tservices = {{\n");
        for ((_, label), job) in state.jobs.iter().filter(|((domain, _), _)| domain == target) {
            text.push_str(&format!("\t\t{:>8}      - \t{label}\n", job.pid().unwrap_or(0)));
        }
        return printed(text + "\t}\n\n\tunmanaged processes = {\n\t}\n}\n");
    }
    let domain = split(target).map(|(domain, _)| domain).unwrap_or_default();
    if !state.behaviour.domains.contains(&domain) {
        // Either the target is a domain itself, or it is in one.
        return no_domain(if domain.contains('/') || domain == "system" { &domain } else { target });
    }
    match find(target, state) {
        Some(job) => printed(job.print(&domain)),
        None => no_service(target),
    }
}

fn print_disabled(domain: &str, state: &State) -> Answer {
    if !state.behaviour.domains.contains(domain) {
        return no_domain(domain);
    }
    let mut text = "\tdisabled services = {\n\t\t\"com.apple.other\" => disabled\n".to_owned();
    for ((_, label), disabled) in state.disabled.iter().filter(|((d, _), _)| d == domain) {
        text.push_str(&format!("\t\t\"{label}\" => {}\n", if *disabled { "disabled" } else { "enabled" }));
    }
    printed(text + "\t}\n")
}

fn bootstrap(domain: &str, path: &str, state: &mut State) -> Answer {
    let failed = |code: i32, text: &str| said(code, format!("Bootstrap failed: {code}: {text}"));
    let io =
        || said(5, "Bootstrap failed: 5: Input/output error\nTry re-running the command as root for richer errors.");
    if !state.behaviour.domains.contains(domain) {
        return failed(125, "Domain does not support specified action");
    }
    if let Some(code) = state.behaviour.bootstrap_fails.pop() {
        return failed(code, "as the test wants it");
    }
    let definition = match plist::read(Path::new(path), uid()) {
        Ok(definition) => definition,
        Err((code, reason)) => {
            state.refused.push(reason);
            return if code == 122 { failed(122, "Path had bad ownership/permissions") } else { io() };
        }
    };
    let key = (domain.to_owned(), definition.label.clone());
    if state.disabled.get(&key) == Some(&true) {
        return match state.behaviour.disabled {
            119 => failed(119, "Service is disabled"),
            _ => io(),
        };
    }
    let session = if domain.starts_with("gui/") { "Aqua" } else { "Background" };
    if domain != "system" && !definition.sessions.iter().any(|s| s == session) {
        return failed(134, "Service cannot load in requested session");
    }
    if state.jobs.contains_key(&key) {
        return if state.behaviour.already == 37 { failed(37, "Operation already in progress") } else { io() };
    }
    state.ignored.extend(definition.ignored.iter().cloned());
    state.jobs.insert(key, Job::new(definition));
    Answer::default()
}

fn bootout(target: &str, state: &mut State) -> Answer {
    match find(target, state) {
        None => said(3, "Boot-out failed: 3: No such process"),
        Some(job) if job.leaving => said(36, "Boot-out failed: 36: Operation now in progress"),
        Some(job) => {
            job.boot_out();
            Answer::default()
        }
    }
}

fn kickstart(target: &str, anew: bool, state: &mut State) -> Answer {
    let behaviour = state.behaviour.clone();
    match find(target, state) {
        None => no_service(target),
        Some(job) if job.leaving => said(37, "Could not kickstart service: 37: Operation already in progress"),
        Some(job) => {
            job.kick(anew, &behaviour);
            Answer { waits_for: split(target).filter(|_| anew), ..Answer::default() }
        }
    }
}

fn kill(signal: &str, target: &str, state: &mut State) -> Answer {
    match find(target, state) {
        None => no_service(target),
        Some(job) if job.signal(signal.trim_start_matches("SIG")) => Answer::default(),
        Some(_) => said(3, "No process to signal."),
    }
}
