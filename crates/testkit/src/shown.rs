//! What the program shows, with what differs from run to run exchanged for its name, to compare with `tests/snapshots/`.
//! After a change that is meant, `INSTA_UPDATE=always` writes the snapshots anew.

use serde_json::Value;

use super::here;

/// The members of objects that differ from run to run.
const VOLATILE: [&str; 10] = [
    "pid",
    "instance_id",
    "boot_id",
    "build",
    "running_build",
    "installed_build",
    "started_usec",
    "uptime_seconds",
    "since",
    "at",
];

/// Each volatile member of a value with what it is, as JSON.
fn volatile(value: &Value, found: &mut Vec<(String, String)>) {
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                if VOLATILE.contains(&name.as_str()) && !value.is_null() && !value.is_object() {
                    found.push((name.clone(), value.to_string()));
                }
                volatile(value, found);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| volatile(item, found)),
        _ => {}
    }
}

/// What `--json` printed, in its own order, with the values of volatile members and these texts exchanged for their names.
///
/// # Panics
/// When it is no JSON.
#[track_caller]
pub fn json(text: &str, texts: &[(&str, &str)]) -> String {
    let value = serde_json::from_str(text).unwrap_or_else(|e| panic!("no JSON ({e}): {text}"));
    let mut found = Vec::new();
    volatile(&value, &mut found);
    let shown = found.iter().fold(text.to_owned(), |shown, (name, value)| {
        shown.replace(&format!("\"{name}\": {value}"), &format!("\"{name}\": \"[{name}]\""))
    });
    exchanged(shown, texts)
}

/// What was printed for people, with the values that `--json` has for the same and these texts exchanged for their names. A
/// process number keeps the width of a column.
pub fn text(text: &str, json: &Value, texts: &[(&str, &str)]) -> String {
    let mut found = Vec::new();
    volatile(json, &mut found);
    found.retain(|(name, _)| ["pid", "instance_id"].contains(&name.as_str()));
    let shown = found.iter().fold(text.to_owned(), |shown, (name, value)| {
        let value = value.trim_matches('"');
        shown.replace(&format!("{value:<5}"), &format!("[{name}]")).replace(value, &format!("[{name}]"))
    });
    let shown = match shown.split_once(", up ").and_then(|(before, rest)| Some((before, rest.split_once(',')?.1))) {
        Some((before, after)) => format!("{before}, up [uptime],{after}"),
        None => shown,
    };
    exchanged(shown, texts)
}

fn exchanged(shown: String, texts: &[(&str, &str)]) -> String {
    texts.iter().fold(shown, |shown, (text, name)| shown.replace(text, name))
}

/// Compares with the snapshot of this name in a folder of `tests/snapshots`.
#[track_caller]
pub fn assert_as_reviewed(folder: &str, name: &str, shown: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(here(&format!("tests/snapshots/{folder}")));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, shown));
}
