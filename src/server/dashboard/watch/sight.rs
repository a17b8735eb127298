//! A look at all files of a dashboard's folders, boiled down to one number.

use std::fs::{self, Metadata};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// More files than any build of a page has. Looking at more every two seconds would cost what nobody expects.
const MOST: usize = 50_000;

/// What is there. Two that are equal are of the same files with the same contents, as far as their times tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sight {
    /// The sum over all files: their names, numbers, sizes and times.
    sum: u64,
    /// Whether the page itself is there.
    pub is_whole: bool,
}

/// Looks at these folders, whichever way their names lead there; the first one is that of the page. Ends early, with any
/// result, when it is told to `stop`. Blocks.
///
/// # Errors
/// One sentence, where a folder is not there or cannot be looked at.
pub fn look(folders: &[PathBuf], stop: impl Fn() -> bool) -> Result<Sight, String> {
    look_at_most(MOST, folders, stop)
}

fn look_at_most(most: usize, folders: &[PathBuf], stop: impl Fn() -> bool) -> Result<Sight, String> {
    let (mut sum, mut left) = (0_u64, most);
    let absent = |error: io::Error| format!("the dashboard's folder is not there ({error}); it is looked for again");
    let mut todo: Vec<PathBuf> = Vec::new();
    for folder in folders {
        // What the names of links lead to: another folder is another number.
        let meta = fs::metadata(folder).map_err(absent)?;
        if !meta.is_dir() {
            return Err(absent(io::ErrorKind::NotADirectory.into()));
        }
        sum = sum.wrapping_add(number(folder, &meta));
        todo.push(folder.clone());
    }
    while let Some(dir) = todo.pop() {
        let entries = match fs::read_dir(&dir) {
            Ok(entries) => entries,
            // Gone since it was listed: the next look finds out.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => {
                return Err(format!("cannot watch {}: {error}; its pages are served all the same", dir.display()));
            }
        };
        for entry in entries.flatten() {
            let path = entry.path();
            if is_scratch(&path) {
                continue;
            }
            // Nothing is served through a link that leads out of the folder, so a link counts by itself.
            let Ok(meta) = fs::symlink_metadata(&path) else { continue };
            if left == 0 || stop() {
                return Err(format!(
                    "more than {most} files are in {}, too many to look for changes; name the folder of the build alone, or \
                     set dashboard.watch = off",
                    folders.first().unwrap_or(&dir).display()
                ));
            }
            left -= 1;
            sum = sum.wrapping_add(number(&path, &meta));
            if meta.is_dir() {
                todo.push(path);
            }
        }
    }
    let is_whole = folders.first().is_some_and(|page| page.join("index.html").is_file());
    Ok(Sight { sum, is_whole })
}

/// One number for what is at a path. A folder is its own, whatever is in it: that is counted by itself, and files that do not
/// count would change its time. Reading changes none of these.
fn number(path: &Path, meta: &Metadata) -> u64 {
    let mut hasher = DefaultHasher::new();
    (path, meta.dev(), meta.ino(), meta.mode()).hash(&mut hasher);
    if !meta.is_dir() {
        (meta.len(), meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec()).hash(&mut hasher);
    }
    hasher.finish()
}

/// What editors and build tools leave for a moment: `.tmp`, `.swp` and names with a `~` at their end, as in the original.
fn is_scratch(path: &Path) -> bool {
    let name = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    [".tmp", ".swp", "~"].iter().any(|end| name.ends_with(end))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn seen(folder: &Path) -> Sight {
        look(&[folder.to_owned()], || false).unwrap()
    }

    #[test]
    fn every_change_is_another_sight_and_reading_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let (one, link) = (dir.path().join("one"), dir.path().join("link"));
        fs::create_dir_all(one.join("sub")).unwrap();
        fs::create_dir(dir.path().join("two")).unwrap();
        fs::write(one.join("sub/x"), "x").unwrap();
        symlink("one", &link).unwrap();
        let mut before = seen(&link);
        assert!(!before.is_whole);
        let mut is_other = |what: &str, expected: bool| {
            let now = seen(&link);
            assert_eq!(now != before, expected, "{what}");
            before = now;
        };
        is_other("nothing", false);
        fs::read(one.join("sub/x")).unwrap();
        is_other("reading", false);
        fs::write(one.join("sub/x~"), "x").unwrap();
        fs::write(one.join("y.tmp"), "x").unwrap();
        is_other("scratch files", false);
        fs::rename(one.join("y.tmp"), one.join("y")).unwrap();
        is_other("a scratch file that became a file", true);
        fs::write(one.join("sub/x"), "xx").unwrap();
        is_other("a file that was written", true);
        fs::create_dir(one.join("sub/deep")).unwrap();
        is_other("a folder", true);
        fs::rename(one.join("sub/x"), one.join("sub/z")).unwrap();
        is_other("another name", true);
        fs::remove_file(one.join("sub/z")).unwrap();
        is_other("a file that was removed", true);
        fs::remove_file(&link).unwrap();
        symlink("two", &link).unwrap();
        is_other("a link that leads elsewhere", true);
        fs::write(link.join("index.html"), "").unwrap();
        assert!(seen(&link).is_whole);
    }

    #[test]
    fn what_cannot_be_looked_at_is_one_sentence() {
        let dir = tempfile::tempdir().unwrap();
        symlink("ring", dir.path().join("ring")).unwrap();
        fs::write(dir.path().join("file"), "").unwrap();
        for name in ["ring", "file", "none"] {
            let error = look(&[dir.path().join(name)], || false).unwrap_err();
            assert!(error.contains("is not there"), "{name}: {error}");
        }
        let all = [dir.path().to_owned()];
        assert!(look_at_most(2, &all, || false).is_ok());
        let error = look_at_most(1, &all, || false).unwrap_err();
        assert!(error.contains("dashboard.watch = off"), "{error}");
        assert!(look(&all, || true).is_err(), "it ends when it is told to");
    }
}
