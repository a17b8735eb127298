//! Values of names that sound secret, in the ways in which configuration, logs, JSON, YAML, XML and command lines write them.

use std::ops::Range;

use super::MARK;
use super::names::{is_count, is_of_whole_line, is_secret_name, is_secret_parameter};
use super::text::{bracket, closing, line_end, line_start, near_end, open_quote, quote, skip};

/// Words that are an answer, and nobody's secret.
const ANSWERS: [&str; 12] = ["true", "false", "null", "nil", "none", "yes", "no", "on", "off", "unset", "-", "default"];
/// Folders at the top of file systems: a value that begins with one is a place.
const TOPS: [&str; 18] = [
    "/etc/",
    "/home/",
    "/Users/",
    "/run/",
    "/var/",
    "/usr/",
    "/opt/",
    "/tmp/",
    "/root/",
    "/private/",
    "/Library/",
    "/nix/",
    "/srv/",
    "/proc/",
    "/dev/",
    "/mnt/",
    "/System/",
    "~/",
];
/// Words between a name and its value in a sentence.
const LINKS: [&str; 12] = ["is", "was", "are", "=", "to", "by", "as", "value", "set", "with", "5", "0"];
/// What stands between a name and its value.
const SIGNS: [&str; 9] = ["=>", ":=", "?=", "+=", "==", "=", ":", "\n: ", "\n= "];
/// Words before `code`, `phrase` or `word` that make it one that opens something.
const OPENERS: [&str; 8] =
    ["pass ", "time ", "verification ", "security ", "login ", "access ", "recovery ", "backup "];
/// Settings of systemd that name a credential and say where it is.
const LOADS: [&str; 3] = ["LoadCredential", "LoadCredentialEncrypted", "ImportCredential"];

fn is_of_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.')
}

/// Adds to `found` where the values of names that announce a secret stand in the text.
pub fn find(text: &str, found: &mut Vec<Range<usize>>) {
    let mut at = 0;
    while let Some(start) = text[at..].find(is_of_name).map(|n| at + n) {
        let end = skip(text, start, is_of_name);
        at = end;
        // The `n` of a written line break is not of the name.
        let written = text[..start].ends_with('\\') && text[start..].starts_with(['n', 't', 'r']);
        let name = Name { text, start: start + usize::from(written), end };
        if name.is_secret()
            && let Some(value) = name.value()
        {
            // The value of `key` may be a name: `key="ApiKey" value="…"`.
            if !name.word().eq_ignore_ascii_case("key") {
                at = at.max(value.end);
            }
            found.push(value);
        }
    }
}

/// A name in a text.
#[derive(Clone, Copy)]
struct Name<'a> {
    text: &'a str,
    start: usize,
    end: usize,
}

impl<'a> Name<'a> {
    fn word(&self) -> &'a str {
        &self.text[self.start..self.end]
    }

    fn before(&self) -> &'a str {
        &self.text[..self.start]
    }

    fn is_flag(&self) -> bool {
        self.word().starts_with('-')
    }

    fn is_parameter(&self) -> bool {
        self.before().ends_with(['?', '&', '#', ';'])
    }

    fn is_secret(&self) -> bool {
        let word = self.word();
        let said = word.eq_ignore_ascii_case("identified");
        // `<key>` of property lists, and paths of Rust in logs.
        let is_other = LOADS.contains(&word) || (word == "key" && self.before().ends_with(['<', '/']));
        let is_path = self.before().ends_with("::");
        let is_parameter = self.is_parameter() && is_secret_parameter(word) && self.text[self.end..].starts_with('=');
        !is_other && !is_path && (self.is_second_word() || said || is_parameter || is_secret_name(word))
    }

    /// `pass phrase`, `one-time code`.
    fn is_second_word(&self) -> bool {
        let lower = |text: &str| text.to_ascii_lowercase();
        let before = &self.before().as_bytes()[self.start.saturating_sub(16)..];
        let before = lower(&String::from_utf8_lossy(before));
        ["phrase", "code", "word"].contains(&lower(self.word()).as_str()) && OPENERS.iter().any(|o| before.ends_with(o))
    }

    fn value(&self) -> Option<Range<usize>> {
        let text = self.text;
        if let Some(value) = self.element() {
            return Some(value);
        }
        if let Some(value) = self.section() {
            return Some(value);
        }
        let (mut at, mut closed) = (self.end, false);
        loop {
            let is_next = at == self.end || text[..at].ends_with(['"', '\'', '`']);
            if let Some(mark) = quote(&text[at..]).filter(|_| is_next) {
                at += mark.len();
                closed = true;
            } else if text[at..].starts_with([' ', '\t', ']']) {
                at += 1;
            } else {
                break;
            }
        }
        let rest = &text[at..];
        if rest.starts_with("::") {
            return None;
        }
        if let Some(sign) = SIGNS.iter().find(|s| rest.starts_with(**s)) {
            return self.after_sign(at + sign.len(), closed);
        }
        if let Some(tail) = rest.strip_prefix('(') {
            let is_value = at == self.end && (quote(tail).is_some() || tail.starts_with("Some("));
            return if is_value { self.after_sign(at + 1, closed) } else { None };
        }
        if rest.starts_with('{') && !closed {
            return self.inside(at);
        }
        self.after_end(at)
            .or_else(|| self.pair(at, closed))
            .or_else(|| if closed { None } else { self.in_sentence(at) })
    }

    /// `<NAME>VALUE</NAME>`.
    fn element(&self) -> Option<Range<usize>> {
        let before = self.before();
        let tag = before.trim_end_matches(|c: char| is_of_name(c) || c == ':');
        if !tag.ends_with('<') {
            return None;
        }
        let open = self.end + self.text[self.end..].find(['>', '<'])?;
        let is_open = self.text[open..].starts_with('>') && !self.text[..open].ends_with('/');
        if is_open { self.up_to_tag(open + 1) } else { None }
    }

    /// `[NAME]` alone on its line: all values to the next one.
    fn section(&self) -> Option<Range<usize>> {
        let (text, line) = (self.text, line_start(self.text, self.start));
        let head = &text[line..near_end(text, self.end)];
        if !(text[line..self.start].trim() == "["
            && head.trim_end().ends_with(']')
            && text[self.end..].starts_with(']'))
        {
            return None;
        }
        let from = near_end(text, self.end);
        let to = text[from..].find("\n[").map_or(text.len(), |n| from + n);
        let first = text[from..to].find(['=', ':']).map(|n| from + n + 1)?;
        self.trimmed(first..to)
    }

    /// To the next end tag.
    fn up_to_tag(&self, from: usize) -> Option<Range<usize>> {
        let end = self.text[from..].find("</").map_or(self.text.len(), |n| from + n);
        self.trimmed(from..end)
    }

    /// Where a tag ends behind the name: `<key>NAME</key><string>VALUE`, `<string>--NAME</string><string>VALUE`,
    /// `name="NAME">VALUE`.
    fn after_end(&self, at: usize) -> Option<Range<usize>> {
        let (text, rest) = (self.text, &self.text[at..]);
        if self.is_in_tag() {
            return self.beside(at);
        }
        let tail = rest.strip_prefix("</key>").or_else(|| rest.strip_prefix("</string>").filter(|_| self.is_flag()))?;
        let tail = tail.trim_start();
        let open = text.len() - tail.len();
        let tag = tail.strip_prefix('<')?.split('>').next()?;
        let from = open + tag.len() + 2;
        match tag {
            "string" | "data" | "integer" => self.up_to_tag(from),
            "array" | "dict" => {
                let end = text[from..].find(&format!("</{tag}>")).map_or(text.len(), |n| from + n);
                self.trimmed(from..end)
            }
            _ => None,
        }
    }

    /// Whether the name stands in a tag, as the value of an attribute.
    fn is_in_tag(&self) -> bool {
        let before = &self.text[line_start(self.text, self.start)..self.start];
        let open = before.rfind('<').filter(|n| !before[*n..].contains('>'));
        open.is_some_and(|n| {
            before[n + 1..].starts_with(|c: char| c.is_ascii_alphabetic()) && before.ends_with(['"', '\''])
        })
    }

    /// In a tag after the name: `value="VALUE"`, else the text of the element.
    fn beside(&self, at: usize) -> Option<Range<usize>> {
        let text = self.text;
        let end = text[at..].find('>').map(|n| at + n)?;
        if let Some(from) = text[at..end].to_ascii_lowercase().find("value=").map(|n| at + n + 6) {
            let mark = quote(&text[from..])?;
            return self.shown(from + mark.len()..closing(text, from + mark.len(), mark));
        }
        if text[..end].ends_with('/') {
            return None;
        }
        let inner = skip(text, end + 1, char::is_whitespace);
        let inner = if text[inner..].starts_with("<value>") { inner + "<value>".len() } else { inner };
        self.up_to_tag(inner)
    }

    /// `["NAME", "VALUE"]`, `f('NAME', 'VALUE')`, `"--NAME", "VALUE"`, `name: NAME` with `value: VALUE` after it.
    fn pair(&self, at: usize, closed: bool) -> Option<Range<usize>> {
        let text = self.text;
        let next =
            skip(text, at, |c| c.is_whitespace() || matches!(c, ',' | '"' | '\'' | '\\' | '{' | '}' | '/' | '-'));
        let word = &text[next..skip(text, next, is_of_name)];
        let is_value =
            ["value", "val", "stringvalue", "secretvalue", "content"].contains(&word.to_ascii_lowercase().as_str());
        if is_value && next > self.end {
            let sign = skip(text, next + word.len(), |c| matches!(c, '"' | '\'' | '\\' | ' '));
            if text[sign..].starts_with([':', '=']) {
                return self.after_sign(sign + 1, true);
            }
        }
        if let Some(value) = self.value_before().filter(|_| closed) {
            return Some(value);
        }
        let is_first = self.before().trim_end_matches(['"', '\'', '\\']).ends_with(['[', '(']);
        if !(closed && text[at..].starts_with(',') && (self.is_flag() || is_first)) {
            return self.argument(at);
        }
        let from = skip(text, at + 1, char::is_whitespace);
        let mark = quote(&text[from..])?;
        let from = from + mark.len();
        self.shown(from..closing(text, from, mark))
    }

    /// `"value": "VALUE", "name": "NAME"`.
    fn value_before(&self) -> Option<Range<usize>> {
        let marks = ['"', '\'', '\\'];
        let head = self
            .before()
            .trim_end_matches(marks)
            .trim_end()
            .strip_suffix([':', '='])?
            .trim_end()
            .trim_end_matches(marks);
        let head = ["name", "Name", "key", "Key"]
            .iter()
            .find_map(|n| head.strip_suffix(n))?
            .trim_end_matches(marks)
            .trim_end();
        let head = head.strip_suffix(',').unwrap_or(head).trim_end().strip_suffix(marks)?.trim_end_matches('\\');
        let open = head.rfind(['"', '\''])?;
        let name =
            head[..open].trim_end_matches('\\').trim_end().strip_suffix([':', '='])?.trim_end().trim_end_matches(marks);
        if name.to_ascii_lowercase().ends_with("value") { self.shown(open + 1..head.len()) } else { None }
    }

    /// `--NAME VALUE`.
    fn argument(&self, at: usize) -> Option<Range<usize>> {
        let text = self.text;
        if !self.is_flag() || at == self.end || text[at..].starts_with('-') {
            return None;
        }
        match quote(&text[at..]) {
            Some(mark) => self.shown(at + mark.len()..closing(text, at + mark.len(), mark)),
            None => self.shown(at..self.word_end(at)),
        }
    }

    /// `password VALUE`, `the token was VALUE`: in quotes, or a word with a digit in it.
    fn in_sentence(&self, at: usize) -> Option<Range<usize>> {
        let text = self.text;
        let end = near_end(text, at);
        let mut from = at;
        if from == self.end {
            return None;
        }
        for _ in 0..3 {
            let word = &text[from..skip(text, from, |c| !c.is_whitespace()).min(end).max(from)];
            let lower = word.to_ascii_lowercase();
            if matches!(lower.as_str(), "for" | "of" | "on" | "from") {
                // `password for ann: VALUE`
                let whose = skip(text, from + word.len(), |c| c == ' ').min(end);
                let colon = skip(text, whose, |c| is_of_name(c) || c == '@').min(end);
                return if text[colon..end].starts_with(": ") { self.after_sign(colon + 1, false) } else { None };
            }
            if !LINKS.contains(&lower.as_str()) {
                break;
            }
            from = skip(text, from + word.len(), |c| c == ' ').min(end);
        }
        if from >= end {
            return None;
        }
        if let Some(mark) = quote(&text[from..]) {
            return self.shown(from + mark.len()..closing(text, from + mark.len(), mark));
        }
        let stop = self.word_end(from).min(end);
        let stop = from + text[from..stop].trim_end_matches(['.', ',', ';', ':', '!', ')', ']', '}']).len();
        let word = &text[from..stop];
        let before = self.before().trim_end();
        let is_command = ["set", "setenv", "-gx", "--global", "login"].iter().any(|c| before.ends_with(c));
        let is_netrc = self.word() == "password" && text[line_start(text, self.start)..self.start].contains("login ");
        let has_digit = word.contains(|c: char| c.is_ascii_digit()) && word.contains(|c: char| c.is_alphabetic());
        let lower = self.word().to_ascii_lowercase();
        let is_code =
            self.is_second_word() || ["pin", "otp", "passcode", "password", "passwd"].contains(&lower.as_str());
        let is_number = is_code && word.len() >= 4 && word.bytes().all(|b| b.is_ascii_digit());
        if has_digit || is_number || is_command || is_netrc { self.shown(from..stop) } else { None }
    }

    /// The end of a word of a command line.
    fn word_end(&self, from: usize) -> usize {
        let (text, end) = (self.text, near_end(self.text, from));
        let stops = |c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '`' | '<' | '\\');
        text[from..end].find(stops).map_or(end, |n| from + n)
    }

    /// The value after `=` or `:`.
    fn after_sign(&self, at: usize, closed: bool) -> Option<Range<usize>> {
        let text = self.text;
        let mut from = skip(text, at, |c| matches!(c, ' ' | '\t'));
        for wrapper in ["Some(", "Secret(", "b", "r", "f", "$", "@"] {
            let tail = text[from..].strip_prefix(wrapper);
            if tail.is_some_and(|t| quote(t).is_some()) {
                from += wrapper.len();
            }
        }
        if text[from..].starts_with(MARK) {
            return Some(from..from + MARK.len());
        }
        if let Some(mark) = quote(&text[from..]).filter(|m| !self.is_closed_by(m, from, closed)) {
            let inner = from + mark.len();
            let triple = mark.repeat(2);
            if text[inner..].starts_with(&triple) {
                let inner = inner + triple.len();
                let end = text[inner..].find(&mark.repeat(3)).map_or(text.len(), |n| inner + n);
                return self.trimmed(inner..end);
            }
            return self.shown(inner..closing(text, inner, mark));
        }
        let end = near_end(text, from);
        let mut line = text[from..end].trim();
        while let Some(tail) = line.strip_prefix(['!', '&']).filter(|_| at < from) {
            line = tail.split_once(' ').map_or("", |(_, tail)| tail.trim_start());
        }
        if matches!(line, "" | "|" | ">" | "|-" | ">-" | "|+" | ">+") {
            return self.block(end);
        }
        if text[from..].starts_with(['[', '{']) {
            return self.inside(from);
        }
        self.unquoted(from, closed)
    }

    /// Whether the quote after the sign closes the one around the whole of it, as in `"NAME="`.
    fn is_closed_by(&self, mark: &str, from: usize, closed: bool) -> bool {
        !closed && self.before().ends_with(mark) && !self.text[from + mark.len()..].contains(mark)
    }

    /// What is in the brackets that open here.
    fn inside(&self, open: usize) -> Option<Range<usize>> {
        self.trimmed(open + 1..bracket(self.text, open).max(open + 1))
    }

    /// The lines below that belong to this one: indented more, items of a list, or a quoted value.
    fn block(&self, end: usize) -> Option<Range<usize>> {
        let text = self.text;
        let indent = |line: &str| line.len() - line.trim_start().len();
        let own = &text[line_start(text, self.start)..end];
        let is_item = own.trim_start().starts_with("- ");
        let mut at = skip(text, end, |c| matches!(c, '\r')) + 1;
        let (mut first, mut last) = (None, end);
        while at < text.len() {
            let stop = text[at..].find('\n').map_or(text.len(), |n| at + n);
            let line = &text[at..stop];
            let inner = line.trim_start();
            let is_below =
                indent(line) > indent(own) || (indent(line) == indent(own) && inner.starts_with("- ") && !is_item);
            if !inner.is_empty() {
                if !is_below {
                    break;
                }
                if first.is_none()
                    && let Some(mark) = quote(inner)
                {
                    let from = stop - inner.len() + mark.len();
                    return self.shown(from..closing(text, from, mark));
                }
                first.get_or_insert(stop - inner.len());
                last = stop;
            }
            at = stop + 1;
        }
        self.trimmed(first?..last)
    }

    /// A value without quotes: to the next `name=`, to what closes the text around it, or to the end of the line.
    fn unquoted(&self, from: usize, closed: bool) -> Option<Range<usize>> {
        let text = self.text;
        let mut end = near_end(text, from);
        let around = open_quote(&text[line_start(text, self.start)..self.start]).filter(|_| !closed);
        if let Some(mark) = around {
            end = end.min(closing(text, from, mark).max(from));
        }
        if let Some(tag) = text[from..end].find("</") {
            end = from + tag;
        }
        if self.is_parameter() {
            let stops = |c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '&' | '#' | '<' | ')' | '|');
            end = text[from..end].find(stops).map_or(end, |n| from + n);
        } else if self.is_flag() && around.is_none() {
            end = end.min(self.word_end(from));
        } else if is_of_whole_line(self.word()) {
            end = if around.is_some() { end } else { line_end(text, from) };
        } else {
            let stop = text[from..end]
                .char_indices()
                .find(|(n, c)| ends_here(&text[from + n..end], *c))
                .map(|(n, _)| from + n);
            // A value that is longer than what was looked at.
            let all = || if end == near_end(text, from) { line_end(text, from) } else { end };
            end = stop.unwrap_or_else(all);
        }
        // A line that goes on below.
        while text[..end].ends_with('\\') && text[end..].starts_with('\n') {
            end = text[end + 1..].find('\n').map_or(text.len(), |n| end + 1 + n);
        }
        self.shown(from..end)
    }

    /// Without the space and the separators around it.
    fn trimmed(&self, range: Range<usize>) -> Option<Range<usize>> {
        let text = &self.text[range.clone()];
        let start = range.start + (text.len() - text.trim_start().len());
        let text = text.trim().trim_end_matches('\\').trim_end();
        (!text.is_empty()).then(|| start..start + text.len())
    }

    /// The range, if what is there may be a secret.
    fn shown(&self, range: Range<usize>) -> Option<Range<usize>> {
        let range = self.trimmed(range)?;
        let value = &self.text[range.clone()];
        let bare = value.trim_end_matches([',', ';', ')', '}', ']']);
        let is_number = !bare.is_empty() && bare.chars().all(|c| c.is_ascii_digit() || matches!(c, '.' | ','));
        let is_plain = ANSWERS.contains(&bare.to_ascii_lowercase().as_str())
            || is_place(bare)
            || (is_number && is_count(self.word()));
        (!is_plain).then_some(range)
    }
}

/// Whether a value without quotes ends before `rest`: a separator with another `name=`, `name: ` or `--name` behind it.
fn ends_here(rest: &str, c: char) -> bool {
    if !(c.is_whitespace() || matches!(c, ',' | ';' | '&')) {
        return false;
    }
    let tail = rest[c.len_utf8()..].trim_start();
    if let Some(flag) = tail.strip_prefix('-').filter(|_| c.is_whitespace()) {
        return flag.trim_start_matches('-').starts_with(|c: char| c.is_ascii_alphabetic());
    }
    let marks = tail.len() - tail.trim_start_matches(['\\', '"', '\'']).len();
    let tail = &tail[marks..];
    let name = &tail[..skip(tail, 0, is_of_name)];
    let after = &tail[name.len()..];
    let closed = after.trim_start_matches(['\\', '"', '\'']);
    let is_sign = closed.starts_with('=')
        || (closed.starts_with(':') && !closed[1..].starts_with(|c: char| c.is_alphanumeric() || c == '/'));
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') && is_sign
}

/// Whether it is the path of a file, perhaps with a name and `:` before it.
pub fn is_place(value: &str) -> bool {
    let path =
        value.split_once(':').map_or(value, |(name, path)| if name.chars().all(is_of_name) { path } else { value });
    TOPS.iter().any(|top| path.starts_with(top)) && path.chars().all(|c| c.is_alphanumeric() || "/._-@ ".contains(c))
}
