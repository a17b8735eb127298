//! Every setting: its name, what its values may be, its default, whether a reload applies it.
//!
//! A new key also needs a field and a line in `settle` in `settings.rs` (and one in `with_fixed_parts_of` if only a restart
//! applies it), and a line in `tests/formats/fixtures/config.toml` and `config.shown`. A test sets every key, so a time must
//! admit 7 s and have another default.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::settings::{DEFAULT_PORT, PortChoice};
use crate::bus::{self, BusUrl};

/// What one source said, before anybody looked at its meaning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Raw {
    /// One value, as text.
    Text(String),
    /// Several, as a TOML array or a repeated flag gives them.
    List(Vec<String>),
}

/// A value of the right type and in its bounds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// A port, or `auto`.
    Port(PortChoice),
    /// Addresses.
    Addresses(Vec<IpAddr>),
    /// A number of things or of bytes.
    Number(u64),
    /// A span of time.
    Duration(Duration),
    /// Yes or no.
    Bool(bool),
    /// An absolute path.
    Path(PathBuf),
    /// One word out of a few, or free text.
    Text(String),
    /// Several texts.
    List(Vec<String>),
    /// A server of the bus; shown without its password.
    Bus(BusUrl),
}

/// Which values a key takes.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// 1 to 65535, or `auto`.
    Port,
    /// IP addresses; at least one.
    Addresses,
    /// A count from the first to the second number.
    Count(u64, u64),
    /// Bytes, as a number or with KiB, MiB, GiB; bounds in bytes.
    Bytes(u64, u64),
    /// A time such as `5s` or `2h 30m`; bounds in seconds.
    Time(u64, u64),
    /// `true` or `false`.
    Bool,
    /// An absolute path.
    Path,
    /// An absolute path, or nothing.
    OptionalPath,
    /// `error`, `warn`, `info`, `debug`, `trace`, or tracing directives.
    LogLevel,
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// Web origins: scheme, host, optional port.
    Origins,
    /// Host names without a port.
    Hosts,
    /// Numbers of users.
    Users,
    /// An absolute path, `auto`, or nothing.
    Dashboard,
    /// Absolute paths; may be none.
    Directories,
    /// Names of files and folders, or several of them joined by `/`; a `*` stands for any part of a name.
    Names,
    /// `redis://[user:password@]host[:port][/db]`, or nothing.
    Bus,
    /// A name of letters, digits, `-`, `.` and `_`, or nothing.
    Name,
}

/// One setting.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// Its name in the file: `section.name`, or `name` at the top.
    pub name: &'static str,
    /// Which values it takes.
    pub kind: Kind,
    /// Its default, as it would be written; empty where it depends on the machine.
    pub default: &'static str,
    /// Whether a reload applies a change of it; else a restart does.
    pub live: bool,
    /// What it means, for `config show` and the manual.
    pub about: &'static str,
}

const fn key(name: &'static str, kind: Kind, default: &'static str, live: bool, about: &'static str) -> Key {
    Key { name, kind, default, live, about }
}

const MIB: u64 = 1 << 20;

/// All settings, in the order in which they are shown.
pub const KEYS: &[Key] = &[
    key("port", Kind::Port, "8765", false, "the port, or auto: the first free one of 8765 to 8785"),
    key("bind", Kind::Addresses, "127.0.0.1, ::1", false, "the addresses to listen on"),
    key("state_dir", Kind::Path, "", false, "holds PORT/events.db and the crash ledger"),
    key("runtime_dir", Kind::Path, "", false, "holds the lock of each port"),
    key("server.max_clients", Kind::Count(1, 100_000), "100", true, "the most Socket.IO clients at once"),
    key("server.max_connections", Kind::Count(8, 200_000), "1024", true, "the most open connections of any kind"),
    key("server.max_body", Kind::Bytes(1024, 256 * MIB), "2 MiB", true, "the largest request body"),
    key("server.header_timeout", Kind::Time(1, 300), "10s", false, "how long a request's head may take"),
    key(
        "server.client_backlog",
        Kind::Bytes(64 * 1024, 1024 * MIB),
        "4 MiB",
        true,
        "bytes that may wait for one slow client",
    ),
    key("server.client_rate", Kind::Count(1, 1_000_000), "2000", true, "packets a second that one client may send"),
    key(
        "server.client_burst",
        Kind::Count(1, 1_000_000),
        "4000",
        true,
        "packets it may send at once before that holds",
    ),
    key("server.allow_origin", Kind::Origins, "", true, "web origins beyond this machine's own"),
    key("server.allow_host", Kind::Hosts, "", true, "names of this machine that requests may call it by"),
    key("server.unix_socket", Kind::OptionalPath, "", false, "a Unix socket to listen on as well"),
    key(
        "server.dashboard_dir",
        Kind::Dashboard,
        "",
        false,
        "serve an installed Claude MPM's dashboard at /: its folder, or auto; empty: our own page",
    ),
    key("server.drain_timeout", Kind::Time(0, 12), "5s", true, "how long shutdown waits for clients"),
    key(
        "dashboard.watch",
        Kind::OneOf(&["auto", "on", "off"]),
        "auto",
        false,
        "reload pages when the dashboard at / changes; auto: where dashboard_dir names a folder",
    ),
    key("access.token_file", Kind::OptionalPath, "", true, "holds the token that clients must know, mode 0600"),
    key(
        "access.local",
        Kind::OneOf(&["read", "all", "none"]),
        "read",
        true,
        "what this machine may do without the token",
    ),
    key("access.unix_users", Kind::Users, "", true, "users beyond our own and root that may use the Unix socket"),
    key("socketio.ping_interval", Kind::Time(1, 3600), "30s", true, "between two pings"),
    key("socketio.ping_timeout", Kind::Time(1, 3600), "120s", true, "silence after a ping that ends a client"),
    key("events.dialect", Kind::OneOf(&["wrapped", "pass-through"]), "wrapped", true, "how posted events are shown"),
    key("events.durable", Kind::Bool, "false", false, "accept an event only once it is on the disk"),
    key("history.events", Kind::Count(1, 100_000_000), "100000", true, "the most events kept"),
    key("history.bytes", Kind::Bytes(MIB, 1 << 40), "256 MiB", true, "the most bytes of events kept"),
    key("history.age", Kind::Time(60, 315_360_000), "30days", true, "how long events are kept"),
    key("history.on_connect", Kind::Count(0, 10_000), "50", true, "events a client gets when it connects"),
    key(
        "compat.pid_files_in",
        Kind::Directories,
        "",
        false,
        "projects in which `claude-mpm monitor status` and `stop` find this process",
    ),
    key("files.enabled", Kind::Bool, "true", true, "whether clients may read files and ask git at all"),
    key("files.other_users", Kind::Bool, "false", true, "other users of this machine, too, without the token"),
    key("files.home", Kind::Bool, "true", true, "they may in the home of the service's user, if it is a person's"),
    key("files.sessions", Kind::Bool, "true", true, "and where agent sessions run, in folders of the service's user"),
    key("files.roots", Kind::Directories, "", true, "and in these folders"),
    key(
        "files.deny",
        Kind::Names,
        crate::server::files::SECRETS,
        true,
        "but never these; @secrets is our own list of secrets",
    ),
    key("files.max_size", Kind::Bytes(1024, 64 * MIB), "10 MiB", true, "the largest file that is read"),
    key("files.git", Kind::OptionalPath, "", true, "the git that is asked; empty: the system's"),
    key("bus.url", Kind::Bus, "", false, "a Redis or Valkey server through which several monitors share their events"),
    key("bus.password_file", Kind::OptionalPath, "", false, "holds that server's password, mode 0600"),
    key("bus.node", Kind::Name, "", false, "this monitor's name there; empty: the host's name and the port"),
    key("bus.stream", Kind::Name, "mpm-monitor", false, "what all keys there begin with; the same for the whole fleet"),
    key("bus.stream_events", Kind::Count(10, 10_000_000), "10000", false, "the most events of each monitor there"),
    key("bus.gap_wait", Kind::Time(1, 86_400), "2m", false, "how long events wait for missing ones before them"),
    key("log.level", Kind::LogLevel, "info", true, "which log lines are written"),
    key("log.format", Kind::OneOf(&["auto", "human", "json"]), "auto", false, "their shape"),
    key("log.file", Kind::OptionalPath, "", false, "where they go instead of to standard error"),
    key("log.file_bytes", Kind::Bytes(4096, 1 << 30), "10 MiB", false, "the largest log file; then a new one is begun"),
    key("log.older_files", Kind::Count(0, 100), "5", false, "older log files that are kept, as NAME.1 and so on"),
    key("watchdog.exit", Kind::Bool, "false", false, "end the process when it stalls, without a manager too"),
    key("watchdog.timeout", Kind::Time(1, 3600), "30s", false, "the stall that ends it, where no manager says"),
];

/// The text of a configuration file with all settings, each section under its head: `lines` is given a key and its name
/// within its section.
pub(super) fn in_sections(lines: impl Fn(&Key, &str) -> String) -> String {
    let mut text = String::new();
    let mut section = "";
    for key in KEYS {
        let (now, name) = key.name.split_once('.').unwrap_or(("", key.name));
        if now != section {
            text.push_str(&format!("\n[{now}]\n"));
            section = now;
        }
        text.push_str(&lines(key, name));
    }
    text
}

/// The setting of that name.
pub fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|k| k.name == name)
}

/// The setting whose name is nearest, for "did you mean".
pub fn nearest(name: &str) -> Option<&'static str> {
    let distance = |a: &str, b: &str| {
        let ratio = similar::TextDiff::from_chars(a, b).ratio();
        (ratio * 1000.0) as u32
    };
    KEYS.iter().map(|k| (distance(k.name, name), k.name)).max().filter(|(d, _)| *d >= 600).map(|(_, n)| n)
}

impl Key {
    /// The environment variable that sets it.
    pub fn variable(&self) -> String {
        format!("MPM_MONITOR_{}", self.name.replace('.', "_").to_uppercase())
    }

    /// Reads what a source said.
    ///
    /// # Errors
    /// One sentence that names the bad part and says what would be good.
    pub fn read(&self, raw: &Raw) -> Result<Value, String> {
        let items = || -> Vec<String> {
            match raw {
                Raw::List(items) => items.clone(),
                Raw::Text(text) => text.split(',').map(|i| i.trim().to_owned()).filter(|i| !i.is_empty()).collect(),
            }
        };
        let text = || match raw {
            Raw::Text(text) => Ok(text.trim()),
            Raw::List(_) => Err("takes one value, not a list".to_owned()),
        };
        match self.kind {
            Kind::Port => read_port(text()?).map(Value::Port),
            Kind::Addresses => read_addresses(&items()).map(Value::Addresses),
            Kind::Count(low, high) => within(read_number(text()?)?, low, high, |n| n.to_string()).map(Value::Number),
            Kind::Bytes(low, high) => within(read_bytes(text()?)?, low, high, show_bytes).map(Value::Number),
            Kind::Time(low, high) => read_time(text()?, low, high).map(Value::Duration),
            Kind::Bool => match text()? {
                "true" | "1" | "yes" | "on" => Ok(Value::Bool(true)),
                "false" | "0" | "no" | "off" => Ok(Value::Bool(false)),
                other => Err(format!("{other:?} is neither true nor false")),
            },
            Kind::Path => read_path(text()?).map(Value::Path),
            Kind::LogLevel => {
                let text = text()?;
                text.parse::<tracing_subscriber::filter::Targets>()
                    .map(|_| Value::Text(text.to_owned()))
                    .map_err(|e| format!("{text:?} is no log level (error, warn, info, debug, trace): {e}"))
            }
            Kind::OneOf(words) => {
                let text = text()?;
                if words.contains(&text) {
                    Ok(Value::Text(text.to_owned()))
                } else {
                    Err(format!("{text:?} is none of {}", words.join(", ")))
                }
            }
            Kind::OptionalPath => match text()? {
                "" => Ok(Value::Text(String::new())),
                path => read_path(path).map(Value::Path),
            },
            Kind::Bus => match text()? {
                "" => Ok(Value::Text(String::new())),
                url => BusUrl::parse(url).map(Value::Bus),
            },
            Kind::Name => match text()? {
                "" => Ok(Value::Text(String::new())),
                name => bus::check_name(name).map(|()| Value::Text(name.to_owned())),
            },
            Kind::Hosts => items().iter().map(|h| read_host(h)).collect::<Result<_, _>>().map(Value::List),
            Kind::Users => items().iter().map(|u| read_user(u)).collect::<Result<_, _>>().map(Value::List),
            Kind::Dashboard => match text()? {
                word @ ("" | "auto") => Ok(Value::Text(word.to_owned())),
                path => read_path(path).map(Value::Path).map_err(|e| format!("{e}, nor auto")),
            },
            Kind::Directories => items()
                .iter()
                .map(|i| read_path(i).map(|p| p.display().to_string()))
                .collect::<Result<_, _>>()
                .map(Value::List),
            Kind::Names => items().iter().map(|n| read_names(n)).collect::<Result<_, _>>().map(Value::List),
            Kind::Origins => items().iter().map(|o| read_origin(o)).collect::<Result<_, _>>().map(Value::List),
        }
    }
}

fn read_port(text: &str) -> Result<PortChoice, String> {
    if text == "auto" {
        return Ok(PortChoice::Auto);
    }
    match text.parse::<u16>() {
        Ok(port) if port > 0 => Ok(PortChoice::Fixed(port)),
        _ => Err(format!("{text:?} is no port: a number from 1 to 65535 (usually {DEFAULT_PORT}), or auto")),
    }
}

fn read_addresses(items: &[String]) -> Result<Vec<IpAddr>, String> {
    let mut addresses = Vec::new();
    for item in items {
        let address: IpAddr = item
            .trim_matches(['[', ']'])
            .parse()
            .map_err(|_| format!("{item:?} is no IP address (127.0.0.1 and ::1 are the usual ones)"))?;
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    if addresses.is_empty() { Err("needs at least one address".to_owned()) } else { Ok(addresses) }
}

fn read_number(text: &str) -> Result<u64, String> {
    text.replace('_', "").parse().map_err(|_| format!("{text:?} is no whole number"))
}

fn read_bytes(text: &str) -> Result<u64, String> {
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '_').unwrap_or(text.len());
    let number = read_number(&text[..split]).map_err(|_| format!("{text:?} is no size, such as 512 KiB or 64 MiB"))?;
    let factor = match text[split..].trim() {
        "" | "B" => 1,
        "K" | "KiB" => 1 << 10,
        "M" | "MiB" => 1 << 20,
        "G" | "GiB" => 1 << 30,
        unit => return Err(format!("{unit:?} is no unit of size; use KiB, MiB or GiB")),
    };
    number.checked_mul(factor).ok_or_else(|| format!("{text:?} is too large"))
}

/// A size as a person would write it.
pub fn show_bytes(bytes: u64) -> String {
    match bytes {
        b if b > 0 && b % (1 << 30) == 0 => format!("{} GiB", b >> 30),
        b if b > 0 && b % (1 << 20) == 0 => format!("{} MiB", b >> 20),
        b if b > 0 && b % (1 << 10) == 0 => format!("{} KiB", b >> 10),
        b => b.to_string(),
    }
}

fn within(number: u64, low: u64, high: u64, show: impl Fn(u64) -> String) -> Result<u64, String> {
    if (low..=high).contains(&number) {
        Ok(number)
    } else {
        Err(format!("{} is outside {} to {}", show(number), show(low), show(high)))
    }
}

fn read_time(text: &str, low: u64, high: u64) -> Result<Duration, String> {
    let time = match text.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => humantime::parse_duration(text)
            .map_err(|e| format!("{text:?} is no time, such as 500ms, 30s or 7days: {e}"))?,
    };
    let (low, high) = (Duration::from_secs(low), Duration::from_secs(high));
    if (low..=high).contains(&time) {
        Ok(time)
    } else {
        let show = humantime::format_duration;
        Err(format!("{} is outside {} to {}", show(time), show(low), show(high)))
    }
}

fn read_path(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    if path.is_absolute() { Ok(path) } else { Err(format!("{text:?} is not an absolute path")) }
}

/// A name as a browser's Host header has it, or an address.
fn read_host(text: &str) -> Result<String, String> {
    let good = !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.".contains(&b));
    if good && !text.ends_with('.') {
        Ok(text.to_ascii_lowercase())
    } else {
        Err(format!("{text:?} is no host name, such as monitor.example.org (no port, no wildcard)"))
    }
}

fn read_user(text: &str) -> Result<String, String> {
    let number: u32 = text.parse().map_err(|_| format!("{text:?} is no user's number; id -u NAME says it"))?;
    Ok(number.to_string())
}

fn read_names(text: &str) -> Result<String, String> {
    let plain = |name: &str| !matches!(name, "" | "." | "..");
    let says_something = |name: &str| name.chars().any(|c| c != '*');
    if text.split('/').all(plain) && text.split('/').any(says_something) {
        Ok(text.to_owned())
    } else {
        Err(format!("{text:?} is no name such as .ssh, nor names joined by / such as .config/gh"))
    }
}

fn read_origin(text: &str) -> Result<String, String> {
    let good = text.split_once("://").is_some_and(|(scheme, rest)| {
        matches!(scheme, "http" | "https") && !rest.is_empty() && !rest.contains(['/', '*', ' ', '@'])
    });
    if good {
        Ok(text.to_ascii_lowercase())
    } else {
        Err(format!("{text:?} is no web origin, such as https://dashboard.example.org (no path, no wildcard)"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, text: &str) -> Result<Value, String> {
        find(name).unwrap().read(&Raw::Text(text.into()))
    }

    #[test]
    fn defaults_are_values() {
        for key in KEYS.iter().filter(|k| !k.default.is_empty()) {
            key.read(&Raw::Text(key.default.into())).unwrap_or_else(|e| panic!("{}: {e}", key.name));
        }
    }

    #[test]
    fn good_values() {
        assert_eq!(read("port", "auto"), Ok(Value::Port(PortChoice::Auto)));
        assert_eq!(read("server.max_body", "1_024 KiB"), Ok(Value::Number(1 << 20)));
        assert_eq!(read("history.age", "90"), Ok(Value::Duration(Duration::from_secs(90))));
        assert_eq!(read("bind", "[::1], 127.0.0.1,::1"), {
            Ok(Value::Addresses(vec!["::1".parse().unwrap(), "127.0.0.1".parse().unwrap()]))
        });
        assert_eq!(read("log.level", "info,mpm_monitor::server=debug").map(|_| ()), Ok(()));
    }

    #[test]
    fn bad_values_say_what_would_be_good() {
        for (name, text, part) in [
            ("port", "0", "1 to 65535"),
            ("port", "70000", "1 to 65535"),
            ("bind", "localhost", "no IP address"),
            ("server.unix_socket", "run/x.sock", "not an absolute path"),
            ("server.allow_host", "board.example:8765", "no port"),
            ("access.unix_users", "alice", "id -u NAME"),
            ("bind", "", "at least one"),
            ("server.max_body", "3 MB", "KiB, MiB or GiB"),
            ("server.max_clients", "-1", "whole number"),
            ("server.drain_timeout", "1h", "outside"),
            ("socketio.ping_interval", "soon", "such as 500ms"),
            ("events.durable", "maybe", "neither true nor false"),
            ("events.dialect", "svelte", "wrapped, pass-through"),
            ("state_dir", "var/lib", "not an absolute path"),
            ("server.allow_origin", "*", "no web origin"),
            ("server.max_body", "99999999999999999999", "no size"),
            ("server.max_body", "18446744073709551615 GiB", "too large"),
        ] {
            let error = read(name, text).unwrap_err();
            assert!(error.contains(part), "{name}={text}: {error}");
        }
    }

    #[test]
    fn a_misspelt_name_finds_its_neighbour() {
        assert_eq!(nearest("server.max_client"), Some("server.max_clients"));
        assert_eq!(nearest("zzz"), None);
    }
}
