//! The journal through `journalctl -o json`, for builds without libsystemd.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};

use serde_json::Value;

use super::{Entry, JournalError, Query, Sink};
use crate::exec::Stream;

/// Hands the entries to `sink`; see [`super::read`].
///
/// # Errors
/// [`JournalError`].
pub fn read(query: &Query, sink: Sink<'_>) -> Result<(), JournalError> {
    let mut stream = Stream::start("journalctl", &arguments(query))?;
    let Some(output) = stream.output() else { return Ok(()) };
    for line in BufReader::new(output).lines() {
        let line = line.map_err(JournalError::Library)?;
        if let Some(entry) = entry(&line)
            && sink(entry).map_err(JournalError::Output)?.is_break()
        {
            break;
        }
    }
    Ok(())
}

/// The command line for a query.
pub fn arguments(query: &Query) -> Vec<String> {
    let mut all: Vec<String> = ["--no-pager", "--quiet", "--output=json"].map(str::to_owned).into();
    all.push(format!("--lines={}", query.lines));
    if let Some(since) = query.since {
        all.push(format!("--since=@{}", since.as_second()));
    }
    all.extend(query.follow.then(|| "--follow".to_owned()));
    for (i, group) in query.matches().into_iter().enumerate() {
        all.extend((i > 0).then(|| "+".to_owned()));
        all.extend(group.into_iter().map(|(field, value)| format!("{field}={value}")));
    }
    all
}

/// One line of `-o json`; `None` if it is none. Values are strings, lists of bytes where not UTF-8, lists of both
/// where a field occurs more than once, and null where too long.
pub fn entry(line: &str) -> Option<Entry> {
    let Value::Object(object) = serde_json::from_str(line).ok()? else { return None };
    let fields: BTreeMap<String, String> = object.into_iter().filter_map(|(k, v)| Some((k, text(v)?))).collect();
    Some(Entry { fields })
}

fn text(value: Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text),
        Value::Array(parts) => {
            let bytes: Option<Vec<u8>> = parts.iter().map(|p| p.as_u64().and_then(|b| u8::try_from(b).ok())).collect();
            match bytes {
                Some(bytes) => Some(String::from_utf8_lossy(&bytes).into_owned()),
                None => parts.into_iter().next().and_then(text),
            }
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Scope;
    use proptest::prelude::*;

    #[test]
    fn the_matches_are_joined_by_plus() {
        let query = Query {
            scope: Scope::User,
            units: vec!["a.service".into(), "a.socket".into()],
            uid: 7,
            lines: 9,
            since: Some(jiff::Timestamp::from_second(5).unwrap()),
            follow: true,
        };
        let line = arguments(&query).join(" ");
        assert!(
            line.contains("--lines=9 --since=@5 --follow _SYSTEMD_USER_UNIT=a.service _UID=7 + USER_UNIT=a.service"),
            "{line}"
        );
        assert_eq!(line.matches(" + ").count(), 3);
    }

    #[test]
    fn every_kind_of_value() {
        let entry = entry(r#"{"MESSAGE":[104,105],"_PID":"1","BIG":null,"TWICE":["a","b"]}"#).unwrap();
        let field = |name: &str| entry.fields.get(name).map(String::as_str);
        assert_eq!(
            (field("MESSAGE"), field("_PID"), field("BIG"), field("TWICE")),
            (Some("hi"), Some("1"), None, Some("a"))
        );
        assert_eq!(super::entry("-- No entries --"), None);
    }

    proptest! {
        #[test]
        fn no_line_panics(line in any::<String>()) {
            let _ = entry(&line);
        }
    }
}
