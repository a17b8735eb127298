//! What can go wrong with the store, and what to do about it.

use std::path::PathBuf;

/// Why the store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A file or directory of the store could not be made or used.
    #[error("cannot {doing} {}: {source}; make it accessible to this user, or set `state_dir` to another directory", path.display())]
    File {
        /// What was attempted.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// SQLite could not open or prepare the database.
    #[error("cannot open the events in {}: {source}; see that its disk has room and this user may write there, or set `state_dir` to another directory", path.display())]
    Open {
        /// The database file.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// The database is damaged. The store sets such a file aside by itself; this is seen only if the new one is damaged
    /// as well.
    #[error("the events in {} are damaged: {detail}; check the disk", path.display())]
    Corrupt {
        /// The database file.
        path: PathBuf,
        /// What the check found.
        detail: String,
    },
    /// A newer version of this program wrote the database.
    #[error("the events in {} have format {found}, this version knows up to {known}; run the newer version, or move the file away", path.display())]
    TooNew {
        /// The database file.
        path: PathBuf,
        /// The format found.
        found: i64,
        /// The newest format known.
        known: i64,
    },
    /// The file is a database of another program, and stays untouched.
    #[error("{} is a database of another program; set `state_dir` to another directory", path.display())]
    Foreign {
        /// The database file.
        path: PathBuf,
    },
    /// The file system cannot hold a database that is read while it is written.
    #[error("the file system of {} does not support SQLite's WAL mode; set `state_dir` to a directory on a local disk", path.display())]
    NoWal {
        /// The database file.
        path: PathBuf,
    },
    /// The event was not stored: the disk is full, broken, read-only or locked. Nothing is lost that was accepted
    /// before; the next append tries again.
    #[error("the event was not stored: {reason}; it can be sent again")]
    Degraded {
        /// What the writer met.
        reason: String,
    },
    /// Another process writes to this database; this one only reads.
    #[error("the event was not stored: another process holds {}; stop it, or send the event there", path.display())]
    ReadOnly {
        /// The lock that the other process holds.
        path: PathBuf,
    },
    /// An event of another node was not stored, as others of it that come before are not here.
    #[error("events of node {node} after {after} up to {through} are missing; they come first")]
    Missing {
        /// The node.
        node: String,
        /// The last number that is here.
        after: u64,
        /// The last number that is missing.
        through: u64,
    },
    /// The store was closed, or its writer ended.
    #[error("the store is closed; send the event again once the monitor runs again")]
    Closed,
    /// Events could not be read.
    #[error("cannot read events: {0}")]
    Read(#[from] rusqlite::Error),
}

impl StoreError {
    /// A name for programs that never changes.
    pub fn code(&self) -> &'static str {
        match self {
            Self::File { .. } => "store_file",
            Self::Open { .. } => "store_open",
            Self::Corrupt { .. } => "store_corrupt",
            Self::TooNew { .. } => "store_too_new",
            Self::Foreign { .. } => "store_foreign",
            Self::NoWal { .. } => "store_no_wal",
            Self::Degraded { .. } => "store_degraded",
            Self::ReadOnly { .. } => "store_read_only",
            Self::Missing { .. } => "store_missing",
            Self::Closed => "store_closed",
            Self::Read(_) => "store_read",
        }
    }
}
