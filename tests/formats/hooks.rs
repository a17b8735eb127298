//! What remembers a change of Claude Code's settings: the copy of before and the receipt, both named after the file's path.

use std::fs;
use std::path::{Path, PathBuf};

use mpm_monitor::hooks::claude::change::{Plan, Wish};
use mpm_monitor::hooks::claude::file::Settings;
use service::drift::hash;

use crate::{assert_frozen, text};

const COMMAND: &str = "/usr/local/bin/mpm-monitor hook";

/// A receipt, which holds the path of the settings, for the settings at `path`.
fn receipt(path: &Path) -> String {
    text("hooks/receipt.json").replace("/SETTINGS", path.to_str().unwrap())
}

/// The names of receipt and copy.
fn names(receipts: &Path, settings: &Path) -> (PathBuf, PathBuf) {
    let stem = &hash(settings.to_str().unwrap())[..16];
    (receipts.join(format!("{stem}.receipt.json")), receipts.join(format!("{stem}.settings.json")))
}

fn change(settings: &Path, wish: &Wish, receipts: &Path) {
    Plan::new(Settings::read(settings).unwrap(), wish, receipts).unwrap().apply(receipts).unwrap();
}

#[test]
fn settings_changed_by_an_earlier_build_are_given_back_to_the_byte() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().canonicalize().unwrap();
    let (settings, receipts) = (home.join("settings.json"), home.join("receipts"));
    fs::create_dir(&receipts).unwrap();
    fs::write(&settings, text("hooks/installed.json")).unwrap();
    let (of_receipt, of_copy) = names(&receipts, &settings);
    fs::write(&of_receipt, receipt(&settings)).unwrap();
    fs::write(&of_copy, text("hooks/before.json")).unwrap();
    change(&settings, &Wish::Out, &receipts);
    assert_eq!(fs::read_to_string(&settings).unwrap(), text("hooks/before.json"));
    assert!(!receipts.exists(), "receipt, copy and folder are gone");
}

#[test]
fn change_of_settings_is_remembered_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().canonicalize().unwrap();
    let (settings, receipts) = (home.join("settings.json"), home.join("receipts"));
    fs::write(&settings, text("hooks/before.json")).unwrap();
    change(&settings, &Wish::In(COMMAND.into()), &receipts);
    assert_frozen("hooks/installed.json", &fs::read_to_string(&settings).unwrap());
    let (of_receipt, of_copy) = names(&receipts, &settings);
    assert_eq!(fs::read_to_string(of_copy).unwrap(), text("hooks/before.json"));
    let written = fs::read_to_string(of_receipt).unwrap().replace(settings.to_str().unwrap(), "/SETTINGS");
    assert_frozen("hooks/receipt.json", &written);
}
