//! Finds the dashboard of an installed Claude MPM: nothing of it is part of this program.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

/// What the setting `server.dashboard_dir` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice {
    /// The monitor's own page.
    Own,
    /// That of the first Claude MPM that is found on this machine.
    Auto,
    /// That in this folder.
    At(PathBuf),
}

/// How a dashboard is made, which decides on what its page must be allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Make {
    /// Built and self-contained, as since 5.4.
    Built,
    /// Templates that load libraries from three web sites, as up to 5.3.
    Templates,
}

/// A dashboard on this machine's disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dashboard {
    /// How it is made.
    pub make: Make,
    /// Holds `index.html`, and of a built one `_app` and `favicon.svg`.
    pub page: PathBuf,
    /// What is served below `/static/`, if that is more than the page.
    pub statics: Option<PathBuf>,
}

/// Why there is no dashboard to serve.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DashboardError {
    /// The folder that was named has none in it.
    #[error(
        "server.dashboard_dir: {dir} holds no dashboard of Claude MPM; looked for {}; name the folder of the installed \
         package claude_mpm, its dashboard/static, or the svelte-build in it", looked.join(", ")
    )]
    NotThere {
        /// The folder.
        dir: PathBuf,
        /// Where its page would be, and what the system said where that is more than that it is not there.
        looked: Vec<String>,
    },
    /// No Claude MPM was found.
    #[error(
        "server.dashboard_dir = auto found no installed Claude MPM; looked for claude_mpm in {}, and around a \
         claude-mpm on PATH; install it, or name its folder", looked.join(", ")
    )]
    NotFound {
        /// The places, in order.
        looked: Vec<String>,
    },
}

impl DashboardError {
    /// A name that stays the same over versions.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NotThere { .. } => "no_dashboard_there",
            Self::NotFound { .. } => "no_dashboard_found",
        }
    }
}

/// The dashboard that the setting names; `None` for the monitor's own.
///
/// # Errors
/// When there is none, with the places that were looked at.
pub fn resolve(choice: &Choice, machine: &Machine) -> Result<Option<Dashboard>, DashboardError> {
    match choice {
        Choice::Own => Ok(None),
        Choice::At(dir) => at(dir).map(Some),
        Choice::Auto => {
            let places = places(machine);
            let found = places.iter().flat_map(|place| expand(place)).find_map(|p| at(&p.join("claude_mpm")).ok());
            let looked = || places.iter().map(|p| p.display().to_string()).collect();
            found.map(Some).ok_or_else(|| DashboardError::NotFound { looked: looked() })
        }
    }
}

/// The page's folder and that of the static files, below the folder that was named: the build itself, what holds it, the
/// package, what holds that.
const SHAPES: &[(Make, &str, Option<&str>)] = &[
    (Make::Built, "", None),
    (Make::Built, "svelte-build", Some("")),
    (Make::Built, "static/svelte-build", Some("static")),
    (Make::Built, "dashboard/static/svelte-build", Some("dashboard/static")),
    (Make::Built, "claude_mpm/dashboard/static/svelte-build", Some("claude_mpm/dashboard/static")),
    (Make::Templates, "templates", Some("static")),
    (Make::Templates, "dashboard/templates", Some("dashboard/static")),
];

/// The dashboard in a folder.
fn at(dir: &Path) -> Result<Dashboard, DashboardError> {
    let mut looked = Vec::new();
    for (make, page, statics) in SHAPES {
        let page = dir.join(page);
        // Any web site's folder has an index.html; the build has its parts beside it.
        let beside = if *make == Make::Built { page.join("_app") } else { dir.join(statics.unwrap_or_default()) };
        let (index, beside) = (page.join("index.html").metadata(), beside.metadata());
        match (&index, &beside) {
            (Ok(index), Ok(beside)) if index.is_file() && beside.is_dir() => {
                return Ok(Dashboard { make: *make, page, statics: statics.map(|s| dir.join(s)) });
            }
            _ => {}
        }
        let why = [index.err(), beside.err()].into_iter().flatten().find(|e| e.kind() != io::ErrorKind::NotFound);
        let why = why.map(|e| format!(" ({e})")).unwrap_or_default();
        looked.push(format!("{}{why}", page.join("index.html").display()));
    }
    Err(DashboardError::NotThere { dir: dir.to_owned(), looked })
}

/// What of a machine says where Python packages are.
#[derive(Debug, Clone, Default)]
pub struct Machine {
    /// `/`.
    pub root: PathBuf,
    /// The user's home.
    pub home: Option<PathBuf>,
    /// The variables of the environment that move things, by name.
    pub variables: Vec<(&'static str, OsString)>,
}

/// Of the environment's variables, those that say where packages are.
const VARIABLES: &[&str] = &["VIRTUAL_ENV", "PATH", "PIPX_HOME", "UV_TOOL_DIR", "XDG_DATA_HOME", "PYTHONUSERBASE"];

impl Machine {
    /// This one, as its user sees it.
    pub fn this() -> Self {
        let variables = VARIABLES.iter().filter_map(|n| Some((*n, std::env::var_os(n).filter(|v| !v.is_empty())?)));
        let home = directories::BaseDirs::new().map(|base| base.home_dir().to_owned());
        Self { root: "/".into(), home, variables: variables.collect() }
    }

    fn variable(&self, name: &str) -> Option<PathBuf> {
        self.variables.iter().find(|(n, _)| *n == name).map(|(_, v)| v.into())
    }
}

/// The environments whose `claude-mpm` would be run if somebody typed it: the program lies in their `bin`, or a link to it
/// does in a folder of the search path.
fn on_path(machine: &Machine) -> Vec<PathBuf> {
    let path = machine.variable("PATH").unwrap_or_default();
    let programs = std::env::split_paths(&path).filter(|dir| dir.is_absolute()).map(|dir| dir.join("claude-mpm"));
    let environment = |program: &Path| program.parent()?.parent().map(Path::to_owned);
    programs
        .filter(|program| program.is_file())
        .flat_map(|program| [program.canonicalize().ok().and_then(|p| environment(&p)), environment(&program)])
        .flatten()
        .collect()
}

/// Where Python's packages may be, the user's before the machine's; `python3.*` stands for every version.
fn places(machine: &Machine) -> Vec<PathBuf> {
    let home = |sub: &str| machine.home.as_ref().map(|home| home.join(sub));
    let below = |dir: Option<PathBuf>, sub: &str| dir.map(|dir| dir.join(sub));
    let data = machine.variable("XDG_DATA_HOME").or_else(|| home(".local/share"));
    let environments = [
        machine.variable("VIRTUAL_ENV"),
        below(machine.variable("PIPX_HOME"), "venvs/claude-mpm"),
        below(data.clone(), "pipx/venvs/claude-mpm"),
        home(".local/pipx/venvs/claude-mpm"),
        home("Library/Application Support/pipx/venvs/claude-mpm"),
        below(machine.variable("UV_TOOL_DIR"), "claude-mpm"),
        below(data, "uv/tools/claude-mpm"),
        machine.variable("PYTHONUSERBASE"),
        home(".local"),
    ];
    let (active, others) = environments.split_at(1);
    let environments = active.iter().flatten().cloned().chain(on_path(machine)).chain(others.iter().flatten().cloned());
    let mut places: Vec<PathBuf> = environments.map(|e| e.join("lib/python3.*/site-packages")).collect();
    places.extend(home("Library/Python/3.*/lib/python/site-packages"));
    for sub in [
        "usr/local/lib/python3.*/site-packages",
        "usr/local/lib/python3.*/dist-packages",
        "opt/homebrew/lib/python3.*/site-packages",
        "usr/lib/python3.*/site-packages",
        "usr/lib/python3/dist-packages",
    ] {
        places.push(machine.root.join(sub));
    }
    let mut seen = std::collections::HashSet::new();
    places.retain(|place| seen.insert(place.clone()));
    places
}

/// The folders that a place stands for, the newest version first.
fn expand(place: &Path) -> Vec<PathBuf> {
    let mut found = vec![PathBuf::new()];
    for part in place {
        let Some(start) = part.to_str().and_then(|p| p.strip_suffix('*')) else {
            found.iter_mut().for_each(|dir| dir.push(part));
            continue;
        };
        let versions = |dir: &PathBuf| {
            let names = std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.file_name());
            let number = |name: &OsString| name.to_str()?.strip_prefix(start)?.parse::<u32>().ok();
            let mut numbers: Vec<u32> = names.filter_map(|name| number(&name)).collect();
            numbers.sort_unstable_by(|a, b| b.cmp(a));
            numbers.into_iter().map(|n| dir.join(format!("{start}{n}"))).collect::<Vec<_>>()
        };
        found = found.iter().flat_map(versions).collect();
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn built(package: &Path) -> PathBuf {
        let page = package.join("dashboard/static/svelte-build");
        std::fs::create_dir_all(page.join("_app")).unwrap();
        std::fs::write(page.join("index.html"), "<html>").unwrap();
        page
    }

    #[test]
    fn the_package_its_static_folder_and_the_build_are_all_taken() {
        let dir = tempfile::tempdir().unwrap();
        let package = dir.path().join("claude_mpm");
        let page = built(&package);
        for (named, statics) in [("", true), ("claude_mpm", true), ("claude_mpm/dashboard/static", true)] {
            let found = at(&dir.path().join(named)).unwrap();
            assert_eq!((found.make, &found.page, found.statics.is_some()), (Make::Built, &page, statics), "{named}");
        }
        assert_eq!(at(&page).unwrap().statics, None, "the build alone was named");
    }

    #[test]
    fn the_templates_of_the_old_one_are_taken() {
        let dir = tempfile::tempdir().unwrap();
        for sub in ["dashboard/templates", "dashboard/static"] {
            std::fs::create_dir_all(dir.path().join(sub)).unwrap();
        }
        std::fs::write(dir.path().join("dashboard/templates/index.html"), "<html>").unwrap();
        assert_eq!(at(dir.path()).unwrap().make, Make::Templates);
    }

    #[test]
    fn another_folder_is_refused_with_what_was_looked_for() {
        let dir = tempfile::tempdir().unwrap();
        // A web site, but no dashboard.
        std::fs::write(dir.path().join("index.html"), "<html>").unwrap();
        let error = at(dir.path()).unwrap_err();
        assert_eq!(error.code(), "no_dashboard_there");
        let text = error.to_string();
        let shown = dir.path().display();
        for part in [
            format!("{shown} holds no dashboard"),
            format!("{shown}/svelte-build/index.html"),
            format!("{shown}/dashboard/static/svelte-build/index.html"),
        ] {
            assert!(text.contains(&part), "{part} is not in {text}");
        }
        std::fs::write(dir.path().join("svelte-build"), "").unwrap();
        assert!(
            at(dir.path()).unwrap_err().to_string().contains("svelte-build/index.html (Not a directory"),
            "{error}"
        );
    }

    #[test]
    fn auto_finds_a_venv_whose_program_is_on_path() {
        for linked in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let (venv, bin) = (dir.path().join("some/where/venv"), dir.path().join("bin"));
            let page = built(&venv.join("lib/python3.12/site-packages/claude_mpm"));
            std::fs::create_dir_all(venv.join("bin")).unwrap();
            std::fs::create_dir(&bin).unwrap();
            std::fs::write(venv.join("bin/claude-mpm"), "").unwrap();
            std::os::unix::fs::symlink(venv.join("bin/claude-mpm"), bin.join("claude-mpm")).unwrap();
            let on_path = if linked { bin } else { venv.join("bin") };
            let path = std::env::join_paths([Path::new("bin"), Path::new("/nowhere"), &on_path]).unwrap();
            let machine = Machine { root: dir.path().into(), home: None, variables: vec![("PATH", path)] };
            let found = resolve(&Choice::Auto, &machine).unwrap().unwrap().page.canonicalize().unwrap();
            assert_eq!(found, page.canonicalize().unwrap(), "linked: {linked}");
        }
    }

    #[test]
    fn auto_finds_every_kind_of_installation_and_the_newest_python() {
        for (sub, variable) in [
            ("v/lib/python3.11/site-packages", Some("VIRTUAL_ENV")),
            ("home/.local/share/pipx/venvs/claude-mpm/lib/python3.12/site-packages", None),
            ("home/.local/share/uv/tools/claude-mpm/lib/python3.13/site-packages", None),
            ("home/.local/lib/python3.9/site-packages", None),
            ("home/Library/Python/3.12/lib/python/site-packages", None),
            ("usr/local/lib/python3.11/dist-packages", None),
            ("opt/homebrew/lib/python3.13/site-packages", None),
            ("usr/lib/python3/dist-packages", None),
        ] {
            let dir = tempfile::tempdir().unwrap();
            let mut machine =
                Machine { root: dir.path().into(), home: Some(dir.path().join("home")), variables: vec![] };
            machine.variables.extend(variable.map(|name| (name, dir.path().join("v").into())));
            let error = resolve(&Choice::Auto, &machine).unwrap_err();
            assert_eq!(error.code(), "no_dashboard_found");
            let looked = error.to_string();
            assert!(looked.contains("/home/.local/lib/python3.*/site-packages") && looked.contains("pipx"), "{looked}");
            let page = built(&dir.path().join(sub).join("claude_mpm"));
            assert_eq!(resolve(&Choice::Auto, &machine).unwrap().unwrap().page, page, "{sub}");
        }
        let dir = tempfile::tempdir().unwrap();
        let machine = Machine { root: dir.path().into(), ..Machine::default() };
        for version in ["3.9", "3.13", "3.10"] {
            built(&dir.path().join(format!("usr/lib/python{version}/site-packages/claude_mpm")));
        }
        let found = resolve(&Choice::Auto, &machine).unwrap().unwrap();
        assert!(found.page.to_string_lossy().contains("python3.13/"), "{found:?}");
        assert_eq!(resolve(&Choice::Own, &machine), Ok(None));
    }
}
