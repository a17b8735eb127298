//! What tests of the program share. It knows the program as a file that can be run, and nothing of its code.
//!
//! - [`command`]: commands with a deadline, and what they said.
//! - [`daemon`]: `mpm-monitor run` with folders and a port of its own.
//! - [`machine`]: a throw-away machine with a real systemd; [`tree`] compares its files.
//! - `launchd`: a stand-in for launchd, on Linux.
//! - [`http`], [`wire`], [`sse`]: clients made of blocking sockets.
//! - [`notify`]: a service manager's end of `NOTIFY_SOCKET`.
//! - [`builds`]: another build of the program, without compiling it.
//! - [`shown`]: what the program shows, compared with `tests/snapshots/`.

pub mod builds;
pub mod command;
pub mod daemon;
pub mod http;
#[cfg(target_os = "linux")]
pub mod launchd;
pub mod machine;
pub mod notify;
pub mod shown;
pub mod sse;
pub mod tree;
pub mod wire;

use std::fmt::Display;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// The program under test: the build named by `MPM_MONITOR_BIN`, else the one cargo built for the tests.
pub fn program() -> String {
    std::env::var("MPM_MONITOR_BIN").unwrap_or_else(|_| built())
}

/// The program that cargo built for the tests. Nextest and a new cargo name it; else it is beside the folder of the tests.
///
/// # Panics
/// When there is none.
pub fn built() -> String {
    let named = ["NEXTEST_BIN_EXE_mpm-monitor", "CARGO_BIN_EXE_mpm-monitor"];
    if let Some(program) = named.iter().find_map(|name| std::env::var(name).ok()) {
        return program;
    }
    let test = std::env::current_exe().expect("the path of this test");
    let beside = test.ancestors().nth(2).map(|dir| dir.join("mpm-monitor")).filter(|program| program.is_file());
    beside.expect("the program beside the tests: run them by cargo nextest").display().to_string()
}

/// A path in the project's folder.
pub fn here(path: &str) -> String {
    let root = env!("CARGO_MANIFEST_DIR").trim_end_matches("/crates/testkit");
    format!("{root}/{path}")
}

/// The folder that cargo builds into.
pub fn target() -> String {
    std::env::var("CARGO_TARGET_DIR").unwrap_or_else(|_| here("target"))
}

/// The Python that has python-socketio in it, made by `scripts/setup.sh test`.
pub fn venv() -> String {
    format!("{}/test-venv", target())
}

/// A folder for what tests make that must not be in `/tmp`.
///
/// # Panics
/// When it cannot be made.
pub fn scratch() -> PathBuf {
    let dir = PathBuf::from(target()).join("tmp");
    std::fs::create_dir_all(&dir).expect("make the folder of tests");
    dir
}

/// Asks until there is an answer, and gives up, naming what it waited for and what it saw last, after `deadline`.
///
/// # Panics
/// When the deadline has passed.
#[track_caller]
pub fn eventually<T, E: Display>(deadline: Duration, what: &str, mut ask: impl FnMut() -> Result<T, E>) -> T {
    let start = Instant::now();
    loop {
        match ask() {
            Ok(answer) => return answer,
            Err(last) => {
                assert!(start.elapsed() < deadline, "waited {deadline:?} for {what}; at last: {last}");
            }
        }
        // Between two questions, so that asking does not take the processor from what is waited for.
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Prints a number that was measured, in the form that `scripts/figures.sh` reads.
pub fn figure(name: &str, value: impl Display, unit: &str) {
    println!("FIGURE {name} {value} {unit}");
}

/// How many of something a test does: what this variable says, as `scripts/soak.sh` sets it, else the short version's.
///
/// # Panics
/// When the variable is no number.
pub fn how_many(variable: &str, short: usize) -> usize {
    std::env::var(variable).map_or(short, |n| n.parse().unwrap_or_else(|_| panic!("{variable}={n} is no number")))
}

/// Tells why a test cannot run here; a failure where `MPM_MONITOR_TESTS_MUST_RUN` is set, as in CI. A runner of tests shows
/// nothing of those that pass, so the line goes into the file that `MPM_MONITOR_TESTS_SKIPPED` names as well.
///
/// # Panics
/// Where tests must run, and where that file cannot be written.
pub fn skip(why: &str) {
    assert!(std::env::var_os("MPM_MONITOR_TESTS_MUST_RUN").is_none(), "this test must run here, but: {why}");
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    println!("SKIP: {test}: {why}");
    if let Some(file) = std::env::var_os("MPM_MONITOR_TESTS_SKIPPED") {
        let line = format!("SKIP: {test}: {why}\n");
        let opened = OpenOptions::new().append(true).create(true).open(file);
        opened.and_then(|mut file| file.write_all(line.as_bytes())).expect("note that a test was skipped");
    }
}

/// The `percent`th percentile of some durations, in milliseconds.
pub fn percentile(durations: &mut [Duration], percent: usize) -> f64 {
    durations.sort_unstable();
    let at = (durations.len() * percent / 100).min(durations.len() - 1);
    durations[at].as_secs_f64() * 1000.0
}

/// A small generator of numbers (xorshift); who uses it prints the seed, which is not 0, so that a run can be repeated.
#[derive(Debug)]
pub struct Random(pub u64);

impl Random {
    /// The next number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}
