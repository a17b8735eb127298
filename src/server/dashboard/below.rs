//! The part of a URL that names a file below a folder.

/// The longest such part, bytes as sent.
const LONGEST: usize = 1024;
/// The most folders on the way to a file.
const DEEPEST: usize = 16;
/// The longest name that file systems take, bytes.
const LONGEST_NAME: usize = 255;

/// A path of plain names: not one of them is empty, `.`, `..`, or holds a separator, so that it leads down or nowhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Below(String);

impl Below {
    /// Reads what follows the prefix in a request's path, as it was sent. It is decoded once; what would mean something
    /// else when decoded again, or on another system, is `None`.
    pub fn from_url(sent: &str) -> Option<Self> {
        if sent.len() > LONGEST || sent.split('/').count() > DEEPEST {
            return None;
        }
        let names: Option<Vec<String>> = sent.split('/').map(name).collect();
        Some(Self(names?.join("/")))
    }

    /// The names, joined by `/`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// One name, decoded.
fn name(sent: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(sent.len());
    let mut rest = sent.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let mut digit = || char::from(rest.next()?).to_digit(16);
                u8::try_from(digit()? * 16 + digit()?).ok()?
            }
            _ => byte,
        });
    }
    let name = String::from_utf8(bytes).ok()?;
    let plain = !name.is_empty()
        && name.len() <= LONGEST_NAME
        && name != "."
        && name != ".."
        && !name.contains(['/', '\\', '%'])
        && !name.contains(char::is_control);
    plain.then_some(name)
}

#[cfg(test)]
mod tests {
    use std::path::{Component, Path};

    use proptest::prelude::*;

    use super::*;

    fn read(sent: &str) -> Option<String> {
        Below::from_url(sent).map(|b| b.0)
    }

    #[test]
    fn names_are_decoded_once() {
        assert_eq!(read("immutable/chunks/C4Jy-Jte.js").as_deref(), Some("immutable/chunks/C4Jy-Jte.js"));
        assert_eq!(read("a%20b/%C3%A4.css").as_deref(), Some("a b/ä.css"));
        assert_eq!(read("-4-mbKGY.js").as_deref(), Some("-4-mbKGY.js"));
        assert_eq!(read("...").as_deref(), Some("..."), "a name like any other");
        for bad in
            ["", "/", "a//b", "a/", ".", "..", "a/../b", "%2e%2e/b", "%2E.", "a%2fb", "a%5cb", "a\\b", "%00", "a%0a"]
        {
            assert_eq!(read(bad), None, "{bad:?}");
        }
        for bad in ["%252e%252e", "%25", "%", "%4", "%zz", "%+1", "%c0%ae%c0%ae", "%ff", "%e0%80%af", "%ef%bc"] {
            assert_eq!(read(bad), None, "{bad:?}");
        }
        assert_eq!(read(&"a".repeat(256)), None);
        assert_eq!(read(&"a/".repeat(20)), None);
    }

    proptest! {
        #[test]
        fn whatever_is_taken_leads_down(sent in "([a.%/\\\\]|%2[eEfF5]|%5c|%c0|[ -~]|\\PC){0,40}") {
            if let Some(below) = Below::from_url(&sent) {
                let path = Path::new(below.as_str());
                prop_assert!(path.components().all(|c| matches!(c, Component::Normal(_))), "{sent:?} -> {path:?}");
                prop_assert_eq!(path.components().count(), sent.split('/').count());
            }
        }
    }
}
