//! Another build of the program without compiling it twice: a copy in which texts are exchanged for others of the same length,
//! the build's id among them. It runs like the original and says that it is another.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::command::run;
use super::daemon::SOON;
use super::program;

/// The build id of the program under test, as `--version` says it.
#[track_caller]
fn build() -> String {
    let said = run(Command::new(program()).arg("--version"), SOON).ok();
    let id = said.stdout.split_once("(build ").and_then(|(_, rest)| rest.split_once(')'));
    id.unwrap_or_else(|| panic!("no build in {said}")).0.to_owned()
}

/// A copy with another build id, and with these texts exchanged; at `to`.
///
/// # Panics
/// When a text is not in the program, or its replacement is not as long.
#[track_caller]
pub fn other_build(to: &Path, id: &str, texts: &[(&str, &str)]) -> PathBuf {
    let mut bytes = std::fs::read(program()).expect("read the program");
    let own = build();
    for (old, new) in texts.iter().chain(&[(own.as_str(), id)]) {
        let (old, new) = (old.as_bytes(), new.as_bytes());
        assert_eq!(old.len(), new.len(), "as long as what it replaces");
        let finder = memchr::memmem::Finder::new(old);
        let places: Vec<usize> = finder.find_iter(&bytes).collect();
        assert!(!places.is_empty(), "{:?} is not in the program", String::from_utf8_lossy(old));
        places.into_iter().for_each(|at| bytes[at..at + new.len()].copy_from_slice(new));
    }
    std::fs::write(to, bytes).expect("write a program");
    std::fs::set_permissions(to, std::fs::Permissions::from_mode(0o755)).expect("make it executable");
    to.to_owned()
}
