//! Private keys that take several lines, and lines of well-known password files.

use std::ops::Range;

use super::text::{line_end, near_end, skip};

/// Adds to `found` where key blocks and lines with passwords stand in the text.
pub fn find(text: &str, found: &mut Vec<Range<usize>>) {
    pem(text, found);
    putty(text, found);
    crypts(text, found);
    pgpass(text, found);
}

/// From `BEGIN … PRIVATE KEY` to its `END`; without an end all the rest may be of the key.
fn pem(text: &str, found: &mut Vec<Range<usize>>) {
    let mut at = 0;
    while let Some(word) = text[at..].find("BEGIN ").map(|n| at + n) {
        at = word + 6;
        let before = text[..word].trim_end_matches(' ');
        let begin = before.trim_end_matches('-').len();
        if before.len() - begin < 4 {
            continue;
        }
        let title = &text[word..near_end(text, word)];
        if !title.contains("PRIVATE KEY") {
            continue;
        }
        let end =
            text[at..].find("---- END ").into_iter().chain(text[at..].find("-----END ")).min().map(|n| at + n + 9);
        let end = end.and_then(|e| text[e..].find("----").map(|n| e + n));
        at = end.map_or(text.len(), |e| skip(text, e, |c| c == '-'));
        found.push(begin..at);
    }
}

/// From `Private-Lines:` of a PuTTY key to what follows its lines.
fn putty(text: &str, found: &mut Vec<Range<usize>>) {
    let mut done = 0;
    for (n, sign) in text.match_indices("Private-Lines:") {
        let from = n + sign.len();
        if from < done {
            continue;
        }
        let end = text[from..].find("Private-MAC:").map_or(text.len(), |e| line_end(text, from + e));
        found.push(from..end);
        done = end;
    }
}

/// Hashes of passwords: `$6$salt$hash`, `$2y$10$…`.
fn crypts(text: &str, found: &mut Vec<Range<usize>>) {
    let mut done = 0;
    for (n, _) in text.match_indices('$') {
        if n < done || text[..n].ends_with(|c: char| c.is_ascii_alphanumeric() || c == '$') {
            continue;
        }
        let kind = skip(text, n + 1, |c| c.is_ascii_alphanumeric() || c == '-');
        let end = skip(text, n, |c| c.is_ascii_alphanumeric() || "$./=,-+".contains(c));
        done = end;
        if (1..=12).contains(&(kind - n - 1)) && text[kind..].starts_with('$') && end - n >= 20 {
            found.push(n..end);
        }
    }
}

/// The last field of `host:port:database:user:password`.
fn pgpass(text: &str, found: &mut Vec<Range<usize>>) {
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let body = line.trim_end();
        let mut fields = body.splitn(5, ':');
        let (host, port) = (fields.next().unwrap_or_default(), fields.next().unwrap_or_default());
        let is_port = port == "*" || (!port.is_empty() && port.chars().all(|c| c.is_ascii_digit()));
        let is_plain = |field: &str| !field.is_empty() && !field.contains([' ', '"', '/', '=', '{']);
        let names = [fields.next().unwrap_or_default(), fields.next().unwrap_or_default()];
        if let Some(password) =
            fields.next().filter(|p| is_port && !p.is_empty() && is_plain(host) && names.into_iter().all(is_plain))
        {
            found.push(start + body.len() - password.len()..start + body.len());
        }
        start += line.len();
    }
}
