//! Another build of the program without compiling it twice: a copy in which texts are exchanged for others of the same length,
//! the build's id among them. It runs like the original and says that it is another.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::program;

/// A copy with another build id, and with these texts exchanged; at `to`.
///
/// # Panics
/// When a text is not in the program, or its replacement is not as long.
#[track_caller]
pub fn other_build(to: &Path, id: &str, texts: &[(&str, &str)]) -> PathBuf {
    let mut bytes = std::fs::read(program()).expect("read the program");
    for (old, new) in texts.iter().chain(&[(mpm_monitor::build::ID, id)]) {
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
