//! Where each setting in force comes from, and the settings as `config show` has them: TOML or JSON.

use std::collections::BTreeMap;

use super::keys::{self, KEYS, Kind, Value, show_bytes};
use super::layers::Origin;
use super::settings::PortChoice;

/// The value and the origin of each setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provenance(pub BTreeMap<&'static str, (Value, Origin)>);

impl Provenance {
    /// The settings as TOML, sections in order; with `origin`, each with a comment that says where it comes from.
    pub fn to_toml(&self, origin: bool) -> String {
        keys::in_sections(|key, name| {
            let (value, from) = &self.0[key.name];
            let line = format!("{name} = {}", show(value, key.kind));
            if origin { format!("{line:<44} # {from}\n") } else { format!("{line}\n") }
        })
    }

    /// The settings as JSON: name -> value, origin, whether a reload applies it.
    pub fn to_json(&self) -> serde_json::Value {
        let settings: serde_json::Map<_, _> = KEYS
            .iter()
            .map(|key| {
                let (value, from) = &self.0[key.name];
                let entry = serde_json::json!({
                    "value": show(value, key.kind).trim_matches('"'),
                    "origin": from.to_string(),
                    "live": key.live,
                    "about": key.about,
                });
                (key.name.to_owned(), entry)
            })
            .collect();
        serde_json::json!({ "schema_version": 1, "settings": settings })
    }

    /// The settings in which `new` differs, and whether a reload applies each.
    pub fn changed_in(&self, new: &Self) -> Vec<(&'static str, bool)> {
        KEYS.iter().filter(|k| self.0[k.name].0 != new.0[k.name].0).map(|k| (k.name, k.live)).collect()
    }
}

/// A value as it would stand in a file.
pub(super) fn show(value: &Value, kind: Kind) -> String {
    let quote = |text: &str| toml::Value::String(text.to_owned()).to_string();
    let list = |items: Vec<String>| format!("[{}]", items.join(", "));
    match value {
        Value::Port(PortChoice::Fixed(port)) => port.to_string(),
        Value::Port(PortChoice::Auto) => quote("auto"),
        Value::Addresses(addresses) => list(addresses.iter().map(|a| quote(&a.to_string())).collect()),
        Value::Number(n) if matches!(kind, Kind::Bytes(..)) => quote(&show_bytes(*n)),
        Value::Number(n) => n.to_string(),
        Value::Duration(d) => quote(&humantime::format_duration(*d).to_string()),
        Value::Bool(b) => b.to_string(),
        Value::Path(p) => quote(&p.display().to_string()),
        Value::Text(t) => quote(t),
        Value::Bus(url) => quote(&url.to_string()),
        Value::List(items) => list(items.iter().map(|i| quote(i)).collect()),
    }
}
