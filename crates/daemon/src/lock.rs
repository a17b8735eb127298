//! One instance per port: a lock held for life on a file that also says who holds it.
//!
//! The lock is the truth, never the file: the kernel releases it with the process, however that ends. The content is for
//! people and for `list`.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, OFlags, flock};
use serde::{Deserialize, Serialize};

use super::identity::{Identity, Manager};
use crate::Program;
use crate::guarded::{Guard, Refusal, SMALL};

/// How long somebody who only looks may keep a start waiting; looking takes microseconds.
const LOOK: Duration = Duration::from_secs(2);

/// Whoever can open the file, if only for reading, can lock it, and so keep the service from its port.
const PRIVATE: u32 = 0o600;

/// What the lock file says of its holder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// The port it serves.
    pub port: u16,
    /// Its process.
    pub pid: u32,
    /// When the kernel says that process began, see [`Identity::start_time`].
    pub start_time: u64,
    /// The boot it runs in.
    pub boot_id: String,
    /// Its identity, as in `/health`.
    pub instance_id: String,
    /// Its version.
    pub version: String,
    /// Its build.
    pub build: String,
    /// Where it listens, as `ADDRESS:PORT`.
    pub addresses: Vec<String>,
    /// Who runs it.
    pub managed_by: Manager,
}

/// Why the lock cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process has it.
    #[error("another {program} serves port {port} already{}", by(holder.as_deref()))]
    Held {
        /// The name of the program.
        program: &'static str,
        /// The port.
        port: u16,
        /// Who, as far as the file says.
        holder: Option<Box<Holder>>,
    },
    /// The file cannot be made, opened or written.
    #[error("cannot lock {path}: {source}; check the owner and mode of that directory, or set runtime_dir")]
    Io {
        /// The lock file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

fn by(holder: Option<&Holder>) -> String {
    holder.map_or_else(String::new, |h| format!(" (pid {}, version {}, instance {})", h.pid, h.version, h.instance_id))
}

/// The lock of one port, held until it is dropped or the process ends.
#[derive(Debug)]
pub struct InstanceLock {
    program: Program,
    file: File,
    path: PathBuf,
}

impl InstanceLock {
    /// Takes the lock of `program` for `port` in `dir`, which is made if it is missing.
    ///
    /// # Errors
    /// See [`LockError`].
    pub fn take(program: &Program, dir: &Path, port: u16) -> Result<Self, LockError> {
        let path = path_of(dir, port);
        let io = |source| LockError::Io { path: path.clone(), source };
        fs::DirBuilder::new().recursive(true).mode(0o755).create(dir).map_err(io)?;
        let began = Instant::now();
        loop {
            let mut file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(PRIVATE)
                .custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed())
                .open(&path)
                .map_err(io)?;
            if !file.metadata().map_err(io)?.is_file() {
                return Err(io(Refusal::Kind.into()));
            }
            // One that an earlier version left may be open to others.
            file.set_permissions(Permissions::from_mode(PRIVATE)).map_err(io)?;
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(e) if e == rustix::io::Errno::WOULDBLOCK => {
                    // `holder` looks by a shared lock, for a moment. Where one can be had nobody has the exclusive one:
                    // `status` in a loop must not keep a start from its port. (Unless it was stopped in that moment.)
                    let shared = flock(&file, FlockOperation::NonBlockingLockShared).is_ok();
                    if shared && began.elapsed() < LOOK {
                        drop(file);
                        std::thread::yield_now();
                        continue;
                    }
                    let mut text = String::new();
                    let _ = Read::by_ref(&mut file).take(SMALL).read_to_string(&mut text);
                    return Err(LockError::Held {
                        program: program.name,
                        port,
                        holder: serde_json::from_str(&text).ok(),
                    });
                }
                Err(e) => return Err(io(e.into())),
            }
            // The holder before us removes the file at its end; a lock on a removed file locks nothing.
            let same = fs::metadata(&path)
                .is_ok_and(|now| file.metadata().is_ok_and(|ours| (ours.dev(), ours.ino()) == (now.dev(), now.ino())));
            if same {
                return Ok(Self { program: *program, file, path });
            }
        }
    }

    /// Writes who holds it.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn describe(&mut self, port: u16, addresses: Vec<String>, identity: &Identity) -> Result<(), LockError> {
        let holder = Holder {
            port,
            pid: identity.pid,
            start_time: identity.start_time,
            boot_id: identity.boot_id.clone(),
            instance_id: identity.instance_id.clone(),
            version: self.program.version.into(),
            build: self.program.build.into(),
            addresses,
            managed_by: identity.managed_by,
        };
        let write = |file: &mut File| -> io::Result<()> {
            let mut text = serde_json::to_vec(&holder)?;
            text.push(b'\n');
            file.set_len(0)?;
            file.seek(SeekFrom::Start(0))?;
            file.write_all(&text)
        };
        write(&mut self.file).map_err(|source| LockError::Io { path: self.path.clone(), source })
    }

    /// Removes the file and lets go of the lock, in this order: nobody can take the lock of a file that is about to go.
    pub fn release(self) -> io::Result<()> {
        fs::remove_file(&self.path)
    }
}

/// The lock file of `port` in `dir`.
pub fn path_of(dir: &Path, port: u16) -> PathBuf {
    dir.join(format!("{port}.lock"))
}

/// What the lock file at `path` says, held or not; nothing if it is missing, unreadable or no lock file.
pub fn read(path: &Path) -> Option<Holder> {
    said(path, Guard::KEPT)
}

fn said(path: &Path, guard: Guard) -> Option<Holder> {
    serde_json::from_slice(&guard.bytes(path).ok()??).ok()
}

/// Whether somebody holds the lock file at `path`; nothing if it cannot be opened.
pub fn is_held(path: &Path) -> Option<bool> {
    held(path, Guard::KEPT)
}

fn held(path: &Path, guard: Guard) -> Option<bool> {
    let file = guard.open(path).ok()?;
    // A shared lock that can be had proves that nobody holds the exclusive one.
    match flock(&file, FlockOperation::NonBlockingLockShared) {
        Ok(()) => Some(false),
        Err(e) if e == rustix::io::Errno::WOULDBLOCK => Some(true),
        Err(_) => None,
    }
}

/// Who holds the lock file at `path`; nothing if nobody does, whatever the file says.
pub fn holder(path: &Path) -> Option<Holder> {
    holder_of(path, Guard::KEPT)
}

/// As [`holder`], for a file that has to be as `guard` says.
pub fn holder_of(path: &Path, guard: Guard) -> Option<Holder> {
    if held(path, guard)? { said(path, guard) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_holder_who_is_named_and_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let identity = Identity::new().unwrap();
        let mut lock = InstanceLock::take(&Program::TEST, dir.path(), 8765).unwrap();
        lock.describe(8765, vec!["127.0.0.1:8765".into()], &identity).unwrap();
        let error = InstanceLock::take(&Program::TEST, dir.path(), 8765).unwrap_err();
        assert!(error.to_string().contains(&format!("(pid {}, version", std::process::id())), "{error}");
        InstanceLock::take(&Program::TEST, dir.path(), 8766).unwrap();
        let path = path_of(dir.path(), 8765);
        assert_eq!(holder(&path).unwrap().instance_id, identity.instance_id);
        lock.release().unwrap();
        assert!(!path.exists());
        InstanceLock::take(&Program::TEST, dir.path(), 8765).unwrap();
    }

    #[test]
    fn others_cannot_open_the_lock_so_not_hold_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = path_of(dir.path(), 8766);
        fs::write(&path, "").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        for port in [8765, 8766] {
            let _held = InstanceLock::take(&Program::TEST, dir.path(), port).unwrap();
            let mode = fs::metadata(path_of(dir.path(), port)).unwrap().mode();
            assert_eq!(mode & 0o777, 0o600, "{port}");
        }
    }

    /// Pain 7: a file left by a killed process means nothing.
    #[test]
    fn pain_7_a_stale_file_does_not_matter() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(path_of(dir.path(), 8765), "{\"pid\": 1}").unwrap();
        assert_eq!(holder(&path_of(dir.path(), 8765)), None);
        InstanceLock::take(&Program::TEST, dir.path(), 8765).unwrap();
    }

    #[test]
    fn looking_keeps_nobody_out() {
        let dir = tempfile::tempdir().unwrap();
        let look = File::create(path_of(dir.path(), 8765)).unwrap();
        flock(&look, FlockOperation::LockShared).unwrap();
        std::thread::scope(|scope| {
            let start = scope.spawn(|| InstanceLock::take(&Program::TEST, dir.path(), 8765).map(drop));
            // It must still be trying when the look ends, however late that is.
            let tried = Instant::now();
            while tried.elapsed() < LOOK / 20 && !start.is_finished() {
                std::thread::yield_now();
            }
            drop(look);
            start.join().unwrap().unwrap();
        });
    }

    #[test]
    fn of_many_at_once_one_wins() {
        let dir = tempfile::tempdir().unwrap();
        let locks: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..50).map(|_| scope.spawn(|| InstanceLock::take(&Program::TEST, dir.path(), 1).ok())).collect();
            threads.into_iter().map(|t| t.join().unwrap()).collect()
        });
        assert_eq!(locks.iter().flatten().count(), 1);
    }
}
