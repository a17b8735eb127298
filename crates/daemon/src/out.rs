//! The only way to standard output and standard error.
//!
//! Much of what the verbs print comes from others: versions and names that a process says of itself, lock files, log lines,
//! file names. None of it may steer the reader's terminal, so every text is escaped here: what a terminal obeys becomes
//! `\u001b` and the like, which in a JSON string means the same character. Line ends and tabs stay. Clippy refuses
//! `println!`, `std::io::stdout` and their like everywhere else in this crate.
//!
//! A reader that went away is no reason to fail: standard error is written as far as that is possible.
#![allow(clippy::disallowed_methods)]

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::fd::{AsFd, BorrowedFd};

/// The parameters of SGR sequences (ECMA-48) that only highlight: bold, dim, italic, underlined, and colours of the foreground
/// that are seen on every background. Nothing here hides a text.
const HIGHLIGHTS: [&str; 15] = ["0", "1", "2", "3", "4", "22", "23", "24", "31", "32", "33", "34", "35", "36", "39"];

/// Whether a terminal obeys the character, or turns the direction of text by it.
fn steers(c: char) -> bool {
    (c.is_control() && !matches!(c, '\n' | '\t'))
        || matches!(
            c,
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}'
        )
}

/// The text with everything escaped that would steer a terminal. A JSON text stays one, with the same meaning.
pub fn escaped(text: &str) -> Cow<'_, str> {
    escape(text, false)
}

fn escape(text: &str, keeps_highlights: bool) -> Cow<'_, str> {
    if !text.contains(steers) {
        return Cow::Borrowed(text);
    }
    let (mut safe, mut rest) = (String::with_capacity(text.len() + 64), text);
    while let Some(c) = rest.chars().next() {
        let highlight = if keeps_highlights && c == '\u{1b}' { highlight(rest) } else { None };
        let taken = highlight.unwrap_or(c.len_utf8());
        if highlight.is_some() || !steers(c) {
            safe.push_str(&rest[..taken]);
        } else {
            safe.push_str(&format!("\\u{:04x}", u32::from(c)));
        }
        rest = &rest[taken..];
    }
    Cow::Owned(safe)
}

/// The length of the highlighting SGR sequence that the text begins with.
fn highlight(text: &str) -> Option<usize> {
    let inner = text.strip_prefix("\u{1b}[")?;
    let end = inner.find('m')?;
    inner[..end].split(';').all(|p| HIGHLIGHTS.contains(&p)).then_some(end + 3)
}

/// Prints a text to standard output at once. A reader that went away (`| head`) is no error.
///
/// # Errors
/// Any other failure to write.
pub fn print(text: &str) -> io::Result<()> {
    forgive(line(text))
}

/// As [`print`], but colours that only highlight stay. What others said is to be [`escaped`] before it is coloured.
///
/// # Errors
/// As [`print`].
pub fn print_coloured(text: &str) -> io::Result<()> {
    forgive(write(io::stdout().lock(), &escape(text, true)))
}

/// Writes bytes that are no text, as they are. Only for a standard output that is no terminal.
///
/// # Errors
/// As [`print`].
pub fn print_bytes(bytes: &[u8]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    forgive(out.write_all(bytes).and_then(|()| out.flush()))
}

/// As [`print`], but tells when the reader went away, so that whoever prints without end can end.
///
/// # Errors
/// Any failure to write.
pub fn line(text: &str) -> io::Result<()> {
    write(io::stdout().lock(), &escaped(text))
}

/// Says something on standard error, in a line of its own. Where that cannot be written there is nobody to tell.
pub fn tell(text: &str) {
    let _ = write(io::stderr().lock(), &(escaped(text) + "\n"));
}

/// Puts a line of progress in place of the one before, on a standard error that is a terminal; `None` erases it.
pub fn progress(text: Option<&str>) {
    // Back to the line's beginning, and all of it gone (EL of ECMA-48).
    let _ = write(io::stderr().lock(), &("\r\u{1b}[K".to_owned() + &escaped(text.unwrap_or_default())));
}

fn write(mut to: impl Write, text: &str) -> io::Result<()> {
    to.write_all(text.as_bytes()).and_then(|()| to.flush())
}

fn forgive(written: io::Result<()>) -> io::Result<()> {
    match written {
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

/// Standard error for the log: each write is whole lines.
#[derive(Debug, Clone, Copy)]
pub struct Log {
    /// Whether colours that only highlight stay.
    pub coloured: bool,
}

impl Write for Log {
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(lines);
        io::stderr().lock().write_all(escape(&text, self.coloured).as_bytes())?;
        Ok(lines.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// Whether standard output is a terminal.
pub fn is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// Whether standard error is a terminal.
pub fn errors_to_terminal() -> bool {
    io::stderr().is_terminal()
}

/// Whether colours are wanted on a stream, by what is known of whether it is a terminal (<https://no-color.org>).
pub fn wants_colours(is_terminal: bool) -> bool {
    is_terminal && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
}

/// The columns of the terminal that standard output is.
pub fn columns() -> Option<usize> {
    rustix::termios::tcgetwinsize(io::stdout()).ok().map(|size| usize::from(size.ws_col))
}

/// What standard error is, for a question about it.
pub fn with_errors<T>(ask: impl FnOnce(BorrowedFd<'_>) -> T) -> T {
    ask(io::stderr().as_fd())
}

/// The file behind standard error, to shorten it where it is one.
///
/// # Errors
/// When there are no descriptors left.
pub fn errors_as_file() -> io::Result<File> {
    with_errors(|fd| fd.try_clone_to_owned()).map(File::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_steers_a_terminal_is_escaped() {
        let hostile = "a\u{1b}]0;x\u{7}\r\u{9b}2J\u{7f}\u{202e}b\u{2066}\u{200f}c\tä\n";
        assert_eq!(escaped(hostile), "a\\u001b]0;x\\u0007\\u000d\\u009b2J\\u007f\\u202eb\\u2066\\u200fc\tä\n");
        assert!(matches!(escaped("plain\ttext\n"), Cow::Borrowed(_)));
    }

    #[test]
    fn json_keeps_its_meaning() {
        let value = serde_json::json!({"a\u{202e}": "\u{1b}[2J\u{9b}\u{7f}\u{2069}\n"});
        for text in [value.to_string(), format!("{value:#}")] {
            let safe = escaped(&text);
            assert!(!safe.contains(steers), "{safe:?}");
            assert_eq!(serde_json::from_str::<serde_json::Value>(&safe).unwrap(), value);
        }
    }

    #[test]
    fn only_highlights_stay_where_colours_are_wanted() {
        let text = "\u{1b}[1;31mFAIL\u{1b}[0m \u{1b}[8mhidden \u{1b}[2J\u{1b}[38;5;0m\u{1b}";
        let kept = "\u{1b}[1;31mFAIL\u{1b}[0m \\u001b[8mhidden \\u001b[2J\\u001b[38;5;0m\\u001b";
        assert_eq!(escape(text, true), kept);
        assert!(!escaped(text).contains('\u{1b}'));
    }
}
