//! What clients may read, as the settings say it, and what is a secret wherever it is. Pure.

use std::collections::HashMap;
use std::path::{Component, Path, PathBuf};

/// The default of `files.deny`, and what adds it to a list of one's own: the rules of `secrets.txt`, by the names under which
/// programs keep keys, tokens, passwords and what people did.
pub const SECRETS: &str = "@secrets";

/// The rules that [`SECRETS`] stands for.
fn kept() -> impl Iterator<Item = &'static str> {
    include_str!("secrets.txt").lines().filter(|line| !line.is_empty() && !line.starts_with('#'))
}

/// The settings `files.*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// Whether anything may be read at all.
    pub enabled: bool,
    /// Whether other users of this machine may read, too, over loopback.
    pub other_users: bool,
    /// Whether the home of the service's user is among the roots.
    pub home: bool,
    /// Whether the directories of known sessions are.
    pub sessions: bool,
    /// Further roots.
    pub roots: Vec<PathBuf>,
    /// Names that are not read, see [`Secrets`].
    pub deny: Vec<String>,
    /// The largest file that is read, bytes.
    pub max_size: u64,
    /// The git that is run, if not the system's.
    pub git: Option<PathBuf>,
}

/// What is a secret: one or several names in a row, anywhere in a path, in which `*` stands for any part of a name and `**` for
/// any number of names. Upper and lower case are the same, as they are to some file systems.
#[derive(Debug, Clone, Default)]
pub struct Secrets {
    /// The rules whose last name has no star, by that name: most of them.
    plain: HashMap<String, Vec<Vec<String>>>,
    /// The others, by what the first or the last byte of a name must be to fit: a folder has many names.
    starred: HashMap<Edge, Vec<(Pattern, Vec<String>)>>,
}

impl Secrets {
    /// Of `files.deny`.
    pub fn new(deny: &[String]) -> Self {
        let mut secrets = Self::default();
        let rules = deny.iter().flat_map(|rule| match rule.as_str() {
            SECRETS => kept().collect(),
            rule => vec![rule],
        });
        for rule in rules {
            let mut before: Vec<String> = rule.to_lowercase().split('/').map(str::to_owned).collect();
            let last = before.pop().unwrap_or_default();
            match Pattern::new(&last) {
                Some(pattern) => secrets.starred.entry(pattern.edge()).or_default().push((pattern, before)),
                None => secrets.plain.entry(last).or_default().push(before),
            }
        }
        secrets
    }

    /// Whether a path is one, or within one.
    pub fn hold(&self, path: &Path) -> bool {
        let names = names(path);
        (0..names.len()).any(|at| self.end_with(&names[..at], &names[at]))
    }

    /// Which names in a folder, itself no secret, are secrets.
    pub fn of(&self, folder: &Path) -> SecretsOf<'_> {
        SecretsOf { secrets: self, folder: names(folder) }
    }

    /// Whether one ends with this name in a folder of these. A copy is as secret as what it was made of.
    fn end_with(&self, folder: &[String], name: &str) -> bool {
        let is_secret = |name: &str| {
            let (first, last) = (name.bytes().next().unwrap_or_default(), name.bytes().last().unwrap_or_default());
            let edges = [Edge::First(first), Edge::Last(last), Edge::Any];
            self.plain.get(name).is_some_and(|rules| rules.iter().any(|before| are_in(folder, before)))
                || edges
                    .iter()
                    .filter_map(|edge| self.starred.get(edge))
                    .flatten()
                    .any(|(last, before)| last.fits(name) && are_in(folder, before))
        };
        is_secret(name) || std::iter::successors(original(name), |name| original(name)).any(|name| is_secret(&name))
    }
}

/// Whether the last names of a folder are what a rule says of them.
fn are_in(folder: &[String], rule: &[String]) -> bool {
    let Some((last, rule)) = rule.split_last() else { return true };
    if last == "**" {
        return (0..=folder.len()).any(|end| are_in(&folder[..end], rule));
    }
    folder.split_last().is_some_and(|(name, folder)| fits(name, last) && are_in(folder, rule))
}

/// See [`Secrets::of`].
#[derive(Debug)]
pub struct SecretsOf<'a> {
    secrets: &'a Secrets,
    folder: Vec<String>,
}

impl SecretsOf<'_> {
    /// Whether this name in the folder is one.
    pub fn hold(&self, name: &str) -> bool {
        self.secrets.end_with(&self.folder, &name.to_lowercase())
    }
}

fn names(path: &Path) -> Vec<String> {
    let name = |part| match part {
        Component::Normal(name) => Some(name.to_string_lossy().to_lowercase()),
        _ => None,
    };
    path.components().filter_map(name).collect()
}

/// The name of the file of which one in lower case is a copy, as editors, people and package managers name them; `None` if it
/// does not look like one. A copy may be one of a copy.
fn original(name: &str) -> Option<String> {
    const WORDS: [&str; 21] = [
        "bak", "bkp", "bk", "backup", "back", "old", "orig", "original", "save", "saved", "copy", "tmp", "swp", "swo",
        "disabled", "dpkg", "rpmsave", "rpmnew", "gpg", "dec", "new",
    ];
    let plain = |name: &str| -> Option<String> {
        if let Some(inner) = name.strip_prefix('#').and_then(|name| name.strip_suffix('#')) {
            return Some(inner.to_owned());
        }
        if let Some(swap) = name.strip_suffix(".swp").or_else(|| name.strip_suffix(".swo")) {
            // Vim's swap file of ".x" is "..x.swp", that of "x" is ".x.swp".
            return Some(swap.strip_prefix('.').unwrap_or(swap).to_owned());
        }
        if let Some(stem) = name.strip_suffix('~').or_else(|| name.strip_prefix("copy of ")) {
            return Some(stem.to_owned());
        }
        // File managers put the word for "copy" in the user's language, or a number, into brackets.
        if let Some((stem, _)) = name.strip_suffix(')').and_then(|name| name.rsplit_once('(')) {
            return Some(stem.to_owned());
        }
        // "x.bak", "x copy", "x_old", "x.1", "x.2026-11-27", "x - copy", "x ".
        let (stem, last) = name.rsplit_once(['.', ' ', '_', '-'])?;
        let is_mark = last.bytes().all(|b| b.is_ascii_digit()) || WORDS.contains(&last);
        is_mark.then(|| stem.to_owned())
    };
    plain(name).filter(|original| !original.is_empty())
}

/// What a name must begin or end with to fit a rule with stars.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Edge {
    First(u8),
    Last(u8),
    Any,
}

/// A rule with stars, taken apart once: what a name begins with, what comes somewhere behind that in this order, and what it
/// ends with.
#[derive(Debug, Clone)]
struct Pattern {
    head: String,
    middle: Vec<String>,
    tail: String,
}

impl Pattern {
    /// Of a rule that has a star.
    fn new(rule: &str) -> Option<Self> {
        let (head, rest) = rule.split_once('*')?;
        let (middle, tail) = rest.rsplit_once('*').unwrap_or(("", rest));
        let middle = middle.split('*').filter(|part| !part.is_empty()).map(str::to_owned).collect();
        Some(Self { head: head.to_owned(), middle, tail: tail.to_owned() })
    }

    fn edge(&self) -> Edge {
        match (self.head.bytes().next(), self.tail.bytes().last()) {
            (Some(first), _) => Edge::First(first),
            (None, Some(last)) => Edge::Last(last),
            (None, None) => Edge::Any,
        }
    }

    fn fits(&self, name: &str) -> bool {
        let Some(name) = name.strip_prefix(&*self.head) else { return false };
        let Some(mut name) = name.strip_suffix(&*self.tail) else { return false };
        for part in &self.middle {
            let Some(at) = name.find(&**part) else { return false };
            name = &name[at + part.len()..];
        }
        true
    }
}

/// Whether a name is what a rule says that may have stars.
fn fits(name: &str, rule: &str) -> bool {
    Pattern::new(rule).map_or_else(|| name == rule, |pattern| pattern.fits(name))
}

/// Whether a directory belongs to the system: nobody works on a project there.
fn is_of_the_system(real: &Path) -> bool {
    const PLACES: [&str; 22] = [
        "bin",
        "boot",
        "dev",
        "efi",
        "etc",
        "lib",
        "lib32",
        "lib64",
        "libx32",
        "nix",
        "proc",
        "run",
        "sbin",
        "sys",
        "usr",
        "var",
        "System",
        "Library",
        "Applications",
        "cores",
        "private",
        "nonexistent",
    ];
    let mut names = real.components().filter_map(|part| match part {
        Component::Normal(name) => name.to_str(),
        _ => None,
    });
    match (names.next(), names.next()) {
        (Some("var"), Some("home")) => false,
        // Where macOS keeps what other systems have in /tmp.
        (Some("private"), Some("tmp")) => names.next().is_none(),
        (Some("private"), Some("var")) => names.next() != Some("folders"),
        (Some(first), _) => PLACES.iter().any(|place| place.eq_ignore_ascii_case(first)),
        (None, _) => true,
    }
}

/// Whether the home of this process's user is one that people work in: a user of a service alone has none of its own.
pub fn is_home_of_a_person(real: &Path, owner: u32, user: u32) -> bool {
    owner == user && !is_of_the_system(real)
}

/// Whether the directory in which a session says that it runs may be read. Whoever can post an event names it, so it must be
/// the service's own user's, not all of a home or of a disk, and not the system's.
pub fn is_of_a_session(real: &Path, owner: u32, user: u32, home: Option<&Path>) -> bool {
    owner == user
        && real.components().count() > 2
        && !is_of_the_system(real)
        && home.is_none_or(|home| !home.starts_with(real))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(path: &str) -> bool {
        Secrets::new(&[SECRETS.to_owned()]).hold(Path::new(path))
    }

    /// Names of secrets and of what is none, by people who did not write the rules.
    #[test]
    fn secrets_in_the_corpus_are_known_and_sources_are_not() {
        let lines = |text: &'static str| text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        let missed: Vec<_> = lines(include_str!("corpus/secret.txt")).filter(|path| !secret(path)).collect();
        let wrong: Vec<_> = lines(include_str!("corpus/ordinary.txt")).filter(|path| secret(path)).collect();
        let of = |text| lines(text).count();
        let (secrets, ordinary) = (of(include_str!("corpus/secret.txt")), of(include_str!("corpus/ordinary.txt")));
        println!("{} of {secrets} secrets missed, {} of {ordinary} others refused", missed.len(), wrong.len());
        assert!(missed.is_empty() && wrong.is_empty(), "missed: {missed:?}, wrong: {wrong:?}");
    }

    #[test]
    fn copies_are_judged_as_the_original() {
        for (copy, name) in [
            ("x.bak", "x"),
            ("x~", "x"),
            (".x.swp", "x"),
            ("..x.swp", ".x"),
            ("#x#", "x"),
            ("x copy", "x"),
            ("x.1", "x"),
            ("x.2026-11-27", "x"),
            ("x.old.1", "x"),
            ("x (1)", "x"),
            ("x (kopie)", "x"),
            ("x - copy", "x"),
            ("copy of x", "x"),
            ("x backup", "x"),
            ("x_old", "x"),
            ("x ", "x"),
        ] {
            let last = std::iter::successors(original(copy), |name| original(name)).last();
            assert_eq!(last.as_deref(), Some(name), "{copy}");
        }
        for name in ["x", "~", ".bak", "#", "##", ".1", "x.rs", "1", "", ".", ".swp"] {
            assert_ne!(original(name).as_deref(), Some(""), "{name}");
        }
        assert_eq!((original("x"), original("x.rs")), (None, None));
        assert!(secret("/home/u/.env.bak") && secret("/home/u/.ssh.old/x") && secret("/p/.server.key.swp"));
    }

    #[test]
    fn what_is_secret_in_a_folder_is_what_is_secret_by_its_whole_path() {
        let deny = [".ssh", ".config/gh", "a/*/c", "*.key", "d/**/e*"].map(str::to_owned);
        let secrets = Secrets::new(&deny);
        for (folder, name, secret) in [
            ("/home/u", ".SSH", true),
            ("/home/u/.config", "gh", true),
            ("/home/u", "gh", false),
            ("/", "gh", false),
            ("/a/b", "C", true),
            ("/b", "c", false),
            ("/d", "e", true),
            ("/x/d/1/2/3", "ef", true),
            ("/x", "e", false),
            ("/", "x.key", true),
        ] {
            assert_eq!(secrets.of(Path::new(folder)).hold(name), secret, "{folder} {name}");
            assert_eq!(secrets.hold(&Path::new(folder).join(name)), secret, "{folder} {name}");
        }
    }

    #[test]
    fn stars_stand_for_any_part() {
        for (name, rule, good) in [
            ("abc", "**", true),
            ("abc", "*", true),
            ("abc", "a*", true),
            ("abc", "*c", true),
            ("abc", "a*c", true),
            ("abc", "a*b*c", true),
            ("ac", "a*b*c", false),
            ("abab", "a*ab", true),
            ("ab", "ab*ab", false),
            ("a", "a*a", false),
            ("", "*", true),
        ] {
            assert_eq!(fits(name, rule), good, "{name} {rule}");
        }
    }

    #[test]
    fn sessions_and_homes_are_ours_and_not_the_systems() {
        let home = Some(Path::new("/home/u"));
        let session = |path: &str| is_of_a_session(Path::new(path), 1000, 1000, home);
        assert!(session("/srv/project") && session("/home/u/project") && session("/var/home/u/x") && session("/tmp/x"));
        assert!(session("/private/tmp/x") && session("/private/var/folders/ab/T/x") && !session("/private/tmp"));
        for path in
            ["/", "/home", "/home/u", "/srv", "/tmp", "/etc/mpm", "/usr/src/x", "/var/lib/x", "/proc/1/cwd", "/dev/shm"]
        {
            assert!(!session(path), "{path}");
        }
        assert!(!is_of_a_session(Path::new("/srv/project"), 0, 1000, home), "it is root's");
        assert!(is_home_of_a_person(Path::new("/home/u"), 1000, 1000));
        assert!(is_home_of_a_person(Path::new("/root"), 0, 0));
        for (path, owner) in [("/", 999), ("/var/lib/mpm-monitor", 999), ("/home/u", 1000), ("/nonexistent", 999)] {
            assert!(!is_home_of_a_person(Path::new(path), owner, 999), "{path}");
        }
    }
}
