//! What Claude MPM's pages ask about the project and the version. The monitor looks into no project: of agents, skills and
//! their sources it says that it cannot tell, rather than that there are none and all is well.

use std::path::{Path, PathBuf};

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use hyper::ext::ReasonPhrase;
use serde_json::{Value, json};

use super::answer::{Refusal, json};
use super::beneath;
use crate::build;

/// The longest `HEAD` of a repository that is read, bytes.
const LONGEST_HEAD: u64 = 4096;

/// The original numbers its builds; ours has a name instead, in a member of its own.
/// `GET /version.json`.
pub async fn version() -> Response {
    json(StatusCode::OK, &numbers())
}

fn numbers() -> Value {
    json!({
        "version": build::VERSION,
        "build": 0,
        "formatted_build": "0000",
        "full_version": format!("v{}-build.0", build::VERSION),
        "service": "unified-monitor",
        "build_id": build::ID,
    })
}

/// `GET /api/working-directory`.
pub async fn working_directory() -> Response {
    match here() {
        Ok(path) => json(StatusCode::OK, &json!({"working_directory": path.to_string_lossy(), "success": true})),
        Err(refusal) => refusal.into_response(),
    }
}

/// `GET /api/config`.
pub async fn config() -> Response {
    let path = match here() {
        Ok(path) => path,
        Err(refusal) => return refusal.into_response(),
    };
    let looked_in = path.clone();
    let branch = tokio::task::spawn_blocking(move || branch(&looked_in)).await.ok().flatten();
    let body = json!({
        "workingDirectory": path.to_string_lossy(),
        "gitBranch": branch.as_deref().unwrap_or("Unknown"),
        "serverTime": format!("{:.6}", jiff::Timestamp::now()),
        "service": "unified-monitor",
    });
    json(StatusCode::OK, &body)
}

fn here() -> Result<PathBuf, Refusal> {
    std::env::current_dir().map_err(|e| Refusal::internal(format!("the working directory is gone: {e}")))
}

/// The branch of the repository that `dir` is in, read without git: none outside of one. A detached head is named by the
/// start of its commit.
fn branch(dir: &Path) -> Option<String> {
    let dot_git = dir.ancestors().map(|d| d.join(".git")).find(|p| p.exists())?;
    let folder = if dot_git.is_file() {
        // A further worktree or a submodule: a file that says where its folder is.
        let said = read(&dot_git)?;
        dot_git.parent()?.join(said.strip_prefix("gitdir:")?.trim())
    } else {
        dot_git
    };
    let head = read(&folder.join("HEAD"))?;
    let head = head.trim();
    match head.strip_prefix("ref:") {
        Some(name) => name.trim().strip_prefix("refs/heads/").map(str::to_owned),
        // A commit's number and nothing else: the file may be a link to another one.
        None if matches!(head.len(), 40 | 64) && head.bytes().all(|b| b.is_ascii_hexdigit()) => {
            Some(head[..7].to_owned())
        }
        None => None,
    }
}

fn read(path: &Path) -> Option<String> {
    beneath::short_text(path, LONGEST_HEAD)
}

/// What everything below `/api/config` is answered with. Claude MPM's page shows the reason phrase of a failure, and our
/// own words only where it is none; the program that asks reads the body.
pub async fn unavailable() -> Response {
    let message =
        "unavailable: mpm-monitor does not look into a project's agents, skills and settings; ask claude-mpm there";
    let mut response = Refusal::new(StatusCode::NOT_FOUND, "project_unavailable", message).into_response();
    response.extensions_mut().insert(ReasonPhrase::from_static(PHRASE));
    response
}

/// The reason phrase of [`unavailable`].
const PHRASE: &[u8] = b"Unavailable here (mpm-monitor does not look into the project)";

/// The paths of Claude MPM's page below `/api/config`.
pub const PATHS: [(&str, &str); 15] = [
    ("/project/summary", "What Claude MPM's page asks of a project: project, summary"),
    ("/agents/deployed", "What Claude MPM's page asks of a project: agents, deployed"),
    ("/agents/available", "What Claude MPM's page asks of a project: agents, available"),
    ("/agents/collections", "What Claude MPM's page asks of a project: agents, collections"),
    ("/agents/{name}/detail", "An agent of the project"),
    ("/skills/deployed", "What Claude MPM's page asks of a project: skills, deployed"),
    ("/skills/available", "What Claude MPM's page asks of a project: skills, available"),
    ("/skills/deployment-mode", "What Claude MPM's page asks of a project: skills, deployment-mode"),
    ("/skills/{name}/detail", "A skill of the project"),
    ("/sources", "What Claude MPM's page asks of a project: sources"),
    ("/sources/sync-status", "What Claude MPM's page asks of a project: sources, sync-status"),
    ("/skill-links/", "What Claude MPM's page asks of a project: skill-links"),
    ("/skill-links/agent/{name}", "The skills of an agent of the project"),
    ("/validate", "What Claude MPM's page asks of a project: validate"),
    ("/active-sessions", "What Claude MPM's page asks of a project: active-sessions"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_branch_is_found_from_below_in_a_worktree_and_detached() {
        let dir = tempfile::tempdir().unwrap();
        let (repo, tree) = (dir.path().join("repo"), dir.path().join("tree"));
        std::fs::create_dir_all(repo.join(".git/worktrees/tree")).unwrap();
        std::fs::create_dir_all(repo.join("deep/er")).unwrap();
        std::fs::create_dir_all(&tree).unwrap();
        std::fs::write(repo.join(".git/HEAD"), "ref: refs/heads/feature/x\n").unwrap();
        assert_eq!(branch(&repo.join("deep/er")).as_deref(), Some("feature/x"));
        std::fs::write(tree.join(".git"), "gitdir: ../repo/.git/worktrees/tree\n").unwrap();
        assert_eq!(branch(&tree), None, "no HEAD there yet");
        std::fs::write(repo.join(".git/worktrees/tree/HEAD"), "0123456789abcdef0123456789abcdef01234567\n").unwrap();
        assert_eq!(branch(&tree).as_deref(), Some("0123456"));
        std::fs::write(dir.path().join("secret"), "hunter2-and-more\n").unwrap();
        std::fs::remove_file(repo.join(".git/HEAD")).unwrap();
        std::os::unix::fs::symlink("../../secret", repo.join(".git/HEAD")).unwrap();
        assert_eq!(branch(&repo), None, "nothing of a file that is none of git's");
        std::fs::remove_file(repo.join(".git/HEAD")).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(repo.join(".git/HEAD")).status().unwrap().success());
        assert_eq!(branch(&repo), None, "nobody waits for a pipe");
    }
}
