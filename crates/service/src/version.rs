//! Which of two programs is the newer one; pure.

use std::cmp::Ordering;

use semver::Version;
use serde::Serialize;

/// What a program says it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Identity {
    /// `MAJOR.MINOR.PATCH`, and perhaps `-PRERELEASE`.
    pub version: String,
    /// Its build.
    pub build: Option<String>,
}

/// What a new program is to the one in place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Relation {
    /// A later version.
    Newer,
    /// Another build of the same version.
    OtherBuild,
    /// The same build.
    Same,
    /// An earlier version.
    Older,
    /// What is in place does not say what it is.
    Unknown,
}

impl Relation {
    /// Of `new` to `old`.
    pub fn of(new: &Identity, old: Option<&Identity>) -> Self {
        let Some(old) = old else { return Self::Unknown };
        match order(&new.version, &old.version) {
            _ if new == old => Self::Same,
            _ if new.version == old.version => Self::OtherBuild,
            Some(Ordering::Less) => Self::Older,
            Some(_) => Self::Newer,
            None => Self::Unknown,
        }
    }

    /// In words, to follow the new one's name.
    pub fn words(self, old: Option<&Identity>) -> String {
        let old = old.map_or("what is installed", |o| o.version.as_str());
        match self {
            Self::Newer => format!("newer than {old}"),
            Self::OtherBuild => format!("another build of {old}"),
            Self::Same => "the same build as is installed".to_owned(),
            Self::Older => format!("older than {old}"),
            Self::Unknown => "and what is installed does not say its version".to_owned(),
        }
    }
}

/// The order of two versions by their precedence (semver.org, 11), which build metadata does not change.
fn order(new: &str, old: &str) -> Option<Ordering> {
    Some(Version::parse(new).ok()?.cmp_precedence(&Version::parse(old).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_by_number_not_by_letter() {
        let versions =
            ["0.1.0-alpha", "0.1.0-rc.2", "0.1.0-rc.10", "0.1.0", "0.2.0", "0.10.0", "1.0.0-1", "1.0.0-a", "1.0.0"];
        assert!(versions.windows(2).all(|w| order(w[0], w[1]) == Some(Ordering::Less)), "{versions:?}");
        assert_eq!(order("1.0.0+a", "1.0.0+b"), Some(Ordering::Equal));
        for bad in ["", "1", "1.2", "1.2.3.4", "a.b.c", "1.2.x"] {
            assert_eq!(order(bad, "1.0.0"), None, "{bad}");
        }
    }

    #[test]
    fn what_the_new_one_is_to_the_old_one() {
        let one = |version: &str, build: &str| Identity { version: version.into(), build: Some(build.into()) };
        let old = one("1.2.0", "aa");
        let of = |new: &Identity| Relation::of(new, Some(&old));
        assert_eq!(of(&one("1.10.0", "bb")), Relation::Newer);
        assert_eq!((of(&one("1.2.0", "bb")), of(&old)), (Relation::OtherBuild, Relation::Same));
        assert_eq!((of(&one("1.1.9", "bb")), of(&one("next", "bb"))), (Relation::Older, Relation::Unknown));
        assert_eq!(Relation::of(&old, None), Relation::Unknown);
        assert_eq!(Relation::Older.words(Some(&old)), "older than 1.2.0");
    }
}
