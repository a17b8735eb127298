//! What the call of a tool and its result say, in the terms of the original's events. Pure.

use serde_json::value::RawValue;

use super::json::{Members, Object, first, plain, quoted};

/// Whether a tool hands work to another agent: `Task`, which newer versions of Claude Code call `Agent`.
pub fn is_delegation(tool: &str) -> bool {
    matches!(tool, "Task" | "Agent")
}

/// The kind of work that a tool does.
pub fn operation(tool: &str) -> &'static str {
    match tool {
        "Read" | "LS" | "Glob" | "Grep" | "NotebookRead" => "read",
        "Write" | "Edit" | "MultiEdit" | "NotebookEdit" => "write",
        "Bash" => "execute",
        "WebFetch" | "WebSearch" => "network",
        "TodoWrite" => "task_management",
        tool if is_delegation(tool) => "delegation",
        _ => "other",
    }
}

/// How much harm a call could do, by the words in it.
pub fn risk(tool: &str, input: &Members<'_>) -> &'static str {
    let text = |name: &str| input.text(name).unwrap_or_default();
    match tool {
        "Bash" => {
            let command = text("command").to_lowercase();
            let any = |words: &[&str]| words.iter().any(|word| command.contains(word));
            if any(&["rm -rf", "sudo", "chmod 777", "curl", "wget", "> /etc/", "dd if="]) {
                "high"
            } else if any(&["install", "delete", "format", "kill"]) {
                "medium"
            } else {
                "low"
            }
        }
        "Write" | "Edit" | "MultiEdit" => {
            let path = text("file_path");
            if ["/etc/", "/usr/", "/var/", "/sys/"].iter().any(|part| path.contains(part)) {
                "high"
            } else if path.starts_with('/') {
                "medium"
            } else {
                "low"
            }
        }
        _ => "low",
    }
}

/// What is shown of a tool's input.
pub fn parameters(tool: &str, input: &Members<'_>, raw: Option<&RawValue>) -> String {
    if let Some(raw) = raw.filter(|raw| !raw.get().starts_with('{')) {
        return Object::new().text("raw_input", first(raw.get(), 2000)).end();
    }
    let keys: Vec<String> = input.iter().map(|(name, _)| quoted(name)).collect();
    let object = Object::new().text("input_type", "dict").raw("param_keys", &format!("[{}]", keys.join(",")));
    let text = |name: &str| input.text(name).unwrap_or_default();
    let given = |name: &str| input.get(name).map_or("null", RawValue::get);
    match tool {
        "Write" | "Edit" | "MultiEdit" | "Read" | "NotebookRead" | "NotebookEdit" => {
            let content = input.text("content").or_else(|| input.text("new_string")).unwrap_or_default();
            let path = input.some("file_path").or_else(|| input.some("notebook_path"));
            object
                .raw("file_path", &path.map_or_else(|| "null".to_owned(), |path| quoted(&path)))
                .count("content_length", content.chars().count())
                .truth("is_create", tool == "Write")
                .truth("is_edit", matches!(tool, "Edit" | "MultiEdit" | "NotebookEdit"))
        }
        "Bash" => {
            let command = text("command");
            object
                .text("command", first(&command, 100))
                .count("command_length", command.chars().count())
                .truth("has_pipe", command.contains('|'))
                .truth("has_redirect", command.contains(['>', '<']))
                .raw("timeout", given("timeout"))
        }
        "Grep" | "Glob" => {
            let object = object.text("pattern", &text("pattern")).text("path", &text("path"));
            object.raw("output_mode", given("output_mode"))
        }
        "WebFetch" => object.text("url", &text("url")).text("prompt", first(&text("prompt"), 50)),
        "TodoWrite" => todos(object, input),
        tool if is_delegation(tool) => {
            let (agent, prompt) = (input.some("subagent_type"), text("prompt"));
            let is = |name: &str| agent.as_deref() == Some(name);
            object
                .text("subagent_type", agent.as_deref().unwrap_or("unknown"))
                .text("description", &text("description"))
                .text("prompt", &prompt)
                .text("prompt_preview", first(&prompt, 200))
                .truth("is_pm_delegation", is("pm"))
                .truth("is_research_delegation", is("research"))
                .truth("is_engineer_delegation", is("engineer"))
        }
        _ => object,
    }
    .end()
}

/// The elements of an array.
pub fn items(array: &RawValue) -> Vec<&RawValue> {
    serde_json::from_str(array.get()).unwrap_or_default()
}

fn todos(object: Object, input: &Members<'_>) -> Object {
    let Some(raw) = input.get("todos") else { return object.count("todo_count", 0) };
    let todos: Vec<Members<'_>> = items(raw).into_iter().map(|t| Members::of(t.get()).unwrap_or_default()).collect();
    let of = |name: &str, default: &str| -> Vec<String> {
        todos.iter().map(|t| t.some(name).unwrap_or_else(|| default.to_owned())).collect()
    };
    let (states, priorities) = (of("status", "pending"), of("priority", "medium"));
    let count = |all: &[String], name: &str| all.iter().filter(|s| *s == name).count();
    let counts = |all: &[String], names: &[&str]| {
        names.iter().fold(Object::new(), |object, name| object.count(name, count(all, name))).end()
    };
    let parts: Vec<String> = [("completed", "completed"), ("in_progress", "in progress"), ("pending", "pending")]
        .into_iter()
        .filter(|(name, _)| count(&states, name) > 0)
        .map(|(name, words)| format!("{} {words}", count(&states, name)))
        .collect();
    let summary = match (todos.is_empty(), parts.is_empty()) {
        (true, _) => Object::new().count("total", 0).text("summary", "Empty todo list"),
        (false, none) => Object::new()
            .count("total", todos.len())
            .raw("status_counts", &counts(&states, &["pending", "in_progress", "completed"]))
            .raw("priority_counts", &counts(&priorities, &["high", "medium", "low"]))
            .text("summary", &if none { "No tasks".to_owned() } else { parts.join(", ") }),
    };
    let mut different = priorities.clone();
    different.sort();
    different.dedup();
    let different: Vec<String> = different.iter().map(|p| quoted(p)).collect();
    // A status that is not there counts as pending in the summary only, as in the original.
    let has = |name: &str| todos.iter().any(|t| t.text("status").as_deref() == Some(name));
    object
        .count("todo_count", todos.len())
        .raw("todos", raw.get())
        .raw("todo_summary", &summary.end())
        .truth("has_in_progress", has("in_progress"))
        .truth("has_pending", has("pending"))
        .truth("has_completed", has("completed"))
        .raw("priorities", &format!("[{}]", different.join(",")))
}

/// The name of an agent as tools write it.
pub fn agent(given: &str) -> String {
    given.trim().to_lowercase().replace([' ', '_'], "-")
}

/// What a tool said, as text: its standard output and error, else the whole of it.
pub fn output(json: &str) -> String {
    if let Some(text) = plain(json) {
        return text;
    }
    let Some(members) = Members::of(json) else { return if json == "null" { String::new() } else { json.to_owned() } };
    if members.get("stdout").is_some() {
        let [out, err] = ["stdout", "stderr"].map(|name| members.text(name).unwrap_or_default());
        return if err.is_empty() { out } else { format!("{out}\n{err}") };
    }
    if let Some(content) = members.object("file").and_then(|file| file.text("content")) {
        return content;
    }
    json.to_owned()
}
