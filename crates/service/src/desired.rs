//! The files of a definition, for whichever manager; pure.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::Kind;
use super::definition::Definition;
use super::drift::{Drift, drift, is_ours};
use super::launchd::render as plist;
use super::observed::Observed;
use super::paths::Paths;
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
            content: render::service(paths.app, definition)?,
            mode: 0o644,
            shared: false,
            unit: true,
        });
    }
    if definition.socket && !packaged {
        let socket = paths.socket(port);
        all.extend(socket.map(|path| Desired {
            path,
            content: render::socket(paths.app),
            mode: 0o644,
            shared: false,
            unit: true,
        }));
    }
    if let (Some(content), Some(path)) = (render::drop_in(paths.app, definition), paths.drop_in(port)) {
        // Its environment may hold what is nobody else's business.
        all.push(Desired { path, content, mode: 0o600, shared: false, unit: true });
    }
    if let Some(path) = &paths.sysusers {
        // Where a package or the administrator made the user, it is theirs.
        if !observed.user_exists || observed.files.contains_key(path) {
            all.push(Desired {
                path: path.clone(),
                content: render::sysusers(paths.app),
                mode: 0o644,
                shared: true,
                unit: false,
            });
        }
    }
    Ok(all)
}

/// Whether the templates of an installed package do for this definition: they run the same program, and nothing that stays goes
/// before them. Then they are left to the package, whose upgrades bring new ones.
pub fn packaged_serves(definition: &Definition, paths: &Paths, observed: &Observed) -> bool {
    let own = [Some(paths.service(definition.port)), paths.socket(definition.port)];
    observed.packaged.as_ref() == Some(&definition.program)
        && own
            .iter()
            .flatten()
            .all(|path| observed.files.get(path).is_none_or(|text| is_ours(paths.app.program.name, text)))
        && paths
            .old_templates()
            .iter()
            .all(|path| !observed.files.contains_key(path) || template_goes(paths, path, observed))
}

/// Whether an old template is to be removed: it is ours, and no other instance is started from it.
pub fn template_goes(paths: &Paths, path: &Path, observed: &Observed) -> bool {
    observed.files.get(path).is_some_and(|text| is_ours(paths.app.program.name, text))
        && observed.template_users.is_empty()
}

/// Where the files of an instance can be, and whether other instances share them.
pub fn candidates(port: u16, paths: &Paths) -> Vec<(PathBuf, bool)> {
    let mut all: Vec<(PathBuf, bool)> = paths.drop_in(port).map(|p| (p, false)).into_iter().collect();
    all.push((paths.service(port), false));
    all.extend(paths.socket(port).map(|p| (p, false)));
    all.extend(paths.old_templates().into_iter().map(|p| (p, true)));
    all.extend(paths.sysusers.clone().map(|p| (p, true)));
    all
}

/// Whether that template makes the unit of the instance whose own would be this file.
pub fn stands_for(template: &Path, own: &Path, port: u16) -> bool {
    let instance =
        template.file_name().and_then(|name| name.to_str()).map(|name| name.replace('@', &format!("@{port}")));
    instance.is_some_and(|name| own.file_name().is_some_and(|own| own == name.as_str()))
}

/// The definition in force among the texts that were read: the instance's own, else an old template.
pub fn definition_of<'a>(port: u16, paths: &Paths, files: &'a BTreeMap<PathBuf, String>) -> Option<&'a String> {
    let template = paths.old_templates().into_iter().next();
    files.get(&paths.service(port)).or_else(|| files.get(&template?))
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
            // Started from an old template, it is outdated; it lacks nothing.
            let template = paths.old_templates().into_iter().find(|t| stands_for(t, &d.path, definition.port));
            let path = template.filter(|t| !observed.files.contains_key(&d.path) && observed.files.contains_key(t));
            let path = path.unwrap_or(d.path);
            let found = drift(paths.app.program.name, observed.files.get(&path).map(String::as_str), &d.content);
            (path, found)
        })
        .collect())
}
