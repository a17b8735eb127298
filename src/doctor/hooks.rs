//! The hooks of Claude Code that post events: where they point, what runs them, whether that can import claude_mpm, and whether
//! what they post is taken. Of Claude Code's settings only the commands are looked at.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};

use super::check::{Check, Code, Looked, Severity, none_of};
use super::posts::{self, Post};
use super::properties::find_in;
use crate::hooks::ask::{Asker, NoAnswer};
use crate::hooks::claude::settings::{self, Owner, quoted};
use crate::hooks::place::Machine;
use crate::hooks::spool::{Spool, Waiting};
use crate::hooks::status::{self, Files};
use daemon::dirs::UserDirs;
use daemon::guarded::Guard;
use daemon::text::counted;
use service::users::name_of;

/// How long an event may wait: the monitor looks every few seconds.
const WAITS: SignedDuration = SignedDuration::from_secs(30);

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
    pub python: Option<(PathBuf, Import)>,
}

/// Whether a Python can import claude_mpm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Import {
    /// It can: this version.
    Works(String),
    /// It cannot: what it said.
    Fails(String),
    /// It was not run, and why.
    NotAsked(String),
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
    /// The spools of our hook, and what is in them.
    pub spools: Vec<(PathBuf, Waiting)>,
    /// Where our hooks post to.
    pub posts: Vec<Post>,
    /// The ports where a monitor answers, looked for where a hook misses one.
    pub monitors: Vec<u16>,
    /// The settings that have Claude Code run no hooks at all.
    pub disabled: Vec<PathBuf>,
    /// The settings of the company that allow no other hooks than their own.
    pub reserved: Option<PathBuf>,
    /// The spools that are another user's, with that user.
    pub strange: Vec<(PathBuf, String)>,
    /// The name of this user.
    pub user: String,
    /// When it was looked.
    pub at: Timestamp,
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
    /// Where Claude Code keeps its settings, if not in the home directory.
    pub claude: Option<PathBuf>,
    /// The folder of our hook's spools.
    pub spools: PathBuf,
    /// Whether this process is root.
    pub is_root: bool,
    /// The settings of Claude Code that an administrator keeps.
    pub managed: PathBuf,
}

/// Where an administrator keeps settings of Claude Code.
const MANAGED: &str = if cfg!(target_os = "macos") {
    "/Library/Application Support/ClaudeCode/managed-settings.json"
} else {
    "/etc/claude-code/managed-settings.json"
};

impl Place {
    /// Of this process.
    pub fn this() -> Option<Self> {
        let UserDirs { home, state, .. } = UserDirs::find(crate::build::PROGRAM.name)?;
        Some(Self {
            spools: state.join("spool"),
            managed: MANAGED.into(),
            is_root: rustix::process::geteuid().is_root(),
            project: std::env::current_dir().ok().filter(|d| *d != home),
            home,
            path: std::env::var("PATH").unwrap_or_default(),
            virtual_env: std::env::var_os("VIRTUAL_ENV").map(PathBuf::from),
            claude: std::env::var_os("CLAUDE_CONFIG_DIR").filter(|d| !d.is_empty()).map(PathBuf::from),
        })
    }

    /// As the hooks' own code knows it.
    fn machine(&self) -> Machine {
        let claude = self.claude.as_ref().map(|d| ("CLAUDE_CONFIG_DIR".to_owned(), d.display().to_string()));
        let user = UserDirs { home: self.home.clone(), ..UserDirs::default() };
        Machine { variables: claude.into_iter().collect(), user: Some(user), ..Machine::default() }
    }

    fn asker(&self) -> Asker {
        let settings = status::user_dir(&self.machine()).map(|dir| dir.join("settings.json"));
        Asker { settings, home: Some(self.home.clone()), project: self.project.clone(), is_root: self.is_root }
    }
}

/// Looks.
pub fn look(place: &Place) -> Seen {
    let mut seen = Seen::default();
    let machine = Machine { variables: place.machine().variables, ..Machine::this() };
    for (layer, file) in Files::of(&place.machine(), place.project.as_deref()).all {
        let entries = match status::read(layer, &file).map(|s| s.text) {
            Ok(None) => continue,
            Ok(Some(text)) => {
                seen.disabled.extend(Some(file.clone()).filter(|_| settings::disables_all(&text)));
                let entries = settings::entries(&text).map_err(|e| format!("{}: {e}", file.display()));
                // Whom a project names is not asked.
                if layer == "user" {
                    let env = settings::variables(&text);
                    seen.posts.extend(entries.iter().flat_map(|all| posts::look(&file, all, &env, &machine)));
                }
                entries
            }
            Err(error) => Err(error.to_string()),
        };
        match entries {
            Ok(entries) => {
                let posting = entries.iter().filter(|e| e.owner != Owner::Other);
                seen.hooks.extend(
                    posting.filter_map(|e| Some(Hook { file: file.clone(), program: first_word(&e.command)? })),
                );
            }
            Err(error) => seen.unreadable.push(error),
        }
        seen.files.push(file);
    }
    let asker = place.asker();
    let named: BTreeSet<&str> = seen.hooks.iter().map(|h| h.program.as_str()).collect();
    let by_user = |name: &str| seen.hooks.iter().any(|h| h.program == name && asker.is_users(&h.file));
    seen.programs = named.into_iter().take(10).map(|n| program(n, place, &asker, by_user(n))).collect();
    let spools = std::fs::read_dir(&place.spools).into_iter().flatten().flatten().take(100).map(|entry| entry.path());
    seen.spools = spools.map(|dir| (dir.clone(), Spool::new(dir).waiting())).collect();
    seen.spools.sort_by(|(a, _), (b, _)| a.cmp(b));
    let uid = rustix::process::geteuid().as_raw();
    seen.user = name_of(uid).unwrap_or_else(|| uid.to_string());
    let places = std::iter::once(&place.spools).chain(seen.spools.iter().map(|(dir, _)| dir));
    let owners = places.filter_map(|dir| Some((dir.clone(), std::fs::metadata(dir).ok()?.uid())));
    let strange = owners.filter(|(_, of)| *of != uid && !place.is_root);
    seen.strange = strange.map(|(dir, of)| (dir, name_of(of).unwrap_or_else(|| of.to_string()))).collect();
    // Those that the company's settings name themselves run.
    let managed = std::fs::read_to_string(&place.managed).unwrap_or_default();
    let posts = settings::entries(&managed).is_ok_and(|all| all.iter().any(|e| e.owner != Owner::Other));
    seen.reserved = (settings::says(&managed, "allowManagedHooksOnly") && !posts).then(|| place.managed.clone());
    if seen.posts.iter().any(|p| !p.answers) {
        seen.monitors = posts::monitors();
    }
    seen.at = Timestamp::now();
    seen
}

/// The program of a shell command: its first word that is no assignment.
fn first_word(command: &str) -> Option<String> {
    let is_assignment = |word: &String| {
        let valid = |name: &str| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        word.split_once('=').is_some_and(|(name, _)| valid(name))
    };
    settings::words(command).into_iter().find(|word| !is_assignment(word))
}

fn program(named: &str, place: &Place, asker: &Asker, is_users: bool) -> Program {
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
        let import = match asker.import(&python, is_users) {
            Ok(version) => Import::Works(version),
            Err(NoAnswer::Unasked(why)) => Import::NotAsked(why.to_string()),
            Err(NoAnswer::Failed(error)) => Import::Fails(error),
        };
        (python, import)
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
    let length = std::io::Read::read(&mut Guard::WRITTEN.open(program).ok()?, &mut head).ok()?;
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

/// Judges.
pub fn judge(seen: &Looked<Option<Seen>>) -> Vec<Check> {
    let all = [Code::HookCommands, Code::HookPrograms, Code::HookImport, Code::HookTarget, Code::HookSpool];
    let seen = match seen {
        Ok(Some(seen)) => seen,
        Ok(None) => return none_of(&all, "cannot tell where the home directory is"),
        Err(why) => return none_of(&all, why),
    };
    let mut checks = vec![match (seen.hooks.len(), seen.unreadable.first()) {
        (n, _) if n > 0 && !seen.disabled.is_empty() => {
            let text = "disableAllHooks is true: Claude Code runs none of its hooks, and nothing comes from it";
            let check = Check::failed(Code::HookCommands, text).severity(Severity::Warning);
            let file = quoted(&seen.disabled[0].to_string_lossy());
            seen.disabled
                .iter()
                .fold(check, |c, f| c.seen(f.display().to_string()))
                .next(format!("sed -i 's/\"disableAllHooks\": *true/\"disableAllHooks\": false/' {file}"))
        }
        (n, _)
            if n > 0
                && let Some(file) = &seen.reserved =>
        {
            let text = "allowManagedHooksOnly is true: Claude Code runs none but the hooks of that file";
            Check::failed(Code::HookCommands, text)
                .severity(Severity::Warning)
                .seen(file.display().to_string())
                .seen("whoever keeps that file has to name the hooks in it, or to allow others")
                .next("mpm-monitor hooks status")
        }
        (0, Some(error)) => {
            let text = "Claude Code's settings cannot be read: it runs none of their hooks";
            Check::failed(Code::HookCommands, text).severity(Severity::Warning).seen(error)
        }
        (0, None) => {
            Check::failed(Code::HookCommands, "Claude Code has no hooks that post events: nothing will come from it")
                .next("mpm-monitor hooks install")
        }
        (n, _) => {
            let files: BTreeSet<_> = seen.hooks.iter().map(|h| h.file.display().to_string()).collect();
            let check = Check::verified(Code::HookCommands, format!("{n} hooks post events"));
            files.into_iter().fold(check, Check::seen)
        }
    }];
    checks.extend(judge_programs(seen));
    checks.push(posts::judge(&seen.posts, &seen.monitors));
    checks.push(judge_spools(seen));
    checks
}

fn judge_programs(seen: &Seen) -> Vec<Check> {
    if seen.programs.is_empty() {
        return none_of(&[Code::HookPrograms, Code::HookImport], "there are no such hooks");
    }
    let dead: Vec<&Program> = seen.programs.iter().filter(|p| !p.runs).collect();
    let file_of = |program: &Program| {
        let hook = seen.hooks.iter().find(|h| h.program == program.named);
        hook.map(|h| h.file.display().to_string()).unwrap_or_default()
    };
    let programs = match dead.first() {
        None => Check::verified(Code::HookPrograms, "every one is there and can be run"),
        Some(first) => {
            let next = match &first.path {
                Some(path) => format!("chmod +x {}", path.display()),
                None if first.named.ends_with("mpm-monitor") => "mpm-monitor hooks install".to_owned(),
                // Ours would not replace what Claude MPM put there.
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
    };
    let pythons: Vec<_> = seen.programs.iter().filter_map(|p| p.python.as_ref()).collect();
    vec![programs, judge_imports(&pythons)]
}

fn judge_imports(pythons: &[&(PathBuf, Import)]) -> Check {
    if pythons.is_empty() {
        return Check::not_run(Code::HookImport, "none of them needs Python, or none can be run");
    }
    let failed = pythons.iter().find_map(|(python, import)| match import {
        Import::Fails(error) => Some((python.display(), error)),
        _ => None,
    });
    if let Some((python, error)) = failed {
        let text = "the hooks' Python cannot import claude_mpm: they do nothing, without a word";
        return Check::failed(Code::HookImport, text)
            .seen(format!("{python}: {error}"))
            .next(format!("{python} -m pip install claude-mpm"));
    }
    let check = if pythons.iter().any(|(_, import)| matches!(import, Import::Works(_))) {
        Check::verified(Code::HookImport, "the hooks' Python can import claude_mpm")
    } else {
        Check::not_run(Code::HookImport, "no Python that they name may be run from here")
    };
    pythons.iter().fold(check, |check, (python, import)| {
        let python = python.display();
        check.seen(match import {
            Import::Works(version) => format!("{python} imports claude_mpm {version}"),
            Import::Fails(why) | Import::NotAsked(why) => format!("{python} was not run: {why}"),
        })
    })
}

fn judge_spools(seen: &Seen) -> Check {
    if let Some((first, _)) = seen.strange.first() {
        let text = "the spool of our hook is another user's: events that no monitor takes at once are lost";
        let check = Check::failed(Code::HookSpool, text);
        let told = |c: Check, (dir, owner): &(PathBuf, String)| c.seen(format!("{} belongs to {owner}", dir.display()));
        let first = quoted(&first.to_string_lossy());
        return seen.strange.iter().fold(check, told).next(format!("sudo chown -R {} {first}", seen.user));
    }
    let full: Vec<_> = seen.spools.iter().filter(|(_, waiting)| waiting.dropped > 0).collect();
    if let Some((dir, _)) = full.first() {
        let check = Check::failed(
            Code::HookSpool,
            "events of our hook found no room, while no monitor took them: they are lost",
        );
        let told = |c: Check, (dir, waiting): &&(PathBuf, Waiting)| {
            c.seen(format!("{}: {} lost, {} waiting", dir.display(), counted(waiting.dropped, "event"), waiting.events))
        };
        // The count stays until somebody has taken note of it.
        return full.iter().fold(check, told).next(format!("rm '{}'", dir.join("dropped").display()));
    }
    let is_long = |since: Timestamp| seen.at.duration_since(since) > WAITS;
    let stuck: Vec<_> =
        seen.spools.iter().filter_map(|(dir, w)| Some((dir, w, w.since.filter(|s| is_long(*s))?))).collect();
    if stuck.is_empty() {
        return Check::verified(Code::HookSpool, "what our hook posted was taken");
    }
    let check = Check::failed(Code::HookSpool, "events of our hook wait: no monitor takes them");
    stuck
        .iter()
        .fold(check, |c, (dir, waiting, since)| {
            c.seen(format!("{}: {} since {since:.0}", dir.display(), counted(waiting.events, "event")))
        })
        .next("mpm-monitor hooks status")
}

#[cfg(test)]
#[path = "hooks_tests.rs"]
mod tests;
