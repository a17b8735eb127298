//! Texts inside of strings: what JSON writes as `\n` and `\"` is read as it was meant, and found where it is written.

use std::ops::Range;

use super::find_all;

/// Finds what is secret in the strings of a text that have escapes in them.
pub fn find(text: &str, found: &mut Vec<Range<usize>>) {
    let mut at = 0;
    while let Some(open) = text[at..].find('"').map(|n| at + n) {
        at = open + 1;
        if text[..open].ends_with('\\') {
            continue;
        }
        let Some(close) = end(text, at) else { continue };
        let inner = &text[at..close];
        if inner.contains('\\')
            && let Some((meant, places)) = decoded(inner)
        {
            let inside = find_all(&meant);
            found.extend(inside.into_iter().map(|r| at + places[r.start]..at + places[r.end]));
        }
        at = close + 1;
    }
}

/// The quote that ends the string, on the same line.
fn end(text: &str, from: usize) -> Option<usize> {
    let mut hidden = false;
    for (n, c) in text[from..].char_indices() {
        match c {
            '\n' => return None,
            '"' if !hidden => return Some(from + n),
            _ => hidden = c == '\\' && !hidden,
        }
    }
    None
}

/// The text that is meant, and for each of its bytes, and its end, where that is written.
fn decoded(written: &str) -> Option<(String, Vec<usize>)> {
    let (mut meant, mut places) = (String::new(), Vec::new());
    let mut chars = written.char_indices();
    while let Some((at, c)) = chars.next() {
        let c = if c == '\\' {
            match chars.next()?.1 {
                'n' => '\n',
                't' => '\t',
                'r' => '\r',
                'u' => {
                    let code: String = (0..4).filter_map(|_| chars.next().map(|(_, c)| c)).collect();
                    char::from_u32(u32::from_str_radix(&code, 16).ok()?).unwrap_or(' ')
                }
                other => other,
            }
        } else {
            c
        };
        meant.push(c);
        places.resize(meant.len(), at);
    }
    places.push(written.len());
    Some((meant, places))
}
