//! The repairs that harm nothing: which they are, in words, and those of files. What goes through the manager is done by the
//! same code as the verbs do it.

use std::fmt;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use super::check::{Check, Code, Fix, Outcome};
use daemon::guarded::Guard;
use daemon::lock;

/// One repair and the checks that it is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repair {
    /// What is done.
    pub fix: Fix,
    /// What it repairs.
    pub codes: Vec<Code>,
}

impl fmt::Display for Fix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RemoveFile { path, .. } => write!(f, "remove {}", path.display()),
            Self::RemoveLock { path } => write!(f, "remove {}, which nobody holds", path.display()),
            Self::Tighten { path, mode } => write!(f, "give {} mode {mode:04o}", path.display()),
            Self::EnableLinger { user } => write!(f, "enable lingering for {user}"),
            Self::Install => f.write_str("write what is missing or outdated anew, and restart"),
            Self::Restart => f.write_str("restart it"),
        }
    }
}

/// What to do about the checks that failed: each repair once, and no restart beside an install, which does it.
pub fn plan(checks: &[Check]) -> Vec<Repair> {
    let mut repairs: Vec<Repair> = Vec::new();
    for check in checks.iter().filter(|c| c.outcome == Outcome::Failed) {
        for fix in &check.fixes {
            match repairs.iter_mut().find(|r| r.fix == *fix) {
                Some(repair) => repair.codes.push(check.code),
                None => repairs.push(Repair { fix: fix.clone(), codes: vec![check.code] }),
            }
        }
    }
    if let Some(at) = repairs.iter().position(|r| r.fix == Fix::Restart)
        && repairs.iter().any(|r| r.fix == Fix::Install)
    {
        let restart = repairs.remove(at);
        if let Some(install) = repairs.iter_mut().find(|r| r.fix == Fix::Install) {
            install.codes.extend(restart.codes);
        }
    }
    // Files first: what goes through the manager may need them.
    repairs.sort_by_key(|r| matches!(r.fix, Fix::EnableLinger { .. } | Fix::Install | Fix::Restart));
    repairs
}

/// Does one that is about a file; `None` for the others.
///
/// # Errors
/// The system's, or that the file is not what was looked at any more.
pub fn apply_to_file(fix: &Fix) -> Option<io::Result<()>> {
    Some(match fix {
        Fix::RemoveFile { path, content } => remove(path, content),
        Fix::RemoveLock { path } => remove_lock(path),
        Fix::Tighten { path, mode } => tighten(path, *mode),
        Fix::EnableLinger { .. } | Fix::Install | Fix::Restart => return None,
    })
}

fn changed(path: &Path) -> io::Error {
    io::Error::other(format!("{} changed meanwhile, and stays", path.display()))
}

fn remove(path: &Path, content: &str) -> io::Result<()> {
    if Guard::KEPT.text(path)?.as_deref() != Some(content) {
        return Err(changed(path));
    }
    std::fs::remove_file(path)
}

fn remove_lock(path: &Path) -> io::Result<()> {
    // Whoever starts meanwhile sees that the file it locked is not the one of that name any more, and takes the new one.
    match lock::is_held(path) {
        Some(false) => std::fs::remove_file(path),
        _ => Err(changed(path)),
    }
}

/// Takes permissions away, and never gives any.
fn tighten(path: &Path, mode: u32) -> io::Result<()> {
    let file = Guard::WRITTEN.open(path)?;
    let now = file.metadata()?;
    file.set_permissions(std::fs::Permissions::from_mode(now.mode() & mode))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_repair_once_files_first_and_no_restart_beside_an_install() {
        let failed = |code, fix| Check::failed(code, "x").fix(fix);
        let checks = [
            failed(Code::Versions, Fix::Restart),
            failed(Code::ProgramReplaced, Fix::Restart),
            failed(Code::UnitOutdated, Fix::Install),
            failed(Code::StaleLock, Fix::RemoveLock { path: "/l".into() }),
            Check::verified(Code::Linger, "x").fix(Fix::EnableLinger { user: "a".into() }),
        ];
        let plan = plan(&checks);
        assert_eq!(plan[0].codes, [Code::StaleLock]);
        assert_eq!(plan[1].codes, [Code::UnitOutdated, Code::Versions, Code::ProgramReplaced]);
        assert_eq!(plan.len(), 2);
    }

    #[test]
    fn only_what_was_looked_at_is_removed_and_permissions_are_only_taken() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("monitor-daemon.pid");
        std::fs::write(&file, "7").unwrap();
        let fix = |content: &str| Fix::RemoveFile { path: file.clone(), content: content.into() };
        let error = apply_to_file(&fix("8")).unwrap().unwrap_err();
        assert!(error.to_string().contains("changed meanwhile") && file.exists());
        apply_to_file(&Fix::Tighten { path: file.clone(), mode: 0o600 }).unwrap().unwrap();
        let mode = || std::fs::metadata(&file).unwrap().mode() & 0o777;
        assert_eq!(mode(), 0o600);
        apply_to_file(&Fix::Tighten { path: file.clone(), mode: 0o777 }).unwrap().unwrap();
        assert_eq!(mode(), 0o600);
        apply_to_file(&fix("7")).unwrap().unwrap();
        assert!(!file.exists());
        // A lock that somebody holds stays.
        let held = lock::InstanceLock::take(&crate::build::PROGRAM, dir.path(), 8765).unwrap();
        let path = lock::path_of(dir.path(), 8765);
        apply_to_file(&Fix::RemoveLock { path: path.clone() }).unwrap().unwrap_err();
        drop(held);
        apply_to_file(&Fix::RemoveLock { path: path.clone() }).unwrap().unwrap();
        assert!(!path.exists());
        assert!(apply_to_file(&Fix::Install).is_none());
    }
}
