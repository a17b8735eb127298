//! The repository that a file is in. Blocks.
//!
//! git opens what it finds by name, so all that it will follow is looked at first: the folder itself, the common folder of
//! worktrees, the objects and those that they borrow, the references, and every link among them must be within the roots. It is
//! looked at again afterwards; an answer that was made while any of it changed is not given. That a name was another file's
//! for a moment shows in the time of the last change of its folder, which nobody but the system sets.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::server::beneath;
use crate::server::files::error::FileError;
use crate::server::files::roots::Roots;

/// The longest file that says where something is, bytes.
const LONGEST: u64 = 16 << 10;
/// How many stores of objects may borrow from one another.
const STORES: usize = 16;
/// How many objects and references that are files of their own are looked at, and how many folders of them.
const MOST: (usize, usize) = (200_000, 10_000);

/// A repository, as it was when it was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repository {
    /// Its working tree.
    pub top: PathBuf,
    /// What was looked at, by its real path.
    seen: BTreeMap<PathBuf, Stamp>,
}

/// Which file it was, and when it last changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    number: u64,
    changed: (i64, i64),
}

impl Stamp {
    fn of(is: &Metadata) -> Self {
        Self { device: is.dev(), number: is.ino(), changed: (is.ctime(), is.ctime_nsec()) }
    }
}

/// The repository that a file or folder at this real path is in; `None` outside of any.
///
/// # Errors
/// [`FileError::Outside`] when it keeps anything out of the roots, [`FileError::Git`] when it is too large to be looked at.
pub fn find(roots: &Roots, real: &Path) -> Result<Option<Repository>, FileError> {
    for top in real.ancestors() {
        let dot_git = top.join(".git");
        if is_there(&dot_git) && roots.holds(top) {
            return look(roots, top, &dot_git, MOST).map(Some);
        }
    }
    Ok(None)
}

fn look(roots: &Roots, top: &Path, dot_git: &Path, most: (usize, usize)) -> Result<Repository, FileError> {
    let mut look = Look { roots, seen: BTreeMap::new(), listed: BTreeSet::new(), entries: 0, most };
    look.at(top, dot_git)?;
    Ok(Repository { top: top.to_owned(), seen: look.seen })
}

fn is_there(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}

struct Look<'a> {
    roots: &'a Roots,
    seen: BTreeMap<PathBuf, Stamp>,
    /// Folders of which all entries were looked at.
    listed: BTreeSet<PathBuf>,
    entries: usize,
    /// Of entries and of folders.
    most: (usize, usize),
}

impl Look<'_> {
    fn at(&mut self, top: &Path, dot_git: &Path) -> Result<(), FileError> {
        self.within(top)?;
        // git is told not to look further up by a list with colons between its paths, in which none can be written.
        if top.parent().is_some_and(|above| above.as_os_str().as_encoded_bytes().contains(&b':')) {
            return Err(FileError::Git(
                "git cannot be kept to a repository below a folder with a colon in its name".to_owned(),
            ));
        }
        // Where `.git` is none, git takes a folder that looks like one itself, of which nothing was looked at.
        if is_there(&top.join("HEAD")) && (is_there(&top.join("objects")) || is_there(&top.join("commondir"))) {
            return Err(FileError::Outside);
        }
        let mut folder = self.within(dot_git)?;
        if folder.is_file() {
            // A further worktree or a submodule: a file that says where its folder is.
            let said = self.said(&folder)?.unwrap_or_default();
            folder = self.within(&top.join(said.strip_prefix("gitdir: ").ok_or(FileError::Outside)?))?;
        }
        let mut common = folder.clone();
        if let Some(said) = self.said(&folder.join("commondir"))? {
            common = self.within(&folder.join(said))?;
        }
        for file in [folder.join("HEAD"), folder.join("index"), common.join("packed-refs")] {
            if is_there(&file) {
                self.within(&file)?;
            }
        }
        for base in [&folder, &common] {
            for name in ["refs", "reftable"] {
                self.all_of(&base.join(name))?;
            }
        }
        let mut stores = vec![common.join("objects")];
        let mut next = 0;
        while let Some(store) = stores.get(next).cloned() {
            next += 1;
            self.all_of(&store)?;
            let Some(list) = self.said(&store.join("info/alternates"))? else { continue };
            for line in list.split('\n').filter(|line| !line.is_empty() && !line.starts_with('#')) {
                if stores.len() == STORES || line.starts_with('"') {
                    return Err(FileError::Outside);
                }
                match self.within(&store.join(line)) {
                    Ok(store) => stores.push(store),
                    // git does without it; should it be there afterwards, that is seen.
                    Err(FileError::Absent) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }

    /// Where a path really leads, which must be within the roots.
    fn within(&mut self, path: &Path) -> Result<PathBuf, FileError> {
        let real = fs::canonicalize(path)?;
        if !self.roots.holds(&real) {
            tracing::debug!(?path, "a repository keeps something outside of the roots");
            return Err(FileError::Outside);
        }
        // With all folders on the way, each of which could have been another for a moment.
        for path in real.ancestors() {
            if self.seen.contains_key(path) || !self.roots.holds(path) {
                break;
            }
            self.seen.insert(path.to_owned(), Stamp::of(&fs::symlink_metadata(path)?));
        }
        Ok(real)
    }

    /// All that is in a folder, if it is there, and in those in it: no link may lead out of the roots.
    fn all_of(&mut self, folder: &Path) -> Result<(), FileError> {
        if !is_there(folder) {
            return Ok(());
        }
        let mut folders = vec![self.within(folder)?];
        while let Some(folder) = folders.pop() {
            if !self.listed.insert(folder.clone()) {
                continue;
            }
            for entry in fs::read_dir(&folder)? {
                self.entries += 1;
                if self.entries > self.most.0 || self.seen.len() > self.most.1 {
                    let many = "the repository keeps too many objects and references as files of their own";
                    return Err(FileError::Git(format!("{many}; `git gc` packs them")));
                }
                let entry = entry?;
                let (kind, path) = (entry.file_type()?, entry.path());
                if kind.is_symlink() {
                    match self.within(&path) {
                        Ok(real) if real.is_dir() => folders.push(real),
                        // One that leads nowhere: should it lead somewhere afterwards, that is seen.
                        Ok(_) | Err(FileError::Absent) => {}
                        Err(error) => return Err(error),
                    }
                } else if kind.is_dir() {
                    // What it is in is within the roots, and so is it; if it is another by now, that is seen.
                    self.seen.insert(path.clone(), Stamp::of(&fs::symlink_metadata(&path)?));
                    folders.push(path);
                }
            }
        }
        Ok(())
    }

    /// What a file says about where something is, read as git reads it: whole, but for the ends of lines after it.
    ///
    /// # Errors
    /// [`FileError::Outside`] when it is there and cannot be judged: no file, no text, too long, or not within the roots.
    fn said(&mut self, path: &Path) -> Result<Option<String>, FileError> {
        if !is_there(path) {
            return Ok(None);
        }
        self.within(path).map_err(|_| FileError::Outside)?;
        let text = beneath::short_text(path, LONGEST + 1).filter(|text| text.len() as u64 <= LONGEST);
        text.map(|text| Some(text.trim_end_matches(['\n', '\r']).to_owned())).ok_or(FileError::Outside)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::super::super::rules::Rules;
    use super::*;
    use crate::server::files::places::Sessions;

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
        let roots = Roots::new(rules, None, &[], Sessions::default());
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
        // Links among the objects and references, however deep.
        let objects = base.join("root/good/.git/objects");
        fs::create_dir_all(objects.join("pack")).unwrap();
        fs::create_dir_all(base.join("root/good/.git/refs/heads/deep")).unwrap();
        fs::write(base.join("outside/pack"), "").unwrap();
        symlink("../../../none", objects.join("cd")).unwrap();
        symlink("pack", objects.join("ring")).unwrap();
        symlink("..", objects.join("pack/ring")).unwrap();
        assert!(find("root/good/file").unwrap().is_some(), "links that lead nowhere, and round in a ring, are fine");
        for (target, link) in [
            ("../../../../outside", "objects/ab"),
            ("../../../../../outside/pack", "objects/pack/pack-1.pack"),
            ("../../../../../../outside/pack", "refs/heads/deep/main"),
        ] {
            let link = base.join("root/good/.git").join(link);
            symlink(target, &link).unwrap();
            assert_eq!(find("root/good/file"), Err("outside_roots"), "{link:?}");
            assert_eq!(find("root/borrow/file").is_ok(), link.to_str().unwrap().contains("refs"), "{link:?}");
            fs::remove_file(link).unwrap();
        }
        // A folder that git would take for the repository if `.git` were none.
        for name in ["HEAD", "objects"] {
            fs::write(base.join("root/good").join(name), "").unwrap();
        }
        assert_eq!(find("root/good/file"), Err("outside_roots"));
        fs::remove_file(base.join("root/good/HEAD")).unwrap();

        let (top, dot_git) = (base.join("root/good"), base.join("root/good/.git"));
        let bounded = |most| look(&roots, &top, &dot_git, most).map_err(|e| e.code());
        let whole = bounded(MOST).unwrap();
        assert_eq!((bounded((3, 99)), bounded((99, 3))), (Err("git_failed"), Err("git_failed")), "bounded");
        assert_eq!(bounded((99, 99)), Ok(whole.clone()));
        // What was another for a moment is not as it was, though it is the same again.
        let (now, aside) = (base.join("root/good"), base.join("root/aside"));
        fs::rename(&now, &aside).unwrap();
        fs::rename(&aside, &now).unwrap();
        assert_ne!(bounded(MOST), Ok(whole));
    }
}
