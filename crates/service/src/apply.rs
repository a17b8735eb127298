//! Carries a plan out, remembers how to take each step back, and does so when one fails.

use super::users;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::exec::{self, ExecError, QUICK};
use super::manager::{Manager, ManagerError, Phase};
use super::observe::is_written;
use super::plan::{Action, Plan};
use super::{files, interrupt, proof};
use daemon::guarded::{Guard, Refusal};

/// How long a stop may take: the unit's TimeoutStopSec= and what follows it.
pub const STOP: Duration = Duration::from_secs(25);

/// A step that failed.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// A file or directory.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The manager or its tool.
    #[error(transparent)]
    Manager(#[from] ManagerError),
    /// Another tool.
    #[error(transparent)]
    Exec(#[from] ExecError),
    /// It ran but had no effect.
    #[error("{0}")]
    NoEffect(String),
    /// A signal came first.
    #[error("{} came first", proof::signal_name(*.0))]
    Interrupted(i32),
}

/// A plan that could not be carried out; what was done was taken back.
#[derive(Debug, thiserror::Error)]
#[error("could not {action}: {cause}")]
pub struct ApplyError {
    /// The step, in words.
    pub action: String,
    /// Why.
    pub cause: StepError,
    /// What could not be taken back.
    pub left: Vec<String>,
}

enum Undo {
    Restore {
        path: PathBuf,
        content: Vec<u8>,
        mode: u32,
    },
    Remove(PathBuf),
    Relink {
        path: PathBuf,
        target: PathBuf,
    },
    RemoveDir(PathBuf),
    MakeDir {
        path: PathBuf,
        mode: u32,
    },
    RemoveUser(String),
    Disable(Vec<String>),
    Enable(Vec<String>),
    DisableLinger(String),
    EnableLinger(String),
    Stop(Vec<String>),
    /// The unit, and the process that it had: where that one still runs, nothing of it has to come back.
    RestartOld(String, Option<u32>),
    StartOld(Vec<String>),
    Reread,
}

/// A plan that was carried out and can still be taken back.
pub struct Applied<'a> {
    manager: &'a dyn Manager,
    undo: Vec<Undo>,
    /// What the person should know.
    pub notes: Vec<String>,
    /// What the manager said of a start or restart that it calls failed; whether it did is for the proof to tell.
    pub start_error: Option<String>,
    /// Whether lingering was wanted but not allowed.
    pub linger_refused: bool,
}

impl std::fmt::Debug for Applied<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Applied").field("steps", &self.undo.len()).field("notes", &self.notes).finish_non_exhaustive()
    }
}

/// Carries out the plan. `start` is how long a start may take.
///
/// # Errors
/// [`ApplyError`] for the first step that fails; the ones before are taken back.
pub fn apply<'a>(plan: &Plan, manager: &'a dyn Manager, start: Duration) -> Result<Applied<'a>, ApplyError> {
    let mut applied =
        Applied { manager, undo: Vec::new(), notes: Vec::new(), start_error: None, linger_refused: false };
    let mut lasts = false;
    for action in &plan.actions {
        // What nobody can take back is not left half done either: a signal that comes then is obeyed at the end.
        lasts |= matches!(action, Action::RemoveHistory { .. } | Action::RemoveUser { .. });
        let heard = interrupt::caught().filter(|_| !lasts).map_or(Ok(()), |signal| Err(StepError::Interrupted(signal)));
        if let Err(cause) = heard.and_then(|()| applied.step(action, start)) {
            let left = applied.rollback();
            return Err(ApplyError { action: action.to_string(), cause, left });
        }
    }
    Ok(applied)
}

/// What to say where lingering was switched on.
fn lingers_now(user: &str) -> String {
    format!(
        "lingering is on for {user} now: the service runs without a login, as do all of {user}'s; uninstall switches it off \
         (`loginctl disable-linger {user}` does it at once, `install --linger no` leaves it alone)"
    )
}

/// Clears what the manager holds against the units: a failure, and the starts it counted. It counts those that a person asked
/// for, too, and who restarts often is no crash loop.
///
/// # Errors
/// When a unit failed and the manager does not forget that; without it, it would refuse the start.
pub fn forgive(manager: &dyn Manager, units: &[String]) -> Result<(), ManagerError> {
    for unit in units {
        let failed = manager.job(unit)?.phase == Phase::Failed;
        let forgot = manager.forget_failure(std::slice::from_ref(unit));
        if failed {
            forgot?;
        }
    }
    Ok(())
}

impl Applied<'_> {
    /// Takes everything back, newest first; what could not be, in words. No signal breaks that off.
    pub fn rollback(self) -> Vec<String> {
        interrupt::unheard(|| self.take_all_back())
    }

    fn take_all_back(mut self) -> Vec<String> {
        let mut left = Vec::new();
        let (mut reread, mut enabled, mut old, mut stopped) = (false, Vec::new(), Vec::new(), Vec::new());
        while let Some(undo) = self.undo.pop() {
            match undo {
                // These need the old files back first.
                Undo::Reread => reread = true,
                Undo::Enable(units) => enabled.extend(units),
                Undo::RestartOld(unit, pid) => old.push((unit, pid)),
                Undo::StartOld(units) => stopped.extend(units),
                undo => {
                    if let Err((what, error)) = self.take_back(undo) {
                        left.push(format!("{what}: {error}"));
                    }
                }
            }
        }
        if reread && let Err(error) = self.manager.reread() {
            left.push(format!("daemon-reload: {error}"));
        }
        if !enabled.is_empty()
            && let Err(error) = self.manager.set_enabled(&enabled, true)
        {
            left.push(format!("enable {}: {error}", enabled.join(", ")));
        }
        for (unit, pid) in old {
            // The manager refused the restart, and ended nothing.
            if pid.is_some() && self.manager.job(&unit).is_ok_and(|job| job.pid == pid && job.phase == Phase::Running) {
                continue;
            }
            let forgiven = forgive(self.manager, std::slice::from_ref(&unit));
            if let Err(error) = forgiven.and_then(|()| self.manager.restart(&unit, true, STOP)) {
                left.push(format!("restart of the earlier {unit}: {error}"));
            }
        }
        if !stopped.is_empty()
            && let Err(error) = forgive(self.manager, &stopped).and_then(|()| self.manager.bring_up(&stopped, STOP))
        {
            left.push(format!("start of the earlier {}: {error}", stopped.join(", ")));
        }
        left
    }

    fn take_back(&self, undo: Undo) -> Result<(), (String, StepError)> {
        let said = |what: String| move |error: StepError| (what, error);
        match undo {
            // It may not have been written in the first place, as the disk is full or read-only.
            Undo::Restore { path, content, mode } if is_still(&path, &content, mode) => Ok(()),
            Undo::Restore { path, content, mode } => files::write(&path, &String::from_utf8_lossy(&content), mode)
                .map_err(|e| said(format!("restore {}", path.display()))(e.into())),
            Undo::Remove(path) => remove(&path).map_err(|e| said(format!("remove {}", path.display()))(e.into())),
            Undo::Relink { path, target } => std::os::unix::fs::symlink(target, &path)
                .map_err(|e| said(format!("restore the link {}", path.display()))(e.into())),
            Undo::RemoveDir(path) => {
                files::remove_if_empty(&path);
                Ok(())
            }
            Undo::MakeDir { path, mode } => files::make_dir(&path, mode)
                .map_err(|e| said(format!("make the directory {}", path.display()))(e.into())),
            Undo::RemoveUser(name) => remove_user(&name).map_err(said(format!("remove the user {name}"))),
            Undo::Disable(units) => self
                .manager
                .set_enabled(&units, false)
                .map_err(|e| said(format!("disable {}", units.join(", ")))(e.into())),
            Undo::DisableLinger(user) => {
                set_linger(&user, false).map_err(said(format!("disable lingering for {user}")))
            }
            Undo::EnableLinger(user) => set_linger(&user, true).map_err(said(format!("enable lingering for {user}"))),
            Undo::Stop(units) => {
                let stopped = self.manager.bring_down(&units, STOP);
                // A unit that failed is remembered by the manager until it is told to forget.
                let forgotten = self.forget(&units);
                stopped.and(forgotten).map_err(|e| said(format!("stop {}", units.join(", ")))(e.into()))
            }
            Undo::Reread | Undo::Enable(_) | Undo::RestartOld(..) | Undo::StartOld(_) => Ok(()),
        }
    }

    fn forget(&self, units: &[String]) -> Result<(), ManagerError> {
        for unit in units {
            if self.manager.job(unit)?.phase == Phase::Failed {
                self.manager.forget_failure(std::slice::from_ref(unit))?;
            }
        }
        Ok(())
    }

    /// Stops what runs, and remembers that it ran.
    fn stop(&mut self, units: &[String]) -> Result<(), ManagerError> {
        let mut ran = Vec::new();
        for unit in units {
            if matches!(self.manager.job(unit)?.phase, Phase::Running | Phase::Starting) {
                ran.push(unit.clone());
            }
        }
        if !ran.is_empty() {
            self.undo.push(Undo::StartOld(ran));
        }
        exec::breakable(|| self.manager.bring_down(units, STOP))
    }

    fn remember_file(&mut self, path: &Path) -> io::Result<()> {
        use std::os::unix::fs::MetadataExt;
        match Guard::WRITTEN.bytes(path) {
            Ok(Some(content)) => {
                let mode = fs::metadata(path)?.mode() & 0o7777;
                self.undo.push(Undo::Restore { path: path.to_owned(), content, mode });
            }
            Ok(None) => self.undo.push(Undo::Remove(path.to_owned())),
            // A pipe, or more than anybody writes: nothing of ours that could be put back.
            Err(e) if Refusal::of(&e).is_some() => {}
            Err(e) => return Err(e),
        }
        Ok(())
    }

    fn step(&mut self, action: &Action, start: Duration) -> Result<(), StepError> {
        match action {
            Action::MakeDir { path } => {
                files::make_dir(path, 0o755)?;
                self.undo.push(Undo::RemoveDir(path.clone()));
            }
            Action::GiveDir { path, user } => {
                files::make_dir(path, 0o700)?;
                self.undo.push(Undo::RemoveDir(path.clone()));
                exec::tool("chown", &[user, &path.to_string_lossy()], QUICK)?.success()?;
            }
            Action::WriteFile { path, content, mode, .. } => {
                self.remember_file(path)?;
                files::write(path, content, *mode)?;
            }
            Action::RemoveFile { path } => {
                self.remember_file(path)?;
                remove(path)?;
            }
            Action::RemoveDir { path } => {
                let mode = fs::metadata(path).ok().map(|meta| meta.permissions().mode() & 0o7777);
                if files::remove_if_empty(path) {
                    self.undo.extend(mode.map(|mode| Undo::MakeDir { path: path.clone(), mode }));
                } else if path.to_string_lossy().ends_with(".service.d") {
                    self.notes.push(format!("{} holds files of yours and stays", path.display()));
                }
            }
            Action::RemoveHistory { path } if is_written(path) => {
                self.notes.push(format!("{} stays: a process writes to it at this moment", path.display()));
            }
            Action::RemoveHistory { path } => fs::remove_dir_all(path)?,
            Action::MakeUser { name, file } => {
                // Half made is made as well.
                self.undo.push(Undo::RemoveUser(name.clone()));
                exec::tool("systemd-sysusers", &[&file.to_string_lossy()], QUICK)?.success()?;
                if !users::exists(name) {
                    return Err(StepError::NoEffect(format!(
                        "systemd-sysusers reported success, but there is no user {name}; make it by `useradd --system {name}`"
                    )));
                }
            }
            Action::RemoveUser { name } => remove_user(name)?,
            Action::Link { path, target } => {
                if let Some(dir) = path.parent() {
                    for missing in files::missing(dir) {
                        files::make_dir(&missing, 0o755)?;
                        self.undo.push(Undo::RemoveDir(missing));
                    }
                }
                if let Ok(before) = fs::read_link(path) {
                    fs::remove_file(path)?;
                    self.undo.push(Undo::Relink { path: path.clone(), target: before });
                }
                std::os::unix::fs::symlink(target, path)?;
                self.undo.push(Undo::Remove(path.clone()));
            }
            Action::Reread => {
                self.undo.push(Undo::Reread);
                self.manager.reread()?;
            }
            Action::Enable { units } => {
                self.undo.push(Undo::Disable(units.clone()));
                self.manager.set_enabled(units, true)?;
            }
            Action::Disable { units } => {
                let mut enabled = Vec::new();
                for unit in units {
                    if self.manager.job(unit)?.enabled == "enabled" {
                        enabled.push(unit.clone());
                    }
                }
                self.undo.push(Undo::Enable(enabled));
                self.manager.set_enabled(units, false)?;
            }
            Action::EnableLinger { user, required } => {
                let done = set_linger(user, true).and_then(|()| match users::linger(user) {
                    Some(true) => Ok(()),
                    _ => Err(StepError::NoEffect("loginctl reported success, but lingering is still off".to_owned())),
                });
                match done {
                    Ok(()) => {
                        self.undo.push(Undo::DisableLinger(user.clone()));
                        self.notes.push(lingers_now(user));
                    }
                    Err(error) if *required => return Err(error),
                    Err(_) => {
                        self.linger_refused = true;
                        self.notes.push(users::linger_remark(user));
                    }
                }
            }
            // It hinders nobody, and the user may be gone: no reason to keep what is being uninstalled.
            Action::DisableLinger { user } => match set_linger(user, false) {
                Ok(()) => self.undo.push(Undo::EnableLinger(user.clone())),
                Err(error) => {
                    self.notes.push(format!("cannot disable lingering for {user}: {error}; it stays as it is"));
                }
            },
            Action::ForgetFailure { units } => self.forget(units)?,
            Action::Stop { units } => self.stop(units)?,
            Action::Start { units } => {
                self.undo.push(Undo::Stop(units.clone()));
                forgive(self.manager, units)?;
                let said = exec::breakable(|| self.manager.bring_up(units, start));
                self.start_error = said.err().map(|e| e.to_string());
            }
            Action::Restart { unit, changed } => {
                let pid = self.manager.job(unit)?.pid;
                self.undo.push(Undo::RestartOld(unit.clone(), pid));
                forgive(self.manager, std::slice::from_ref(unit))?;
                let said = exec::breakable(|| self.manager.restart(unit, *changed, start + STOP));
                self.start_error = said.err().map(|e| e.to_string());
            }
        }
        Ok(())
    }
}

fn is_still(path: &Path, content: &[u8], mode: u32) -> bool {
    fs::metadata(path).is_ok_and(|meta| meta.permissions().mode() & 0o7777 == mode)
        && matches!(Guard::WRITTEN.bytes(path), Ok(Some(now)) if now == content)
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        // A file system that is read-only refuses that before it looks whether there is anything.
        Err(_) if fs::symlink_metadata(path).is_err_and(|e| e.kind() == io::ErrorKind::NotFound) => Ok(()),
        other => other,
    }
}

/// Lets a user's manager run without a login, or no longer.
///
/// # Errors
/// loginctl's, where it is not allowed or there is none.
pub fn set_linger(user: &str, on: bool) -> Result<(), StepError> {
    let verb = if on { "enable-linger" } else { "disable-linger" };
    exec::tool("loginctl", &["--no-ask-password", verb, user], QUICK)?.success()?;
    Ok(())
}

fn remove_user(name: &str) -> Result<(), StepError> {
    if !users::exists(name) {
        return Ok(());
    }
    exec::tool("userdel", &[name], QUICK)?.success()?;
    Ok(())
}

#[cfg(test)]
#[path = "apply_tests.rs"]
mod tests;
