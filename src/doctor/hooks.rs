//! The hooks of Claude Code that post events: where they point, what runs them, and whether that can import claude_mpm. Of
//! Claude Code's settings only the commands are looked at.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::check::{Check, Code, Looked, none_of};
use super::properties::find_in;
use crate::service::exec;

/// How long Python may take for one import.
const IMPORT: Duration = Duration::from_secs(5);
/// Larger settings are none that a person wrote, bytes.
const LARGEST: u64 = 4 << 20;
/// What the command of a hook that posts events has in it.
const MARKS: [&str; 4] = ["claude-mpm", "claude_mpm", "claude-hook", "mpm-monitor"];
/// What Python is asked: as the hooks do, but never with the current folder in the way.
const ASK: &str = "import sys; sys.path = [p for p in sys.path if p]; import claude_mpm; print(claude_mpm.__version__)";

/// One command that Claude Code runs at an event.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hook {
    /// The settings that name it.
    pub file: PathBuf,
    /// The program, the first word of the command.
    pub program: String,
}

/// One program of hooks, looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// As the settings name it.
    pub named: String,
    /// Where it is; `None` where there is none.
    pub path: Option<PathBuf>,
    /// Whether it can be run.
    pub runs: bool,
    /// What runs it, and whether that can import claude_mpm; `None` where it needs no Python.
    pub python: Option<(PathBuf, Result<String, String>)>,
}

/// What was seen.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// The settings that were read.
    pub files: Vec<PathBuf>,
    /// Those that cannot be, and why.
    pub unreadable: Vec<String>,
    /// The hooks that post events.
    pub hooks: Vec<Hook>,
    /// Their programs, each once.
    pub programs: Vec<Program>,
}

/// Where to look.
#[derive(Debug, Clone, Default)]
pub struct Place {
    /// The user's home.
    pub home: PathBuf,
    /// The project, whose own settings count as well.
    pub project: Option<PathBuf>,
    /// The search path.
    pub path: String,
    /// The virtual environment of this shell.
    pub virtual_env: Option<PathBuf>,
}

impl Place {
    /// Of this process.
    pub fn this() -> Option<Self> {
        let home = crate::config::directories::UserDirs::find()?.home;
        Some(Self {
            project: std::env::current_dir().ok().filter(|d| *d != home),
            home,
            path: std::env::var("PATH").unwrap_or_default(),
            virtual_env: std::env::var_os("VIRTUAL_ENV").map(PathBuf::from),
        })
    }
}

/// Looks.
pub fn look(place: &Place) -> Seen {
    let mut seen = Seen::default();
    for folder in [Some(&place.home), place.project.as_ref()].into_iter().flatten() {
        for name in ["settings.json", "settings.local.json"] {
            let file = folder.join(".claude").join(name);
            match read(&file) {
                Ok(None) => {}
                Ok(Some(text)) => {
                    match commands(&text) {
                        Some(all) => seen.hooks.extend(all.iter().filter_map(|c| ours(c, &file))),
                        None => seen.unreadable.push(format!("{} is no JSON object", file.display())),
                    }
                    seen.files.push(file);
                }
                Err(error) => seen.unreadable.push(format!("{}: {error}", file.display())),
            }
        }
    }
    let named: BTreeSet<&str> = seen.hooks.iter().map(|h| h.program.as_str()).collect();
    seen.programs = named.into_iter().take(10).map(|n| program(n, place)).collect();
    seen
}

fn read(path: &Path) -> std::io::Result<Option<String>> {
    match std::fs::metadata(path) {
        Ok(meta) if meta.is_file() && meta.len() <= LARGEST => std::fs::read_to_string(path).map(Some),
        Ok(_) => Err(std::io::Error::other("not a file of settings")),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

/// All commands of hooks in Claude Code's settings; `None` where that is no JSON object.
fn commands(settings: &str) -> Option<Vec<String>> {
    let value: serde_json::Value = serde_json::from_str(settings).ok()?;
    let events = value.as_object()?.get("hooks").and_then(serde_json::Value::as_object);
    let groups = events.into_iter().flat_map(|e| e.values()).filter_map(serde_json::Value::as_array).flatten();
    let hooks = groups.filter_map(|g| g["hooks"].as_array()).flatten();
    Some(hooks.filter_map(|h| h["command"].as_str()).map(str::to_owned).collect())
}

fn ours(command: &str, file: &Path) -> Option<Hook> {
    if !MARKS.iter().any(|mark| command.contains(mark)) {
        return None;
    }
    Some(Hook { file: file.to_owned(), program: first_word(command)? })
}

/// The program of a shell command: its first word that is no assignment, without its quotes.
fn first_word(command: &str) -> Option<String> {
    let mut rest = command.trim_start();
    loop {
        let (mut word, mut quote, mut end) = (String::new(), None, rest.len());
        let mut chars = rest.char_indices();
        while let Some((at, c)) = chars.next() {
            match (c, quote) {
                (c, Some(q)) if c == q => quote = None,
                ('\'' | '"', None) => quote = Some(c),
                ('\\', None) => word.extend(chars.next().map(|(_, c)| c)),
                (c, None) if c.is_whitespace() || matches!(c, ';' | '|' | '&') => {
                    end = at;
                    break;
                }
                (c, _) => word.push(c),
            }
        }
        let is_assignment = word
            .split_once('=')
            .is_some_and(|(name, _)| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'));
        rest = rest[end..].trim_start();
        if word.is_empty() || !is_assignment {
            return Some(word).filter(|w| !w.is_empty());
        }
    }
}

fn program(named: &str, place: &Place) -> Program {
    let home = place.home.display().to_string();
    let project = place.project.as_ref().unwrap_or(&place.home).display().to_string();
    let expanded =
        [("$CLAUDE_PROJECT_DIR", &project), ("${CLAUDE_PROJECT_DIR}", &project), ("$HOME", &home), ("${HOME}", &home)]
            .into_iter()
            .find_map(|(name, value)| Some(format!("{value}{}", named.strip_prefix(name)?)))
            .or_else(|| Some(format!("{home}/{}", named.strip_prefix("~/")?)))
            .unwrap_or_else(|| named.to_owned());
    let path = if expanded.starts_with('/') {
        Some(PathBuf::from(&expanded)).filter(|p| p.exists())
    } else {
        find_in(&place.path, &expanded)
    };
    let runs =
        path.as_deref().is_some_and(|p| std::fs::metadata(p).is_ok_and(|m| m.is_file() && m.mode() & 0o111 != 0));
    let python = path.as_deref().filter(|_| runs).and_then(|p| python_of(p, place)).map(|python| {
        let can = import(&python);
        (python, can)
    });
    Program { named: named.to_owned(), path, runs, python }
}

/// The Python that runs a program, if one does: it is one, its first line names one, or it is one of Claude MPM's shell
/// scripts, which choose one in this order: that of the package's own environment (uv, pipx), of a folder `venv` or `.venv`
/// of a checkout, of the shell's virtual environment, the one on the search path.
fn python_of(program: &Path, place: &Place) -> Option<PathBuf> {
    let name = program.file_name()?.to_str()?;
    if name.starts_with("python") {
        return Some(program.to_owned());
    }
    if name == "claude-hook-handler.sh" {
        let text = program.to_str()?;
        let own = text.split_once("/lib/python").filter(|(root, _)| {
            root.contains("/.local/share/uv/tools/") || root.contains("/.local/pipx/venvs/claude-mpm")
        });
        let own = own.map(|(root, _)| Path::new(root).join("bin/python"));
        let checkout = program.ancestors().nth(4).filter(|_| !text.contains("/site-packages/"));
        let checkout = checkout.into_iter().flat_map(|c| ["venv", ".venv"].map(|v| c.join(v).join("bin/python")));
        let shells = place.virtual_env.iter().map(|v| v.join("bin/python"));
        let candidates = own.into_iter().chain(checkout).chain(shells);
        return candidates.into_iter().find(|p| p.exists()).or_else(|| find_in(&place.path, "python3"));
    }
    let mut head = [0_u8; 256];
    let length = std::io::Read::read(&mut std::fs::File::open(program).ok()?, &mut head).ok()?;
    let line = std::str::from_utf8(&head[..length]).ok()?.lines().next()?.strip_prefix("#!")?.trim();
    let mut words = line.split_whitespace();
    let first = Path::new(words.next()?);
    let python = if first.file_name()? == "env" {
        find_in(&place.path, words.find(|w| !w.starts_with('-'))?)?
    } else {
        first.to_owned()
    };
    python.file_name()?.to_str()?.starts_with("python").then_some(python)
}

/// The version of claude_mpm that a Python imports, or why it does not.
fn import(python: &Path) -> Result<String, String> {
    // -B: looking leaves no compiled files.
    let output = exec::program(python, &["-B", "-c", ASK], IMPORT).map_err(|e| e.to_string())?;
    if output.code == Some(0) {
        return Ok(output.stdout.lines().last().unwrap_or_default().chars().take(40).collect());
    }
    let last = output.stderr.lines().last().unwrap_or("it failed without a word");
    Err(last.chars().take(200).collect())
}

/// Judges.
pub fn judge(seen: &Looked<Option<Seen>>) -> Vec<Check> {
    let all = [Code::HookCommands, Code::HookPrograms, Code::HookImport];
    let seen = match seen {
        Ok(Some(seen)) => seen,
        Ok(None) => return none_of(&all, "cannot tell where the home directory is"),
        Err(why) => return none_of(&all, why),
    };
    let mut checks = vec![match (seen.hooks.len(), seen.unreadable.first()) {
        (0, Some(error)) => Check::failed(Code::HookCommands, "Claude Code's settings cannot be read").seen(error),
        (0, None) => {
            Check::failed(Code::HookCommands, "Claude Code has no hooks that post events: nothing will come from it")
                .next("claude-mpm configure --install-hooks")
        }
        (n, _) => {
            let files: BTreeSet<_> = seen.hooks.iter().map(|h| h.file.display().to_string()).collect();
            let check = Check::verified(Code::HookCommands, format!("{n} hooks post events"));
            files.into_iter().fold(check, Check::seen)
        }
    }];
    if seen.programs.is_empty() {
        checks.extend(none_of(&all[1..], "there are no such hooks"));
        return checks;
    }
    let dead: Vec<&Program> = seen.programs.iter().filter(|p| !p.runs).collect();
    let file_of = |program: &Program| {
        let hook = seen.hooks.iter().find(|h| h.program == program.named);
        hook.map(|h| h.file.display().to_string()).unwrap_or_default()
    };
    checks.push(match dead.first() {
        None => Check::verified(Code::HookPrograms, "every one is there and can be run"),
        Some(first) => {
            let next = match &first.path {
                Some(path) => format!("chmod +x {}", path.display()),
                None => "claude-mpm configure --install-hooks".to_owned(),
            };
            let check =
                Check::failed(Code::HookPrograms, "hooks point to a program that cannot be run: their events are lost");
            let told = |c: Check, p: &&Program| {
                let why = if p.path.is_some() { "is not executable" } else { "is not there" };
                c.seen(format!("{} {why} (named in {})", p.named, file_of(p)))
            };
            dead.iter().fold(check, told).next(next)
        }
    });
    let pythons: Vec<_> = seen.programs.iter().filter_map(|p| p.python.as_ref()).collect();
    checks.push(match pythons.iter().find(|(_, can)| can.is_err()) {
        _ if pythons.is_empty() => Check::not_run(Code::HookImport, "none of them needs Python, or none can be run"),
        None => {
            let check = Check::verified(Code::HookImport, "the hooks' Python can import claude_mpm");
            pythons.iter().fold(check, |c, (python, version)| {
                c.seen(format!("{} imports claude_mpm {}", python.display(), version.as_deref().unwrap_or_default()))
            })
        }
        Some((python, Err(error))) => Check::failed(
            Code::HookImport,
            "the hooks' Python cannot import claude_mpm: they do nothing, without a word",
        )
        .seen(format!("{}: {error}", python.display()))
        .next(format!("{} -m pip install claude-mpm", python.display())),
        Some(_) => Check::not_run(Code::HookImport, "it was not asked"),
    });
    checks
}

#[cfg(test)]
#[path = "hooks_tests.rs"]
mod tests;
