//! `scripts/release.sh`, on a copy of the files that it changes.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use testkit::command::{Ran, run};
use testkit::here;

const FILES: [&str; 7] = [
    "Cargo.toml",
    "Cargo.lock",
    "fuzz/Cargo.lock",
    "docs/openapi.json",
    "CHANGELOG.md",
    "scripts/release.sh",
    "scripts/lib.sh",
];

fn at(dir: &Path, program: &str, words: &[&str]) -> Ran {
    let mut command = Command::new(program);
    command.args(words).current_dir(dir).env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_SYSTEM", "/dev/null");
    for role in ["AUTHOR", "COMMITTER"] {
        command.env(format!("GIT_{role}_NAME"), "A Test").env(format!("GIT_{role}_EMAIL"), "test@example.org");
    }
    run(&mut command, Duration::from_secs(20))
}

fn repository() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for file in FILES {
        let to = dir.path().join(file);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(here(file), to).unwrap();
    }
    let changelog = dir.path().join("CHANGELOG.md");
    fs::write(changelog, "# Changelog\n\n## [Unreleased]\n\n### Added\n\n- A thing.\n\n## [0.0.1] - 2026-01-01\n")
        .unwrap();
    for words in [&["init", "--quiet"][..], &["add", "--all"], &["commit", "--quiet", "--message", "all"]] {
        at(dir.path(), "git", words).ok();
    }
    dir
}

#[test]
fn a_release_changes_the_version_everywhere_and_nothing_else() {
    let repository = repository();
    let dir = repository.path();
    at(dir, "scripts/release.sh", &["77.1.2"]).ok();
    let changed = at(dir, "git", &["show", "--numstat", "--format=%s", "HEAD"]).ok().stdout;
    let lines: Vec<_> = changed.lines().filter(|l| !l.is_empty()).map(|l| l.replace('\t', " ")).collect();
    // The program and each library that it is made of.
    let of_version = concat!("\nversion = \"", env!("CARGO_PKG_VERSION"), "\"\n");
    let locks = ["Cargo.lock", "fuzz/Cargo.lock"].map(|lock| {
        let text = fs::read_to_string(here(lock)).unwrap();
        let ours = |package: &&str| package.contains("\nname = \"mpm-") && package.contains(of_version);
        let count = text.split("[[package]]").filter(ours).count();
        format!("{count} {count} {lock}")
    });
    assert_eq!(
        lines,
        ["Release 77.1.2", "2 0 CHANGELOG.md", &locks[0], "1 1 Cargo.toml", "1 1 docs/openapi.json", &locks[1]]
    );
    let read = |file: &str| fs::read_to_string(dir.join(file)).unwrap();
    assert!(read("Cargo.toml").contains("[workspace.package]\nversion = \"77.1.2\"\n"));
    for lock in ["Cargo.lock", "fuzz/Cargo.lock"] {
        assert!(read(lock).contains("name = \"mpm-monitor\"\nversion = \"77.1.2\"\n"), "{lock}");
    }
    let api: serde_json::Value = serde_json::from_str(&read("docs/openapi.json")).unwrap();
    assert_eq!(api["info"]["version"], "77.1.2");
    let changelog = read("CHANGELOG.md");
    let (before, after) = changelog.split_once("\n## [77.1.2] - ").unwrap();
    assert!(
        before.ends_with("## [Unreleased]\n") && after[10..].starts_with("\n\n### Added\n\n- A thing.\n"),
        "{changelog}"
    );
    // Nothing has come since.
    let again = at(dir, "scripts/release.sh", &["77.1.3"]);
    assert!(again.code == 1 && again.stderr.contains("nothing under [Unreleased]"), "{again}");
}

#[test]
fn what_is_no_release_is_refused_and_changes_nothing() {
    let repository = repository();
    let dir = repository.path();
    let head = || at(dir, "git", &["rev-parse", "HEAD"]).ok().stdout;
    let before = head();
    at(dir, "git", &["tag", "v77.0.0"]).ok();
    for (version, code, reason) in [
        ("", 2, "VERSION"),
        ("1.2", 2, "VERSION"),
        ("01.2.3", 2, "VERSION"),
        ("77.0.0; true", 2, "VERSION"),
        ("0.0.9", 1, "below"),
        ("77.0.0", 1, "released already"),
    ] {
        let ran = at(dir, "scripts/release.sh", &[version]);
        assert!(ran.code == code && ran.stderr.contains(reason), "{version}: {ran}");
    }
    // A version comes after its candidates.
    let ran = at(dir, "scripts/release.sh", &["77.0.1-rc.1"]);
    assert_eq!(ran.code, 0, "{ran}");
    at(dir, "git", &["reset", "--quiet", "--hard", before.trim()]).ok();
    fs::write(dir.join("CHANGELOG.md"), "changed\n").unwrap();
    let dirty = at(dir, "scripts/release.sh", &["77.0.1"]);
    assert!(dirty.code == 1 && dirty.stderr.contains("has changes"), "{dirty}");
    assert_eq!((head(), at(dir, "git", &["diff", "--name-only"]).ok().stdout.trim()), (before, "CHANGELOG.md"));
}
