//! What a posted body becomes: validated, put into its category, normalised. Pure.
//!
//! The rules are those of the original monitor, as far as its clients can see them; `docs/protocol.md` has the table.

pub mod client;
mod scan;
#[cfg(test)]
mod tests;

use jiff::Timestamp;
use serde_json::value::RawValue;

use self::scan::{Field, Object, Unfit, is_truthy, kind, plain, push_compact};
use super::model::{Dialect, Draft};

/// The event name, and the subtype, of a body that gives none.
const DEFAULT_NAME: &str = "claude_event";

/// Why a body is not an event. The poster must change it; sending it again cannot help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IngestError {
    /// The bytes are not text.
    #[error("the body is not UTF-8: byte {at} begins no valid character; send the JSON as UTF-8")]
    Utf8 {
        /// How many bytes before it are valid.
        at: usize,
    },
    /// The text is not JSON.
    #[error("the body is not valid JSON: {detail}; send one JSON object")]
    Malformed {
        /// What was expected, with line and column.
        detail: String,
    },
    /// JSON, but of another type.
    #[error(r#"the body is {found}; send an object such as {{"event":"claude_event","data":{{}}}}"#)]
    NotAnObject {
        /// The type that was found, with its article.
        found: &'static str,
    },
    /// `data` is there but nothing that can be unwrapped.
    #[error("`data` is {found}; send an object, or leave it out")]
    DataNotAnObject {
        /// The type that was found, with its article.
        found: &'static str,
    },
    /// More levels than readers take.
    #[error("the body is nested deeper than {limit} levels; send flatter data")]
    TooDeep {
        /// The deepest that is accepted.
        limit: usize,
    },
}

impl IngestError {
    /// A name for programs that never changes.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Utf8 { .. } => "invalid_utf8",
            Self::Malformed { .. } => "malformed_json",
            Self::NotAnObject { .. } => "not_an_object",
            Self::DataNotAnObject { .. } => "data_not_an_object",
            Self::TooDeep { .. } => "nested_too_deep",
        }
    }
}

/// Makes an event of the body of `POST /api/events`.
///
/// `now` stands in for a timestamp that the poster did not give. Data, and every value taken over from the body, stays
/// byte for byte what it was, except that whitespace between tokens goes.
///
/// # Errors
///
/// [`IngestError`] when the body is not an event.
pub fn draft(body: &[u8], dialect: Dialect, now: Timestamp) -> Result<Draft, IngestError> {
    let text = std::str::from_utf8(body).map_err(|e| IngestError::Utf8 { at: e.valid_up_to() })?;
    // Checks the grammar without recursion and without a copy; `scan` relies on it.
    serde_json::from_str::<&RawValue>(text).map_err(|e| IngestError::Malformed { detail: e.to_string() })?;
    let body = scan::object(text).map_err(|unfit| match unfit {
        Unfit::NotAnObject => IngestError::NotAnObject { found: kind(text) },
        Unfit::TooDeep => IngestError::TooDeep { limit: scan::MAX_DEPTH },
    })?;
    match dialect {
        Dialect::Wrapped => wrapped(&body, now),
        Dialect::PassThrough => Ok(pass_through(&body)),
    }
}

/// Valid JSON without the whitespace between its tokens, as all payloads are: whoever passes one on relies on its having no line
/// breaks.
pub fn compact(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    push_compact(&mut out, json);
    out
}

fn wrapped(body: &Object<'_>, now: Timestamp) -> Result<Draft, IngestError> {
    let missing = Object { text: "{}", ..Object::default() };
    let data = match (body.data.as_deref(), body.get(Field::Data)) {
        (Some(data), _) => data,
        (None, None) => &missing,
        (None, Some(other)) => return Err(IngestError::DataNotAnObject { found: kind(other) }),
    };
    let inner = innermost(data);

    let subtype = first([
        data.get(Field::Subtype),
        inner.get(Field::Subtype),
        data.get(Field::Type),
        inner.get(Field::Type),
        body.get(Field::Event),
    ]);
    let name = subtype.map_or(DEFAULT_NAME, category);
    let session = session_of(inner, data);
    let source = first([inner.get(Field::Source), data.get(Field::Source)]);
    let timestamp = first([data.get(Field::Timestamp), inner.get(Field::Timestamp)]);
    let correlation = first([inner.get(Field::Correlation), data.get(Field::Correlation)]);
    let cwd = first([
        inner.get(Field::Cwd),
        inner.get(Field::WorkingDirectory),
        data.get(Field::Cwd),
        data.get(Field::WorkingDirectory),
    ]);

    let mut payload = String::with_capacity(inner.text.len() + 256);
    payload.push_str(r#"{"type":""#);
    payload.push_str(name);
    payload.push_str(r#"","subtype":"#);
    push_compact(&mut payload, subtype.unwrap_or(r#""claude_event""#));
    payload.push_str(r#","data":"#);
    push_compact(&mut payload, inner.text);
    payload.push_str(r#","timestamp":"#);
    match timestamp {
        Some(theirs) => push_compact(&mut payload, theirs),
        // `Z` alone: the original writes an offset *and* a `Z`, which no browser parses.
        None => payload.push_str(&format!("\"{now:.6}\"")),
    }
    payload.push_str(r#","session_id":"#);
    push_compact(&mut payload, session.unwrap_or("null"));
    payload.push_str(r#","source":"#);
    push_compact(&mut payload, source.unwrap_or(r#""hook""#));
    for (key, value) in [(r#","correlation_id":"#, correlation), (r#","cwd":"#, cwd)] {
        if let Some(value) = value {
            payload.push_str(key);
            push_compact(&mut payload, value);
        }
    }
    payload.push('}');

    Ok(Draft {
        name: name.to_owned(),
        subtype: subtype.map_or_else(|| DEFAULT_NAME.to_owned(), plain),
        session: session.map(plain),
        payload: payload.into(),
    })
}

fn pass_through(body: &Object<'_>) -> Draft {
    let mut payload = String::new();
    push_compact(&mut payload, first([body.get(Field::Data)]).unwrap_or("{}"));
    let (subtype, session) = match body.data.as_deref() {
        Some(data) => (first([data.get(Field::Subtype)]), session_of(innermost(data), data)),
        None => (None, None),
    };
    Draft {
        name: first([body.get(Field::Event)]).map_or_else(|| DEFAULT_NAME.to_owned(), plain),
        subtype: subtype.map(plain).unwrap_or_default(),
        session: session.map(plain),
        payload: payload.into(),
    }
}

/// Hooks wrap what they were told once or twice; what it is about lies innermost.
fn innermost<'b, 'a>(data: &'b Object<'a>) -> &'b Object<'a> {
    let mut inner = data;
    while let Some(next) = inner.data.as_deref() {
        inner = next;
    }
    inner
}

fn session_of<'a>(inner: &Object<'a>, data: &Object<'a>) -> Option<&'a str> {
    first([
        inner.get(Field::Session),
        inner.get(Field::SessionCamel),
        data.get(Field::Session),
        data.get(Field::SessionCamel),
    ])
}

fn first<const N: usize>(candidates: [Option<&str>; N]) -> Option<&str> {
    candidates.into_iter().flatten().find(|value| is_truthy(value))
}

/// The category, which is both the Socket.IO event name and `type`, of a subtype given as JSON.
fn category(subtype: &str) -> &'static str {
    if !subtype.starts_with('"') {
        return DEFAULT_NAME;
    }
    match plain(subtype).as_str() {
        "subagent_start" | "subagent_stop" | "todo_updated" => "hook_event",
        "pre_tool" | "post_tool" | "tool.start" | "tool.end" | "tool_use" | "tool_result" => "tool_event",
        "session.started" | "session.ended" | "session_start" | "session_end" | "token_usage_updated" => {
            "session_event"
        }
        "response.start" | "response.end" | "response_started" | "response_ended" => "response_event",
        "agent.delegated" | "agent.returned" | "agent_start" | "agent_end" => "agent_event",
        "file.read" | "file.write" | "file.edit" | "file_read" | "file_write" => "file_event",
        "system_ready" | "system_shutdown" => "system_event",
        _ => DEFAULT_NAME,
    }
}
