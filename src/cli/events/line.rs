//! An event as one line: for people within the width of the terminal, or as JSON. Nothing in it steers a terminal.

use super::pages::Item;
use crate::hooks::json::Members;

/// What tells most of an event, in this order.
const TELLING: [&str; 12] = [
    "command",
    "file_path",
    "pattern",
    "url",
    "prompt_preview",
    "message",
    "description",
    "reason",
    "agent_type",
    "start_source",
    "error",
    "text",
];

/// One JSON object.
pub fn json(item: &Item) -> String {
    let Item { seq, id, accepted, name, payload } = item;
    let quoted = crate::hooks::json::quoted;
    let line = format!(
        "{{\"seq\":{seq},\"id\":{},\"accepted\":{},\"name\":{},\"payload\":{}}}",
        quoted(id),
        quoted(accepted),
        quoted(name),
        payload.get()
    );
    // JSON lets some of them stand as they are.
    if !line.contains(char::is_control) {
        return line;
    }
    line.chars().map(|c| if c.is_control() { format!("\\u{:04x}", u32::from(c)) } else { c.to_string() }).collect()
}

/// Time, session, what happened, and the most telling of what it says, within `width` columns.
pub fn human(item: &Item, zone: &jiff::tz::TimeZone, width: usize) -> String {
    let payload = Members::of(item.payload.get()).unwrap_or_default();
    let data = payload.object("data").unwrap_or_default();
    let time = item
        .accepted
        .parse::<jiff::Timestamp>()
        .map_or_else(|_| item.accepted.clone(), |at| at.to_zoned(zone.clone()).strftime("%m-%d %H:%M:%S").to_string());
    let session = payload.some("session_id").unwrap_or_else(|| "-".to_owned());
    let subtype = payload.some("subtype").unwrap_or_else(|| item.name.clone());
    let parameters = data.object("tool_parameters").unwrap_or_default();
    let told = TELLING.iter().find_map(|name| parameters.some(name).or_else(|| data.some(name)));
    let tool = data.some("tool_name");
    let summary = match (tool, told) {
        (Some(tool), Some(told)) => format!("{tool}: {told}"),
        (Some(one), None) | (None, Some(one)) => one,
        (None, None) => String::new(),
    };
    let line = format!("{time} {:<8.8} {:<13} {summary}", tame(&session), tame(&subtype));
    let tame = tame(&line);
    let tame = tame.trim_end();
    if tame.chars().count() <= width {
        return tame.to_owned();
    }
    format!("{}…", crate::hooks::json::first(tame, width.saturating_sub(1)))
}

/// One line without anything that a terminal obeys, also what turns the direction of text.
fn tame(text: &str) -> String {
    let steers = |c: char| {
        c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{2028}' | '\u{2029}')
    };
    text.chars()
        .map(|c| {
            if c == '\n' || c == '\t' || c == '\r' {
                ' '
            } else if steers(c) {
                '\u{fffd}'
            } else {
                c
            }
        })
        .collect()
}

/// The width of the terminal, or 80 columns.
pub fn width() -> usize {
    let size = daemon::out::columns();
    size.filter(|columns| *columns >= 40).unwrap_or(80)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(payload: serde_json::Value) -> Item {
        Item {
            seq: 7,
            id: "e-7".into(),
            accepted: "2026-11-22T10:00:00Z".into(),
            name: "tool_event".into(),
            payload: serde_json::value::RawValue::from_string(payload.to_string()).unwrap(),
        }
    }

    #[test]
    fn a_line_fits_and_steers_nothing() {
        let item = item(serde_json::json!({"subtype": "pre_tool", "session_id": "0123456789", "data": {
            "tool_name": "Bash", "tool_parameters": {"command": format!("ls \u{1b}[2J\u{9b}1m\n\u{202e}{}", "x".repeat(200))}}}));
        let line = human(&item, &jiff::tz::TimeZone::UTC, 80);
        assert_eq!(line.chars().count(), 80, "{line}");
        assert!(line.starts_with("11-22 10:00:00 01234567 pre_tool      Bash: ls \u{fffd}[2J"), "{line}");
        assert!(!line.contains(|c: char| c.is_control() || c == '\u{202e}'));
        let text = json(&item);
        assert!(!text.contains(char::is_control), "{text}");
        let again: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(again["payload"], serde_json::from_str::<serde_json::Value>(item.payload.get()).unwrap());
    }

    #[test]
    fn an_event_without_anything_has_a_line() {
        assert_eq!(
            human(&item(serde_json::json!([1])), &jiff::tz::TimeZone::UTC, 80),
            "11-22 10:00:00 -        tool_event"
        );
    }
}
