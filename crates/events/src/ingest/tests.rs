use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const NOW: &str = "2026-11-22T01:54:47.473075Z";

fn now() -> Timestamp {
    NOW.parse().unwrap()
}

fn wrap(body: &str) -> Draft {
    draft(body.as_bytes(), Dialect::Wrapped, now()).unwrap_or_else(|e| panic!("{body}: {e}"))
}

fn pass(body: &str) -> Draft {
    draft(body.as_bytes(), Dialect::PassThrough, now()).unwrap_or_else(|e| panic!("{body}: {e}"))
}

const PYTHON_HOOK: &str = r#"{"namespace": "", "event": "claude_event", "data": {"event": "mpm_event", "source": "hook", "type": "hook", "subtype": "pre_tool", "timestamp": "2026-02-18T12:00:00.000000+00:00", "data": {"tool_name": "Bash", "session_id": "s-1", "cwd": "/w", "tool_call_id": "tc1"}, "correlation_id": "tc1", "session_id": "s-1", "cwd": "/w"}}"#;

/// The bash hook pretty-prints, and holds what the agent said at `data.data`.
const BASH_HOOK: &str = r#"{
  "namespace": "/",
  "event": "claude_event",
  "data": {
    "type": "hook",
    "subtype": "pre_tool",
    "hook_event_name": "PreToolUse",
    "tool_name": "Bash",
    "session_id": "s-2",
    "correlation_id": "Bash_1",
    "timestamp": "2026-02-18T12:00:00.000Z",
    "source": "fast_hook",
    "data": {"hook_event_name": "PreToolUse", "session_id": "s-2", "cwd": "/w2", "tool_name": "Bash", "tool_input": {"command": "ls\n -l"}}
  }
}
"#;

/// Body and what the original 5.9.10 emitted for it; `NOW` where it made the timestamp itself.
const WRAPPED: [(&str, &str); 22] = [
    (
        PYTHON_HOOK,
        r#"{"type":"tool_event","subtype":"pre_tool","data":{"tool_name":"Bash","session_id":"s-1","cwd":"/w","tool_call_id":"tc1"},"timestamp":"2026-02-18T12:00:00.000000+00:00","session_id":"s-1","source":"hook","correlation_id":"tc1","cwd":"/w"}"#,
    ),
    (
        BASH_HOOK,
        r#"{"type":"tool_event","subtype":"pre_tool","data":{"hook_event_name":"PreToolUse","session_id":"s-2","cwd":"/w2","tool_name":"Bash","tool_input":{"command":"ls\n -l"}},"timestamp":"2026-02-18T12:00:00.000Z","session_id":"s-2","source":"fast_hook","correlation_id":"Bash_1","cwd":"/w2"}"#,
    ),
    (
        r#"{"namespace": "hook", "event": "session.started", "data": {"x": 1}}"#,
        r#"{"type":"session_event","subtype":"session.started","data":{"x":1},"timestamp":NOW,"session_id":null,"source":"hook"}"#,
    ),
    (
        r#"{"event": "heartbeat", "data": {"x": 1}}"#,
        r#"{"type":"claude_event","subtype":"heartbeat","data":{"x":1},"timestamp":NOW,"session_id":null,"source":"hook"}"#,
    ),
    (
        r#"{"event": "claude_event", "data": {"type": "hook", "subtype": "SessionStart", "data": {"data": {"deep": 1, "data": {"deeper": {"a": [1, 2]}}}}}}"#,
        r#"{"type":"claude_event","subtype":"SessionStart","data":{"deeper":{"a":[1,2]}},"timestamp":NOW,"session_id":null,"source":"hook"}"#,
    ),
    (
        r#"{"event": "claude_event", "data": {"type": "hook", "subtype": "stop", "data": {"data": [1, 2, 3], "timestamp": 12345.5}}}"#,
        r#"{"type":"claude_event","subtype":"stop","data":{"data":[1,2,3],"timestamp":12345.5},"timestamp":12345.5,"session_id":null,"source":"hook"}"#,
    ),
    (
        r#"{"data": {}}"#,
        r#"{"type":"claude_event","subtype":"claude_event","data":{},"timestamp":NOW,"session_id":null,"source":"hook"}"#,
    ),
    (
        "{}",
        r#"{"type":"claude_event","subtype":"claude_event","data":{},"timestamp":NOW,"session_id":null,"source":"hook"}"#,
    ),
    (
        r#"{"event": "mpm_event", "source": "hook", "type": "hook", "subtype": "pre_tool", "timestamp": "2026-02-18T12:00:00.000000+00:00", "data": {"tool_name": "Bash", "session_id": "s-1", "cwd": "/w", "tool_call_id": "tc1"}, "correlation_id": "tc1", "session_id": "s-1", "cwd": "/w"}"#,
        r#"{"type":"claude_event","subtype":"mpm_event","data":{"tool_name":"Bash","session_id":"s-1","cwd":"/w","tool_call_id":"tc1"},"timestamp":NOW,"session_id":"s-1","source":"hook","cwd":"/w"}"#,
    ),
    (
        r#"{"event":"claude_event","data":{"type":"hook","subtype":"user_prompt"}}"#,
        r#"{"type":"claude_event","subtype":"user_prompt","data":{"type":"hook","subtype":"user_prompt"},"timestamp":NOW,"session_id":null,"source":"hook"}"#,
    ),
    (
        r#"{"event":"claude_event","data":{"subtype":123}}"#,
        r#"{"type":"claude_event","subtype":123,"data":{"subtype":123},"timestamp":NOW,"session_id":null,"source":"hook"}"#,
    ),
    (
        r#"{"event":"claude_event","data":{"subtype":["a"]}}"#,
        r#"{"type":"claude_event","subtype":["a"],"data":{"subtype":["a"]},"timestamp":NOW,"session_id":null,"source":"hook"}"#,
    ),
    // A todo_updated has no cwd; the hook's own working_directory inside the data stands in for it.
    (
        r#"{"data":{"type":"hook","subtype":"todo_updated","session_id":"sess-1","data":{"todos":[],"working_directory":"/p"}}}"#,
        r#"{"type":"hook_event","subtype":"todo_updated","data":{"todos":[],"working_directory":"/p"},"timestamp":NOW,"session_id":"sess-1","source":"hook","cwd":"/p"}"#,
    ),
    // The inner source wins; the outer timestamp wins; the inner session wins.
    (
        r#"{"data":{"subtype":"hook_execution","source":"hook","timestamp":"T1","session_id":"out","data":{"source":"claude_hook_handler","timestamp":"T2","sessionId":"in"}}}"#,
        r#"{"type":"claude_event","subtype":"hook_execution","data":{"source":"claude_hook_handler","timestamp":"T2","sessionId":"in"},"timestamp":"T1","session_id":"in","source":"claude_hook_handler"}"#,
    ),
    // Falsy values are passed over, as `or` does.
    (
        r#"{"event":"stop","data":{"subtype":"","type":0,"timestamp":null,"session_id":[],"sessionId":"s","source":{},"correlation_id":"","cwd":false,"working_directory":0.0}}"#,
        r#"{"type":"claude_event","subtype":"stop","data":{"subtype":"","type":0,"timestamp":null,"session_id":[],"sessionId":"s","source":{},"correlation_id":"","cwd":false,"working_directory":0.0},"timestamp":NOW,"session_id":"s","source":"hook"}"#,
    ),
    // The subtype of the inner object goes before the type of the outer one.
    (
        r#"{"data":{"type":"hook","data":{"subtype":"agent_start","type":"x"}}}"#,
        r#"{"type":"agent_event","subtype":"agent_start","data":{"subtype":"agent_start","type":"x"},"timestamp":NOW,"session_id":null,"source":"hook"}"#,
    ),
    (
        r#"{"event":null,"data":{"session_id":7}}"#,
        r#"{"type":"claude_event","subtype":"claude_event","data":{"session_id":7},"timestamp":NOW,"session_id":7,"source":"hook"}"#,
    ),
    // An empty object under `data` is still an object: everything of the outer level is lost.
    (
        r#"{"data":{"x":1,"subtype":"file.edit","data":{}}}"#,
        r#"{"type":"file_event","subtype":"file.edit","data":{},"timestamp":NOW,"session_id":null,"source":"hook"}"#,
    ),
    // Nothing of the data is read and written again.
    (
        r#"{"data":{"subtype":"stop","n":[1e400,12345678901234567890.0,-0,1E+2],"k":1,"k":2,"u":"\u00e9é\ud800\/"}}"#,
        r#"{"type":"claude_event","subtype":"stop","data":{"subtype":"stop","n":[1e400,12345678901234567890.0,-0,1E+2],"k":1,"k":2,"u":"\u00e9é\ud800\/"},"timestamp":NOW,"session_id":null,"source":"hook"}"#,
    ),
    (
        r#"{"data":{"s\u0075btype":"pre\u005ftool"}}"#,
        r#"{"type":"tool_event","subtype":"pre\u005ftool","data":{"s\u0075btype":"pre\u005ftool"},"timestamp":NOW,"session_id":null,"source":"hook"}"#,
    ),
    (
        r#"{"data":{"a":1},"data":{"subtype":"system_ready","subtype":"stop"}}"#,
        r#"{"type":"claude_event","subtype":"stop","data":{"subtype":"system_ready","subtype":"stop"},"timestamp":NOW,"session_id":null,"source":"hook"}"#,
    ),
    (
        "\t{ \"data\" : { \"session_id\" : { \"a b\" : 1 } , \"type\" : \"response.end\" } }\r\n",
        r#"{"type":"response_event","subtype":"response.end","data":{"session_id":{"a b":1},"type":"response.end"},"timestamp":NOW,"session_id":{"a b":1},"source":"hook"}"#,
    ),
];

#[test]
fn wrapped_becomes_what_the_original_emits() {
    for (body, payload) in WRAPPED {
        let expected = payload.replace("NOW", &format!("\"{NOW}\""));
        let draft = wrap(body);
        assert_eq!(&*draft.payload, expected, "{body}");
        let value: Value = serde_json::from_str(&expected.replace("\\ud800", "")).unwrap_or(Value::Null);
        if let Some(kind) = value["type"].as_str() {
            assert_eq!(draft.name, kind, "name and `type` are the same");
        }
    }
}

#[test]
fn the_draft_says_subtype_and_session_as_text() {
    let told = |body| {
        let draft = wrap(body);
        (draft.subtype, draft.session)
    };
    assert_eq!(told(PYTHON_HOOK), ("pre_tool".into(), Some("s-1".into())));
    assert_eq!(told("{}"), ("claude_event".into(), None));
    assert_eq!(told(r#"{"data":{"subtype":123,"session_id":7}}"#), ("123".into(), Some("7".into())));
    assert_eq!(told(r#"{"data":{"subtype":[ "a" ],"sessionId":"\u00e9"}}"#), (r#"["a"]"#.into(), Some("é".into())));
    assert_eq!(told(r#"{"data":{"subtype":"a\ud800"}}"#), (r"a\ud800".into(), None), "half a pair stays escaped");
}

#[test]
fn every_subtype_has_its_category() {
    let table = [
        ("hook_event", "subagent_start subagent_stop todo_updated"),
        ("tool_event", "pre_tool post_tool tool.start tool.end tool_use tool_result"),
        ("session_event", "session.started session.ended session_start session_end token_usage_updated"),
        ("response_event", "response.start response.end response_started response_ended"),
        ("agent_event", "agent.delegated agent.returned agent_start agent_end"),
        ("file_event", "file.read file.write file.edit file_read file_write"),
        ("system_event", "system_ready system_shutdown"),
        (
            "claude_event",
            "user_prompt assistant_message stop notification hook_execution command_acknowledged Pre_Tool",
        ),
    ];
    for (category, subtypes) in table {
        for subtype in subtypes.split(' ') {
            let draft = wrap(&json!({"data": {"subtype": subtype}}).to_string());
            assert_eq!((draft.name.as_str(), draft.subtype.as_str()), (category, subtype));
            let by_event = wrap(&json!({"event": subtype}).to_string());
            assert_eq!(by_event.name, category, "the event's own name stands in for a subtype");
        }
    }
}

#[test]
fn pass_through_changes_nothing_but_whitespace() {
    let table = [
        ("{}", "claude_event", "", None, "{}"),
        (r#"{"data": {}}"#, "claude_event", "", None, "{}"),
        (
            r#"{"namespace": "hook", "event": "session.started", "data": {"x": 1}}"#,
            "session.started",
            "",
            None,
            r#"{"x":1}"#,
        ),
        (r#"{"event": "heartbeat", "data": {"x": 1}}"#, "heartbeat", "", None, r#"{"x":1}"#),
        (r#"{"event":"claude_event","data":"str"}"#, "claude_event", "", None, r#""str""#),
        (r#"{"event":"claude_event","data":[1]}"#, "claude_event", "", None, "[1]"),
        (r#"{"event":"claude_event","data":null}"#, "claude_event", "", None, "{}"),
        (r#"{"event":"","data":0}"#, "claude_event", "", None, "{}"),
        (r#"{"event":"claude_event","data":{"subtype":123}}"#, "claude_event", "123", None, r#"{"subtype":123}"#),
        (
            r#"{"event": "mpm_event", "subtype": "pre_tool", "data": {"session_id": "s-1", "cwd": "/w"}, "cwd": "/w"}"#,
            "mpm_event",
            "",
            Some("s-1"),
            r#"{"session_id":"s-1","cwd":"/w"}"#,
        ),
        (
            r#"{"data": {"subtype": "stop", "data": {"data": [1, 2.50], "sessionId": "in"}}}"#,
            "claude_event",
            "stop",
            Some("in"),
            r#"{"subtype":"stop","data":{"data":[1,2.50],"sessionId":"in"}}"#,
        ),
    ];
    for (body, name, subtype, session, payload) in table {
        let draft = pass(body);
        let got = (draft.name.as_str(), draft.subtype.as_str(), draft.session.as_deref(), &*draft.payload);
        assert_eq!(got, (name, subtype, session, payload), "{body}");
    }
    let hook = pass(PYTHON_HOOK);
    let sent: Value = serde_json::from_str(PYTHON_HOOK).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&hook.payload).unwrap(), sent["data"]);
    assert_eq!(pass(BASH_HOOK).payload.lines().count(), 1);
}

#[test]
fn what_is_not_an_event_is_refused_with_a_reason() {
    let deep = format!("{{\"data\":{}{}}}", "[".repeat(500_000), "]".repeat(500_000));
    let chain = format!("{}{{}}{}", "{\"data\":".repeat(scan::MAX_DEPTH), "}".repeat(scan::MAX_DEPTH));
    let table: [(&[u8], &str); 20] = [
        (b"", "malformed_json"),
        (b" \n", "malformed_json"),
        (b"{bad json", "malformed_json"),
        (b"{\"data\":{}", "malformed_json"),
        (b"{} {}", "malformed_json"),
        (b"{\"data\":{\"x\":NaN}}", "malformed_json"),
        (b"{\"data\":{\"x\":01}}", "malformed_json"),
        (b"{\"tool\":\"a\"b\"}", "malformed_json"),
        (b"\xef\xbb\xbf{}", "malformed_json"),
        (b"{\"a\":\"\n\"}", "malformed_json"),
        (b"[]", "not_an_object"),
        (b"\"str\"", "not_an_object"),
        (b" null", "not_an_object"),
        (b"{\"data\":\"str\"}", "data_not_an_object"),
        (b"{\"data\":[1]}", "data_not_an_object"),
        (b"{\"data\":null}", "data_not_an_object"),
        (b"\xff{}", "invalid_utf8"),
        (b"{\"data\":{\"x\":\"\xc3(\"}}", "invalid_utf8"),
        (deep.as_bytes(), "nested_too_deep"),
        (chain.as_bytes(), "nested_too_deep"),
    ];
    for (body, code) in table {
        let error = draft(body, Dialect::Wrapped, now()).expect_err(code);
        assert_eq!(error.code(), code);
        assert!(!error.to_string().contains('\n'), "one line: {error}");
    }
    let unclosed = "{\"data\":".repeat(200_000);
    assert_eq!(draft(unclosed.as_bytes(), Dialect::Wrapped, now()).unwrap_err().code(), "malformed_json");
}

#[test]
fn the_deepest_accepted_body_is_accepted() {
    let levels = scan::MAX_DEPTH - 1;
    let chain = format!("{}{{}}{}", "{\"data\":".repeat(levels), "}".repeat(levels));
    assert!(wrap(&chain).payload.contains(r#""data":{},"#));
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-1e9..1e9f64).prop_map(Value::from),
        Just(json!(0)),
        Just(json!("")),
        "\\PC{0,6}".prop_map(Value::from),
        Just(json!("pre_tool")),
        "[\\x00-\\x7f]{0,8}".prop_map(Value::from),
    ];
    let key = prop_oneof![
        prop::sample::select(FIELD_NAMES.as_slice()).prop_map(str::to_owned),
        "[\\x00-\\x7f]{0,4}",
        Just("data".to_owned()),
    ];
    leaf.prop_recursive(6, 40, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(key.clone(), inner, 0..8)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

const FIELD_NAMES: [&str; 11] = [
    "event",
    "data",
    "type",
    "subtype",
    "timestamp",
    "session_id",
    "sessionId",
    "source",
    "correlation_id",
    "cwd",
    "working_directory",
];

/// The rules once more, as the original states them, over a data model.
fn as_python_would(body: &Value) -> Option<Value> {
    let truthy = |v: &Value| match v {
        Value::Null => false,
        Value::Bool(b) => *b,
        Value::Number(n) => n.as_f64() != Some(0.0),
        Value::String(s) => !s.is_empty(),
        Value::Array(a) => !a.is_empty(),
        Value::Object(o) => !o.is_empty(),
    };
    let or =
        |candidates: &[&Value], default: Value| candidates.iter().find(|v| truthy(v)).map_or(default, |v| (*v).clone());
    let empty = json!({});
    let data = body.get("data").unwrap_or(&empty);
    data.as_object()?;
    let mut inner = data;
    while inner["data"].is_object() {
        inner = &inner["data"];
    }
    let subtype = or(
        &[&data["subtype"], &inner["subtype"], &data["type"], &inner["type"], &body["event"]],
        json!("claude_event"),
    );
    let category = if subtype == "pre_tool" { "tool_event" } else { "claude_event" };
    let session = [&inner["session_id"], &inner["sessionId"], &data["session_id"], &data["sessionId"]];
    let mut event = json!({
        "type": category,
        "subtype": subtype,
        "data": inner,
        "timestamp": or(&[&data["timestamp"], &inner["timestamp"]], json!(NOW)),
        "session_id": or(&session, Value::Null),
        "source": or(&[&inner["source"], &data["source"]], json!("hook")),
    });
    let correlation = or(&[&inner["correlation_id"], &data["correlation_id"]], Value::Null);
    let dirs = [&inner["cwd"], &inner["working_directory"], &data["cwd"], &data["working_directory"]];
    for (key, value) in [("correlation_id", correlation), ("cwd", or(&dirs, Value::Null))] {
        if truthy(&value) {
            event[key] = value;
        }
    }
    Some(event)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    #[test]
    fn any_bytes_are_an_event_or_an_error(body in prop::collection::vec(any::<u8>(), 0..200)) {
        for dialect in [Dialect::Wrapped, Dialect::PassThrough] {
            let _ = draft(&body, dialect, now());
        }
    }

    #[test]
    fn any_tokens_are_an_event_or_an_error(
        tokens in prop::collection::vec(prop::sample::select(
            ["{", "}", "[", "]", ",", ":", "\"data\"", "\"\\", "\"", "\\u0061", "1e400", "null", " ", "\n", "é"].as_slice()
        ), 0..60)
    ) {
        let body = tokens.concat();
        let valid = serde_json::from_str::<&RawValue>(&body).is_ok() && body.trim_start().starts_with('{');
        prop_assert_eq!(draft(body.as_bytes(), Dialect::PassThrough, now()).is_ok(), valid);
    }

    #[test]
    fn any_object_becomes_what_the_rules_say(
        data in any_json(),
        inner in any_json(),
        more in any_json(),
        pretty in any::<bool>(),
    ) {
        let mut value = more;
        if let Some(body) = value.as_object_mut() {
            body.insert("data".into(), data);
            if let Some(data) = body["data"].as_object_mut() {
                data.insert("data".into(), inner);
            }
        }
        let body = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.unwrap();
        // Read back, so that both sides have the same idea of a decimal fraction.
        let value: Value = serde_json::from_str(&body).unwrap();
        let got = draft(body.as_bytes(), Dialect::Wrapped, now());
        match value.as_object().and_then(|_| as_python_would(&value)) {
            None => prop_assert!(got.is_err()),
            Some(event) => {
                let got = got.unwrap();
                prop_assert!(!got.payload.contains('\n'));
                prop_assert_eq!(serde_json::from_str::<Value>(&got.payload).unwrap(), event);
            }
        }
    }

    #[test]
    fn data_is_contained_unchanged(value in any_json()) {
        // What serde_json writes is compact, so it must come out as the very same bytes.
        let data = json!({ "payload": value });
        let body = json!({ "data": data }).to_string();
        let text = data.to_string();
        prop_assert!(draft(body.as_bytes(), Dialect::Wrapped, now()).unwrap().payload.contains(&text));
        prop_assert_eq!(&*draft(body.as_bytes(), Dialect::PassThrough, now()).unwrap().payload, text.as_str());
    }
}
