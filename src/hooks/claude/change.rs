//! Putting our hook into a settings file, and taking it out: planned first, so that the exact change can be shown, then done.
//!
//! A receipt remembers the file as it was before us and as we left it. As long as nobody else changed it since, taking our
//! hook out gives back every byte; else just what is ours goes.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::file::{FileError, Settings};
use super::settings::{self, SettingsError};
use service::files;

/// Why our hook was not put in or taken out.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// The file is not what it should be.
    #[error("{}: {source}; nothing was changed", path.display())]
    Settings {
        /// The file.
        path: PathBuf,
        /// Where and what.
        source: SettingsError,
    },
    /// The file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The copy of the file as it was cannot be kept.
    #[error("cannot keep a copy of the settings in {}: {source}; nothing was changed", dir.display())]
    Backup {
        /// Where it should be.
        dir: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

/// What is to be done with our hook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wish {
    /// To be in the file, with this command line.
    In(String),
    /// To be gone from it.
    Out,
}

/// What is remembered of a file that we changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Receipt {
    /// The file.
    path: PathBuf,
    /// The digest of what we wrote.
    written: String,
    /// Whether the file was there before.
    existed: bool,
    /// The folders that we made for it, outermost first.
    made: Vec<PathBuf>,
}

/// A change of one file, not done yet.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The file as it is.
    settings: Settings,
    /// What it becomes; nothing: it is removed.
    new: Option<String>,
    /// What it was before us, or would be without us.
    without: Option<String>,
    /// Folders that we made earlier.
    made: Vec<PathBuf>,
    is_in: bool,
}

impl Plan {
    /// Finds out what would change; receipts and copies are in `receipts`.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub fn new(settings: Settings, wish: &Wish, receipts: &Path) -> Result<Self, ChangeError> {
        let broken = |source| ChangeError::Settings { path: settings.real.clone(), source };
        let receipt = Receipt::read(receipts, &settings.real);
        let text = settings.text.clone();
        let untouched = |receipt: &&Receipt| text.as_deref().is_some_and(|text| digest(text) == receipt.written);
        let (without, made) = match (receipt.as_ref().filter(untouched), &text) {
            (Some(receipt), _) => {
                let before = receipt.existed.then(|| read_copy(receipts, &settings.real)).transpose();
                match before {
                    Ok(before) => (before, receipt.made.clone()),
                    // The copy is gone; what is ours can be taken out all the same.
                    Err(_) => (text.as_deref().map(settings::without_ours).transpose().map_err(broken)?, Vec::new()),
                }
            }
            (None, Some(text)) => {
                let without = settings::without_ours(text).map_err(broken)?;
                // Of a file that we made, and that holds nothing of anybody's, nothing need stay.
                let ours =
                    receipt.as_ref().filter(|r| !r.existed && without.split_whitespace().collect::<String>() == "{}");
                match ours {
                    Some(receipt) => (None, receipt.made.clone()),
                    None => (Some(without), Vec::new()),
                }
            }
            (None, None) => (None, Vec::new()),
        };
        let new = match wish {
            Wish::In(command) => {
                Some(settings::with_ours(text.as_deref().unwrap_or_default(), command).map_err(broken)?)
            }
            Wish::Out => without.clone(),
        };
        Ok(Self { settings, new, without, made, is_in: matches!(wish, Wish::In(_)) })
    }

    /// Whether anything would change.
    pub fn changes(&self) -> bool {
        self.settings.text != self.new
    }

    /// The file itself.
    pub fn file(&self) -> &Path {
        &self.settings.real
    }

    /// What would change, line by line.
    pub fn diff(&self) -> String {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        settings::diff(&text(&self.settings.text), &text(&self.new), &self.settings.real.display().to_string())
    }

    /// Does it; where the copy of the file as it was before us is, if there was one.
    ///
    /// # Errors
    /// [`ChangeError`]; nothing is changed then.
    pub fn apply(&self, receipts: &Path) -> Result<Option<PathBuf>, ChangeError> {
        let backup = |source| ChangeError::Backup { dir: receipts.to_owned(), source };
        let real = &self.settings.real;
        if !self.is_in {
            match &self.new {
                Some(new) => drop(self.settings.replace(new)?),
                None => {
                    self.settings.remove()?;
                    for dir in self.made.iter().rev() {
                        files::remove_if_empty(dir);
                    }
                }
            }
            Receipt::forget(receipts, real);
            return Ok(None);
        }
        self.settings.may_write()?;
        let mut copy = None;
        if let Some(before) = &self.without {
            let path = copy_path(receipts, real);
            daemon::fs::make_private(receipts).and_then(|()| files::write(&path, before, 0o600)).map_err(backup)?;
            copy = Some(path);
        }
        let new = self.new.clone().unwrap_or_default();
        let mut made = self.settings.replace(&new)?;
        if made.is_empty() {
            made.clone_from(&self.made);
        }
        let receipt = Receipt { path: real.clone(), written: digest(&new), existed: self.without.is_some(), made };
        // Without it our hook can still be taken out, only not with every space of before.
        let _ = receipt.write(receipts);
        Ok(copy)
    }
}

fn digest(text: &str) -> String {
    Sha256::digest(text).iter().map(|b| format!("{b:02x}")).collect()
}

fn stem(real: &Path) -> String {
    digest(&real.to_string_lossy())[..16].to_owned()
}

fn copy_path(receipts: &Path, real: &Path) -> PathBuf {
    receipts.join(format!("{}.settings.json", stem(real)))
}

fn read_copy(receipts: &Path, real: &Path) -> io::Result<String> {
    fs::read_to_string(copy_path(receipts, real))
}

impl Receipt {
    fn path(receipts: &Path, real: &Path) -> PathBuf {
        receipts.join(format!("{}.receipt.json", stem(real)))
    }

    fn read(receipts: &Path, real: &Path) -> Option<Self> {
        let text = fs::read_to_string(Self::path(receipts, real)).ok()?;
        serde_json::from_str(&text).ok().filter(|receipt: &Self| receipt.path == real)
    }

    fn write(&self, receipts: &Path) -> io::Result<()> {
        daemon::fs::make_private(receipts)?;
        files::write(&Self::path(receipts, &self.path), &serde_json::to_string_pretty(self)?, 0o600)
    }

    fn forget(receipts: &Path, real: &Path) {
        let _ = fs::remove_file(Self::path(receipts, real));
        let _ = fs::remove_file(copy_path(receipts, real));
        let _ = fs::remove_dir(receipts);
    }
}
