//! What may import what: the crates by their manifests, the modules of each crate by its sources.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

/// The crates from the lowest level to the program. A crate depends on lower levels only, never on its own.
const LEVELS: [&[&str]; 3] = [
    &["mpm-daemon", "mpm-socketio", "mpm-tmux"],
    &["mpm-service", "mpm-events", "mpm-files", "mpm-hook"],
    &["mpm-monitor"],
];

/// Used by tests and benches: it may depend on everything but the program, and nothing that ships depends on it.
const FOR_TESTS: [&str; 2] = ["mpm-testkit", "loadgen"];

/// The program's modules that still import each other in a circle. This list only ever gets shorter.
const CIRCLE: &[&str] = &["config", "hooks", "server"];

#[derive(serde::Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(serde::Deserialize)]
struct Package {
    name: String,
    manifest_path: String,
    dependencies: Vec<Dependency>,
}

#[derive(serde::Deserialize)]
struct Dependency {
    name: String,
    /// `None` for what ships; `dev` and `build` for the rest.
    kind: Option<String>,
    /// Where it is, if it is a crate of this workspace.
    path: Option<String>,
}

fn packages() -> Vec<Package> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--offline", "--no-deps", "--format-version=1"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice::<Metadata>(&output.stdout).unwrap().packages
}

fn level(name: &str) -> Option<usize> {
    LEVELS.iter().position(|level| level.contains(&name))
}

#[test]
fn crates_depend_on_lower_levels_only() {
    let packages = packages();
    assert!(packages.len() > 2, "no workspace was found");
    for package in &packages {
        let name = package.name.as_str();
        let Some(own) = level(name) else {
            assert!(FOR_TESTS.contains(&name), "{name} has no level: give it one in tests/project/layers.rs");
            let program = package.dependencies.iter().any(|d| d.name == "mpm-monitor");
            assert!(!program, "{name} depends on the program, which it helps to test");
            continue;
        };
        for dependency in package.dependencies.iter().filter(|d| d.path.is_some()) {
            let for_tests = FOR_TESTS.contains(&dependency.name.as_str());
            let lower = level(&dependency.name).is_some_and(|level| level < own);
            let allowed = lower || for_tests && dependency.kind.as_deref() == Some("dev");
            assert!(
                allowed,
                "{name} must not depend on {}: move what it needs to a lower crate, or pass it in (docs/architecture.md)",
                dependency.name
            );
        }
    }
}

#[test]
fn modules_of_a_crate_form_no_circle() {
    for package in packages() {
        let sources = Path::new(&package.manifest_path).with_file_name("src");
        let imports = imports(&sources);
        let found = circles(&imports);
        let allowed = if package.name == "mpm-monitor" { vec![CIRCLE.to_vec()] } else { vec![] };
        assert_eq!(found, allowed, "circles of imports in {} (and those that are known)", sources.display());
    }
}

/// The modules at the top of a crate, and which others of them each one imports. Tests do not count.
fn imports(sources: &Path) -> BTreeMap<String, BTreeSet<String>> {
    let mut files = Vec::new();
    collect(sources, &mut Vec::new(), &mut files);
    let modules: BTreeSet<String> = files.iter().map(|(path, _)| path[0].clone()).collect();
    let mut all: BTreeMap<String, BTreeSet<String>> = modules.iter().map(|m| (m.clone(), BTreeSet::new())).collect();
    for (path, text) in &files {
        let text = without_tests_and_comments(text);
        let up = "super::".repeat(path.len());
        let mut named = names_after(&text, "crate::");
        named.extend(names_after(&text, &up));
        named.retain(|name| modules.contains(name) && *name != path[0]);
        all.get_mut(&path[0]).unwrap().extend(named);
    }
    all
}

/// Every source file with its path of modules, but for the crate's root and for files of tests.
fn collect(dir: &Path, above: &mut Vec<String>, files: &mut Vec<(Vec<String>, String)>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let stem = path.file_stem().unwrap().to_str().unwrap().to_owned();
        if path.is_dir() {
            above.push(stem);
            collect(&path, above, files);
            above.pop();
        } else if path.extension().is_some_and(|e| e == "rs")
            && !stem.ends_with("tests")
            && above.last().is_none_or(|m| m != "tests")
        {
            let mut modules = above.clone();
            modules.extend((stem != "mod").then_some(stem));
            if !(above.is_empty() && ["lib", "main"].contains(&modules[0].as_str())) {
                files.push((modules, fs::read_to_string(&path).unwrap()));
            }
        }
    }
}

fn without_tests_and_comments(text: &str) -> String {
    let tests =
        ["\n#[cfg(test)]\nmod tests {", "\n#[cfg(test)]\nmod test {"].iter().filter_map(|mark| text.find(mark)).min();
    let shipped = &text[..tests.unwrap_or(text.len())];
    shipped.lines().filter(|line| !line.trim_start().starts_with("//")).map(|line| format!("{line}\n")).collect()
}

/// The first names of the paths that begin with `prefix`: `a` and `b` of `crate::a::x` and `crate::{b::y}`.
fn names_after(text: &str, prefix: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for (at, _) in text.match_indices(prefix) {
        // `super::super::x` is no path that begins with `super::x`, nor `my_crate::x` one with `crate::x`.
        let before = text[..at].chars().next_back().unwrap_or(' ');
        if before.is_alphanumeric() || matches!(before, '_' | ':') {
            continue;
        }
        let rest = &text[at + prefix.len()..];
        match rest.strip_prefix('{') {
            Some(group) => names.extend(group_names(group)),
            None => names.extend(first_name(rest)),
        }
    }
    names
}

/// The first names in a group of imports, which ends with its closing brace.
fn group_names(group: &str) -> Vec<String> {
    let (mut depth, mut names, mut begin) = (0, Vec::new(), 0);
    for (at, c) in group.char_indices() {
        match c {
            '}' if depth == 0 => {
                names.extend(first_name(&group[begin..at]));
                break;
            }
            ',' if depth == 0 => {
                names.extend(first_name(&group[begin..at]));
                begin = at + 1;
            }
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
    }
    names
}

fn first_name(path: &str) -> Option<String> {
    let name: String = path.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    (!name.is_empty()).then_some(name)
}

/// The groups of modules that reach each other.
fn circles(imports: &BTreeMap<String, BTreeSet<String>>) -> Vec<Vec<&str>> {
    let mut found: Vec<Vec<&str>> = Vec::new();
    for from in imports.keys() {
        let own: Vec<&str> = imports
            .keys()
            .filter(|to| reaches(imports, from, to) && reaches(imports, to, from))
            .map(String::as_str)
            .collect();
        if !own.is_empty() && !found.contains(&own) {
            found.push(own);
        }
    }
    found
}

fn reaches(imports: &BTreeMap<String, BTreeSet<String>>, from: &str, to: &str) -> bool {
    let (mut seen, mut left) = (BTreeSet::new(), vec![from]);
    while let Some(module) = left.pop() {
        for next in &imports[module] {
            if next == to {
                return true;
            }
            if seen.insert(next) {
                left.push(next);
            }
        }
    }
    false
}

#[test]
fn imports_are_found_in_every_form() {
    let text = "use crate::a::b;\nuse crate::{c, d::{e, f}, g};\n// use crate::h;\nlet x = crate::i::j();\nuse super::super::k;\n\
                use super::l;\n\n#[cfg(test)]\nmod tests {\n    use crate::m;\n}\n";
    let text = without_tests_and_comments(text);
    let names = |prefix| names_after(&text, prefix).into_iter().collect::<Vec<_>>().join(" ");
    assert_eq!(names("crate::"), "a c d g i");
    assert_eq!(names("super::super::"), "k");
    let imports = [("a", "b"), ("b", "c"), ("c", "b"), ("d", "a")];
    let imports = imports.map(|(from, to)| (from.to_owned(), BTreeSet::from([to.to_owned()]))).into();
    assert_eq!(circles(&imports), [["b", "c"]]);
}
