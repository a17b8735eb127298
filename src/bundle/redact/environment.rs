//! Every value of an environment: of `Environment=` in units, of `env` in receipts, of `EnvironmentVariables` in property lists.

use std::ops::Range;

use super::text::{bracket, line_end, line_start, quote, skip};

/// Names of maps and lists of variables.
const MAPS: [&str; 4] = ["env", "environment", "EnvironmentVariables", "Environment"];

/// Adds to `found` where the values of environments stand in the text.
pub fn find(text: &str, found: &mut Vec<Range<usize>>) {
    for map in MAPS {
        let mut done = 0;
        for (start, _) in text.match_indices(map) {
            let end = start + map.len();
            let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/');
            // The `n` of a written line break is not of the name.
            let before = text[..start].strip_suffix("\\n").unwrap_or(&text[..start]);
            if start < done || before.ends_with(is_word) || text[end..].starts_with(is_word) {
                continue;
            }
            if let Some(tail) = text[end..].strip_prefix("</key>") {
                done = dictionary(text, text.len() - tail.len(), found);
                continue;
            }
            let closed = end + quote(&text[end..]).map_or(0, str::len);
            let sign = skip(text, closed, |c| matches!(c, ' ' | '\t'));
            let Some(sign) = text[sign..].find([':', '=']).filter(|n| *n == 0).map(|_| sign) else { continue };
            let value = skip(text, sign + 1, |c| matches!(c, ' ' | '\t'));
            let rest = &text[value..];
            if rest.starts_with(['{', '[']) {
                done = bracket(text, value).max(value + 1);
                pairs(text, value + 1..done, found);
            } else if rest.starts_with('\n') {
                let indent = |at: usize| skip(text, at, |c| c == ' ') - at;
                let (own, mut to) = (indent(line_start(text, start)), value + 1);
                while to < text.len() && (indent(to) > own || text[to..].starts_with("- ")) {
                    to = text[to..].find('\n').map_or(text.len(), |n| to + n + 1);
                }
                done = to;
                pairs(text, value + 1..to, found);
            } else if map == "Environment" {
                done = logical_end(text, value);
                assignments(text, value..done, found);
            }
        }
    }
}

/// The end of a line that `\` at the end continues on the next.
fn logical_end(text: &str, from: usize) -> usize {
    let mut end = line_end(text, from);
    while text[..end].ends_with('\\') && text[end..].starts_with('\n') {
        end = line_end(text, end + 1);
    }
    end
}

/// `NAME=VALUE "NAME=TWO WORDS"`.
fn assignments(text: &str, range: Range<usize>, found: &mut Vec<Range<usize>>) {
    let is_break = |c: char| c.is_whitespace() || matches!(c, '"' | '\'');
    let mut values: Vec<usize> = Vec::new();
    let mut ends = Vec::new();
    for (n, _) in text[range.clone()].match_indices('=') {
        let sign = range.start + n;
        let before = &text[range.start..sign];
        let name = before.len() - before.trim_end_matches(|c: char| c.is_ascii_alphanumeric() || c == '_').len();
        let name_at = sign - name;
        if name > 0 && (name_at == range.start || text[..name_at].ends_with(is_break)) {
            ends.push(name_at);
            values.push(sign + 1);
        }
    }
    ends.push(range.end);
    for (from, to) in values.into_iter().zip(ends.into_iter().skip(1)) {
        hide(text, from..to, found);
    }
}

/// `"NAME": "VALUE"`, `NAME => VALUE`, `- NAME=VALUE`, one on each line or behind commas.
fn pairs(text: &str, range: Range<usize>, found: &mut Vec<Range<usize>>) {
    let mut at = range.start;
    while at < range.end {
        let name = skip(text, at, |c| c.is_whitespace() || matches!(c, ',' | '-' | '{' | '}')).min(range.end);
        let mark = quote(&text[name..]);
        let name = name + mark.map_or(0, str::len);
        let after =
            skip(text, name, |c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-')).min(range.end).max(name);
        let tail = text[after..range.end].trim_start_matches(['"', '\'', '\\', ' ']);
        let sign = ["=>", "=", ":"].iter().find(|s| tail.starts_with(**s));
        let line = text[after..range.end].find('\n').map_or(range.end, |n| after + n);
        let Some(sign) = sign.filter(|_| after > name) else {
            at = line.max(at) + 1;
            continue;
        };
        let value = range.end - tail.len() + sign.len();
        let value = skip(text, value, |c| matches!(c, ' ' | '\t')).min(range.end);
        let own = quote(&text[value..]);
        // Within its own quotes, or in those around the whole of it, or to the next comma.
        let end =
            match own.or(mark.filter(|_| sign.starts_with('=') && !text[after..].starts_with(mark.unwrap_or("\0")))) {
                Some(mark) => super::text::closing(text, value + own.map_or(0, str::len), mark).min(range.end),
                None => line,
            };
        hide(text, value..end, found);
        at = end + own.map_or(0, str::len).max(1);
    }
}

/// `<dict>` with a `<string>` for each variable; where it ends.
fn dictionary(text: &str, from: usize, found: &mut Vec<Range<usize>>) -> usize {
    let end = text[from..].find("</dict>").map_or(text.len(), |n| from + n);
    for (n, tag) in text[from..end].match_indices("<string>") {
        let value = from + n + tag.len();
        hide(text, value..text[value..end].find("</string>").map_or(end, |n| value + n), found);
    }
    end
}

/// The range without quotes and space around it.
fn hide(text: &str, range: Range<usize>, found: &mut Vec<Range<usize>>) {
    if range.start >= range.end {
        return;
    }
    let is_around = |c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '\\');
    let value = &text[range.clone()];
    let start = range.start + (value.len() - value.trim_start_matches(is_around).len());
    let value = value.trim_matches(is_around);
    if !value.is_empty() {
        found.push(start..start + value.len());
    }
}
