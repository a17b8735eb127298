//! What to type so that wrong settings are right: the lines that have to go, found by leaving them out of a copy of the text.

use std::collections::BTreeSet;
use std::path::Path;

use super::Subject;
use super::merged::{Line, Merged};
use super::needs;
use super::settings::{given, of_unit};
use crate::config::layers::{self, Origin, Problem};
use crate::hooks::claude::settings::quoted;

/// No text that a person wrote is longer.
const LONG: usize = 64 << 10;
/// How many lines from an error its cause is looked for.
const AROUND: usize = 30;

/// The command after which all of these problems are gone, where one can be known.
pub fn command(subject: &Subject, problems: &[&Problem], unit: &Merged) -> Option<String> {
    let lines: BTreeSet<(&Path, usize, usize)> =
        problems.iter().flat_map(|p| of_unit(p, unit)).map(Line::place).collect();
    let lines: Vec<(&Path, usize, usize)> = lines.into_iter().collect();
    let of_manager = problems.iter().filter_map(|p| given(p, unit));
    let last = Merged::undone(subject, &lines, &of_manager.collect());
    let (mut steps, mut cured) = (Vec::new(), last.contains(" && "));
    let in_file = |p: &&&Problem| matches!(p.origin, Origin::File(..)) && of_unit(p, unit).is_empty();
    let in_files: Vec<&Problem> = problems.iter().filter(in_file).copied().collect();
    let mut files: Vec<&Path> = in_files.iter().filter_map(|p| file_of(p)).collect();
    files.dedup();
    for path in files {
        let of_file: Vec<&Problem> = in_files.iter().filter(|p| file_of(p) == Some(path)).copied().collect();
        steps.push(repaired(subject, path, &of_file)?);
        cured = true;
    }
    steps.push(last);
    cured.then(|| steps.join(" && "))
}

fn file_of(problem: &Problem) -> Option<&Path> {
    match &problem.origin {
        Origin::File(path, _) => Some(path),
        _ => None,
    }
}

/// The command that repairs a file, where one can be known.
fn repaired(subject: &Subject, path: &Path, problems: &[&Problem]) -> Option<String> {
    let (sudo, shown) = (subject.sudo(), quoted(&path.to_string_lossy()));
    let says = |text: &str| problems.iter().any(|p| p.message.contains(text));
    if needs::is_absent(path) {
        // Where a link leads to is to be restored, which no command can know.
        return None;
    }
    if !path.is_file() {
        // A link that leads to itself holds nothing.
        return match path.symlink_metadata().ok()?.is_symlink() && !path.exists() {
            true => Some(format!("{sudo}rm {shown}")),
            false => Some(format!("{sudo}mv {shown} {shown}.aside")),
        };
    }
    if says("Permission denied") {
        return Some(format!("chmod u+r {shown}"));
    }
    for (word, encoding) in [("it is UTF-16", "UTF-16"), ("it is not UTF-8", "WINDOWS-1252")] {
        if says(word) {
            let to = quoted(&format!("{}.utf8", path.display()));
            let convert = format!("iconv -f {encoding} -t UTF-8 {shown} | {sudo}tee {to} >/dev/null");
            return Some(format!("{convert} && {sudo}mv {to} {shown}"));
        }
    }
    if says("cannot read the file") {
        return None;
    }
    let text = std::fs::read_to_string(path).ok()?;
    let edits: Vec<String> =
        lines_to_go(path, &text, problems)?.iter().map(|line| format!("-e '{line}s/^/# /'")).collect();
    Some(format!("{sudo}sed -i {} {shown}", edits.join(" ")))
}

/// The lines of a configuration that have to become comments so that nothing in it is wrong; `None` where one of them
/// protects something, and so is not to be taken away without a thought.
fn lines_to_go(path: &Path, text: &str, problems: &[&Problem]) -> Option<BTreeSet<usize>> {
    let lines: Vec<&str> = text.lines().collect();
    let wrong = |gone: &BTreeSet<usize>| -> Vec<Problem> {
        let kept = lines.iter().enumerate().map(|(at, line)| if gone.contains(&(at + 1)) { "" } else { line });
        layers::merge(vec![layers::from_toml(path, &kept.collect::<Vec<_>>().join("\n"))]).problems
    };
    let line_of = |p: &Problem| match p.origin {
        Origin::File(_, line) => line,
        _ => 1,
    };
    let cost = |problems: &[Problem]| {
        (problems.iter().filter(|p| p.message.starts_with("not valid TOML")).count(), problems.len())
    };
    let of_text = wrong(&BTreeSet::new());
    // What only all sources together show to be wrong is wrong where it stands.
    let mut gone: BTreeSet<usize> = problems.iter().filter(|p| !of_text.contains(p)).map(|p| line_of(p)).collect();
    while let Some(at) = wrong(&gone).first().map(line_of).filter(|_| text.len() < LONG) {
        let is_said = |n: &usize| {
            let line = lines.get(n - 1).map_or("", |l| l.trim());
            !line.is_empty() && !line.starts_with('#') && !gone.contains(n)
        };
        let candidates = (at.saturating_sub(AROUND).max(1)..=at + AROUND).filter(is_said);
        let best = candidates.min_by_key(|n| {
            let mut tried = gone.clone();
            tried.insert(*n);
            (cost(&wrong(&tried)), n.abs_diff(at))
        });
        gone.insert(best?);
    }
    let protects = |n: &usize| {
        let section =
            lines[..*n - 1].iter().rev().find(|l| l.trim_start().starts_with('[')).copied().unwrap_or_default();
        let line = lines.get(n - 1).copied().unwrap_or_default();
        let set = line.split('=').next().unwrap_or_default();
        ["access", "files", "allow"].iter().any(|word| section.contains(word) || set.contains(word))
    };
    (!gone.iter().any(protects)).then_some(gone)
}

#[cfg(test)]
mod tests {
    use super::super::tests::subject;
    use super::*;

    fn gone(text: &str) -> Option<Vec<usize>> {
        let path = Path::new("/c");
        let all = layers::merge(vec![layers::from_toml(path, text)]).problems;
        assert!(!all.is_empty(), "{text}");
        Some(lines_to_go(path, text, &all.iter().collect::<Vec<_>>())?.into_iter().collect())
    }

    #[test]
    fn the_lines_that_go_leave_a_valid_file() {
        for (text, expected) in [
            ("[server]\nmax_clients = 50\n\n[server]\nmax_connections = 512\n", vec![4]),
            ("[server]\nmax_clients = \"many\"\nmax_conections = 5\n[log]\nlevl = \"info\"\n", vec![2, 3, 5]),
            ("[server\nmax_clients = 50\n", vec![1, 2]),
            ("bind = [\n  \"127.0.0.1\",\n  \"localhos\",\n]\n[server]\nmax_clients = 50\n", vec![3]),
            ("bind = [\"127.0.0.1\"\n[server]\nmax_clients = 50\n", vec![1]),
            ("[log]\nlevel = \u{201c}info\u{201d}\n", vec![2]),
            ("[server]\nmax_clients = 50\nmax_clients = 60\n", vec![3]),
        ] {
            assert_eq!(gone(text), Some(expected), "{text}");
        }
        assert_eq!(gone("[access]\ntoken_file = 7\ntoken_fil = \"/t\"\n"), None);
    }

    #[test]
    fn text_of_another_encoding_is_converted_and_not_cut() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.toml");
        std::fs::write(&path, b"\xff\xfep\0").unwrap();
        let found = |message: &str| {
            let problem = Problem { origin: Origin::File(path.clone(), 1), message: message.into() };
            command(&subject(), &[&problem], &Merged::default())
        };
        let next = found("cannot read the file: it is UTF-16, as some editors save text; save it as UTF-8").unwrap();
        assert!(next.starts_with("iconv -f UTF-16 -t UTF-8 "), "{next}");
        assert!(found("cannot read the file: it is not UTF-8: invalid").unwrap().contains("-f WINDOWS-1252 "));
        assert_eq!(found("cannot read the file: Input/output error"), None);
    }

    #[test]
    fn link_that_leads_nowhere_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.toml");
        std::os::unix::fs::symlink("/nowhere/x", &path).unwrap();
        let problem = Problem { origin: Origin::File(path.clone(), 1), message: "it leads nowhere".into() };
        assert_eq!(command(&subject(), &[&problem], &Merged::default()), None);
        std::fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("config.toml", &path).unwrap();
        assert!(command(&subject(), &[&problem], &Merged::default()).unwrap().starts_with("rm "));
    }
}
