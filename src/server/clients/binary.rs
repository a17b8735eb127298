//! Binary data in what clients send. Events are JSON, so it is kept as base64, with a mark that says so, in the place where
//! it was. Pure.

use std::borrow::Cow;

use bytes::Bytes;
use data_encoding::BASE64;
use serde_json::{Map, Value};

use crate::events::ingest;
use socketio::namespace::Incoming;

/// What every client writes for binary data, before its number and a brace. Within a text its quotes would be escaped, so
/// that it can be found without reading the JSON around it, which must stay as it is.
const PLACEHOLDER: &str = r#"{"_placeholder":true,"num":"#;

/// The first argument as it is to be kept; none where there is none, or where data has no place of its own in it.
pub(super) fn argument<'a>(event: &Incoming<'a>) -> Option<Cow<'a, str>> {
    let text = event.arguments.first()?.get();
    if event.attachments.is_empty() { Some(text.into()) } else { placed(text, event.attachments).map(Into::into) }
}

/// The first argument as it is to be kept, when it is an object.
pub(super) fn object(event: &Incoming<'_>) -> Option<Map<String, Value>> {
    serde_json::from_str(&argument(event)?).ok()
}

/// JSON with each attachment in its place, once.
fn placed(text: &str, attachments: &[Bytes]) -> Option<String> {
    let compact = ingest::compact(text);
    let mut out = String::with_capacity(compact.len() + attachments.iter().map(Bytes::len).sum::<usize>() * 4 / 3);
    let (mut rest, mut left) = (compact.as_str(), attachments.iter().map(Some).collect::<Vec<_>>());
    while let Some((before, after)) = rest.split_once(PLACEHOLDER) {
        let (number, behind) = after.split_once('}')?;
        // Twice would make a large event of a small packet.
        let data = left.get_mut(number.parse::<usize>().ok()?)?.take()?;
        out.push_str(before);
        out.push_str(r#"{"_binary":"base64","data":""#);
        BASE64.encode_append(data, &mut out);
        out.push_str("\"}");
        rest = behind;
    }
    out.push_str(rest);
    left.iter().all(Option::is_none).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn both(text: &str) -> Option<String> {
        placed(text, &[Bytes::from_static(b"\x00\xff"), Bytes::from_static(b"")])
    }

    #[test]
    fn placed_data_is_base64_with_a_mark() {
        let text = r#"{"b":{"_placeholder": true, "num": 1},"n":1e400,"s":"{\"_placeholder\":true,\"num\":0}","a":[{"_placeholder":true,"num":0}]}"#;
        let kept = r#"{"b":{"_binary":"base64","data":""},"n":1e400,"s":"{\"_placeholder\":true,\"num\":0}","a":[{"_binary":"base64","data":"AP8="}]}"#;
        assert_eq!(both(text).as_deref(), Some(kept));
    }

    #[test]
    fn data_without_a_place_of_its_own_is_refused() {
        for text in [
            "{}",
            r#"[{"_placeholder":true,"num":0}]"#,
            r#"[{"_placeholder":true,"num":0},{"_placeholder":true,"num":0}]"#,
            r#"[{"_placeholder":true,"num":0},{"_placeholder":true,"num":1},{"_placeholder":true,"num":1}]"#,
            r#"[{"_placeholder":true,"num":0},{"_placeholder":true,"num":2}]"#,
            r#"[{"_placeholder":true,"num":0},{"num":1,"_placeholder":true}]"#,
            r#"[{"_placeholder":true,"num":-1},{"_placeholder":true,"num":0,"x":{}}]"#,
        ] {
            assert_eq!(both(text), None, "{text}");
        }
    }
}
