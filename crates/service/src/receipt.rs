//! What install made, so that uninstall removes exactly that.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Scope;
use super::definition::{is_env_name, is_env_value};
use daemon::guarded::Guard;

/// One instance's receipt. It holds no time, so that the same installation leaves the same bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// The shape of this file: 1.
    pub schema_version: u32,
    /// The instance.
    pub port: u16,
    /// Whose manager.
    pub scope: Scope,
    /// The version that installed it.
    pub version: String,
    /// Whether the installation was not proved yet: what ended it in between left it half done.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unfinished: bool,
    /// What it runs.
    pub program: PathBuf,
    /// Whether the manager holds the socket.
    pub socket: bool,
    /// The launchd job's label, where `--label` gave another than the port's usual one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// The account that a launchd daemon runs as.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// Where the tools were found that launchd's own search path lacks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tool_dirs: Vec<PathBuf>,
    /// The environment given by `--env`.
    pub env: BTreeMap<String, String>,
    /// Every file it needs.
    pub files: Vec<Made>,
    /// The directories that were not there before, outermost first.
    pub directories: Vec<PathBuf>,
    /// The service user, if install made it.
    pub user: Option<String>,
    /// The user for whom install enabled lingering.
    pub linger: Option<String>,
}

/// One file that install wrote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Made {
    /// Where.
    pub path: PathBuf,
    /// Whether other instances use it, too: the last uninstall removes it.
    pub shared: bool,
}

/// A receipt that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ReceiptError {
    /// It cannot be read.
    #[error("cannot read the receipt {0}: {1}")]
    Io(PathBuf, io::Error),
    /// It is damaged.
    #[error("the receipt {0} is damaged ({1}); remove it, then `mpm-monitor install` writes a new one")]
    Damaged(PathBuf, serde_json::Error),
    /// It holds what no install writes.
    #[error(
        "the receipt {0} cannot be used: {1} is nothing that install writes; remove it, then `mpm-monitor install` writes a new one"
    )]
    Invalid(PathBuf, String),
}

impl Receipt {
    /// The file's text.
    pub fn to_text(&self) -> String {
        // A struct of strings, numbers and maps with string keys always serialises.
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }

    /// Reads one; `None` if there is none.
    ///
    /// # Errors
    /// [`ReceiptError`].
    pub fn read(path: &Path) -> Result<Option<Self>, ReceiptError> {
        let Some(text) = Guard::KEPT.text(path).map_err(|e| ReceiptError::Io(path.to_owned(), e))? else {
            return Ok(None);
        };
        let receipt: Self = serde_json::from_str(&text).map_err(|e| ReceiptError::Damaged(path.to_owned(), e))?;
        match receipt.flaw() {
            Some(flaw) => Err(ReceiptError::Invalid(path.to_owned(), flaw)),
            None => Ok(Some(receipt)),
        }
    }

    /// What in it would become something else in a unit, on a command line or on the disk.
    fn flaw(&self) -> Option<String> {
        let is_text = |text: &str| !text.contains(char::is_control);
        let is_path = |path: &Path| {
            let goes_up = path.components().any(|c| c == std::path::Component::ParentDir);
            path.is_absolute() && !goes_up && path.to_str().is_none_or(is_text)
        };
        let is_user = |name: &str| {
            let valid = |c: char| c.is_alphanumeric() || matches!(c, '.' | '_' | '-' | '@' | '\\' | '$' | '+');
            !name.is_empty() && !name.starts_with('-') && name.chars().all(valid)
        };
        let paths = [&self.program].into_iter().chain(&self.directories).chain(&self.tool_dirs);
        let path = paths.chain(self.files.iter().map(|f| &f.path)).find(|p| !is_path(p));
        let users = [&self.account, &self.user, &self.linger].into_iter().flatten();
        let env = self.env.iter().find(|(name, value)| !is_env_name(name) || !is_env_value(value));
        path.map(|p| format!("the path {:?}", p.display().to_string()))
            .or(users.into_iter().find(|u| !is_user(u)).map(|user| format!("the user {user:?}")))
            .or(env.map(|(name, _)| format!("the value or name of the variable {name:?}")))
            .or([&self.label, &Some(self.version.clone())]
                .into_iter()
                .flatten()
                .find(|t| !is_text(t))
                .map(|t| format!("{t:?}")))
    }

    /// All receipts in a directory that can be read, by port. A damaged one is left out: a verb on its port says so.
    pub fn all(dir: &Path) -> Vec<Self> {
        let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
        let mut all: Vec<Self> = entries
            .filter(|e| e.path().extension().is_some_and(|x| x == "json"))
            .filter_map(|e| Self::read(&e.path()).ok().flatten())
            .collect();
        all.sort_by_key(|r| r.port);
        all
    }

    /// Takes over what `gone` made and this instance still needs or keeps: directories, the user, lingering.
    pub fn inherit(&mut self, gone: &Self) {
        for dir in &gone.directories {
            if !self.directories.contains(dir) {
                self.directories.push(dir.clone());
            }
        }
        // Outermost first, and the same order whatever the history.
        self.directories.sort();
        self.user = self.user.take().or_else(|| gone.user.clone());
        self.linger = self.linger.take().or_else(|| gone.linger.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files;

    pub(crate) fn receipt(port: u16) -> Receipt {
        Receipt {
            schema_version: 1,
            port,
            scope: Scope::User,
            version: "0.1.0".into(),
            unfinished: false,
            program: "/usr/bin/mpm-monitor".into(),
            socket: false,
            label: None,
            account: None,
            tool_dirs: vec![],
            env: BTreeMap::new(),
            files: vec![Made { path: "/u/mpm-monitor@.service".into(), shared: true }],
            directories: vec!["/u".into()],
            user: None,
            linger: Some("ann".into()),
        }
    }

    #[test]
    fn written_read_and_listed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("8765.json");
        assert!(Receipt::read(&path).unwrap().is_none());
        files::write(&path, &receipt(8765).to_text(), 0o600).unwrap();
        files::write(&dir.path().join("9000.json"), "{", 0o600).unwrap();
        assert_eq!(Receipt::read(&path).unwrap(), Some(receipt(8765)));
        assert_eq!(Receipt::all(dir.path()), [receipt(8765)]);
        let error = Receipt::read(&dir.path().join("9000.json")).unwrap_err();
        assert!(error.to_string().contains("is damaged"), "{error}");
    }

    #[test]
    fn receipt_with_what_no_install_writes_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("8765.json");
        let env = |name: &str, value: &str| BTreeMap::from([(name.to_owned(), value.to_owned())]);
        let good = Receipt { env: env("A", "two\nlines\tand a tab"), ..receipt(1) };
        for bad in [
            Receipt { env: env("A", "x\rExecStartPre=/bin/true"), ..receipt(1) },
            Receipt { env: env("A\nExecStartPre", "x"), ..receipt(1) },
            Receipt { program: "bin/mpm-monitor".into(), ..receipt(1) },
            Receipt { program: "/usr/bin/x\ny".into(), ..receipt(1) },
            Receipt { directories: vec!["/u/../etc".into()], ..receipt(1) },
            Receipt { linger: Some("--all".into()), ..receipt(1) },
            Receipt { account: Some("a b".into()), ..receipt(1) },
            Receipt { label: Some("a\nb".into()), ..receipt(1) },
        ] {
            files::write(&path, &bad.to_text(), 0o600).unwrap();
            let error = Receipt::read(&path).unwrap_err();
            assert!(matches!(error, ReceiptError::Invalid(..)), "{bad:?}: {error}");
            assert_eq!(Receipt::all(dir.path()), []);
        }
        files::write(&path, &good.to_text(), 0o600).unwrap();
        assert_eq!(Receipt::read(&path).unwrap(), Some(good));
    }

    #[test]
    fn what_the_first_made_is_handed_to_the_next() {
        let mut next = Receipt { directories: vec!["/z".into()], linger: None, ..receipt(1) };
        next.inherit(&receipt(2));
        assert_eq!(next.directories, [PathBuf::from("/u"), "/z".into()]);
        assert_eq!(next.linger.as_deref(), Some("ann"));
    }
}
