//! Puts a new program in the place of another, so that at every moment there is a whole one, and keeps the old one beside it.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt, fchown};
use std::path::{Path, PathBuf};

use tempfile::TempPath;

/// What the names of unfinished files begin with.
const UNFINISHED: &str = ".mpm-monitor-upgrade-";

/// A whole copy of the new program beside the old one, not in place yet; dropped, it is removed.
#[derive(Debug)]
pub struct Staged {
    file: TempPath,
    target: PathBuf,
}

/// Where the old program is kept.
pub fn previous(target: &Path) -> PathBuf {
    let mut name = OsString::from(target);
    name.push(".previous");
    name.into()
}

/// Copies `from` beside `target`, with the mode and owner that `target` has, down to the disk. What an upgrade that was killed
/// left there is removed first.
///
/// # Errors
/// Any of the steps': no space, no permission; `target` is untouched.
pub fn stage(from: &Path, target: &Path) -> io::Result<Staged> {
    let dir = parent(target)?;
    clear(dir);
    let old = fs::metadata(target)?;
    let mut new = tempfile::Builder::new().prefix(UNFINISHED).tempfile_in(dir)?;
    io::copy(&mut File::open(from)?, new.as_file_mut())?;
    let made = new.as_file().metadata()?;
    if (made.uid(), made.gid()) != (old.uid(), old.gid()) {
        match fchown(new.as_file(), Some(old.uid()), Some(old.gid())) {
            // A user's own program may be of a group that the user may not give.
            Err(e) if e.raw_os_error() == Some(1) && made.uid() == old.uid() => {}
            other => other?,
        }
    }
    new.as_file().set_permissions(old.permissions())?;
    new.as_file().sync_all()?;
    // Closed: the kernel runs nothing that is open for writing.
    Ok(Staged { file: new.into_temp_path(), target: target.to_owned() })
}

impl Staged {
    /// Where it is for now.
    pub fn path(&self) -> &Path {
        &self.file
    }

    /// Keeps the old program, then puts this one in its place.
    ///
    /// # Errors
    /// Any of the steps'; the old one is then in place.
    pub fn commit(self) -> io::Result<()> {
        put(&self.target, &previous(&self.target))?;
        self.file.persist(&self.target).map_err(|e| e.error)?;
        File::open(parent(&self.target)?)?.sync_all()
    }
}

/// Puts the kept program back in its place; it stays beside it as well.
///
/// # Errors
/// Any of the steps'.
pub fn restore(target: &Path) -> io::Result<()> {
    put(&previous(target), target)
}

/// Gives the file `from` the name `to` as well, whatever had it.
fn put(from: &Path, to: &Path) -> io::Result<()> {
    let dir = parent(to)?;
    let new = tempfile::Builder::new().prefix(UNFINISHED).make_in(dir, |path| match fs::hard_link(from, path) {
        // File systems without links, and links to what is another's.
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {
            fs::copy(from, path)?;
            File::open(path)?.sync_all()
        }
        linked => linked,
    })?;
    let (_, path) = new.into_parts();
    // Two names of one file: the rename does nothing, and the first name stays.
    let is_one =
        matches!((fs::metadata(&path), fs::metadata(to)), (Ok(a), Ok(b)) if (a.dev(), a.ino()) == (b.dev(), b.ino()));
    if !is_one {
        path.persist(to).map_err(|e| e.error)?;
    }
    File::open(dir)?.sync_all()
}

fn parent(path: &Path) -> io::Result<&Path> {
    path.parent().ok_or_else(|| io::Error::other("a path without a directory"))
}

fn clear(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
            // What stays is litter, not harm.
            let _ = fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn names(dir: &Path) -> Vec<String> {
        let mut all: Vec<String> =
            fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect();
        all.sort();
        all
    }

    #[test]
    fn the_old_one_is_kept_and_comes_back() {
        let (dir, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (target, from) = (dir.path().join("p"), there.path().join("new"));
        fs::write(&target, "old").unwrap();
        fs::set_permissions(&target, PermissionsExt::from_mode(0o750)).unwrap();
        fs::write(&from, "new").unwrap();
        fs::write(dir.path().join(format!("{UNFINISHED}left")), "by a killed one").unwrap();
        let read = |path: &Path| fs::read_to_string(path).unwrap();
        let staged = stage(&from, &target).unwrap();
        assert_eq!((read(staged.path()).as_str(), read(&target).as_str()), ("new", "old"));
        staged.commit().unwrap();
        assert_eq!((read(&target).as_str(), read(&previous(&target)).as_str()), ("new", "old"));
        assert_eq!(fs::metadata(&target).unwrap().mode() & 0o7777, 0o750);
        assert_eq!(names(dir.path()), ["p", "p.previous"]);
        restore(&target).unwrap();
        restore(&target).unwrap();
        assert_eq!((read(&target).as_str(), read(&previous(&target)).as_str()), ("old", "old"));
        assert_eq!(names(dir.path()), ["p", "p.previous"]);
        // And on: what was kept before goes.
        stage(&from, &target).unwrap().commit().unwrap();
        stage(&from, &target).unwrap().commit().unwrap();
        assert_eq!(read(&previous(&target)), "new");
        assert_eq!(names(dir.path()), ["p", "p.previous"]);
    }

    #[test]
    fn a_copy_that_fails_leaves_nothing_and_the_old_one_in_place() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("p");
        fs::write(&target, "old").unwrap();
        assert!(stage(&dir.path().join("none"), &target).is_err());
        assert!(stage(dir.path(), &target).is_err(), "a directory");
        drop(stage(&target, &target).unwrap());
        assert_eq!(names(dir.path()), ["p"]);
    }
}
