//! `man`: the manual pages, from the one definition of the command line and the table of exit codes.

use std::path::Path;

use anyhow::Context;
use clap::CommandFactory;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use super::args::Cli;
use super::exit::Exit;

/// Prints the main page, or writes the page of every verb into `dir`.
///
/// # Errors
/// When a page cannot be written.
pub fn run(dir: Option<&Path>) -> anyhow::Result<Exit> {
    let mut command = Cli::command();
    command.build();
    let Some(dir) = dir else {
        super::print(&page(&command, true)?)?;
        return Ok(Exit::Ok);
    };
    std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let write = |name: &str, page: Vec<u8>| {
        let path = dir.join(format!("{name}.1"));
        std::fs::write(&path, page).with_context(|| format!("cannot write {}", path.display()))
    };
    write("mpm-monitor", page(&command, true)?)?;
    for verb in command.get_subcommands().filter(|v| v.get_name() != "help") {
        let name = format!("mpm-monitor-{}", verb.get_name());
        write(&name, page(&verb.clone().display_name(&name), verb.get_name() == "status")?)?;
    }
    Ok(Exit::Ok)
}

fn page(command: &clap::Command, exit_codes: bool) -> anyhow::Result<Vec<u8>> {
    let man = Man::new(command.clone());
    let mut page = Vec::new();
    man.render_title(&mut page)?;
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
    roff.to_writer(&mut page)?;
    man.render_version_section(&mut page)?;
    Ok(page)
}
