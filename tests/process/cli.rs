//! The command line: exit codes, help, pages, and what it says of a wrong configuration.

use std::collections::BTreeMap;

use daemon::exit::Exit;

use testkit::command::run;
use testkit::daemon::{Place, SOON};
use testkit::here;

const VERBS: [&str; 19] = [
    "install",
    "uninstall",
    "start",
    "stop",
    "restart",
    "reload",
    "status",
    "list",
    "logs",
    "doctor",
    "report",
    "config",
    "run",
    "emit",
    "events",
    "hook",
    "hooks",
    "completions",
    "man",
];

/// The codes and meanings in the table of a Markdown text.
fn table(markdown: &str) -> BTreeMap<u8, String> {
    let row = |line: &str| {
        let mut cells = line.strip_prefix('|')?.split('|').map(|c| c.trim().trim_matches('`').to_owned());
        Some((cells.next()?.parse().ok()?, cells.collect::<Vec<_>>().join("|")))
    };
    markdown.lines().filter_map(row).collect()
}

#[test]
fn every_exit_code_is_documented_and_no_other() {
    let documented = table(&std::fs::read_to_string(here("docs/exit-codes.md")).unwrap());
    let known: Vec<u8> = Exit::ALL.iter().map(|e| e.code()).collect();
    assert_eq!(documented.keys().copied().collect::<Vec<_>>(), known);

    let page = Place::new().ran(["man"]).ok().stdout.replace("\\-", "-");
    for exit in Exit::ALL {
        let entry = format!("\\fB{}\\fR\n{}", exit.code(), exit.meaning());
        assert!(page.contains(&entry), "the manual page lacks {entry:?}:\n{page}");
    }
    let section = page.split("EXIT STATUS").nth(1).unwrap().split("\n.SH").next().unwrap();
    assert_eq!(section.matches("\n.TP").count(), known.len());
}

#[test]
fn help_of_every_verb_has_an_example_that_parses() {
    let place = Place::new();
    let listed = place.ran(["--help"]).ok().stdout;
    for verb in VERBS {
        assert!(listed.contains(&format!("\n  {verb} ")), "{verb} is not listed:\n{listed}");
        let help = place.ran([verb, "--help"]).ok().stdout;
        let examples: Vec<&str> = help.lines().filter_map(|l| l.trim().strip_prefix("mpm-monitor ")).collect();
        assert!(examples.iter().any(|e| e.starts_with(verb)), "no example of {verb}:\n{help}");
        // What one types from it must at least be understood.
        for example in examples {
            let words: Vec<String> = example
                .split(['|', '>', '#'])
                .next()
                .unwrap()
                .replace("'1 hour ago'", "today")
                .split_whitespace()
                .map(str::to_owned)
                .collect();
            let ran = place.ran(words.iter().map(String::as_str).chain(["--help"]));
            assert_eq!(ran.code, 0, "the example `{example}` of {verb} is not understood: {ran}");
        }
    }
}

#[test]
fn every_verb_has_a_page_and_a_completion() {
    let place = Place::new();
    let dir = place.path("pages");
    place.ran(["man", "--dir", dir.to_str().unwrap()]).ok();
    for verb in VERBS {
        let page = std::fs::read_to_string(dir.join(format!("man1/mpm-monitor-{verb}.1"))).unwrap();
        assert!(page.contains(".SH SYNOPSIS"), "{page}");
    }
    for shell in ["bash", "zsh", "fish"] {
        let script = place.ran(["completions", shell]).ok().stdout;
        for verb in VERBS {
            assert!(script.contains(verb), "the completion for {shell} lacks {verb}");
        }
    }
}

#[test]
fn a_wrong_command_line_is_2_and_a_version_is_told() {
    let place = Place::new();
    place.ran(["instal"]).expect(2);
    place.ran(["start", "--port", "0"]).expect(2);
    place.ran(["install", "--user", "--system"]).expect(2);
    let version = place.ran(["--version"]).ok();
    assert!(version.stdout.contains(env!("CARGO_PKG_VERSION")) && version.stdout.contains("build"), "{version}");
}

/// Whoever repairs one error should not have to find the next by another start; and looking must not do anything.
#[test]
fn all_errors_of_the_configuration_are_told_at_once_each_with_its_source() {
    let place = Place::new();
    let file = place.path("wrong.toml");
    std::fs::write(&file, "port = 99999\n[server]\nmax_clients = \"many\"\nmax_body = \"1 potato\"\nmax_cleints = 3\n")
        .unwrap();
    let file = file.to_str().unwrap();
    for verb in [&["run"][..], &["config", "check"], &["config", "show"]] {
        let mut command = place.command(verb.iter().copied().chain(["--config", file, "--log-format", "yaml"]));
        let said = run(command.env("MPM_MONITOR_HISTORY_AGE", "soon"), SOON).expect(78).all();
        for wanted in [
            "wrong.toml:1",
            "wrong.toml:3",
            "wrong.toml:4",
            "wrong.toml:5",
            "max_clients?",
            "MPM_MONITOR_HISTORY_AGE",
            "--log-format",
        ] {
            assert!(said.contains(wanted), "{verb:?} does not mention {wanted}:\n{said}");
        }
    }
    for untouched in ["state", "run"] {
        let left: Vec<_> = std::fs::read_dir(place.path(untouched)).unwrap().collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

#[test]
fn every_setting_in_force_is_shown_with_its_origin() {
    let place = Place::new();
    let file = place.path("mine.toml");
    std::fs::write(&file, "[history]\nage = \"7days\"\n").unwrap();
    let mut command =
        place.command(["config", "show", "--origin", "--port", "9100", "--config", file.to_str().unwrap()]);
    let shown = run(command.env("MPM_MONITOR_SERVER_MAX_CLIENTS", "7"), SOON).ok().stdout;
    let line = |name: &str| {
        shown.lines().find(|l| l.trim_start().starts_with(name)).unwrap_or_else(|| panic!("no {name} in:\n{shown}"))
    };
    assert!(line("port ").contains("9100") && line("port ").contains("flag --port"), "{shown}");
    assert!(line("age ").contains("mine.toml:2"), "{shown}");
    assert!(line("max_clients ").contains("environment MPM_MONITOR_SERVER_MAX_CLIENTS"), "{shown}");
    assert!(line("max_body ").contains("default"), "{shown}");
}

/// A container, another init: one clear sentence, the next command to type, a code of its own. Nothing of this machine's
/// manager can be reached from where this runs, whatever machine it is.
#[cfg(target_os = "linux")]
#[test]
fn without_a_service_manager_it_says_what_to_do() {
    let place = Place::new();
    let flags = if rustix::process::geteuid().is_root() { &["--mount"][..] } else { &["--mount", "--map-root-user"] };
    let hidden = |words: &[&str]| {
        let mut command = std::process::Command::new("unshare");
        command.args(flags).args(["--", "sh", "-c"]);
        // The program out of the build tree, from where nothing is installed anyhow.
        command.arg(
            "mount -t tmpfs none /run && mount -t tmpfs none /opt && cp \"$1\" /opt/mpm-monitor && shift && \
             unset XDG_RUNTIME_DIR DBUS_SESSION_BUS_ADDRESS && exec \"$@\"",
        );
        command.arg("sh").arg(testkit::program()).args(words).env("HOME", place.path("home"));
        run(&mut command, SOON)
    };
    let possible = hidden(&["true"]);
    if possible.code != 0 {
        return testkit::skip(&format!("cannot hide this machine's manager: {}", possible.stderr.trim()));
    }
    for scope in ["--system", "--user"] {
        for verb in ["install", "start", "restart"] {
            let ran = hidden(&["/opt/mpm-monitor", verb, scope]).expect(7);
            assert!(ran.stderr.contains("mpm-monitor run"), "the next command to type is missing: {ran}");
            assert!(ran.stderr.trim().lines().count() <= 3, "more than a clear sentence: {ran}");
        }
    }
    assert!(std::fs::read_dir(place.path("home")).unwrap().next().is_none(), "a refused install wrote something");
}

#[test]
fn the_scripts_ask_for_the_same_rust_as_cargo_does() {
    let setup = std::fs::read_to_string(here("scripts/setup.sh")).unwrap();
    let wanted = format!("RUST_MINOR={}", env!("CARGO_PKG_RUST_VERSION").split('.').nth(1).unwrap());
    assert!(setup.lines().any(|l| l.starts_with(&wanted)), "{wanted} is not in scripts/setup.sh");
}

/// What serves and what installs find a user's directories in one place.
#[test]
#[cfg(target_os = "linux")]
fn the_service_and_its_installer_agree_on_the_users_directories() {
    let place = Place::new();
    let xdg = |command: &mut std::process::Command| {
        command.env_remove("MPM_MONITOR_STATE_DIR").env_remove("MPM_MONITOR_RUNTIME_DIR");
        command.env("XDG_STATE_HOME", place.path("s")).env("XDG_CONFIG_HOME", place.path("c"));
        command.env("XDG_RUNTIME_DIR", place.path("r"));
    };
    let at = |sub: &str| place.path(sub).display().to_string();
    let mut show = place.command(["config", "show", "--json"]);
    xdg(&mut show);
    let settings = run(&mut show, SOON).ok().json()["settings"].clone();
    assert_eq!(settings["state_dir"]["value"], at("s/mpm-monitor"));
    assert_eq!(settings["runtime_dir"]["value"], at("r/mpm-monitor"));
    let plan = ["install", "--user", "--dry-run", "--no-start", "--json", "--program", "/usr/bin/env"];
    let mut install = place.command(plan);
    xdg(&mut install);
    let plan = run(&mut install, SOON).ok().json()["actions"].to_string();
    assert!(plan.contains(&at("s/mpm-monitor/receipts/8765.json")), "{plan}");
    assert!(plan.contains(&at("c/systemd/user/mpm-monitor@8765.service")), "{plan}");
}
