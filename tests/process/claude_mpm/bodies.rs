//! What is put before both servers: the inputs of Claude Code's hooks, and bodies for `POST /api/events`.

use serde_json::{Value, json};

/// What Claude Code hands to a hook, one for each event and several for those that differ by tool.
pub fn hook_inputs(project: &str) -> Vec<Value> {
    let tool = |event: &str, name: &str, input: Value| json!({"hook_event_name": event, "tool_name": name, "tool_input": input, "tool_use_id": format!("toolu_{name}")});
    let after = |name: &str, input: Value, response: Value| {
        let mut event = tool("PostToolUse", name, input);
        event["tool_response"] = response;
        event
    };
    let todos = json!({"todos": [{"content": "one", "status": "completed", "activeForm": "doing one"},
                                 {"content": "two", "status": "in_progress", "activeForm": "doing two"}]});
    let task =
        json!({"subagent_type": "engineer", "description": "Build it", "prompt": "Build the thing, then test it"});
    let hostile = "say \"hi\" <img src=x onerror=alert(1)> \\ \u{e4}\u{1f600} `ls` ```rust\nfn main() {}\n```";
    let mut events = vec![
        json!({"hook_event_name": "SessionStart", "source": "startup"}),
        json!({"hook_event_name": "UserPromptSubmit", "prompt": "hello world"}),
        json!({"hook_event_name": "UserPromptSubmit", "prompt": hostile}),
        json!({"hook_event_name": "UserPromptSubmit", "prompt": "/mpm-status now"}),
        tool("PreToolUse", "Bash", json!({"command": "ls -la | grep x > y", "description": "list", "timeout": 5000})),
        after("Bash", json!({"command": "ls -la"}), json!({"stdout": "a\nb", "stderr": "", "interrupted": false})),
        tool("PreToolUse", "Read", json!({"file_path": "/etc/hosts", "limit": 10})),
        after("Read", json!({"file_path": "/etc/hosts"}), json!({"type": "text", "file": {"content": "127.0.0.1"}})),
        tool("PreToolUse", "Write", json!({"file_path": "/w/x.rs", "content": "fn main() {}"})),
        tool("PreToolUse", "Edit", json!({"file_path": "/w/x.rs", "old_string": "a", "new_string": "b"})),
        tool("PreToolUse", "Grep", json!({"pattern": "TODO", "path": "."})),
        tool("PreToolUse", "Glob", json!({"pattern": "**/*.rs"})),
        tool("PreToolUse", "WebFetch", json!({"url": "https://example.org/", "prompt": "what is it"})),
        tool("PreToolUse", "TodoWrite", todos),
        tool("PreToolUse", "mcp__memory__recall", json!({"query": "x"})),
        tool("PreToolUse", "Task", task.clone()),
        after("Task", task, json!({"content": [{"type": "text", "text": "done"}], "totalTokens": 12})),
        json!({"hook_event_name": "SubagentStart", "agent_type": "engineer", "agent_id": "a-1"}),
        json!({"hook_event_name": "SubagentStop", "agent_type": "engineer", "reason": "completed", "output": "done"}),
        json!({"hook_event_name": "Notification", "message": "Claude is waiting", "notification_type": "idle_prompt"}),
        json!({"hook_event_name": "AssistantResponse", "response": "here it is"}),
        json!({"hook_event_name": "Stop", "reason": "end_turn", "stop_hook_active": false}),
        json!({"hook_event_name": "PreCompact", "trigger": "auto"}),
        json!({"hook_event_name": "PermissionRequest", "tool_name": "Bash"}),
        json!({"hook_event_name": "SessionEnd", "reason": "exit"}),
    ];
    for (number, event) in events.iter_mut().enumerate() {
        event["session_id"] = json!(format!("session-{number}"));
        event["transcript_path"] = json!(format!("{project}/transcript.jsonl"));
        event["cwd"] = json!(project);
        event["permission_mode"] = json!("default");
    }
    events
}

/// Bodies as text, as some of them are no JSON.
pub fn posted() -> Vec<String> {
    let mut bodies: Vec<String> = [
        // What real hooks sent, shortened.
        r#"{"namespace": "", "event": "claude_event", "data": {"event": "mpm_event", "source": "hook", "type": "hook", "subtype": "pre_tool", "timestamp": "2026-11-22T02:21:32.491173+00:00", "data": {"tool_name": "Bash", "operation_type": "execute", "tool_parameters": {"param_keys": ["command"], "timeout": null}, "session_id": "sess-1", "working_directory": "/home/u/proj", "timestamp": "2026-11-22T02:21:32.490891+00:00", "correlation_id": "c-1"}, "correlation_id": "c-1", "session_id": "sess-1", "cwd": "/home/u/proj"}}"#,
        r#"{"namespace": "", "event": "claude_event", "data": {"event": "mpm_event", "source": "hook", "type": "hook", "subtype": "command_acknowledged", "timestamp": "2026-11-22T02:21:35.496490+00:00", "data": {"prompt_preview": "hello world", "status": "received", "project": "p"}}}"#,
        "{\n  \"namespace\": \"/\",\n  \"event\": \"claude_event\",\n  \"data\": {\n    \"type\": \"hook\",\n    \"subtype\": \"pre_tool\",\n    \"hook_event_name\": \"PreToolUse\",\n    \"session_id\": \"s\",\n    \"correlation_id\": \"Bash_1\",\n    \"timestamp\": \"2026-11-22T02:21:08.000Z\",\n    \"source\": \"fast_hook\",\n    \"data\": {\"hook_event_name\":\"PreToolUse\",\"tool_input\":{\"command\":\"ls\"}}\n  }\n}\n",
        r#"{"event":"claude_event","data":{},"timestamp":"2026-01-01T00:00:00","source":"async_emitter"}"#,
        // Everything is optional, and what is not asked for is ignored.
        "{}",
        r#"{"data":{}}"#,
        r#"{"event":"x"}"#,
        r#"{"event":"pre_tool","data":{}}"#,
        r#"{"namespace":7,"event":"x","data":{"a":1},"more":[1,2]}"#,
        // A normalised event without its wrapper.
        r#"{"event":"mpm_event","source":"hook","type":"hook","subtype":"pre_tool","correlation_id":"c","data":{"tool_name":"Bash"}}"#,
        // The walk down.
        r#"{"data":{"data":{"data":{"data":{"deep":1}}}}}"#,
        r#"{"data":{"data":[1],"a":1}}"#,
        r#"{"data":{"data":"text","a":1}}"#,
        r#"{"data":{"data":null,"a":1}}"#,
        r#"{"data":{"data":{"data":7,"b":2},"a":1}}"#,
        r#"{"data":{"data":{}}}"#,
        // Where the subtype comes from.
        r#"{"event":"e","data":{"subtype":"one","type":"three","data":{"subtype":"two","type":"four"}}}"#,
        r#"{"event":"e","data":{"type":"three","data":{"subtype":"two","type":"four"}}}"#,
        r#"{"event":"e","data":{"type":"three","data":{"type":"four"}}}"#,
        r#"{"event":"e","data":{"data":{"type":"four"}}}"#,
        r#"{"event":"e","data":{"subtype":"","type":null,"data":{"subtype":0,"type":[]}}}"#,
        r#"{"event":"e","data":{"subtype":{},"data":{"subtype":false}}}"#,
        r#"{"event":"e","data":{"subtype":7}}"#,
        r#"{"event":"e","data":{"subtype":-0.0,"type":0.0,"data":{"subtype":1.5}}}"#,
        r#"{"event":"e","data":{"subtype":["pre_tool"]}}"#,
        r#"{"event":"e","data":{"subtype":true}}"#,
        r#"{"event":"e","data":{"subtype":{"a":1}}}"#,
        r#"{"event":"e","data":{"subtype":" "}}"#,
        r#"{"event":"e","data":{"subtype":"PRE_TOOL"}}"#,
        r#"{"event":"e","data":{"subtype":"pre_tool "}}"#,
        // Sessions, sources, times, folders.
        r#"{"data":{"session_id":"outer","data":{"sessionId":"inner"}}}"#,
        r#"{"data":{"session_id":"outer","sessionId":"o2","data":{"session_id":"","sessionId":""}}}"#,
        r#"{"data":{"sessionId":"o2"}}"#,
        r#"{"data":{"session_id":7}}"#,
        r#"{"data":{"session_id":["a"]}}"#,
        r#"{"data":{"source":"outer","data":{"source":"inner"}}}"#,
        r#"{"data":{"source":"outer","data":{"source":null}}}"#,
        r#"{"data":{"source":"","data":{"source":""}}}"#,
        r#"{"data":{"timestamp":"outer","data":{"timestamp":"inner"}}}"#,
        r#"{"data":{"data":{"timestamp":"inner"}}}"#,
        r#"{"data":{"timestamp":1795314068278}}"#,
        r#"{"data":{"timestamp":"","data":{"timestamp":null}}}"#,
        r#"{"data":{"correlation_id":"outer","data":{"correlation_id":"inner"}}}"#,
        r#"{"data":{"correlation_id":"outer","data":{"correlation_id":0}}}"#,
        r#"{"data":{"correlation_id":"","cwd":""}}"#,
        r#"{"data":{"cwd":"/o","working_directory":"/ow","data":{"cwd":"/i","working_directory":"/iw"}}}"#,
        r#"{"data":{"cwd":"/o","data":{"working_directory":"/iw"}}}"#,
        r#"{"data":{"working_directory":"/ow","data":{}}}"#,
        r#"{"data":{"working_directory":"/ow","data":{"cwd":""}}}"#,
        // JSON's own corners.
        r#"{"data":{"a":1,"a":2,"subtype":"stop","subtype":"pre_tool"}}"#,
        r#"{"data":{"n":[0,-1,1.5,1e3,12345678901234567890123,0.1e-7],"t":[true,false,null]}}"#,
        r#"{"data":{"text":"\u00e4\ud83d\ude00\u0000\u001f\"\\\/\b"}}"#,
        "{\"data\":{\"text\":\"\u{e4}\u{1f600}\u{2028} <script>\"}}",
        r#"{"event":"\u0070re_tool","data":{"s\u0075btype":"pre_tool"}}"#,
        r#"{"data":{"__proto__":{"a":1},"constructor":"x"}}"#,
        r#" {"data":{"a":1}} "#,
        r#"{"event":null,"data":{"a":1}}"#,
        r#"{"event":"","data":{"a":1}}"#,
        r#"{"event":7,"data":{"a":1}}"#,
        r#"{"event":["a"],"data":{"a":1}}"#,
        r#"{"event":false,"data":{"sessionId":""}}"#,
        r#"{"data":{"sessionId":0,"data":{"session_id":""}}}"#,
        // Neither takes these.
        r#"{"event": "a", "data": {"broken": "#,
        "",
        "{",
        "not json",
        "[]",
        "\"text\"",
        "null",
        "7",

    ]
    .map(str::to_owned)
    .to_vec();
    for data in ["\"text\"", "[]", "[1]", "null", "7", "true"] {
        bodies.push(format!(r#"{{"event":"data","data":{data}}}"#));
    }
    // Every subtype that decides on a category, and some that do not.
    for subtype in
        "subagent_start subagent_stop todo_updated pre_tool post_tool tool.start tool.end tool_use tool_result \
                    session.started session.ended session_start session_end token_usage_updated response.start \
                    response.end response_started response_ended agent.delegated agent.returned agent_start agent_end \
                    file.read file.write file.edit file_read file_write system_ready system_shutdown user_prompt \
                    assistant_message stop notification hook_execution command_acknowledged SessionStart heartbeat \
                    connect history"
            .split_whitespace()
    {
        bodies.push(json!({"event": "claude_event", "data": {"subtype": subtype, "timestamp": "t"}}).to_string());
    }
    // A large one that both take.
    bodies.push(json!({"data": {"text": "x".repeat(900_000), "timestamp": "t"}}).to_string());
    bodies
}
