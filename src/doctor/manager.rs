//! The service manager and the way to it.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use jiff::civil::Date;

use super::check::{Check, Code, Looked, Severity, none_of};
use super::{Fix, Subject};
use daemon::dirs::own_runtime_dir;
use service::exec::{self, QUICK};
use service::report::Facts;
use service::systemd::show;
use service::{Kind, Scope};

/// What was seen.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// `XDG_RUNTIME_DIR`, if it is set.
    pub named: Option<PathBuf>,
    /// Whether that is a directory.
    pub named_is_there: bool,
    /// The user's runtime directory as logind makes it, if it is there.
    pub found: Option<PathBuf>,
    /// What happened when the bus's socket in it was connected to; `None` where there is no directory to look into.
    pub bus: Option<Result<(), String>>,
    /// systemd's version.
    pub version: Option<u32>,
    /// Who typed `sudo`.
    pub behind_sudo: Option<String>,
    /// Why the machine's manager does not start this user's the next time, and what root types to change that.
    pub barred: Option<(String, String)>,
}

/// Looks.
pub fn look(kind: Kind) -> Seen {
    let named = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|d| !d.as_os_str().is_empty());
    let found = own_runtime_dir();
    let bus = named.clone().or_else(|| found.clone()).map(|dir| {
        // systemctl talks to the manager itself where there is no bus daemon.
        let (private, bus) = (dir.join("systemd/private"), dir.join("bus"));
        let first = UnixStream::connect(&bus).map(drop);
        first.or_else(|e| UnixStream::connect(&private).map(drop).map_err(|_| format!("{}: {e}", bus.display())))
    });
    let version = || exec::tool("systemctl", &["--version"], QUICK).ok().and_then(|o| show::version(&o.stdout));
    let version = (kind == Kind::Systemd).then(version).flatten();
    let named_is_there = named.as_ref().is_some_and(|d| d.is_dir());
    Seen {
        named,
        named_is_there,
        found,
        bus,
        version,
        behind_sudo: service::users::behind_sudo(),
        barred: barred(kind),
    }
}

/// Why the machine's manager does not start this user's the next time.
fn barred(kind: Kind) -> Option<(String, String)> {
    let uid = rustix::process::getuid().as_raw();
    let user = service::users::name_of(uid).filter(|_| kind == Kind::Systemd)?;
    for unit in [format!("user@{uid}.service"), "user@.service".to_owned()] {
        for folder in ["/etc/systemd/system", "/run/systemd/system"] {
            let path = Path::new(folder).join(&unit);
            if std::fs::read_link(&path).is_ok_and(|to| to == Path::new("/dev/null")) {
                let why = format!("{unit} is masked: {} is a link to /dev/null", path.display());
                return Some((why, format!("systemctl unmask {unit}")));
            }
        }
    }
    // It tells everybody about the own account.
    let said = exec::tool("chage", &["-l", &user], QUICK).ok()?.success().ok()?;
    let ended = expired(&said, jiff::Zoned::now().date())?;
    Some((format!("the account {user} expired on {ended}"), format!("chage -E -1 {user}")))
}

/// The day that an account expired on, in what chage(1) says.
fn expired(said: &str, today: Date) -> Option<Date> {
    let line = said.lines().find_map(|l| l.strip_prefix("Account expires"))?;
    let day = Date::strptime("%b %d, %Y", line.trim_start_matches(['\t', ' ', ':']).trim()).ok()?;
    (day <= today).then_some(day)
}

/// Judges.
pub fn judge(subject: &Subject, facts: &Looked<Facts>, seen: &Looked<Seen>) -> Vec<Check> {
    let mut checks = vec![reachable(subject, facts, seen.as_ref().ok())];
    let a_users_systemd = subject.paths.kind == Kind::Systemd && subject.scope == Scope::User;
    let codes = [Code::UserBus, Code::SessionEnvironment, Code::Linger];
    if !a_users_systemd {
        let why = match subject.paths.kind {
            Kind::Launchd => "launchd has no user bus and no lingering",
            Kind::Systemd => "the machine's manager needs no login",
        };
        let note = facts.as_ref().ok().and_then(|f| f.service.as_ref()?.note.clone());
        match note {
            Some(note) => {
                checks.extend(none_of(&codes[..2], why));
                checks.push(
                    Check::failed(Code::Linger, note)
                        .next("sudo mpm-monitor install --system, on a Mac where nobody logs in at the screen"),
                );
            }
            None => checks.extend(none_of(&codes, why)),
        }
    } else {
        match seen {
            Err(why) => checks.extend(none_of(&codes[..2], why)),
            Ok(seen) => checks.extend([user_bus(subject, seen), session(seen)]),
        }
        let barred = seen.as_ref().ok().and_then(|s| s.barred.as_ref());
        checks.push(match barred {
            Some((why, cure)) => {
                let text =
                    format!("the machine starts no manager of {} at the next boot or login: {why}", subject.user);
                let sudo = if subject.is_root { "" } else { "sudo " };
                Check::failed(Code::Linger, text).severity(Severity::Error).next(format!("{sudo}{cure}"))
            }
            None => linger(subject, facts, seen.as_ref().ok().and_then(|s| s.version)),
        });
    }
    checks.push(match facts {
        Err(why) => Check::not_run(Code::HomebrewCopy, why),
        Ok(Facts { homebrew: None, .. }) => Check::verified(Code::HomebrewCopy, "Homebrew runs no copy on this port"),
        Ok(Facts { homebrew: Some(path), .. }) => {
            Check::failed(Code::HomebrewCopy, "Homebrew runs a copy on this port, and two would fight over it")
                .seen(path.display().to_string())
                .next("brew services stop mpm-monitor")
        }
    });
    checks
}

/// The session names a runtime directory that there is not, while the user has one: nothing but the session is to be repaired.
fn astray(seen: &Seen) -> Option<(&PathBuf, &PathBuf)> {
    match (&seen.named, &seen.found) {
        (Some(named), Some(found)) if named != found && !seen.named_is_there => Some((named, found)),
        _ => None,
    }
}

fn way_out(found: &Path) -> String {
    format!("export XDG_RUNTIME_DIR={}", found.display())
}

fn reachable(subject: &Subject, facts: &Looked<Facts>, seen: Option<&Seen>) -> Check {
    let name = format!("the {} manager", subject.scope);
    match facts {
        Err(why) => Check::failed(Code::ManagerReachable, format!("{name} was not heard in time: {why}"))
            .next(subject.status_of_manager()),
        Ok(Facts { manager_error: Some(error), .. }) => {
            let users = subject.paths.kind == Kind::Systemd && subject.scope == Scope::User;
            let next = if let Some((_, found)) = seen.and_then(astray).filter(|_| users) {
                way_out(found)
            } else if users {
                format!("sudo loginctl enable-linger {}", subject.user)
            } else {
                subject.status_of_manager()
            };
            Check::failed(Code::ManagerReachable, format!("{name} does not answer")).seen(error).next(next)
        }
        Ok(_) => Check::verified(Code::ManagerReachable, format!("{name} answers")),
    }
}

fn user_bus(subject: &Subject, seen: &Seen) -> Check {
    let next = format!("sudo loginctl enable-linger {}", subject.user);
    if astray(seen).is_some() {
        return Check::not_run(Code::UserBus, "this session looks for it in the wrong place");
    }
    match (&seen.bus, seen.named.as_ref().or(seen.found.as_ref())) {
        (Some(Ok(())), Some(dir)) => Check::verified(Code::UserBus, format!("{} takes connections", dir.display())),
        (Some(Err(error)), _) => {
            Check::failed(Code::UserBus, "the user's manager cannot be connected to").seen(error).next(next)
        }
        _ => {
            let check = Check::failed(Code::UserBus, "there is no runtime directory, so no manager of this user runs");
            match &seen.behind_sudo {
                Some(user) => check.seen(format!("sudo was typed by {user}, whose manager this is not")),
                None => check,
            }
            .seen("XDG_RUNTIME_DIR is not set, and /run/user has no directory of this user")
            .next(next)
        }
    }
}

fn session(seen: &Seen) -> Check {
    if let Some((named, found)) = astray(seen) {
        let text = format!("XDG_RUNTIME_DIR is {}, which is not there", named.display());
        return Check::failed(Code::SessionEnvironment, text).severity(Severity::Error).next(way_out(found));
    }
    match (&seen.named, &seen.found) {
        (Some(dir), _) => Check::verified(Code::SessionEnvironment, format!("XDG_RUNTIME_DIR is {}", dir.display())),
        (None, Some(dir)) => {
            let text = "XDG_RUNTIME_DIR is not set here; mpm-monitor finds it by itself, systemctl --user does not";
            Check::failed(Code::SessionEnvironment, text).next(format!("export XDG_RUNTIME_DIR={}", dir.display()))
        }
        (None, None) => Check::not_run(Code::SessionEnvironment, "there is no runtime directory that could be named"),
    }
}

/// The versions in which a lingering manager was seen to end all the same (systemd issue 43361).
const LINGER_FAULT: u32 = 255;

fn linger(subject: &Subject, facts: &Looked<Facts>, version: Option<u32>) -> Check {
    let user = &subject.user;
    match facts.as_ref().map(|f| f.linger) {
        Err(why) => Check::not_run(Code::Linger, why.as_str()),
        Ok(None) => Check::not_run(Code::Linger, "logind does not tell"),
        Ok(Some(true)) if version == Some(LINGER_FAULT) => {
            Check::verified(Code::Linger, format!("{user} lingers; in systemd 255 that did not always hold"))
                .seen("systemd issue 43361")
        }
        Ok(Some(true)) => Check::verified(Code::Linger, format!("{user} lingers")),
        Ok(Some(false)) => {
            let text = format!("it ends with {user}'s last logout and does not start before the next login");
            Check::failed(Code::Linger, text)
                .next(format!("sudo loginctl enable-linger {user}"))
                .fix(Fix::EnableLinger { user: user.clone() })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::Outcome;
    use super::super::tests::{find, subject};
    use super::*;

    fn all(facts: Facts, seen: Seen) -> Vec<Check> {
        judge(&subject(), &Ok(facts), &Ok(seen))
    }

    #[test]
    fn pain_12_a_missing_user_bus_is_found_and_the_way_to_one_named() {
        let error = Some("there is no user manager for ann (Failed to connect to bus)".to_owned());
        let checks = all(Facts { manager_error: error, ..Facts::default() }, Seen::default());
        for code in [Code::ManagerReachable, Code::UserBus] {
            let check = find(&checks, code);
            assert_eq!(check.outcome, Outcome::Failed, "{check:?}");
            assert_eq!(check.next.as_deref(), Some("sudo loginctl enable-linger ann"));
        }
        let seen = Seen { found: Some("/run/user/7".into()), bus: Some(Ok(())), ..Seen::default() };
        let checks = all(Facts::default(), seen);
        assert_eq!(find(&checks, Code::UserBus).outcome, Outcome::Verified);
        let session = find(&checks, Code::SessionEnvironment);
        assert_eq!(session.next.as_deref(), Some("export XDG_RUNTIME_DIR=/run/user/7"));
        let seen = Seen { named: Some("/x".into()), bus: Some(Err("/x/bus: refused".into())), ..Seen::default() };
        assert_eq!(find(&all(Facts::default(), seen), Code::UserBus).evidence, ["/x/bus: refused"]);
    }

    #[test]
    fn pain_13_linger_is_checked_and_its_weak_version_known() {
        let linger = |on: Option<bool>, version| {
            let facts = Facts { linger: on, ..Facts::default() };
            find(&all(facts, Seen { version, ..Seen::default() }), Code::Linger).clone()
        };
        assert_eq!(linger(Some(true), Some(252)).outcome, Outcome::Verified);
        assert!(linger(Some(true), Some(255)).summary.contains("did not always hold"));
        let off = linger(Some(false), None);
        assert_eq!(off.outcome, Outcome::Failed);
        assert_eq!(off.fixes, [Fix::EnableLinger { user: "ann".into() }]);
        assert_eq!(linger(None, None).outcome, Outcome::NotRun);
    }

    #[test]
    fn what_took_too_long_is_no_verdict_on_the_rest() {
        let checks = judge(&subject(), &Err("it did not end within 6s".into()), &Err("x".into()));
        assert_eq!(find(&checks, Code::ManagerReachable).outcome, Outcome::Failed);
        assert!(checks[1..].iter().all(|c| c.outcome == Outcome::NotRun), "{checks:?}");
    }

    #[test]
    fn manager_that_will_not_start_again_is_told() {
        let said = |day: &str| format!("Last password change : never\nAccount expires\t\t\t\t\t\t: {day}\n");
        let today = jiff::civil::date(2026, 3, 1);
        assert_eq!(expired(&said("Jan 01, 2020"), today), Some(jiff::civil::date(2020, 1, 1)));
        assert_eq!(expired(&said("Jan 01, 2030"), today), None);
        assert_eq!(expired(&said("never"), today), None);
        let barred = Some(("user@7.service is masked".into(), "systemctl unmask user@7.service".into()));
        let check = find(&all(Facts::default(), Seen { barred, ..Seen::default() }), Code::Linger).clone();
        assert!(check.is_error() && check.summary.contains("masked"));
        assert_eq!(check.next.as_deref(), Some("sudo systemctl unmask user@7.service"));
    }
}
