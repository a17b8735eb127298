//! How it is with our hook: in which of Claude Code's settings it stands, whether what they name works, and who else posts
//! the same events.
//!
//! [`observe`] looks, [`Report::judge`] draws the conclusions from what was seen, and does nothing else.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

use super::ask::{Asker, NoAnswer};
use super::claude::file::{FileError, Settings};
use super::claude::settings::{self, EVENTS, Entry, Owner};
use super::place::{Machine, Place, Said};
use super::spool::{Spool, Waiting};
use crate::build::PROGRAM;
use daemon::guarded::Guard;
use daemon::probe;
use daemon::text::counted;
use service::{exec, program};

/// How long the monitor may take to answer.
const HEALTH: Duration = Duration::from_secs(1);

/// Which settings files of Claude Code to look at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Files {
    /// Each file with the name of its layer: `user`, `project`, `local`.
    pub all: Vec<(&'static str, PathBuf)>,
    /// The project's folder.
    pub project: Option<PathBuf>,
}

impl Files {
    /// Those that hold for a project: the user's, the project's, and the user's own for that project.
    pub fn of(machine: &Machine, project: Option<&Path>) -> Self {
        let mut all = Vec::new();
        all.extend(user_dir(machine).map(|dir| ("user", dir.join("settings.json"))));
        if let Some(project) = project {
            all.push(("project", project.join(".claude/settings.json")));
            all.push(("local", project.join(".claude/settings.local.json")));
        }
        // In the home directory the project's file is the user's.
        let mut seen = Vec::new();
        all.retain(|(_, path)| {
            !seen.contains(path) && {
                seen.push(path.clone());
                true
            }
        });
        Self { all, project: project.map(Path::to_owned) }
    }
}

/// Where Claude Code keeps the user's settings.
pub fn user_dir(machine: &Machine) -> Option<PathBuf> {
    let set = machine.variables.iter().find(|(n, v)| n == "CLAUDE_CONFIG_DIR" && !v.is_empty());
    set.map(|(_, dir)| PathBuf::from(dir)).or_else(|| machine.user.as_ref().map(|user| user.home.join(".claude")))
}

/// What one settings file says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileReport {
    /// `user`, `project` or `local`.
    pub layer: &'static str,
    /// Its path.
    pub path: PathBuf,
    /// Whether it is there.
    pub exists: bool,
    /// Whether it has Claude Code run no hooks at all.
    pub disabled: bool,
    /// Why it cannot be used, with its path.
    pub problem: Option<String>,
    /// Our entries.
    pub ours: Vec<Entry>,
    /// Those of Claude MPM.
    pub claude_mpm: Vec<Entry>,
    /// How many others there are.
    pub others: usize,
}

/// A program that a hook of ours runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ProgramReport {
    /// The command line in the settings.
    pub command: String,
    /// The program in it.
    pub path: PathBuf,
    /// What it says to `--version`.
    pub version: Option<String>,
    /// Why it does not work.
    pub problem: Option<String>,
    /// Why it was not run to find out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_asked: Option<String>,
    /// Why it will not last.
    pub transient: Option<&'static str>,
}

/// A hook of Claude MPM that runs beside ours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NeighbourReport {
    /// The command line in the settings.
    pub command: String,
    /// The Python that runs it, where it is one.
    pub interpreter: Option<PathBuf>,
    /// Whether that can import `claude_mpm`.
    pub imports: Option<bool>,
    /// Why it was not run to find out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_asked: Option<String>,
}

/// Everything that was seen.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Of this form.
    pub schema_version: u32,
    /// Whether our hook stands in one of the files, for all of its events.
    pub installed: bool,
    /// Each settings file.
    pub files: Vec<FileReport>,
    /// Each different command line of ours.
    pub programs: Vec<ProgramReport>,
    /// Each different command line of Claude MPM's.
    pub neighbours: Vec<NeighbourReport>,
    /// Where hooks post to.
    pub monitor: String,
    /// Why the monitor there does not answer.
    pub monitor_problem: Option<String>,
    /// Where events wait, for a user with a home.
    pub spool: Option<PathBuf>,
    /// Why nothing more could be put there.
    pub spool_problem: Option<String>,
    /// What waits there.
    pub waiting: Waiting,
    /// What is wrong, each with what to do about it; empty: all is well.
    pub problems: Vec<String>,
}

/// Looks at the files, and, where `asks`, runs those programs that they name and [`Asker`] runs, and asks the monitor.
pub fn observe(files: &Files, machine: &Machine, said: &Said, asks: bool) -> Report {
    let place = Place::find(said, machine);
    let mut report = Report {
        schema_version: 1,
        files: files.all.iter().map(|(layer, path)| file(layer, path)).collect(),
        monitor: place.url(),
        ..Report::default()
    };
    let asker = Asker {
        settings: user_dir(machine).map(|dir| dir.join("settings.json")),
        home: machine.user.as_ref().map(|user| user.home.clone()),
        project: files.project.clone(),
        is_root: rustix::process::geteuid().is_root(),
    };
    // Each once, with whether the user's own settings name it.
    let different = |owner: Owner| {
        let mut commands: Vec<(String, bool)> = Vec::new();
        for file in &report.files {
            let is_users = asker.is_users(&file.path);
            for entry in file.ours.iter().chain(&file.claude_mpm).filter(|entry| entry.owner == owner) {
                match commands.iter_mut().find(|(command, _)| *command == entry.command) {
                    Some((_, known)) => *known |= is_users,
                    None => commands.push((entry.command.clone(), is_users)),
                }
            }
        }
        commands
    };
    let (ours, theirs) = (different(Owner::Ours), different(Owner::ClaudeMpm));
    let asker = Some(&asker).filter(|_| asks);
    report.programs = ours.into_iter().map(|(command, is_users)| program(command, is_users, asker)).collect();
    report.neighbours = theirs.into_iter().map(|(command, is_users)| neighbour(command, is_users, asker)).collect();
    if asks {
        let targets = place.resolve(HEALTH);
        let answers = targets.into_iter().map(|target| probe::health_blocking(target, &PROGRAM, HEALTH));
        let mut failed = None;
        let mut answers = answers.map(|answer| match answer {
            Ok(_) => true,
            Err(error) => {
                failed.get_or_insert(error.to_string());
                false
            }
        });
        if !answers.any(|answers| answers) {
            report.monitor_problem = failed.or(Some("its host is not known".to_owned()));
        }
    }
    if let Some(dir) = place.spool {
        let spool = Spool::new(&dir);
        (report.waiting, report.spool_problem) = (spool.waiting(), spool.trouble());
        report.spool = Some(dir);
    }
    report.judge();
    report
}

/// Reads the settings file of a layer.
///
/// # Errors
/// As [`Settings::read_in_project`] for a project's, else as [`Settings::read`].
pub fn read(layer: &str, path: &Path) -> Result<Settings, FileError> {
    if layer == "user" { Settings::read(path) } else { Settings::read_in_project(path) }
}

fn file(layer: &'static str, path: &Path) -> FileReport {
    let mut report = FileReport {
        layer,
        path: path.to_owned(),
        exists: false,
        disabled: false,
        problem: None,
        ours: Vec::new(),
        claude_mpm: Vec::new(),
        others: 0,
    };
    let text = match read(layer, path) {
        Ok(settings) => settings.text,
        Err(error) => {
            report.exists = true;
            report.problem = Some(error.to_string());
            return report;
        }
    };
    report.exists = text.is_some();
    report.disabled = text.as_deref().is_some_and(settings::disables_all);
    match settings::entries(text.as_deref().unwrap_or_default()) {
        Ok(entries) => {
            for entry in entries {
                match entry.owner {
                    Owner::Ours => report.ours.push(entry),
                    Owner::ClaudeMpm => report.claude_mpm.push(entry),
                    Owner::Other => report.others += 1,
                }
            }
        }
        Err(error) => report.problem = Some(format!("{}: {error}", path.display())),
    }
    report
}

fn program(command: String, is_users: bool, asker: Option<&Asker>) -> ProgramReport {
    let words = settings::words(&command);
    let at = words.iter().position(|word| word == "hook").unwrap_or(0);
    let path = PathBuf::from(words.get(at.saturating_sub(1)).cloned().unwrap_or_default());
    let found = if path.is_absolute() { Ok(path.clone()) } else { exec::find(&path.to_string_lossy()) };
    let transient = found.as_ref().ok().and_then(|path| program::transient(path));
    let mut report = ProgramReport { command, path, version: None, problem: None, not_asked: None, transient };
    // This very program runs already, and knows its version.
    let is_this = |path: &Path| std::env::current_exe().is_ok_and(|this| program::is_same_file(&this, path));
    if asker.is_some() && found.as_deref().is_ok_and(is_this) {
        report.version = Some(crate::build::VERSION.to_owned());
        return report;
    }
    match found.map(|path| asker.map(|asker| asker.version(&path, is_users))) {
        Ok(None) => {}
        Ok(Some(Ok(said))) => match service::report::parse_version(&said) {
            Some((version, _)) => report.version = Some(version),
            None => report.problem = Some("it does not say that it is mpm-monitor".to_owned()),
        },
        Ok(Some(Err(NoAnswer::Unasked(why)))) => report.not_asked = Some(why.to_string()),
        Ok(Some(Err(error))) => report.problem = Some(error.to_string()),
        Err(error) => report.problem = Some(error.to_string()),
    }
    report
}

fn neighbour(command: String, is_users: bool, asker: Option<&Asker>) -> NeighbourReport {
    let words = settings::words(&command);
    // Assignments and shells in front of it are not it.
    let program = words.iter().find(|w| w.contains("claude") || w.contains("hook") || w.contains("python"));
    let path = program.map(PathBuf::from).unwrap_or_default();
    let path = if path.is_absolute() { Some(path) } else { exec::find(&path.to_string_lossy()).ok() };
    let interpreter = path.as_deref().and_then(python_of);
    let mut report = NeighbourReport { command, interpreter, imports: None, not_asked: None };
    match report.interpreter.as_deref().zip(asker).map(|(python, asker)| asker.import(python, is_users)) {
        None => {}
        Some(Err(NoAnswer::Unasked(why))) => report.not_asked = Some(why.to_string()),
        Some(answer) => report.imports = Some(answer.is_ok()),
    }
    report
}

/// The Python that a program is, or that its first line names.
fn python_of(path: &Path) -> Option<PathBuf> {
    use std::io::Read;
    let is_python = |path: &Path| path.file_name().is_some_and(|n| n.to_string_lossy().starts_with("python"));
    if is_python(path) {
        return Some(path.to_owned());
    }
    let mut head = Vec::new();
    Guard::WRITTEN.open(path).ok()?.take(1024).read_to_end(&mut head).ok()?;
    let text = String::from_utf8_lossy(&head).into_owned();
    let line = text.lines().next()?.strip_prefix("#!")?.trim();
    let mut words = line.split_whitespace();
    let first = PathBuf::from(words.next()?);
    let found = if first.ends_with("env") { exec::find(words.next()?).ok()? } else { first };
    is_python(&found).then_some(found)
}

impl Report {
    /// Draws the conclusions: whether our hook is in, and what is wrong.
    pub fn judge(&mut self) {
        let missing = |file: &FileReport| -> Vec<&str> {
            EVENTS.iter().map(|(e, _)| *e).filter(|e| !file.ours.iter().any(|entry| entry.event == *e)).collect()
        };
        let holding: Vec<&FileReport> = self.files.iter().filter(|f| !f.ours.is_empty()).collect();
        let mut problems = Vec::new();
        problems.extend(self.files.iter().filter_map(|file| file.problem.clone()));
        problems.extend(self.files.iter().filter(|file| file.disabled).map(|file| {
            format!("{} has disableAllHooks: true, so Claude Code runs no hook; take it out", file.path.display())
        }));
        for file in &holding {
            let missing = missing(file);
            if !missing.is_empty() {
                let path = file.path.display();
                problems.push(format!("{path} lacks {}; run mpm-monitor hooks install again", missing.join(", ")));
            }
        }
        if let [first, second, ..] = &holding[..] {
            problems.push(format!(
                "{} and {} both hold our hook: unless the command lines are the same, each event is posted twice; take one out \
                 with mpm-monitor hooks uninstall",
                first.path.display(),
                second.path.display()
            ));
        }
        for program in &self.programs {
            if let Some(problem) = &program.problem {
                problems.push(format!(
                    "`{}` does not work: {problem}; run mpm-monitor hooks install again",
                    program.command
                ));
            } else if let Some(why) = program.transient {
                problems.push(format!(
                    "{} {why}; install it for good, then run mpm-monitor hooks install",
                    program.path.display()
                ));
            }
        }
        for neighbour in &self.neighbours {
            if !holding.is_empty() {
                problems.push(format!(
                    "`{}` of Claude MPM posts the same events, so each comes twice; keep one of the two",
                    neighbour.command
                ));
            } else if neighbour.imports == Some(false) {
                let python = neighbour.interpreter.as_deref().unwrap_or(Path::new("python")).display();
                problems.push(format!(
                    "`{}` of Claude MPM posts nothing: {python} cannot import claude_mpm; install that there, or use mpm-monitor \
                     hooks install",
                    neighbour.command
                ));
            }
        }
        if !holding.is_empty()
            && let Some(problem) = &self.monitor_problem
        {
            problems.push(format!("no monitor takes what hooks post: {problem}; run mpm-monitor status"));
        }
        let dir = self.spool.as_deref().unwrap_or(Path::new("")).display();
        if let Some(problem) = &self.spool_problem {
            problems.push(format!("no event can be kept in {dir}: {problem}; what no monitor takes is lost meanwhile"));
        }
        if self.waiting.dropped > 0 {
            problems.push(format!(
                "{} found no room in {dir}, while no monitor took what was posted; to count anew, remove {dir}/dropped",
                counted(self.waiting.dropped, "event")
            ));
        }
        self.installed = holding.iter().any(|file| missing(file).is_empty());
        self.problems = problems;
    }

    /// For a person, at most 80 columns wide where paths allow it.
    pub fn human(&self) -> String {
        let mut text = String::new();
        let mut line = |name: &str, value: String| text.push_str(&format!("{name:<10} {value}\n"));
        line("installed", if self.installed { "yes" } else { "no; mpm-monitor hooks install puts it in" }.to_owned());
        for file in &self.files {
            let what = match (&file.problem, file.exists) {
                (Some(_), _) => "cannot be used".to_owned(),
                (None, false) => "not there".to_owned(),
                (None, true) => {
                    format!(
                        "{} of ours, {} of Claude MPM, {} others",
                        file.ours.len(),
                        file.claude_mpm.len(),
                        file.others
                    )
                }
            };
            line(file.layer, format!("{}: {what}", file.path.display()));
        }
        for program in &self.programs {
            let version = program.version.as_ref().map(|v| format!(" (version {v})"));
            let not_asked = program.not_asked.as_ref().map(|why| format!(" (not run: {why})"));
            line("command", format!("{}{}", program.command, version.or(not_asked).unwrap_or_default()));
        }
        for neighbour in &self.neighbours {
            let python = neighbour.interpreter.as_ref().map(|p| format!(" ({})", p.display())).unwrap_or_default();
            let not_asked = neighbour.not_asked.as_ref().map(|why| format!(" (not run: {why})")).unwrap_or_default();
            line("beside it", format!("{}{python}{not_asked}", neighbour.command));
        }
        let answers = if self.monitor_problem.is_none() { "answers" } else { "does not answer" };
        line("monitor", format!("{} {answers}", self.monitor));
        if self.waiting.events > 0 {
            let since = self.waiting.since.map(|since| format!(", since {since:.0}")).unwrap_or_default();
            line("waiting", format!("{}, {} bytes{since}", counted(self.waiting.events, "event"), self.waiting.bytes));
        }
        for problem in &self.problems {
            line("problem", problem.clone());
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(event: &str, command: &str) -> Entry {
        Entry { event: event.into(), command: command.into(), owner: settings::owner(command) }
    }

    fn report(ours: &[&str], theirs: &[&str]) -> Report {
        let file = FileReport {
            layer: "user",
            path: "/h/.claude/settings.json".into(),
            exists: true,
            disabled: false,
            problem: None,
            ours: ours.iter().map(|e| entry(e, "/b/mpm-monitor hook")).collect(),
            claude_mpm: theirs.iter().map(|e| entry(e, "claude-hook")).collect(),
            others: 1,
        };
        let neighbours = theirs.first().map(|_| NeighbourReport {
            command: "claude-hook".into(),
            interpreter: Some("/v/bin/python3".into()),
            imports: Some(false),
            not_asked: None,
        });
        let mut report =
            Report { files: vec![file], neighbours: neighbours.into_iter().collect(), ..Report::default() };
        report.judge();
        report
    }

    #[test]
    fn conclusions_follow_from_what_was_seen() {
        let all: Vec<&str> = EVENTS.iter().map(|(e, _)| *e).collect();
        assert!(report(&all, &[]).installed && report(&all, &[]).problems.is_empty());
        let some = report(&all[1..], &[]);
        assert!(!some.installed && some.problems[0].contains("lacks PreToolUse"), "{:?}", some.problems);
        let both = report(&all, &["Stop"]);
        assert!(both.installed && both.problems[0].contains("comes twice"), "{:?}", both.problems);
        let theirs = report(&[], &["Stop"]);
        assert!(theirs.problems[0].contains("cannot import claude_mpm"), "{:?}", theirs.problems);
        let mut full = report(&all, &[]);
        full.waiting.dropped = 3;
        full.monitor_problem = Some("nothing listens".into());
        full.spool_problem = Some("Read-only file system".into());
        full.judge();
        assert_eq!(full.problems.len(), 3, "{:?}", full.problems);
        assert!(full.human().contains("9 of ours, 0 of Claude MPM, 1 others"), "{}", full.human());
    }
}
