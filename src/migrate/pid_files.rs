//! The PID files of Claude MPM, for its own `claude-mpm monitor status` and `stop`, which look at nothing else. They are written
//! for others and decide nothing here: whether an instance runs is what its lock says.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, fchmod, fstat, mkdirat, openat, renameat, unlinkat};
use rustix::io::Errno;

/// The folder within a project that Claude MPM keeps its own things in.
const FOLDER: &str = ".claude-mpm";
/// More than any process id has, bytes.
const LONGEST: u64 = 32;
/// How long all of them may take.
const DEADLINE: Duration = Duration::from_secs(2);

/// A PID file that cannot be kept.
#[derive(Debug, thiserror::Error)]
#[error("{}: {source}", path.display())]
pub struct PidFileError {
    /// It.
    pub path: PathBuf,
    /// What the system says.
    pub source: io::Error,
}

impl PidFileError {
    /// A name that stays the same over versions.
    pub const fn code(&self) -> &'static str {
        "pid_file"
    }
}

/// The PID files of one process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PidFiles {
    projects: Vec<PathBuf>,
    name: String,
    pid: String,
}

impl PidFiles {
    /// Those in these projects, for the process `pid` that serves `port`; nothing is written yet.
    pub fn new(projects: &[PathBuf], port: u16, pid: u32) -> Self {
        Self { projects: projects.to_vec(), name: format!("monitor-daemon-{port}.pid"), pid: pid.to_string() }
    }

    /// Whether there are any.
    pub fn is_empty(&self) -> bool {
        self.projects.is_empty()
    }

    /// Writes all of them, over whatever an earlier process left. Blocks.
    ///
    /// # Errors
    /// One for each that cannot be written.
    pub fn write(&self) -> Result<(), Vec<PidFileError>> {
        self.each(|project| {
            let folder = folder(project, true)?;
            // Under another name first, so that nobody reads half of it; the new name replaces a link, too, and does not
            // follow it.
            let new = format!("{}.{}.new", self.name, self.pid);
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let mut file = File::from(openat(&folder, &*new, flags, Mode::from_raw_mode(0o644))?);
            let written = file
                .write_all(self.pid.as_bytes())
                // Whatever the service's umask: it is for other programs to read.
                .and_then(|()| Ok(fchmod(&file, Mode::from_raw_mode(0o644))?))
                .and_then(|()| Ok(renameat(&folder, &*new, &folder, &*self.name)?));
            if written.is_err() {
                let _ = unlinkat(&folder, &*new, AtFlags::empty());
            }
            written
        })
    }

    /// Removes those that still name this process. Blocks.
    ///
    /// # Errors
    /// One for each that is ours and cannot be removed.
    pub fn remove(&self) -> Result<(), Vec<PidFileError>> {
        self.each(|project| {
            let folder = match folder(project, false) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
                opened => opened?,
            };
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let file = match openat(&folder, &*self.name, flags, Mode::empty()) {
                Ok(file) => File::from(file),
                // Gone already, or a link that somebody put there: not ours.
                Err(Errno::NOENT | Errno::LOOP) => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            let mut said = String::new();
            let is_file = FileType::from_raw_mode(fstat(&file)?.st_mode) == FileType::RegularFile;
            if is_file && file.take(LONGEST).read_to_string(&mut said).is_ok() && said == self.pid {
                unlinkat(&folder, &*self.name, AtFlags::empty())?;
            }
            Ok(())
        })
    }

    /// Writes or removes them off the runtime's thread and for a bounded time, as a project may lie on a network's disk.
    ///
    /// # Errors
    /// What went wrong, in a sentence.
    pub async fn in_time(&self, act: fn(&Self) -> Result<(), Vec<PidFileError>>) -> Result<(), String> {
        let files = self.clone();
        match tokio::time::timeout(DEADLINE, tokio::task::spawn_blocking(move || act(&files))).await {
            Ok(Ok(Ok(()))) => Ok(()),
            Ok(Ok(Err(errors))) => Err(errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("the PID files in time".to_owned()),
        }
    }

    fn each(&self, act: impl Fn(&Path) -> io::Result<()>) -> Result<(), Vec<PidFileError>> {
        let failed = |project: &PathBuf| {
            let path = project.join(FOLDER).join(&self.name);
            act(project).err().map(|source| PidFileError { path, source })
        };
        let errors: Vec<_> = self.projects.iter().filter_map(failed).collect();
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }
}

/// The folder in a project, made if need be; a link in its place is refused.
fn folder(project: &Path, make: bool) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let project = openat(CWD, project, flags, Mode::empty())?;
    let open = || openat(&project, FOLDER, flags | OFlags::NOFOLLOW, Mode::empty());
    match open() {
        Err(Errno::NOENT) if make => {
            mkdirat(&project, FOLDER, Mode::from_raw_mode(0o755))?;
            let made = open()?;
            // Whatever the service's umask: the project's other users look into it, too.
            fchmod(&made, Mode::from_raw_mode(0o755))?;
            Ok(made)
        }
        opened => Ok(opened?),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn mode(path: &Path) -> u32 {
        path.symlink_metadata().unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn the_file_has_the_digits_alone_and_goes_with_the_process() {
        let dir = tempfile::tempdir().unwrap();
        let files = PidFiles::new(&[dir.path().into()], 8765, 4711);
        files.write().unwrap();
        let path = dir.path().join(".claude-mpm/monitor-daemon-8765.pid");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "4711");
        assert_eq!((mode(&dir.path().join(".claude-mpm")), mode(&path)), (0o755, 0o644));
        // What a killed process left is replaced.
        let next = PidFiles::new(&[dir.path().into()], 8765, 4712);
        next.write().unwrap();
        files.remove().unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "4712", "it names another process by now");
        next.remove().unwrap();
        next.remove().unwrap();
        assert_eq!(std::fs::read_dir(dir.path().join(".claude-mpm")).unwrap().count(), 0);
    }

    #[test]
    fn links_are_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two, outside) = (dir.path().join("one"), dir.path().join("two"), dir.path().join("outside"));
        for made in [&one.join(".claude-mpm"), &two, &outside] {
            std::fs::create_dir_all(made).unwrap();
        }
        std::fs::write(outside.join("precious"), "7").unwrap();
        let path = one.join(".claude-mpm/monitor-daemon-8765.pid");
        symlink(outside.join("precious"), &path).unwrap();
        symlink(&outside, two.join(".claude-mpm")).unwrap();
        let files = PidFiles::new(&[two, one.clone()], 8765, 7);
        files.remove().unwrap_err();
        assert!(path.is_symlink(), "a link that reads like ours is none of ours");
        let errors = files.write().unwrap_err();
        assert_eq!((errors.len(), errors[0].code()), (1, "pid_file"));
        assert!(errors[0].to_string().contains("two/.claude-mpm/monitor-daemon-8765.pid: "), "{}", errors[0]);
        assert!(!path.is_symlink() && std::fs::read_to_string(&path).unwrap() == "7");
        assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 1);
        assert_eq!(std::fs::read_to_string(outside.join("precious")).unwrap(), "7");
    }
}
