//! The Unix socket beside the port: a path that only those may open whom the kernel knows by their user.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use super::sockets::SocketError;

/// The path of a socket that this process listens on; dropped, it goes, unless another socket has taken its place.
#[derive(Debug)]
pub struct SocketPath {
    path: PathBuf,
    identity: (u64, u64),
}

/// Listens at `path`, which appears only once it can be used. `shared` lets every user of the machine knock; who comes in
/// is decided for each connection by its credentials.
///
/// # Errors
/// [`SocketError::Path`] when something else is there or the directory cannot be written to,
/// [`SocketError::PathTaken`] when another process listens there.
pub fn bind(path: &Path, shared: bool) -> Result<(UnixListener, SocketPath), SocketError> {
    let fail = |source| SocketError::Path { path: path.to_owned(), source };
    clear(path)?;
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().ok_or_else(|| fail(io::ErrorKind::InvalidInput.into()))?);
    name.push(format!(".{}", std::process::id()));
    let unfinished = path.with_file_name(name);
    let _ = fs::remove_file(&unfinished);
    let ready = || {
        let listener = UnixListener::bind(&unfinished)?;
        fs::set_permissions(&unfinished, fs::Permissions::from_mode(if shared { 0o666 } else { 0o600 }))?;
        let identity = identity(&fs::symlink_metadata(&unfinished)?);
        fs::rename(&unfinished, path)?;
        Ok((listener, SocketPath { path: path.to_owned(), identity }))
    };
    ready().map_err(|error| {
        let _ = fs::remove_file(&unfinished);
        fail(error)
    })
}

/// Removes what a process left that was killed. A socket that somebody answers on, and anything else, stays.
fn clear(path: &Path) -> Result<(), SocketError> {
    let fail = |source| SocketError::Path { path: path.to_owned(), source };
    match fs::symlink_metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(fail(e)),
        Ok(meta) if !meta.file_type().is_socket() => {
            return Err(fail(io::Error::other("something other than a socket is there")));
        }
        Ok(_) => {}
    }
    match UnixStream::connect(path) {
        Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path).map_err(fail),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(fail(e)),
        Ok(_) => Err(SocketError::PathTaken(path.to_owned())),
    }
}

fn identity(meta: &Metadata) -> (u64, u64) {
    (meta.dev(), meta.ino())
}

impl SocketPath {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for SocketPath {
    fn drop(&mut self) {
        if fs::symlink_metadata(&self.path).is_ok_and(|meta| identity(&meta) == self.identity) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().mode() & 0o777
    }

    #[test]
    fn a_socket_comes_private_and_goes_with_its_owner() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("http.sock");
        let (_listener, held) = bind(&path, false).unwrap();
        assert_eq!(mode(&path), 0o600);
        UnixStream::connect(&path).unwrap();
        assert!(matches!(bind(&path, false), Err(SocketError::PathTaken(_))));
        drop(held);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn pain_8_what_a_killed_process_left_is_replaced_and_nothing_else_is_touched() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("http.sock");
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "as after kill -9");
        let (_listener, held) = bind(&path, true).unwrap();
        assert_eq!(mode(&path), 0o666);
        // Another one took its place: it is not ours to remove.
        fs::remove_file(&path).unwrap();
        let _theirs = UnixListener::bind(&path).unwrap();
        drop(held);
        assert!(path.exists());

        let file = dir.path().join("notes");
        fs::write(&file, "mine").unwrap();
        let error = bind(&file, false).unwrap_err().to_string();
        assert!(error.contains("other than a socket"), "{error}");
        assert_eq!(fs::read_to_string(&file).unwrap(), "mine");
        assert!(bind(&dir.path().join("missing/http.sock"), false).is_err());
    }
}
