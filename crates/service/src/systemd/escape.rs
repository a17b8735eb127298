//! Quoting for unit files: systemd.syntax(7) for quotes and escapes, systemd.unit(5) for `%` specifiers,
//! systemd.service(5) for `$` in command lines. One wrong character here and the service runs something else.

use std::path::Path;

/// A path that no unit file can name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the path {0:?} cannot stand in a unit file (not UTF-8, or a control character); move the program to another path"
)]
pub struct Unspeakable(pub std::path::PathBuf);

/// One word of `ExecStart=` that stands for itself: its first word, the program, or an argument.
///
/// `first` is whether it is the program: there `$` is not expanded by systemd, and doubling it would be wrong.
///
/// # Errors
/// [`Unspeakable`] for what a unit file cannot hold.
pub fn exec_word(path: &Path, first: bool) -> Result<String, Unspeakable> {
    // string_is_safe() of systemd: whatever the quoting, a program with one of these in its path makes the unit bad.
    let safe = |c: char| !(c.is_control() || first && matches!(c, '"' | '\'' | '\\'));
    let text = path.to_str().filter(|t| t.chars().all(safe)).ok_or_else(|| Unspeakable(path.to_owned()))?;
    let mut word = quoted(text);
    if !first {
        word = word.replace('$', "$$");
    }
    Ok(word)
}

/// One assignment of `Environment=`; `$` has no meaning there.
pub fn assignment(name: &str, value: &str) -> String {
    quoted(&format!("{name}={value}"))
}

/// Doubles `%`, escapes what needs it, and quotes only where that changes something, so that common paths stay legible.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    let mut needs_quotes = text.is_empty();
    for c in text.chars() {
        match c {
            '%' => out.push_str("%%"),
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            c => out.push(c),
        }
        // A quote opens a string anywhere in a word; `;` alone separates commands; a leading `-@:+!|` is a prefix of
        // ExecStart=, which no absolute path and no NAME=VALUE begins with.
        needs_quotes |= c.is_whitespace() || matches!(c, '"' | '\'' | ';' | '\\');
    }
    if needs_quotes { format!("\"{out}\"") } else { out }
}

/// Reads a word back as systemd does: the inverse of [`exec_word`] with `first` and of [`assignment`], for the drift
/// report and for tests.
pub fn unquote(word: &str) -> Option<String> {
    let inner = match word.strip_prefix('"') {
        Some(rest) => rest.strip_suffix('"')?,
        None => word,
    };
    let mut out = String::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        match c {
            '%' => match chars.next()? {
                '%' => out.push('%'),
                _ => return None,
            },
            '\\' => match chars.next()? {
                'n' => out.push('\n'),
                't' => out.push('\t'),
                c @ ('\\' | '"') => out.push(c),
                _ => return None,
            },
            c => out.push(c),
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_awkward_characters() {
        let word = |p: &str| exec_word(Path::new(p), true).unwrap();
        assert_eq!(word("/usr/bin/mpm-monitor"), "/usr/bin/mpm-monitor");
        assert_eq!(word("/opt/mpm monitor/m"), "\"/opt/mpm monitor/m\"");
        assert_eq!(word("/opt/100%/m"), "/opt/100%%/m");
        let argument = |p: &str| exec_word(Path::new(p), false).unwrap();
        assert_eq!(argument("/opt/a\"b/m"), "\"/opt/a\\\"b/m\"");
        assert_eq!(argument("/opt/it's/m"), "\"/opt/it's/m\"");
        assert_eq!(argument("/opt/a\\x20b/m"), "\"/opt/a\\\\x20b/m\"");
        assert_eq!(word("/opt/$HOME/m"), "/opt/$HOME/m");
        assert_eq!(exec_word(Path::new("/opt/$HOME/m"), false).unwrap(), "/opt/$$HOME/m");
        assert_eq!(assignment("A", "b c %h $x"), "\"A=b c %%h $x\"");
        for bad in ["/opt/a\nb", "/opt/it's", "/opt/a\"b", "/opt/a\\b"] {
            assert!(exec_word(Path::new(bad), true).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(text in "[ -~é\n\t]{0,40}") {
            prop_assert_eq!(unquote(&assignment("A", &text)), Some(format!("A={text}")));
        }

        #[test]
        fn one_word_stays_one_line(value in any::<String>()) {
            prop_assert!(!assignment("A", &value).contains('\n'));
        }
    }
}
