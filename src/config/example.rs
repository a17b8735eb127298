//! The settings for reading: a configuration file in which all are commented out, and what values a key takes, in words.

use super::keys::{Key, Kind, Raw, in_sections, show_bytes};
use super::provenance::show;

const HEAD: &str = "\
# The settings of mpm-monitor, each with its default; what is commented out keeps
# it. mpm-monitor(5) has the same as a page.
#
# Read are /etc/mpm-monitor/config.toml and then ~/.config/mpm-monitor/config.toml;
# environment variables and flags go before both. What comes from where:
# mpm-monitor config show --origin. After a change: mpm-monitor config check, then
# mpm-monitor reload, or mpm-monitor restart for those that say so.
";

/// The file.
pub fn example() -> String {
    let settings = in_sections(|key, name| {
        let restart = if key.live { "" } else { "; a change needs a restart" };
        let line = match default(key) {
            Some(value) => format!("#{name} = {value}"),
            None => format!("#{name} = \"\" # the default depends on who runs it"),
        };
        format!("\n# {} ({}{restart})\n{line}\n", capital(key.about), values(key.kind))
    });
    HEAD.to_owned() + &settings
}

/// A key's default as it would stand in a file; `None` where it depends on the machine.
pub fn default(key: &Key) -> Option<String> {
    let value = key.read(&Raw::Text(key.default.to_owned())).ok()?;
    Some(show(&value, key.kind))
}

/// Which values a key takes.
pub fn values(kind: Kind) -> String {
    let time = |seconds| humantime::format_duration(std::time::Duration::from_secs(seconds));
    match kind {
        Kind::Port => "1 to 65535, or \"auto\"".to_owned(),
        Kind::Addresses => "IP addresses".to_owned(),
        Kind::Count(low, high) => format!("{low} to {high}"),
        Kind::Bytes(low, high) => format!("{} to {}", show_bytes(low), show_bytes(high)),
        Kind::Time(low, high) => format!("{} to {}", time(low), time(high)),
        Kind::Bool => "true or false".to_owned(),
        Kind::Path => "an absolute path".to_owned(),
        Kind::OptionalPath => "an absolute path, or \"\" for none".to_owned(),
        Kind::LogLevel => "error, warn, info, debug or trace".to_owned(),
        Kind::OneOf(words) => words.join(" or "),
        Kind::Hosts => "names of hosts".to_owned(),
        Kind::Users => "numbers of users".to_owned(),
        Kind::Dashboard => "an absolute path, \"auto\", or \"\"".to_owned(),
        Kind::Directories => "absolute paths".to_owned(),
        Kind::Names => "names of files and folders, `*` for any part".to_owned(),
        Kind::Bus => "redis://[user:password@]host[:port][/db], or \"\" for none".to_owned(),
        Kind::Name => "letters, digits, -, . and _".to_owned(),
        Kind::Origins => "web origins".to_owned(),
    }
}

/// With a capital letter in front, as sentences have.
pub fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or(String::new(), |first| first.to_uppercase().chain(chars).collect())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::keys::KEYS;
    use super::super::layers;
    use super::*;

    #[test]
    fn the_example_changes_nothing_and_its_defaults_are_good() {
        let text = example();
        let as_it_is = layers::from_toml(Path::new("example"), &text);
        assert_eq!((as_it_is.values.len(), as_it_is.problems.len()), (0, 0), "{text}");
        // With every line in force it says what is so anyhow; those that depend on the machine have nothing to say.
        let in_force: String = text
            .lines()
            .map(|line| {
                line.strip_prefix('#').filter(|rest| !rest.starts_with(' ') && rest.contains(" = ")).unwrap_or(line)
            })
            .filter(|line| !line.contains("depends on who"))
            .flat_map(|line| [line, "\n"])
            .collect();
        let layer = layers::from_toml(Path::new("example"), &in_force);
        assert!(layer.problems.is_empty(), "{:?}", layer.problems);
        let fixed: Vec<_> = KEYS.iter().filter(|key| default(key).is_some()).collect();
        assert!(fixed.len() + 2 == KEYS.len() && layer.values.len() == fixed.len(), "{in_force}");
        for (name, raw, _) in layer.values {
            let key = super::super::keys::find(name).unwrap();
            assert_eq!(key.read(&raw), key.read(&Raw::Text(key.default.to_owned())), "{name}");
        }
    }
}
