//! What launchd makes of a property list, which it refuses, and what it ignores.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use plist::{Dictionary, Value};

/// launchd.plist(5) as a table, beside the tests.
const KEYS: &str = include_str!("../../../../tests/launchd/keys.json");

/// When to start a job that has ended again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct KeepAlive {
    /// After every end.
    pub always: bool,
    /// After ends whose success is this.
    pub successful_exit: Option<bool>,
    /// After crashes (or after all other ends).
    pub crashed: Option<bool>,
}

/// A job.
#[derive(Debug, Clone)]
pub struct Definition {
    /// Where it stands.
    pub path: PathBuf,
    /// Its name.
    pub label: String,
    /// The program.
    pub program: PathBuf,
    /// The whole argument vector.
    pub arguments: Vec<String>,
    /// What is added to the environment.
    pub environment: BTreeMap<String, String>,
    /// Where standard error goes.
    pub stderr: Option<PathBuf>,
    /// Whether it starts when it is loaded.
    pub run_at_load: bool,
    /// When it starts again.
    pub keep_alive: KeepAlive,
    /// The least time between two starts.
    pub throttle: Duration,
    /// The time from SIGTERM to SIGKILL.
    pub exit_timeout: Duration,
    /// The account it runs as, in the domain of the system.
    pub user: Option<String>,
    /// The sessions it may be loaded in.
    pub sessions: Vec<String>,
    /// The addresses of its sockets.
    pub sockets: Vec<String>,
    /// The keys that launchd does not know, and ignores without a word.
    pub ignored: Vec<String>,
}

/// Why a file is refused: launchctl's exit code, and the reason, which launchctl would not tell.
pub type Refused = (i32, String);

/// Reads one as launchd would.
pub fn read(path: &Path, uid: u32) -> Result<Definition, Refused> {
    let io = |e: String| (5, format!("{}: {e}", path.display()));
    let meta = std::fs::metadata(path).map_err(|e| io(e.to_string()))?;
    if meta.uid() != uid || meta.mode() & 0o022 != 0 {
        return Err((122, format!("{}: owner {} or mode {:o}", path.display(), meta.uid(), meta.mode() & 0o777)));
    }
    let value = Value::from_file(path).map_err(|e| io(e.to_string()))?;
    let keys = value.as_dictionary().ok_or_else(|| io("no dictionary".into()))?;
    let (wrong, ignored) = complaints(keys);
    if !wrong.is_empty() {
        return Err(io(wrong.join("; ")));
    }
    let text = |key: &str| keys.get(key).and_then(Value::as_string).map(str::to_owned);
    let number = |key: &str| keys.get(key).and_then(Value::as_unsigned_integer);
    let strings = |key: &str| match keys.get(key) {
        Some(Value::Array(all)) => all.iter().filter_map(Value::as_string).map(str::to_owned).collect(),
        Some(Value::String(one)) => vec![one.clone()],
        _ => Vec::new(),
    };
    let label = text("Label").ok_or_else(|| io("no Label".into()))?;
    let arguments: Vec<String> = strings("ProgramArguments");
    let program = text("Program").or_else(|| arguments.first().cloned()).ok_or_else(|| io("no program".into()))?;
    let inner = |key: &str| keys.get(key).and_then(Value::as_dictionary);
    let keep = inner("KeepAlive");
    Ok(Definition {
        path: path.to_owned(),
        label,
        program: program.into(),
        arguments,
        environment: inner("EnvironmentVariables")
            .into_iter()
            .flatten()
            .filter_map(|(k, v)| Some((k.clone(), v.as_string()?.to_owned())))
            .collect(),
        stderr: text("StandardErrorPath").map(PathBuf::from),
        run_at_load: keys.get("RunAtLoad").and_then(Value::as_boolean).unwrap_or(false),
        keep_alive: KeepAlive {
            always: keys.get("KeepAlive").and_then(Value::as_boolean).unwrap_or(false),
            successful_exit: keep.and_then(|k| k.get("SuccessfulExit")?.as_boolean()),
            crashed: keep.and_then(|k| k.get("Crashed")?.as_boolean()),
        },
        throttle: Duration::from_secs(number("ThrottleInterval").unwrap_or(10)),
        exit_timeout: Duration::from_secs(number("ExitTimeOut").unwrap_or(5)),
        user: text("UserName"),
        sessions: if keys.contains_key("LimitLoadToSessionType") {
            strings("LimitLoadToSessionType")
        } else {
            vec!["Aqua".to_owned()]
        },
        sockets: listeners(keys)
            .filter_map(|socket| {
                let text = |key: &str| socket.get(key).and_then(Value::as_string);
                let (node, port) = (text("SockNodeName").unwrap_or("0.0.0.0"), text("SockServiceName")?);
                Some(if node.contains(':') { format!("[{node}]:{port}") } else { format!("{node}:{port}") })
            })
            .collect(),
        ignored,
    })
}

/// The entries of `Sockets`, which has one or several under each name.
fn listeners(keys: &Dictionary) -> impl Iterator<Item = &Dictionary> {
    let all = keys.get("Sockets").and_then(Value::as_dictionary).into_iter().flat_map(Dictionary::values);
    all.flat_map(|v| v.as_array().map_or_else(|| vec![v], |a| a.iter().collect())).filter_map(Value::as_dictionary)
}

/// Which types are wrong by the manual, and which keys it does not have.
fn complaints(keys: &Dictionary) -> (Vec<String>, Vec<String>) {
    let manual: serde_json::Value = serde_json::from_str(KEYS).expect("the table of keys");
    let (mut wrong, mut ignored) = (Vec::new(), Vec::new());
    for (key, value) in keys {
        match manual["top"][key.as_str()].as_str() {
            None => ignored.push(key.clone()),
            Some(wanted) if !fits(value, wanted) => wrong.push(format!("{key} is no {wanted}")),
            Some(_) => {}
        }
        let Some(nested) = manual["nested"][key.as_str()].as_object() else { continue };
        let blocks: Vec<&Dictionary> = match value {
            Value::Dictionary(_) if key == "Sockets" => listeners(keys).collect(),
            Value::Dictionary(block) => vec![block],
            _ => Vec::new(),
        };
        for (name, value) in blocks.into_iter().flatten() {
            match nested.get(name).and_then(|t| t.as_str()) {
                None => ignored.push(format!("{key}.{name}")),
                Some(wanted) if !fits(value, wanted) => wrong.push(format!("{key}.{name} is no {wanted}")),
                Some(_) => {}
            }
        }
    }
    (wrong, ignored)
}

/// Whether a value has one of the types that the manual's words name.
fn fits(value: &Value, wanted: &str) -> bool {
    let says = |word: &str| wanted.contains(word);
    match value {
        Value::String(_) => says("string") && !wanted.starts_with("array") && !wanted.starts_with("dictionary"),
        Value::Boolean(_) => wanted.starts_with("boolean"),
        Value::Integer(_) => wanted.starts_with("integer") || wanted.ends_with("or integer"),
        Value::Array(all) => says("array of strings") && all.iter().all(|v| v.as_string().is_some()),
        Value::Dictionary(all) => {
            says("dictionar")
                && match wanted {
                    "dictionary of strings" => all.values().all(|v| v.as_string().is_some()),
                    "dictionary of integers" => all.values().all(|v| v.as_signed_integer().is_some()),
                    "dictionary of booleans" => all.values().all(|v| v.as_boolean().is_some()),
                    _ => true,
                }
        }
        _ => false,
    }
}
