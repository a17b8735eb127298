//! The branch that is checked out, read from git's own files: no process is started for it.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use daemon::guarded::Guard;

/// How many folders up a repository may begin.
const UP: usize = 40;

/// The branch checked out in the repository that a folder belongs to; nothing for a detached head and outside of one.
pub fn of(folder: &str) -> Option<String> {
    let folder = Path::new(folder);
    if !folder.is_absolute() {
        return None;
    }
    let git = folder.ancestors().take(UP).map(|dir| dir.join(".git")).find_map(|git| {
        let meta = fs::metadata(&git).ok()?;
        if meta.is_dir() { Some(git) } else { linked(&git) }
    })?;
    let head = small(&git.join("HEAD"))?;
    let branch = head.trim().strip_prefix("ref:")?.trim();
    Some(branch.strip_prefix("refs/heads/").unwrap_or(branch).to_owned())
}

/// The folder that the file `.git` of a worktree or submodule names.
fn linked(file: &Path) -> Option<PathBuf> {
    let text = small(file)?;
    let path = Path::new(text.trim().strip_prefix("gitdir:")?.trim()).to_owned();
    Some(if path.is_absolute() { path } else { file.parent()?.join(path) })
}

fn small(path: &Path) -> Option<String> {
    let mut text = String::new();
    Guard::linked(4096).open(path).ok()?.take(4096).read_to_string(&mut text).ok()?;
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn branches_of_repositories_worktrees_and_nowhere() {
        let dir = tempfile::tempdir().unwrap();
        let at = |sub: &str| dir.path().join(sub);
        fs::create_dir_all(at("repo/.git/worktrees/w")).unwrap();
        fs::create_dir_all(at("repo/a/b")).unwrap();
        fs::create_dir_all(at("w")).unwrap();
        fs::write(at("repo/.git/HEAD"), "ref: refs/heads/feature/x\n").unwrap();
        fs::write(at("repo/.git/worktrees/w/HEAD"), "0123456789abcdef\n").unwrap();
        fs::write(at("w/.git"), "gitdir: ../repo/.git/worktrees/w\n").unwrap();
        let of = |sub: &str| super::of(at(sub).to_str().unwrap());
        assert_eq!(of("repo/a/b").as_deref(), Some("feature/x"));
        assert_eq!(of("w"), None, "a detached head");
        fs::write(at("repo/.git/worktrees/w/HEAD"), "ref: refs/heads/w").unwrap();
        assert_eq!(of("w").as_deref(), Some("w"));
        assert_eq!((of(""), super::of("relative")), (None, None));
    }
}
