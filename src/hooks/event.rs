//! What a hook's input becomes: the events that Claude MPM's own hook posts for it, and what it leaves out. Pure.
//!
//! Names, categories and members are those of the original, so that pages written for it show them; `docs/hooks.md` lists
//! the differences.

use jiff::Timestamp;
use sha2::{Digest, Sha256};

use super::input::Input;
use super::json::{Members, Object, first, plain, quoted};
use super::tool;

/// An event, ready to be posted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    /// Tells this event from every other, however often it is sent: a UUID of version 7.
    pub key: String,
    /// What happened, for example `pre_tool`.
    pub subtype: String,
    /// The body for `POST /api/events`: one line of JSON.
    pub body: String,
}

/// What does not come from the input.
#[derive(Debug, Clone, Copy)]
pub struct Surroundings {
    /// The moment.
    pub now: Timestamp,
    /// The branch that is checked out in a folder.
    pub branch: fn(&str) -> Option<String>,
    /// A key that nobody else has.
    pub key: fn() -> String,
}

/// The events of an input: none of one that is no object, else one, and a second one for what some tools mean.
pub fn of(input: &Input, around: Surroundings) -> Vec<Made> {
    let whole = Members::of(&input.text);
    let partial = input.cut > 0 || whole.is_none();
    // Whatever was cut off or never came, who spoke and of what stands in front.
    let members = whole.unwrap_or_else(|| Members::salvaged(&input.text));
    if members.is_empty() {
        return Vec::new();
    }
    Hook::new(&members, around, partial.then_some(input.cut)).events()
}

/// One input and what all of its events share.
struct Hook<'a> {
    members: &'a Members<'a>,
    around: Surroundings,
    name: String,
    session: String,
    cwd: String,
    /// How much was left out, if the input is not whole.
    cut: Option<u64>,
}

impl<'a> Hook<'a> {
    fn new(members: &'a Members<'a>, around: Surroundings, cut: Option<u64>) -> Self {
        let name =
            members.some("hook_event_name").or_else(|| members.some("event")).unwrap_or_else(|| "unknown".into());
        let session = members.some("session_id").or_else(|| members.some("sessionId")).unwrap_or_default();
        Self { members, around, name, session, cwd: members.some("cwd").unwrap_or_default(), cut }
    }

    fn text(&self, name: &str) -> String {
        self.members.text(name).unwrap_or_default()
    }

    fn or_unknown(&self, name: &str) -> String {
        self.members.some(name).unwrap_or_else(|| "unknown".to_owned())
    }

    fn events(&self) -> Vec<Made> {
        match self.name.as_str() {
            "PreToolUse" => self.pre_tool(),
            "PostToolUse" | "PostToolUseFailure" => vec![self.post_tool()],
            "UserPromptSubmit" => vec![self.prompt()],
            "Notification" => vec![self.notification()],
            "Stop" => vec![self.stop()],
            "SubagentStart" => vec![self.subagent_start()],
            "SubagentStop" => vec![self.subagent_stop()],
            "AssistantResponse" => vec![self.response()],
            "SessionStart" => {
                // Not `source`: that member says who sent an event.
                let inner = self.inner().text("hook_event_name", "SessionStart");
                vec![self.event(
                    "session_start",
                    inner.maybe("start_source", self.members.text("source").as_deref()),
                    None,
                )]
            }
            "SessionEnd" => {
                let inner =
                    self.inner().text("hook_event_name", "SessionEnd").text("reason", &self.or_unknown("reason"));
                vec![self.event("session_end", inner, None)]
            }
            _ => vec![self.other()],
        }
    }

    /// The members that nearly all events have.
    fn inner(&self) -> Object {
        Object::new()
            .text("session_id", &self.session)
            .text("working_directory", &self.cwd)
            .text("git_branch", &self.branch())
            .text("timestamp", &self.time())
    }

    fn branch(&self) -> String {
        let found = (!self.cwd.is_empty()).then(|| (self.around.branch)(&self.cwd)).flatten();
        found.unwrap_or_else(|| "Unknown".to_owned())
    }

    fn time(&self) -> String {
        format!("{:.6}", self.around.now)
    }

    fn event(&self, subtype: &str, inner: Object, correlation: Option<&str>) -> Made {
        let key = (self.around.key)();
        let mut inner = inner.maybe("correlation_id", correlation).text("event_id", &key);
        if let Some(cut) = self.cut {
            inner = inner.raw("input_cut_bytes", &cut.to_string());
        }
        let (session, cwd): (&str, &str) = (&self.session, &self.cwd);
        let data = Object::new()
            .text("event", "mpm_event")
            .text("source", "hook")
            .text("type", "hook")
            .text("subtype", subtype)
            .text("timestamp", &self.time())
            .raw("data", &inner.end())
            .maybe("correlation_id", correlation)
            .maybe("session_id", Some(session).filter(|s| !s.is_empty()))
            .maybe("cwd", Some(cwd).filter(|s| !s.is_empty()));
        let body = Object::new().text("namespace", "").text("event", "claude_event").raw("data", &data.end()).end();
        Made { key, subtype: subtype.to_owned(), body }
    }

    /// What pairs the call of a tool with its result: the id that Claude Code gave, else the same for the same input.
    fn correlation(&self, tool: &str) -> String {
        if let Some(id) = self.members.some("tool_use_id").or_else(|| self.members.some("tool_call_id")) {
            return id;
        }
        let input: serde_json::Value =
            self.members.get("tool_input").and_then(|v| serde_json::from_str(v.get()).ok()).unwrap_or_default();
        let mut hash = Sha256::new();
        for part in [&*self.session, tool, &*input.to_string()] {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        hash.finalize().iter().take(16).map(|b| format!("{b:02x}")).collect()
    }

    fn pre_tool(&self) -> Vec<Made> {
        let tool = self.text("tool_name");
        let input = self.members.object("tool_input").unwrap_or_default();
        let correlation = self.correlation(&tool);
        let mut inner = self
            .inner()
            .text("tool_name", &tool)
            .text("operation_type", tool::operation(&tool))
            .raw("tool_parameters", &tool::parameters(&tool, &input, self.members.get("tool_input")))
            .count("parameter_count", input.len())
            .truth("is_file_operation", matches!(&*tool, "Write" | "Edit" | "MultiEdit" | "Read" | "LS" | "Glob"))
            .truth("is_execution", matches!(&*tool, "Bash" | "NotebookEdit"))
            .truth("is_delegation", tool::is_delegation(&tool))
            .text("security_risk", tool::risk(&tool, &input));
        let mut also = None;
        if tool::is_delegation(&tool) {
            let given = input.some("subagent_type").unwrap_or_else(|| "unknown".to_owned());
            let agent = tool::agent(&given);
            let [prompt, description] = ["prompt", "description"].map(|name| input.text(name).unwrap_or_default());
            let preview = if prompt.is_empty() { &description } else { &prompt };
            let details = Object::new()
                .text("agent_type", &agent)
                .text("original_agent_type", &given)
                .text("prompt", &prompt)
                .text("description", &description)
                .text("task_preview", first(preview, 100));
            inner = inner.raw("delegation_details", &details.end());
            let start = Object::new()
                .text("agent_type", &agent)
                .text("agent_id", &format!("{agent}_{}", self.session))
                .text("session_id", &self.session)
                .text("prompt", &prompt)
                .text("description", &description)
                .text("timestamp", &self.time())
                .text("hook_event_name", "SubagentStart");
            also = Some(self.event("subagent_start", start, None));
        } else if let (true, Some(todos)) = (tool == "TodoWrite", input.get("todos")) {
            let updated = Object::new()
                .raw("todos", todos.get())
                .count("total_count", tool::items(todos).len())
                .text("session_id", &self.session)
                .text("timestamp", &self.time());
            also = Some(self.event("todo_updated", updated, None));
        }
        std::iter::once(self.event("pre_tool", inner, Some(&correlation))).chain(also).collect()
    }

    fn post_tool(&self) -> Made {
        let tool = self.text("tool_name");
        let failed = self.name == "PostToolUseFailure";
        let code = self.members.text("exit_code").and_then(|c| c.parse::<i64>().ok()).unwrap_or(failed.into());
        let given = ["output", "tool_response"].into_iter().find_map(|name| self.members.get(name));
        let output = given.map(|v| tool::output(v.get())).unwrap_or_default();
        let error = self.members.text("error").unwrap_or_default();
        let has_error = code != 0 || self.members.get("error").is_some();
        let mut result = Object::new()
            .raw("exit_code", &code.to_string())
            .truth("has_output", !output.trim().is_empty())
            .truth("has_error", has_error);
        if !output.is_empty() {
            result =
                result.text("output_preview", first(&output, 200)).count("output_lines", output.split('\n').count());
        }
        if has_error {
            result = result.text("error_preview", first(&error, 200));
        }
        let inner = self
            .inner()
            .text("tool_name", &tool)
            .raw("exit_code", &code.to_string())
            .truth("success", code == 0)
            .text(
                "status",
                match code {
                    0 => "success",
                    2 => "blocked",
                    _ => "error",
                },
            )
            .raw("duration_ms", self.members.get("duration_ms").map_or("null", |v| v.get()))
            .raw("result_summary", &result.end())
            .truth("has_output", !output.is_empty())
            .truth("has_error", !error.is_empty())
            .count("output_size", output.chars().count());
        self.event("post_tool", inner, Some(&self.correlation(&tool)))
    }

    fn prompt(&self) -> Made {
        let prompt = self.text("prompt");
        let lower = prompt.to_lowercase();
        let any = |words: &[&str]| words.iter().any(|word| lower.contains(word));
        let urgent = any(&["urgent", "error", "bug", "fix", "broken"]);
        let inner = self
            .inner()
            .text("prompt_text", &prompt)
            .text("prompt_preview", first(&prompt, 200))
            .count("prompt_length", prompt.chars().count())
            .truth("is_command", prompt.starts_with('/'))
            .truth("contains_code", any(&["```", "python", "javascript"]))
            .text("urgency", if urgent { "high" } else { "normal" });
        self.event("user_prompt", inner, None)
    }

    fn notification(&self) -> Made {
        let message = self.text("message");
        let lower = message.to_lowercase();
        let any = |words: &[&str]| words.iter().any(|word| lower.contains(word));
        let inner = self
            .inner()
            .text("notification_type", &self.or_unknown("notification_type"))
            .text("message", &message)
            .text("message_preview", first(&message, 200))
            .count("message_length", message.chars().count())
            .truth("is_user_input_request", any(&["input", "waiting"]))
            .truth("is_error_notification", any(&["error", "failed"]))
            .truth("is_status_update", any(&["processing", "analyzing", "working", "thinking"]));
        self.event("notification", inner, None)
    }

    fn stop(&self) -> Made {
        let reason = self.or_unknown("reason");
        let inner = self
            .inner()
            .text("reason", &reason)
            .text("stop_type", self.members.some("stop_type").as_deref().unwrap_or("normal"))
            .truth("is_user_initiated", matches!(&*reason, "user_stop" | "user_cancel" | "interrupt"))
            .truth("is_error_stop", matches!(&*reason, "error" | "timeout" | "failed"))
            .truth("is_completion_stop", matches!(&*reason, "completed" | "finished" | "done"))
            .truth("has_output", self.members.is_truthy("final_output"))
            .raw("usage", self.members.get("usage").map_or("null", |v| v.get()));
        self.event("stop", inner, None)
    }

    fn agent_type(&self) -> Option<String> {
        self.members.some("agent_type").or_else(|| self.members.some("subagent_type"))
    }

    fn subagent_start(&self) -> Made {
        let agent = self.agent_type().unwrap_or_else(|| "unknown".to_owned());
        let id = self.members.some("agent_id").unwrap_or_else(|| format!("{agent}_{}", first(&self.session, 8)));
        let inner =
            self.inner().text("agent_type", &agent).text("agent_id", &id).text("hook_event_name", "SubagentStart");
        self.event("subagent_start", inner, None)
    }

    fn subagent_stop(&self) -> Made {
        const KNOWN: [&str; 7] = ["research", "engineer", "pm", "ops", "qa", "documentation", "security"];
        let told = self.agent_type();
        let agent = told.as_deref().unwrap_or("pm");
        let id = self.members.some("agent_id").or_else(|| self.members.some("subagent_id")).unwrap_or_default();
        let reason = self.members.some("reason").or_else(|| self.members.some("stop_reason"));
        let reason = reason.as_deref().unwrap_or("unknown");
        let inner = self
            .inner()
            .text("agent_type", agent)
            .truth("agent_type_inferred", told.is_none())
            .text("agent_id", &id)
            .text("reason", reason)
            .truth("is_successful_completion", matches!(reason, "completed" | "finished" | "done"))
            .truth("is_error_termination", matches!(reason, "error" | "timeout" | "failed" | "blocked"))
            .truth("is_delegation_related", KNOWN.contains(&agent))
            .truth("has_results", self.members.is_truthy("results") || self.members.is_truthy("output"))
            .raw("duration_context", self.members.get("duration_ms").map_or("null", |v| v.get()))
            .text("hook_event_name", "SubagentStop");
        self.event("subagent_stop", inner, None)
    }

    fn response(&self) -> Made {
        let text = self.text("response");
        let inner = self
            .inner()
            .text("response_text", &text)
            .text("response_preview", first(&text, 500))
            .count("response_length", text.chars().count())
            .truth("contains_code", text.contains("```"))
            .truth("contains_json", text.contains("```json"))
            .text("hook_event_name", "AssistantResponse");
        self.event("assistant_response", inner, None)
    }

    /// An event that the original's hook knows nothing of: what it says in few words, under its own name.
    fn other(&self) -> Made {
        const TOLD: [&str; 5] = ["session_id", "sessionId", "cwd", "hook_event_name", "event"];
        // These names mean something to whoever reads events.
        const READ: [&str; 9] = [
            "type",
            "subtype",
            "source",
            "timestamp",
            "data",
            "correlation_id",
            "event_id",
            "working_directory",
            "git_branch",
        ];
        let mut inner = self.inner().text("hook_event_name", &self.name);
        for (name, value) in
            self.members.iter().filter(|(name, _)| !TOLD.contains(name) && !READ.contains(name)).take(40)
        {
            match value.get() {
                word @ ("true" | "false" | "null") => inner = inner.raw(name, word),
                other => {
                    if let Some(text) = plain(other) {
                        let short = first(&text, 2000);
                        inner = inner.raw(name, &if other.starts_with('"') { quoted(short) } else { text });
                    }
                }
            }
        }
        self.event(&snake(&self.name), inner, None)
    }
}

/// `PreCompact` as `pre_compact`.
fn snake(name: &str) -> String {
    let mut out = String::new();
    for c in first(name, 60).chars() {
        if c.is_uppercase() && !out.is_empty() && !out.ends_with('_') {
            out.push('_');
        }
        out.extend(c.to_lowercase());
    }
    out
}

#[cfg(test)]
mod tests;
