//! `list`.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use super::args::{List, ScopeArgs, Target};
use super::service::{Context, is_root, print_json, print_text};
use super::status;
use crate::build::PROGRAM;
use crate::config::settings::DEFAULT_PORT;
use daemon::exit::Exit;
use daemon::guarded::Guard;
use daemon::identity::Manager;
use daemon::lock;
use daemon::out;
use daemon::probe;
use service::Scope;
use service::keeper::Keeper;
use service::receipt::Receipt;
use service::report::{displaced, report};
use service::users::name_of;

/// How long an instance of another user may take to answer.
const LOOK: Duration = Duration::from_millis(500);

/// How many files of another user are looked at.
const MOST: usize = 256;

/// One instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Row {
    port: u16,
    scope: Scope,
    state: &'static str,
    managed: bool,
    enabled: bool,
    pid: Option<u32>,
    version: Option<String>,
    summary: String,
    /// Whose it is, where it is another user's.
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<String>,
}

/// Lists all instances on this machine that this user may know of: the machine's, the user's own, and for root those of the
/// others that run.
///
/// # Errors
/// When standard output fails.
pub fn run(args: &List) -> anyhow::Result<Exit> {
    let mut rows: Vec<Row> = Vec::new();
    let mut notes = Vec::new();
    for scope in [Scope::System, Scope::User] {
        let flags = ScopeArgs { user: scope == Scope::User, system: scope == Scope::System };
        let target = Target { scope: flags, port: DEFAULT_PORT, timeout: Duration::ZERO, json: args.json };
        // Without a home there are no instances of this user's.
        let Ok(context) = Context::new(&target, "list") else { continue };
        let (ports, note) = ports(&context);
        // Root rarely has a user manager, and means the machine's.
        notes.extend(note.filter(|_| scope == Scope::System || !is_root()));
        for port in ports {
            let Ok(context) = Context::new(&Target { port, ..target.clone() }, "list") else { continue };
            let facts = status::facts(&context);
            // Root finds the instances of others by their lock files; everybody else by who answers.
            let user = facts.elsewhere.and_then(Keeper::other_user).filter(|_| displaced(&facts).is_none());
            let has_row = facts.elsewhere.is_some_and(|k| k.other_user().is_none() || is_root());
            let report = report(port, scope, facts);
            let row = Row {
                port,
                scope,
                state: report.state,
                managed: report.managed,
                enabled: report.manager.as_ref().is_some_and(|j| j.enabled == "enabled"),
                pid: report.process.as_ref().map(|p| p.pid),
                version: report.versions.running,
                summary: report.summary,
                user,
            };
            let known = row.managed || row.enabled || report.installed;
            // One process seen from both scopes, or a unit that only has a definition, is one row or none.
            let twice = rows.iter().any(|r| r.port == port && r.pid.is_some() && r.pid == row.pid);
            if known || (row.pid.is_some() && !twice && !has_row) {
                rows.push(row);
            }
        }
    }
    // Where a process is managed by one scope, the other scope's view of it says nothing new.
    let managed: Vec<(u16, Option<u32>)> = rows.iter().filter(|r| r.managed).map(|r| (r.port, r.pid)).collect();
    rows.retain(|r| r.managed || r.enabled || !managed.contains(&(r.port, r.pid)));
    rows.extend(of_other_users(Path::new("/run/user")));
    if args.json {
        print_json(&serde_json::json!({ "schema_version": 1, "instances": rows, "notes": notes }))?;
    } else {
        print_text(&table(&rows))?;
        notes.iter().for_each(|n| out::tell(&format!("note: {n}")));
    }
    Ok(Exit::Ok)
}

/// The ports of one scope, from the receipts, the manager and the lock files, and what could not be asked.
pub(super) fn ports(context: &Context) -> (BTreeSet<u16>, Option<String>) {
    let paths = &context.paths;
    let mut ports: BTreeSet<u16> = Receipt::all(&paths.receipts).iter().map(|r| r.port).collect();
    let note = match context.manager.usable() {
        Ok(()) => {
            ports.extend(context.manager.ports().unwrap_or_default());
            None
        }
        Err(error) => Some(format!("{} instances may be missing: {error}", context.scope)),
    };
    let dirs = paths.lock_dirs().into_iter().filter_map(|dir| std::fs::read_dir(dir).ok());
    let files = dirs.flatten().flatten().map(|e| e.path());
    for path in files.filter(|p| p.extension().is_some_and(|x| x == "lock")) {
        // A lock nobody holds is what a killed process left.
        if lock::is_held(&path) != Some(false) {
            let name = path.file_stem().and_then(|s| s.to_str()).and_then(|s| s.parse().ok());
            ports.extend(lock::read(&path).map(|l| l.port).or(name));
        }
    }
    (ports, note)
}

/// The running instances of other users, as far as this one may look: root may. Their managers cannot be asked from here,
/// so what does not run is not seen.
fn of_other_users(users: &Path) -> Vec<Row> {
    let mut rows = Vec::new();
    let entries = |dir: &Path| std::fs::read_dir(dir).into_iter().flatten().flatten();
    for user in entries(users) {
        let uid = user.file_name().to_str().and_then(|name| name.parse::<u32>().ok());
        let Some(uid) = uid.filter(|uid| *uid != rustix::process::geteuid().as_raw()) else { continue };
        // One for each port is the most that is honest, and whatever else is there is not looked at.
        for file in entries(&user.path().join("mpm-monitor")).take(MOST) {
            let Some(holder) = lock::holder_of(&file.path(), Guard::of_user(uid)) else { continue };
            let address = holder.addresses.iter().find_map(|a| a.parse::<std::net::SocketAddr>().ok());
            let health =
                address.and_then(|a| probe::health_blocking(a, &PROGRAM, LOOK).ok()).filter(|h| h.pid == holder.pid);
            rows.push(Row {
                port: holder.port,
                scope: Scope::User,
                state: match health.and_then(|h| h.ready) {
                    Some(true) => "ready",
                    Some(false) => "not-ready",
                    None => "unknown",
                },
                managed: holder.managed_by == Manager::SystemdUser,
                enabled: false,
                pid: Some(holder.pid),
                version: Some(holder.version),
                summary: "another user's".to_owned(),
                user: Some(name_of(uid).unwrap_or_else(|| uid.to_string())),
            });
        }
    }
    rows.sort_by_key(|row| row.port);
    rows
}

fn table(rows: &[Row]) -> String {
    if rows.is_empty() {
        return "no instances; `mpm-monitor install` makes one\n".to_owned();
    }
    let mut text =
        format!("{:<6} {:<7} {:<12} {:<8} {:<10} {}\n", "PORT", "SCOPE", "STATE", "PID", "VERSION", "STARTS");
    for row in rows {
        let pid = row.pid.map_or("-".to_owned(), |p| p.to_string());
        let version = row.version.as_deref().unwrap_or("-");
        let starts = match (&row.user, row.enabled, row.managed) {
            (Some(user), _, _) => format!("of {user}"),
            (None, true, _) => "by itself".to_owned(),
            (None, false, true) => "by hand".to_owned(),
            (None, false, false) => "not managed".to_owned(),
        };
        let line = format!(
            "{:<6} {:<7} {:<12} {:<8} {:<10} {}",
            row.port,
            if row.managed || row.enabled { row.scope.to_string() } else { "-".to_owned() },
            row.state,
            pid,
            fit(version, 20),
            starts
        );
        text.push_str(&(fit(&line, 80) + "\n"));
    }
    text
}

/// The text in so many columns, with an ellipsis where something had to go.
pub(super) fn fit(text: &str, columns: usize) -> String {
    if text.chars().count() <= columns {
        return text.to_owned();
    }
    text.chars().take(columns.saturating_sub(1)).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_fits_a_terminal() {
        let row = Row {
            port: 65535,
            scope: Scope::System,
            state: "not-running",
            managed: false,
            enabled: false,
            pid: Some(4_194_304),
            version: Some("10.20.30".into()),
            summary: String::new(),
            user: None,
        };
        let long = Row {
            version: Some("10.20.30-alpha.100+20261122.abcdef".into()),
            user: Some("a-user-with-a-very-long-name-of-the-directory".into()),
            ..row.clone()
        };
        let text = table(&[row, long]);
        assert!(text.lines().all(|l| l.chars().count() <= 80), "{text}");
        assert!(text.contains("of a-user-with") && text.ends_with("…\n"), "{text}");
        assert!(text.contains("65535  -       not-running  4194304  10.20.30   not managed"), "{text}");
        assert!(table(&[]).contains("mpm-monitor install"));
    }
    #[test]
    fn traps_of_other_users_are_not_read() {
        if !is_root() {
            return;
        }
        let users = tempfile::tempdir().unwrap();
        let dir = users.path().join("4711/mpm-monitor");
        std::fs::create_dir_all(&dir).unwrap();
        let (lock, pipe) = (dir.join("8765.lock"), dir.join("8766.lock"));
        let mut held = lock::InstanceLock::take(&PROGRAM, &dir, 8765).unwrap();
        held.describe(8765, vec![], &daemon::identity::Identity::new().unwrap()).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        std::os::unix::fs::symlink(&lock, dir.join("8767.lock")).unwrap();
        // Root's own file in a user's folder was put there by nobody who means well.
        assert_eq!(of_other_users(users.path()), []);
        for path in [&lock, &pipe] {
            std::os::unix::fs::chown(path, Some(4711), None).unwrap();
        }
        let seen: Vec<_> = of_other_users(users.path()).into_iter().map(|row| (row.port, row.user)).collect();
        assert_eq!(seen, [(8765, Some("4711".to_owned()))]);
    }
}
