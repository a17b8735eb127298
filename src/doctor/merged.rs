//! A unit as systemd merged it: its properties, the lines of the files that they come from, and what systemd itself says is
//! wrong with these lines.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::path::{Path, PathBuf};

use super::Subject;
use super::check::Looked;
use daemon::dirs::UserDirs;
use service::exec::{self, QUICK};
use service::{Kind, Scope, drift, files};

/// One assignment in a unit file or drop-in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Line {
    /// The unit or drop-in that has the line.
    pub file: PathBuf,
    /// Its first line, counted from 1.
    pub first: usize,
    /// Its last one, where a backslash continues it.
    pub last: usize,
    /// The key, as the line names it.
    pub key: String,
    /// The value, without blanks around it.
    pub value: String,
}

impl Line {
    /// As a compiler would name it, with what stands there.
    pub fn shown(&self) -> String {
        format!("{}:{}: {}={}", self.file.display(), self.first, self.key, self.value)
    }

    /// Whether it ties the unit to others, or to how the machine is.
    pub fn is_about_others(&self) -> bool {
        let ties =
            ["Requires", "BindsTo", "Requisite", "Conflicts", "PartOf", "StopPropagatedFrom", "StopWhenUnneeded"];
        ties.contains(&self.key.as_str())
            || ["Condition", "Assert", "JobTimeout"].iter().any(|k| self.key.starts_with(k))
    }

    /// The file, and the first and last line.
    pub fn place(&self) -> (&Path, usize, usize) {
        (&self.file, self.first, self.last)
    }
}

/// Something that systemd does not understand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Complaint {
    /// The unit or drop-in that has the line.
    pub file: PathBuf,
    /// The line, counted from 1.
    pub line: usize,
    /// The complaint in the words of `systemd-analyze`.
    pub text: String,
}

/// A unit as systemd merged it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Merged {
    /// The name of the unit that was asked about.
    pub unit: String,
    /// The properties that `systemctl show` gave, by name.
    pub values: HashMap<String, String>,
    /// What files that are not install's say, in the order in which systemd reads them.
    pub lines: Vec<Line>,
    /// What the environment files say that the unit names.
    pub variables: Vec<Line>,
    /// The settings of ours that the manager gives to all that it starts, with their values.
    pub given: Vec<(String, String)>,
    /// The lines of files of the manager's environment that say so.
    pub given_by: Vec<Line>,
    /// The unit file that systemd reads, if there is one.
    pub fragment: Option<PathBuf>,
    /// The drop-ins that systemd reads, in its order.
    pub drop_ins: Vec<PathBuf>,
    /// Those of the files that cannot be read.
    pub unreadable: Vec<PathBuf>,
    /// What systemd does not understand in them.
    pub complaints: Vec<Complaint>,
    /// What it says of the unit as a whole.
    pub said: Vec<String>,
}

/// What the manager says of a unit, and the lines of its files.
///
/// # Errors
/// What the manager or its tool said instead.
pub fn show(subject: &Subject, unit: &str) -> Looked<Merged> {
    let shown = exec::systemctl(subject.scope, &["show", "--", unit], QUICK).and_then(exec::Output::success);
    let mut merged = Merged { unit: unit.to_owned(), ..of_properties(&shown.map_err(|e| e.to_string())?) };
    for path in merged.files() {
        match files::read(&path) {
            // What install wrote and nobody touched is judged by its own checks.
            Ok(Some(text)) if drift::is_ours(crate::build::PROGRAM.name, &text) => {}
            Ok(Some(text)) => merged.lines.extend(lines(&path, &text)),
            Ok(None) => {}
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => merged.unreadable.push(path),
            Err(_) => {}
        }
    }
    Ok(merged)
}

/// Asks the manager about a unit of the instance, and reads the unit's files.
///
/// # Errors
/// What the manager or its tool said instead.
pub fn look(subject: &Subject, unit: &str) -> Looked<Merged> {
    if subject.paths.kind == Kind::Launchd {
        return Ok(Merged::default());
    }
    let mut merged = show(subject, unit)?;
    let all = merged.files();
    // `PATH (ignore_errors=no)`, one in a line.
    let named = merged.get("EnvironmentFiles").lines().filter_map(|l| l.rsplit_once(" (")).map(|(path, _)| path);
    let read = named.filter_map(|path| Some(lines(Path::new(path), &files::read(Path::new(path)).ok()??)));
    merged.variables = read.flatten().collect();
    let given = exec::systemctl(subject.scope, &["show-environment"], QUICK).and_then(exec::Output::success);
    merged.given = ours(&given.unwrap_or_default());
    let of_manager = environment_files(subject).into_iter();
    let of_manager = of_manager.filter_map(|f| Some(lines(&f, &files::read(&f).ok()??))).flatten();
    let given = |name: &str, value: &str| merged.given.iter().any(|(n, v)| n == name && v == value);
    let words = |l: &Line| crate::hooks::claude::settings::words(&l.value);
    let is_given = |l: &Line| match is_of_manager(l) {
        true => words(l).iter().filter_map(|w| w.split_once('=')).any(|(n, v)| given(n, v)),
        false => given(&l.key, l.value.trim_matches('"')),
    };
    merged.given_by = of_manager.filter(is_given).collect();
    if matches!(merged.get("LoadState"), "loaded" | "bad-setting" | "error") {
        let mut words = vec!["--user"];
        words.retain(|_| subject.scope == Scope::User);
        words.extend(["verify", "--man=no", unit]);
        // It has nothing to say where it cannot be run.
        let said = exec::tool("systemd-analyze", &words, QUICK).map(|o| format!("{}\n{}", o.stdout, o.stderr));
        let said = said.unwrap_or_default();
        // Of install's own files an older systemd does not know every key.
        merged.complaints = complaints(&said, &all);
        merged.complaints.retain(|c| merged.lines.iter().any(|l| l.file == c.file));
        let of_unit = format!("{unit}: ");
        merged.said = said.lines().filter_map(|l| l.strip_prefix(&of_unit)).map(str::to_owned).collect();
    }
    Ok(merged)
}

/// Whether a line is one of systemd-system.conf(5) about what the manager gives to all that it starts.
fn is_of_manager(line: &Line) -> bool {
    matches!(line.key.as_str(), "DefaultEnvironment" | "ManagerEnvironment")
}

/// The files that a manager takes its environment from: its own settings, and for a user's those of environment.d(5).
fn environment_files(subject: &Subject) -> Vec<PathBuf> {
    let own = if subject.scope == Scope::User { "user.conf" } else { "system.conf" };
    let mut folders: Vec<PathBuf> =
        ["/etc", "/run"].map(|base| PathBuf::from(format!("{base}/systemd/{own}.d"))).to_vec();
    if let Some(dirs) = UserDirs::find(crate::build::PROGRAM.name).filter(|_| subject.scope == Scope::User) {
        folders.extend([dirs.config_home.join("environment.d"), "/etc/environment.d".into()]);
    }
    let found = folders.iter().flat_map(|f| std::fs::read_dir(f).into_iter().flatten().flatten()).map(|e| e.path());
    let main = Path::new("/etc/systemd").join(own);
    found.filter(|p| p.extension().is_some_and(|x| x == "conf")).chain([main]).collect()
}

/// Our settings in what `systemctl show-environment` says.
fn ours(text: &str) -> Vec<(String, String)> {
    let is_ours = |name: &str| name.starts_with("MPM_MONITOR_") || matches!(name, "XDG_CONFIG_HOME" | "XDG_STATE_HOME");
    let all = text.lines().filter_map(|l| l.split_once('=')).filter(|(name, _)| is_ours(name));
    all.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// What `systemctl show` says.
fn of_properties(text: &str) -> Merged {
    let mut values: HashMap<String, String> = HashMap::new();
    for (key, value) in text.lines().filter_map(|l| l.split_once('=')) {
        let before = values.entry(key.to_owned()).or_default();
        // A property of several values has a line for each.
        if !before.is_empty() {
            before.push('\n');
        }
        before.push_str(value);
    }
    let path = |key: &str| values.get(key).filter(|v| !v.is_empty()).map(PathBuf::from);
    let fragment = path("FragmentPath");
    let drop_ins = values.get("DropInPaths").map(|v| v.split_whitespace().map(PathBuf::from).collect());
    Merged { fragment, drop_ins: drop_ins.unwrap_or_default(), values, ..Merged::default() }
}

/// The assignments of a unit file, continued lines joined, comments left out.
fn lines(file: &Path, text: &str) -> Vec<Line> {
    let mut found: Vec<Line> = Vec::new();
    let mut continues = false;
    for (at, line) in text.lines().enumerate() {
        let (number, trimmed) = (at + 1, line.trim());
        if trimmed.starts_with(['#', ';']) {
            continue;
        }
        let (content, goes_on) = match trimmed.strip_suffix('\\') {
            Some(content) => (content.trim_end(), true),
            None => (trimmed, false),
        };
        match found.last_mut().filter(|_| continues) {
            Some(before) => {
                before.value = format!("{} {content}", before.value).trim().to_owned();
                before.last = number;
            }
            None => {
                if let Some((key, value)) = content.split_once('=') {
                    let (key, value) = (key.trim().to_owned(), value.trim().to_owned());
                    found.push(Line { file: file.to_owned(), first: number, last: number, key, value });
                }
            }
        }
        continues = goes_on;
    }
    found
}

/// The lines `FILE:LINE: text` about these files.
fn complaints(said: &str, files: &[PathBuf]) -> Vec<Complaint> {
    let one = |line: &str| {
        let (file, rest) = line.split_once(':')?;
        let (number, text) = rest.split_once(':')?;
        let file = files.iter().find(|f| f.as_os_str() == file)?.clone();
        Some(Complaint { file, line: number.trim().parse().ok()?, text: text.trim().to_owned() })
    };
    let mut all: Vec<Complaint> = said.lines().filter_map(one).collect();
    all.dedup();
    all
}

impl Merged {
    /// The unit file and the drop-ins that systemd reads.
    fn files(&self) -> Vec<PathBuf> {
        self.fragment.iter().chain(&self.drop_ins).cloned().collect()
    }

    /// One property; empty where there is none.
    pub fn get(&self, key: &str) -> &str {
        self.values.get(key).map_or("", String::as_str)
    }

    /// The lines, not of install, that set one of these keys; `Condition*` is every key that begins so.
    pub fn setting(&self, keys: &[&str]) -> Vec<&Line> {
        let is = |key: &str, line: &Line| match key.strip_suffix('*') {
            Some(start) => line.key.starts_with(start),
            None => line.key == key,
        };
        self.lines.iter().filter(|l| keys.iter().any(|key| is(key, l))).collect()
    }

    /// The lines, not of install, that give the process this variable.
    pub fn variable(&self, name: &str) -> Vec<&Line> {
        let sets = |line: &&&Line| {
            let words = crate::hooks::claude::settings::words(&line.value);
            // An empty one takes back all of them.
            words.is_empty() || words.iter().any(|w| w.split('=').next() == Some(name))
        };
        let is_for = |l: &&Line| l.key == name || (is_of_manager(l) && sets(&l));
        let of_files = self.variables.iter().chain(&self.given_by).filter(is_for);
        self.setting(&["Environment", "UnsetEnvironment"]).iter().filter(sets).copied().chain(of_files).collect()
    }

    /// The environment that the manager and the unit give to the process; the later of two of a name is in force.
    pub fn environment(&self) -> Vec<(String, String)> {
        let words = crate::hooks::claude::settings::words(self.get("Environment"));
        let of_unit = words.iter().filter_map(|w| w.split_once('=')).map(|(n, v)| (n.to_owned(), v.to_owned()));
        let unquoted = |l: &Line| crate::hooks::claude::settings::words(&l.value).join(" ");
        let of_files = self.variables.iter().map(|l| (l.key.clone(), unquoted(l)));
        let unset = crate::hooks::claude::settings::words(self.get("UnsetEnvironment"));
        let is_kept = |(name, _): &(String, String)| !unset.iter().any(|u| u.split('=').next() == Some(name));
        self.given.iter().cloned().chain(of_unit).chain(of_files).filter(is_kept).collect()
    }

    /// The commands that make comments of these lines.
    pub fn comments(subject: &Subject, lines: &[(&Path, usize, usize)]) -> Vec<String> {
        let mut files: Vec<&Path> = lines.iter().map(|(file, ..)| *file).collect();
        files.dedup();
        let edit = |file: &&Path| {
            let of_file = lines.iter().filter(|(f, ..)| f == file);
            let edits: Vec<String> = of_file
                .map(|(_, first, last)| match first == last {
                    true => format!("-e '{first}s/^/# /'"),
                    false => format!("-e '{first},{last}s/^/# /'"),
                })
                .collect();
            let word = crate::hooks::claude::settings::quoted(&file.to_string_lossy());
            // What is in /etc is root's, for a user's manager, too.
            let is_roots = file.starts_with("/etc") && !subject.is_root;
            let sudo = if is_roots { "sudo " } else { subject.sudo() };
            format!("{sudo}sed -i {} {word}", edits.join(" "))
        };
        files.iter().map(edit).collect()
    }

    /// The same, and has the manager read the files again.
    pub fn edits(subject: &Subject, lines: &[(&Path, usize, usize)]) -> Vec<String> {
        let mut edits = Self::comments(subject, lines);
        // Its own settings a manager reads only when it starts anew; what it runs goes on.
        let is_own = |file: &Path| ["/system.conf", "/user.conf"].iter().any(|f| file.to_string_lossy().contains(f));
        let reread = match lines.iter().any(|(file, ..)| is_own(file)) {
            true => subject.reread().replace("daemon-reload", "daemon-reexec"),
            false => subject.reread(),
        };
        edits.extend((!lines.is_empty()).then_some(reread));
        edits
    }

    /// The command that makes comments of these lines and has the service run without them.
    pub fn without(subject: &Subject, lines: &[(&Path, usize, usize)]) -> String {
        Self::undone(subject, lines, &BTreeSet::new())
    }

    /// The same, and takes these variables from the manager.
    pub fn undone(subject: &Subject, lines: &[(&Path, usize, usize)], given: &BTreeSet<&str>) -> String {
        let mut steps = Self::edits(subject, lines);
        if !given.is_empty() {
            let user = if subject.scope == Scope::User { "--user " } else { "" };
            let names = given.iter().copied().collect::<Vec<_>>().join(" ");
            steps.push(format!("{}systemctl {user}unset-environment {names}", subject.sudo()));
        }
        // A socket listens anew only when it starts anew.
        if lines.iter().any(|(f, ..)| f.to_string_lossy().contains(".socket")) {
            steps.extend([subject.verb("stop"), subject.verb("start")]);
        } else {
            steps.push(subject.verb("restart"));
        }
        steps.join(" && ")
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::subject;
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lines_have_their_numbers_and_are_joined() {
        let text = "# a\n[Service]\nExecStart=\nEnvironment=A=b \\\n  \"C=d e\"\n; no\nUser = x\n";
        let all = lines(Path::new("/d"), text);
        let short: Vec<_> = all.iter().map(|l| (l.first, l.last, l.key.as_str(), l.value.as_str())).collect();
        assert_eq!(short, [(3, 3, "ExecStart", ""), (4, 5, "Environment", "A=b \"C=d e\""), (7, 7, "User", "x")]);
        let merged = Merged { lines: all, ..Merged::default() };
        assert_eq!(merged.variable("C")[0].first, 4);
        assert_eq!(merged.variable("d"), Vec::<&Line>::new());
    }

    #[test]
    fn properties_name_the_files_and_the_environment() {
        let merged = of_properties(
            "FragmentPath=/u/m@.service\nDropInPaths=/d/a.conf /d/b.conf\nEnvironment=A=b \"C=d e\"\nListen=a\nListen=b\n",
        );
        assert_eq!(merged.drop_ins, [PathBuf::from("/d/a.conf"), PathBuf::from("/d/b.conf")]);
        assert_eq!(merged.environment(), [("A".into(), "b".into()), ("C".into(), "d e".into())]);
        assert_eq!(merged.get("Listen"), "a\nb");
        assert_eq!(merged.get("None"), "");
    }

    #[test]
    fn lines_of_the_managers_own_settings_are_undone_anew() {
        let file = Path::new("/etc/systemd/user.conf.d/ops.conf");
        let given_by = lines(file, "[Manager]\nDefaultEnvironment=A=b \"MPM_MONITOR_X=y z\"\n");
        let merged = Merged { given_by, ..Merged::default() };
        assert_eq!(merged.variable("MPM_MONITOR_X")[0].first, 2);
        assert_eq!(merged.variable("MPM_MONITOR_Y"), Vec::<&Line>::new());
        let steps = Merged::edits(&subject(), &[(file, 2, 2)]);
        assert!(steps[0].starts_with("sudo sed -i -e '2s/^/# /' "), "{steps:?}");
        assert_eq!(steps[1], "systemctl --user daemon-reexec");
    }

    #[test]
    fn environment_is_of_manager_unit_and_files_in_order() {
        let mut merged = of_properties("Environment=MPM_MONITOR_LOG_LEVEL=warn\n");
        merged.given = ours("PATH=/bin\nMPM_MONITOR_LOG_LEVEL=info\nMPM_MONITOR_PORT=1\n");
        merged.variables = lines(Path::new("/e"), "# a\nMPM_MONITOR_LOG_LEVEL=\"debug\"\n");
        let all = merged.environment();
        let of = |name: &str| all.iter().rev().find(|(n, _)| n == name).map(|(_, v)| v.as_str());
        assert_eq!((of("MPM_MONITOR_LOG_LEVEL"), of("MPM_MONITOR_PORT"), of("PATH")), (Some("debug"), Some("1"), None));
        assert_eq!(merged.variable("MPM_MONITOR_LOG_LEVEL")[0].first, 2);
    }

    #[test]
    fn complaints_are_those_about_the_units_own_files() {
        let said = "/d/a.conf:2: Unknown key 'X' in section [Service], ignoring.\n/etc/other:7: no\nm: Command failed\n\
/d/a.conf:2: Unknown key 'X' in section [Service], ignoring.\n";
        let all = complaints(said, &["/d/a.conf".into()]);
        assert_eq!(all.len(), 1);
        assert_eq!((all[0].line, all[0].text.as_str()), (2, "Unknown key 'X' in section [Service], ignoring."));
    }

    #[test]
    fn a_line_is_undone_as_a_comment() {
        let (a, b) = (Path::new("/d/a.conf"), Path::new("/d/b c.conf"));
        let command = Merged::without(&subject(), &[(a, 2, 2), (a, 4, 5), (b, 1, 1)]);
        assert_eq!(
            command,
            "sed -i -e '2s/^/# /' -e '4,5s/^/# /' /d/a.conf && sed -i -e '1s/^/# /' '/d/b c.conf' && systemctl --user \
daemon-reload && mpm-monitor restart --user --port 8765"
        );
    }

    proptest! {
        #[test]
        fn no_unit_file_panics(text in any::<String>()) {
            let _ = (lines(Path::new("/x"), &text), of_properties(&text), complaints(&text, &["/x".into()]));
        }
    }
}
