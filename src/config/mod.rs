//! Settings: layers (defaults, files, environment, flags) are merged with provenance, then validated at once.
//!
//! Three types in a row: [`layers::Layer`] is what one source says, [`layers::Merged`] what all say together, [`Settings`]
//! what it means. Nothing here binds a port or writes a file.

pub mod directories;
pub mod example;
pub mod flags;
pub mod keys;
pub mod layers;
pub mod provenance;
pub mod settings;
pub mod token;

use std::io;
use std::path::Path;

use crate::bus::url::Password;
use daemon::guarded::Guard;
pub use directories::Directories;
use flags::Run;
use keys::Raw;
use layers::{Layer, Origin, Problem};
pub use provenance::Provenance;
pub use settings::{LocalAccess, LogFormat, PortChoice, Settings};
pub use token::Token;
use token::TokenError;

/// What [`load`] gives, without the token: that is somebody else's to read where the settings are another account's.
///
/// # Errors
/// Every problem of every source at once.
pub fn read(
    flags: &Run,
    variables: &[(String, String)],
    directories: &Directories,
) -> Result<(Settings, Provenance), Vec<Problem>> {
    let named = variables.iter().find(|(n, _)| n == "MPM_MONITOR_CONFIG").map(|(_, v)| Path::new(v));
    let named = flags.config.as_deref().or(named);
    let own = named.or(directories.user_config.as_deref());
    let mut layers = vec![file(&directories.system_config, false)];
    layers.extend(own.map(|path| file(path, named.is_some())));
    layers.push(layers::from_environment(variables));
    layers.push(from_run(flags));
    let (mut settings, provenance) = settings::settle(layers::merge(layers), directories)?;
    settings.config_files =
        [Some(&*directories.system_config), own].into_iter().flatten().map(Path::to_owned).collect();
    Ok((settings, provenance))
}

/// The settings that files, environment and flags give together, in rising order of precedence: defaults,
/// `/etc/mpm-monitor/config.toml`, the user's file (or the one named by `--config` or `MPM_MONITOR_CONFIG`), `MPM_MONITOR_*`,
/// flags; with the token.
///
/// # Errors
/// Every problem of every source at once.
pub fn load(
    flags: &Run,
    variables: &[(String, String)],
    directories: &Directories,
) -> Result<(Settings, Provenance), Vec<Problem>> {
    let (mut settings, provenance) = read(flags, variables, directories)?;
    settings.token = token(&settings, &provenance, variables)?;
    bus_password(&mut settings, &provenance)?;
    if let Some(address) = settings.bind.iter().find(|a| !a.is_loopback())
        && settings.token.is_none()
    {
        let message = format!("bind: {address} is not a loopback address, and {EXPOSED}");
        return Err(vec![Problem { origin: provenance.0["bind"].1.clone(), message }]);
    }
    Ok((settings, provenance))
}

/// What to do about an address that other machines reach.
pub const EXPOSED: &str = "whoever reaches it could read every event; set access.token_file, or keep 127.0.0.1 and ::1 and \
                           reach the monitor through an SSH tunnel (ssh -L 8765:localhost:8765 HOST)";

/// The token, from the credential that systemd passed, else from the file that the settings name: the file of a credential
/// stays root's, and only clients that root runs can read it by its name.
fn token(
    settings: &Settings,
    provenance: &Provenance,
    variables: &[(String, String)],
) -> Result<Option<Token>, Vec<Problem>> {
    let problem =
        |origin, path: &Path, error| vec![Problem { origin, message: format!("{}: {error}", path.display()) }];
    if let Some((name, directory)) = variables.iter().find(|(name, _)| name == "CREDENTIALS_DIRECTORY") {
        let path = Path::new(directory).join(token::CREDENTIAL);
        match Token::from_credential(&path) {
            Ok(token) => return Ok(Some(token)),
            Err(TokenError::Io(e)) if e.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(problem(Origin::Variable(name.clone()), &path, error)),
        }
    }
    let Some(path) = &settings.token_file else { return Ok(None) };
    let origin = || provenance.0["access.token_file"].1.clone();
    Token::from_file(path).map(Some).map_err(|e| problem(origin(), path, e))
}

/// Puts the password of the bus from its file into the settings.
fn bus_password(settings: &mut Settings, provenance: &Provenance) -> Result<(), Vec<Problem>> {
    let (Some(url), Some(path)) = (&mut settings.bus_url, &settings.bus_password_file) else { return Ok(()) };
    let origin = || provenance.0["bus.password_file"].1.clone();
    let problem = |message| vec![Problem { origin: origin(), message }];
    if url.password.is_some() {
        return Err(problem("bus.password_file: bus.url has a password, too; leave one of them out".to_owned()));
    }
    let password = Password::from_file(path).map_err(|e| problem(format!("{}: {e}", path.display())))?;
    url.password = Some(password);
    Ok(())
}

/// The variables of this process, without those that are not text.
pub fn variables() -> Vec<(String, String)> {
    std::env::vars_os().filter_map(|(n, v)| Some((n.into_string().ok()?, v.into_string().ok()?))).collect()
}

fn file(path: &Path, must_exist: bool) -> Layer {
    // A pipe or device in place of the file would block for ever, before anybody could say why.
    let text = Guard::WRITTEN.bytes(path).and_then(|bytes| {
        let bytes = bytes.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        String::from_utf8(bytes).map_err(|e| {
            let message = match e.as_bytes() {
                // The mark that such a text begins with.
                [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => {
                    "it is UTF-16, as some editors save text; save it as UTF-8".to_owned()
                }
                _ => format!("it is not UTF-8: {}", e.utf8_error()),
            };
            io::Error::new(io::ErrorKind::InvalidData, message)
        })
    });
    match text {
        Ok(text) => layers::from_toml(path, &text),
        Err(e) if e.kind() == io::ErrorKind::NotFound && !must_exist => Layer::default(),
        Err(e) => Layer {
            problems: vec![Problem {
                origin: Origin::File(path.to_owned(), 1),
                message: format!("cannot read the file: {e}"),
            }],
            ..Layer::default()
        },
    }
}

/// A folder named on the command line is meant as seen from here.
fn absolute(dir: &Path) -> String {
    let word = dir == Path::new("auto") || dir.as_os_str().is_empty();
    let dir = if word { dir.to_owned() } else { std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned()) };
    dir.display().to_string()
}

fn from_run(run: &Run) -> Layer {
    let mut flags = Vec::new();
    let mut text = |name: &str, value: Option<String>, flag: &str| {
        if let Some(value) = value {
            flags.push((name.to_owned(), Raw::Text(value), flag.to_owned()));
        }
    };
    text("port", run.port.clone(), "--port");
    text("state_dir", run.state_dir.as_ref().map(|p| p.display().to_string()), "--state-dir");
    text("server.dashboard_dir", run.dashboard_dir.as_deref().map(absolute), "--dashboard-dir");
    text("dashboard.watch", run.watch.clone(), "--watch");
    text("bus.url", run.bus.clone(), "--bus");
    text("log.level", run.log_level.clone(), "--log-level");
    text("log.format", run.log_format.clone(), "--log-format");
    text("watchdog.exit", run.watchdog_exit.then(|| "true".to_owned()), "--watchdog-exit");
    text("events.durable", run.durable.then(|| "true".to_owned()), "--durable");
    for (name, items, flag) in
        [("bind", &run.bind, "--bind"), ("server.allow_origin", &run.allow_origin, "--allow-origin")]
    {
        if !items.is_empty() {
            flags.push((name.to_owned(), Raw::List(items.clone()), flag.to_owned()));
        }
    }
    for pair in &run.set {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        flags.push((name.to_owned(), layers::raw(value), format!("--set {name}")));
    }
    layers::from_flags(flags)
}
