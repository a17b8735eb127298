//! What a migration did, for `migrate --undo`: one file for each port.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::process::Process;
use service::{Scope, files};

/// One port's migration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The shape of this file: 1.
    pub schema_version: u32,
    /// The port.
    pub port: u16,
    /// Whose manager ours was installed with.
    pub scope: Scope,
    /// Whether this migration installed it.
    pub installed: bool,
    /// The daemon that was stopped, as it was started.
    pub daemon: Option<Process>,
    /// The PID files that were removed.
    pub removed: Vec<Removed>,
}

/// A file that was removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removed {
    /// Where it was.
    pub path: PathBuf,
    /// What was in it.
    pub content: String,
}

/// A record that cannot be kept or used.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// A file or directory.
    #[error("{0}: {1}")]
    Io(PathBuf, io::Error),
    /// It is damaged.
    #[error("{0} is damaged ({1}); it says what the migration did, and without it nothing is undone")]
    Damaged(PathBuf, serde_json::Error),
}

impl RecordError {
    /// A name that stays the same over versions.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Io(..) => "record_io",
            Self::Damaged(..) => "record_damaged",
        }
    }
}

/// Where the records of a scope are, below its state directory.
fn dir(state: &Path) -> PathBuf {
    state.join("migration")
}

impl Record {
    /// Its file.
    pub fn path(&self, state: &Path) -> PathBuf {
        dir(state).join(format!("{}.json", self.port))
    }

    /// Goes on from an earlier migration of the same port that was not undone: `claude-mpm monitor restart` ends our process and
    /// starts the old daemon again. What that one installed and removed is still this one's to take back.
    #[must_use]
    pub fn after(mut self, earlier: Option<&Self>) -> Self {
        if let Some(earlier) = earlier {
            self.installed |= earlier.installed;
            self.daemon = self.daemon.or_else(|| earlier.daemon.clone());
            self.removed = earlier.removed.clone();
        }
        self
    }

    /// Writes it, for this user alone.
    ///
    /// # Errors
    /// [`RecordError::Io`].
    pub fn write(&self, state: &Path) -> Result<(), RecordError> {
        let path = self.path(state);
        let failed = |e| RecordError::Io(path.clone(), e);
        for missing in files::missing(&dir(state)) {
            files::make_dir(&missing, 0o700).map_err(failed)?;
        }
        // A struct of strings, numbers and lists always serialises.
        let text = serde_json::to_string_pretty(self).unwrap_or_default() + "\n";
        files::write(&path, &text, 0o600).map_err(failed)
    }

    /// Removes it, and the directory with the last one.
    ///
    /// # Errors
    /// [`RecordError::Io`].
    pub fn remove(&self, state: &Path) -> Result<(), RecordError> {
        let path = self.path(state);
        std::fs::remove_file(&path).map_err(|e| RecordError::Io(path, e))?;
        files::remove_if_empty(&dir(state));
        Ok(())
    }

    /// All records, by port.
    ///
    /// # Errors
    /// The first that cannot be read.
    pub fn all(state: &Path) -> Result<Vec<Self>, RecordError> {
        let entries = std::fs::read_dir(dir(state)).into_iter().flatten().flatten();
        let paths = entries.map(|e| e.path()).filter(|p| p.extension().is_some_and(|x| x == "json"));
        let mut all = Vec::new();
        for path in paths {
            let Some(text) = files::read(&path).map_err(|e| RecordError::Io(path.clone(), e))? else { continue };
            all.push(serde_json::from_str::<Self>(&text).map_err(|e| RecordError::Damaged(path, e))?);
        }
        all.sort_by_key(|r| r.port);
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn second_migration_keeps_what_the_first_did() {
        let removed = |path: &str| Removed { path: path.into(), content: "7".into() };
        let new = Record {
            schema_version: 1,
            port: 8765,
            scope: Scope::User,
            installed: false,
            daemon: None,
            removed: Vec::new(),
        };
        let first = Record { installed: true, removed: vec![removed("/p/x.pid")], ..new.clone() };
        let second = new.clone().after(Some(&first));
        assert!(second.installed, "ours is the migration's, and undoing it uninstalls ours");
        assert_eq!(second.removed, first.removed);
        assert_eq!(new.clone().after(None), new);
    }

    #[test]
    fn written_listed_and_removed_with_its_directory() {
        let state = tempfile::tempdir().unwrap();
        let state = state.path();
        assert_eq!(Record::all(state).unwrap(), []);
        let removed = vec![Removed { path: "/p/x.pid".into(), content: "7".into() }];
        let record =
            Record { schema_version: 1, port: 8765, scope: Scope::User, installed: true, daemon: None, removed };
        record.write(state).unwrap();
        assert_eq!(std::fs::metadata(record.path(state)).unwrap().mode() & 0o777, 0o600);
        assert_eq!(Record::all(state).unwrap(), std::slice::from_ref(&record));
        std::fs::write(dir(state).join("9.json"), "{").unwrap();
        let error = Record::all(state).unwrap_err();
        assert_eq!(error.code(), "record_damaged");
        std::fs::remove_file(dir(state).join("9.json")).unwrap();
        record.remove(state).unwrap();
        assert!(!dir(state).exists());
        assert_eq!(record.remove(state).unwrap_err().code(), "record_io");
    }
}
