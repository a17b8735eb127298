//! Whether only root can change a program that root is about to run, or that the machine's service runs.
//!
//! Whoever may write a file, or a folder above it, decides what is run under its name. Where root runs it, for its version
//! say, that is root's power.

use std::ffi::OsString;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

/// How many links may lead to a program, as for the kernel.
const LINKS: usize = 40;
/// The permissions to write of the group and of others.
const OTHERS: u32 = 0o022;

/// Why others than root decide what a path leads to.
#[derive(Debug, thiserror::Error)]
pub enum Weak {
    /// A part of the way belongs to somebody else.
    #[error("{} belongs to uid {uid}, not to root", path.display())]
    Owner {
        /// That part.
        path: PathBuf,
        /// The user it belongs to.
        uid: u32,
    },
    /// A part of the way may be written by others.
    #[error("{} may be written by others than root (mode {mode:04o})", path.display())]
    Writable {
        /// That part.
        path: PathBuf,
        /// The permission bits of that part.
        mode: u32,
    },
    /// A part of the way cannot be looked at.
    #[error("cannot look at {}: {cause}", path.display())]
    Unknown {
        /// That part.
        path: PathBuf,
        /// What the system says.
        cause: io::Error,
    },
}

/// Checks that only root can change what `path` leads to: the file, each folder above it, and each link on the way.
///
/// # Errors
/// The first part of the way that others can change.
pub fn only_root_changes(path: &Path) -> Result<(), Weak> {
    // A test's machine of its own is below a folder that everybody may write to.
    let machine = super::test_root().and_then(|root| root.parent().map(Path::to_owned));
    if machine.is_some_and(|machine| path.starts_with(machine)) { Ok(()) } else { walk(path, Path::new("/"), 0) }
}

/// Checks it where this process is root; else what it runs has no more power than whoever runs it.
///
/// # Errors
/// As [`only_root_changes`].
pub fn may_run(path: &Path) -> Result<(), Weak> {
    if rustix::process::geteuid().is_root() { only_root_changes(path) } else { Ok(()) }
}

/// Goes from `base`, which nobody but `owner` changes, to `path`.
fn walk(path: &Path, base: &Path, owner: u32) -> Result<(), Weak> {
    let unknown = |path: &Path, cause| Weak::Unknown { path: path.to_owned(), cause };
    let absolute = std::path::absolute(path).map_err(|e| unknown(path, e))?;
    let steps = |path: &Path| -> Vec<OsString> {
        let of = |part: Component<'_>| match part {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some("..".into()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
        };
        path.components().rev().filter_map(of).collect()
    };
    // What is still to go, the next step last.
    let mut ahead = steps(absolute.strip_prefix(base).unwrap_or(&absolute));
    let (mut here, mut links) = (base.to_owned(), 0);
    check(&here, owner)?;
    while let Some(step) = ahead.pop() {
        if step == ".." {
            here.pop();
            continue;
        }
        here.push(step);
        if !check(&here, owner)? {
            continue;
        }
        links += 1;
        let target = std::fs::read_link(&here).map_err(|e| unknown(&here, e))?;
        if links > LINKS {
            return Err(unknown(path, io::Error::from(rustix::io::Errno::LOOP)));
        }
        here.pop();
        if target.is_absolute() {
            // Not below the base any more: from the root, all of it counts.
            here = PathBuf::from("/");
            check(&here, owner)?;
        }
        ahead.extend(steps(&target));
    }
    Ok(())
}

/// Checks one part of the way; whether it is a link.
fn check(path: &Path, owner: u32) -> Result<bool, Weak> {
    let meta = path.symlink_metadata().map_err(|cause| Weak::Unknown { path: path.to_owned(), cause })?;
    let is_link = meta.file_type().is_symlink();
    if meta.uid() != owner {
        return Err(Weak::Owner { path: path.to_owned(), uid: meta.uid() });
    }
    // The mode of a link says nothing.
    if !is_link && meta.mode() & OTHERS != 0 {
        return Err(Weak::Writable { path: path.to_owned(), mode: meta.mode() & 0o7777 });
    }
    Ok(is_link)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn mode(path: &Path, mode: u32) {
        std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    }

    #[test]
    fn every_part_of_the_way_counts() {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().canonicalize().unwrap();
        let uid = base.symlink_metadata().unwrap().uid();
        let at = |name: &str| base.join(name);
        for folder in ["opt/bin", "usr/bin"] {
            std::fs::create_dir_all(at(folder)).unwrap();
            mode(&at(folder), 0o755);
            mode(at(folder).parent().unwrap(), 0o755);
        }
        let (program, link) = (at("opt/bin/program"), at("usr/bin/program"));
        std::fs::write(&program, "").unwrap();
        mode(&program, 0o755);
        symlink("../../opt/bin/program", &link).unwrap();
        let weak = |path: &Path| match walk(path, &base, uid) {
            Ok(()) => None,
            Err(Weak::Owner { path, .. } | Weak::Writable { path, .. } | Weak::Unknown { path, .. }) => Some(path),
        };
        assert_eq!((weak(&program), weak(&link)), (None, None));
        for part in ["opt", "opt/bin", "opt/bin/program"] {
            for open in [0o775, 0o757, 0o1777] {
                mode(&at(part), open);
                assert_eq!((weak(&program), weak(&link)), (Some(at(part)), Some(at(part))), "{open:o}");
            }
            mode(&at(part), 0o755);
        }
        // A folder that is only on the way of the link.
        mode(&at("usr/bin"), 0o777);
        assert_eq!((weak(&program), weak(&link)), (None, Some(at("usr/bin"))));
        mode(&at("usr/bin"), 0o755);
        assert!(matches!(walk(&program, &base, uid + 1), Err(Weak::Owner { .. })));
        assert_eq!(weak(&at("opt/none")), Some(at("opt/none")));
        symlink(at("ring"), at("ring")).unwrap();
        assert!(weak(&at("ring")).is_some());
    }

    #[test]
    fn program_in_a_shared_folder_is_weak_and_a_system_tool_is_not() {
        let dir = tempfile::tempdir_in("/tmp").unwrap();
        assert!(only_root_changes(&dir.path().join("program")).is_err());
        let sh = crate::exec::find("sh").unwrap();
        assert!(only_root_changes(&sh).is_ok(), "{:?}", only_root_changes(&sh));
    }
}
