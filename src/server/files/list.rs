//! What is in a folder. Blocks.

use std::path::Path;
use std::time::UNIX_EPOCH;

use cap_std::fs::{Dir, Metadata};
use serde::Serialize;

use super::error::FileError;
use super::read;
use super::roots::{Opened, Roots};

/// The most entries of an answer.
pub const SHOWN: usize = 5000;
/// The most entries that are looked at.
const SEEN: usize = 200_000;

/// One of them, in the shape of the original.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Entry {
    name: String,
    path: String,
    #[serde(rename = "type")]
    kind: &'static str,
    size: u64,
    modified: f64,
    extension: Option<String>,
}

/// A folder's entries.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Listing {
    /// Folders, by name.
    pub directories: Vec<Entry>,
    /// Files, by name.
    pub files: Vec<Entry>,
    /// How many folders there are.
    pub total_directories: usize,
    /// How many files there are.
    pub total_files: usize,
    /// Whether some are left out.
    pub truncated: bool,
}

/// What is never shown: what tools make, not people. The original's list.
fn is_made(name: &str) -> bool {
    const MADE: [&str; 19] = [
        ".git",
        "node_modules",
        "__pycache__",
        ".svelte-kit",
        "venv",
        ".venv",
        "dist",
        "build",
        ".next",
        ".cache",
        ".pytest_cache",
        ".mypy_cache",
        ".ruff_cache",
        "eggs",
        ".tox",
        ".nox",
        "htmlcov",
        ".coverage",
        ".eggs",
    ];
    MADE.contains(&name) || name.ends_with(".egg-info")
}

/// Lists a folder, which the client calls `shown`. What is secret, or a link out of the root, is not in it.
///
/// # Errors
/// What the system says.
pub fn list(roots: &Roots, folder: &Opened<Dir>, shown: &Path) -> Result<Listing, FileError> {
    let mut found: [Vec<String>; 2] = Default::default();
    let mut listing = Listing::default();
    let is_secret = roots.secrets_of(&folder.real);
    for (number, entry) in folder.it.entries()?.enumerate() {
        if number == SEEN {
            listing.truncated = true;
            break;
        }
        let entry = entry?;
        // A name that is no UTF-8 could not be asked for.
        let Ok(name) = entry.file_name().into_string() else { continue };
        if is_made(&name) || is_secret(&name) {
            continue;
        }
        let is_directory = match entry.file_type() {
            // It has gone meanwhile.
            Err(_) => continue,
            Ok(kind) if kind.is_dir() => true,
            Ok(kind) if kind.is_symlink() => match follow(roots, folder, &name) {
                Some(is) => is.is_dir(),
                None => continue,
            },
            Ok(_) => false,
        };
        found[usize::from(!is_directory)].push(name);
    }
    let [directories, files] = &mut found;
    (listing.total_directories, listing.total_files) = (directories.len(), files.len());
    let mut room = SHOWN;
    for (names, kind) in [(directories, "directory"), (files, "file")] {
        names.sort_by_cached_key(|name| (name.to_lowercase(), name.clone()));
        listing.truncated |= names.len() > room;
        names.truncate(room);
        room -= names.len();
        let entries = names.iter().filter_map(|name| entry(roots, folder, shown, name, kind)).collect();
        if kind == "file" { listing.files = entries } else { listing.directories = entries }
    }
    Ok(listing)
}

/// What a link leads to; `None` for one that leads out, to a secret, or nowhere.
fn follow(roots: &Roots, folder: &Opened<Dir>, name: &str) -> Option<Metadata> {
    let (real, is) = folder.follow(name)?;
    (!roots.is_secret(&real)).then_some(is)
}

/// `None` for one that has gone meanwhile.
fn entry(roots: &Roots, folder: &Opened<Dir>, shown: &Path, name: &str, kind: &'static str) -> Option<Entry> {
    let mut is = folder.it.symlink_metadata(name).ok()?;
    if is.is_symlink() {
        is = follow(roots, folder, name)?;
    }
    let modified = is.modified().ok()?.into_std();
    let modified = match modified.duration_since(UNIX_EPOCH) {
        Ok(after) => after.as_secs_f64(),
        Err(before) => -before.duration().as_secs_f64(),
    };
    let is_file = kind == "file";
    Some(Entry {
        path: shown.join(name).to_string_lossy().into_owned(),
        kind,
        size: if is_file && is.is_file() { is.len() } else { 0 },
        modified,
        extension: is_file.then(|| read::extension(Path::new(name))),
        name: name.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::super::asked::Asked;
    use super::super::rules::Rules;
    use super::*;
    use crate::server::files::places::Sessions;

    #[test]
    fn folders_come_first_by_name_and_what_may_not_be_seen_is_not_there() {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().join("top");
        for folder in ["b", "A", ".git", "node_modules", ".ssh", "x.egg-info", ".claude"] {
            std::fs::create_dir_all(top.join(folder)).unwrap();
        }
        for file in ["z.txt", "B.TXT", "a", ".bashrc", ".env"] {
            std::fs::write(top.join(file), "12345").unwrap();
        }
        std::fs::write(dir.path().join("outside"), "secret").unwrap();
        symlink("../outside", top.join("out")).unwrap();
        symlink("z.txt", top.join("in")).unwrap();
        symlink("nothing", top.join("broken")).unwrap();
        symlink("b", top.join("c")).unwrap();
        symlink(".env", top.join("env")).unwrap();
        symlink("../z.txt", top.join("b/up.txt")).unwrap();
        let rules = Rules {
            enabled: true,
            other_users: false,
            home: false,
            sessions: false,
            roots: vec![top.clone()],
            deny: vec![".ssh".into(), ".env".into()],
            max_size: 100,
            git: None,
        };
        let roots = Roots::new(rules, None, &[], Sessions::default());
        let opened = roots.directory(&Asked::read(top.to_str().unwrap(), None).unwrap()).unwrap();
        let listing = list(&roots, &opened, &top).unwrap();
        let names = |entries: &[Entry]| entries.iter().map(|e| e.name.clone()).collect::<Vec<_>>().join(" ");
        assert_eq!(names(&listing.directories), ".claude A b c");
        assert_eq!(names(&listing.files), ".bashrc a B.TXT in z.txt");
        assert_eq!((listing.total_directories, listing.total_files, listing.truncated), (4, 5, false));
        let last = listing.files.last().unwrap();
        assert_eq!((last.size, last.extension.as_deref()), (5, Some("txt")));
        let below = roots.directory(&Asked::read(top.join("b").to_str().unwrap(), None).unwrap()).unwrap();
        assert_eq!(names(&list(&roots, &below, &top.join("b")).unwrap().files), "up.txt", "a link within the root");
        assert!(listing.directories.iter().all(|d| d.size == 0 && d.extension.is_none()));
    }
}
