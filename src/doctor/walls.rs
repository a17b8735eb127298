//! What the sandbox of the unit makes of a path, whatever the permissions of the file are.

use std::path::{Path, PathBuf};

use super::merged::Merged;
use super::rights::Need;

/// A directive that stands between the service and a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wall {
    /// The keys that set it.
    pub keys: &'static [&'static str],
    /// The directive with its value, as in `ProtectHome=yes`.
    pub shown: String,
}

/// Where homes are, for `ProtectHome=`.
const HOMES: [&str; 3] = ["/home", "/root", "/run/user"];
/// What `ProtectSystem=strict` leaves writable, as a temporary folder may be the service's own.
const FREE: [&str; 5] = ["/dev", "/proc", "/sys", "/tmp", "/var/tmp"];
/// The folders that systemd makes for the service, and where.
const MADE: [(&str, &str); 5] = [
    ("StateDirectory", "/var/lib"),
    ("RuntimeDirectory", "/run"),
    ("LogsDirectory", "/var/log"),
    ("CacheDirectory", "/var/cache"),
    ("ConfigurationDirectory", "/etc"),
];

/// The first directive that keeps the service from a path; `None` where none does.
pub fn between(unit: &Merged, need: Need, path: &Path) -> Option<Wall> {
    let is_below = |folders: &[&str]| folders.iter().any(|f| path.starts_with(f));
    let wall = |keys: &'static [&'static str], name: &str| {
        Some(Wall { keys, shown: format!("{name}={}", unit.get(name).replace('\n', " ")) })
    };
    let bound = depth(unit, "BindPaths", path);
    let visible = bound.max(depth(unit, "BindReadOnlyPaths", path));
    let hides: [(&[&str], &str); 2] = [
        (&["InaccessiblePaths", "InaccessibleDirectories"], "InaccessiblePaths"),
        (&["TemporaryFileSystem"], "TemporaryFileSystem"),
    ];
    for (keys, name) in hides {
        if depth(unit, name, path) > visible {
            return wall(keys, name);
        }
    }
    let home = unit.get("ProtectHome");
    if matches!(home, "yes" | "tmpfs") && is_below(&HOMES) && visible.is_none() {
        return wall(&["ProtectHome"], "ProtectHome");
    }
    // What it writes there itself, it also finds there.
    let is_hidden_tmp = !matches!(unit.get("PrivateTmp"), "" | "no") && need != Need::Write;
    if is_hidden_tmp && is_below(&["/tmp", "/var/tmp"]) && visible.is_none() {
        return wall(&["PrivateTmp"], "PrivateTmp");
    }
    match need {
        Need::Read => None,
        Need::Pass if depth(unit, "NoExecPaths", path) > depth(unit, "ExecPaths", path) => {
            wall(&["NoExecPaths"], "NoExecPaths")
        }
        Need::Pass => None,
        Need::Write => {
            let made = MADE.iter().any(|(key, base)| {
                let mut names = unit.get(key).split_whitespace().map(|d| d.split(':').next().unwrap_or_default());
                names.any(|d| path.starts_with(Path::new(base).join(d)))
            });
            let open = depth(unit, "ReadWritePaths", path).max(bound);
            if depth(unit, "ReadOnlyPaths", path) > open {
                return wall(&["ReadOnlyPaths", "ReadOnlyDirectories"], "ReadOnlyPaths");
            }
            let system = match unit.get("ProtectSystem") {
                "strict" => !is_below(&FREE),
                "full" => is_below(&["/usr", "/boot", "/efi", "/etc"]),
                "yes" => is_below(&["/usr", "/boot", "/efi"]),
                _ => false,
            };
            match () {
                () if made || open.is_some() => None,
                () if system => wall(&["ProtectSystem"], "ProtectSystem"),
                () if home == "read-only" && is_below(&HOMES) => wall(&["ProtectHome"], "ProtectHome"),
                () => None,
            }
        }
    }
}

/// How deep the deepest path of a list is that has this one in it; `None` where none has.
fn depth(unit: &Merged, key: &str, path: &Path) -> Option<usize> {
    let listed = unit.get(key).split_whitespace().map(|p| p.trim_start_matches(['-', '+']));
    let place = |text: &str| {
        let mut parts = text.split(':');
        let source = parts.next().unwrap_or_default();
        // A mount has a source and a place, an empty file system has options.
        let to = parts.next().filter(|to| key.starts_with("Bind") && to.starts_with('/'));
        PathBuf::from(to.unwrap_or(source))
    };
    let covering = listed.map(place).filter(|p| p.is_absolute() && path.starts_with(p));
    covering.map(|p| p.components().count()).max()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(values: &[(&str, &str)], need: Need, path: &str) -> Option<String> {
        let values = values.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Some(between(&Merged { values, ..Merged::default() }, need, Path::new(path))?.shown)
    }

    #[test]
    fn each_directive_walls_what_it_is_about() {
        let strict =
            [("ProtectSystem", "strict"), ("StateDirectory", "mpm-monitor/8765"), ("ReadWritePaths", "-/srv/a")];
        for (path, walled) in [
            ("/var/log", true),
            ("/srv/c", true),
            ("/srv/a/x", false),
            ("/var/lib/mpm-monitor/8765", false),
            ("/tmp/x", false),
        ] {
            assert_eq!(shown(&strict, Need::Write, path).is_some(), walled, "{path}");
            assert_eq!(shown(&strict, Need::Read, path), None);
            assert_eq!(shown(&[], Need::Write, path), None);
        }
        for (key, value, need, path) in [
            ("ProtectHome", "yes", Need::Read, "/home/ann/c.toml"),
            ("ProtectHome", "read-only", Need::Write, "/home/ann/s"),
            ("PrivateTmp", "yes", Need::Read, "/tmp/token"),
            ("InaccessiblePaths", "/var -/opt/bin", Need::Pass, "/opt/bin/mpm-monitor"),
            ("TemporaryFileSystem", "/opt:ro", Need::Pass, "/opt/bin/mpm-monitor"),
            ("NoExecPaths", "/", Need::Pass, "/opt/bin/mpm-monitor"),
            ("ReadOnlyPaths", "/var", Need::Write, "/var/lib/x"),
            ("ProtectSystem", "full", Need::Write, "/etc/x"),
        ] {
            assert_eq!(shown(&[(key, value)], need, path).unwrap(), format!("{key}={value}"));
            assert_eq!(shown(&[(key, value)], need, "/srv/x").is_some(), value == "/", "{key}");
        }
    }

    #[test]
    fn the_deeper_of_two_paths_counts() {
        let exec = [("NoExecPaths", "/"), ("ExecPaths", "/usr/local")];
        assert_eq!(shown(&exec, Need::Pass, "/usr/local/bin/x"), None);
        let bound = [("TemporaryFileSystem", "/home:ro"), ("BindReadOnlyPaths", "/srv/x:/home/x:rbind")];
        assert_eq!(
            (shown(&bound, Need::Read, "/home/x/y"), shown(&bound, Need::Read, "/home/z").is_some()),
            (None, true)
        );
        let inner = [("ReadOnlyPaths", "/var/lib/x"), ("ReadWritePaths", "/var")];
        assert!(shown(&inner, Need::Write, "/var/lib/x/y").is_some());
    }
}
