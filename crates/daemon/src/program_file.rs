//! The file that this process was started from, and whether it still is what runs: after an upgrade without a restart the old
//! program runs on, and nobody would know.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use serde::Serialize;

/// What became of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Fate {
    /// It is what runs.
    Same,
    /// Another file is in its place.
    Replaced,
    /// Nothing is in its place.
    Gone,
}

/// Which file it is: one that was written over in place has another time of change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    modified: (i64, i64),
}

impl Stamp {
    fn of(meta: &Metadata) -> Self {
        Self { device: meta.dev(), inode: meta.ino(), modified: (meta.mtime(), meta.mtime_nsec()) }
    }
}

/// The program's file, by the path it was started by; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct ProgramFile(Option<Arc<Inner>>);

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    runs: Stamp,
    fate: AtomicU8,
}

impl ProgramFile {
    /// That of this process; empty where the system does not tell.
    pub fn of_this_process() -> Self {
        let Ok(current) = std::env::current_exe() else { return Self::default() };
        // The kernel's own link leads to what runs even when nothing has that name any more.
        let Some(runs) = stamp_at(Path::new("/proc/self/exe")).or_else(|| stamp_at(&current)) else {
            return Self::default();
        };
        // The name that the manager uses: behind a link there may be another file tomorrow.
        let called = std::env::args_os().next().map(PathBuf::from).filter(|path| path.is_absolute());
        let path = called.filter(|path| stamp_at(path) == Some(runs)).unwrap_or(current);
        Self::at(path, runs)
    }

    fn at(path: PathBuf, runs: Stamp) -> Self {
        Self(Some(Arc::new(Inner { path, runs, fate: AtomicU8::new(Fate::Same as u8) })))
    }

    /// Looks at the path; what became of the file, if that is news. One `stat` of a file that this process runs from: where
    /// that could block, so could any page of the program.
    pub fn look(&self) -> Option<Fate> {
        let (inner, fate) = (self.0.as_ref()?, self.seen()?);
        (inner.fate.swap(fate as u8, Ordering::AcqRel) != fate as u8).then_some(fate)
    }

    /// What is at the path now; nothing where that cannot be seen, which does not mean that it is gone.
    fn seen(&self) -> Option<Fate> {
        let inner = self.0.as_ref()?;
        match std::fs::metadata(&inner.path) {
            Ok(meta) if Stamp::of(&meta) == inner.runs => Some(Fate::Same),
            Ok(_) => Some(Fate::Replaced),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Some(Fate::Gone),
            Err(_) => None,
        }
    }

    /// What the last look found.
    pub fn fate(&self) -> Fate {
        match self.0.as_ref().map(|inner| inner.fate.load(Ordering::Acquire)) {
            Some(fate) if fate == Fate::Replaced as u8 => Fate::Replaced,
            Some(fate) if fate == Fate::Gone as u8 => Fate::Gone,
            _ => Fate::Same,
        }
    }

    /// The path, where it is known.
    pub fn path(&self) -> Option<&Path> {
        self.0.as_ref().map(|inner| inner.path.as_path())
    }

    /// What `STATUS=` says of it, if there is anything to say.
    pub fn remark(&self) -> Option<&'static str> {
        match self.fate() {
            Fate::Same => None,
            Fate::Replaced => Some("its program was replaced, a restart runs the new one"),
            Fate::Gone => Some("its program file is gone, a restart would fail"),
        }
    }

    /// The member `program` of `/health`, as it is at this moment: who asks may have replaced the file a moment ago.
    pub fn to_json(&self) -> serde_json::Value {
        let fate = self.seen().unwrap_or_else(|| self.fate());
        serde_json::json!({"path": self.path(), "replaced": fate == Fate::Replaced, "file": fate})
    }
}

fn stamp_at(path: &Path) -> Option<Stamp> {
    std::fs::metadata(path).ok().map(|meta| Stamp::of(&meta))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pain_4_a_file_that_is_replaced_written_over_or_removed_is_noticed_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("program");
        std::fs::write(&path, "old").unwrap();
        let file = ProgramFile::at(path.clone(), stamp_at(&path).unwrap());
        assert_eq!((file.look(), file.fate(), file.remark()), (None, Fate::Same, None));
        // The old one is kept, so that its inode is not used again.
        std::fs::rename(&path, dir.path().join("kept")).unwrap();
        assert_eq!((file.look(), file.look(), file.fate()), (Some(Fate::Gone), None, Fate::Gone));
        std::fs::write(&path, "new").unwrap();
        assert_eq!((file.look(), file.look()), (Some(Fate::Replaced), None));
        assert_eq!(file.to_json()["replaced"], true);
        assert!(file.remark().unwrap().contains("was replaced"));
        std::fs::rename(dir.path().join("kept"), &path).unwrap();
        assert_eq!((file.look(), file.remark()), (Some(Fate::Same), None));
        let long_ago = std::time::SystemTime::UNIX_EPOCH;
        std::fs::File::options().write(true).open(&path).unwrap().set_modified(long_ago).unwrap();
        assert_eq!(file.look(), Some(Fate::Replaced), "written over in place");
    }

    #[test]
    fn this_process_runs_from_a_file_that_is_there() {
        let file = ProgramFile::of_this_process();
        assert!(file.path().is_some_and(|path| path.is_absolute()));
        assert_eq!((file.look(), file.fate()), (None, Fate::Same));
        assert_eq!((ProgramFile::default().look(), ProgramFile::default().fate()), (None, Fate::Same));
    }
}
