//! What is to run, before any manager's format comes into it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::Scope;

/// One instance, as it shall be installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Definition {
    /// The port, which is the instance's name.
    pub port: u16,
    /// Whose manager runs it.
    pub scope: Scope,
    /// The program; absolute, and checked by [`super::program`].
    pub program: PathBuf,
    /// Environment of this instance alone.
    pub env: BTreeMap<String, String>,
    /// Whether the manager holds the listening socket.
    pub socket: bool,
    /// Whether the manager knows `Type=notify-reload` (systemd 253).
    pub notify_reload: bool,
    /// The account that a launchd daemon runs as; systemd's has a user of its own.
    pub account: Option<String>,
    /// Directories with tools that are not where launchd looks for programs.
    pub tool_dirs: Vec<PathBuf>,
}

/// Why an `--env` was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvError {
    /// The name cannot be one.
    #[error("--env {0:?}: a name is letters, digits and _, not beginning with a digit; write NAME=VALUE")]
    Name(String),
    /// The value holds what a unit file cannot.
    #[error(
        "--env {0}: the value holds a control character, which a unit file cannot; put it into the configuration file"
    )]
    Value(String),
}

/// Whether a variable can have this name.
pub fn is_env_name(name: &str) -> bool {
    let valid = |c: char| c.is_ascii_alphanumeric() || c == '_';
    !name.is_empty() && name.chars().all(valid) && !name.starts_with(|c: char| c.is_ascii_digit())
}

/// Whether a unit file can give a variable this value: systemd drops an assignment with a control character other than tab
/// and newline, which are written as escapes.
pub fn is_env_value(value: &str) -> bool {
    !value.chars().any(|c| c.is_control() && c != '\t' && c != '\n')
}

/// The environment that results from an earlier one and the `--env` arguments: `NAME=VALUE` sets, `NAME` removes.
///
/// # Errors
/// [`EnvError`] for a name or value that systemd would not take.
pub fn merge_env(before: &BTreeMap<String, String>, given: &[String]) -> Result<BTreeMap<String, String>, EnvError> {
    let mut env = before.clone();
    for argument in given {
        let (name, value) = match argument.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (argument.as_str(), None),
        };
        if !is_env_name(name) {
            return Err(EnvError::Name(argument.clone()));
        }
        match value {
            Some(v) if !is_env_value(v) => return Err(EnvError::Value(name.to_owned())),
            Some(v) => {
                env.insert(name.to_owned(), v.to_owned());
            }
            None => {
                env.remove(name);
            }
        }
    }
    Ok(env)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn env_is_added_replaced_and_removed() {
        let before = BTreeMap::from([("A".to_owned(), "1".to_owned()), ("B".to_owned(), "2".to_owned())]);
        let env = merge_env(&before, &["A=x=y".to_owned(), "B".to_owned(), "C_1=".to_owned()]).unwrap();
        let expected: Vec<_> = env.iter().map(|(k, v)| format!("{k}={v}")).collect();
        assert_eq!(expected, ["A=x=y", "C_1="]);
    }

    #[test]
    fn bad_names_and_values_are_refused() {
        for bad in ["=x", "1A=x", "A-B=x", "", "A B=c"] {
            assert_eq!(merge_env(&BTreeMap::new(), &[bad.to_owned()]), Err(EnvError::Name(bad.to_owned())));
        }
        assert_eq!(merge_env(&BTreeMap::new(), &["A=\u{1}".to_owned()]), Err(EnvError::Value("A".to_owned())));
    }
}
