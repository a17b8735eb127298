//! What is read and written: the parsers, the unit files before systemd's own parser, and every format that the program keeps
//! on the disk, as files that an earlier build wrote. Each of those is read by the program's own reader, and today's writer
//! must write the same bytes.
//!
//! A fixture is never written anew: installations have such files. A format that changes gets a fixture of its own beside
//! the old one. `config.toml` with `config.shown` grows: a new setting gets a line in each. `bus.json` is tested in `src/bus/generation.rs`.

mod hooks;
mod parsers;
mod records;
mod settings;
mod spool;
mod store;
mod systemd;
mod units;

use std::path::PathBuf;

/// A fixture's path.
fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/formats/fixtures").join(name)
}

/// A copy of a fixture in a folder of this user's: readers refuse files of others.
fn copied(name: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    std::fs::copy(fixture(name), &path).unwrap_or_else(|e| panic!("{name}: {e}"));
    (dir, path)
}

/// A fixture's text.
#[track_caller]
fn text(name: &str) -> String {
    std::fs::read_to_string(fixture(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

/// Asserts that `written` is what the fixture holds.
#[track_caller]
fn assert_frozen(name: &str, written: &str) {
    assert_eq!(written, text(name), "today's writer does not write {name}");
}
