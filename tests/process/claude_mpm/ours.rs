//! Our own hook and Claude MPM's, each with the same inputs, at the same monitor: field by field.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::bodies;
use super::net::{Net, URL};
use testkit::command::Running;
use testkit::daemon::SOON;
use testkit::eventually;

/// What only the original posts: its own running time, and that a prompt has come.
const THEIRS_ALONE: [&str; 2] = ["hook_execution", "command_acknowledged"];
/// What only ours posts: the original's hook knows nothing of these, and keeps prompts that begin with `/mpm` to itself.
const OURS_ALONE: [&str; 3] = ["pre_compact", "permission_request", "session_end"];

type Events = BTreeMap<(String, String), Value>;

/// The stored events by session and subtype, as long as they have grown to `count`.
#[track_caller]
fn stored(net: &Net, count: usize) -> Vec<Value> {
    eventually(SOON, &format!("{count} events"), || {
        let ran = net.ran(&mut net.command("curl", ["-sS", "-m", "10", &format!("{URL}/api/events?limit=1000")])).ok();
        let all = ran.json()["events"].as_array().cloned().unwrap_or_default();
        if all.len() >= count { Ok(all) } else { Err(all.len().to_string()) }
    })
}

fn by_place(events: &[Value]) -> Events {
    let of = |e: &Value| {
        let payload = &e["payload"];
        let text = |name: &str| payload[name].as_str().unwrap_or_default().to_owned();
        ((text("session_id"), text("subtype")), json!({"name": e["name"], "payload": payload}))
    };
    events.iter().map(of).collect()
}

/// Where two values differ.
fn differences(theirs: &Value, ours: &Value, path: &str, found: &mut BTreeSet<String>) {
    match (theirs, ours) {
        (Value::Object(theirs), Value::Object(ours)) => {
            for name in theirs.keys().chain(ours.keys()).collect::<BTreeSet<_>>() {
                let path = format!("{path}/{name}");
                match (theirs.get(name), ours.get(name)) {
                    (Some(_), None) => drop(found.insert(format!("{path} is not there"))),
                    (None, Some(_)) => drop(found.insert(format!("{path} is new"))),
                    (Some(their), Some(our)) => differences(their, our, &path, found),
                    (None, None) => {}
                }
            }
        }
        (theirs, ours) if theirs == ours => {}
        (Value::String(their), Value::String(our)) if path.ends_with("/timestamp") => {
            // The same moment's form but for the zone, which is written another way.
            assert!(their.ends_with("+00:00") && our.ends_with('Z'), "{their} {our}");
            assert_eq!(their.len() - "+00:00".len(), our.len() - 1);
        }
        _ => drop(found.insert(path.to_owned())),
    }
}

#[test]
fn our_hook_says_what_theirs_says() {
    let Some(net) = Net::new() else { return };
    let _monitor = net.monitor(&[]);
    let project = net.path("project").to_string_lossy().into_owned();
    let inputs = bodies::hook_inputs(&project);
    let file = net.path("inputs.json");
    std::fs::write(&file, json!(inputs).to_string()).unwrap();
    net.ran(&mut net.theirs("hooks.py", &[file.to_str().unwrap()])).ok();
    // They post from two threads; all of it has come once nothing more does.
    let theirs = stored(&net, 40);
    let before = theirs.len();
    for input in &inputs {
        let mut hook = Running::start(net.command(testkit::program(), ["hook"]).env("MPM_MONITOR_HOOK_DEADLINE", "5s"));
        hook.say(&input.to_string());
        assert_eq!((hook.end(SOON), hook.seen.len()), (0, 0), "{:?}", hook.seen);
    }
    let all = stored(&net, before + inputs.len());
    let ours = by_place(&all[before..]);
    let theirs = by_place(&theirs);
    let kinds = |events: &Events| events.keys().cloned().collect::<BTreeSet<_>>();
    for (session, subtype) in kinds(&theirs).difference(&kinds(&ours)) {
        assert!(THEIRS_ALONE.contains(&subtype.as_str()), "{subtype} of {session} is not there");
    }
    let is_command =
        |session: &str| ours[&(session.to_owned(), "user_prompt".to_owned())]["payload"]["data"]["is_command"] == true;
    for (session, subtype) in kinds(&ours).difference(&kinds(&theirs)) {
        let is_known = OURS_ALONE.contains(&subtype.as_str()) || (subtype == "user_prompt" && is_command(session));
        assert!(is_known, "{subtype} of {session} is new");
    }
    let (mut compared, mut found) = (0, BTreeMap::<String, BTreeSet<String>>::new());
    for (place, theirs) in &theirs {
        if let Some(ours) = ours.get(place) {
            differences(theirs, ours, "", found.entry(place.1.clone()).or_default());
            compared += 1;
        }
    }
    let everywhere = ["/payload/data/event_id is new"];
    let expected: &[(&str, &[&str])] = &[
        (
            "assistant_response",
            &["/payload/data/has_structured_response is not there", "/payload/data/is_tracked_response is not there"],
        ),
        ("notification", &[]),
        (
            "post_tool",
            &[
                "/payload/correlation_id is new",
                "/payload/data/correlation_id is new",
                "/payload/data/has_output",
                "/payload/data/output_size",
                "/payload/data/result_summary/has_output",
                "/payload/data/result_summary/output_lines is new",
                "/payload/data/result_summary/output_preview is new",
            ],
        ),
        ("pre_tool", &["/payload/correlation_id", "/payload/data/correlation_id"]),
        (
            "session_start",
            &[
                "/payload/data/has_pending_tasks is not there",
                "/payload/data/pending_task_count is not there",
                "/payload/data/start_source is new",
            ],
        ),
        ("stop", &[]),
        // The prompt is the user's; theirs puts what its agent remembers in front. Of the call of a tool, so with its folder.
        ("subagent_start", &["/payload/cwd is new", "/payload/data/prompt"]),
        ("subagent_stop", &[]),
        ("todo_updated", &["/payload/cwd is new"]),
        ("user_prompt", &[]),
    ];
    let expected: BTreeMap<String, BTreeSet<String>> = expected
        .iter()
        .map(|(subtype, all)| ((*subtype).to_owned(), all.iter().chain(&everywhere).map(|d| (*d).to_owned()).collect()))
        .collect();
    println!("{compared} events compared");
    assert_eq!(found, expected);
}
