//! The folders that clients may read in, and what is opened in them. All of it blocks.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use cap_std::ambient_authority;
use cap_std::fs::{Dir, Metadata, MetadataExt as _};

use super::asked::Asked;
use super::error::FileError;
use super::places::Sessions;
use super::rules::{self, Rules, Secrets};
use crate::server::beneath;

/// What may be read now; made anew for each question, so that what is asked is what is there now.
#[derive(Debug)]
pub struct Roots {
    rules: Rules,
    secrets: Secrets,
    home: Option<PathBuf>,
    /// What is the monitor's own: token, events. Real paths.
    own: Vec<PathBuf>,
    sessions: Sessions,
    /// The real paths of the roots that the settings name, and of those of sessions, once one has asked.
    settled: OnceLock<Vec<PathBuf>>,
    of_sessions: OnceLock<Vec<PathBuf>>,
}

/// A folder that may be read, open.
#[derive(Debug)]
struct Root {
    dir: Dir,
    real: PathBuf,
}

/// A file or folder within a root, open.
#[derive(Debug)]
pub struct Opened<T> {
    /// It.
    pub it: T,
    /// What the system says of it.
    pub is: Metadata,
    /// Where it really is.
    pub real: PathBuf,
    root: Root,
    below: PathBuf,
}

impl Opened<Dir> {
    /// Where a link in this folder really leads, and what is there, if that is within the root.
    pub fn follow(&self, name: &str) -> Option<(PathBuf, Metadata)> {
        let below = self.root.dir.canonicalize(self.below.join(name)).ok()?;
        let is = self.root.dir.metadata(&below).ok()?;
        Some((self.root.real.join(below), is))
    }
}

impl Roots {
    /// Of this moment. `home` is the user's, `own` the paths that are the monitor's.
    pub fn new(rules: Rules, home: Option<PathBuf>, own: &[PathBuf], sessions: Sessions) -> Self {
        let own = own.iter().filter_map(|path| std::fs::canonicalize(path).ok()).collect();
        let secrets = Secrets::new(&rules.deny);
        Self { secrets, rules, home, own, sessions, settled: OnceLock::new(), of_sessions: OnceLock::new() }
    }

    /// The rules.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Opens a regular file.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn file(&self, asked: &Asked) -> Result<Opened<File>, FileError> {
        let (root, below) = self.locate(asked)?;
        if below.as_os_str().is_empty() {
            return Err(FileError::NotAFile);
        }
        let opened = beneath::open_regular(&root.dir, &below);
        // A folder cannot be opened this way on every system; whether it may be known of is asked first.
        if opened.is_err()
            && let Ok(dir) = root.dir.open_dir(&below)
        {
            let is = dir.dir_metadata()?;
            self.admit(dir, is, root, below)?;
            return Err(FileError::NotAFile);
        }
        let (file, is) = opened?;
        self.admit(file, is, root, below)
    }

    /// Opens a folder.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn directory(&self, asked: &Asked) -> Result<Opened<Dir>, FileError> {
        let (root, below) = self.locate(asked)?;
        if below.as_os_str().is_empty() {
            let (dir, is) = (root.dir.try_clone()?, root.dir.dir_metadata()?);
            return self.admit(dir, is, root, below);
        }
        let dir = match root.dir.open_dir(&below) {
            Ok(dir) => dir,
            Err(error) => {
                let error = match (error.kind(), FileError::from(error)) {
                    (io::ErrorKind::NotADirectory, _) => FileError::NotADirectory,
                    (_, FileError::Absent) => FileError::NoDirectory,
                    (_, other) => other,
                };
                // Whether a file may be known of is asked first, as above.
                if let Ok((file, is)) = beneath::open_regular(&root.dir, &below) {
                    self.admit(file, is, root, below)?;
                    return Err(FileError::NotADirectory);
                }
                return Err(error);
            }
        };
        let is = dir.dir_metadata()?;
        self.admit(dir, is, root, below)
    }

    /// Whether a real path is within a root, and no secret.
    pub fn holds(&self, real: &Path) -> bool {
        let settled = || {
            let mut all = Vec::new();
            self.open_settled(|_, root| note(&mut all, root));
            all
        };
        let of_sessions = || {
            let mut all = Vec::new();
            self.open_of_session(|_, root| note(&mut all, root));
            all
        };
        let within = |roots: &[PathBuf]| roots.iter().any(|root| real.starts_with(root));
        !self.is_secret(real)
            && (within(self.settled.get_or_init(settled)) || within(self.of_sessions.get_or_init(of_sessions)))
    }

    /// Whether a path is one of the secrets, or the monitor's own.
    pub fn is_secret(&self, path: &Path) -> bool {
        self.secrets.hold(path) || self.own.iter().any(|own| path.starts_with(own))
    }

    /// Which names in a folder, which was admitted, are secrets: quicker than to judge each by its whole path.
    pub fn secrets_of<'a>(&'a self, folder: &'a Path) -> impl Fn(&str) -> bool + 'a {
        let secrets = self.secrets.of(folder);
        let own: Vec<_> = self.own.iter().filter_map(|own| own.strip_prefix(folder).ok()).collect();
        move |name| secrets.hold(name) || own.iter().any(|own| *own == Path::new(name))
    }

    /// What was opened, if it is where it may be read: a link within the root may lead to a secret of it.
    fn admit<T: AsFd>(&self, it: T, is: Metadata, root: Root, below: PathBuf) -> Result<Opened<T>, FileError> {
        let real = beneath::real_path(&it).map_err(FileError::Io)?;
        // One that was removed meanwhile has no path to judge it by.
        if is.nlink() == 0 {
            return Err(FileError::Absent);
        }
        if !real.starts_with(&root.real) {
            return Err(FileError::Outside);
        }
        if self.is_secret(&real) {
            return Err(FileError::Secret);
        }
        Ok(Opened { it, is, real, root, below })
    }

    /// The root that a path is in, and the rest of the path.
    fn locate(&self, asked: &Asked) -> Result<(Root, PathBuf), FileError> {
        if !self.rules.enabled {
            return Err(FileError::Disabled);
        }
        let path = asked.path();
        if self.is_secret(path) {
            return Err(FileError::Secret);
        }
        let below = |named: &Path, root: &Root| {
            let below = path.strip_prefix(named).or_else(|_| path.strip_prefix(&root.real));
            below.ok().map(Path::to_owned)
        };
        self.open_settled(below).or_else(|| self.open_of_session(below)).ok_or(FileError::Outside)
    }

    /// Opens one root of the settings after the other until one is wanted.
    fn open_settled<R>(&self, mut wanted: impl FnMut(&Path, &Root) -> Option<R>) -> Option<(Root, R)> {
        let user = rustix::process::geteuid().as_raw();
        if self.rules.home
            && let Some(home) = &self.home
            && let Some((root, owner)) = open(home)
            && rules::is_home_of_a_person(&root.real, owner, user)
            && let Some(found) = wanted(home, &root)
        {
            return Some((root, found));
        }
        self.rules.roots.iter().find_map(|path| {
            let (root, _) = open(path)?;
            let found = wanted(path, &root)?;
            Some((root, found))
        })
    }

    /// The same of the directories in which sessions run.
    fn open_of_session<R>(&self, mut wanted: impl FnMut(&Path, &Root) -> Option<R>) -> Option<(Root, R)> {
        if !self.rules.sessions {
            return None;
        }
        let user = rustix::process::geteuid().as_raw();
        let home = self.home.as_deref().and_then(open).map(|(home, _)| home.real);
        self.sessions.places().into_iter().find_map(|path| {
            let (root, owner) = open(&path)?;
            if !rules::is_of_a_session(&root.real, owner, user, home.as_deref()) {
                return None;
            }
            let found = wanted(&path, &root)?;
            Some((root, found))
        })
    }
}

/// Notes where a root is, and goes on to the next one.
fn note(all: &mut Vec<PathBuf>, root: &Root) -> Option<()> {
    all.push(root.real.clone());
    None
}

/// A folder with its owner, if it is there. Everything that is then judged is judged of the open folder.
fn open(path: &Path) -> Option<(Root, u32)> {
    let dir = Dir::open_ambient_dir(path, ambient_authority()).ok()?;
    let owner = dir.dir_metadata().ok()?.uid();
    let real = beneath::real_path(&dir).ok()?;
    Some((Root { dir, real }, owner))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_home_of_the_user_is_a_root_unless_the_settings_say_no() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join("home");
        std::fs::create_dir_all(home.join(".ssh")).unwrap();
        for file in ["a", ".ssh/id"] {
            std::fs::write(home.join(file), "x").unwrap();
        }
        let (deny, roots) = (vec![".ssh".to_owned()], Vec::new());
        let mut rules = Rules {
            enabled: true,
            other_users: false,
            home: true,
            sessions: false,
            roots,
            deny,
            max_size: 9,
            git: None,
        };
        let read = |rules: &Rules, path: PathBuf| {
            let roots = Roots::new(rules.clone(), Some(home.clone()), &[home.join("own")], Sessions::default());
            roots.file(&Asked::read(path.to_str().unwrap(), None).unwrap()).map(|f| f.is.len()).map_err(|e| e.code())
        };
        assert_eq!(read(&rules, home.join("a")), Ok(1));
        assert_eq!(read(&rules, std::fs::canonicalize(&home).unwrap().join("a")), Ok(1), "by its real name, too");
        assert_eq!(read(&rules, home.join(".ssh/id")), Err("secret"));
        assert_eq!(read(&rules, dir.path().join("home2")), Err("outside_roots"));
        std::fs::create_dir(home.join("own")).unwrap();
        std::fs::write(home.join("own/events"), "x").unwrap();
        assert_eq!(read(&rules, home.join("own/events")), Err("secret"), "what is the monitor's own");
        rules.home = false;
        assert_eq!(read(&rules, home.join("a")), Err("outside_roots"));
        rules.enabled = false;
        assert_eq!(read(&rules, home.join("a")), Err("files_disabled"));
    }
}
