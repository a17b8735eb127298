//! What holds for every verb there is, found by walking the definition of the command line.

use clap::{Command, CommandFactory};
use mpm_monitor::cli::args::Cli;

#[cfg(target_os = "linux")]
use testkit::command::{Ran, run};
#[cfg(target_os = "linux")]
use testkit::daemon::{Place, SOON};
use testkit::here;

/// Every verb that is shown, with its words: `["config", "show"]`.
fn verbs() -> Vec<(Vec<String>, Command)> {
    fn walk(command: &Command, words: &[String], found: &mut Vec<(Vec<String>, Command)>) {
        for verb in command.get_subcommands().filter(|v| !v.is_hide_set() && v.get_name() != "help") {
            let words: Vec<String> = words.iter().cloned().chain([verb.get_name().to_owned()]).collect();
            found.push((words.clone(), verb.clone()));
            walk(verb, &words, found);
        }
    }
    let mut found = Vec::new();
    walk(&Cli::command(), &[], &mut found);
    assert!(found.len() > 15, "only {} verbs are found", found.len());
    found
}

#[test]
fn every_verb_and_what_is_below_it_has_an_example() {
    let mut missing = Vec::new();
    for (words, verb) in verbs() {
        let help = verb.get_after_help().or(verb.get_after_long_help()).map(ToString::to_string).unwrap_or_default();
        let wanted = format!("mpm-monitor {}", words.join(" "));
        // It may be the end of a pipe.
        let shows = |line: &str| line.split(" | ").any(|command| command.trim_start().starts_with(&wanted));
        if !help.lines().any(shows) {
            missing.push(wanted);
        }
    }
    assert!(missing.is_empty(), "no example in the help of: {missing:?}");
}

#[test]
fn every_verb_that_prints_json_is_documented() {
    let page = std::fs::read_to_string(here("docs/json.md")).unwrap();
    let documented: Vec<&str> =
        page.lines().filter_map(|l| l.strip_prefix("## ")).flat_map(|l| l.split('`').skip(1).step_by(2)).collect();
    for (words, verb) in verbs() {
        if verb.get_arguments().any(|a| a.get_long() == Some("json")) {
            let name = words.join(" ");
            assert!(documented.contains(&&*name), "docs/json.md has no heading with `{name}`");
        }
    }
}

/// With a terminal of its own, as script(1) makes one, on all three streams.
#[cfg(target_os = "linux")]
fn on_a_terminal(place: &Place, line: &str, environment: &[(&str, &str)]) -> Ran {
    let mut command = std::process::Command::new("script");
    command.args(["--quiet", "--return", "--command", line, "/dev/null"]).env_clear().current_dir(place);
    command
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("TERM", "xterm")
        .env("HOME", place.path("home"));
    command.env("MPM_MONITOR_STATE_DIR", place.path("state")).env("MPM_MONITOR_RUNTIME_DIR", place.path("run"));
    command.envs(environment.iter().copied());
    run(&mut command, SOON)
}

/// Colours are for terminals, and not for those who asked for none.
#[cfg(target_os = "linux")]
#[test]
fn colours_only_on_a_terminal_and_never_with_no_color() {
    let place = Place::new();
    let program = testkit::program();
    let mut coloured = 0;
    for (words, _) in verbs() {
        let line = format!("{program} {} --help", words.join(" "));
        let plain = place.ran(words.iter().map(String::as_str).chain(["--help"])).ok();
        assert!(!plain.all().contains('\x1b'), "escapes in a pipe: {plain}");
        coloured += usize::from(on_a_terminal(&place, &line, &[]).ok().all().contains('\x1b'));
        let asked = on_a_terminal(&place, &line, &[("NO_COLOR", "1")]).ok();
        assert!(!asked.all().contains('\x1b'), "escapes in spite of NO_COLOR: {asked:?}");
        for line in asked.stdout.lines().filter(|l| l.starts_with("  ")) {
            assert!(line.chars().count() <= 120, "a line of `{words:?} --help` is long: {line}");
        }
    }
    assert!(coloured > 10, "no colours on a terminal: this test would not see them in a pipe either ({coloured})");
    println!("{coloured} of {} helps have colours on a terminal", verbs().len());
    // The log of `run`, and what is said of a wrong command line.
    for line in
        [format!("{program} run --set nonsense=1"), format!("{program} instal"), format!("{program} run --port {}", 1)]
    {
        let asked = on_a_terminal(&place, &format!("timeout -s TERM 2 {line}"), &[("NO_COLOR", "1")]);
        assert!(!asked.all().contains('\x1b'), "escapes in spite of NO_COLOR: {asked:?}");
    }
}
