//! The validated settings of one process.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::directories::Directories;
use super::keys::{KEYS, Raw, Value};
use super::layers::{Merged, Origin, Problem};
use super::provenance::Provenance;
use super::token::Token;
use crate::bus::{BusSettings, BusUrl};
use crate::events::model::Dialect;
use crate::server::dashboard::Choice;
use crate::server::files::Rules;
use daemon::logfile::Bounds;

/// The port that clients expect a monitor on.
pub const DEFAULT_PORT: u16 = 8765;
/// The ports that clients search, and that `--port auto` chooses from.
pub const AUTO_PORTS: std::ops::RangeInclusive<u16> = 8765..=8785;

/// Which port to serve on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PortChoice {
    /// This one or none.
    Fixed(u16),
    /// The first free one of [`AUTO_PORTS`].
    Auto,
}

impl fmt::Display for PortChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(port) => write!(f, "{port}"),
            Self::Auto => f.write_str("auto"),
        }
    }
}

/// The shape of the log lines on standard error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// To the journal with structured fields when standard error is the journal, else human.
    Auto,
    /// For people.
    Human,
    /// One JSON object a line.
    Json,
}

/// What programs of this machine may do without the token, where one is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LocalAccess {
    /// Nothing but ask how the monitor is.
    None,
    /// See everything.
    Read,
    /// Post events, too: hooks cannot send a token.
    All,
}

/// When the served dashboard of a Claude MPM is watched for changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WatchChoice {
    /// Where its folder was named: who does so works on it, or knows what puts another there.
    Auto,
    /// Wherever one is served.
    On,
    /// Never.
    Off,
}

/// What one process does, complete and checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The port, or the wish for any free one.
    pub port: PortChoice,
    /// The addresses to listen on; loopback by default, both families.
    pub bind: Vec<IpAddr>,
    /// The most Socket.IO clients at once; more are refused with a reason.
    pub max_clients: usize,
    /// The most open connections of any kind.
    pub max_connections: usize,
    /// The largest request body, bytes.
    pub max_body: usize,
    /// How long a client may take to send a request's head.
    pub header_timeout: Duration,
    /// The most bytes that wait for one slow client before it is cut off.
    pub client_backlog: usize,
    /// How many packets a second one client may send in the long run.
    pub client_rate: u32,
    /// How many it may send at once before that holds.
    pub client_burst: u32,
    /// The time between two Engine.IO pings.
    pub ping_interval: Duration,
    /// How long a client may stay silent after a ping.
    pub ping_timeout: Duration,
    /// Origins of web pages beyond this machine's own that may post events and connect.
    pub allow_origin: Vec<String>,
    /// Names of this machine, beyond its addresses and `localhost`, that requests may call it by.
    pub allow_host: Vec<String>,
    /// A Unix socket to listen on as well.
    pub unix_socket: Option<PathBuf>,
    /// What clients must know: those of other machines for everything, those of this one to change anything.
    pub token: Option<Token>,
    /// Where the token is read from, if a file is named.
    pub token_file: Option<PathBuf>,
    /// What programs of this machine may do without the token.
    pub local: LocalAccess,
    /// The numbers of the users, beyond our own and root, that may use the Unix socket.
    pub unix_users: Vec<u32>,
    /// Whose page is served at `/`.
    pub dashboard: Choice,
    /// Whether pages load themselves again when that changes.
    pub watch: WatchChoice,
    /// The projects in whose `.claude-mpm` the PID file of Claude MPM is kept.
    pub pid_files_in: Vec<PathBuf>,
    /// How posted events are shown to clients.
    pub dialect: Dialect,
    /// Whether an event is accepted only once it is on the disk, not merely in the kernel.
    pub durable: bool,
    /// The most events kept.
    pub history_events: u64,
    /// The most bytes of events kept.
    pub history_bytes: u64,
    /// How long events are kept.
    pub history_age: Duration,
    /// How many events a client gets when it connects.
    pub history_on_connect: usize,
    /// The server through which events are shared with other monitors, if they are.
    pub bus_url: Option<BusUrl>,
    /// How they are shared.
    pub bus: BusSettings,
    /// Where the password of the bus is read from, if a file is named.
    pub bus_password_file: Option<PathBuf>,
    /// How long shutdown waits for clients and requests before it cuts them.
    pub drain_timeout: Duration,
    /// Which files clients may read.
    pub files: Rules,
    /// Where the events and the crash ledger are.
    pub state_dir: PathBuf,
    /// The configuration files that were looked for; they may name secrets.
    pub config_files: Vec<PathBuf>,
    /// Where the lock and instance file of each port is.
    pub runtime_dir: PathBuf,
    /// Which log lines are written: a level, or directives such as `info,mpm_monitor::server=debug`.
    pub log_level: String,
    /// Their shape.
    pub log_format: LogFormat,
    /// Where they go instead of to standard error.
    pub log_file: Option<PathBuf>,
    /// How that file is bounded.
    pub log_bounds: Bounds,
    /// Whether a stall ends the process where no manager would.
    pub watchdog_exit: bool,
    /// How long a stall may last before [`Settings::watchdog_exit`] acts, where no manager says.
    pub watchdog_timeout: Duration,
}

impl Settings {
    /// Whether the dashboard that is served, if any, is watched.
    pub fn watches_dashboard(&self) -> bool {
        match (self.watch, &self.dashboard) {
            (_, Choice::Own) | (WatchChoice::Off, _) => false,
            (WatchChoice::On, _) | (WatchChoice::Auto, Choice::At(_)) => true,
            (WatchChoice::Auto, Choice::Auto) => false,
        }
    }

    /// These settings, with the parts that only a restart changes as they are in `running`.
    #[must_use]
    pub fn with_fixed_parts_of(self, running: &Self) -> Self {
        Self {
            port: running.port,
            bind: running.bind.clone(),
            unix_socket: running.unix_socket.clone(),
            state_dir: running.state_dir.clone(),
            runtime_dir: running.runtime_dir.clone(),
            header_timeout: running.header_timeout,
            dashboard: running.dashboard.clone(),
            watch: running.watch,
            pid_files_in: running.pid_files_in.clone(),
            durable: running.durable,
            bus_url: running.bus_url.clone(),
            bus: running.bus.clone(),
            bus_password_file: running.bus_password_file.clone(),
            log_format: running.log_format,
            log_file: running.log_file.clone(),
            log_bounds: running.log_bounds.clone(),
            watchdog_exit: running.watchdog_exit,
            watchdog_timeout: running.watchdog_timeout,
            ..self
        }
    }
}

/// The settings of this process with the origin of each, or every problem at once. The token itself is not read yet.
///
/// # Errors
/// All problems of all sources.
pub fn settle(mut merged: Merged, directories: &Directories) -> Result<(Settings, Provenance), Vec<Problem>> {
    for key in KEYS {
        let default = match key.name {
            "state_dir" => directories.state.display().to_string(),
            "runtime_dir" => directories.runtime.display().to_string(),
            _ => key.default.to_owned(),
        };
        let value = key.read(&Raw::Text(default)).map_err(|message| {
            vec![Problem { origin: Origin::Default, message: format!("{}: {message}", key.name) }]
        })?;
        merged.values.entry(key.name).or_insert((value, Origin::Default));
    }
    let values = &merged.values;
    let settings = Settings {
        port: get(values, "port", |v| if let Value::Port(p) = v { Some(*p) } else { None }),
        bind: get(values, "bind", |v| if let Value::Addresses(a) = v { Some(a.clone()) } else { None }),
        max_clients: count(values, "server.max_clients"),
        max_connections: count(values, "server.max_connections"),
        max_body: count(values, "server.max_body"),
        header_timeout: time(values, "server.header_timeout"),
        client_backlog: count(values, "server.client_backlog"),
        client_rate: rate(values, "server.client_rate"),
        client_burst: rate(values, "server.client_burst"),
        ping_interval: time(values, "socketio.ping_interval"),
        ping_timeout: time(values, "socketio.ping_timeout"),
        allow_origin: list(values, "server.allow_origin"),
        allow_host: list(values, "server.allow_host"),
        dashboard: get(values, "server.dashboard_dir", |v| match v {
            Value::Path(dir) => Some(Choice::At(dir.clone())),
            Value::Text(word) if word == "auto" => Some(Choice::Auto),
            _ => Some(Choice::Own),
        }),
        watch: match text(values, "dashboard.watch").as_str() {
            "on" => WatchChoice::On,
            "off" => WatchChoice::Off,
            _ => WatchChoice::Auto,
        },
        pid_files_in: list(values, "compat.pid_files_in").iter().map(PathBuf::from).collect(),
        unix_socket: optional_path(values, "server.unix_socket"),
        token: None,
        token_file: optional_path(values, "access.token_file"),
        local: match text(values, "access.local").as_str() {
            "all" => LocalAccess::All,
            "none" => LocalAccess::None,
            _ => LocalAccess::Read,
        },
        unix_users: list(values, "access.unix_users").iter().filter_map(|u| u.parse().ok()).collect(),
        dialect: if text(values, "events.dialect") == "wrapped" { Dialect::Wrapped } else { Dialect::PassThrough },
        durable: truth(values, "events.durable"),
        history_events: number(values, "history.events"),
        history_bytes: number(values, "history.bytes"),
        history_age: time(values, "history.age"),
        history_on_connect: count(values, "history.on_connect"),
        bus_url: get(values, "bus.url", |v| if let Value::Bus(u) = v { Some(Some(u.clone())) } else { Some(None) }),
        bus: BusSettings {
            node: Some(text(values, "bus.node")).filter(|name| !name.is_empty()),
            stream: Some(text(values, "bus.stream"))
                .filter(|name| !name.is_empty())
                .unwrap_or_else(|| "mpm-monitor".to_owned()),
            stream_events: number(values, "bus.stream_events"),
            gap_wait: time(values, "bus.gap_wait"),
        },
        bus_password_file: optional_path(values, "bus.password_file"),
        drain_timeout: time(values, "server.drain_timeout"),
        files: Rules {
            enabled: truth(values, "files.enabled"),
            other_users: truth(values, "files.other_users"),
            home: truth(values, "files.home"),
            sessions: truth(values, "files.sessions"),
            roots: list(values, "files.roots").iter().map(PathBuf::from).collect(),
            deny: list(values, "files.deny"),
            max_size: number(values, "files.max_size"),
            git: optional_path(values, "files.git"),
        },
        state_dir: path(values, "state_dir"),
        config_files: Vec::new(),
        runtime_dir: path(values, "runtime_dir"),
        log_level: text(values, "log.level"),
        log_format: match text(values, "log.format").as_str() {
            "human" => LogFormat::Human,
            "json" => LogFormat::Json,
            _ => LogFormat::Auto,
        },
        log_file: optional_path(values, "log.file"),
        log_bounds: Bounds { bytes: number(values, "log.file_bytes"), older: count(values, "log.older_files") },
        watchdog_exit: truth(values, "watchdog.exit"),
        watchdog_timeout: time(values, "watchdog.timeout"),
    };
    let mut problems = merged.problems;
    if settings.max_connections < settings.max_clients {
        problems.push(Problem {
            origin: values["server.max_clients"].1.clone(),
            message: format!(
                "server.max_clients: {} clients do not fit into server.max_connections = {}; raise that, too",
                settings.max_clients, settings.max_connections
            ),
        });
    }
    if problems.is_empty() { Ok((settings, Provenance(merged.values))) } else { Err(problems) }
}

type Values = BTreeMap<&'static str, (Value, Origin)>;

fn get<T>(values: &Values, name: &str, pick: impl Fn(&Value) -> Option<T>) -> T {
    match values.get(name).and_then(|(v, _)| pick(v)) {
        Some(value) => value,
        None => unreachable!("{name} has a default of its kind, which a test checks"),
    }
}

fn number(values: &Values, name: &str) -> u64 {
    get(values, name, |v| if let Value::Number(n) = v { Some(*n) } else { None })
}

fn count(values: &Values, name: &str) -> usize {
    usize::try_from(number(values, name)).unwrap_or(usize::MAX)
}

fn rate(values: &Values, name: &str) -> u32 {
    u32::try_from(number(values, name)).unwrap_or(u32::MAX)
}

fn time(values: &Values, name: &str) -> Duration {
    get(values, name, |v| if let Value::Duration(d) = v { Some(*d) } else { None })
}

fn truth(values: &Values, name: &str) -> bool {
    get(values, name, |v| if let Value::Bool(b) = v { Some(*b) } else { None })
}

fn path(values: &Values, name: &str) -> PathBuf {
    get(values, name, |v| if let Value::Path(p) = v { Some(p.clone()) } else { None })
}

fn optional_path(values: &Values, name: &str) -> Option<PathBuf> {
    get(values, name, |v| if let Value::Path(p) = v { Some(Some(p.clone())) } else { Some(None) })
}

fn list(values: &Values, name: &str) -> Vec<String> {
    get(values, name, |v| if let Value::List(l) = v { Some(l.clone()) } else { None })
}

fn text(values: &Values, name: &str) -> String {
    get(values, name, |v| if let Value::Text(t) = v { Some(t.clone()) } else { None })
}

/// The settings of a machine where nothing is set, for tests.
#[cfg(test)]
pub(crate) fn defaults() -> Settings {
    let directories =
        Directories { system_config: "/c".into(), user_config: None, state: "/s".into(), runtime: "/r".into() };
    settle(Merged::default(), &directories).map(|(settings, _)| settings).unwrap_or_else(|p| panic!("{p:?}"))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::keys::Kind;
    use super::super::layers;
    use super::*;

    fn directories() -> Directories {
        Directories {
            system_config: "/etc/c".into(),
            user_config: None,
            state: "/state".into(),
            runtime: "/runtime".into(),
        }
    }

    #[test]
    fn the_defaults_settle_and_read_back_as_they_are_shown() {
        let (settings, provenance) = settle(Merged::default(), &directories()).unwrap();
        assert_eq!(settings.port, PortChoice::Fixed(8765));
        assert_eq!(settings.state_dir, Path::new("/state"));
        let text = provenance.to_toml(true);
        let again = settle(layers::merge(vec![layers::from_toml(Path::new("/c"), &text)]), &directories()).unwrap();
        assert_eq!(again.0, settings);
        assert!(provenance.changed_in(&again.1).is_empty());
    }

    #[test]
    fn settings_that_contradict_each_other_are_a_problem() {
        let merged = layers::merge(vec![layers::from_toml(Path::new("/c"), "[server]\nmax_clients = 5000\n")]);
        let problems = settle(merged, &directories()).unwrap_err();
        assert_eq!(problems.len(), 1);
        assert!(problems[0].to_string().starts_with("/c:2: server.max_clients: 5000 clients do not fit"));
    }

    #[test]
    fn a_change_tells_whether_a_reload_applies_it() {
        let settled = |text: &str| {
            settle(layers::merge(vec![layers::from_toml(Path::new("/c"), text)]), &directories()).unwrap().1
        };
        let (running, _) = settle(Merged::default(), &directories()).unwrap();
        let every_live_flag_is_true = KEYS.iter().all(|key| {
            // What a reload leaves as it was must be exactly what is not marked live.
            let other = match key.kind {
                Kind::Port => "auto",
                Kind::Addresses => "::1",
                Kind::Count(low, _) if key.name == "server.max_connections" => return low == 8 && key.live,
                Kind::Count(..) => "77",
                Kind::Bytes(..) => "3 MiB",
                Kind::Time(..) => "7s",
                Kind::Bool if key.default == "true" => "false",
                Kind::Bool => "true",
                Kind::Path | Kind::OptionalPath => "/other",
                Kind::LogLevel => "debug",
                Kind::OneOf(words) => words[1],
                Kind::Origins => "https://a.example",
                Kind::Hosts => "a.example",
                Kind::Users => "7",
                Kind::Dashboard => "auto",
                Kind::Directories => "/a, /b",
                Kind::Names => ".a, b/c",
                Kind::Bus => "redis://:p@h",
                Kind::Name => "other",
            };
            let other = if key.name == "history.age" { "90s" } else { other };
            let raw = (key.name.to_owned(), Raw::Text(other.to_owned()), String::new());
            let (new, _) = settle(layers::merge(vec![layers::from_flags(vec![raw])]), &directories()).unwrap();
            assert_ne!(new, running, "{}", key.name);
            (new.with_fixed_parts_of(&running) != running) == key.live
        });
        assert!(every_live_flag_is_true);
        let changed = settled("").changed_in(&settled("port = 1\n[log]\nlevel = \"debug\"\n"));
        assert_eq!(changed, [("port", false), ("log.level", true)]);
    }
}
