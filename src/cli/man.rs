//! `man`: the manual pages, from the one definition of the command line, the table of exit codes and that of the settings.

use std::path::Path;

use anyhow::Context;
use clap::CommandFactory;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use super::args::Cli;
use crate::build::VERSION;
use crate::config::example;
use crate::config::keys::KEYS;
use daemon::exit::Exit;

/// Prints the main page, or writes the page of every verb and that of the settings below `dir`.
///
/// # Errors
/// When a page cannot be written.
pub fn run(dir: Option<&Path>) -> anyhow::Result<Exit> {
    let mut command = Cli::command();
    command.build();
    let Some(dir) = dir else {
        daemon::out::print(&String::from_utf8_lossy(&page(&command, true)?))?;
        return Ok(Exit::Ok);
    };
    let write_in = |section: u8, name: &str, page: Vec<u8>| {
        let dir = dir.join(format!("man{section}"));
        std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let path = dir.join(format!("{name}.{section}"));
        std::fs::write(&path, page).with_context(|| format!("cannot write {}", path.display()))
    };
    let write = |name: &str, page: Vec<u8>| write_in(1, name, page);
    write("mpm-monitor", page(&command, true)?)?;
    write_in(5, "mpm-monitor", settings()?)?;
    for verb in command.get_subcommands().filter(|v| v.get_name() != "help") {
        let name = format!("mpm-monitor-{}", verb.get_name());
        write(&name, page(&verb.clone().display_name(&name), verb.get_name() == "status")?)?;
    }
    Ok(Exit::Ok)
}

fn page(command: &clap::Command, exit_codes: bool) -> anyhow::Result<Vec<u8>> {
    let main = command.get_name() == "mpm-monitor";
    let man = Man::new(command.clone());
    let name = command.get_display_name().unwrap_or_else(|| command.get_name()).to_owned();
    let mut page = title(&name, 1);
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut page)?;
    }
    let mut roff = Roff::new();
    if let Some(text) = command.get_after_help() {
        // Filled text would run the commands together.
        roff.control("SH", ["EXAMPLES"]).control("nf", []);
        for line in text.to_string().lines().skip(1) {
            roff.text([roman(line)]);
        }
        roff.control("fi", []);
    }
    if exit_codes {
        roff.control("SH", ["EXIT STATUS"]);
        for exit in Exit::ALL {
            roff.control("TP", []);
            roff.text([bold(exit.code().to_string())]);
            let restart = if exit.is_permanent() { " The manager does not restart it." } else { "" };
            roff.text([roman(format!("{}.{restart}", exit.meaning()))]);
        }
    }
    if main {
        entries(&mut roff, "ENVIRONMENT", &variables());
        entries(&mut roff, "FILES", &FILES.map(|(name, what)| (name.to_owned(), what.to_owned())));
        roff.control("SH", ["SEE ALSO"]);
        roff.text([
            bold("mpm-monitor"),
            roman("(5), "),
            bold("systemctl"),
            roman("(1), "),
            bold("journalctl"),
            roman("(1)"),
        ]);
    }
    roff.to_writer(&mut page)?;
    Ok(page)
}

/// The first line of a page. It has no date: that would be the day on which it was made, and the same program would give
/// another page each day.
fn title(name: &str, section: u8) -> Vec<u8> {
    format!(".TH {name} {section} \"\" \"mpm-monitor {VERSION}\" \"mpm-monitor manual\"\n").into_bytes()
}

/// Where everything lies, for people of Linux; macOS has its own places, below `~/Library` and `/Library`.
const FILES: [(&str, &str); 5] = [
    ("/etc/mpm-monitor/config.toml", "the settings of the machine, see mpm-monitor(5)"),
    ("~/.config/mpm-monitor/config.toml", "the settings of the user, which go before those"),
    ("/var/lib/mpm-monitor/PORT/", "events and crash ledger of an instance of the system manager"),
    ("~/.local/state/mpm-monitor/PORT/", "the same of an instance of the user's manager"),
    (
        "/run/mpm-monitor/PORT/PORT.lock, $XDG_RUNTIME_DIR/mpm-monitor/PORT.lock",
        "held by the process that serves the port",
    ),
];

fn variables() -> Vec<(String, String)> {
    let mut all = vec![
        ("MPM_MONITOR_CONFIG".to_owned(), "the file to read in place of the user's, as --config does".to_owned()),
        (
            "MPM_MONITOR_KEY".to_owned(),
            "a setting, such as MPM_MONITOR_SERVER_MAX_CLIENTS for server.max_clients; mpm-monitor(5) lists them"
                .to_owned(),
        ),
        ("NO_COLOR".to_owned(), "no colours in help and error messages of the command line".to_owned()),
    ];
    all.push((
        "XDG_CONFIG_HOME, XDG_STATE_HOME, XDG_RUNTIME_DIR".to_owned(),
        "where the user's directories are".to_owned(),
    ));
    all
}

/// A section of names and what they mean.
fn entries(roff: &mut Roff, title: &str, entries: &[(String, String)]) {
    roff.control("SH", [title]);
    for (name, what) in entries {
        roff.control("TP", []);
        roff.text([bold(name.clone())]);
        roff.text([roman(format!("{}.", example::capital(what)))]);
    }
}

/// The page of the settings, mpm-monitor(5).
fn settings() -> std::io::Result<Vec<u8>> {
    let mut roff = Roff::new();
    roff.control("SH", ["NAME"]);
    roff.text([roman("mpm-monitor - the settings of mpm-monitor(1), config.toml")]);
    roff.control("SH", ["SYNOPSIS"]);
    roff.text([roman("/etc/mpm-monitor/config.toml")]).control("br", []);
    roff.text([roman("~/.config/mpm-monitor/config.toml")]);
    roff.control("SH", ["DESCRIPTION"]);
    roff.text([roman(
        "The files are TOML. The user's goes before the machine's, the environment before both, and flags before all; each key \
         is also an environment variable, as its entry says. A name that is no setting is an error, which \
         `mpm-monitor config check` shows with its place; `mpm-monitor config example` prints a file to begin with. \
         Sizes are written as 512 KiB, 64 MiB or 1 GiB, times as 500ms, 30s, 2h or 7days.",
    )]);
    roff.control("SH", ["SETTINGS"]);
    for key in KEYS {
        let default = example::default(key).map_or("depends on who runs it".to_owned(), |d| d);
        let reload = if key.live { "A reload applies a change" } else { "A change needs a restart" };
        roff.control("TP", []);
        roff.text([bold(key.name)]);
        roff.text([roman(format!("{}.", example::capital(key.about)))]).control("br", []);
        roff.text([roman(format!(
            "Values: {}. Default: {default}. {reload}. {}",
            example::values(key.kind),
            key.variable()
        ))]);
    }
    roff.control("SH", ["SEE ALSO"]);
    roff.text([bold("mpm-monitor"), roman("(1)")]);
    let mut page = title("mpm-monitor", 5);
    roff.to_writer(&mut page)?;
    Ok(page)
}
