//! The repository that a file is in. Blocks.
//!
//! git opens what it finds by name, so all that it will follow is looked at first: the folder itself, the common folder of
//! worktrees, the objects and those that they borrow must be within the roots. It is looked at again afterwards; an answer
//! that was made while any of it changed is not given.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::server::beneath;
use crate::server::files::error::FileError;
use crate::server::files::roots::Roots;

/// The longest file that says where something is, bytes.
const LONGEST: u64 = 16 << 10;
/// How many stores of objects may borrow from one another.
const STORES: usize = 16;

/// A repository, as it was when it was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repository {
    /// Its working tree.
    pub top: PathBuf,
    /// Which files they were that were looked at: real path, device, number.
    seen: Vec<(PathBuf, u64, u64)>,
}

/// The repository that a file or folder at this real path is in; `None` outside of any.
///
/// # Errors
/// [`FileError::Outside`] when it keeps anything out of the roots.
pub fn find(roots: &Roots, real: &Path) -> Result<Option<Repository>, FileError> {
    for top in real.ancestors() {
        let dot_git = top.join(".git");
        if fs::symlink_metadata(&dot_git).is_ok() && roots.holds(top) {
            return look(roots, top, &dot_git).map(Some);
        }
    }
    Ok(None)
}

fn look(roots: &Roots, top: &Path, dot_git: &Path) -> Result<Repository, FileError> {
    let mut seen = Vec::new();
    let mut must_be_within = |path: &Path| -> Result<PathBuf, FileError> {
        let real = fs::canonicalize(path)?;
        if !roots.holds(&real) {
            tracing::debug!(?top, "a repository keeps something outside of the roots");
            return Err(FileError::Outside);
        }
        let is = fs::symlink_metadata(&real)?;
        seen.push((real.clone(), is.dev(), is.ino()));
        Ok(real)
    };
    must_be_within(top)?;
    let mut folder = must_be_within(dot_git)?;
    if folder.is_file() {
        // A further worktree or a submodule: a file that says where its folder is.
        let said = said(&folder)?.unwrap_or_default();
        folder = must_be_within(&top.join(said.strip_prefix("gitdir: ").ok_or(FileError::Outside)?))?;
    }
    let mut common = folder.clone();
    if let Some(said) = said(&folder.join("commondir"))? {
        common = must_be_within(&folder.join(said))?;
    }
    for (base, names) in [(&folder, &["HEAD", "index"][..]), (&common, &["refs", "packed-refs", "objects"])] {
        for name in names {
            let path = base.join(name);
            if fs::symlink_metadata(&path).is_ok() {
                must_be_within(&path)?;
            }
        }
    }
    let mut stores = vec![common.join("objects")];
    let mut next = 0;
    while let Some(store) = stores.get(next).cloned() {
        next += 1;
        for name in ["pack", "info"] {
            if fs::symlink_metadata(store.join(name)).is_ok() {
                must_be_within(&store.join(name))?;
            }
        }
        let Some(list) = said(&store.join("info/alternates"))? else { continue };
        for line in list.split('\n').filter(|line| !line.is_empty() && !line.starts_with('#')) {
            if stores.len() == STORES || line.starts_with('"') {
                return Err(FileError::Outside);
            }
            match must_be_within(&store.join(line)) {
                Ok(store) => stores.push(store),
                // git does without it; should it be there afterwards, that is seen.
                Err(FileError::Absent) => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(Repository { top: top.to_owned(), seen })
}

/// What a file says about where something is, read as git reads it: whole, but for the ends of lines after it.
///
/// # Errors
/// [`FileError::Outside`] when it is there and cannot be judged: no file, no text, or too long.
fn said(path: &Path) -> Result<Option<String>, FileError> {
    if fs::symlink_metadata(path).is_err() {
        return Ok(None);
    }
    let text = beneath::short_text(path, LONGEST + 1).filter(|text| text.len() as u64 <= LONGEST);
    text.map(|text| Some(text.trim_end_matches(['\n', '\r']).to_owned())).ok_or(FileError::Outside)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::super::super::rules::Rules;
    use super::*;

    #[test]
    fn a_repository_must_be_within_the_roots_with_all_that_it_follows() {
        let dir = tempfile::tempdir().unwrap();
        let base = fs::canonicalize(dir.path()).unwrap();
        let rules = Rules {
            enabled: true,
            other_users: false,
            home: false,
            sessions: false,
            roots: vec![base.join("root")],
            deny: Vec::new(),
            max_size: 1,
            git: None,
        };
        let roots = Roots::new(rules, None, &[], Vec::new());
        let make = |path: &str| {
            fs::create_dir_all(base.join(path).join("objects/info")).unwrap();
            fs::write(base.join(path).join("HEAD"), "ref: refs/heads/main\n").unwrap();
        };
        let find = |path: &str| find(&roots, &base.join(path)).map(|r| r.map(|r| r.top)).map_err(|e| e.code());
        make("outside/.git");
        make("root/good/.git");
        fs::create_dir_all(base.join("root/good/deep")).unwrap();
        assert_eq!(find("root/good/deep/file"), Ok(Some(base.join("root/good"))));
        assert_eq!(find("root/none/file"), Ok(None));
        assert_eq!(find("outside/file"), Ok(None), "it is not within the roots itself");
        for name in ["link", "file", "common", "objects", "borrow"] {
            make(&format!("root/{name}/.git"));
        }
        let git = |name: &str| base.join("root").join(name).join(".git");
        for name in ["link", "file"] {
            fs::remove_dir_all(git(name)).unwrap();
        }
        symlink("../../outside/.git", git("link")).unwrap();
        fs::write(git("file"), "gitdir: ../../outside/.git\n").unwrap();
        fs::write(git("common").join("commondir"), "../../../outside/.git\n").unwrap();
        fs::remove_dir_all(git("objects").join("objects")).unwrap();
        symlink("../../../outside/.git/objects", git("objects").join("objects")).unwrap();
        fs::write(git("borrow").join("objects/info/alternates"), "../../../../outside/.git/objects\n").unwrap();
        for name in ["link", "file", "common", "objects", "borrow"] {
            assert_eq!(find(&format!("root/{name}/file")), Err("outside_roots"), "{name}");
        }
        // What git reads in another way than a person would.
        let alternates = git("borrow").join("objects/info/alternates");
        let inside = "../../../good/.git/objects\n";
        for bad in [
            b"\"../../../../outside/.git/objects\"\n".to_vec(),
            [inside.as_bytes(), b"/x\xff\n"].concat(),
            [inside.repeat(1000).as_bytes(), b"../../../../outside/.git/objects\n"].concat(),
        ] {
            fs::write(&alternates, bad).unwrap();
            assert_eq!(find("root/borrow/file"), Err("outside_roots"));
        }
        fs::create_dir_all(base.join("root/good/.git\n")).unwrap();
        fs::write(git("file"), "gitdir: ../good/.git\n/../../../outside/.git\n").unwrap();
        assert_eq!(find("root/file/file"), Err("outside_roots"));
        fs::write(alternates, inside).unwrap();
        assert!(find("root/borrow/file").unwrap().is_some(), "what is borrowed within the roots is fine");
    }
}
