//! What the service's user may do with files. Who judges that as somebody else asks the kernel in that user's name: a child
//! that took this user's rights looks, so that access lists and groups count as they do for the service.

use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, CWD, accessat};

use super::Subject;
use super::merged::Merged;
use service::exec::{self, QUICK};
use service::{Kind, Scope};

/// The user whose rights count.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Account {
    /// The one who asks.
    #[default]
    Own,
    /// Another, in whose name root asks.
    Other(String),
    /// One that nobody but root can ask for.
    Unknown,
}

/// What is to be done with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Read it.
    Read,
    /// Write it, or into it.
    Write,
    /// Run it, or pass through it.
    Pass,
}

impl Account {
    /// The one that a service runs as.
    pub fn of(subject: &Subject, unit: &Merged) -> Self {
        let user = match unit.get("User") {
            "" if unit.get("LoadState") == "loaded" => "root",
            "" => "mpm-monitor",
            user => user,
        };
        match subject.scope {
            Scope::User => Self::Own,
            Scope::System if subject.paths.kind == Kind::Launchd || !subject.is_root => Self::Unknown,
            Scope::System if user == "root" => Self::Own,
            Scope::System => Self::Other(user.to_owned()),
        }
    }

    /// Whether it may do that; `None` where nobody can tell.
    pub fn may(&self, need: Need, path: &Path) -> Option<bool> {
        match self {
            Self::Own => {
                let access = match need {
                    Need::Read => Access::READ_OK,
                    Need::Write => Access::WRITE_OK,
                    Need::Pass => Access::EXEC_OK,
                };
                Some(accessat(CWD, path, access, AtFlags::EACCESS).is_ok())
            }
            Self::Other(user) => {
                let flag = match need {
                    Need::Read => "-r",
                    Need::Write => "-w",
                    Need::Pass => "-x",
                };
                let path = path.to_str()?;
                let (user, group) = (format!("--reuid={user}"), format!("--regid={}", group_of(user)?));
                let words = [user.as_str(), group.as_str(), "--init-groups", "test", flag, path];
                match exec::tool("setpriv", &words, QUICK).ok()?.code {
                    Some(0) => Some(true),
                    Some(1) => Some(false),
                    _ => None,
                }
            }
            Self::Unknown => None,
        }
    }

    /// The first folder on the way to a file, links followed, or the file itself, that stands in the way; `None` where nothing
    /// does, where the file is not there, or where nobody can tell.
    pub fn blocked(&self, need: Need, path: &Path) -> Option<PathBuf> {
        let mut way = Vec::new();
        follow(path, 0, &mut way);
        let closed = way.into_iter().find(|f| f != path && f.is_dir() && self.may(Need::Pass, f) == Some(false));
        closed.or_else(|| (path.exists() && self.may(need, path) == Some(false)).then(|| path.to_owned()))
    }

    /// Its name, in sentences.
    pub fn name<'a>(&'a self, subject: &'a Subject) -> &'a str {
        match self {
            Self::Other(user) => user,
            Self::Own => &subject.user,
            Self::Unknown => "the service's user",
        }
    }
}

/// Adds every folder and file that the kernel passes on the way to a path.
fn follow(path: &Path, depth: usize, way: &mut Vec<PathBuf>) {
    let mut steps: Vec<&Path> = path.ancestors().collect();
    steps.reverse();
    for step in steps {
        // As many links as the kernel follows.
        if let Some(to) = std::fs::read_link(step).ok().filter(|_| depth < 40) {
            follow(&step.parent().unwrap_or(step).join(to), depth + 1, way);
        }
        if !way.iter().any(|w| w == step) {
            way.push(step.to_owned());
        }
    }
}

fn group_of(user: &str) -> Option<String> {
    let line = exec::tool("getent", &["passwd", user], QUICK).ok()?.success().ok()?;
    line.split(':').nth(3).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::super::tests::subject;
    use super::*;

    #[test]
    fn a_service_runs_as_what_its_unit_says() {
        let unit = |user: &str| {
            let values = [("User".to_owned(), user.to_owned()), ("LoadState".to_owned(), "loaded".to_owned())];
            Merged { values: values.into(), ..Merged::default() }
        };
        let user = subject();
        assert_eq!(Account::of(&user, &unit("x")), Account::Own);
        let system = Subject { scope: Scope::System, ..user };
        assert_eq!(Account::of(&system, &unit("x")), Account::Unknown);
        let root = Subject { is_root: true, ..system };
        assert_eq!(Account::of(&root, &unit("x")), Account::Other("x".into()));
        assert_eq!(Account::of(&root, &unit("")), Account::Own);
    }

    #[test]
    fn the_kernel_is_asked_in_the_users_name() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("f");
        std::fs::write(&file, "").unwrap();
        assert_eq!(Account::Own.blocked(Need::Read, &file), None);
        if !rustix::process::geteuid().is_root() || exec::find("setpriv").is_err() {
            return;
        }
        let nobody = Account::Other("nobody".into());
        std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o700)).unwrap();
        assert_eq!(nobody.blocked(Need::Read, &file), Some(dir.path().to_owned()));
        std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).unwrap();
        assert_eq!(nobody.blocked(Need::Read, &file), Some(file.clone()));
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o644)).unwrap();
        assert_eq!(nobody.blocked(Need::Read, &file), None);
        let (closed, link) = (dir.path().join("closed"), dir.path().join("link"));
        std::fs::create_dir(&closed).unwrap();
        std::fs::rename(&file, closed.join("f")).unwrap();
        std::os::unix::fs::symlink("closed/f", &link).unwrap();
        assert_eq!(nobody.blocked(Need::Read, &link), None);
        std::fs::set_permissions(&closed, PermissionsExt::from_mode(0o700)).unwrap();
        assert_eq!(nobody.blocked(Need::Read, &link), Some(closed));
        assert_eq!(Account::Unknown.blocked(Need::Read, &file), None);
    }
}
