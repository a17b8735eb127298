//! git as a child: the only place that starts one. In a process group of its own, which is killed as a whole when its time
//! is up or its output is more than is wanted; no terminal, no pager, no editor, no network, and nothing of our environment
//! that would change what it does.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::{Child, Command};
use tokio::sync::Semaphore;

use crate::server::files::error::FileError;

/// How long one git may take.
pub const TIMEOUT: Duration = Duration::from_secs(2);
/// How long a question waits for one of the places.
const PATIENCE: Duration = Duration::from_secs(2);
/// How much is kept of what it says on standard error, bytes.
const STDERR: usize = 2048;
/// The most memory that it may ask for at once, bytes: a commit of a few kilobytes can hold a file of gigabytes.
const MEMORY: u64 = 128 << 20;
/// What of our environment it needs: its user's settings, and with them `safe.directory`.
const KEPT: [&str; 3] = ["HOME", "XDG_CONFIG_HOME", "TMPDIR"];

/// All that runs at once.
static PLACES: Semaphore = Semaphore::const_new(4);

/// A git, in a place.
#[derive(Debug, Clone)]
pub struct Git {
    /// The program.
    pub program: PathBuf,
    /// Where it runs; above it, it looks for no repository.
    pub top: PathBuf,
}

/// What it said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// Standard output.
    pub out: Vec<u8>,
    /// Whether there was more.
    pub cut: bool,
    /// The exit code; `None` after a signal.
    pub code: Option<i32>,
}

impl Said {
    /// Whether it succeeded; one whose output was enough was killed for it.
    pub fn is_good(&self) -> bool {
        self.code == Some(0) || self.cut
    }

    /// Its output as text; what is no UTF-8 is replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.out).into_owned()
    }
}

impl Git {
    /// Runs it, and takes at most `most` bytes of its output.
    ///
    /// # Errors
    /// [`FileError::GitBusy`], [`FileError::GitTimeout`], [`FileError::Git`], [`FileError::TooLarge`] when it needs too much
    /// memory; no exit code is an error by itself.
    pub async fn run(&self, arguments: &[&str], most: usize) -> Result<Said, FileError> {
        let Ok(Ok(_place)) = tokio::time::timeout(PATIENCE, PLACES.acquire()).await else {
            return Err(FileError::GitBusy);
        };
        let mut command = self.command(arguments);
        let child = command.spawn().map_err(|error| {
            tracing::warn!(program = %self.program.display(), %error, "git cannot be started");
            FileError::Git(error.to_string())
        })?;
        let mut group = Group::of(child);
        let ended = tokio::time::timeout(TIMEOUT, group.attend(most)).await;
        let verb = arguments.first().copied().unwrap_or_default();
        match ended {
            Ok(Ok((said, errors))) => {
                if !said.is_good() {
                    // What it says is text of others: the log escapes it, and clients do not see it.
                    tracing::debug!(verb, top = ?self.top, code = ?said.code, stderr = ?errors, "git says no");
                    if errors.contains("attempting to allocate") {
                        return Err(FileError::TooLarge { size: MEMORY + 1, limit: MEMORY });
                    }
                }
                Ok(said)
            }
            Ok(Err(error)) => Err(FileError::Git(error.to_string())),
            Err(_) => {
                group.end().await;
                tracing::warn!(verb, top = ?self.top, seconds = TIMEOUT.as_secs(), "git did not end in time and was killed");
                Err(FileError::GitTimeout(TIMEOUT.as_secs()))
            }
        }
    }

    #[allow(clippy::disallowed_methods)] // This is git's runner: its own deadline and limits, on the event loop.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        // What a repository's own settings could make it run, or read, is switched off one by one.
        for setting in [
            "core.fsmonitor=false",
            "core.hooksPath=/dev/null",
            "core.pager=cat",
            "core.attributesFile=/dev/null",
            "core.quotePath=false",
            "core.untrackedCache=false",
            "core.bigFileThreshold=64m",
            "diff.external=",
            "log.showSignature=false",
            "protocol.allow=never",
            "credential.helper=",
            "gc.auto=0",
            "i18n.logOutputEncoding=UTF-8",
            "log.follow=false",
            "maintenance.auto=false",
            "safe.bareRepository=explicit",
        ] {
            command.args(["-c", setting]);
        }
        command.args(["--no-pager", "--literal-pathspecs", "--no-optional-locks"]).args(arguments);
        command.current_dir(&self.top).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.process_group(0).kill_on_drop(true).env_clear();
        command.envs(KEPT.iter().filter_map(|name| Some((*name, std::env::var_os(name)?))));
        let above: OsString = self.top.parent().unwrap_or(Path::new("/")).into();
        command
            .env("PATH", "/usr/bin:/bin:/usr/local/bin:/opt/homebrew/bin:/run/current-system/sw/bin")
            .env("LC_ALL", "C")
            .env("GIT_CEILING_DIRECTORIES", above)
            .env("GIT_WORK_TREE", &self.top)
            .env("GIT_OPTIONAL_LOCKS", "0")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_NO_LAZY_FETCH", "1")
            .env("GIT_ALLOW_PROTOCOL", "none")
            .env("GIT_ATTR_NOSYSTEM", "1")
            .env("GIT_ALLOC_LIMIT", MEMORY.to_string())
            .env("GIT_PAGER", "cat")
            .env("GIT_EDITOR", "false")
            .env("GIT_ASKPASS", "false")
            .env("GIT_SSH_COMMAND", "false");
        command
    }
}

/// A child and whatever it started: killed together, also when the question is dropped.
struct Group {
    child: Child,
    leader: Option<Pid>,
}

impl Group {
    fn of(child: Child) -> Self {
        let leader = child.id().and_then(|id| Pid::from_raw(id.try_into().ok()?));
        Self { child, leader }
    }

    /// Reads what it says until it ends, or has said enough.
    async fn attend(&mut self, most: usize) -> std::io::Result<(Said, String)> {
        let (out, errors) = (self.child.stdout.take(), self.child.stderr.take());
        let (mut kept, mut complaints) = (Vec::new(), Vec::new());
        let cut = {
            let reading = read(out, most, false, &mut kept);
            let complaining = read(errors, STDERR, true, &mut complaints);
            tokio::pin!(reading, complaining);
            let mut complained = false;
            let cut = loop {
                tokio::select! {
                    done = &mut reading => break done?,
                    done = &mut complaining, if !complained => {
                        done?;
                        complained = true;
                    }
                }
            };
            if !cut && !complained {
                complaining.await?;
            }
            cut
        };
        if cut {
            self.kill();
        }
        let code = self.child.wait().await?.code();
        self.leader = None;
        Ok((Said { out: kept, cut, code }, String::from_utf8_lossy(&complaints).trim().to_owned()))
    }

    /// Kills the group while its leader has not been waited for, so that the number is still its own.
    fn kill(&self) {
        if let Some(leader) = self.leader {
            // An error means that it has gone.
            let _ = kill_process_group(leader, Signal::KILL);
        }
    }

    async fn end(&mut self) {
        self.kill();
        let _ = self.child.wait().await;
        self.leader = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Reads at most `most` bytes; whether there are more. With `on` the rest is read and thrown away, so that nobody waits.
async fn read(
    pipe: Option<impl AsyncRead + Unpin>,
    most: usize,
    on: bool,
    kept: &mut Vec<u8>,
) -> std::io::Result<bool> {
    let Some(mut pipe) = pipe else { return Ok(false) };
    let mut piece = vec![0; 16 << 10];
    let mut cut = false;
    loop {
        let count = pipe.read(&mut piece).await?;
        if count == 0 {
            return Ok(cut);
        }
        let room = most - kept.len();
        kept.extend_from_slice(&piece[..count.min(room)]);
        cut |= count > room;
        if cut && !on {
            return Ok(true);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn script(dir: &Path, text: &str) -> Git {
        use std::os::unix::fs::PermissionsExt as _;
        let program = dir.join("git");
        std::fs::write(&program, format!("#!/bin/sh\n{text}\n")).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        Git { program, top: dir.to_owned() }
    }

    #[tokio::test]
    async fn output_is_bounded_and_the_exit_code_kept() {
        let dir = tempfile::tempdir().unwrap();
        let said = script(dir.path(), "echo out; yes | head -c 300000 >&2; exit 3").run(&[], 100).await.unwrap();
        assert_eq!((said.text().as_str(), said.cut, said.code), ("out\n", false, Some(3)));
        let said = script(dir.path(), "exec yes").run(&[], 1000).await.unwrap();
        assert_eq!((said.out.len(), said.cut, said.is_good()), (1000, true, true));
    }

    #[tokio::test]
    async fn what_hangs_is_killed_with_all_that_it_started() {
        let dir = tempfile::tempdir().unwrap();
        let text = "sleep 1000 & echo $! > child; echo $$ > self; wait";
        let began = Instant::now();
        let error = script(dir.path(), text).run(&["log"], 100).await.unwrap_err();
        assert!(matches!(error, FileError::GitTimeout(2)), "{error}");
        assert!(began.elapsed() < Duration::from_secs(20));
        for name in ["child", "self"] {
            let id: i32 = std::fs::read_to_string(dir.path().join(name)).unwrap().trim().parse().unwrap();
            let id = Pid::from_raw(id).unwrap();
            let deadline = Instant::now() + Duration::from_secs(20);
            // One that was killed may wait to be collected by its new parent.
            let gone = || match std::fs::read_to_string(format!("/proc/{}/stat", id.as_raw_nonzero())) {
                Ok(stat) => stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with(['Z', 'X'])),
                Err(_) => rustix::process::test_kill_process(id).is_err() || cfg!(target_os = "linux"),
            };
            while !gone() {
                assert!(Instant::now() < deadline, "{name} lives on");
                std::thread::yield_now();
            }
        }
    }

    #[tokio::test]
    async fn nothing_of_our_environment_reaches_it_but_what_it_needs() {
        let dir = tempfile::tempdir().unwrap();
        let said = script(dir.path(), "/usr/bin/env").run(&[], 10_000).await.unwrap().text();
        assert!(said.contains("GIT_OPTIONAL_LOCKS=0\n") && said.contains("LC_ALL=C\n"), "{said}");
        assert!(!said.contains("CARGO") && !said.contains("GIT_DIR="), "{said}");
    }
}
