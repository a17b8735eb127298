//! What `--json` prints is what `docs/json.md` says, on a machine with a real systemd.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use testkit::command::Ran;
use testkit::here;
use testkit::machine::{Machine, PORT, Scope};

/// The members that the page lists, by the verbs of the heading, and whether each is always there.
fn documented() -> BTreeMap<String, BTreeMap<String, bool>> {
    let page = std::fs::read_to_string(here("docs/json.md")).unwrap();
    let mut all: BTreeMap<String, BTreeMap<String, bool>> = BTreeMap::new();
    let mut verbs: Vec<String> = Vec::new();
    for line in page.lines() {
        let code = |text: &str| text.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
        if let Some(heading) = line.strip_prefix("## ") {
            verbs = code(heading);
        } else if let Some((names, is)) = line.strip_prefix("| `").and_then(|rest| rest.split_once(" | ")) {
            for (verb, name) in verbs.iter().flat_map(|v| code(&format!("`{names}")).into_iter().map(move |n| (v, n))) {
                all.entry(verb.clone()).or_default().insert(name, !is.starts_with("where "));
            }
        }
    }
    all
}

/// The members of an object, as the page writes them; below those that the page tells as one, none.
fn members(prefix: &str, value: &Value, known: &BTreeMap<String, bool>, found: &mut BTreeSet<String>) {
    let whole = known.contains_key(prefix) && !known.keys().any(|k| k.starts_with(&format!("{prefix}.")));
    match value {
        _ if whole => drop(found.insert(prefix.to_owned())),
        Value::Object(object) => {
            if known.contains_key(prefix) {
                found.insert(prefix.to_owned());
            }
            for (name, value) in object {
                let dot = if prefix.is_empty() { "" } else { "." };
                let name = if prefix == "settings" { "NAME" } else { name };
                let name = if prefix.starts_with("settings.") {
                    format!("settings.NAME.{name}")
                } else {
                    format!("{prefix}{dot}{name}")
                };
                members(&name, value, known, found);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| members(&format!("{prefix}[]"), item, known, found)),
        _ => drop(found.insert(prefix.to_owned())),
    }
}

#[test]
fn what_json_prints_is_what_the_page_says() {
    let documented = documented();
    let machine = boot!(Scope::System);
    let mut said: Vec<(&str, Value)> = Vec::new();
    let mut hear = |verb, ran: Ran| said.push((verb, ran.json()));
    hear("install", machine.verb("install", &["--dry-run", "--json"]).ok());
    hear("install", machine.verb("install", &["--json", "--socket", "--env", "A=b"]).ok());
    hear("install", machine.verb("install", &["--json"]).ok());
    hear("status", machine.verb("status", &["--json"]).ok());
    hear("restart", machine.verb("restart", &["--json"]).ok());
    hear("reload", machine.verb("reload", &["--json"]).ok());
    machine.root(&["systemctl", "kill", "-s", "KILL", "mpm-monitor@8765"]).ok();
    machine.client(&["probe.py", "ready", "8765"]);
    hear("status", machine.verb("status", &["--json"]).ok());
    let program = machine.program();
    hear("upgrade", machine.verb("upgrade", &["--from", &program, "--dry-run", "--json"]).ok());
    hear("migrate", machine.verb("migrate", &["--dry-run", "--json"]).ok());
    hear("list", machine.program_with(&["list", "--json"]).ok());
    hear("stop", machine.verb("stop", &["--json"]).ok());
    hear("status", machine.verb("status", &["--json"]).expect(3));
    hear("start", machine.verb("start", &["--json"]).ok());
    hear("config show", machine.program_with(&["config", "show", "--json"]).ok());
    hear("uninstall", machine.verb("uninstall", &["--json"]).ok());
    assert_eq!(machine.state(PORT), "inactive");

    let mut seen: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for (verb, value) in &said {
        assert_eq!(value["schema_version"], 1, "{verb}: {value}");
        let known = &documented[*verb];
        let mut found = BTreeSet::new();
        members("", value, known, &mut found);
        // The socket has the members of the manager, and the install's proof those of start.
        let found = found.into_iter().filter(|m| !m.starts_with("socket.") && !m.starts_with("proof."));
        seen.entry(verb).or_default().extend(found);
    }
    for (verb, seen) in &seen {
        let known = &documented[*verb];
        let undocumented: Vec<_> = seen.iter().filter(|m| !known.contains_key(*m)).collect();
        assert!(undocumented.is_empty(), "docs/json.md does not have of {verb}: {undocumented:?}");
        let never: Vec<_> =
            known.iter().filter(|(m, always)| **always && !m.starts_with("proof.") && !seen.contains(*m)).collect();
        assert!(never.is_empty(), "docs/json.md has of {verb} what was never printed: {never:?}");
        println!("{verb}: {} members", seen.len());
    }
}

/// The line is for terminals; it says what is waited for, and is gone at the end.
#[test]
fn a_terminal_is_told_what_is_waited_for() {
    let machine: Machine = boot!(Scope::System);
    machine.install(&[]);
    // A start that takes a second: the manager waits for a condition before it runs the program.
    machine.drop_in(PORT, "[Service]\nExecStartPre=/bin/sleep 1\n");
    let restart = format!("TERM=xterm {} restart --system", machine.program());
    let shown = machine.root(&["script", "--quiet", "--return", "--command", &restart, "/dev/null"]).ok().stdout;
    let erased = shown.rsplit("\r\x1b[K").next().unwrap();
    assert!(shown.contains("\r\x1b[Kwaiting for mpm-monitor@8765.service to be ready again ..."), "{shown:?}");
    assert!(erased.starts_with("restarted, running and ready") && !erased.contains("waiting"), "{shown:?}");
    let piped = machine.verb("restart", &[]).ok();
    assert!(!piped.all().contains("waiting for") && !piped.all().contains('\x1b'), "{piped}");
}
