//! What the manager says of the unit beyond how it is: limits, control group, search path.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Subject;
use super::check::{Check, Looked};
use super::merged::Merged;
use service::exec::{self, QUICK};
use service::{Kind, files};

/// The properties that are asked for.
const ASKED: &str = "WatchdogUSec,WatchdogTimestampMonotonic,LimitNOFILESoft,MemoryMax,MemoryCurrent,ControlGroup,\
PrivateTmp,User,DropInPaths";

/// What was said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Properties {
    /// How long a sign of life may be missing; `None` where no watchdog is set.
    pub watchdog: Option<Duration>,
    /// When the last one came, microseconds of the monotonic clock.
    pub last_ping: Option<u64>,
    /// How many files a process of it may have open.
    pub files: Option<u64>,
    /// The most memory, bytes; `None` without a limit.
    pub memory_max: Option<u64>,
    /// What its processes use, bytes.
    pub memory: Option<u64>,
    /// Its control group, `/user.slice/...`.
    pub cgroup: Option<String>,
    /// Whether it has a /tmp of its own.
    pub private_tmp: bool,
    /// Who it runs as, where its definition says so.
    pub user: Option<String>,
    /// The drop-ins that are in force.
    pub drop_ins: Vec<String>,
    /// The search path that the manager gives to what it starts.
    pub path: Option<String>,
    /// The unit as the manager merged it.
    pub unit: Merged,
}

impl Properties {
    /// Adds to a check the lines of others that set one of these keys, and the command that undoes them; without such a line
    /// the drop-ins, and the command that makes one.
    pub fn blame(&self, subject: &Subject, check: Check, keys: &[&str]) -> Check {
        let lines = self.unit.setting(keys);
        if lines.is_empty() {
            let check = self.drop_ins.iter().fold(check, |c, d| c.seen(format!("drop-in {d}")));
            return check.next(subject.edit_unit());
        }
        let check = lines.iter().fold(check, |c, l| c.seen(l.shown()));
        let lines: Vec<(&Path, usize, usize)> = lines.iter().map(|l| l.place()).collect();
        check.next(Merged::without(subject, &lines))
    }
}

/// Asks.
///
/// # Errors
/// What the manager or its tool said instead.
pub fn look(subject: &Subject) -> Looked<Properties> {
    match subject.paths.kind {
        Kind::Systemd => {
            let unit = subject.paths.service_name(subject.port);
            let ask = |words: &[&str]| {
                exec::systemctl(subject.scope, words, QUICK).and_then(exec::Output::success).map_err(|e| e.to_string())
            };
            let mut properties = parse(&ask(&["show", "-p", ASKED, "--", &unit])?);
            properties.path = ask(&["show-environment"]).ok().and_then(|text| path_in(&text));
            Ok(properties)
        }
        Kind::Launchd => {
            let path = subject.paths.service(subject.port);
            let text = files::read(&path).map_err(|e| format!("{}: {e}", path.display()))?;
            Ok(text.map(|t| from_plist(&t)).unwrap_or_default())
        }
    }
}

/// Reads `systemctl show -p ...`.
fn parse(text: &str) -> Properties {
    let values: HashMap<&str, &str> = text.lines().filter_map(|l| l.split_once('=')).collect();
    let get = |key: &str| values.get(key).copied().filter(|v| !v.is_empty());
    // `infinity` and `[not set]` are no numbers; the largest one means the same.
    let number = |key: &str| get(key)?.parse::<u64>().ok().filter(|&n| n != u64::MAX);
    Properties {
        watchdog: get("WatchdogUSec").and_then(|t| humantime::parse_duration(t).ok()).filter(|d| !d.is_zero()),
        last_ping: number("WatchdogTimestampMonotonic").filter(|&n| n > 0),
        files: number("LimitNOFILESoft"),
        memory_max: number("MemoryMax"),
        memory: number("MemoryCurrent"),
        cgroup: get("ControlGroup").map(str::to_owned),
        private_tmp: get("PrivateTmp").is_some_and(|v| v != "no"),
        user: get("User").map(str::to_owned),
        drop_ins: get("DropInPaths").map(|v| v.split(' ').map(str::to_owned).collect()).unwrap_or_default(),
        path: None,
        unit: Merged::default(),
    }
}

/// `PATH` in `systemctl show-environment`, which quotes strange values as a shell would.
fn path_in(text: &str) -> Option<String> {
    let value = text.lines().find_map(|l| l.strip_prefix("PATH="))?;
    let inner = value.strip_prefix("$'").and_then(|v| v.strip_suffix('\''));
    Some(inner.unwrap_or(value).to_owned())
}

/// What the property list of a job says itself.
fn from_plist(text: &str) -> Properties {
    let value = plist::Value::from_reader_xml(text.as_bytes()).ok();
    let keys = value.as_ref().and_then(plist::Value::as_dictionary);
    let inner = |outer: &str, key: &str| keys?.get(outer)?.as_dictionary()?.get(key);
    Properties {
        files: inner("SoftResourceLimits", "NumberOfFiles").and_then(plist::Value::as_unsigned_integer),
        path: inner("EnvironmentVariables", "PATH").and_then(plist::Value::as_string).map(str::to_owned),
        ..Properties::default()
    }
}

/// The programs of these names along a search path.
pub fn find_in(path: &str, name: &str) -> Option<PathBuf> {
    use std::os::unix::fs::MetadataExt;
    let runs = |p: &PathBuf| std::fs::metadata(p).is_ok_and(|m| m.is_file() && m.mode() & 0o111 != 0);
    std::env::split_paths(path).filter(|d| d.is_absolute()).map(|d| d.join(name)).find(runs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_systemctl_says() {
        let text = "WatchdogUSec=10s\nWatchdogTimestampMonotonic=123\nLimitNOFILESoft=16384\nMemoryMax=infinity\n\
MemoryCurrent=6000000\nControlGroup=/user.slice/x\nPrivateTmp=no\nDropInPaths=/a/b.conf /c/d.conf\n";
        let p = parse(text);
        assert_eq!((p.watchdog, p.last_ping, p.files), (Some(Duration::from_secs(10)), Some(123), Some(16384)));
        assert_eq!((p.memory_max, p.memory, p.private_tmp), (None, Some(6_000_000), false));
        assert_eq!(p.drop_ins, ["/a/b.conf", "/c/d.conf"]);
        let off = parse("WatchdogUSec=0\nMemoryCurrent=[not set]\nMemoryMax=18446744073709551615\nPrivateTmp=yes\n");
        assert_eq!(off, Properties { private_tmp: true, ..Properties::default() });
        assert_eq!(path_in("LANG=C\nPATH=/usr/bin:/bin\n").unwrap(), "/usr/bin:/bin");
        assert_eq!(path_in("PATH=$'/a b:/c'\n").unwrap(), "/a b:/c");
    }

    #[test]
    fn what_a_plist_says() {
        let text = "<?xml version=\"1.0\"?><plist version=\"1.0\"><dict><key>SoftResourceLimits</key><dict>\
<key>NumberOfFiles</key><integer>256</integer></dict><key>EnvironmentVariables</key><dict><key>PATH</key>\
<string>/opt/homebrew/bin</string></dict></dict></plist>";
        let p = from_plist(text);
        assert_eq!((p.files, p.path.as_deref()), (Some(256), Some("/opt/homebrew/bin")));
        assert_eq!(from_plist("<plist>"), Properties::default());
    }

    proptest! {
        #[test]
        fn no_text_panics(text in any::<String>()) {
            let _ = (parse(&text), path_in(&text), from_plist(&text));
        }
    }
}
