//! The property list of an instance. `launchd/` shows what comes out, and says why each key is there.
//!
//! The keys are typed by the `launchd` crate. Where that crate falls short (version 0.3), the value it made is completed
//! through `plist`: it has no list of sockets under one name, and writes dictionaries in a different order each time,
//! so that the same installation would not give the same bytes.

use std::path::{Path, PathBuf};

use ::launchd::{KeepAliveOptions, KeepAliveType, Launchd, LoadSessionType, ProcessType};
use plist::{Dictionary, Value};

use crate::Scope;
use crate::app::App;
use crate::definition::Definition;
use crate::drift::stamp_plist;
use crate::paths::Paths;
use crate::systemd::escape::Unspeakable;
use daemon::sockets;

/// The least time between two starts, seconds; launchd's own default, said aloud.
pub const THROTTLE: u32 = 10;
/// How long the process has to end before it is killed, seconds: above the five in which clients and requests are drained.
/// launchd's own is five on a current macOS.
pub const EXIT_TIMEOUT: u32 = 15;
/// Events may hold prompts and paths: for their own user alone.
const UMASK: u16 = 0o077;
/// Where programs are looked for besides the recorded directories: Homebrew's two places and the system's.
pub const SEARCH: [&str; 6] = ["/opt/homebrew/bin", "/usr/local/bin", "/usr/bin", "/bin", "/usr/sbin", "/sbin"];

/// The property list.
///
/// # Errors
/// [`Unspeakable`] if a path is no text or holds what XML cannot.
pub fn plist(definition: &Definition, paths: &Paths) -> Result<String, Unspeakable> {
    let port = definition.port;
    let program = text(&definition.program)?;
    let arguments = [program.as_str(), "run", "--port", &port.to_string()];
    let refused = |_| Unspeakable(definition.program.clone());
    let mut job = Launchd::new(paths.service_name(port), &definition.program)
        .map_err(refused)?
        .with_program_arguments(arguments.map(str::to_owned).into())
        .run_at_load()
        .with_keep_alive(KeepAliveType::Options(KeepAliveOptions::new().with_successful_exit(false)))
        .with_throttle_interval(THROTTLE)
        .with_exit_timeout(EXIT_TIMEOUT)
        .with_process_type(ProcessType::Standard)
        .with_working_directory("/")
        .map_err(refused)?
        .with_umask(UMASK);
    if let Some(stderr) = paths.stderr(port) {
        job = job.with_standard_error_path(text(&stderr)?).map_err(refused)?;
    }
    match definition.scope {
        Scope::User => {
            let sessions = ["Aqua", "Background"].map(str::to_owned).to_vec();
            job = job.with_limit_load_to_session_type(LoadSessionType::Array(sessions));
        }
        Scope::System => {
            if let Some(account) = &definition.account {
                job = job.with_user_name(account);
            }
        }
    }
    // The crate's keys are text, numbers and truths; none of these cannot be written.
    let mut value = plist::to_value(&job).map_err(|_| Unspeakable(definition.program.clone()))?;
    if let Some(keys) = value.as_dictionary_mut() {
        keys.insert("EnvironmentVariables".to_owned(), Value::Dictionary(environment(definition, paths)?));
        if definition.socket {
            keys.insert("Sockets".to_owned(), Value::Dictionary(listeners(port)));
        }
    }
    let mut xml = Vec::new();
    value.to_writer_xml(&mut xml).map_err(|_| Unspeakable(definition.program.clone()))?;
    let mut document = String::from_utf8(xml).map_err(|_| Unspeakable(definition.program.clone()))?;
    if !document.ends_with('\n') {
        document.push('\n');
    }
    Ok(stamp_plist(paths.app.program.name, &document, paths.app.program.version))
}

/// A path as text that XML can hold.
fn text(path: &Path) -> Result<String, Unspeakable> {
    let speakable = |t: &&str| t.chars().all(|c| !c.is_control() && !matches!(c, '\u{fffe}' | '\u{ffff}'));
    path.to_str().filter(speakable).map(str::to_owned).ok_or_else(|| Unspeakable(path.to_owned()))
}

/// The search path: where the tools were found, then the usual places, each once.
fn search_path(tool_dirs: &[PathBuf]) -> Result<String, Unspeakable> {
    let mut all: Vec<String> = tool_dirs.iter().map(|d| text(d)).collect::<Result<_, _>>()?;
    all.extend(SEARCH.iter().filter(|d| !tool_dirs.iter().any(|t| t == Path::new(d))).map(|d| (*d).to_owned()));
    Ok(all.join(":"))
}

fn environment(definition: &Definition, paths: &Paths) -> Result<Dictionary, Unspeakable> {
    let mut all = Dictionary::new();
    let mut put = |name: &str, value: String| all.insert(name.to_owned(), Value::String(value));
    put("PATH", search_path(&definition.tool_dirs)?);
    put(paths.app.env.state_dir, text(&paths.state)?);
    put(paths.app.env.runtime_dir, text(&paths.runtime_of(definition.port))?);
    if let Some(log) = paths.log(definition.port) {
        put(paths.app.env.log_file, text(&log)?);
    }
    for (name, value) in &definition.env {
        put(name, value.clone());
    }
    all.sort_keys();
    Ok(all)
}

/// Both families of loopback under the one name that the program asks for.
fn listeners(port: u16) -> Dictionary {
    let listener = |node: &str, family: &str| {
        let mut keys = Dictionary::new();
        // Without a node name launchd would listen on every address of the machine.
        for (key, value) in [("SockFamily", family), ("SockNodeName", node), ("SockType", "stream")] {
            keys.insert(key.to_owned(), Value::String(value.to_owned()));
        }
        keys.insert("SockServiceName".to_owned(), Value::String(port.to_string()));
        keys.sort_keys();
        Value::Dictionary(keys)
    };
    let both = vec![listener("127.0.0.1", "IPv4"), listener("::1", "IPv6")];
    [(sockets::NAME.to_owned(), Value::Array(both))].into_iter().collect()
}

/// The program that an installed property list runs, if that can be read.
pub fn program_of(document: &str) -> Option<PathBuf> {
    let value = Value::from_reader_xml(document.as_bytes()).ok()?;
    let keys = value.as_dictionary()?;
    let first = || keys.get("ProgramArguments")?.as_array()?.first()?.as_string();
    keys.get("Program").and_then(Value::as_string).or_else(first).map(PathBuf::from)
}

/// Whether an installed property list makes launchd listen.
pub fn has_sockets(document: &str) -> bool {
    let value = Value::from_reader_xml(document.as_bytes()).ok();
    value.as_ref().and_then(Value::as_dictionary).is_some_and(|keys| keys.contains_key("Sockets"))
}

/// The port that an installed property list makes the program serve; the default one where it names none.
pub fn port_of(app: &App, document: &str) -> Option<u16> {
    let value = Value::from_reader_xml(document.as_bytes()).ok()?;
    let arguments = value.as_dictionary()?.get("ProgramArguments")?.as_array()?;
    let words: Vec<&str> = arguments.iter().filter_map(Value::as_string).collect();
    let named = words.iter().enumerate().find_map(|(at, word)| match word.strip_prefix("--port")? {
        "" => words.get(at + 1).copied(),
        value => value.strip_prefix('='),
    });
    named.map_or(Some(app.default_port), |port| port.parse().ok())
}

#[cfg(test)]
#[path = "render_tests.rs"]
mod tests;
