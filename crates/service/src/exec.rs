//! The only place that spawns the service managers' tools: absolute path, deadline, both outputs kept, no shell.

use std::cell::Cell;
use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use super::{Scope, interrupt};
use daemon::dirs::own_runtime_dir;

/// How long a tool that only asks or tells may take.
pub const QUICK: Duration = Duration::from_secs(15);
/// How long the outputs of a tool that was killed are waited for.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// How soon a signal is heard while a tool is waited for.
const HEARING: Duration = Duration::from_millis(50);
/// How much of what a tool says is kept, bytes.
const LONGEST: u64 = 8 << 20;
/// Where the tools are looked for before `PATH`, which a service or `sudo` may have cut down.
const DIRECTORIES: [&str; 6] =
    ["/usr/bin", "/bin", "/usr/sbin", "/sbin", "/usr/local/bin", "/run/current-system/sw/bin"];

/// What a tool that ran to its end said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// The command line, for messages.
    pub command: String,
    /// The exit code; `None` after a signal.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error, trimmed.
    pub stderr: String,
}

/// Why a tool did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// The tool is not on this machine.
    #[error("`{0}` is not installed here (looked in /usr/bin, /bin, /usr/sbin, /sbin and PATH)")]
    Missing(String),
    /// It could not be started.
    #[error("cannot start `{command}`: {cause}")]
    Spawn {
        /// The command line.
        command: String,
        /// Why.
        cause: std::io::Error,
    },
    /// It did not end in time, and was killed.
    #[error("`{command}` did not end within {timeout:?}{}", tail(stderr))]
    Timeout {
        /// The command line.
        command: String,
        /// How long it had.
        timeout: Duration,
        /// What it said until then.
        stderr: String,
    },
    /// A signal came, and it was not waited for any longer.
    #[error("`{0}` was broken off by a signal")]
    BrokenOff(String),
    /// It ended with a failure whose meaning is known.
    #[error("{text}")]
    Explained {
        /// The command line.
        command: String,
        /// Its exit code; `None` after a signal.
        code: Option<i32>,
        /// What it means, and what the tool said.
        text: String,
    },
    /// It ended with a failure.
    #[error("`{command}` failed ({}){}", code.map_or("by a signal".to_owned(), |c| format!("exit code {c}")), tail(stderr))]
    Failed {
        /// The command line.
        command: String,
        /// Its exit code; `None` after a signal.
        code: Option<i32>,
        /// What it said.
        stderr: String,
    },
}

fn tail(stderr: &str) -> String {
    if stderr.is_empty() { String::new() } else { format!(": {stderr}") }
}

impl Output {
    /// The standard output, if the tool succeeded.
    ///
    /// # Errors
    /// [`ExecError::Failed`] with what it said.
    pub fn success(self) -> Result<String, ExecError> {
        if self.code == Some(0) {
            Ok(self.stdout)
        } else {
            Err(ExecError::Failed { command: self.command, code: self.code, stderr: self.stderr })
        }
    }
}

/// Finds a tool by its name.
///
/// # Errors
/// [`ExecError::Missing`].
pub fn find(tool: &str) -> Result<PathBuf, ExecError> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    places(tool, &path, cfg!(target_os = "macos"))
        .into_iter()
        .find(|p| is_executable(p))
        .ok_or_else(|| ExecError::Missing(tool.to_owned()))
}

/// Where Apple's developer tools are, once they are installed.
const DEVELOPER: [&str; 2] =
    ["/Library/Developer/CommandLineTools/usr/bin", "/Applications/Xcode.app/Contents/Developer/usr/bin"];

/// Where a tool may be, best first. A Mac without developer tools has a `/usr/bin/git` that only opens an installer at the
/// screen; with them, it is a detour to the real one.
fn places(tool: &str, path: &OsStr, is_mac: bool) -> Vec<PathBuf> {
    let developer = DEVELOPER.iter().filter(|_| is_mac);
    let all = DIRECTORIES.iter().chain(developer).map(PathBuf::from);
    let all = all.chain(std::env::split_paths(path).filter(|p| p.is_absolute())).map(|d| d.join(tool));
    all.filter(|p| !is_mac || p != Path::new("/usr/bin/git")).collect()
}

fn is_executable(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|m| m.is_file() && m.mode() & 0o111 != 0)
}

thread_local! {
    /// When the tools of this thread must have ended, whatever their own deadlines.
    static UNTIL: Cell<Option<Instant>> = const { Cell::new(None) };
    /// Whether a signal breaks the tools of this thread off.
    static BREAKS: Cell<bool> = const { Cell::new(false) };
}

/// Does something whose tools wait for others, and are not waited for any longer once a signal has come.
pub fn breakable<T>(act: impl FnOnce() -> T) -> T {
    let before = BREAKS.replace(true);
    let done = act();
    BREAKS.set(before);
    done
}

/// Does something whose tools end by `deadline`, killed if need be, even where they have more time of their own.
pub fn until<T>(deadline: Instant, act: impl FnOnce() -> T) -> T {
    let before = UNTIL.replace(Some(deadline));
    let done = act();
    UNTIL.set(before);
    done
}

/// `systemctl`, of the scope's manager.
///
/// # Errors
/// [`ExecError`], but not for a non-zero exit code: see [`Output::success`].
pub fn systemctl(scope: Scope, arguments: &[&str], timeout: Duration) -> Result<Output, ExecError> {
    let mut all = vec!["--no-pager", "--no-ask-password"];
    all.extend((scope == Scope::User).then_some("--user"));
    all.extend_from_slice(arguments);
    tool("systemctl", &all, timeout)
}

/// Any of the managers' tools.
///
/// # Errors
/// As [`systemctl`].
pub fn tool(name: &str, arguments: &[&str], timeout: Duration) -> Result<Output, ExecError> {
    program(&find(name)?, arguments, timeout)
}

/// A program by its path.
///
/// # Errors
/// As [`systemctl`].
pub fn program<A: AsRef<OsStr>>(path: &Path, arguments: &[A], timeout: Duration) -> Result<Output, ExecError> {
    output(command(path, arguments), path, arguments, timeout)
}

/// Where and with what a program is to run, if not as this one does.
#[derive(Debug, Clone, Default)]
pub struct Surroundings {
    /// The environment, in place of this process's.
    pub environment: Option<Vec<(String, String)>>,
    /// What goes from the environment.
    pub without: Vec<&'static str>,
    /// The directory.
    pub directory: Option<PathBuf>,
}

/// A program by its path, in surroundings of its own.
///
/// # Errors
/// As [`systemctl`].
pub fn program_in<A: AsRef<OsStr>>(
    surroundings: &Surroundings,
    path: &Path,
    arguments: &[A],
    timeout: Duration,
) -> Result<Output, ExecError> {
    let mut command = command(path, arguments);
    if let Some(environment) = &surroundings.environment {
        command.env_clear().envs(environment.iter().map(|(name, value)| (name, value)));
    }
    for name in &surroundings.without {
        command.env_remove(name);
    }
    if let Some(directory) = &surroundings.directory {
        command.current_dir(directory);
    }
    output(command, path, arguments, timeout)
}

fn output<A: AsRef<OsStr>>(
    mut command: Command,
    path: &Path,
    arguments: &[A],
    timeout: Duration,
) -> Result<Output, ExecError> {
    let line = line(path, arguments);
    // A group of its own, so that what the tool started itself can be ended with it.
    let mut child =
        command.process_group(0).spawn().map_err(|cause| ExecError::Spawn { command: line.clone(), cause })?;
    let left = UNTIL.get().map(|until| until.saturating_duration_since(Instant::now()));
    let timeout = left.map_or(timeout, |left| left.min(timeout));
    let deadline = Instant::now() + timeout;
    let (sender, receiver) = mpsc::channel();
    drain(child.stdout.take(), true, &sender);
    drain(child.stderr.take(), false, &sender);
    drop(sender);
    let (mut stdout, mut stderr) = (String::new(), String::new());
    // Both pipes end when the child does; a channel tells it without polling.
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let broken = || BREAKS.get() && interrupt::caught().is_some();
        match receiver.recv_timeout(if BREAKS.get() { left.min(HEARING) } else { left }) {
            Ok((true, text)) => stdout.push_str(&text),
            Ok((false, text)) => stderr.push_str(&text),
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
            Err(mpsc::RecvTimeoutError::Timeout) if broken() => {
                end_group(&mut child);
                return Err(ExecError::BrokenOff(line));
            }
            Err(mpsc::RecvTimeoutError::Timeout) if Instant::now() < deadline => {}
            Err(mpsc::RecvTimeoutError::Timeout) => {
                end_group(&mut child);
                // Whoever held the pipes is gone, so that what it said until then comes now; unless somebody left the group.
                while let Ok((is_stdout, text)) = receiver.recv_timeout(LAST_WORDS) {
                    if !is_stdout {
                        stderr.push_str(&text);
                    }
                }
                return Err(ExecError::Timeout { command: line, timeout, stderr: stderr.trim().to_owned() });
            }
        }
    }
    let status = child.wait().map_err(|cause| ExecError::Spawn { command: line.clone(), cause })?;
    Ok(Output { command: line, code: status.code(), stdout, stderr: stderr.trim().to_owned() })
}

/// A tool whose output is read as it comes, for as long as the caller wants it; dropped, it is killed.
#[derive(Debug)]
pub struct Stream(Child);

impl Stream {
    /// Starts it; standard error goes where ours goes.
    ///
    /// # Errors
    /// [`ExecError::Missing`] or [`ExecError::Spawn`].
    pub fn start(name: &str, arguments: &[String]) -> Result<Self, ExecError> {
        let path = find(name)?;
        let mut command = command(&path, arguments);
        command.stderr(Stdio::inherit());
        let child = command.spawn().map_err(|cause| ExecError::Spawn { command: line(&path, arguments), cause })?;
        Ok(Self(child))
    }

    /// Its standard output; once.
    pub fn output(&mut self) -> Option<impl Read + use<>> {
        self.0.stdout.take()
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        end(&mut self.0);
    }
}

/// Ends a child that leads a group, with all of the group.
fn end_group(child: &mut Child) {
    // Not waited for yet, so that its number is still its own.
    if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        let _ = kill_process_group(group, Signal::KILL);
    }
    end(child);
}

fn end(child: &mut Child) {
    // An error means that it is gone already.
    let _ = child.kill();
    let _ = child.wait();
}

#[allow(clippy::disallowed_methods)] // The runner itself.
fn command<A: AsRef<OsStr>>(path: &Path, arguments: &[A]) -> Command {
    let mut command = Command::new(path);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // Texts are parsed and shown as they are: no translation, colour or pager.
    command.env("LC_ALL", "C").env("SYSTEMD_COLORS", "0").env("SYSTEMD_PAGER", "").env("SYSTEMD_URLIFY", "0");
    if std::env::var_os("XDG_RUNTIME_DIR").is_none()
        && let Some(dir) = own_runtime_dir()
    {
        if std::env::var_os("DBUS_SESSION_BUS_ADDRESS").is_none() {
            command.env("DBUS_SESSION_BUS_ADDRESS", format!("unix:path={}/bus", dir.display()));
        }
        command.env("XDG_RUNTIME_DIR", dir);
    }
    command
}

fn line<A: AsRef<OsStr>>(path: &Path, arguments: &[A]) -> String {
    let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
    arguments
        .iter()
        .map(|a| a.as_ref().to_string_lossy().into_owned())
        .filter(|a| a != "--no-pager" && a != "--no-ask-password")
        .fold(name, |line, a| format!("{line} {a}"))
}

fn drain(pipe: Option<impl Read + Send + 'static>, is_stdout: bool, sender: &mpsc::Sender<(bool, String)>) {
    let Some(mut pipe) = pipe else { return };
    let sender = sender.clone();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        // A failed read is an end of the output like any other; the exit code tells the rest.
        let _ = pipe.by_ref().take(LONGEST).read_to_end(&mut bytes);
        // More is read, so that it can end, and forgotten.
        let _ = std::io::copy(&mut pipe, &mut std::io::sink());
        let _ = sender.send((is_stdout, String::from_utf8_lossy(&bytes).into_owned()));
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_outputs_and_the_code_are_kept() {
        let sh = find("sh").unwrap();
        let out = program(&sh, &["-c", "echo out; echo err >&2; exit 3"], QUICK).unwrap();
        assert_eq!((out.code, out.stdout.as_str(), out.stderr.as_str()), (Some(3), "out\n", "err"));
        let error = out.success().unwrap_err().to_string();
        assert!(error.contains("exit code 3") && error.ends_with(": err"), "{error}");
    }

    /// A tool that hangs may have started others, which hold its outputs open and would stay as orphans.
    #[test]
    fn pain_20_a_tool_that_hangs_is_killed_with_what_it_started() {
        let sh = find("sh").unwrap();
        let started = Instant::now();
        let script = "sleep 600 & echo $$ $! >&2; wait";
        let error = program(&sh, &["-c", script], Duration::from_millis(300)).unwrap_err();
        let ExecError::Timeout { stderr, .. } = error else { panic!("{error}") };
        assert!(started.elapsed() < Duration::from_secs(60));
        let pids: Vec<i32> = stderr.split_whitespace().map(|pid| pid.parse().unwrap()).collect();
        assert_eq!(pids.len(), 2, "{stderr}");
        for pid in pids {
            let pid = Pid::from_raw(pid).unwrap();
            // Its own child was waited for and is gone at once; who takes the other one over waits for it in its own time.
            while rustix::process::test_kill_process(pid).is_ok() && !is_zombie(pid) {
                assert!(started.elapsed() < Duration::from_secs(60), "{pid} is still there");
                std::thread::yield_now();
            }
        }
    }

    fn is_zombie(pid: Pid) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z'))
    }

    #[test]
    fn git_of_a_mac_is_never_the_one_that_opens_an_installer() {
        let all = |tool: &str, is_mac| places(tool, "/opt/homebrew/bin:/usr/bin:bin".as_ref(), is_mac);
        let mac = all("git", true);
        assert!(!mac.contains(&"/usr/bin/git".into()), "{mac:?}");
        assert!(mac.contains(&"/Library/Developer/CommandLineTools/usr/bin/git".into()), "{mac:?}");
        assert!(mac.contains(&"/opt/homebrew/bin/git".into()) && !mac.contains(&"bin/git".into()), "{mac:?}");
        assert_eq!(all("git", false)[0], Path::new("/usr/bin/git"));
        assert_eq!(all("launchctl", true)[0], Path::new("/usr/bin/launchctl"));
    }

    #[test]
    fn a_missing_tool_is_named() {
        let error = tool("mpm-no-such-tool", &[], QUICK).unwrap_err();
        assert!(error.to_string().contains("`mpm-no-such-tool` is not installed"), "{error}");
    }
}
