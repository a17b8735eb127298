//! Directories of this user alone.

use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

/// Makes a directory for this user alone, where it is missing.
///
/// # Errors
/// What the system says.
pub fn make_private(dir: &Path) -> io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn private_directory_is_closed_to_others() {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("a/b");
        make_private(&dir).unwrap();
        make_private(&dir).unwrap();
        assert_eq!(dir.metadata().unwrap().permissions().mode() & 0o777, 0o700);
    }
}
