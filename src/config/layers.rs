//! What each source says, and what all say together, each value with its origin.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use super::keys::{self, Raw, Value};

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Built in, or derived from the machine's directories.
    Default,
    /// A line of a file.
    File(PathBuf, usize),
    /// An environment variable.
    Variable(String),
    /// A flag of the command line.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path, line) => write!(f, "{}:{line}", path.display()),
            Self::Variable(name) => write!(f, "environment {name}"),
            Self::Flag(name) => write!(f, "flag {name}"),
        }
    }
}

/// Something wrong with the configuration: where, what, and what would be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{origin}: {message}")]
pub struct Problem {
    /// The source that says it.
    pub origin: Origin,
    /// What is wrong with it.
    pub message: String,
}

/// What one source says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Layer {
    /// The raw values by setting, with their origins.
    pub values: Vec<(&'static str, Raw, Origin)>,
    /// What could not be understood even as a setting.
    pub problems: Vec<Problem>,
}

impl Layer {
    fn put(&mut self, name: &str, raw: Raw, origin: Origin) {
        match keys::find(name) {
            Some(key) => self.values.push((key.name, raw, origin)),
            None => {
                let hint = keys::nearest(name).map(|n| format!("; did you mean {n}?")).unwrap_or_default();
                self.problems.push(Problem { origin, message: format!("there is no setting {name}{hint}") });
            }
        }
    }
}

/// The settings of a TOML text; `path` is only for the origins.
pub fn from_toml(path: &Path, text: &str) -> Layer {
    let line = |offset: usize| text[..offset.min(text.len())].matches('\n').count() + 1;
    let (table, errors) = DeTable::parse_recoverable(text);
    let mut layer = Layer::default();
    for error in errors {
        let at = error.span().map_or(1, |s| line(s.start));
        let message = format!("not valid TOML: {}", error.message());
        layer.problems.push(Problem { origin: Origin::File(path.to_owned(), at), message });
    }
    // A value that lost its way in a broken file would only add wrong errors to the right ones.
    if layer.problems.is_empty() {
        collect(&mut layer, "", table.get_ref(), &|offset| Origin::File(path.to_owned(), line(offset)));
    }
    layer
}

fn collect(layer: &mut Layer, prefix: &str, table: &DeTable<'_>, origin: &dyn Fn(usize) -> Origin) {
    for (key, value) in table {
        let name = format!("{prefix}{}", key.get_ref());
        let origin_of_key = origin(key.span().start);
        match value.get_ref() {
            DeValue::Table(inner) => {
                if keys::KEYS.iter().any(|k| k.name.starts_with(&format!("{name}."))) {
                    collect(layer, &format!("{name}."), inner, origin);
                } else {
                    layer
                        .problems
                        .push(Problem { origin: origin_of_key, message: format!("there is no section [{name}]") });
                }
            }
            DeValue::Array(items) => match items.iter().map(|i| scalar(i.get_ref())).collect::<Option<Vec<_>>>() {
                Some(items) => layer.put(&name, Raw::List(items), origin_of_key),
                None => layer
                    .problems
                    .push(Problem { origin: origin_of_key, message: format!("{name}: takes no nested values") }),
            },
            other => {
                let text = scalar(other).unwrap_or_default();
                layer.put(&name, Raw::Text(text), origin_of_key);
            }
        }
    }
}

/// What a variable or `--set` says: a list as the file has it, `["a", "b"]`, or text, in which lists are separated by commas.
pub fn raw(text: &str) -> Raw {
    let list = || match DeValue::parse(text.trim()).ok()?.into_inner() {
        DeValue::Array(items) => items.iter().map(|i| scalar(i.get_ref())).collect::<Option<Vec<_>>>(),
        _ => None,
    };
    // An IPv6 address begins with a bracket as well, and is no list.
    match text.trim_start().starts_with('[').then(list).flatten() {
        Some(items) => Raw::List(items),
        None => Raw::Text(text.to_owned()),
    }
}

fn scalar(value: &DeValue<'_>) -> Option<String> {
    Some(match value {
        DeValue::String(s) => s.to_string(),
        DeValue::Integer(i) => {
            i64::from_str_radix(i.as_str(), i.radix()).map_or_else(|_| i.as_str().to_owned(), |n| n.to_string())
        }
        DeValue::Float(f) => f.as_str().to_owned(),
        DeValue::Boolean(b) => b.to_string(),
        DeValue::Datetime(d) => d.to_string(),
        DeValue::Array(_) | DeValue::Table(_) => return None,
    })
}

/// The settings among these environment variables. A variable that looks like ours and is none is not an error (another
/// version's unit may set it) but reported by [`unknown_variables`].
pub fn from_environment(variables: &[(String, String)]) -> Layer {
    let mut layer = Layer::default();
    for key in keys::KEYS {
        let name = key.variable();
        if let Some((_, value)) = variables.iter().find(|(n, _)| *n == name) {
            layer.put(key.name, raw(value), Origin::Variable(name));
        }
    }
    layer
}

/// Variables that begin with `MPM_MONITOR_` but name no setting.
pub fn unknown_variables(variables: &[(String, String)]) -> Vec<String> {
    const OTHERS: &[&str] = &[
        "MPM_MONITOR_CONFIG",
        "MPM_MONITOR_FAILPOINT",
        "MPM_MONITOR_HOOK_DEADLINE",
        service::TEST_MANAGER,
        daemon::identity::TEST_LAUNCHD,
    ];
    variables
        .iter()
        .map(|(n, _)| n)
        .filter(|n| n.starts_with("MPM_MONITOR_") && !OTHERS.contains(&n.as_str()))
        .filter(|n| !keys::KEYS.iter().any(|k| k.variable() == **n))
        .cloned()
        .collect()
}

/// The settings given by flags: `(setting, value, flag)`.
pub fn from_flags(flags: Vec<(String, Raw, String)>) -> Layer {
    let mut layer = Layer::default();
    for (name, raw, flag) in flags {
        layer.put(&name, raw, Origin::Flag(flag));
    }
    layer
}

/// What all sources say together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Merged {
    /// The value and origin of each setting that any source names.
    pub values: BTreeMap<&'static str, (Value, Origin)>,
    /// Everything that is wrong, of all sources.
    pub problems: Vec<Problem>,
}

/// Lays the layers over each other, the later over the earlier. A value that is wrong is reported even where a later layer
/// hides it: it would surprise on the day that layer goes.
pub fn merge(layers: Vec<Layer>) -> Merged {
    let mut merged = Merged::default();
    for layer in layers {
        merged.problems.extend(layer.problems);
        for (name, raw, origin) in layer.values {
            let Some(key) = keys::find(name) else { continue };
            match key.read(&raw) {
                Ok(value) => {
                    merged.values.insert(name, (value, origin));
                }
                Err(message) => merged.problems.push(Problem { origin, message: format!("{name}: {message}") }),
            }
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_gives_values_with_their_lines() {
        let layer = from_toml(Path::new("/c"), "port = 8766\n\n[server]\nmax_clients = 0x10\nallow_origin = []\n");
        assert_eq!(layer.problems, []);
        assert_eq!(layer.values[0], ("port", Raw::Text("8766".into()), Origin::File("/c".into(), 1)));
        assert!(layer.values.contains(&("server.max_clients", Raw::Text("16".into()), Origin::File("/c".into(), 4))));
    }

    #[test]
    fn every_problem_is_listed_at_once() {
        let merged = merge(vec![
            from_toml(
                Path::new("/c"),
                "prot = 1\nbind = [\"localhost\"]\n[server]\nmax_clients = 0\n[sever]\nx = 1\n[server.max_body]\ny = 2\n",
            ),
            from_environment(&[("MPM_MONITOR_PORT".into(), "x".into())]),
            from_flags(vec![("log.format".into(), Raw::Text("xml".into()), "--log-format".into())]),
        ]);
        let text: Vec<_> = merged.problems.iter().map(ToString::to_string).collect();
        let text = text.join("\n");
        for part in [
            "/c:1: there is no setting prot; did you mean port?",
            "/c:2: bind: \"localhost\" is no IP address",
            "/c:4: server.max_clients: 0 is outside 1 to 100000",
            "/c:5: there is no section [sever]",
            "/c:7: there is no section [server.max_body]",
            "environment MPM_MONITOR_PORT: port: \"x\" is no port",
            "flag --log-format: log.format: \"xml\" is none of auto, human, json",
        ] {
            assert!(text.contains(part), "{part}\nnot in\n{text}");
        }
    }

    #[test]
    fn broken_toml_names_the_lines() {
        let layer = from_toml(Path::new("/c"), "port = \n[server\nmax_clients = 1\n");
        assert!(layer.problems.iter().any(|p| p.origin == Origin::File("/c".into(), 1)), "{:?}", layer.problems);
        assert!(layer.values.is_empty());
    }

    #[test]
    fn later_layers_win_and_keep_their_origin() {
        let merged = merge(vec![
            from_toml(Path::new("/c"), "port = 1111"),
            from_environment(&[("MPM_MONITOR_PORT".into(), "2222".into())]),
        ]);
        let (value, origin) = &merged.values["port"];
        assert_eq!(*value, Value::Port(super::super::PortChoice::Fixed(2222)));
        assert_eq!(origin.to_string(), "environment MPM_MONITOR_PORT");
    }

    #[test]
    fn raw_reads_lists_as_the_file_has_them() {
        let list = |items: &[&str]| Raw::List(items.iter().map(|i| (*i).to_owned()).collect());
        assert_eq!(raw(r#"["/p"]"#), list(&["/p"]));
        assert_eq!(raw(" ['/a', '/b c'] "), list(&["/a", "/b c"]));
        assert_eq!(raw("[]"), list(&[]));
        for text in ["[::1]", "[::1], 127.0.0.1", "/a,/b", "", "[/p]", "[[1]]", "[1] x"] {
            assert_eq!(raw(text), Raw::Text(text.to_owned()));
        }
        let flag = |value: &str| ("compat.pid_files_in".to_owned(), raw(value), "--set".to_owned());
        let merged = merge(vec![from_flags(vec![flag(r#"["/p", "/q"]"#)])]);
        assert_eq!(merged.problems, []);
    }

    #[test]
    fn foreign_variables_are_noticed() {
        let variables = [("MPM_MONITOR_PROT".to_owned(), String::new()), ("MPM_MONITOR_CONFIG".into(), String::new())];
        assert_eq!(unknown_variables(&variables), ["MPM_MONITOR_PROT"]);
    }
}
