//! Files and directories, changed so that a crash leaves the old or the new, never half of one.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};

use super::interrupt;
use daemon::guarded::Guard;

/// Writes a file beside its place, syncs it and renames it into place.
///
/// # Errors
/// Any of the steps'; the old file is then untouched.
pub fn write(path: &Path, content: &str, mode: u32) -> io::Result<()> {
    let dir = path.parent().ok_or_else(|| io::Error::other("a path without a directory"))?;
    let mut file = tempfile::Builder::new().prefix(".mpm-monitor-").tempfile_in(dir)?;
    file.write_all(content.as_bytes())?;
    file.as_file().set_permissions(fs::Permissions::from_mode(mode))?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|e| e.error)?;
    File::open(dir)?.sync_all()
}

/// The text of a file that people or packages write; `None` if there is none.
///
/// # Errors
/// Anything but its absence.
pub fn read(path: &Path) -> io::Result<Option<String>> {
    Guard::WRITTEN.text(path)
}

/// A directory and those above it that are not there, outermost first.
pub fn missing(dir: &Path) -> Vec<PathBuf> {
    let mut missing: Vec<_> = dir.ancestors().take_while(|d| !d.exists()).map(Path::to_owned).collect();
    missing.reverse();
    missing
}

/// Makes one directory; that it is there already is no error.
///
/// # Errors
/// Any other.
pub fn make_dir(path: &Path, mode: u32) -> io::Result<()> {
    match fs::DirBuilder::new().mode(mode).create(path) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        other => other,
    }
}

/// Removes a directory if it is there and empty; whether it is gone.
pub fn remove_if_empty(path: &Path) -> bool {
    fs::remove_dir(path).is_ok() || !path.exists()
}

/// The right to change what is installed in one scope: held by one process at a time.
///
/// The lock is on the receipts' directory itself, so that no lock file has to outlive the last uninstall.
#[derive(Debug)]
pub struct Lock {
    _dir: File,
    /// The directories that had to be made for it, outermost first.
    pub made: Vec<PathBuf>,
}

impl Lock {
    /// Waits for the lock on `dir`, making the directory if need be.
    ///
    /// # Errors
    /// When the directory cannot be made or opened, another process keeps the lock for all of `wait`, or a signal comes.
    pub fn acquire(dir: &Path, wait: Duration) -> io::Result<Self> {
        let named = |e: io::Error| io::Error::new(e.kind(), format!("cannot lock {}: {e}", dir.display()));
        Self::wait_for(dir, wait).map_err(named)
    }

    fn wait_for(dir: &Path, wait: Duration) -> io::Result<Self> {
        let deadline = Instant::now() + wait;
        let mut made = Vec::new();
        loop {
            for path in missing(dir) {
                // Made by a neighbour in the meantime is as good, but then the neighbour's to remember.
                let mode = if path == dir { PRIVATE } else { 0o755 };
                match fs::DirBuilder::new().mode(mode).create(&path) {
                    Ok(()) if !made.contains(&path) => made.push(path),
                    Ok(()) => {}
                    Err(e) if matches!(e.kind(), io::ErrorKind::AlreadyExists | io::ErrorKind::NotFound) => {}
                    Err(e) => return Err(e),
                }
            }
            match File::open(dir) {
                Ok(file) => {
                    close_to_others(&file)?;
                    if flock(file.as_fd(), FlockOperation::NonBlockingLockExclusive).is_ok() && is_at(&file, dir) {
                        return Ok(Self { _dir: file, made });
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(e),
            }
            if interrupt::caught().is_some() {
                return Err(io::Error::new(io::ErrorKind::Interrupted, "a signal came first"));
            }
            if Instant::now() >= deadline {
                return Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    "another mpm-monitor is installing or uninstalling; try again when it is done",
                ));
            }
            // flock(2) has no deadline of its own.
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// The mode of a directory that is locked: whoever may open it can lock it, and keep everybody else waiting.
const PRIVATE: u32 = 0o700;

/// Takes the directory from others, which an earlier version let open it.
fn close_to_others(dir: &File) -> io::Result<()> {
    let meta = dir.metadata()?;
    let is_ours = meta.uid() == rustix::process::geteuid().as_raw();
    if is_ours && meta.mode() & 0o077 != 0 {
        dir.set_permissions(fs::Permissions::from_mode(PRIVATE))?;
    }
    Ok(())
}

/// Whether the path still names the open file: the last uninstall removes the directory while it holds the lock.
fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), fs::metadata(path)) {
        (Ok(a), Ok(b)) => a.ino() == b.ino() && a.dev() == b.dev(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_replaces_and_sets_the_mode() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("unit");
        assert_eq!(read(&path).unwrap(), None);
        write(&path, "one", 0o644).unwrap();
        write(&path, "two", 0o600).unwrap();
        assert_eq!(read(&path).unwrap().as_deref(), Some("two"));
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no temporary file stays");
    }

    #[test]
    fn missing_directories_come_outermost_first() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("a"), dir.path().join("a/b"));
        assert_eq!(missing(&b), [a.clone(), b.clone()]);
        make_dir(&a, 0o755).unwrap();
        make_dir(&a, 0o755).unwrap();
        assert_eq!(missing(&b), [b]);
    }

    #[test]
    fn one_holder_at_a_time_and_a_removed_directory_is_no_lock() {
        let dir = tempfile::tempdir().unwrap();
        let receipts = dir.path().join("state/receipts");
        let lock = Lock::acquire(&receipts, Duration::ZERO).unwrap();
        assert_eq!(lock.made, [dir.path().join("state"), receipts.clone()]);
        assert_eq!(fs::metadata(&receipts).unwrap().mode() & 0o777, 0o700, "nobody else can open it, and so lock it");
        assert_eq!(Lock::acquire(&receipts, Duration::ZERO).unwrap_err().kind(), io::ErrorKind::TimedOut);
        fs::remove_dir(&receipts).unwrap();
        let second = Lock::acquire(&receipts, Duration::ZERO).unwrap();
        assert_eq!(second.made, [receipts]);
        drop(lock);
    }
}
