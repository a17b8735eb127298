//! Rules of tmpfiles.d(5), by which a boot or the daily cleaning of the machine removes files, as far as they reach ours.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::Subject;
use super::merged::Line;
use service::{Kind, files};

/// Where the rules are; a file hides one of its name in a later folder.
const FOLDERS: [&str; 3] = ["/etc/tmpfiles.d", "/run/tmpfiles.d", "/usr/lib/tmpfiles.d"];

/// The lines that remove what is in a folder.
pub fn look(subject: &Subject, dir: &Path) -> Vec<Line> {
    if subject.paths.kind != Kind::Systemd {
        return Vec::new();
    }
    let mut all: BTreeMap<std::ffi::OsString, PathBuf> = BTreeMap::new();
    for path in FOLDERS.iter().flat_map(|f| std::fs::read_dir(f).into_iter().flatten().flatten()).map(|e| e.path()) {
        if let Some(name) = path.file_name().filter(|_| path.extension().is_some_and(|x| x == "conf")) {
            all.entry(name.to_owned()).or_insert(path);
        }
    }
    all.values().flat_map(|path| lines(path, &files::read(path).ok().flatten().unwrap_or_default(), dir)).collect()
}

/// The lines of one file that remove what is in a folder.
fn lines(file: &Path, text: &str, dir: &Path) -> Vec<Line> {
    let one = |(at, line): (usize, &str)| {
        let line = line.trim();
        let (key, value) = line.split_once(char::is_whitespace).filter(|_| !line.starts_with('#'))?;
        let mut words = value.split_whitespace();
        let (path, age) = (words.next()?.trim_matches('"').trim_end_matches(['*', '/']), words.nth(3));
        let removes = match key.chars().next()? {
            'R' | 'D' => true,
            'd' | 'e' | 'v' | 'q' | 'Q' => age.is_some_and(|age| age != "-"),
            _ => false,
        };
        let is_ours = path.len() > 1 && dir.starts_with(path);
        let line = Line { file: file.to_owned(), first: at + 1, last: at + 1, key: key.into(), value: value.into() };
        (removes && is_ours).then_some(line)
    };
    text.lines().enumerate().filter_map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_that_reach_the_folder_are_found() {
        let text = "# D /var/lib/mpm-monitor\nD! /var/lib/mpm-monitor 0755 root root -\nd /var/lib 0755 root root -\n\
R /var/lib/mpm-monitor/*\nD /var/lib/other 0755 root root -\ne /var/lib/mpm-monitor - - - 7d\nx /var/lib/mpm-monitor\n\
D / 0755 root root -\n";
        let found = lines(Path::new("/t.conf"), text, Path::new("/var/lib/mpm-monitor/8765"));
        assert_eq!(found.iter().map(|l| l.first).collect::<Vec<_>>(), [2, 4, 6]);
        assert_eq!(found[0].key, "D!");
    }
}
