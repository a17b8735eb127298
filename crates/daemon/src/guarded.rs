//! Reads small files that another user may have made: locks, ledgers, receipts, what is in other users' runtime directories.
//!
//! Root's verbs read what belongs to the service's user, and `list` what belongs to anybody. So nobody may choose what is read
//! (no link is followed, and a second name of another file is refused), keep the reader waiting (a pipe, a lease), or fill its
//! memory: a file is opened without blocking, looked at through its descriptor, and read up to a bound.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{Mode, OFlags};

/// The most that a lock, a ledger, a receipt and the like may hold.
pub const SMALL: u64 = 64 << 10;

/// The most that a file may hold which a person writes: settings, units.
pub const WRITTEN: u64 = 4 << 20;

/// Why a file is not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It is a link, or a folder on the way that was to be none is one.
    #[error("it is a symbolic link, and none is followed here")]
    Link,
    /// It is a pipe, a device, a socket, a directory.
    #[error("it is not a regular file")]
    Kind,
    /// It is a file of somewhere else, too.
    #[error("it has another name as well (a hard link)")]
    Names,
    /// It belongs to somebody who has no business there.
    #[error("it belongs to uid {0}, which does not own its folder")]
    Owner(u32),
    /// It holds too much.
    #[error("it is larger than {0} bytes")]
    Size(u64),
}

impl Refusal {
    /// The refusal that an error is.
    pub fn of(error: &io::Error) -> Option<Self> {
        error.get_ref().and_then(|e| e.downcast_ref::<Self>()).copied()
    }
}

impl From<Refusal> for io::Error {
    fn from(refusal: Refusal) -> Self {
        Self::new(io::ErrorKind::InvalidInput, refusal)
    }
}

/// Whose a file has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    /// Of the user to whom its folder belongs, of root, or of this user.
    OfFolder,
    /// Of this user alone.
    User(u32),
    /// Of whoever it is.
    Anyone,
}

/// How a file is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Guard {
    owner: Owner,
    most: u64,
}

impl Guard {
    /// For what the service or an installation keeps: at most [`SMALL`], no links, of the folder's owner, of root or of ours.
    pub const KEPT: Self = Self { owner: Owner::OfFolder, most: SMALL };

    /// For what is in the folder of the user `uid`: as [`Guard::KEPT`], and of that user.
    pub const fn of_user(uid: u32) -> Self {
        Self { owner: Owner::User(uid), most: SMALL }
    }

    /// For a file that a person may have linked to another place, such as settings: whoever's it is, links followed, at most
    /// `most` bytes.
    pub const fn linked(most: u64) -> Self {
        Self { owner: Owner::Anyone, most }
    }

    /// For what people and packages write and may link to another place, such as units and settings.
    pub const WRITTEN: Self = Self::linked(WRITTEN);

    /// Opens the file for reading. Never waits.
    ///
    /// # Errors
    /// The system's, and a [`Refusal`] for what must not be read.
    pub fn open(self, path: &Path) -> io::Result<File> {
        let mut flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        if self.owner == Owner::Anyone {
            let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
            return if file.metadata()?.is_file() { Ok(file) } else { Err(Refusal::Kind.into()) };
        }
        flags |= OFlags::NOFOLLOW;
        let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else { return Err(Refusal::Kind.into()) };
        let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
        // A folder that may be passed need not be one that may be listed.
        #[cfg(target_os = "linux")]
        let passing = OFlags::PATH;
        #[cfg(not(target_os = "linux"))]
        let passing = OFlags::RDONLY;
        let dir = rustix::fs::open(dir, passing | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let file = match rustix::fs::openat(&dir, name, flags, Mode::empty()) {
            // FreeBSD has a number of its own for it, Linux and macOS this one.
            Err(rustix::io::Errno::LOOP) => return Err(Refusal::Link.into()),
            // A socket.
            Err(rustix::io::Errno::NXIO | rustix::io::Errno::OPNOTSUPP) => return Err(Refusal::Kind.into()),
            other => File::from(other?),
        };
        let meta = file.metadata()?;
        if !meta.is_file() {
            return Err(Refusal::Kind.into());
        }
        if meta.nlink() > 1 {
            return Err(Refusal::Names.into());
        }
        let expected = match self.owner {
            Owner::User(uid) => meta.uid() == uid,
            _ => {
                let ours = [0, rustix::process::geteuid().as_raw(), rustix::fs::fstat(dir.as_fd())?.st_uid];
                ours.contains(&meta.uid())
            }
        };
        if expected { Ok(file) } else { Err(Refusal::Owner(meta.uid()).into()) }
    }

    /// Its bytes; `None` if there is no such file.
    ///
    /// # Errors
    /// As [`Guard::open`].
    pub fn bytes(self, path: &Path) -> io::Result<Option<Vec<u8>>> {
        let file = match self.open(path) {
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => return Ok(None),
            other => other?,
        };
        let mut bytes = Vec::new();
        file.take(self.most + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > self.most { Err(Refusal::Size(self.most).into()) } else { Ok(Some(bytes)) }
    }

    /// Its text, where what is no UTF-8 is replaced; `None` if there is no such file.
    ///
    /// # Errors
    /// As [`Guard::open`].
    pub fn text(self, path: &Path) -> io::Result<Option<String>> {
        Ok(self.bytes(path)?.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn refusal(read: io::Result<Option<String>>) -> Refusal {
        let error = read.unwrap_err();
        Refusal::of(&error).unwrap_or_else(|| panic!("{error}"))
    }

    #[test]
    fn traps_are_refused_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let uid = rustix::process::geteuid().as_raw();
        std::fs::write(at("plain"), "text").unwrap();
        symlink(at("plain"), at("link")).unwrap();
        symlink("/dev/zero", at("zero")).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(at("pipe")).status().unwrap().success());
        let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        File::create(at("sparse")).unwrap().set_len(2 << 30).unwrap();
        std::fs::write(at("second"), "text").unwrap();
        std::fs::hard_link(at("second"), at("third")).unwrap();
        for guard in [Guard::KEPT, Guard::of_user(uid)] {
            assert_eq!(guard.text(&at("plain")).unwrap().as_deref(), Some("text"));
            assert_eq!(guard.text(&at("absent")).unwrap(), None);
            assert_eq!(guard.text(&at("plain/below")).unwrap(), None);
            let said =
                ["link", "zero", "pipe", "socket", "sparse", "second"].map(|name| refusal(guard.text(&at(name))));
            use Refusal::{Kind, Link, Names, Size};
            assert_eq!(said, [Link, Link, Kind, Kind, Size(SMALL), Names]);
            assert_eq!(refusal(guard.text(dir.path())), Kind);
        }
        assert_eq!(refusal(Guard::of_user(uid + 1).text(&at("plain"))), Refusal::Owner(uid));
        let linked = Guard::linked(SMALL);
        assert_eq!(linked.text(&at("link")).unwrap().as_deref(), Some("text"));
        assert_eq!(["zero", "pipe"].map(|name| refusal(linked.text(&at(name)))), [Refusal::Kind, Refusal::Kind]);
        assert_eq!(refusal(linked.text(&at("sparse"))), Refusal::Size(SMALL));
    }

    #[test]
    fn foreign_owner_in_own_folder_is_refused() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, "text").unwrap();
        std::os::unix::fs::chown(&path, Some(4711), None).unwrap();
        assert_eq!(refusal(Guard::KEPT.text(&path)), Refusal::Owner(4711));
        std::os::unix::fs::chown(dir.path(), Some(4711), None).unwrap();
        assert_eq!(Guard::KEPT.text(&path).unwrap().as_deref(), Some("text"));
    }
}
