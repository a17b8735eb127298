//! The configuration file, with every key.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use mpm_monitor::config::example::example;
use serde_json::Value;

use crate::{assert_frozen, text};

/// The folder that the fixture's paths name.
const FOLDER: &str = "/srv/monitor";

#[test]
fn settings_of_an_earlier_build_mean_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let here = dir.path().to_str().unwrap();
    fs::write(at("config.toml"), text("config.toml").replace(FOLDER, here)).unwrap();
    for secret in ["token", "password"] {
        fs::write(at(secret), "0123456789abcdef0123456789abcdef\n").unwrap();
        fs::set_permissions(at(secret), Permissions::from_mode(0o600)).unwrap();
    }
    let mut show = Command::new(env!("CARGO_BIN_EXE_mpm-monitor"));
    show.args(["config", "show", "--json", "--config"]).arg(at("config.toml")).env_clear().env("HOME", here);
    let output = show.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let shown: Value = serde_json::from_slice(&output.stdout).unwrap();
    let settings: BTreeMap<String, Value> = serde_json::from_value(shown["settings"].clone()).unwrap();
    let mut lines = String::new();
    for (name, setting) in &settings {
        let origin = setting["origin"].as_str().unwrap();
        assert!(origin.contains("config.toml:"), "{name} is not from the file but from {origin}");
        lines += &format!("{name} = {}\n", setting["value"].as_str().unwrap().replace(here, FOLDER));
    }
    assert_frozen("config.shown", &lines);
}

/// A key that is new belongs into the fixture.
#[test]
fn fixture_of_the_settings_has_every_key() {
    let names = |text: &str| {
        let mut section = String::new();
        let mut names = Vec::new();
        for line in text.lines().map(|line| line.trim_start_matches('#')) {
            if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
                section = format!("{name}.");
            } else if let Some((name, _)) = line.split_once(" = ").filter(|(name, _)| !name.contains(' ')) {
                names.push(format!("{section}{name}"));
            }
        }
        names
    };
    assert_eq!(names(&text("config.toml")), names(&example()));
}
