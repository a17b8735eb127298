//! What a Socket.IO client's `claude_event` and `hook:ingest` become. Pure.
//!
//! The shape is that of the original monitor's hook handler, where a member that is there counts, whatever its value, and
//! only one that is absent gets a default. Where the original writes its monotonic clock, this writes a time that every
//! reader understands.

use jiff::Timestamp;

use super::scan::{self, Field, Object, Unfit, plain, push_compact};
use crate::model::Draft;
use crate::shown::HOOK_EVENT;

/// Why what a client sent is not an event; the text is what `hook:error` says to it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// `claude_event` with something other than an object. The words are those that clients of the original know.
    #[error("Claude event processing error: '{found}' object has no attribute 'get'")]
    NotAnObject {
        /// The type that was found, by its Python name.
        found: &'static str,
    },
    /// `hook:ingest` without `type` or `timestamp`.
    #[error("Invalid hook data format")]
    InvalidHook,
    /// More levels than readers take.
    #[error("Claude event processing error: nested deeper than {limit} levels; send flatter data")]
    TooDeep {
        /// The deepest that is accepted.
        limit: usize,
    },
}

impl ClientError {
    /// A name for programs that never changes.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotAnObject { .. } => "not_an_object",
            Self::InvalidHook => "invalid_hook",
            Self::TooDeep { .. } => "nested_too_deep",
        }
    }
}

/// Makes an event of the argument of `claude_event`, which must be valid JSON.
///
/// # Errors
/// [`ClientError::NotAnObject`] or [`ClientError::TooDeep`].
pub fn claude_event(text: &str, now: Timestamp) -> Result<Draft, ClientError> {
    let input = scan::object(text).map_err(|unfit| match unfit {
        Unfit::NotAnObject => ClientError::NotAnObject { found: python_type(text) },
        Unfit::TooDeep => ClientError::TooDeep { limit: scan::MAX_DEPTH },
    })?;
    Ok(normalised(&input, true, now))
}

/// Makes an event of the argument of `hook:ingest`, which must be valid JSON.
///
/// # Errors
/// [`ClientError::InvalidHook`] or [`ClientError::TooDeep`].
pub fn hook_ingest(text: &str, now: Timestamp) -> Result<Draft, ClientError> {
    let input = scan::object(text).map_err(|unfit| match unfit {
        Unfit::NotAnObject => ClientError::InvalidHook,
        Unfit::TooDeep => ClientError::TooDeep { limit: scan::MAX_DEPTH },
    })?;
    if input.get(Field::Type).is_none() || input.get(Field::Timestamp).is_none() {
        return Err(ClientError::InvalidHook);
    }
    Ok(normalised(&input, false, now))
}

fn normalised(input: &Object<'_>, original: bool, now: Timestamp) -> Draft {
    let now = format!("\"{now:.6}\"");
    let mut payload = String::with_capacity(input.text.len() * 2 + 384);
    let mut put = |key: &str, value: &str| {
        payload.push_str(if payload.is_empty() { "{" } else { "," });
        payload.push_str(key);
        push_compact(&mut payload, value);
    };
    let or = |field: Field, default| input.get(field).unwrap_or(default);
    put("\"type\":", or(Field::Type, "\"hook\""));
    put("\"subtype\":", or(Field::Subtype, "\"unknown\""));
    put("\"timestamp\":", or(Field::Timestamp, &now));
    put("\"session_id\":", or(Field::Session, "null"));
    put("\"source\":", or(Field::Source, "\"claude_hooks\""));
    put("\"data\":", or(Field::Data, "{}"));
    put("\"metadata\":", or(Field::Metadata, "{}"));
    put("\"processed_at\":", &now);
    if original {
        put("\"original_event\":", input.text);
    }
    put("\"correlation_id\":", or(Field::Correlation, "null"));
    put("\"cwd\":", or(Field::Cwd, "null"));
    if original {
        put("\"event\":", or(Field::Event, "null"));
    }
    payload.push('}');
    let said = |field| input.get(field).filter(|v| *v != "null").map(plain);
    Draft {
        name: HOOK_EVENT.to_owned(),
        subtype: said(Field::Subtype).unwrap_or_else(|| "unknown".to_owned()),
        session: said(Field::Session),
        payload: payload.into(),
    }
}

fn python_type(value: &str) -> &'static str {
    let value = value.trim_start();
    match value.as_bytes().first() {
        Some(b'"') => "str",
        Some(b'[') => "list",
        Some(b't' | b'f') => "bool",
        Some(b'n') => "NoneType",
        _ if value.contains(['.', 'e', 'E']) => "float",
        _ => "int",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: &str = "1970-01-01T00:00:00.000000Z";

    fn claude(text: &str) -> Draft {
        claude_event(text, Timestamp::UNIX_EPOCH).unwrap()
    }

    #[test]
    fn a_full_claude_event_keeps_all_it_said() {
        let input = r#"{ "event":"mpm_event","source":"hook","type":"hook","subtype":"pre_tool","timestamp":"2026-02-18T12:00:00+00:00",
            "data":{"tool_name":"Bash"},"correlation_id":"tc1","session_id":"s-1","cwd":"/w","extra":1e400}"#;
        let draft = claude(input);
        let mut compact = String::new();
        push_compact(&mut compact, input);
        let expected = format!(
            r#"{{"type":"hook","subtype":"pre_tool","timestamp":"2026-02-18T12:00:00+00:00","session_id":"s-1","source":"hook","data":{{"tool_name":"Bash"}},"metadata":{{}},"processed_at":"{NOW}","original_event":{compact},"correlation_id":"tc1","cwd":"/w","event":"mpm_event"}}"#
        );
        assert_eq!(&*draft.payload, expected);
        assert_eq!((draft.name.as_str(), draft.subtype.as_str()), ("hook:event", "pre_tool"));
        assert_eq!(draft.session.as_deref(), Some("s-1"));
    }

    #[test]
    fn an_empty_claude_event_gets_the_defaults_and_a_time_that_parses() {
        let draft = claude("{}");
        let expected = format!(
            r#"{{"type":"hook","subtype":"unknown","timestamp":"{NOW}","session_id":null,"source":"claude_hooks","data":{{}},"metadata":{{}},"processed_at":"{NOW}","original_event":{{}},"correlation_id":null,"cwd":null,"event":null}}"#
        );
        assert_eq!(&*draft.payload, expected);
        assert_eq!((draft.subtype.as_str(), draft.session), ("unknown", None));
        assert_eq!(claude(r#"{"session_id":null,"subtype":7}"#).session, None);
    }

    #[test]
    fn hook_ingest_needs_type_and_timestamp_and_has_no_original() {
        let ingest = |text| hook_ingest(text, Timestamp::UNIX_EPOCH);
        let draft = ingest(r#"{"type":"t","timestamp":5,"metadata":{"m":[1]}}"#).unwrap();
        let expected = format!(
            r#"{{"type":"t","subtype":"unknown","timestamp":5,"session_id":null,"source":"claude_hooks","data":{{}},"metadata":{{"m":[1]}},"processed_at":"{NOW}","correlation_id":null,"cwd":null}}"#
        );
        assert_eq!(&*draft.payload, expected);
        for bad in ["{}", r#"{"type":"t"}"#, r#"{"timestamp":1}"#, "[]", "null", "\"x\""] {
            assert_eq!(ingest(bad), Err(ClientError::InvalidHook), "{bad}");
        }
    }

    #[test]
    fn refusals_say_what_clients_of_the_original_read() {
        let says = |text: &str| claude_event(text, Timestamp::UNIX_EPOCH).unwrap_err().to_string();
        for (text, found) in
            [("\"x\"", "str"), ("[1]", "list"), ("null", "NoneType"), ("true", "bool"), ("1", "int"), ("1.5", "float")]
        {
            assert_eq!(says(text), format!("Claude event processing error: '{found}' object has no attribute 'get'"));
        }
        let deep = format!("{}{}", "{\"a\":".repeat(121), "1".to_owned() + &"}".repeat(121));
        assert!(says(&deep).contains("deeper than 120"));
    }
}
