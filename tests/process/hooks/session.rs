//! What a session of Claude Code hands to its hooks, the hook run as Claude Code runs it, and what the monitor then has.

use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use testkit::daemon::{Place, SOON};
use testkit::{eventually, http};

/// What a loaded machine may add to the deadline of a hook: starting and reaping a process.
pub const SLACK: Duration = Duration::from_millis(1500);

/// A hook that has ended.
#[derive(Debug)]
pub struct Hooked {
    /// The exit code; nothing after a signal.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
    pub took: Duration,
}

impl Hooked {
    /// It must not be noticed: neither by its exit code, nor by what it prints, nor by how long it takes.
    #[track_caller]
    pub fn unnoticed(self, deadline: Duration) -> Self {
        assert_eq!((self.code, self.stdout.as_str()), (Some(0), ""), "{self:?}");
        assert!(self.took < deadline + SLACK, "{self:?}");
        self
    }
}

/// Runs a command with this input, as Claude Code does.
pub fn fed(command: &mut Command, input: &[u8]) -> Hooked {
    let began = Instant::now();
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // It may be gone before it has read all of it.
    let _ = stdin.write_all(input);
    drop(stdin);
    let status = child.wait().unwrap();
    let took = began.elapsed();
    let (mut stdout, mut stderr) = (String::new(), String::new());
    child.stdout.take().unwrap().read_to_string(&mut stdout).unwrap();
    child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    Hooked { code: status.code(), stdout, stderr, took }
}

/// The deadline in tests: an unoptimised build on a loaded machine is not what the usual one is for.
pub const DEADLINE: Duration = Duration::from_secs(2);

/// Our hook for the monitor on this port.
pub fn command(place: &Place, port: u16, more: &[&str]) -> Command {
    let mut command = place.command(["hook", "--verbose", "--port", &port.to_string()].iter().chain(more));
    command.env("MPM_MONITOR_HOOK_DEADLINE", "2s");
    command
}

/// Our hook with this input; it must not be noticed.
#[track_caller]
pub fn hook(place: &Place, port: u16, input: &Value) -> Hooked {
    fed(&mut command(place, port, &[]), input.to_string().as_bytes()).unnoticed(DEADLINE)
}

/// One call of a tool: what comes before and after it. `step` tells it from all others.
pub fn call(session: &str, step: usize) -> [Value; 2] {
    let base = |event: &str| {
        json!({"session_id": session, "transcript_path": "/t.jsonl", "cwd": "/w/project", "permission_mode": "default",
            "hook_event_name": event, "tool_name": "Bash", "tool_use_id": format!("toolu_{session}_{step}"),
            "tool_input": {"command": format!("step {step}"), "description": "one of many"}})
    };
    let mut after = base("PostToolUse");
    after["tool_response"] = json!({"stdout": "done", "stderr": "", "interrupted": false});
    [base("PreToolUse"), after]
}

/// All of a short session, in order.
pub fn inputs(session: &str, calls: usize) -> Vec<Value> {
    let of = |event: &str, rest: Value| {
        let mut input = json!({"session_id": session, "transcript_path": "/t.jsonl", "cwd": "/w/project", "hook_event_name": event});
        input.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
        input
    };
    let task = json!({"tool_name": "Task", "tool_use_id": "toolu_task", "tool_input":
        {"subagent_type": "engineer", "description": "Build it", "prompt": "Build the thing, then test it"}});
    let todos = json!({"tool_name": "TodoWrite", "tool_use_id": "toolu_todo", "tool_input":
        {"todos": [{"content": "one", "status": "in_progress", "activeForm": "doing one"}]}});
    let mut all = vec![
        of("SessionStart", json!({"source": "startup"})),
        of("UserPromptSubmit", json!({"prompt": "build the thing \u{1f600} \"now\""})),
        of("PreToolUse", todos),
    ];
    all.extend((0..calls).flat_map(|step| call(session, step)));
    all.push(of("PreToolUse", task));
    all.push(of("SubagentStop", json!({"stop_hook_active": false})));
    all.push(of("Notification", json!({"message": "Claude is waiting for your input"})));
    all.push(of("Stop", json!({"stop_hook_active": false})));
    all.push(of("SessionEnd", json!({"reason": "exit"})));
    all
}

/// The subtypes of the events of [`inputs`], in order.
pub fn expected(calls: usize) -> Vec<String> {
    let mut all = vec!["session_start", "user_prompt", "pre_tool", "todo_updated"];
    all.extend(std::iter::repeat_n(["pre_tool", "post_tool"], calls).flatten());
    all.extend(["pre_tool", "subagent_start", "subagent_stop", "notification", "stop", "session_end"]);
    all.into_iter().map(str::to_owned).collect()
}

/// The payloads of a session's events that the monitor has.
pub fn stored(port: u16, session: &str) -> Vec<Value> {
    let (mut all, mut after) = (Vec::new(), 0);
    loop {
        let path = format!("/api/events?session={session}&limit=1000&after={after}");
        let page = http::get(port, &path).expect("events").json();
        let events = page["events"].as_array().expect("a list").clone();
        let is_last = events.len() < 1000;
        all.extend(events.into_iter().map(|e| e["payload"].clone()));
        after = page["next"].as_u64().expect("a number");
        if is_last {
            return all;
        }
    }
}

/// Waits until a session has this many events, and insists that no more come by asking once more.
#[track_caller]
pub fn wait_for(port: u16, session: &str, count: usize) -> Vec<Value> {
    eventually(SOON, &format!("{count} events of {session}"), || {
        let all = stored(port, session);
        if all.len() >= count { Ok(all) } else { Err(format!("{} of {count}", all.len())) }
    });
    let all = stored(port, session);
    assert_eq!(all.len(), count, "{session}");
    all
}

/// The subtypes of events.
pub fn subtypes(events: &[Value]) -> Vec<String> {
    events.iter().map(|e| e["subtype"].as_str().unwrap_or_default().to_owned()).collect()
}

/// The steps that events tell of, each as its number and whether it is the end of it.
pub fn steps(events: &[Value]) -> Vec<(usize, bool)> {
    let of = |event: &Value| {
        let step = event["correlation_id"].as_str()?.rsplit('_').next()?.parse().ok()?;
        Some((step, event["subtype"] == "post_tool"))
    };
    events.iter().filter_map(of).collect()
}

/// The steps of so many calls, in order.
pub fn all_steps(calls: usize) -> Vec<(usize, bool)> {
    (0..calls).flat_map(|step| [(step, false), (step, true)]).collect()
}
