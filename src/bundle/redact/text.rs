//! Small readers of text that several rules need. Positions are bytes; a line also ends at a written `\n`, as in JSON strings.

/// The quote at the beginning of `text`, with the backslashes before it.
pub fn quote(text: &str) -> Option<&str> {
    let slashes = text.bytes().take_while(|b| *b == b'\\').count();
    matches!(text.as_bytes().get(slashes), Some(b'"' | b'\'' | b'`')).then(|| &text[..=slashes])
}

/// How far a line is looked at, so that long lines do not take the square of their length.
const WINDOW: usize = 4096;

/// The nearest beginning of a character at or before `at`.
pub fn boundary(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|n| text.is_char_boundary(*n)).unwrap_or(0)
}

/// The end of the line that `from` is in.
pub fn line_end(text: &str, from: usize) -> usize {
    let line = &text[from..text[from..].find('\n').map_or(text.len(), |n| from + n)];
    let line = line.strip_suffix('\r').unwrap_or(line);
    from + line.find("\\n").unwrap_or(line.len())
}

/// The end of the line that `from` is in, or of as much of it as is looked at.
pub fn near_end(text: &str, from: usize) -> usize {
    line_end(&text[..boundary(text, from + WINDOW).max(from)], from)
}

/// The beginning of the line that `at` is in, or of as much of it as is looked at.
pub fn line_start(text: &str, at: usize) -> usize {
    let first = boundary(text, at.saturating_sub(WINDOW));
    let start = text[first..at].rfind('\n').map_or(first, |n| first + n + 1);
    text[start..at].rfind("\\n").map_or(start, |n| start + n + 2)
}

/// The end of `text` from `from` for which `belongs` holds.
pub fn skip(text: &str, from: usize, belongs: impl Fn(char) -> bool) -> usize {
    text[from..].find(|c| !belongs(c)).map_or(text.len(), |n| from + n)
}

/// How far a string of several lines is followed.
const LONGEST: usize = 1000;

/// Where the string that begins at `from` ends; `mark` is the quote before it. A quote in the middle of a word, or a double
/// one, does not end it.
pub fn closing(text: &str, from: usize, mark: &str) -> usize {
    let end = text[from..].find('\n').map_or(text.len(), |n| from + n);
    let mut first = None;
    let mut at = from;
    let near = boundary(text, from + WINDOW).clamp(from, end);
    while let Some(found) = text[at..near].find(&mark[mark.len() - 1..]).map(|n| at + n) {
        at = found + 1;
        let slashes = text[from..found].bytes().rev().take_while(|b| *b == b'\\').count();
        if slashes != mark.len() - 1 && (slashes % 2 == 1 || mark.len() > 1) {
            continue;
        }
        if mark.len() == 1 && found > from && text[at..end].starts_with(mark) {
            at += 1;
            continue;
        }
        let start = if mark.len() > 1 { found - slashes } else { found };
        let after = text[at..end].chars().next();
        if after.is_none_or(|c| !c.is_alphanumeric() && !matches!(c, '_' | '-' | '!' | '@' | '#' | '$' | '%')) {
            return start;
        }
        first.get_or_insert(start);
    }
    let below = || {
        let limit =
            text[end..].char_indices().map(|(n, _)| end + n).find(|n| *n >= end + LONGEST).unwrap_or(text.len());
        let at = text[end..limit].find(mark).map(|n| end + n)?;
        let is_end = text[at + mark.len()..]
            .chars()
            .next()
            .is_none_or(|c| c.is_whitespace() || matches!(c, ',' | ';' | '}' | ']' | ')'));
        (mark.len() == 1 && is_end).then_some(at)
    };
    let far = || text[near..end].find(mark).map(|n| near + n);
    first.or_else(far).or_else(below).unwrap_or(end)
}

/// The bracket that closes the one at `open`, outside of quotes if they are closed; the end of the line where there is none.
pub fn bracket(text: &str, open: usize) -> usize {
    let text = &text[..boundary(text, open + 4 * WINDOW)];
    matching(text, open, true).or_else(|| matching(text, open, false)).unwrap_or_else(|| line_end(text, open))
}

fn matching(text: &str, open: usize, quotes: bool) -> Option<usize> {
    let (mut depth, mut inside) = (0_usize, None);
    let mut at = open;
    while let Some(c) = text[at..].chars().next() {
        if let Some(mark) = quote(&text[at..]).filter(|_| quotes) {
            match inside {
                None => inside = Some(mark),
                Some(opened) if opened == mark => inside = None,
                Some(_) => {}
            }
            at += mark.len();
            continue;
        }
        if inside.is_none() {
            match c {
                '{' | '[' | '(' => depth += 1,
                '}' | ']' | ')' => depth = depth.saturating_sub(1),
                _ => {}
            }
            if depth == 0 {
                return Some(at);
            }
        }
        at += c.len_utf8();
    }
    None
}

/// The quote that is open at the end of `text`.
pub fn open_quote(text: &str) -> Option<&str> {
    let (mut open, mut at) = (None, 0);
    while at < text.len() {
        if let Some(mark) = quote(&text[at..]) {
            let in_word = at > 0 && text[..at].ends_with(char::is_alphanumeric) && mark == "'";
            match open {
                None if !in_word => open = Some(mark),
                Some(opened) if opened == mark => open = None,
                _ => {}
            }
            at += mark.len();
        } else {
            at += text[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    open
}
