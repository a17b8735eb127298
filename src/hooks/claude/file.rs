//! A settings file on the disk: found behind links, read, and replaced whole or not at all.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The largest settings file that is read.
const LARGEST: u64 = 16 << 20;
/// How many links may lead to it.
const LINKS: usize = 40;
/// The mode of a file that is made.
const NEW: u32 = 0o600;

/// Why a settings file was not read or written.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It is something else.
    #[error("{} is {what}, which is no settings file", path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// Somebody decided that it must not change.
    #[error("{} is read-only, and left alone; chmod u+w it, or choose another with --project DIR --local", path.display())]
    ReadOnly {
        /// The file.
        path: PathBuf,
    },
    /// It was changed while we were at it.
    #[error("{} was changed by another program in this moment; nothing was written, run it again", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// It cannot be written.
    #[error("cannot write {}: {source}; nothing was changed", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

impl FileError {
    /// A name for programs that never changes.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Read { .. } => "settings_unreadable",
            Self::NotAFile { .. } => "settings_no_file",
            Self::ReadOnly { .. } => "settings_read_only",
            Self::Changed { .. } => "settings_changed",
            Self::Write { .. } => "settings_unwritable",
        }
    }
}

/// A settings file as it was at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The path as it was given.
    pub path: PathBuf,
    /// The file itself, behind links.
    pub real: PathBuf,
    /// Its text; nothing if there is none.
    pub text: Option<String>,
    /// Whether it is a project's.
    pub is_projects: bool,
}

impl Settings {
    /// Reads the file; that there is none is no error.
    ///
    /// # Errors
    /// [`FileError::Read`], [`FileError::NotAFile`].
    pub fn read(path: &Path) -> Result<Self, FileError> {
        let failed = |source| FileError::Read { path: path.to_owned(), source };
        let real = behind_links(path).map_err(failed)?;
        let text = match fs::metadata(&real) {
            Ok(meta) if meta.is_dir() => return Err(FileError::NotAFile { path: real, what: "a folder" }),
            Ok(meta) if !meta.is_file() => return Err(FileError::NotAFile { path: real, what: "a pipe or device" }),
            Ok(meta) if meta.len() > LARGEST => {
                return Err(FileError::NotAFile { path: real, what: "larger than 16 MiB" });
            }
            Ok(_) => Some(fs::read_to_string(&real).map_err(failed)?),
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound) => None,
            Err(e) => return Err(failed(e)),
        };
        Ok(Self { path: path.to_owned(), real, text, is_projects: false })
    }

    /// Reads a file of a project, which comes from others: neither it nor its folder may be a link, which could lead to any
    /// file of whoever reads or changes it.
    ///
    /// # Errors
    /// As [`Settings::read`].
    pub fn read_in_project(path: &Path) -> Result<Self, FileError> {
        for part in [path.parent(), Some(path)].into_iter().flatten() {
            if fs::symlink_metadata(part).is_ok_and(|meta| meta.file_type().is_symlink()) {
                return Err(FileError::NotAFile { path: part.to_owned(), what: "a link in a project" });
            }
        }
        Ok(Self { is_projects: true, ..Self::read(path)? })
    }

    /// Whether it may be replaced.
    ///
    /// # Errors
    /// [`FileError::ReadOnly`].
    pub fn may_write(&self) -> Result<(), FileError> {
        let Ok(meta) = fs::metadata(&self.real) else { return Ok(()) };
        // Root may write everything, but a mode without any w is meant as it stands.
        let closed = meta.mode() & 0o222 == 0 || rustix::fs::access(&self.real, rustix::fs::Access::WRITE_OK).is_err();
        if closed { Err(FileError::ReadOnly { path: self.real.clone() }) } else { Ok(()) }
    }

    /// Puts `new` in the place of the file if it still is as it was read, keeping its mode and the links to it; makes the
    /// folder where it is missing, and gives back the folders made, outermost first.
    ///
    /// # Errors
    /// [`FileError`]; the file is then untouched.
    pub fn replace(&self, new: &str) -> Result<Vec<PathBuf>, FileError> {
        self.may_write()?;
        let failed = |source| FileError::Write { path: self.real.clone(), source };
        let dir = self.real.parent().ok_or_else(|| failed(io::Error::other("it has no folder")))?;
        let made = service::files::missing(dir);
        fs::create_dir_all(dir).map_err(failed)?;
        let mut file = tempfile::Builder::new().prefix(".mpm-monitor-").tempfile_in(dir).map_err(failed)?;
        file.write_all(new.as_bytes()).map_err(failed)?;
        let (mode, owner) =
            fs::metadata(&self.real).map_or((NEW, None), |m| (m.mode() & 0o7777, Some((m.uid(), m.gid()))));
        if let Some((uid, gid)) = owner {
            // For root, who edits the file of another; everybody else owns what they may replace, or a group has to do.
            let _ = std::os::unix::fs::fchown(file.as_file(), Some(uid), Some(gid));
        }
        file.as_file().set_permissions(std::os::unix::fs::PermissionsExt::from_mode(mode)).map_err(failed)?;
        file.as_file().sync_all().map_err(failed)?;
        self.unchanged()?;
        if self.text.is_none() {
            // Not even in the last moment is a file of somebody else's replaced.
            file.persist_noclobber(&self.real).map_err(|e| match e.error.kind() {
                io::ErrorKind::AlreadyExists => FileError::Changed { path: self.real.clone() },
                _ => failed(e.error),
            })?;
        } else {
            file.persist(&self.real).map_err(|e| failed(e.error))?;
        }
        let _ = File::open(dir).and_then(|dir| dir.sync_all());
        Ok(made)
    }

    /// Removes the file if it still is as it was read.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn remove(&self) -> Result<(), FileError> {
        self.may_write()?;
        self.unchanged()?;
        fs::remove_file(&self.real).map_err(|source| FileError::Write { path: self.real.clone(), source })
    }

    fn unchanged(&self) -> Result<(), FileError> {
        let read = if self.is_projects { Self::read_in_project } else { Self::read };
        if read(&self.path)? == *self { Ok(()) } else { Err(FileError::Changed { path: self.real.clone() }) }
    }
}

/// Where links lead, whether there is something or not.
fn behind_links(path: &Path) -> io::Result<PathBuf> {
    let mut path = std::path::absolute(path)?;
    for _ in 0..LINKS {
        match fs::read_link(&path) {
            Ok(to) => path = path.parent().map_or_else(|| to.clone(), |dir| dir.join(&to)),
            Err(e) if matches!(e.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::NotFound) => return Ok(path),
            Err(e) => return Err(e),
        }
    }
    Err(io::Error::other("too many links lead to each other"))
}
