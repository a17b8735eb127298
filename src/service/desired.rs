//! The files of a definition, for whichever manager; pure.

use std::path::PathBuf;

use super::Kind;
use super::definition::Definition;
use super::drift::{Drift, drift, is_ours};
use super::launchd::render as plist;
use super::paths::Paths;
use super::plan::Observed;
use super::systemd::escape::Unspeakable;
use super::systemd::render;

/// One file as it shall be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Desired {
    /// Where.
    pub path: PathBuf,
    /// Its text.
    pub content: String,
    /// Its permissions.
    pub mode: u32,
    /// Whether other instances use it, too.
    pub shared: bool,
    /// Whether it is a definition that the manager has read.
    pub unit: bool,
}

/// All of them.
///
/// # Errors
/// [`Unspeakable`] if the program's path cannot stand in the manager's format.
pub fn desired(definition: &Definition, paths: &Paths, observed: &Observed) -> Result<Vec<Desired>, Unspeakable> {
    match paths.kind {
        Kind::Systemd => systemd(definition, paths, observed),
        Kind::Launchd => {
            let content = plist::plist(definition, paths)?;
            // Its environment may hold what is nobody else's business.
            let mode = if definition.env.is_empty() { 0o644 } else { 0o600 };
            Ok(vec![Desired { path: paths.service(definition.port), content, mode, shared: false, unit: true }])
        }
    }
}

fn systemd(definition: &Definition, paths: &Paths, observed: &Observed) -> Result<Vec<Desired>, Unspeakable> {
    let port = definition.port;
    let packaged = packaged_serves(definition, paths, observed);
    let mut all = Vec::new();
    if !packaged {
        all.push(Desired {
            path: paths.service(port),
            content: render::service(definition)?,
            mode: 0o644,
            shared: true,
            unit: true,
        });
    }
    if definition.socket && !packaged {
        let socket = paths.socket();
        all.extend(socket.map(|path| Desired {
            path,
            content: render::socket(),
            mode: 0o644,
            shared: true,
            unit: true,
        }));
    }
    if let (Some(content), Some(path)) = (render::drop_in(definition), paths.drop_in(port)) {
        // Its environment may hold what is nobody else's business.
        all.push(Desired { path, content, mode: 0o600, shared: false, unit: true });
    }
    if let Some(path) = &paths.sysusers {
        // Where a package or the administrator made the user, it is theirs.
        if !observed.user_exists || observed.files.contains_key(path) {
            all.push(Desired {
                path: path.clone(),
                content: render::sysusers(),
                mode: 0o644,
                shared: true,
                unit: false,
            });
        }
    }
    Ok(all)
}

/// Whether the templates of an installed package do for this definition: they run the same program, and nobody put others of
/// their own before them. Then they are left to the package, whose upgrades bring new ones.
pub fn packaged_serves(definition: &Definition, paths: &Paths, observed: &Observed) -> bool {
    let before = [Some(paths.service(definition.port)), paths.socket()];
    observed.packaged.as_ref() == Some(&definition.program)
        && before.iter().flatten().all(|path| observed.files.get(path).is_none_or(|text| is_ours(text)))
}

/// Where the files of an instance can be, and whether other instances share them.
pub fn candidates(port: u16, paths: &Paths) -> Vec<(PathBuf, bool)> {
    let mut all: Vec<(PathBuf, bool)> = paths.drop_in(port).map(|p| (p, false)).into_iter().collect();
    all.push((paths.service(port), paths.kind == Kind::Systemd));
    all.extend(paths.socket().map(|p| (p, true)));
    all.extend(paths.sysusers.clone().map(|p| (p, true)));
    all
}

/// The program that the installed definition of a service runs, if that can be read.
pub fn program_of(definition: &str, kind: Kind) -> Option<PathBuf> {
    match kind {
        Kind::Systemd => render::program_of(definition),
        Kind::Launchd => plist::program_of(definition),
    }
}

/// How each file of the definition is, for `status`.
///
/// # Errors
/// [`Unspeakable`] if the program's path cannot stand in the manager's format.
pub fn drifts(
    definition: &Definition,
    paths: &Paths,
    observed: &Observed,
) -> Result<Vec<(PathBuf, Drift)>, Unspeakable> {
    Ok(desired(definition, paths, observed)?
        .into_iter()
        .map(|d| {
            let found = drift(observed.files.get(&d.path).map(String::as_str), &d.content);
            (d.path, found)
        })
        .collect())
}
