//! Looks at what there is, for the plans and for `status`.

use super::{health, users};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use super::definition::Definition;
use super::manager::{Manager, ManagerError};
use super::observed::Observed;
use super::paths::Paths;
use super::receipt::{Receipt, ReceiptError};
use super::systemd::show;
use super::{Kind, Scope, desired, files, program};
use daemon::guarded::{Guard, Refusal};
use daemon::lock;

/// Why it could not be looked at.
#[derive(Debug, thiserror::Error)]
pub enum ObserveError {
    /// A file.
    #[error("cannot read {0}: {1}")]
    Io(String, io::Error),
    /// The receipt.
    #[error(transparent)]
    Receipt(#[from] ReceiptError),
    /// The manager.
    #[error(transparent)]
    Manager(#[from] ManagerError),
}

/// Everything that the plans of one instance need; `manager` is `None` where there is none to ask.
///
/// # Errors
/// [`ObserveError`].
pub fn observe(port: u16, paths: &Paths, manager: Option<&dyn Manager>, user: &str) -> Result<Observed, ObserveError> {
    let mut found = BTreeMap::new();
    let candidates = desired::candidates(port, paths).into_iter().map(|(path, _)| path);
    let kept = paths.locks(port).into_iter().chain([paths.receipt(port)]).map(|path| (path, Guard::KEPT));
    for (path, guard) in candidates.map(|path| (path, Guard::WRITTEN)).chain(kept) {
        match guard.text(&path) {
            Ok(Some(text)) => drop(found.insert(path, text)),
            Ok(None) => {}
            Err(e) if hidden(paths, &e) => {}
            // Whatever the service's user has put in the lock's place says nothing, and goes with the installation.
            Err(e) if path == paths.lock(port) && Refusal::of(&e).is_some() => drop(found.insert(path, String::new())),
            Err(e) => return Err(ObserveError::Io(path.display().to_string(), e)),
        }
    }
    let packaged = paths.packaged_service().and_then(|path| files::read(&path).ok().flatten());
    let receipt = match Receipt::read(&paths.receipt(port)) {
        Err(ReceiptError::Io(_, e)) if hidden(paths, &e) => None,
        other => other?,
    };
    let service = manager.map(|m| m.job(&m.service_name(port))).transpose()?;
    let socket = manager.and_then(|m| m.socket_name(port).map(|name| m.job(&name))).transpose()?;
    let links = paths.jobs(port, true).iter().filter_map(|unit| link(port, paths, unit)).collect();
    let pid = service.as_ref().and_then(|j| j.pid);
    let running_build =
        pid.and_then(|pid| health::health(port, paths).ok().filter(|h| h.pid == pid)).and_then(|h| h.build);
    let others: Vec<Receipt> = Receipt::all(&paths.receipts).into_iter().filter(|r| r.port != port).collect();
    Ok(Observed {
        template_users: template_users(port, paths, manager, &others)?,
        files: found,
        packaged: packaged.and_then(|text| desired::program_of(&text, paths.kind)),
        missing_dirs: files::missing(&paths.units),
        account_dirs: Vec::new(),
        made_dirs: lone_sysusers(paths, receipt.is_none()),
        links,
        user_exists: users::exists(paths.app.program.name),
        history_exists: paths.history(port).exists(),
        other_histories: other_histories(port, paths),
        by_hand: if pid.is_some() { None } else { by_hand(port, paths) },
        logs: logs(port, paths),
        service,
        socket,
        linger: if paths.scope == Scope::User && paths.kind == Kind::Systemd { users::linger(user) } else { None },
        running_build,
        receipt,
        others,
    })
}

/// The link by which a unit is enabled, and what it points to, by the name under which a plan knows that file.
fn link(port: u16, paths: &Paths, unit: &str) -> Option<(PathBuf, PathBuf)> {
    let path = paths.wants(unit)?;
    let target = path.parent()?.join(std::fs::read_link(&path).ok()?);
    let packaged = paths.packaged.as_ref().zip(target.file_name()).map(|(dir, name)| dir.join(name));
    let known = [Some(paths.service(port)), paths.socket(port), packaged];
    let same = known.into_iter().flatten().find(|known| program::is_same_file(known, &target));
    Some((path, same.unwrap_or(target)))
}

/// The other instances that are started from an old template: a receipt, a link or the manager knows them, and they have no
/// unit of their own.
fn template_users(
    port: u16,
    paths: &Paths,
    manager: Option<&dyn Manager>,
    others: &[Receipt],
) -> Result<BTreeSet<u16>, ManagerError> {
    let templates = paths.old_templates();
    if !templates.iter().any(|path| path.exists()) {
        return Ok(BTreeSet::new());
    }
    let of_receipts = others.iter().filter(|r| r.files.iter().any(|f| templates.contains(&f.path))).map(|r| r.port);
    let mut all: BTreeSet<u16> = of_receipts.collect();
    for dir in
        ["service", "socket"].iter().filter_map(|kind| Some(paths.wants(&format!("x.{kind}"))?.parent()?.to_owned()))
    {
        let links = std::fs::read_dir(dir).into_iter().flatten().flatten();
        let linked = links.filter(|e| std::fs::read_link(e.path()).is_ok_and(|to| templates.contains(&to)));
        all.extend(show::ports(
            paths.app.program.name,
            &linked.map(|e| format!("{}\n", e.file_name().display())).collect::<String>(),
        ));
    }
    all.extend(manager.map(|m| m.ports()).transpose()?.unwrap_or_default());
    all.retain(|p| *p != port && !paths.service(*p).exists());
    Ok(all)
}

/// Whether an instance on another port left or keeps a history.
fn other_histories(port: u16, paths: &Paths) -> bool {
    let entries = std::fs::read_dir(&paths.state).into_iter().flatten().flatten();
    entries.filter_map(|e| e.file_name().to_str()?.parse::<u16>().ok()).any(|other| other != port)
}

/// The process that holds the lock of the port, or that of its history; asked where the manager runs none.
fn by_hand(port: u16, paths: &Paths) -> Option<String> {
    if let Some(holder) = paths.locks(port).iter().find_map(|path| lock::holder(path)) {
        return Some(format!("pid {}", holder.pid));
    }
    is_written(&paths.history(port)).then(|| "a process that no lock file names".to_owned())
}

/// Whether a process writes the events in this folder at this moment.
pub fn is_written(history: &Path) -> bool {
    lock::is_held(&history.join("events.db.lock")) == Some(true)
}

/// The log files of an instance, the rotated ones with it.
fn logs(port: u16, paths: &Paths) -> Vec<PathBuf> {
    let (Some(dir), Some(log), Some(stderr)) = (&paths.logs, paths.log(port), paths.stderr(port)) else {
        return Vec::new();
    };
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.path());
    let rotated = |path: &Path| {
        let base = path.file_stem().filter(|_| path.extension().is_some_and(|x| x.to_str().is_some_and(is_number)));
        base.is_some() && (base == log.file_name() || base == stderr.file_name())
    };
    let mut found: Vec<_> = entries.filter(|p| *p == log || *p == stderr || rotated(p)).collect();
    found.sort();
    found
}

fn is_number(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_digit())
}

/// Whether it is one of root's files of the machine's scope, which `status` does without. What changes things in that
/// scope is root, and hidden from root is nothing.
fn hidden(paths: &Paths, error: &io::Error) -> bool {
    paths.scope == Scope::System && error.kind() == io::ErrorKind::PermissionDenied
}

/// The sysusers.d directory where our file is the only one: an uninstall that kept the user left it.
fn lone_sysusers(paths: &Paths, no_receipt: bool) -> Vec<PathBuf> {
    let Some(path) = paths.sysusers.as_ref().filter(|p| no_receipt && p.exists()) else { return Vec::new() };
    let dir = path.parent().map(Path::to_owned);
    dir.filter(|d| std::fs::read_dir(d).is_ok_and(|entries| entries.count() == 1)).into_iter().collect()
}

/// Completes what is missing by the directories that this definition's files need.
pub fn needs_directories(definition: &Definition, paths: &Paths, observed: &mut Observed) {
    let drop_in = paths.drop_in(definition.port);
    let needs_drop_in = definition.socket || !definition.env.is_empty();
    let dirs = [
        drop_in.as_ref().and_then(|p| p.parent()).filter(|_| needs_drop_in),
        // A daemon's log directory is its account's, and made for it.
        paths.logs.as_deref().and_then(|d| if paths.scope == Scope::User { Some(d) } else { d.parent() }),
        paths.sysusers.as_ref().and_then(|p| p.parent()).filter(|_| !observed.user_exists),
    ];
    for dir in dirs.into_iter().flatten().flat_map(files::missing) {
        if !observed.missing_dirs.contains(&dir) {
            observed.missing_dirs.push(dir);
        }
    }
    if definition.account.is_some() {
        let needs = [Some(paths.history(definition.port)), paths.logs.clone()];
        observed.account_dirs.extend(needs.into_iter().flatten().filter(|d| !d.exists()));
    }
}
