//! launchd's domains: where a job lives. One choice is made for all verbs, by asking and not by guessing.

use std::fmt;

/// A domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Domain {
    /// The machine's: daemons.
    System,
    /// Of a user who is logged in at the screen.
    Gui(u32),
    /// Of a user, whether at the screen or over SSH.
    User(u32),
}

impl Domain {
    /// The domains in which a user's job can be, the best first.
    pub fn of_user(uid: u32) -> [Self; 2] {
        [Self::Gui(uid), Self::User(uid)]
    }

    /// A job in it, as launchctl names it.
    pub fn target(self, label: &str) -> String {
        format!("{self}/{label}")
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System => f.write_str("system"),
            Self::Gui(uid) => write!(f, "gui/{uid}"),
            Self::User(uid) => write!(f, "user/{uid}"),
        }
    }
}

/// Why a label cannot be one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} cannot be the label of a job: letters, digits, `.`, `-` and `_`, not beginning with `.` or `-`, and neither of \
     com.apple. nor of Homebrew's names"
)]
pub struct BadLabel(pub String);

/// A label that a person chose.
///
/// # Errors
/// [`BadLabel`] for one that launchd or the file system would stumble over, or that belongs to somebody else.
pub fn label(text: &str) -> Result<String, BadLabel> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let foreign = ["com.apple.", "homebrew.", "sh.brew."].iter().any(|p| text.starts_with(p));
    if text.is_empty() || text.len() > 128 || !text.chars().all(plain) || text.starts_with(['.', '-']) || foreign {
        return Err(BadLabel(text.to_owned()));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets() {
        assert_eq!(Domain::System.target("x"), "system/x");
        assert_eq!(Domain::of_user(501).map(|d| d.target("x")), ["gui/501/x", "user/501/x"]);
    }

    #[test]
    fn labels_that_are_taken() {
        assert_eq!(label("org.example.mpm-monitor_1").unwrap(), "org.example.mpm-monitor_1");
        for bad in ["", "a/b", "a b", ".a", "-a", "com.apple.x", "homebrew.mxcl.mpm-monitor", "sh.brew.mpm-monitor"] {
            assert!(label(bad).is_err(), "{bad}");
        }
    }
}
