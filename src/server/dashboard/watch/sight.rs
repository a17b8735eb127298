//! What is where a dashboard's folders should be, and what has to be watched to hear of every change of it.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};

/// The most links on the way to a folder, as for the kernel.
const MOST_LINKS: usize = 40;

/// A look at the folders. Two that are equal are of the same folders, however much is in them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sight {
    /// The folders where they really are, none below another one, each with what identifies it.
    pub roots: Vec<(PathBuf, (u64, u64))>,
    /// The links on the way to them, each below a folder that is really there. The folder that a link leads to says
    /// nothing when the link is made to lead elsewhere.
    pub links: Vec<PathBuf>,
}

impl Sight {
    /// Looks at these folders. Blocks.
    ///
    /// # Errors
    /// What the system says of the first one that is not there.
    pub fn of(folders: &[PathBuf]) -> io::Result<Self> {
        let (mut roots, mut links) = (Vec::new(), Vec::new());
        for folder in folders {
            let real = resolve(folder, &mut links)?;
            let is = real.metadata()?;
            if !is.is_dir() {
                return Err(io::ErrorKind::NotADirectory.into());
            }
            roots.push((real, (is.dev(), is.ino())));
        }
        roots.sort();
        roots.dedup();
        let all = roots.clone();
        roots.retain(|(root, _)| !all.iter().any(|(other, _)| root != other && root.starts_with(other)));
        links.sort();
        links.dedup();
        Ok(Self { roots, links })
    }

    /// The folders of the links that are not watched anyway.
    pub fn folders_of_links(&self) -> Vec<&Path> {
        let mut folders: Vec<&Path> = self.links.iter().filter_map(|link| link.parent()).collect();
        folders.retain(|folder| !self.roots.iter().any(|(root, _)| folder.starts_with(root)));
        folders.dedup();
        folders
    }
}

/// The real path, with the links on the way.
fn resolve(path: &Path, links: &mut Vec<PathBuf>) -> io::Result<PathBuf> {
    let mut real = PathBuf::new();
    let mut rest: Vec<PathBuf> = parts(path);
    let mut followed = 0;
    while let Some(part) = rest.pop() {
        match part.components().next() {
            Some(Component::RootDir | Component::Prefix(_)) => real = part,
            Some(Component::ParentDir) => {
                real.pop();
            }
            Some(Component::Normal(_)) => {
                let next = real.join(&part);
                if !next.symlink_metadata()?.is_symlink() {
                    real = next;
                    continue;
                }
                followed += 1;
                if followed > MOST_LINKS {
                    return Err(io::Error::other("too many links"));
                }
                rest.extend(parts(&next.read_link()?));
                links.push(next);
            }
            Some(Component::CurDir) | None => {}
        }
    }
    Ok(real)
}

/// The parts of a path, the first one last.
fn parts(path: &Path) -> Vec<PathBuf> {
    path.components().rev().map(|part| PathBuf::from(part.as_os_str())).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn folders_are_found_through_links_and_what_is_below_another_is_no_root() {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().canonicalize().unwrap();
        fs::create_dir_all(base.join("one/static/build")).unwrap();
        fs::create_dir_all(base.join("two/static")).unwrap();
        symlink("one", base.join("current")).unwrap();
        symlink(base.join("one/static/build"), base.join("two/static/build")).unwrap();
        let look = |paths: &[&str]| {
            let sight = Sight::of(&paths.iter().map(|p| base.join(p)).collect::<Vec<_>>()).unwrap();
            let short = |path: &Path| path.strip_prefix(&base).unwrap().display().to_string();
            let roots: Vec<String> = sight.roots.iter().map(|(root, _)| short(root)).collect();
            let links: Vec<String> = sight.links.iter().map(|l| short(l)).collect();
            let folders: Vec<String> = sight.folders_of_links().into_iter().map(short).collect();
            (roots.join(" "), links.join(" "), folders.join(" "))
        };
        let owned = |a: &str, b: &str, c: &str| (a.to_owned(), b.to_owned(), c.to_owned());
        assert_eq!(look(&["one/static/build", "one/static"]), owned("one/static", "", ""));
        assert_eq!(look(&["current/static"]), owned("one/static", "current", ""));
        assert_eq!(look(&["two/static/build"]), owned("one/static/build", "two/static/build", "two/static"));
        // The folder of the link is a root itself, and is watched as that.
        let both = look(&["two/static/build", "two/static"]);
        assert_eq!(both, owned("one/static/build two/static", "two/static/build", ""));
    }

    #[test]
    fn another_folder_in_the_same_place_is_another_sight() {
        let dir = tempfile::tempdir().unwrap();
        let build = dir.path().join("build");
        fs::create_dir(&build).unwrap();
        let folders = [build.clone()];
        let before = Sight::of(&folders).unwrap();
        fs::write(build.join("x"), "x").unwrap();
        assert_eq!(Sight::of(&folders).unwrap(), before);
        fs::rename(&build, dir.path().join("old")).unwrap();
        assert!(Sight::of(&folders).is_err());
        fs::create_dir(&build).unwrap();
        assert_ne!(Sight::of(&folders).unwrap(), before);
    }

    #[test]
    fn a_ring_of_links_and_a_file_are_no_folders() {
        let dir = tempfile::tempdir().unwrap();
        symlink("ring", dir.path().join("ring")).unwrap();
        fs::write(dir.path().join("file"), "").unwrap();
        for name in ["ring", "file", "none"] {
            assert!(Sight::of(&[dir.path().join(name)]).is_err(), "{name}");
        }
    }
}
