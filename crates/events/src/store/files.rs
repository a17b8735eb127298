//! Whether the files that are open are still those that lie in the directory. Somebody may remove them while the monitor
//! runs, with `rm -r` or by an uninstall; what is written to an open file that has no name is lost with the process.

use std::fs::File;
use std::path::{Path, PathBuf};

use super::journal::Inode;
use super::{StoreError, schema};

/// The files of the database as they were when they were opened.
#[derive(Debug)]
pub(super) struct Files {
    lock: (PathBuf, Inode),
    /// The database, and SQLite's log beside it, which lasts as long as a connection.
    database: Vec<(PathBuf, Inode)>,
}

impl Files {
    /// Of an open database, and of its lock.
    pub(super) fn of(path: &Path, lock: &File) -> Result<Self, StoreError> {
        let failed = |source| StoreError::File { doing: "look at", path: path.to_owned(), source };
        let held = (schema::beside(path, ".lock"), Inode::of(lock).map_err(failed)?);
        let mut database = vec![(path.to_owned(), Inode::at(path).map_err(failed)?)];
        let log = schema::beside(path, "-wal");
        database.extend(Inode::at(&log).ok().map(|inode| (log, inode)));
        Ok(Self { lock: held, database })
    }

    pub(super) fn has_lock(&self) -> bool {
        self.lock.1.is_at(&self.lock.0)
    }

    pub(super) fn has_database(&self) -> bool {
        self.database.iter().all(|(path, inode)| inode.is_at(path))
    }
}
