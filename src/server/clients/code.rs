//! The `code:` events of the older pages. This monitor analyses no code, and says so instead of nothing; where the original
//! always fails as well, in its words.

use serde_json::{Value, json};

use socketio::namespace::{Handled, Handler, Incoming, Socket};

pub(super) struct Code;

impl Handler for Code {
    fn event(&self, socket: Socket<'_>, event: Incoming<'_>) -> Handled {
        if !event.name.starts_with("code:") {
            return Handled::No;
        }
        let Some(said) = event.object() else { return Handled::No };
        let path = said.get("path").and_then(Value::as_str).unwrap_or_default();
        let path: String = path.chars().take(1024).collect();
        let error = match event.name {
            "code:clear:cache" => {
                let kind = said.get("type").and_then(Value::as_str).filter(|k| k.len() <= 100).unwrap_or("all");
                socket.emit("code:cache:cleared", &json!({"type": kind}));
                return Handled::done();
            }
            "code:analyze:file" if path.is_empty() => "No file path provided".to_owned(),
            "code:analyze:file" => format!("Failed to analyze file: {path}"),
            "code:analyze:directory" if path.is_empty() => "No directory path provided".to_owned(),
            "code:analyze:directory" => format!("Failed to analyze directory: {path}"),
            "code:get:tree" => format!("Failed to get tree data for: {path}"),
            _ => return Handled::No,
        };
        let reason = "this monitor does not analyse code; open the file with read_file or GET /api/file/read";
        socket.emit("code:error", &json!({"error": error, "reason": reason, "code": "not_supported"}));
        Handled::done()
    }
}
