//! Files and folders below an open folder, opened so that none outside of it can be: each step of the way is relative to an
//! open folder, and the system or `cap-std` refuses every one that leads out, whatever is moved or linked meanwhile.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use cap_std::fs::{Dir, Metadata, OpenOptions, OpenOptionsExt as _};
use rustix::io::Errno;

/// Why something is not opened.
#[derive(Debug, thiserror::Error)]
pub enum BeneathError {
    /// It is not there.
    #[error("there is no such file")]
    Absent,
    /// The way to it leads out of the folder.
    #[error("the path leads out of its folder")]
    Outside,
    /// It is there, and no regular file.
    #[error("it is no regular file")]
    NotAFile,
    /// This user may not read it.
    #[error("permission denied")]
    Forbidden,
    /// The privacy settings of macOS keep it from this program, whatever the file's mode allows.
    #[error("macOS keeps it from this program (System Settings > Privacy & Security > Files and Folders)")]
    Guarded,
    /// The disk or the process's limits.
    #[error("cannot open it: {0}")]
    Io(io::Error),
}

impl From<io::Error> for BeneathError {
    fn from(error: io::Error) -> Self {
        use io::ErrorKind as Kind;
        match (error.kind(), error.raw_os_error()) {
            // The system's own refusal has a number; what leads out of the folder is refused by the library, without one.
            (Kind::PermissionDenied, Some(number))
                if cfg!(target_os = "macos") && Errno::from_raw_os_error(number) == Errno::PERM =>
            {
                Self::Guarded
            }
            (Kind::PermissionDenied, Some(_)) => Self::Forbidden,
            (Kind::PermissionDenied, None) => Self::Outside,
            (Kind::NotFound | Kind::NotADirectory | Kind::InvalidFilename | Kind::InvalidInput, _) => Self::Absent,
            (Kind::IsADirectory, _) => Self::NotAFile,
            (_, Some(number)) => match Errno::from_raw_os_error(number) {
                // A ring of links; a path made of names that are too long together.
                Errno::LOOP | Errno::NAMETOOLONG => Self::Absent,
                // A socket; a device that is not there.
                Errno::NXIO | Errno::OPNOTSUPP | Errno::NODEV => Self::NotAFile,
                _ => Self::Io(error),
            },
            _ => Self::Io(error),
        }
    }
}

/// What makes an open return at once: a pipe would keep the thread until somebody writes to it.
fn at_once() -> i32 {
    i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or(0)
}

/// Opens a regular file below `dir`. Blocks, but for no pipe and no device.
///
/// # Errors
/// [`BeneathError`].
pub fn open_regular(dir: &Dir, path: &Path) -> Result<(File, Metadata), BeneathError> {
    let file = dir.open_with(path, OpenOptions::new().read(true).custom_flags(at_once()))?;
    let is = file.metadata()?;
    if is.is_file() { Ok((file.into_std(), is)) } else { Err(BeneathError::NotAFile) }
}

/// The beginning of a regular file anywhere, at most so many bytes of it, as text: what repositories say of themselves.
pub fn short_text(path: &Path, most: u64) -> Option<String> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let file = std::fs::OpenOptions::new().read(true).custom_flags(at_once()).open(path).ok()?;
    let mut text = String::new();
    let is_file = file.metadata().ok()?.is_file();
    is_file.then(|| file.take(most).read_to_string(&mut text).ok())??;
    Some(text)
}

/// Where an open file or folder really is: with no link on the way, and in the case that the file system keeps.
///
/// # Errors
/// What the system says.
pub fn real_path(file: impl AsFd) -> io::Result<PathBuf> {
    use std::os::unix::ffi::OsStringExt as _;
    #[cfg(target_vendor = "apple")]
    let path = rustix::fs::getpath(file)?;
    #[cfg(not(target_vendor = "apple"))]
    let path = {
        use std::os::fd::AsRawFd as _;
        rustix::fs::readlink(format!("/proc/self/fd/{}", file.as_fd().as_raw_fd()), Vec::new())?
    };
    Ok(std::ffi::OsString::from_vec(path.into_bytes()).into())
}
