use super::*;

const COMMAND: &str = "/usr/local/bin/mpm-monitor hook";

/// Settings as people have them.
pub(super) fn samples() -> Vec<(&'static str, String)> {
    let plain = r#"{
  "model": "opus",
  "permissions": {
    "allow": ["Bash(git diff:*)", "Read(~/.zshrc)"],
    "deny": []
  },
  "env": { "FOO": "bar" }
}
"#;
    let other_hooks = r#"{
  "hooks": {
    "PreToolUse": [
      {
        "matcher": "Bash",
        "hooks": [
          { "type": "command", "command": "~/bin/check-command.sh", "timeout": 10 }
        ]
      }
    ],
    "Stop": [
      { "hooks": [{ "type": "command", "command": "say done" }] }
    ]
  },
  "statusLine": { "type": "command", "command": "~/.claude/statusline.sh" }
}
"#;
    let comments = r#"// my settings
{
  // do not touch
  "cleanupPeriodDays": 20, /* weeks */
  "hooks": {
    "PostToolUse": [
      // formats
      {
        "matcher": "Edit|Write",
        "hooks": [
          {
            "type": "command",
            "command": "prettier --write", // slow
          },
        ],
      },
    ],
  },
}
// the end
"#;
    let claude_mpm = r#"{
    "hooks": {
        "PreToolUse": [{"matcher": "*", "hooks": [{"type": "command", "command": "/home/u/.local/bin/claude-hook", "timeout": 60}]}],
        "PostToolUse": [{"matcher": "*", "hooks": [{"type": "command", "command": "/home/u/.local/bin/claude-hook", "timeout": 60}]}],
        "Stop": [{"matcher": "*", "hooks": [{"type": "command", "command": "bash /v/lib/python3.11/site-packages/claude_mpm/scripts/claude-hook-fast.sh"}]}]
    }
}"#;
    let huge: Vec<String> = (0..20_000).map(|n| format!("      \"Bash(tool-{n}:*)\"")).collect();
    vec![
        ("nothing", String::new()),
        ("spaces", "  \n\n".to_owned()),
        ("an empty object", "{}".to_owned()),
        ("an empty object of two lines", "{\n}\n".to_owned()),
        ("empty hooks", "{\n  \"hooks\": {}\n}\n".to_owned()),
        ("no hooks", plain.to_owned()),
        ("other hooks", other_hooks.to_owned()),
        ("comments and trailing commas", comments.to_owned()),
        ("line ends of Windows", other_hooks.replace('\n', "\r\n")),
        ("a mark in front", format!("\u{feff}{plain}")),
        ("tabs", other_hooks.replace("  ", "\t")),
        (
            "one line",
            r#"{"a":1,"hooks":{"Stop":[{"hooks":[{"type":"command","command":"x"}]}]},"b":[1, 2]}"#.to_owned(),
        ),
        ("hooks of Claude MPM", claude_mpm.to_owned()),
        ("huge", format!("{{\n  \"permissions\": {{\n    \"allow\": [\n{}\n    ]\n  }}\n}}\n", huge.join(",\n"))),
        ("not ASCII", "{\n  \"env\": {\"GRÜSSE\": \"\u{1f600} \\u00e4 \\/\"}\n}\n".to_owned()),
    ]
}

fn of(text: &str, owner: Owner) -> Vec<Entry> {
    entries(text).unwrap().into_iter().filter(|e| e.owner == owner).collect()
}

#[test]
fn ours_comes_in_and_goes_and_nothing_else_changes() {
    for (name, text) in samples() {
        let with = with_ours(&text, COMMAND).unwrap_or_else(|e| panic!("{name}: {e}"));
        let events: Vec<_> = of(&with, Owner::Ours).into_iter().map(|e| e.event).collect();
        assert_eq!(events.len(), EVENTS.len(), "{name}: {with}");
        assert!(EVENTS.iter().all(|(event, _)| events.iter().any(|e| e == event)), "{name}");
        for owner in [Owner::Other, Owner::ClaudeMpm] {
            assert_eq!(of(&with, owner), of(&text, owner), "{name}");
        }
        assert_eq!(with_ours(&with, COMMAND).unwrap(), with, "{name}: a second time changes nothing");
        // What was there is still there, character by character and in order: the change only puts in.
        let mut rest = with.chars();
        let lost = text.chars().filter(|c| !c.is_whitespace()).find(|c| !rest.any(|w| w == *c));
        assert_eq!(lost, None, "{name}:\n{}", diff(&text, &with, name));
        let ends = if text.contains("\r\n") { text.matches("\r\n").count() } else { 0 };
        if ends > 0 {
            assert_eq!(with.matches('\n').count(), with.matches("\r\n").count(), "{name}");
        }
        let without = without_ours(&with).unwrap();
        assert!(of(&without, Owner::Ours).is_empty(), "{name}");
        let compact = |text: &str| text.chars().filter(|c| !c.is_whitespace()).collect::<String>();
        let (was, is) = (compact(&text), compact(&without));
        // Hooks that were empty go with ours, and a file that held nothing is an empty object.
        let same = is == was || is == was.replace("\"hooks\":{}", "") || (was.is_empty() && is == "{}");
        assert!(same, "{name}:\n{}", diff(&text, &without, name));
        println!("{name}: {} of {} bytes back", without.len(), text.len());
        assert_eq!(without_ours(&text).unwrap(), text, "{name}: where nothing of ours is, nothing changes");
    }
}

#[test]
fn an_edit_looks_as_if_written_by_hand() {
    let text = "{\n  \"model\": \"opus\"\n}\n";
    let change = diff(text, &with_ours(text, COMMAND).unwrap(), "settings.json");
    let removed: Vec<_> = change.lines().filter(|l| l.starts_with('-') && !l.starts_with("---")).collect();
    assert_eq!(removed, ["-  \"model\": \"opus\""], "{change}");
    let stop = "+    \"Stop\": [\n+      {\n+        \"hooks\": [\n+          {\n+            \"type\": \"command\",\n+            \
                \"command\": \"/usr/local/bin/mpm-monitor hook\",\n+            \"timeout\": 5\n+          }\n+        ]\n+      }\n+    ]";
    assert!(change.contains(stop), "{change}");
}

#[test]
fn another_path_replaces_the_command_where_it_stands() {
    let (_, text) = samples().swap_remove(7);
    let with = with_ours(&text, "/old/mpm-monitor hook --port 9").unwrap();
    let moved = with_ours(&with, COMMAND).unwrap();
    assert_eq!(moved, with.replace("/old/mpm-monitor hook --port 9", COMMAND));
}

#[test]
fn another_path_replaces_the_command_wherever_it_stands() {
    let text = r#"{"hooks":{"PreToolUse":[{"matcher":"Bash","hooks":[{"type":"command","command":"/old/mpm-monitor hook"}]},
{"matcher":"Edit","hooks":[{"type":"command","command":"x"},{"type":"command","command":"/old/mpm-monitor hook"}]}],
"SubagentStart":[{"hooks":[{"type":"command","command":"/old/mpm-monitor hook"}]}]}}"#;
    let all = entries(&with_ours(text, COMMAND).unwrap()).unwrap();
    assert!(all.iter().all(|entry| entry.command == COMMAND || entry.command == "x"), "{all:?}");
    assert_eq!(all.len(), 4 + EVENTS.len() - 1);
}

/// What JSON says of two members of one name is that the last one counts; here nobody has meant that.
#[test]
fn a_name_that_stands_twice_is_no_place_for_a_hook() {
    for (text, place) in [
        (r#"{"hooks": {"Stop": []}, "model": "opus", "hooks": {}}"#, "hooks"),
        (r#"{"hooks": {"Stop": [], "PreToolUse": [], "Stop": []}}"#, "hooks.Stop"),
    ] {
        let twice = Err(SettingsError::Twice { place: place.to_owned() });
        assert_eq!((with_ours(text, COMMAND), without_ours(text)), (twice.clone(), twice), "{text}");
        assert!(entries(text).is_err());
    }
}

#[test]
fn a_group_that_others_share_stays() {
    let text = r#"{"hooks":{"Stop":[{"hooks":[{"type":"command","command":"a"},{"type":"command","command":"/x/mpm-monitor hook"}]}]}}"#;
    let without = without_ours(text).unwrap();
    assert_eq!(entries(&without).unwrap().iter().map(|e| &*e.command).collect::<Vec<_>>(), ["a"]);
}

#[test]
fn what_is_no_settings_file_is_told_with_its_place() {
    for (text, line, column) in [
        ("{\n  \"a\": ,\n}", 2, 8),
        ("{\"ä\" 1}", 1, 6),
        ("{\"a\": 1", 1, 1),
        ("{'a': 1}", 1, 2),
        ("{\"a\": 1 \"b\": 2}", 1, 8),
    ] {
        match with_ours(text, COMMAND) {
            Err(SettingsError::Malformed { line: l, column: c, message }) => {
                assert_eq!((l, c), (line, column), "{text}: {message}");
            }
            other => panic!("{text}: {other:?}"),
        }
    }
    for (text, place) in
        [("[]", "the file"), ("{\"hooks\": []}", "hooks"), ("{\"hooks\": {\"Stop\": {}}}", "hooks.Stop")]
    {
        assert!(with_ours(text, COMMAND).unwrap_err().to_string().contains(&format!("`{place}` is not")), "{text}");
        assert!(place == "the file" || without_ours(text).is_err());
    }
}

#[test]
fn hooks_with_the_mark_of_claude_mpm_are_theirs() {
    let hooks = [
        (
            r#"{"type": "command", "command": "python3 -m claude_mpm.hooks.claude_hooks.hook_handler", "_mpm": true}"#,
            true,
        ),
        (r#"{"type": "command", "command": "/opt/wrapped/run.sh", "_mpm": true}"#, true),
        (r#"{"type": "command", "command": "/opt/wrapped/run.sh", "_mpm": false}"#, false),
        (r#"{"type": "command", "command": "/opt/wrapped/run.sh", "_mpm": "true"}"#, false),
        (r#"{"type": "command", "command": "/opt/wrapped/run.sh"}"#, false),
    ];
    let all = hooks.map(|(hook, _)| hook).join(", ");
    let text = format!(r#"{{"hooks": {{"Stop": [{{"hooks": [{all}]}}]}}}}"#);
    let owners: Vec<Owner> = entries(&text).unwrap().into_iter().map(|e| e.owner).collect();
    assert_eq!(owners, hooks.map(|(_, theirs)| if theirs { Owner::ClaudeMpm } else { Owner::Other }));
    let with = with_ours(&text, COMMAND).unwrap();
    assert_eq!((of(&with, Owner::ClaudeMpm).len(), of(&with, Owner::Other).len()), (2, 3));
    assert_eq!(entries(&without_ours(&with).unwrap()).unwrap(), entries(&text).unwrap());
}

#[test]
fn commands_are_known_by_their_program() {
    for ours in
        [COMMAND, "'/a b/mpm-monitor' hook", "/x/mpm-monitor-0.2 hook --port 9", "FOO=1 \"/x y/mpm-monitor\" hook"]
    {
        assert_eq!(owner(ours), Owner::Ours, "{ours}");
    }
    for theirs in [
        "claude-hook",
        "/v/bin/claude-hook",
        "bash /v/claude-hook-fast.sh",
        "python -m claude_mpm.hooks.claude_hooks.hook_handler",
    ] {
        assert_eq!(owner(theirs), Owner::ClaudeMpm, "{theirs}");
    }
    for other in ["", "mpm-monitor", "mpm-monitor status", "my-hook", "echo mpm-monitor; hook"] {
        assert_eq!(owner(other), Owner::Other, "{other}");
    }
    assert_eq!(words(r#"a 'b c' "d \" e" f\ g ''"#), ["a", "b c", "d \" e", "f g", ""]);
    for word in ["/usr/bin/x", "/a b/it's", ""] {
        assert_eq!(words(&quoted(word)), [word]);
    }
}
