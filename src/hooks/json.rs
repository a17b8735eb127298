//! Reading and writing the little JSON that a hook needs, with the members in the order in which they came.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// The members of an object, in their order, each value as its text.
#[derive(Debug, Clone, Default)]
pub struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Each;
        impl<'de> Visitor<'de> for Each {
            type Value = Members<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry::<String, &'de RawValue>()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Each)
    }
}

impl<'a> Members<'a> {
    /// The members of an object; nothing if the text is none.
    pub fn of(text: &'a str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    /// The members that are whole of an object whose end is missing or damaged.
    pub fn salvaged(text: &'a str) -> Self {
        let mut members = Vec::new();
        let mut rest = text.trim_start().strip_prefix('{').unwrap_or_default();
        while let Some((name, after)) = value(rest) {
            let Ok(name) = serde_json::from_str::<String>(name.get()) else { break };
            let Some(after) = after.trim_start().strip_prefix(':') else { break };
            let Some((value, after)) = value(after) else { break };
            let Some(next) = after.trim_start().strip_prefix([',', '}']) else { break };
            members.push((name, value));
            rest = next;
        }
        Self(members)
    }

    /// The last member of this name, which is the one that counts.
    pub fn get(&self, name: &str) -> Option<&'a RawValue> {
        self.0.iter().rev().find(|(n, _)| n == name).map(|(_, value)| *value)
    }

    /// A member that is a string, or a number as its digits.
    pub fn text(&self, name: &str) -> Option<String> {
        self.get(name).and_then(|value| plain(value.get()))
    }

    /// [`Members::text`], unless it is empty.
    pub fn some(&self, name: &str) -> Option<String> {
        self.text(name).filter(|text| !text.is_empty())
    }

    /// A member that is an object.
    pub fn object(&self, name: &str) -> Option<Members<'a>> {
        Members::of(self.get(name)?.get())
    }

    /// Whether a member is there and neither null, false, empty nor zero.
    pub fn is_truthy(&self, name: &str) -> bool {
        self.get(name).is_some_and(|v| !matches!(v.get(), "null" | "false" | "\"\"" | "0" | "[]" | "{}"))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Each name and value.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &'a RawValue)> {
        self.0.iter().map(|(name, value)| (name.as_str(), *value))
    }
}

/// The first value of a text, and what follows it.
fn value(text: &str) -> Option<(&RawValue, &str)> {
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<&RawValue>();
    let value = values.next()?.ok()?;
    let at = values.byte_offset();
    // A number or a word at the very end may have been cut.
    (at < text.len() || value.get().ends_with(['"', '}', ']'])).then(|| (value, &text[at..]))
}

/// The text of a JSON string or number. Half of a character that takes two escapes becomes a replacement character.
pub fn plain(json: &str) -> Option<String> {
    match json.bytes().next()? {
        b'"' => serde_json::from_str(json).ok().or_else(|| serde_json::from_str(&without_halves(json)).ok()),
        b'-' | b'0'..=b'9' => Some(json.to_owned()),
        _ => None,
    }
}

fn without_halves(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    let mut rest = json;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let half = rest.len() >= 6
            && rest.is_char_boundary(6)
            && rest[1..].starts_with('u')
            && matches!(rest.as_bytes()[2], b'd' | b'D')
            && matches!(rest.as_bytes()[3], b'8' | b'9' | b'a'..=b'f' | b'A'..=b'F');
        let len = if half { 6 } else { 1 + rest[1..].chars().next().map_or(0, char::len_utf8) };
        out.push_str(if half { "\\ufffd" } else { &rest[..len] });
        rest = &rest[len..];
    }
    out.push_str(rest);
    out
}

/// An object that is written member by member.
#[derive(Debug)]
pub struct Object(String);

impl Default for Object {
    fn default() -> Self {
        Self::new()
    }
}

impl Object {
    /// Without members.
    pub fn new() -> Self {
        Self("{".to_owned())
    }

    /// A value that is JSON already. Line breaks between its tokens become spaces, so that all of it is one line.
    #[must_use]
    pub fn raw(mut self, name: &str, json: &str) -> Self {
        if self.0.len() > 1 {
            self.0.push(',');
        }
        self.0.push_str(&quoted(name));
        self.0.push(':');
        if json.contains(['\n', '\r']) {
            self.0.push_str(&json.replace(['\n', '\r'], " "));
        } else {
            self.0.push_str(json);
        }
        self
    }

    /// A string.
    #[must_use]
    pub fn text(self, name: &str, text: &str) -> Self {
        self.raw(name, &quoted(text))
    }

    /// A string, if there is one.
    #[must_use]
    pub fn maybe(self, name: &str, text: Option<&str>) -> Self {
        match text {
            Some(text) => self.text(name, text),
            None => self,
        }
    }

    /// Yes or no.
    #[must_use]
    pub fn truth(self, name: &str, value: bool) -> Self {
        self.raw(name, if value { "true" } else { "false" })
    }

    /// A count.
    #[must_use]
    pub fn count(self, name: &str, value: usize) -> Self {
        self.raw(name, &value.to_string())
    }

    /// The whole object.
    pub fn end(mut self) -> String {
        self.0.push('}');
        self.0
    }
}

/// A JSON string.
pub fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// The first characters.
pub fn first(text: &str, characters: usize) -> &str {
    text.char_indices().nth(characters).map_or(text, |(at, _)| &text[..at])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_keep_their_order_and_the_last_one_counts() {
        let members = Members::of(r#"{"b":1,"a":"x","b":{"c":[ 1 ]}}"#).unwrap();
        assert_eq!(members.iter().map(|(n, _)| n).collect::<Vec<_>>(), ["b", "a", "b"]);
        assert_eq!(members.object("b").unwrap().get("c").unwrap().get(), "[ 1 ]");
        assert!(Members::of("[]").is_none() && Members::of("{").is_none());
    }

    #[test]
    fn what_is_whole_of_a_damaged_object_is_kept() {
        let whole = r#"{"a":"x","n":12,"o":{"b":[1,2]},"last":"y"}"#;
        for end in 0..whole.len() {
            let members = Members::salvaged(&whole[..end]);
            let found: Vec<_> = members.iter().map(|(n, v)| format!("{n}={}", v.get())).collect();
            let all = ["a=\"x\"", "n=12", "o={\"b\":[1,2]}", "last=\"y\""];
            assert_eq!(found, all[..found.len()], "{end}");
        }
        assert_eq!(Members::salvaged(whole).len(), 4);
        assert!(Members::salvaged("no object").is_empty());
    }

    #[test]
    fn half_a_character_does_not_cost_the_text() {
        assert_eq!(plain(r#""a\ud800\n\\ud800""#).unwrap(), "a\u{fffd}\n\\ud800");
        assert_eq!(plain(r#""\ud83d\ude00""#).unwrap(), "\u{1f600}");
        assert_eq!((plain("7").as_deref(), plain("null")), (Some("7"), None));
    }

    #[test]
    fn an_object_is_one_line() {
        let text = Object::new().text("a", "x\ny").raw("b", "[\n1,\r\n2]").truth("c", true).count("d", 3).end();
        assert_eq!(text, r#"{"a":"x\ny","b":[ 1,  2],"c":true,"d":3}"#);
        serde_json::from_str::<serde_json::Value>(&text).unwrap();
    }
}
