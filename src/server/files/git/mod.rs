//! What clients ask about the repository that a file is in.
//!
//! git looks at what is committed; what is in the working tree is read here and handed to it, so that it neither follows a
//! link out of the roots nor runs a repository's filters.

pub mod repo;
mod run;
mod text;

use std::fs::{DirBuilder, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

pub use self::run::Git;
pub use self::text::{Commit, Past, is_commit_name};
use super::error::FileError;

/// The most of a diff that is sent, bytes.
pub const DIFF: usize = 2 << 20;
/// The most of a list that is read, bytes.
const LIST: usize = 1 << 20;

/// How many commits stand beside a diff.
const BESIDE: usize = 5;

/// What `GET /api/file/diff` tells of a file that git knows.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Changes {
    /// The diff that was asked for.
    pub diff: String,
    /// Whether there is more of it.
    pub cut: bool,
    /// The newest commits of the file.
    pub history: Vec<Past>,
    /// Whether it differs from what is committed.
    pub has_uncommitted: bool,
}

/// The commits of a file, newest first; none in a repository without commits.
///
/// # Errors
/// When git does not answer.
pub async fn history(git: &Git, path: &str, limit: usize) -> Result<Vec<Commit>, FileError> {
    Ok(text::history(&log(git, path, limit).await?, limit))
}

async fn log(git: &Git, path: &str, limit: usize) -> Result<String, FileError> {
    let most = format!("--max-count={limit}");
    let arguments = ["log", &most, "--no-show-signature", "--no-mailmap", "--no-color", text::FORMAT, "--", path];
    let said = git.run(&arguments, LIST).await?;
    Ok(if said.is_good() { said.text() } else { String::new() })
}

/// The changes of a file whose content is `now`: those of one commit, or those that are not committed. `None` if git does not
/// know it. `scratch` is a folder that only we may look into.
///
/// # Errors
/// When git does not answer, or the committed file is larger than `most`.
pub async fn changes(
    git: &Git,
    path: &str,
    now: &[u8],
    commit: Option<&str>,
    (most, scratch): (usize, &Path),
) -> Result<Option<Changes>, FileError> {
    let listed = git.run(&["ls-files", "--stage", "-z", "--", path], LIST).await?;
    if !listed.is_good() || listed.out.is_empty() {
        return Ok(None);
    }
    let past = text::past(&log(git, path, BESIDE).await?, BESIDE);
    let (uncommitted, cut) = uncommitted(git, path, now, (most, scratch)).await?;
    let mut changes = Changes { has_uncommitted: !uncommitted.is_empty(), history: past, diff: uncommitted, cut };
    if let Some(commit) = commit {
        (changes.diff, changes.cut) = show(git, path, commit).await?;
    }
    Ok(Some(changes))
}

async fn uncommitted(
    git: &Git,
    path: &str,
    now: &[u8],
    (most, scratch): (usize, &Path),
) -> Result<(String, bool), FileError> {
    let tree = git.run(&["ls-tree", "-z", "--full-tree", "HEAD", "--", path], LIST).await?;
    if !tree.is_good() {
        // There is no commit yet.
        return Ok(Default::default());
    }
    let tree = tree.text();
    let entry = text::tree_entry(&tree);
    let committed = match entry {
        None => Vec::new(),
        Some((_, number)) => {
            let blob = git.run(&["cat-file", "blob", number], most).await?;
            if blob.cut {
                return Err(FileError::TooLarge { size: most as u64 + 1, limit: most as u64 });
            }
            blob.out
        }
    };
    if entry.is_some() && committed == now {
        return Ok(Default::default());
    }
    let said = compare(git, committed, now.to_vec(), scratch.to_owned()).await?;
    Ok((text::named_diff(&said.text(), path, entry.map(|(mode, _)| mode)), said.cut))
}

/// Has git compare two contents, in a folder of its own, in which it knows of no repository.
async fn compare(git: &Git, old: Vec<u8>, new: Vec<u8>, scratch: PathBuf) -> Result<run::Said, FileError> {
    let written = tokio::task::spawn_blocking(move || {
        // Both may hold what only the user may read.
        match DirBuilder::new().mode(0o700).create(&scratch) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        let dir =
            tempfile::Builder::new().prefix("diff-").permissions(Permissions::from_mode(0o700)).tempdir_in(scratch)?;
        for (name, bytes) in [("old", old), ("new", new)] {
            let mut options = OpenOptions::new();
            let mut file = options.write(true).create_new(true).mode(0o600).open(dir.path().join(name))?;
            file.write_all(&bytes)?;
        }
        io::Result::Ok(dir)
    });
    let dir = written.await.map_err(io::Error::other)??;
    let git = Git { program: git.program.clone(), top: dir.path().to_owned() };
    let said = git
        .run(
            &[
                "diff",
                "--no-index",
                "--no-ext-diff",
                "--no-textconv",
                "--no-color",
                "--abbrev=7",
                "-U3",
                "--",
                "old",
                "new",
            ],
            DIFF,
        )
        .await;
    // Away from the thread that serves.
    drop(tokio::task::spawn_blocking(move || drop(dir)));
    said
}

async fn show(git: &Git, path: &str, commit: &str) -> Result<(String, bool), FileError> {
    let named = format!("{commit}^{{commit}}");
    let number = git.run(&["rev-parse", "--verify", "--quiet", "--end-of-options", &named], 256).await?;
    if !number.is_good() {
        return Ok(Default::default());
    }
    let number = number.text();
    let number = number.trim();
    let arguments = [
        "show",
        "--no-show-signature",
        "--no-mailmap",
        "--no-notes",
        "--no-color",
        "--no-ext-diff",
        "--no-textconv",
        "--submodule=short",
        "--src-prefix=a/",
        "--dst-prefix=b/",
        "--format=medium",
        number,
        "--",
        path,
    ];
    let said = git.run(&arguments, DIFF).await?;
    Ok(if said.is_good() { (text::only_of(&said.text(), path), said.cut) } else { Default::default() })
}

/// A path below `top` as git wants it.
pub fn below<'a>(top: &Path, real: &'a Path) -> Option<&'a str> {
    real.strip_prefix(top).ok()?.to_str().filter(|path| !path.is_empty())
}
