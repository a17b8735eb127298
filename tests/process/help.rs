//! Every `--help`, compared with `tests/snapshots/help/`: a file for each verb, with those below it.

use std::collections::{BTreeMap, BTreeSet};

use clap::{Command, CommandFactory};
use mpm_monitor::cli::args::Cli;

use testkit::{here, shown};

/// A width that no terminal changes.
const WIDTH: usize = 100;

/// The help of one command, without the spaces at the ends of lines.
fn help(words: &str, command: &Command) -> String {
    let help = command.clone().render_long_help().to_string();
    let lines = help.lines().map(|line| format!("{}\n", line.trim_end()));
    format!("$ {words} --help\n{}\n", lines.collect::<String>())
}

/// The helps of a command and of all below it, hidden ones, too.
fn helps(command: &Command, words: &str, text: &mut String) {
    let words = format!("{words}{} ", command.get_name());
    text.push_str(&help(words.trim_end(), command));
    for verb in command.get_subcommands().filter(|verb| verb.get_name() != "help") {
        helps(verb, &words, text);
    }
}

/// By verb; the top under the program's name.
fn by_verb() -> BTreeMap<String, String> {
    let mut top = Cli::command().term_width(WIDTH);
    top.build();
    let alone = help("mpm-monitor", &top);
    let verbs = top.get_subcommands().filter(|verb| verb.get_name() != "help").map(|verb| {
        let mut text = String::new();
        helps(verb, "mpm-monitor ", &mut text);
        (verb.get_name().to_owned(), text)
    });
    verbs.chain([("mpm-monitor".to_owned(), alone)]).collect()
}

#[test]
fn help_of_every_verb_is_as_reviewed() {
    let all = by_verb();
    all.iter().for_each(|(verb, text)| shown::assert_as_reviewed("help", verb, text));

    let entries = std::fs::read_dir(here("tests/snapshots/help")).unwrap();
    let files = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).filter(|name| name.ends_with(".snap"));
    let expected = all.keys().map(|verb| format!("{verb}.snap"));
    assert_eq!(files.collect::<BTreeSet<_>>(), expected.collect(), "a snapshot of a verb that is gone");
}
