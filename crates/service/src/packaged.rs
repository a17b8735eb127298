//! Which package manager a program belongs to: what it installed, it upgrades, and nobody else.

use std::fmt;
use std::path::{Path, PathBuf};

use super::exec;

/// Whose a file is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Packager {
    /// Homebrew's.
    Homebrew,
    /// Of a Debian package.
    Dpkg(String),
    /// Of an RPM.
    Rpm(String),
    /// In the Nix store.
    Nix,
}

impl fmt::Display for Packager {
    /// Whose it is and what to type, to follow "belongs to".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Homebrew => f.write_str("Homebrew: `brew upgrade mpm-monitor` is the way"),
            Self::Dpkg(name) => write!(f, "the package {name}: `sudo apt install --only-upgrade {name}` is the way"),
            Self::Rpm(name) => write!(f, "the package {name}: `sudo dnf upgrade {name}` is the way"),
            Self::Nix => f.write_str("the Nix store: a new generation of your profile is the way"),
        }
    }
}

/// The package manager whose file this is; the links on the way to it count, too.
pub fn owner(path: &Path) -> Option<Packager> {
    let real = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    by_place(&real).or_else(|| {
        let names = names(&[path, &real]);
        dpkg(&names).or_else(|| rpm(&names))
    })
}

fn by_place(real: &Path) -> Option<Packager> {
    let has = |name: &str| real.components().any(|c| c.as_os_str() == name);
    if has("Cellar") || has("Caskroom") {
        Some(Packager::Homebrew)
    } else if real.starts_with("/nix/store") {
        Some(Packager::Nix)
    } else {
        None
    }
}

/// The names that a package may have listed the file under: `/bin` is `/usr/bin` these days.
fn names(paths: &[&Path]) -> Vec<String> {
    let mut all: Vec<PathBuf> = Vec::new();
    for path in paths {
        all.push((*path).to_owned());
        all.extend(path.strip_prefix("/usr").ok().map(|rest| Path::new("/").join(rest)));
    }
    let mut all: Vec<String> = all.into_iter().map(|p| p.to_string_lossy().into_owned()).collect();
    all.dedup();
    all
}

fn dpkg(names: &[String]) -> Option<Packager> {
    let words: Vec<&str> = ["--search", "--"].into_iter().chain(names.iter().map(String::as_str)).collect();
    // It fails where one of the names is unknown, and says all the same whose the others are.
    parse_dpkg(&exec::tool("dpkg-query", &words, exec::QUICK).ok()?.stdout).map(Packager::Dpkg)
}

/// `mpm-monitor: /usr/bin/mpm-monitor`, or several packages with commas.
fn parse_dpkg(text: &str) -> Option<String> {
    let line = text.lines().find(|l| !l.starts_with("diversion by "))?;
    let (packages, _) = line.split_once(": ")?;
    let name = packages.split(", ").next()?.split(':').next()?;
    (!name.is_empty()).then(|| name.to_owned())
}

fn rpm(names: &[String]) -> Option<Packager> {
    names.iter().find_map(|name| {
        let words = ["-q", "--qf", "%{NAME}\n", "-f", name];
        let output = exec::tool("rpm", &words, exec::QUICK).ok().filter(|o| o.code == Some(0))?;
        output.stdout.lines().next().map(|line| Packager::Rpm(line.to_owned()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whose_a_file_is_and_what_to_type() {
        let brew = by_place(Path::new("/opt/homebrew/Cellar/mpm-monitor/1.0/bin/mpm-monitor")).unwrap();
        assert!(brew.to_string().contains("brew upgrade mpm-monitor"));
        assert_eq!(by_place(Path::new("/usr/local/bin/mpm-monitor")), None);
        assert_eq!(parse_dpkg("mpm-monitor: /usr/bin/mpm-monitor\n").as_deref(), Some("mpm-monitor"));
        let diverted = "diversion by dash from: /bin/sh\ndash:amd64, other: /bin/sh\n";
        assert_eq!(parse_dpkg(diverted).as_deref(), Some("dash"));
        assert_eq!(parse_dpkg(""), None);
        let both = names(&[Path::new("/usr/bin/x"), Path::new("/usr/bin/x")]);
        assert!(both.contains(&"/bin/x".to_owned()) && both.contains(&"/usr/bin/x".to_owned()), "{both:?}");
    }
}
