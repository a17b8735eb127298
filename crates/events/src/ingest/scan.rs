//! Looks into JSON text that is already known to be valid, without changing a byte of it.
//!
//! Why not a parser with a data model: an event's data must reach the subscribers as it was posted. A model would round
//! `1e400` and `12345678901234567890.0`, drop repeated keys and refuse lone surrogates, all of which agents do produce.
//! And the walk down a chain of `data` in `data` has to touch each byte once, or a nested body of 1 MiB would stall the
//! process.

/// How deeply an accepted body may be nested. Readers commonly stop at 128, and an event travels inside up to five more
/// levels (packet, history envelope, list, event, data).
pub(super) const MAX_DEPTH: usize = 120;

/// The members that decide what an event becomes; all others are only copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    Event,
    Data,
    Type,
    Subtype,
    Timestamp,
    Session,
    SessionCamel,
    Source,
    Correlation,
    Cwd,
    WorkingDirectory,
    Metadata,
}

const FIELDS: [(&str, Field); 12] = [
    ("event", Field::Event),
    ("data", Field::Data),
    ("type", Field::Type),
    ("subtype", Field::Subtype),
    ("timestamp", Field::Timestamp),
    ("session_id", Field::Session),
    ("sessionId", Field::SessionCamel),
    ("source", Field::Source),
    ("correlation_id", Field::Correlation),
    ("cwd", Field::Cwd),
    ("working_directory", Field::WorkingDirectory),
    ("metadata", Field::Metadata),
];

/// One object of the chain `body`, `body.data`, `body.data.data` and so on.
#[derive(Debug, Default)]
pub(super) struct Object<'a> {
    /// The object's own text, braces included.
    pub(super) text: &'a str,
    /// The object under `data`, where there is one.
    pub(super) data: Option<Box<Object<'a>>>,
    pub(super) fields: [Option<&'a str>; FIELDS.len()],
}

impl<'a> Object<'a> {
    /// The text of a member's value; of a repeated key the last one, as in the original (Python).
    pub(super) fn get(&self, field: Field) -> Option<&'a str> {
        self.fields[field as usize]
    }
}

/// What is wrong with text that is valid JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unfit {
    /// Not an object.
    NotAnObject,
    /// Nested deeper than [`MAX_DEPTH`].
    TooDeep,
}

/// Reads the chain of objects in `text`, which must be valid JSON.
pub(super) fn object(text: &str) -> Result<Object<'_>, Unfit> {
    let mut scan = Scan { text, bytes: text.as_bytes(), at: 0, depth: 0 };
    scan.space();
    if scan.peek() != b'{' {
        return Err(Unfit::NotAnObject);
    }
    scan.object()
}

struct Scan<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    depth: usize,
}

impl<'a> Scan<'a> {
    /// Recurses only along `data`, and so at most [`MAX_DEPTH`] times.
    fn object(&mut self) -> Result<Object<'a>, Unfit> {
        let start = self.at;
        let mut found = Object::default();
        self.enter()?;
        loop {
            self.space();
            match self.peek() {
                b'"' => {}
                b',' => {
                    self.at += 1;
                    continue;
                }
                _ => break,
            }
            let key = self.string();
            self.space();
            self.at += 1;
            self.space();
            let value = self.at;
            let field = field(key);
            let inner = match (field, self.peek()) {
                (Some(Field::Data), b'{') => Some(Box::new(self.object()?)),
                _ => {
                    self.skip()?;
                    None
                }
            };
            if let Some(field) = field {
                found.fields[field as usize] = Some(&self.text[value..self.at]);
                if field == Field::Data {
                    found.data = inner;
                }
            }
        }
        self.leave();
        found.text = &self.text[start..self.at];
        Ok(found)
    }

    fn skip(&mut self) -> Result<(), Unfit> {
        let outer = self.depth;
        loop {
            match self.peek() {
                b'"' => {
                    self.string();
                }
                b'{' | b'[' => self.enter()?,
                b'}' | b']' => self.leave(),
                // A number, a name, or what separates values inside a container.
                _ => self.at += 1,
            }
            // Back outside, a value ends where a separator follows.
            if self.depth == outer && matches!(self.peek(), b',' | b'}' | b']' | b' ' | b'\t' | b'\n' | b'\r' | 0) {
                return Ok(());
            }
        }
    }

    /// The string at the cursor, without its quotes and still escaped.
    fn string(&mut self) -> &'a str {
        let start = self.at + 1;
        self.at = end_of_string(self.bytes, self.at);
        &self.text[start..self.at - 1]
    }

    fn enter(&mut self) -> Result<(), Unfit> {
        self.at += 1;
        self.depth += 1;
        if self.depth > MAX_DEPTH { Err(Unfit::TooDeep) } else { Ok(()) }
    }

    fn leave(&mut self) {
        self.at += 1;
        self.depth -= 1;
    }

    fn space(&mut self) {
        while is_space(self.peek()) {
            self.at += 1;
        }
    }

    /// The byte at the cursor; 0, which valid JSON cannot hold, at the end.
    fn peek(&self) -> u8 {
        self.bytes.get(self.at).copied().unwrap_or(0)
    }
}

fn field(key: &str) -> Option<Field> {
    let find = |key: &str| FIELDS.iter().find(|(name, _)| *name == key).map(|(_, field)| *field);
    if key.contains('\\') { find(&unescape(key)) } else { find(key) }
}

/// The text behind an escaped string; where it has none (half of a surrogate pair), the escaped form.
fn unescape(escaped: &str) -> String {
    serde_json::from_str(&format!("\"{escaped}\"")).unwrap_or_else(|_| escaped.to_owned())
}

/// Where the string that begins at `at` is over.
fn end_of_string(bytes: &[u8], at: usize) -> usize {
    let mut at = at + 1;
    while let Some(found) = bytes.get(at..).and_then(|rest| memchr::memchr2(b'"', b'\\', rest)) {
        at += found;
        match bytes[at] {
            b'"' => return at + 1,
            _ => at += 2,
        }
    }
    bytes.len()
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

/// Appends valid JSON text without the whitespace between its tokens; strings and numbers stay as they are.
pub(super) fn push_compact(out: &mut String, text: &str) {
    let bytes = text.as_bytes();
    let (mut from, mut at) = (0, 0);
    while at < bytes.len() {
        match bytes[at] {
            b'"' => at = end_of_string(bytes, at),
            byte if is_space(byte) => {
                out.push_str(&text[from..at]);
                at += 1;
                from = at;
            }
            _ => at += 1,
        }
    }
    out.push_str(&text[from..]);
}

/// Whether Python would call the value true: not null, false, zero, or empty.
pub(super) fn is_truthy(value: &str) -> bool {
    match value.as_bytes().first() {
        Some(b'n' | b'f') | None => false,
        Some(b't') => true,
        Some(b'"') => value.len() > 2,
        Some(b'{' | b'[') => value[1..value.len() - 1].bytes().any(|b| !is_space(b)),
        Some(_) => value.parse::<f64>() != Ok(0.0),
    }
}

/// What a value says as plain text: a string's content, else its compact JSON.
pub(super) fn plain(value: &str) -> String {
    match value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        Some(escaped) if escaped.contains('\\') => unescape(escaped),
        Some(plain) => plain.to_owned(),
        None => {
            let mut text = String::new();
            push_compact(&mut text, value);
            text
        }
    }
}

/// The JSON type of a value, for error messages.
pub(super) fn kind(value: &str) -> &'static str {
    match value.trim_start().as_bytes().first() {
        Some(b'{') => "an object",
        Some(b'[') => "an array",
        Some(b'"') => "a string",
        Some(b't' | b'f') => "a boolean",
        Some(b'n') => "null",
        _ => "a number",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn truth_is_what_python_says() {
        for falsy in ["null", "false", "0", "-0", "0.0", "-0e9", "1e-400", "\"\"", "{}", "{ \n}", "[]", "[\t]"] {
            assert!(!is_truthy(falsy), "{falsy}");
        }
        for truthy in ["true", "1", "-1", "0.1", "1e400", "\" \"", "\"0\"", "{\"a\":0}", "[0]", "[ null ]"] {
            assert!(is_truthy(truthy), "{truthy}");
        }
    }

    #[test]
    fn compacting_keeps_what_is_inside_strings() {
        let mut out = String::new();
        push_compact(&mut out, "{ \"a b\" : [ 1 , \"\\\" c\\\\\" ,\n\t\"d \\n\" ] , \"é \u{2028}\": 1e400 }");
        assert_eq!(out, "{\"a b\":[1,\"\\\" c\\\\\",\"d \\n\"],\"é \u{2028}\":1e400}");
    }

    #[test]
    fn a_repeated_key_counts_the_last_time_and_an_escaped_one_counts() {
        let found = object(r#"{"data":{"a":1},"type":1,"d\u0061ta":[2],"type":3}"#).unwrap();
        assert_eq!(found.get(Field::Data), Some("[2]"));
        assert_eq!(found.get(Field::Type), Some("3"));
        assert!(found.data.is_none());
        let again = object(r#"{"data":[2],"data" : {"type": [{}, "}"] } }"#).unwrap();
        let data = again.data.as_deref().unwrap();
        assert_eq!(data.text, r#"{"type": [{}, "}"] }"#);
        assert_eq!(data.get(Field::Type), Some(r#"[{}, "}"]"#));
    }

    #[test]
    fn every_field_is_at_its_place() {
        for (index, (_, field)) in FIELDS.iter().enumerate() {
            assert_eq!(*field as usize, index);
        }
    }
}
