//! The answers of the original that are about files and repositories, in its shapes.

use std::collections::HashMap;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Query, Request, State};
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Map, Value, json};

use super::asked::{Asked, AskedError};
use super::error::FileError;
use super::{Answer, Files, git, read};
use crate::server::answer::{json, json_bytes, read_body};
use crate::server::routes::App;

/// The largest question, bytes.
const LARGEST_QUESTION: usize = 64 << 10;
/// How many commits are told of unless the request says.
const COMMITS: usize = 10;
/// The most commits of one answer.
const MOST_COMMITS: usize = 1000;

/// What a client that may not ask at all gets, whatever it asks for.
pub fn turned_away(files: &Files, error: FileError) -> Response {
    finish(files, "admission", Err(error), &Value::Null)
}

/// Counts how a question ended, and gives a failure the shape that its route has for it.
fn finish(files: &Files, asked: &'static str, result: Result<Response, FileError>, rest: &Value) -> Response {
    files.count(asked, &result);
    result.unwrap_or_else(|error| failure(error.status(), &error.to_string(), error.code(), rest))
}

fn failure(status: StatusCode, message: &str, code: &str, rest: &Value) -> Response {
    let mut body = json!({"success": false, "error": message, "code": code});
    if let (Some(body), Some(rest)) = (body.as_object_mut(), rest.as_object()) {
        body.extend(rest.clone());
    }
    json(status, &body)
}

/// A question that cannot be asked like this.
fn malformed(files: &Files, asked: &'static str, message: &str, code: &'static str, rest: &Value) -> Response {
    files.0.counters.file_request(asked, code);
    failure(StatusCode::BAD_REQUEST, message, code, rest)
}

/// The path of a query, decoded once.
fn query(uri: &Uri) -> HashMap<String, String> {
    Query::try_from_uri(uri).map(|Query(query)| query).unwrap_or_default()
}

/// A path that a query names; a relative one is below the working directory, as in the original.
fn path(text: &str) -> Result<Asked, FileError> {
    let here = std::env::current_dir().ok();
    Ok(Asked::read(text, here.as_deref())?)
}

/// The object that a question's body is.
async fn object(request: Request<Body>) -> Result<Map<String, Value>, Response> {
    let (head, body) = request.into_parts();
    let body = read_body(&head.headers, body, LARGEST_QUESTION).await.map_err(IntoResponse::into_response)?;
    Ok(serde_json::from_slice(&body).unwrap_or_default())
}

fn success(answer: Answer) -> Response {
    json_bytes(StatusCode::OK, answer.room.held_by(answer.json))
}

/// A file as text: `members` are those of the answer that come before the content.
fn text_answer(mut members: Map<String, Value>, kind: String, bytes: Vec<u8>) -> Result<Vec<u8>, FileError> {
    let size = bytes.len();
    let text = read::text(bytes)?;
    let lines = text.bytes().filter(|b| *b == b'\n').count() + 1;
    members.insert("success".into(), true.into());
    members.insert("content".into(), text.into());
    members.insert("lines".into(), lines.into());
    members.insert("size".into(), size.into());
    members.insert("type".into(), if kind.is_empty() { "text".into() } else { kind.into() });
    serde_json::to_vec(&members).map_err(|e| FileError::Io(e.into()))
}

/// `POST /api/file`.
pub async fn file(State(app): State<Arc<App>>, request: Request<Body>) -> Response {
    const ASKED: &str = "file";
    let (head, body) = request.into_parts();
    let body = match read_body(&head.headers, body, LARGEST_QUESTION).await {
        Ok(body) => body,
        Err(refusal) => return refusal.into_response(),
    };
    let Ok(said) = serde_json::from_slice::<Map<String, Value>>(&body) else {
        return malformed(&app.files, ASKED, "Invalid JSON in request", "not_json", &Value::Null);
    };
    let answer = async {
        let asked = Asked::read(said.get("path").and_then(Value::as_str).unwrap_or_default(), None)?;
        let encode = |asked: &Asked, bytes| text_answer(Map::new(), read::extension(asked.path()), bytes);
        app.files.read(asked, u64::MAX, encode).await.map(success)
    };
    finish(&app.files, ASKED, answer.await, &Value::Null)
}

/// `GET /api/file/read`.
pub async fn file_read(State(app): State<Arc<App>>, uri: Uri) -> Response {
    const ASKED: &str = "read";
    let Some(said) = query(&uri).remove("path").filter(|p| !p.is_empty()) else {
        let code = AskedError::Empty.code();
        return malformed(&app.files, ASKED, "Path parameter required", code, &Value::Null);
    };
    let answer = async { app.files.read(path(&said)?, u64::MAX, shown).await.map(success) };
    finish(&app.files, ASKED, answer.await, &Value::Null)
}

/// A file as pages show it: a picture, or text.
fn shown(asked: &Asked, bytes: Vec<u8>) -> Result<Vec<u8>, FileError> {
    let extension = read::extension(asked.path()).to_lowercase();
    let path = asked.path().to_string_lossy().into_owned();
    let Some(mime) = read::image(&extension) else {
        return text_answer(Map::from_iter([("path".to_owned(), path.into())]), extension, bytes);
    };
    let body = json!({
        "success": true,
        "path": path,
        "content": BASE64_STANDARD.encode(&bytes),
        "size": bytes.len(),
        "type": "image",
        "mime": mime,
        "extension": extension,
    });
    serde_json::to_vec(&body).map_err(|e| FileError::Io(e.into()))
}

/// `GET /api/files`.
pub async fn list(State(app): State<Arc<App>>, uri: Uri) -> Response {
    let answer = async {
        let said = query(&uri).remove("path").filter(|p| !p.is_empty());
        let asked = path(said.as_deref().unwrap_or("."))?;
        let shown = asked.path().to_string_lossy().into_owned();
        let listing = app.files.list(asked).await?;
        let mut body = json!({
            "success": true,
            "path": shown,
            "directories": listing.directories,
            "files": listing.files,
            "total_directories": listing.total_directories,
            "total_files": listing.total_files,
        });
        if listing.truncated {
            body["truncated"] = true.into();
        }
        Ok(json(StatusCode::OK, &body))
    };
    finish(&app.files, "list", answer.await, &Value::Null)
}

/// `GET /api/file/diff`.
pub async fn diff(State(app): State<Arc<App>>, uri: Uri) -> Response {
    const ASKED: &str = "diff";
    let rest = json!({"diff": "", "has_changes": false});
    let mut said = query(&uri);
    let Some(file) = said.remove("path").filter(|p| !p.is_empty()) else {
        return malformed(&app.files, ASKED, "No path provided", AskedError::Empty.code(), &rest);
    };
    let commit = said.remove("commit").filter(|c| !c.is_empty());
    if commit.as_deref().is_some_and(|name| !git::is_commit_name(name)) {
        let message = "commit is neither the number of a commit nor the name of a branch or tag";
        return malformed(&app.files, ASKED, message, "bad_commit", &rest);
    }
    let answer = async {
        let by_commit = commit.is_some();
        let diff = app.files.diff(path(&file)?, commit).await?;
        let changes = diff.changes;
        let mut body = json!({
            "success": true,
            "has_changes": if by_commit { !changes.diff.trim().is_empty() } else { changes.has_uncommitted },
            "diff": changes.diff,
            "tracked": diff.tracked,
            "history": changes.history,
            "has_uncommitted": changes.has_uncommitted,
        });
        if changes.cut {
            body["truncated"] = true.into();
        }
        Ok(json(StatusCode::OK, &body))
    };
    finish(&app.files, ASKED, answer.await, &rest)
}

/// `POST /api/git-history`.
pub async fn history(State(app): State<Arc<App>>, request: Request<Body>) -> Response {
    const ASKED: &str = "history";
    let rest = json!({"commits": []});
    let said = match object(request).await {
        Ok(said) => said,
        Err(response) => return response,
    };
    let file = said.get("path").and_then(Value::as_str).filter(|p| !p.is_empty());
    let Some(file) = file else {
        return malformed(&app.files, ASKED, "No path provided", AskedError::Empty.code(), &rest);
    };
    let answer = async {
        let commits = app.files.history(path(file)?, limit(said.get("limit"))).await?;
        Ok(json(StatusCode::OK, &json!({"success": true, "commits": commits})))
    };
    finish(&app.files, ASKED, answer.await, &rest)
}

/// How many commits are wanted: a number, or one as text.
fn limit(said: Option<&Value>) -> usize {
    let number = match said {
        Some(Value::String(text)) => text.parse().ok(),
        Some(value) => value.as_u64(),
        None => None,
    };
    number.map_or(COMMITS, |n| usize::try_from(n).unwrap_or(MOST_COMMITS).clamp(1, MOST_COMMITS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_bounded() {
        for (said, wanted) in [(json!(3), 3), (json!("4"), 4), (json!(0), 1), (json!(1e9), 10), (json!(99999), 1000)] {
            assert_eq!(limit(Some(&said)), wanted, "{said}");
        }
        assert_eq!((limit(None), limit(Some(&json!("-1")))), (10, 10));
    }

    #[test]
    fn pictures_and_text_have_the_shapes_of_the_original() {
        let of = |name: &str, bytes: &[u8]| -> Value {
            serde_json::from_slice(&shown(&Asked::read(name, None).unwrap(), bytes.to_vec()).unwrap()).unwrap()
        };
        assert_eq!(
            of("/a/x.PNG", b"\x89PNG\0"),
            json!({"success": true, "path": "/a/x.PNG", "content": "iVBORwA=", "size": 5, "type": "image",
                   "mime": "image/png", "extension": "png"})
        );
        assert_eq!(
            of("/a/Makefile", b"a\nb"),
            json!({"success": true, "path": "/a/Makefile", "content": "a\nb", "lines": 2, "size": 3, "type": "text"})
        );
    }
}
