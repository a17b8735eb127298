//! Which of this store's streams is written to.
//!
//! The name of a stream has the store's epoch in it, and its ids are the store's numbers. That is sound as long as a number
//! stands for one event. After a power cut without `events.durable`, or when a state directory was put back from a copy, the
//! stream can have events that the store does not know, whose numbers it will give to others. Then a new generation of the
//! stream begins; the file says which, and after which number.

use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::link::Trouble;

/// The file's name in the directory of the instance.
const FILE: &str = "bus.json";

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Generation {
    /// The store's epoch.
    pub epoch: String,
    /// Counts from 0.
    pub generation: u32,
    /// Events up to this number belong to earlier generations.
    pub after: u64,
}

impl Generation {
    /// The first one of a store.
    fn first(epoch: &str) -> Self {
        Self { epoch: epoch.to_owned(), ..Self::default() }
    }

    /// The epoch as the other nodes know it.
    pub fn label(&self) -> String {
        if self.generation == 0 { self.epoch.clone() } else { format!("{}.{}", self.epoch, self.generation) }
    }

    /// The next one, with the events after this number.
    pub fn next(&self, after: u64) -> Self {
        Self { epoch: self.epoch.clone(), generation: self.generation + 1, after }
    }

    /// The one that the file names, if it is of this store.
    ///
    /// # Errors
    /// When the file cannot be read; one that is damaged counts as none.
    pub async fn load(dir: &Path, epoch: &str) -> Result<Self, Trouble> {
        let (path, epoch) = (dir.join(FILE), epoch.to_owned());
        let shown = path.clone();
        let read = tokio::task::spawn_blocking(move || match std::fs::read(&path) {
            Ok(bytes) => Ok(serde_json::from_slice::<Self>(&bytes).ok()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        });
        let found = read.await.map_err(|e| failed(&shown, &e))?.map_err(|e| failed(&shown, &e))?;
        Ok(found.filter(|g| g.epoch == epoch).unwrap_or_else(|| Self::first(&epoch)))
    }

    /// Writes the file, whole or not at all.
    ///
    /// # Errors
    /// When it cannot be written.
    pub async fn keep(&self, dir: &Path) -> Result<(), Trouble> {
        let (dir, path) = (dir.to_owned(), dir.join(FILE));
        let shown: PathBuf = path.clone();
        let text = serde_json::to_vec(self).map_err(|e| failed(&shown, &e))?;
        let write = tokio::task::spawn_blocking(move || {
            let mut file = tempfile::NamedTempFile::new_in(dir)?;
            file.write_all(&text)?;
            file.as_file().sync_all()?;
            file.persist(path).map(drop).map_err(|e| e.error)
        });
        write.await.map_err(|e| failed(&shown, &e))?.map_err(|e| failed(&shown, &e))
    }
}

fn failed(path: &Path, error: &dyn std::fmt::Display) -> Trouble {
    Trouble::Generation(format!("{} ({error})", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The other formats on the disk have their fixtures in `tests/formats/`.
    #[tokio::test]
    async fn file_of_an_earlier_build_reads_and_writes_the_same() {
        let frozen = include_str!("../../tests/formats/fixtures/bus.json");
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("bus.json"), frozen).unwrap();
        let expected = Generation { epoch: "5eed5eed".to_owned(), generation: 2, after: 4711 };
        assert_eq!(Generation::load(dir.path(), "5eed5eed").await.unwrap(), expected);
        expected.keep(dir.path()).await.unwrap();
        assert_eq!(std::fs::read_to_string(dir.path().join("bus.json")).unwrap(), frozen);
    }

    #[tokio::test]
    async fn a_generation_is_kept_for_its_store_alone() {
        let dir = tempfile::tempdir().unwrap();
        let first = Generation::load(dir.path(), "aa").await.unwrap();
        assert_eq!((first.label(), first.after), ("aa".to_owned(), 0));
        let second = first.next(7);
        second.keep(dir.path()).await.unwrap();
        assert_eq!(Generation::load(dir.path(), "aa").await.unwrap(), second);
        assert_eq!(second.label(), "aa.1");
        assert_eq!(Generation::load(dir.path(), "bb").await.unwrap().label(), "bb");
        std::fs::write(dir.path().join(FILE), "{").unwrap();
        assert_eq!(Generation::load(dir.path(), "aa").await.unwrap(), first);
        assert!(Generation::load(&dir.path().join(FILE), "aa").await.is_err(), "no directory");
    }
}
