//! The path that a client asks for, before anything is looked at. Pure.

use std::path::{Component, Path, PathBuf};

/// The longest path, bytes; what the system takes.
const LONGEST: usize = 4096;
/// The longest name that file systems take, bytes.
const LONGEST_NAME: usize = 255;
/// The most names.
const DEEPEST: usize = 128;

/// An absolute path of plain names: whatever it is joined to or compared with, it leads down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked(PathBuf);

/// Why a text is no such path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AskedError {
    /// There is nothing.
    #[error("there is no path")]
    Empty,
    /// It does not begin at the root, and nothing says where else.
    #[error("the path is relative")]
    Relative,
    /// Too many bytes, in all or in a name, or too many names.
    #[error("the path is too long")]
    TooLong,
    /// No path of a system has a NUL.
    #[error("the path contains a NUL")]
    Nul,
    /// Where `..` leads depends on links that may change.
    #[error("the path contains ..")]
    Up,
}

impl AskedError {
    /// A name that stays the same over versions.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Empty => "path_missing",
            Self::Relative => "path_relative",
            Self::TooLong => "path_too_long",
            Self::Nul => "path_has_nul",
            Self::Up => "path_leads_up",
        }
    }
}

impl Asked {
    /// Reads a path as it was sent, after the one decoding of its carrier; a relative one begins at `base`.
    ///
    /// # Errors
    /// [`AskedError`].
    pub fn read(text: &str, base: Option<&Path>) -> Result<Self, AskedError> {
        if text.is_empty() {
            return Err(AskedError::Empty);
        }
        if text.len() > LONGEST {
            return Err(AskedError::TooLong);
        }
        if text.contains('\0') {
            return Err(AskedError::Nul);
        }
        let path = Path::new(text);
        let mut whole = match base {
            _ if path.is_absolute() => PathBuf::from("/"),
            Some(base) => base.to_owned(),
            None => return Err(AskedError::Relative),
        };
        for (number, part) in path.components().enumerate() {
            match part {
                Component::Normal(name) if name.len() > LONGEST_NAME || number >= DEEPEST => {
                    return Err(AskedError::TooLong);
                }
                Component::Normal(name) => whole.push(name),
                Component::ParentDir => return Err(AskedError::Up),
                Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
            }
        }
        Ok(Self(whole))
    }

    /// It.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_path_is_taken_as_it_is_written_or_not_at_all() {
        let read = |text: &str| Asked::read(text, None).map(|a| a.0.to_str().unwrap().to_owned());
        assert_eq!(read("/home/u/a.txt").as_deref(), Ok("/home/u/a.txt"));
        assert_eq!(read("//home/./u//a.txt/").as_deref(), Ok("/home/u/a.txt"));
        assert_eq!(read("/").as_deref(), Ok("/"));
        for (text, error) in [
            ("", AskedError::Empty),
            ("a.txt", AskedError::Relative),
            ("~/a.txt", AskedError::Relative),
            ("C:\\a", AskedError::Relative),
            ("/home/../etc/passwd", AskedError::Up),
            ("/home/u/..", AskedError::Up),
            ("/a\0b", AskedError::Nul),
        ] {
            assert_eq!(read(text), Err(error), "{text:?}");
        }
        assert_eq!(read(&format!("/{}", "a".repeat(256))), Err(AskedError::TooLong));
        assert_eq!(read(&"/a".repeat(129)), Err(AskedError::TooLong));
        assert_eq!(read(&"/".repeat(5000)), Err(AskedError::TooLong));
        let below = |text| Asked::read(text, Some(Path::new("/base"))).map(|a| a.0);
        assert_eq!(below("a/./b"), Ok("/base/a/b".into()));
        assert_eq!(below("/a"), Ok("/a".into()));
        assert_eq!(below("../a"), Err(AskedError::Up));
        // What is encoded twice, or means something elsewhere, is a name like any other.
        assert_eq!(below("%2e%2e\\a"), Ok("/base/%2e%2e\\a".into()));
    }

    proptest! {
        #[test]
        fn whatever_is_taken_leads_down(text in "([a./~\\\\%]|\\.\\./|\\PC){0,40}") {
            if let Ok(asked) = Asked::read(&text, Some(Path::new("/base"))) {
                let mut parts = asked.path().components();
                prop_assert_eq!(parts.next(), Some(Component::RootDir));
                prop_assert!(parts.all(|c| matches!(c, Component::Normal(_))));
            }
        }
    }
}
