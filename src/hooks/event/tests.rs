use serde_json::{Value, json};

use super::super::input::Input;
use super::*;

fn made(input: &Value) -> Vec<(String, Value)> {
    let around =
        Surroundings { now: Timestamp::UNIX_EPOCH, branch: |_| Some("main".to_owned()), key: super::super::key::fresh };
    let text = if let Value::String(text) = input { text.clone() } else { input.to_string() };
    of(&Input { text, cut: 0 }, around)
        .into_iter()
        .map(|m| {
            assert!(!m.body.contains('\n'), "{}", m.body);
            let body: Value = serde_json::from_str(&m.body).unwrap_or_else(|e| panic!("{e}: {}", m.body));
            assert_eq!(body["data"]["data"]["event_id"], m.key);
            assert_eq!(body["data"]["subtype"], m.subtype);
            (m.subtype, body["data"].clone())
        })
        .collect()
}

fn one(input: &Value) -> (String, Value) {
    let mut all = made(input);
    assert_eq!(all.len(), 1, "{all:?}");
    all.remove(0)
}

fn hook(name: &str, rest: Value) -> Value {
    let mut event = json!({"session_id": "s", "cwd": "/w", "hook_event_name": name});
    event.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
    event
}

#[test]
fn a_call_and_its_result_share_what_pairs_them() {
    let input = json!({"command": "ls", "n": {"b": 1, "a": [2]}});
    let pre = |rest: Value| one(&hook("PreToolUse", rest)).1["correlation_id"].clone();
    let post = |rest: Value| one(&hook("PostToolUse", rest)).1["correlation_id"].clone();
    let call = json!({"tool_name": "Bash", "tool_input": input, "tool_use_id": "toolu_1"});
    assert_eq!((pre(call.clone()), post(call)), (json!("toolu_1"), json!("toolu_1")));
    let without = json!({"tool_name": "Bash", "tool_input": input});
    let derived = pre(without.clone());
    assert_eq!(derived.as_str().unwrap().len(), 32);
    assert_eq!(derived, post(without));
    assert_ne!(derived, pre(json!({"tool_name": "Bash", "tool_input": {"command": "ls2"}})));
    assert_ne!(derived, pre(json!({"tool_name": "Bas", "tool_input": input})));
}

#[test]
fn a_task_and_a_todo_list_say_two_things() {
    let task = json!({"tool_name": "Task", "tool_input": {"subagent_type": "Data Engineer", "prompt": "do it"}});
    let all = made(&hook("PreToolUse", task));
    assert_eq!(all.iter().map(|(s, _)| s.as_str()).collect::<Vec<_>>(), ["pre_tool", "subagent_start"]);
    assert_eq!(all[1].1["data"]["agent_type"], "data-engineer");
    assert_eq!(all[0].1["data"]["delegation_details"]["original_agent_type"], "Data Engineer");
    let todos = json!([{"content": "a", "status": "completed"}, {"content": "b"}]);
    let all = made(&hook("PreToolUse", json!({"tool_name": "TodoWrite", "tool_input": {"todos": todos}})));
    assert_eq!(all[1].0, "todo_updated");
    assert_eq!((&all[1].1["data"]["todos"], &all[1].1["data"]["total_count"]), (&todos, &json!(2)));
    let said = &all[0].1["data"]["tool_parameters"];
    assert_eq!(said["todo_summary"]["summary"], "1 completed, 1 pending");
    assert_eq!((&said["has_pending"], &said["priorities"]), (&json!(false), &json!(["medium"])));
}

#[test]
fn what_a_tool_answered_is_told_in_few_words() {
    let response = json!({"stdout": "a\nb", "stderr": "", "interrupted": false});
    let (subtype, event) = one(&hook("PostToolUse", json!({"tool_name": "Bash", "tool_response": response})));
    assert_eq!((&*subtype, &event["data"]["output_size"]), ("post_tool", &json!(3)));
    assert_eq!(event["data"]["result_summary"]["output_preview"], "a\nb");
    let (_, event) = one(&hook("PostToolUse", json!({"tool_name": "Bash", "exit_code": 2})));
    assert_eq!(event["data"]["status"], "blocked");
    let (_, event) = one(&hook("PostToolUseFailure", json!({"tool_name": "Bash", "error": "no"})));
    assert_eq!((&event["data"]["success"], &event["data"]["has_error"]), (&json!(false), &json!(true)));
}

/// The reader takes these members for its own, and would lose what is around them.
#[test]
fn what_the_input_says_never_takes_the_place_of_what_the_event_says() {
    let rest = json!({"trigger": "auto", "data": {"x": 1}, "type": "t", "source": "startup", "flag": true, "n": 1.5});
    let (subtype, event) = one(&hook("PreCompact", rest));
    assert_eq!((&*subtype, &event["source"]), ("pre_compact", &json!("hook")));
    let inner = event["data"].as_object().unwrap();
    assert!(["data", "type", "source", "subtype"].iter().all(|n| !inner.contains_key(*n)), "{inner:?}");
    assert_eq!((&inner["trigger"], &inner["flag"], &inner["n"]), (&json!("auto"), &json!(true), &json!(1.5)));
    let (subtype, event) = one(&hook("SessionStart", json!({"source": "resume"})));
    assert_eq!((&*subtype, &event["data"]["start_source"]), ("session_start", &json!("resume")));
}

#[test]
fn an_input_that_broke_off_still_says_who_and_what() {
    let whole = hook("PostToolUse", json!({"tool_name": "Read", "tool_response": "x".repeat(100)})).to_string();
    let text = whole[..whole.len() - 20].to_owned();
    assert_eq!(made(&json!("no json")).len() + made(&json!("")).len() + made(&json!("[1]")).len(), 0);
    // serde_json sorts: all but the last members are whole.
    let (subtype, event) = one(&Value::String(text));
    assert_eq!((&*subtype, &event["session_id"], &event["cwd"]), ("post_tool", &json!("s"), &json!("/w")));
    assert_eq!(event["data"]["input_cut_bytes"], 0);
}

#[test]
fn characters_are_counted_and_strange_text_survives() {
    let prompt = "ä\u{1f600}\"\\\u{0}".repeat(100);
    let (_, event) = one(&hook("UserPromptSubmit", json!({"prompt": prompt})));
    assert_eq!((&event["data"]["prompt_text"], &event["data"]["prompt_length"]), (&json!(prompt), &json!(500)));
    assert_eq!(event["data"]["prompt_preview"].as_str().unwrap().chars().count(), 200);
    let (subtype, event) = one(&json!({"hook_event_name": "Stop", "session_id": 7}));
    assert_eq!((&*subtype, &event["session_id"], event.get("cwd")), ("stop", &json!("7"), None));
}
