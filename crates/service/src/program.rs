//! A path to this program that is still the same program tomorrow.
//!
//! A unit that names a path inside a build tree, a versioned Homebrew folder or a Nix store works until the next
//! build, upgrade or garbage collection, and then fails at a moment when nobody looks.

use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use super::exec::ExecError;
use super::paths::Paths;
use super::report::parse_version;
use super::trust::{self, Weak};
use super::version::Identity;
use super::{Scope, desired, exec, files};

/// How long a program may take to say its version.
const SAY: Duration = Duration::from_secs(10);

/// Why a path was not taken.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// It does not last.
    #[error(
        "{path} {why}, so what runs it would break later; install it for good first: `{advice}`, then run that copy"
    )]
    Transient {
        /// The path.
        path: String,
        /// What is wrong with it.
        why: &'static str,
        /// What to type.
        advice: String,
    },
    /// There is none, or it cannot be run.
    #[error("{0} is not an executable file; give another with --program")]
    NotExecutable(String),
    /// The service user cannot get at it.
    #[error(
        "the service's user cannot run {path}: {blocker} is closed to it; install it where all may read: `{advice}`"
    )]
    Unreadable {
        /// The path.
        path: String,
        /// The directory or file in the way.
        blocker: String,
        /// What to type.
        advice: String,
    },
    /// Somebody else than root can change it.
    #[error("cannot run {path} with root's power: {weak}; install it where only root writes: `{advice}`")]
    Weak {
        /// The path.
        path: String,
        /// What others can change.
        weak: Weak,
        /// What to type.
        advice: String,
    },
    /// Nobody knows where this program is.
    #[error("cannot tell where this program is ({0}); give it with --program")]
    Unknown(String),
}

/// Folders that are emptied, on Linux and on macOS.
const TEMPORARY: [&str; 6] =
    ["/tmp", "/var/tmp", "/var/folders", "/private/tmp", "/private/var/tmp", "/private/var/folders"];

/// Why a path does not last; `None` if it does.
pub fn transient(path: &Path) -> Option<&'static str> {
    let parts: Vec<&str> =
        path.components().filter_map(|c| if let Component::Normal(p) = c { p.to_str() } else { None }).collect();
    let has = |pair: [&str; 2]| parts.windows(2).any(|w| w == pair);
    // With `--target` cargo puts the triple in between.
    let cargo = parts.windows(2).any(|w| w[0] == "target" && (w[1] == "debug" || w[1] == "release"))
        || parts.windows(3).any(|w| w[0] == "target" && (w[2] == "debug" || w[2] == "release"));
    if cargo {
        Some("is in a build tree, where the next build replaces it")
    } else if parts.contains(&"Cellar") || parts.contains(&"Caskroom") {
        Some("is in a versioned Homebrew folder, which the next upgrade removes")
    } else if has(["nix", "store"]) {
        Some("is in the Nix store, where garbage collection removes it")
    } else if has([".nvm", "versions"]) || parts.contains(&"node_modules") {
        Some("is in a versioned folder of a package manager, which the next upgrade removes")
    } else if TEMPORARY.iter().any(|dir| path.starts_with(dir)) {
        Some("is in a temporary folder, which is emptied")
    } else if path.starts_with("/Volumes") {
        Some("is on a volume that need not be there when the service starts")
    } else if is_in_memory(path) {
        Some("is in a folder in memory, which is empty after a logout or a reboot")
    } else if path.starts_with("/proc") || path.starts_with("/dev") {
        Some("is not a file of its own")
    } else {
        None
    }
}

/// Whether it is below `/run`, where but for the profiles of NixOS nothing outlives a reboot, and a user's own part not even the
/// last logout.
fn is_in_memory(path: &Path) -> bool {
    let below = |dirs: &[&str]| dirs.iter().any(|dir| path.starts_with(dir));
    let session = std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty());
    below(&["/run", "/var/run"]) && !below(&["/run/current-system", "/run/wrappers"])
        || session.is_some_and(|dir| path.starts_with(dir))
}

/// [`transient`] on this machine. A test's machine of its own may be anywhere, and lasts as long as the test.
pub fn here(path: &Path) -> Option<&'static str> {
    let is_of_test = super::test_root().and_then(|root| root.parent().map(|machine| path.starts_with(machine)));
    if is_of_test == Some(true) { None } else { transient(path) }
}

/// Chooses the path that the unit shall name.
///
/// # Errors
/// [`ProgramError`].
pub fn choose(given: Option<&Path>, scope: Scope) -> Result<PathBuf, ProgramError> {
    let path = match given {
        Some(path) => std::path::absolute(path).map_err(|e| ProgramError::Unknown(e.to_string()))?,
        None => own()?,
    };
    if let Some(why) = here(&path) {
        return Err(ProgramError::Transient { path: path.display().to_string(), why, advice: advice(&path, scope) });
    }
    let meta = std::fs::metadata(&path).ok().filter(|m| m.is_file() && m.mode() & 0o111 != 0);
    if meta.is_none() {
        return Err(ProgramError::NotExecutable(path.display().to_string()));
    }
    let trusted = if scope == Scope::System { trust::only_root_changes(&path) } else { trust::may_run(&path) };
    trusted.map_err(|weak| ProgramError::Weak {
        path: path.display().to_string(),
        weak,
        advice: advice(&path, scope),
    })?;
    if scope == Scope::System
        && let Some(blocker) = closed_to_others(&path)
    {
        return Err(ProgramError::Unreadable {
            path: path.display().to_string(),
            blocker: blocker.display().to_string(),
            advice: advice(&path, scope),
        });
    }
    Ok(path)
}

/// What to type so that the program lasts.
pub fn advice(path: &Path, scope: Scope) -> String {
    match scope {
        // A Mac's `install` makes no folders on the way, and a new Mac has neither of these.
        Scope::System => format!(
            "sudo install -d /usr/local/bin && sudo install -m755 {} /usr/local/bin/mpm-monitor",
            path.display()
        ),
        Scope::User => format!("install -d ~/.local/bin && install -m755 {} ~/.local/bin/mpm-monitor", path.display()),
    }
}

/// Paths to this very file, best first: as it was called, as `PATH` finds it, as the system knows it.
fn own() -> Result<PathBuf, ProgramError> {
    let current = std::env::current_exe().map_err(|e| ProgramError::Unknown(e.to_string()))?;
    let called = std::env::args_os().next().map(PathBuf::from);
    let mut candidates = Vec::new();
    if let Some(called) = called.filter(|c| c.components().count() > 1) {
        candidates.extend(std::path::absolute(called));
    }
    if let Some(name) = current.file_name() {
        let path = std::env::var_os("PATH").unwrap_or_default();
        candidates.extend(std::env::split_paths(&path).filter(|d| d.is_absolute()).map(|d| d.join(name)));
    }
    let mut same: Vec<_> = candidates.into_iter().filter(|c| is_same_file(c, &current)).collect();
    same.push(current);
    // The first one that lasts; if none does, the first, for the message.
    Ok(same.iter().find(|p| here(p).is_none()).unwrap_or(&same[0]).clone())
}

/// The tools whose places a launchd job is told.
const TOOLS: [&str; 2] = ["tmux", "git"];

/// The directories of tools that are where a launchd job would not look, each once: those that an earlier install found and
/// that still have one, whatever this session finds, then what this session finds.
pub fn tool_dirs(known: &[PathBuf]) -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let usual = super::launchd::render::SEARCH.map(Path::new);
    tool_dirs_among(known, std::env::split_paths(&path).filter(|d| here(d).is_none()).collect(), &usual)
}

fn tool_dirs_among(known: &[PathBuf], mut dirs: Vec<PathBuf>, usual: &[&Path]) -> Vec<PathBuf> {
    let has =
        |dir: &Path, tool: &str| std::fs::metadata(dir.join(tool)).is_ok_and(|m| m.is_file() && m.mode() & 0o111 != 0);
    dirs.retain(|d| d.is_absolute());
    let mut found: Vec<PathBuf> = known.iter().filter(|d| TOOLS.iter().any(|tool| has(d, tool))).cloned().collect();
    for tool in TOOLS {
        if !found.iter().map(PathBuf::as_path).chain(usual.iter().copied()).any(|dir| has(dir, tool)) {
            found.extend(dirs.iter().find(|dir| has(dir, tool)).cloned());
        }
    }
    found
}

/// The program that the installed definition of an instance runs, if that can be read; a package's, where there is no other.
pub fn of_instance(paths: &Paths, port: u16) -> Option<PathBuf> {
    let template = paths.old_templates().into_iter().next();
    let candidates = [Some(paths.service(port)), template, paths.packaged_service()];
    let definition = candidates.iter().flatten().find_map(|path| files::read(path).ok().flatten())?;
    desired::program_of(&definition, paths.kind)
}

/// The version and build that a program says it is; nothing where it does not run, is another program, or is one that root
/// does not run because others can change it.
pub fn version(path: &Path) -> Option<(String, Option<String>)> {
    trust::may_run(path).ok()?;
    parse_version(&exec::program(path, &["--version"], exec::QUICK).ok()?.stdout)
}

/// What a program says it is; or why it is none of ours, as the rest of a sentence that begins with its path.
///
/// # Errors
/// That rest.
pub fn say_version(path: &Path) -> Result<Identity, String> {
    trust::may_run(path).map_err(|weak| format!("is not run by root: {weak}"))?;
    let output = exec::program(path, &["--version"], SAY).map_err(|e| match e {
        ExecError::Timeout { .. } => format!("does not say its version within {SAY:?}"),
        ExecError::Spawn { cause, .. } => format!("does not run here: {cause}"),
        other => format!("does not run here: {other}"),
    })?;
    match parse_version(&output.stdout) {
        Some((version, build)) if output.code == Some(0) => Ok(Identity { version, build }),
        _ if output.code == Some(0) => {
            Err("runs, but is not an mpm-monitor (by what it answers to --version)".to_owned())
        }
        _ => Err(format!(
            "does not say its version: {}",
            output.success().err().map(|e| e.to_string()).unwrap_or_default()
        )),
    }
}

/// Whether two paths lead to one file.
pub fn is_same_file(a: &Path, b: &Path) -> bool {
    match (std::fs::metadata(a), std::fs::metadata(b)) {
        (Ok(a), Ok(b)) => a.ino() == b.ino() && a.dev() == b.dev(),
        _ => false,
    }
}

/// The first part of the path, links followed, that the service's user may not pass or read, or that its unit hides from it.
fn closed_to_others(path: &Path) -> Option<PathBuf> {
    let real = std::fs::canonicalize(path).ok()?;
    // ProtectHome=yes; launchd hides nothing, and there homes are elsewhere.
    if let Some(home) = ["/home", "/root", "/run/user"].iter().map(Path::new).find(|home| real.starts_with(home)) {
        return Some(home.to_owned());
    }
    let dirs = real.ancestors().skip(1).filter(|d| mode(d).is_none_or(|m| m & 0o001 == 0)).last();
    dirs.map(Path::to_owned).or_else(|| mode(&real).is_none_or(|m| m & 0o005 != 0o005).then_some(real))
}

fn mode(path: &Path) -> Option<u32> {
    std::fs::metadata(path).ok().map(|m| m.mode())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn pain_14_tools_out_of_the_way_are_recorded_and_kept() {
        let root = tempfile::tempdir().unwrap();
        let dir = |name: &str, tools: &[&str]| {
            let dir = root.path().join(name);
            std::fs::create_dir(&dir).unwrap();
            for tool in tools {
                std::fs::write(dir.join(tool), "").unwrap();
                std::fs::set_permissions(dir.join(tool), std::fs::Permissions::from_mode(0o755)).unwrap();
            }
            dir
        };
        let (usual, mine, old) = (dir("usual", &["git"]), dir("mine", &["tmux", "git"]), dir("old", &["tmux"]));
        let usual = [usual.as_path()];
        let path = || vec!["relative".into(), root.path().join("none"), mine.clone()];
        assert_eq!(tool_dirs_among(&[], path(), &usual), std::slice::from_ref(&mine));
        assert_eq!(tool_dirs_among(&[], vec![], &usual), Vec::<PathBuf>::new());
        // What was found once stays, as long as it holds.
        let old = std::slice::from_ref(&old);
        assert_eq!(tool_dirs_among(old, path(), &usual), old);
        std::fs::remove_file(old[0].join("tmux")).unwrap();
        assert_eq!(tool_dirs_among(old, path(), &usual), [mine]);
    }

    #[test]
    fn pain_3_paths_that_do_not_last_are_refused() {
        for path in [
            "/home/a/p/target/debug/mpm-monitor",
            "/home/a/p/target/x86_64-unknown-linux-musl/release/mpm-monitor",
            "/opt/homebrew/Cellar/mpm-monitor/0.1.0/bin/mpm-monitor",
            "/home/linuxbrew/.linuxbrew/Cellar/mpm-monitor/0.1.0/bin/mpm-monitor",
            "/nix/store/abc-mpm-monitor/bin/mpm-monitor",
            "/home/a/.nvm/versions/node/v20/bin/mpm-monitor",
            "/tmp/mpm-monitor",
            "/var/tmp/x/mpm-monitor",
            "/var/folders/zz/x/T/mpm-monitor",
            "/private/var/folders/zz/x/T/mpm-monitor",
            "/Volumes/Stick/mpm-monitor",
            "/run/user/1000/mpm-monitor",
            "/run/mpm-monitor",
        ] {
            assert!(transient(Path::new(path)).is_some(), "{path}");
        }
        for path in [
            "/usr/bin/mpm-monitor",
            "/usr/local/bin/mpm-monitor",
            "/opt/homebrew/bin/mpm-monitor",
            "/home/a/.cargo/bin/mpm-monitor",
            "/home/a/.local/bin/mpm-monitor",
            "/home/a/target/mpm-monitor",
            "/run/current-system/sw/bin/mpm-monitor",
        ] {
            assert_eq!(transient(Path::new(path)), None, "{path}");
        }
    }

    #[test]
    fn the_test_program_itself_is_in_a_build_tree() {
        let error = choose(None, Scope::User).unwrap_err();
        assert!(matches!(error, ProgramError::Transient { .. }), "{error}");
        assert!(error.to_string().contains("install -d ~/.local/bin && install -m755 "), "{error}");
    }

    #[test]
    fn what_the_service_user_cannot_reach_is_named() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("mpm-monitor");
        std::fs::write(&file, "").unwrap();
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o755)).unwrap();
        std::fs::set_permissions(root.path(), PermissionsExt::from_mode(0o700)).unwrap();
        let real = std::fs::canonicalize(root.path()).unwrap();
        assert_eq!(closed_to_others(&file), Some(real.clone()));
        std::fs::set_permissions(root.path(), PermissionsExt::from_mode(0o755)).unwrap();
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o700)).unwrap();
        assert_eq!(closed_to_others(&file), Some(real.join("mpm-monitor")));
    }

    #[test]
    fn a_program_that_is_none_is_refused() {
        assert!(matches!(choose(Some(Path::new("/etc/passwd")), Scope::User), Err(ProgramError::NotExecutable(_))));
    }
}
