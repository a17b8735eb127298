//! `list`.

use std::collections::BTreeSet;

use serde::Serialize;

use super::args::{List, ScopeArgs, Target};
use super::exit::Exit;
use super::service::{Context, is_root, print_json, print_text};
use super::status;
use crate::config::settings::DEFAULT_PORT;
use crate::service::Scope;
use crate::service::observe::{lock_file, lock_held};
use crate::service::receipt::Receipt;
use crate::service::report::report;
use crate::service::systemd::Systemd;

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
}

/// Lists all instances on this machine that this user may know of: the machine's, and the user's own.
///
/// # Errors
/// When standard output fails.
pub fn run(args: &List) -> anyhow::Result<Exit> {
    let mut rows: Vec<Row> = Vec::new();
    let mut notes = Vec::new();
    for scope in [Scope::System, Scope::User] {
        let flags = ScopeArgs { user: scope == Scope::User, system: scope == Scope::System };
        let target = Target { scope: flags, port: DEFAULT_PORT, timeout: std::time::Duration::ZERO, json: args.json };
        // Without a home there are no instances of this user's.
        let Ok(mut context) = Context::new(&target, "list") else { continue };
        let (ports, note) = ports(&context);
        // Root rarely has a user manager, and means the machine's.
        notes.extend(note.filter(|_| scope == Scope::System || !is_root()));
        for port in ports {
            context.port = port;
            let report = report(port, scope, status::facts(&context));
            let row = Row {
                port,
                scope,
                state: report.state,
                managed: report.managed,
                enabled: report.manager.as_ref().is_some_and(|j| j.enabled == "enabled"),
                pid: report.process.as_ref().map(|p| p.pid),
                version: report.versions.running,
                summary: report.summary,
            };
            let known = row.managed || row.enabled || report.installed;
            // One process seen from both scopes, or a unit that only has a definition, is one row or none.
            let twice = rows.iter().any(|r| r.port == port && r.pid.is_some() && r.pid == row.pid);
            if known || (row.pid.is_some() && !twice) {
                rows.push(row);
            }
        }
    }
    // Where a process is managed by one scope, the other scope's view of it says nothing new.
    let managed: Vec<(u16, Option<u32>)> = rows.iter().filter(|r| r.managed).map(|r| (r.port, r.pid)).collect();
    rows.retain(|r| r.managed || r.enabled || !managed.contains(&(r.port, r.pid)));
    if args.json {
        print_json(&serde_json::json!({ "schema_version": 1, "instances": rows, "notes": notes }))?;
    } else {
        print_text(&table(&rows))?;
        notes.iter().for_each(|n| eprintln!("note: {n}"));
    }
    Ok(Exit::Ok)
}

/// The ports of one scope, from the receipts, the manager and the lock files, and what could not be asked.
fn ports(context: &Context) -> (BTreeSet<u16>, Option<String>) {
    let paths = &context.paths;
    let mut ports: BTreeSet<u16> = Receipt::all(&paths.receipts).iter().map(|r| r.port).collect();
    let note = match context.manager.usable() {
        Ok(()) => {
            ports.extend(Systemd::new(context.scope).ports().unwrap_or_default());
            None
        }
        Err(error) => Some(format!("{} instances may be missing: {error}", context.scope)),
    };
    let files = std::fs::read_dir(&paths.runtime).into_iter().flatten().flatten().map(|e| e.path());
    for path in files.filter(|p| p.extension().is_some_and(|x| x == "lock")) {
        // A lock nobody holds is what a killed process left.
        if lock_held(&path) != Some(false) {
            let name = path.file_stem().and_then(|s| s.to_str()).and_then(|s| s.parse().ok());
            ports.extend(lock_file(&path).map(|l| l.port).or(name));
        }
    }
    (ports, note)
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
        let starts = match (row.enabled, row.managed) {
            (true, _) => "by itself",
            (false, true) => "by hand",
            (false, false) => "not managed",
        };
        text.push_str(&format!(
            "{:<6} {:<7} {:<12} {:<8} {:<10} {}\n",
            row.port,
            if row.managed || row.enabled { row.scope.to_string() } else { "-".to_owned() },
            row.state,
            pid,
            version,
            starts
        ));
    }
    text
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
        };
        let text = table(&[row]);
        assert!(text.lines().all(|l| l.chars().count() <= 80), "{text}");
        assert!(text.contains("65535  -       not-running  4194304  10.20.30   not managed"), "{text}");
        assert!(table(&[]).contains("mpm-monitor install"));
    }
}
