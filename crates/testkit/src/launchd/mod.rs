//! A launchd for tests on Linux: real processes of the real program, started, restarted, throttled and ended as launchd is
//! documented and reported to do it (docs/macos.md), and a launchctl that speaks its words and exit codes.
//!
//! It lives in the test's own process: two threads, one that answers and one that supervises. Dropped, also by a panic, it
//! kills what it started; where the test itself is killed, the kernel does (`setpriv --pdeathsig`).

mod job;
mod plist;
mod verbs;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use tempfile::TempDir;

use super::command::{Ran, run};
use super::{built, scratch};
pub use job::Job;

/// What this launchd is like; the tests change it.
#[derive(Debug, Clone)]
pub struct Behaviour {
    /// The domains that are there.
    pub domains: BTreeSet<String>,
    /// How much faster than said its intervals pass: 0.1 makes one second of ten.
    pub pace: f64,
    /// The same for the time between SIGTERM and SIGKILL.
    pub exit_pace: f64,
    /// How long a label is not free after its job has ended.
    pub bootout_lag: Duration,
    /// What it says to a bootstrap of what is there already: 5, or 37 as older ones do.
    pub already: i32,
    /// What it says to a bootstrap of a job that is disabled: 5, or 119 as some versions do.
    pub disabled: i32,
    /// Whether a program is held to the code that it was when its job was loaded, as those are that are signed ad hoc.
    pub pins_programs: bool,
    /// Whether even `kickstart` waits for the throttle interval.
    pub kickstart_is_throttled: bool,
    /// What every job has in its environment.
    pub environment: BTreeMap<String, String>,
    /// What the next `bootstrap`s answer, whatever is asked.
    pub bootstrap_fails: Vec<i32>,
    /// How long launchctl takes.
    pub slow: Duration,
}

impl Behaviour {
    fn throttle(&self, time: Duration) -> Duration {
        time.mul_f64(self.pace)
    }

    fn patience(&self, time: Duration) -> Duration {
        time.mul_f64(self.exit_pace)
    }
}

/// All that it knows.
#[derive(Debug)]
pub struct State {
    /// What it is like.
    pub behaviour: Behaviour,
    /// The loaded jobs by domain and label.
    pub jobs: BTreeMap<(String, String), Job>,
    /// What was enabled and disabled, by domain and label.
    pub disabled: BTreeMap<(String, String), bool>,
    /// Every call of launchctl.
    pub calls: Vec<String>,
    /// Why property lists were refused, which launchctl does not tell.
    pub refused: Vec<String>,
    /// The keys of property lists that it does not know and ignored.
    pub ignored: Vec<String>,
    quit: bool,
}

/// A launchd, a home, and the program, in a directory of their own.
#[derive(Debug)]
pub struct Launchd {
    root: TempDir,
    state: Arc<Mutex<State>>,
    threads: Vec<JoinHandle<()>>,
}

impl Launchd {
    /// Starts one that has the domain of a user at the screen.
    pub fn start() -> Self {
        // Not in /tmp: a service's program must not be there, and install refuses it.
        let root = tempfile::Builder::new().prefix("launchd-").tempdir_in(scratch()).expect("a temporary directory");
        for dir in ["bin", "calls", "home", "run", "opt", "mac"] {
            fs::create_dir(root.path().join(dir)).expect("make a directory");
        }
        let launchctl = root.path().join("bin/launchctl");
        fs::write(&launchctl, include_str!("launchctl.sh")).expect("write launchctl");
        fs::set_permissions(&launchctl, fs::Permissions::from_mode(0o755)).expect("make launchctl executable");
        let program = built();
        fs::hard_link(program, root.path().join("opt/mpm-monitor")).expect("link the program");
        // Daemons are another user's, who has to get here.
        fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755)).expect("open the directory");
        let requests = root.path().join("requests");
        run(Command::new("mkfifo").arg(&requests), Duration::from_secs(10)).ok();
        let uid = uid();
        let behaviour = Behaviour {
            domains: [format!("gui/{uid}"), format!("user/{uid}"), "system".to_owned()].into(),
            pace: 0.02,
            exit_pace: 1.0,
            bootout_lag: Duration::from_millis(300),
            already: 5,
            disabled: 5,
            pins_programs: true,
            kickstart_is_throttled: false,
            environment: [("HOME".to_owned(), root.path().join("home").display().to_string())].into(),
            bootstrap_fails: Vec::new(),
            slow: Duration::ZERO,
        };
        let state = Arc::new(Mutex::new(State {
            behaviour,
            jobs: BTreeMap::new(),
            disabled: BTreeMap::new(),
            calls: Vec::new(),
            refused: Vec::new(),
            ignored: Vec::new(),
            quit: false,
        }));
        // Opened for both, so that it does not end with a writer.
        let pipe = fs::OpenOptions::new().read(true).write(true).open(&requests).expect("open the requests");
        let (answering, supervising) = (Arc::clone(&state), Arc::clone(&state));
        let threads = vec![
            std::thread::spawn(move || answer(pipe, &answering)),
            std::thread::spawn(move || supervise(&supervising)),
        ];
        Self { root, state, threads }
    }

    /// All that it knows, to look at and to change.
    pub fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// A path in its directory.
    pub fn path(&self, sub: &str) -> PathBuf {
        self.root.path().join(sub)
    }

    /// The program that is installed.
    pub fn program(&self) -> PathBuf {
        self.path("opt/mpm-monitor")
    }

    /// The program with these words, as the user types it on a Mac.
    pub fn command<S: AsRef<std::ffi::OsStr>>(&self, words: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(self.program());
        command.args(words).env_clear().current_dir(self.root.path());
        command.env("PATH", format!("{}:/usr/bin:/bin", self.path("bin").display()));
        command.env("HOME", self.path("home")).env("XDG_RUNTIME_DIR", self.path("run")).env("USER", "ann");
        command.env("MPM_MONITOR_TEST_MANAGER", format!("launchd:{}", self.path("mac").display()));
        command
    }

    /// A verb about a port, for the user's manager, to its end.
    #[track_caller]
    pub fn verb(&self, verb: &str, port: u16, more: &[&str]) -> Ran {
        let port = port.to_string();
        let mut words = vec![verb, "--user", "--port", &port];
        words.extend(more);
        run(&mut self.command(words), Duration::from_secs(90))
    }

    /// launchctl, as a person types it.
    #[track_caller]
    pub fn launchctl(&self, words: &[&str]) -> Ran {
        let mut command = Command::new(self.path("bin/launchctl"));
        run(command.args(words), Duration::from_secs(30))
    }

    /// The calls of launchctl so far, without those that only ask.
    pub fn told(&self) -> Vec<String> {
        self.state().calls.iter().filter(|c| !c.starts_with("print")).cloned().collect()
    }

    /// Forgets the calls so far.
    pub fn forget_calls(&self) {
        self.state().calls.clear();
    }

    /// The machine goes down and comes up: every process is gone and every job forgotten, but daemons are loaded again. What
    /// was disabled stays so.
    pub fn reboot(&self) {
        let mut all = self.state();
        all.jobs.values_mut().for_each(Job::kill);
        all.jobs.clear();
        load(&mut all, "system", &self.path("mac/Library/LaunchDaemons"));
    }

    /// The user logs in at the screen: the agents are loaded into its domain. Over SSH nothing is.
    pub fn log_in(&self) {
        load(&mut self.state(), &format!("gui/{}", uid()), &self.path("home/Library/LaunchAgents"));
    }

    /// The process of a job, in whatever domain.
    pub fn pid(&self, label: &str) -> Option<u32> {
        self.state().jobs.iter().find(|((_, l), _)| l == label).and_then(|(_, job)| job.pid())
    }
}

impl Drop for Launchd {
    fn drop(&mut self) {
        self.state().quit = true;
        if let Ok(mut pipe) = fs::OpenOptions::new().write(true).open(self.path("requests")) {
            let _ = pipe.write_all(b"quit\n");
        }
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
        self.state().jobs.values_mut().for_each(Job::kill);
    }
}

/// Loads all property lists of a directory.
fn load(state: &mut State, domain: &str, dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path().display().to_string();
        verbs::answer(&["bootstrap", domain, &path], state);
    }
}

/// A panic of a test while it looks leaves the state usable: the processes must end all the same.
fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// The number of this user.
pub fn uid() -> u32 {
    use std::os::unix::fs::MetadataExt;
    fs::metadata("/proc/self").map_or(0, |m| m.uid())
}

fn answer(pipe: fs::File, state: &Arc<Mutex<State>>) {
    for call in BufReader::new(pipe).lines().map_while(Result::ok) {
        if lock(state).quit {
            return;
        }
        let state = Arc::clone(state);
        std::thread::spawn(move || serve(Path::new(&call), &state));
    }
}

fn serve(call: &Path, state: &Mutex<State>) {
    let words = fs::read_to_string(call.join("words")).unwrap_or_default();
    let words: Vec<&str> = words.lines().collect();
    let slow = lock(state).behaviour.slow;
    if !slow.is_zero() {
        std::thread::sleep(slow);
    }
    let answer = verbs::answer(&words, &mut lock(state));
    // `kickstart -k` comes back when the old process is gone, and that may take all of `ExitTimeOut`.
    while answer.waits_for.as_ref().is_some_and(|key| lock(state).jobs.get(key).is_some_and(|job| job.kicked)) {
        std::thread::sleep(Duration::from_millis(5));
    }
    for (name, content) in [("out", answer.out), ("err", answer.err), ("code", format!("{}\n", answer.code))] {
        // The last one wakes the client up; one that was killed meanwhile has taken its directory's name along.
        let _ = fs::OpenOptions::new()
            .write(true)
            .create(name != "code")
            .open(call.join(name))
            .and_then(|mut f| f.write_all(content.as_bytes()));
    }
}

/// Also starts the processes: they die with the thread that started them.
fn supervise(state: &Mutex<State>) {
    loop {
        let mut all = lock(state);
        if all.quit {
            all.jobs.values_mut().for_each(Job::kill);
            return;
        }
        let behaviour = all.behaviour.clone();
        all.jobs.retain(|_, job| !job.tick(&behaviour));
        drop(all);
        std::thread::sleep(Duration::from_millis(5));
    }
}
