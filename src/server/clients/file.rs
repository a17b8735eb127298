//! `read_file` of the older pages, answered with `file_content_response`.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::{Parts, visitor};
use crate::server::access;
use crate::server::files::asked::Asked;
use crate::server::files::error::FileError;
use crate::server::files::read;
use socketio::namespace::{Handled, Handler, Incoming, Kept, Socket};
use socketio::outgoing::Arguments;

/// The answer's event.
const ANSWER: &str = "file_content_response";
/// The largest file unless the client says, bytes, as in the original.
const LARGEST: u64 = 1 << 20;

pub(super) struct File {
    pub parts: Parts,
}

impl Handler for File {
    fn event(&self, socket: Socket<'_>, event: Incoming<'_>) -> Handled {
        let ("read_file", Some(said)) = (event.name, event.object()) else { return Handled::No };
        if !visitor::access(socket.session()).read {
            socket.emit(ANSWER, &failed(said.get("file_path"), &access::refusal(false).message, "token_required"));
            return Handled::done();
        }
        let asker = visitor::asker(socket.session(), &self.parts.settings.borrow());
        let (parts, from) = (self.parts.clone(), socket.keep());
        Handled::Later(Box::pin(async move {
            let admitted = parts.files.admit(asker).await;
            match &admitted {
                Ok(()) => answer(&parts, &from, said).await,
                Err(error) => {
                    parts.files.count("read_file", &admitted);
                    from.socket().emit(ANSWER, &failed(said.get("file_path"), &error.to_string(), error.code()));
                }
            }
            Some(Arguments::default())
        }))
    }
}

fn failed(path: Option<&Value>, message: &str, code: &str) -> Value {
    json!({"success": false, "error": message, "code": code, "file_path": path})
}

async fn answer(parts: &Parts, from: &Kept, said: Map<String, Value>) {
    let path = said.get("file_path");
    let Some(text) = path.and_then(Value::as_str).filter(|p| !p.is_empty()) else {
        parts.counters.file_request("read_file", "path_missing");
        return from.socket().emit(ANSWER, &failed(path, "file_path is required", "path_missing"));
    };
    // What waits for a client is bounded, and more than that would cost it its connection.
    let backlog = parts.settings.borrow().client_backlog / 2;
    let most = said.get("max_size").and_then(Value::as_u64).unwrap_or(LARGEST).min(backlog as u64);
    let shown = text.to_owned();
    let encode = move |asked: &Asked, bytes: Vec<u8>| encode(asked, &shown, bytes, backlog);
    let result = async { parts.files.read(asked(text, &said)?, most, encode).await }.await;
    parts.files.count("read_file", &result);
    match result {
        Ok(answer) => from.socket().emit_json(ANSWER, &answer.json),
        Err(error) => {
            let mut body = failed(path, &message(&error), error.code());
            if let FileError::TooLarge { size, .. } = error {
                body["file_size"] = size.into();
            }
            from.socket().emit(ANSWER, &body);
        }
    }
}

/// The path of a question; a relative one begins where the client says that it works, or where we do.
fn asked(text: &str, said: &Map<String, Value>) -> Result<Asked, FileError> {
    let here = std::env::current_dir().ok();
    let base = match said.get("working_dir").and_then(Value::as_str).filter(|d| !d.is_empty()) {
        Some(dir) => Some(Asked::read(dir, here.as_deref())?.path().to_owned()),
        None => here,
    };
    Ok(Asked::read(text, base.as_deref())?)
}

fn encode(asked: &Asked, shown: &str, bytes: Vec<u8>, backlog: usize) -> Result<Vec<u8>, FileError> {
    let size = bytes.len();
    let (text, encoding) = read::lenient_text(bytes)?;
    let extension = extension(asked.path());
    let body = json!({
        "success": true,
        "file_path": shown,
        "content": text,
        "file_size": size,
        "extension": extension,
        "encoding": encoding,
    });
    let json = serde_json::to_vec(&body).map_err(|e| FileError::Io(e.into()))?;
    // Every character that JSON must escape counts several times.
    if json.len() > backlog {
        return Err(FileError::TooLarge { size: size as u64, limit: backlog as u64 });
    }
    Ok(json)
}

/// With its dot, as this answer has it.
fn extension(path: &Path) -> String {
    match read::extension(path) {
        none if none.is_empty() => none,
        some => format!(".{}", some.to_lowercase()),
    }
}

/// In the words of the original, where it has some.
fn message(error: &FileError) -> String {
    match error {
        FileError::Outside | FileError::Path(_) => FileError::Outside.to_string(),
        FileError::Absent => "File does not exist".to_owned(),
        FileError::TooLarge { size, limit } => format!("File too large ({size} bytes). Maximum allowed: {limit} bytes"),
        FileError::NotText => "File appears to be binary and cannot be displayed as text".to_owned(),
        other => other.to_string(),
    }
}
