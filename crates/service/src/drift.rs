//! Tells a file that we wrote and nobody touched from one that a person edited: the header line carries a hash of
//! everything below it.

use sha2::{Digest, Sha256};

/// What the first line of a unit file begins with that the program `name` wrote. The number rises when the meaning of the header
/// changes.
fn mark(name: &str) -> String {
    format!("# {name} unit v1 ")
}

/// The same for a property list, where a comment can come after the document type at the earliest.
fn plist_mark(name: &str) -> String {
    format!("<!-- {name} plist v1 ")
}

/// An installed file against the one that would be written now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Drift {
    /// There is no such file.
    Absent,
    /// Byte for byte what would be written.
    Clean,
    /// Ours and untouched, but another version or other settings wrote it.
    Outdated,
    /// Somebody changed it by hand, or it never was ours. It is not overwritten.
    Edited,
}

/// What the header says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The version of the program that wrote the file.
    pub program: String,
    /// Whether the rest of the file is what that program wrote.
    pub intact: bool,
}

/// Puts the header above `rest`.
pub fn stamp(name: &str, rest: &str, version: &str) -> String {
    format!("{}program={version} sha256:{}\n{rest}", mark(name), hash(rest))
}

/// Puts the header into a property list, above its root element.
pub fn stamp_plist(name: &str, document: &str, version: &str) -> String {
    let root = document.find("<plist").unwrap_or(0);
    let (head, body) = document.split_at(root);
    format!("{head}{}program={version} sha256:{} -->\n{body}", plist_mark(name), hash(document))
}

/// Reads the header; `None` if there is none of ours.
pub fn header(name: &str, content: &str) -> Option<Header> {
    if content.starts_with("<?xml") {
        return plist_header(name, content);
    }
    let (first, rest) = content.split_once('\n')?;
    let (program, sha) = fields(first.strip_prefix(&*mark(name))?)?;
    Some(Header { program: program.to_owned(), intact: sha == hash(rest) })
}

/// The header of a property list; everything but its line is what the hash is of.
fn plist_header(name: &str, content: &str) -> Option<Header> {
    let mark = plist_mark(name);
    let start = content.find(&format!("\n{mark}"))? + 1;
    let (line, rest) = content[start..].split_once('\n')?;
    let (program, sha) = fields(line.strip_prefix(&*mark)?.strip_suffix(" -->")?)?;
    Some(Header { program: program.to_owned(), intact: sha == hash(&format!("{}{rest}", &content[..start])) })
}

fn fields(text: &str) -> Option<(&str, &str)> {
    text.strip_prefix("program=")?.split_once(" sha256:")
}

/// Compares what is there with what would be written.
pub fn drift(name: &str, installed: Option<&str>, desired: &str) -> Drift {
    match installed {
        None => Drift::Absent,
        Some(content) if content == desired => Drift::Clean,
        Some(content) if is_ours(name, content) => Drift::Outdated,
        Some(_) => Drift::Edited,
    }
}

/// Whether the file is ours and untouched, whatever version wrote it.
pub fn is_ours(name: &str, content: &str) -> bool {
    header(name, content).is_some_and(|h| h.intact)
}

/// The changes from what would be written to what is there, as a unified diff.
pub fn diff(installed: &str, desired: &str, name: &str) -> String {
    similar::TextDiff::from_lines(desired, installed)
        .unified_diff()
        .context_radius(2)
        .header(&format!("{name} (as install writes it)"), &format!("{name} (as it is)"))
        .to_string()
}

/// SHA-256 in hexadecimal.
pub fn hash(text: &str) -> String {
    use std::fmt::Write as _;
    Sha256::digest(text.as_bytes()).iter().fold(String::with_capacity(64), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_four_states() {
        let desired = stamp("mpm-monitor", "[Unit]\nA=1\n", "2.0.0");
        assert_eq!(drift("mpm-monitor", None, &desired), Drift::Absent);
        assert_eq!(drift("mpm-monitor", Some(&desired), &desired), Drift::Clean);
        assert_eq!(
            drift("mpm-monitor", Some(&stamp("mpm-monitor", "[Unit]\nA=1\n", "1.0.0")), &desired),
            Drift::Outdated
        );
        assert_eq!(
            drift("mpm-monitor", Some(&stamp("mpm-monitor", "[Unit]\nA=0\n", "2.0.0")), &desired),
            Drift::Outdated
        );
        assert_eq!(drift("mpm-monitor", Some(&desired.replace("A=1", "A=2")), &desired), Drift::Edited);
        assert_eq!(drift("mpm-monitor", Some("[Unit]\nA=1\n"), &desired), Drift::Edited);
        assert_eq!(header("mpm-monitor", &desired).unwrap().program, "2.0.0");
    }

    #[test]
    fn a_property_list_has_its_header_below_the_document_type() {
        let list = "<?xml version=\"1.0\"?>\n<!DOCTYPE plist>\n<plist><dict/></plist>\n";
        let desired = stamp_plist("mpm-monitor", list, "2.0.0");
        assert!(desired.starts_with("<?xml"), "XML allows nothing before its declaration: {desired}");
        assert_eq!(header("mpm-monitor", &desired), Some(Header { program: "2.0.0".into(), intact: true }));
        assert_eq!(drift("mpm-monitor", Some(&stamp_plist("mpm-monitor", list, "1.0.0")), &desired), Drift::Outdated);
        assert_eq!(drift("mpm-monitor", Some(&desired.replace("<dict/>", "<dict></dict>")), &desired), Drift::Edited);
        assert_eq!(drift("mpm-monitor", Some(&desired.replace("<!DOCTYPE plist>", "")), &desired), Drift::Edited);
        assert_eq!(drift("mpm-monitor", Some(list), &desired), Drift::Edited);
    }

    #[test]
    fn the_diff_shows_what_the_person_did() {
        let desired = stamp("mpm-monitor", "[Service]\nWatchdogSec=10\n", "1");
        let diff = diff(&desired.replace("=10", "=60"), &desired, "x.service");
        assert!(diff.contains("-WatchdogSec=10") && diff.contains("+WatchdogSec=60"), "{diff}");
    }

    #[test]
    fn the_hash_is_sha256() {
        assert_eq!(hash("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }

    proptest! {
        #[test]
        fn any_single_change_below_the_header_is_an_edit(rest in "[ -~\n]{1,80}", at in 0usize..80, with in "[!-~]") {
            let stamped = stamp("mpm-monitor", &rest, "1.2.3");
            prop_assert!(is_ours("mpm-monitor", &stamped));
            let offset = stamped.find('\n').unwrap() + 1 + at % rest.len();
            let mut changed = stamped.clone();
            changed.replace_range(offset..=offset, &with);
            prop_assert_eq!(is_ours("mpm-monitor", &changed), changed == stamped);
        }

        #[test]
        fn reading_a_header_never_panics(text in any::<String>()) {
            let _ = (header("mpm-monitor", &text), header("mpm-monitor", &format!("<?xml{text}")));
        }
    }
}
