//! What Claude MPM's pages ask about the project and the version. The monitor serves no project of its own, so
//! everything about agents, skills and their sources is what a fresh project would answer, and nothing can be changed.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::Router;
use axum::extract::Path as Segment;
use axum::http::header::CACHE_CONTROL;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::{Value, json};

use super::answer::{Refusal, json};
use super::beneath;
use super::routes::App;
use crate::build;

/// The longest `HEAD` of a repository that is read, bytes.
const LONGEST_HEAD: u64 = 4096;

/// The routes.
pub fn router() -> Router<Arc<App>> {
    let mut router = Router::new()
        .route("/version.json", get(async || json(StatusCode::OK, &version())))
        .route("/api/working-directory", get(working_directory))
        .route("/api/config", get(config))
        .route("/api/config/agents/{name}/detail", get(no_agent))
        .route("/api/config/skill-links/agent/{name}", get(no_agent))
        .route("/api/config/skills/{name}/detail", get(skill));
    for (path, body) in fresh_project() {
        let answer = move || async move {
            let mut response = json(StatusCode::OK, &body);
            if let Some(rule) = caching(path) {
                response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static(rule));
            }
            response
        };
        router = router.route(&format!("/api/config{path}"), get(answer));
    }
    router
}

/// The original numbers its builds; ours has a name instead, in a member of its own.
fn version() -> Value {
    json!({
        "version": build::VERSION,
        "build": 0,
        "formatted_build": "0000",
        "full_version": format!("v{}-build.0", build::VERSION),
        "service": "unified-monitor",
        "build_id": build::ID,
    })
}

async fn working_directory() -> Response {
    match here() {
        Ok(path) => json(StatusCode::OK, &json!({"working_directory": path.to_string_lossy(), "success": true})),
        Err(refusal) => refusal.into_response(),
    }
}

async fn config() -> Response {
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

async fn no_agent(Segment(name): Segment<String>) -> Response {
    let name: String = name.chars().take(200).collect();
    Refusal::new(StatusCode::NOT_FOUND, "NOT_FOUND", format!("there is no agent {name}")).into_response()
}

async fn skill(Segment(name): Segment<String>) -> Response {
    let data = json!({"name": name, "used_by_agents": [], "agent_count": 0});
    json(StatusCode::OK, &json!({"success": true, "data": data}))
}

/// How long browsers keep an answer, where the original lets them.
fn caching(path: &str) -> Option<&'static str> {
    match path {
        "/agents/available" => Some("private, max-age=60"),
        "/skills/available" => Some("private, max-age=120"),
        "/skill-links/" => Some("private, max-age=30"),
        _ => None,
    }
}

/// The paths below `/api/config` that need no argument, with the answers of a project in which nothing is set up.
fn fresh_project() -> Vec<(&'static str, Value)> {
    let scope = "project";
    let summary = json!({
        "deployment_mode": "selective",
        "agents": {"deployed": 0, "available": 0},
        "skills": {"deployed": 0, "available": 0},
        "sources": {"agent_sources": 0, "skill_sources": 0},
    });
    let links = json!({"total_agents": 0, "total_skills": 0, "total_links": 0});
    vec![
        ("/project/summary", json!({"success": true, "scope": scope, "data": summary})),
        ("/agents/deployed", json!({"success": true, "scope": scope, "agents": [], "total": 0})),
        ("/agents/available", json!({"success": true, "agents": [], "total": 0})),
        ("/agents/collections", json!({"success": true, "collections": [], "total": 0})),
        (
            "/skills/deployed",
            json!({"success": true, "scope": scope, "skills": [], "total": 0, "claude_skills_dir": ""}),
        ),
        ("/skills/available", json!({"success": true, "skills": [], "total": 0})),
        (
            "/skills/deployment-mode",
            json!({"success": true, "scope": scope, "mode": "selective", "counts": {}, "explanation": ""}),
        ),
        ("/sources", json!({"success": true, "sources": [], "total": 0})),
        ("/sources/sync-status", json!({"success": true, "is_syncing": false, "active_jobs": [], "last_results": {}})),
        (
            "/skill-links/",
            json!({"success": true, "scope": scope, "by_agent": [], "by_skill": {}, "stats": links, "total_agents": 0}),
        ),
        (
            "/validate",
            json!({"success": true, "valid": true, "issues": [], "scope": scope,
                   "summary": {"errors": 0, "warnings": 0, "info": 0}}),
        ),
        (
            "/active-sessions",
            json!({"success": true, "active_sessions": [], "has_active_sessions": false, "warning_message": null}),
        ),
    ]
}

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

    #[test]
    fn every_answer_of_a_fresh_project_is_a_success_at_a_path_of_its_own() {
        let all = fresh_project();
        assert!(all.iter().all(|(path, body)| path.starts_with('/') && body["success"] == true));
        let paths: std::collections::BTreeSet<_> = all.iter().map(|(path, _)| path).collect();
        assert_eq!(paths.len(), all.len());
    }
}
