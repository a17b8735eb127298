//! The documents say what is there: tests that they name exist, and so do the files they link to.

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All files below `dir` with this ending.
fn files(dir: &Path, ending: &str, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let hidden = path.file_name().is_some_and(|n| n.to_string_lossy().starts_with('.'));
        if path.is_dir() && !hidden && path.file_name().is_some_and(|n| n != "target") {
            files(&path, ending, found);
        } else if path.extension().is_some_and(|e| e == ending) {
            found.push(path);
        }
    }
}

/// All of the program and its tests.
fn code() -> String {
    let mut sources = Vec::new();
    files(&root().join("src"), "rs", &mut sources);
    files(&root().join("crates"), "rs", &mut sources);
    files(&root().join("tests"), "rs", &mut sources);
    sources.iter().map(|p| fs::read_to_string(p).unwrap()).collect()
}

/// The tests that a text cites.
fn cited(text: &str) -> Vec<&str> {
    let is_test = |name: &&str| {
        name.len() > 20 && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
    };
    text.split('`').skip(1).step_by(2).filter(is_test).collect()
}

#[test]
fn tests_that_the_documents_cite_exist() {
    let code = code();
    for (document, least) in [("docs/dev/findings.md", 50), ("docs/dev/pains.md", 40), ("docs/dev/testing.md", 5)] {
        let text = fs::read_to_string(root().join(document)).unwrap();
        let names = cited(&text);
        for name in &names {
            assert!(code.contains(&format!("fn {name}(")), "{document} cites {name}, which is no test");
        }
        assert!(names.len() >= least, "{document} cites only {} tests; did its form change?", names.len());
    }
}

/// Each of the twenty pains has a test that bears its number, named on its row, and each promise a test and what it measured.
#[test]
fn every_pain_and_every_promise_has_its_row_and_its_test() {
    let page = fs::read_to_string(root().join("docs/dev/pains.md")).unwrap();
    let row = |first: &str| {
        let start = format!("| {first} |");
        page.lines().find(|l| l.starts_with(&start)).unwrap_or_else(|| panic!("docs/dev/pains.md has no row {first}"))
    };
    for pain in 1..=20 {
        let row = row(&pain.to_string());
        assert!(row.contains(&format!("`pain_{pain}_")), "no test of its name: {row}");
    }
    for promise in 1..=12 {
        let row = row(&format!("P{promise}"));
        assert!(!cited(row).is_empty(), "no test: {row}");
        let measured = row.split(" | ").nth(2).unwrap_or_default();
        assert!(measured.bytes().any(|b| b.is_ascii_digit()), "no number: {row}");
    }
}

#[test]
fn links_between_the_documents_lead_somewhere() {
    let mut documents = Vec::new();
    files(root(), "md", &mut documents);
    assert!(documents.len() > 5);
    for document in documents {
        let text = fs::read_to_string(&document).unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let path = link.split('#').next().unwrap_or_default();
            if path.is_empty() || path.contains("://") {
                continue;
            }
            let target = document.parent().unwrap().join(path);
            assert!(target.exists(), "{} links to {path}, which is not there", document.display());
        }
    }
}

/// `MPM_MONITOR_BLESS=1` writes it anew.
#[test]
fn every_code_of_the_doctor_is_documented_and_no_other() {
    let path = root().join("docs/doctor.md");
    let page = fs::read_to_string(&path).unwrap();
    let (begin, end) = ("<!-- codes -->\n\n", "\n<!-- end of codes -->");
    let (before, rest) = page.split_once(begin).unwrap();
    let (there, after) = rest.split_once(end).unwrap();
    let table = mpm_monitor::doctor::show::table_of_codes();
    if std::env::var_os("MPM_MONITOR_BLESS").is_some() {
        fs::write(&path, format!("{before}{begin}{table}{end}{after}")).unwrap();
        return;
    }
    assert_eq!(there, table, "docs/doctor.md lists other codes; MPM_MONITOR_BLESS=1 writes the table anew");
}
