//! The shapes of the original's answers, as they were captured from it.

use serde_json::json;

use super::*;

/// A time that is another in each run.
fn without_times(mut value: Value) -> Value {
    match &mut value {
        Value::Object(members) => {
            for (name, member) in members.iter_mut() {
                *member = match name.as_str() {
                    "modified" if member.is_f64() => json!("a time"),
                    "date" | "time_ago" if member.as_str().is_some_and(|t| t.ends_with(" ago")) => json!("a time"),
                    "hash" if member.as_str().is_some_and(|h| h.len() == 7) => json!("short"),
                    "full_hash" if member.as_str().is_some_and(|h| h.len() == 40) => json!("long"),
                    _ => without_times(member.take()),
                };
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| *item = without_times(item.take())),
        _ => {}
    }
    value
}

#[track_caller]
fn is(answer: &str, wanted_status: u16, wanted: Value) {
    let mut got = without_times(json_of(answer));
    if wanted_status != 200 {
        assert!(got.as_object_mut().unwrap().remove("code").is_some_and(|c| c.is_string()), "{answer}");
    }
    assert_eq!((status(answer), got), (wanted_status, wanted));
}

#[tokio::test]
async fn files_and_folders_are_answered_as_the_original_answers() {
    let place = Place::new();
    let rig = start(place.settings());
    place.write("root/proj/a.txt", b"hello\nchange\n");
    place.write("root/proj/.claude/x", b"");
    place.write("root/proj/.claude-mpm/x", b"");
    let (proj, text) = (place.root("proj"), place.root("proj/a.txt"));

    let folder = |name: &str| {
        json!({"name": name, "path": format!("{proj}/{name}"), "type": "directory", "size": 0, "modified": "a time",
               "extension": null})
    };
    let wanted = json!({
        "success": true,
        "path": proj,
        "directories": [folder(".claude"), folder(".claude-mpm")],
        "files": [{"name": "a.txt", "path": text, "type": "file", "size": 13, "modified": "a time", "extension": "txt"}],
        "total_directories": 2,
        "total_files": 1,
    });
    is(&get(&rig, "/api/files", &proj).await, 200, wanted.clone());
    is(&get(&rig, "/api/files", &format!("{proj}/")).await, 200, wanted);
    let failed = |text: &str| json!({"success": false, "error": text});
    is(&get(&rig, "/api/files", &place.root("none")).await, 404, failed("Directory not found"));
    is(&get(&rig, "/api/files", &text).await, 400, failed("Path is not a directory"));

    let read =
        json!({"success": true, "path": text, "content": "hello\nchange\n", "lines": 3, "size": 13, "type": "txt"});
    is(&get(&rig, "/api/file/read", &text).await, 200, read);
    is(&rig.ask("GET", "/api/file/read", "", "").await, 400, failed("Path parameter required"));
    is(&get(&rig, "/api/file/read", &proj).await, 400, failed("Path is not a file"));
    is(&get(&rig, "/api/file/read", &place.root("proj/none")).await, 404, failed("File not found"));
    place.write("root/pixel.PNG", b"\x89PNG\r\n\x1a\n\0");
    let picture = json!({"success": true, "path": place.root("pixel.PNG"), "content": "iVBORw0KGgoA", "size": 9, "type": "image",
                         "mime": "image/png", "extension": "png"});
    is(&get(&rig, "/api/file/read", &place.root("pixel.PNG")).await, 200, picture);
    // A link that stays within the root.
    let answer = json_of(&get(&rig, "/api/file/read", &place.root("fine.txt")).await);
    assert_eq!(answer["content"], "hello\nchange\n");

    let content = json!({"success": true, "content": "hello\nchange\n", "lines": 3, "size": 13, "type": "txt"});
    is(&post(&rig, "/api/file", &text).await, 200, content);
    let answer = json_of(&post(&rig, "/api/file", &place.root("Makefile")).await);
    assert_eq!((&answer["type"], &answer["lines"]), (&json!("text"), &json!(2)));
    is(&post(&rig, "/api/file", "a.txt").await, 400, failed("Invalid file path"));
    is(&post(&rig, "/api/file", "").await, 400, failed("Invalid file path"));
    is(&rig.ask("POST", "/api/file", "", "xx").await, 400, failed("Invalid JSON in request"));
    is(&post(&rig, "/api/file", &place.root("none")).await, 404, failed("File not found"));
    is(&post(&rig, "/api/file", &proj).await, 400, failed("Path is not a file"));
    // The content type does not matter, as to the original.
    let answer = rig.ask("POST", "/api/file", "Content-Type: text/plain\r\n", &json!({"path": text}).to_string()).await;
    assert_eq!(status(&answer), 200);
    assert_eq!(status(&rig.ask("GET", "/api/file", "", "").await), 405);
    assert_eq!(status(&rig.ask("HEAD", &format!("/api/file/read?path={}", encoded(&text)), "", "").await), 200);
    let figures = json_of(&rig.ask("GET", "/api/status", "", "").await);
    assert_eq!(figures["files"]["list"], json!({"ok": 2, "not_found": 1, "not_a_directory": 1}));
}

#[tokio::test]
async fn repositories_are_answered_as_the_original_answers() {
    let place = Place::new();
    let rig = start(place.settings());
    place.repository("root/proj");
    let text = place.root("proj/a.txt");
    let failed = |text: &str, rest: Value| {
        let mut body = json!({"success": false, "error": text});
        body.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
        body
    };
    let diff = "diff --git a/a.txt b/a.txt\nindex ce01362..2ee250a 100644\n--- a/a.txt\n+++ b/a.txt\n@@ -1 +1,2 @@\n hello\n+change\n";
    let commit = json!({"hash": "short", "full_hash": "long", "message": "add a", "time_ago": "a time"});
    let wanted = json!({"success": true, "diff": diff, "has_changes": true, "tracked": true, "history": [commit],
                        "has_uncommitted": true});
    is(&get(&rig, "/api/file/diff", &text).await, 200, wanted);
    let nothing = json!({"diff": "", "has_changes": false});
    is(&rig.ask("GET", "/api/file/diff", "", "").await, 400, failed("No path provided", nothing.clone()));
    is(&get(&rig, "/api/file/diff", &place.root("proj/none")).await, 404, failed("File not found", nothing));
    let unknown = json!({"success": true, "diff": "", "has_changes": false, "tracked": false, "history": [], "has_uncommitted": false});
    is(&get(&rig, "/api/file/diff", &place.root("a.txt")).await, 200, unknown.clone());
    place.write("root/proj/new.txt", b"new\n");
    is(&get(&rig, "/api/file/diff", &place.root("proj/new.txt")).await, 200, unknown);

    let hash = place.git("root/proj", &["rev-parse", "HEAD"]);
    let of = |commit: &str| format!("/api/file/diff?path={}&commit={}", encoded(&text), encoded(commit));
    for name in [hash.trim(), &hash[..7], "main", "HEAD"] {
        let answer = json_of(&rig.ask("GET", &of(name), "", "").await);
        let shown = answer["diff"].as_str().unwrap();
        assert!(shown.starts_with(&format!("commit {}", hash.trim())) && shown.contains("\n    add a\n"), "{shown}");
        assert!(shown.ends_with("--- /dev/null\n+++ b/a.txt\n@@ -0,0 +1 @@\n+hello\n"), "{shown}");
        assert_eq!((&answer["has_changes"], &answer["has_uncommitted"]), (&json!(true), &json!(true)));
    }
    let answer = json_of(&rig.ask("GET", &of("0000000"), "", "").await);
    assert_eq!(
        (&answer["diff"], &answer["has_changes"], &answer["tracked"]),
        (&json!(""), &json!(false), &json!(true))
    );

    let commit = json!({"hash": "short", "author": "t", "date": "a time", "message": "add a"});
    is(&post(&rig, "/api/git-history", &text).await, 200, json!({"success": true, "commits": [commit]}));
    let none = json!({"commits": []});
    is(&rig.ask("POST", "/api/git-history", "", "{}").await, 400, failed("No path provided", none.clone()));
    is(&post(&rig, "/api/git-history", &place.root("none")).await, 404, failed("File not found", none));
    is(&post(&rig, "/api/git-history", &place.root("a.txt")).await, 200, json!({"success": true, "commits": []}));
    place.git("root/proj", &["commit", "-q", "-a", "-m", "second | one"]);
    for (limit, count) in [(json!(1), 1), (json!("1"), 1), (json!(10), 2)] {
        let body = json!({"path": text, "limit": limit}).to_string();
        let answer = json_of(&rig.ask("POST", "/api/git-history", "", &body).await);
        assert_eq!(answer["commits"].as_array().unwrap().len(), count, "{answer}");
        assert_eq!(answer["commits"][0]["message"], "second | one");
    }
    let answer = json_of(&post(&rig, "/api/git-history", &place.root("proj")).await);
    assert_eq!(answer["commits"].as_array().unwrap().len(), 2, "of a folder: {answer}");
    let answer = json_of(&get(&rig, "/api/file/diff", &text).await);
    assert_eq!((&answer["diff"], &answer["has_uncommitted"]), (&json!(""), &json!(false)));

    // A name that git would write in quotes, a mode, a new file that was only added, and what is binary.
    let odd = "sp ace \"q\".sh";
    place.write(&format!("root/proj/{odd}"), b"one\n");
    place.git("root/proj", &["add", "--chmod=+x", odd, "new.txt"]);
    place.git("root/proj", &["commit", "-q", "-m", "odd", "--", odd]);
    place.write(&format!("root/proj/{odd}"), b"two\n");
    let answer = json_of(&get(&rig, "/api/file/diff", &place.root(&format!("proj/{odd}"))).await);
    let theirs = place.git("root/proj", &["diff", "HEAD", "--", odd]);
    assert_eq!(
        answer["diff"].as_str().unwrap().replace("100755", "1"),
        theirs.replace("100755", "1").replace("old mode", "x")
    );
    let answer = json_of(&get(&rig, "/api/file/diff", &place.root("proj/new.txt")).await);
    assert_eq!(answer["diff"].as_str(), Some(&*place.git("root/proj", &["diff", "HEAD", "--", "new.txt"])));
    place.write("root/proj/new.txt", b"a\0b");
    let answer = json_of(&get(&rig, "/api/file/diff", &place.root("proj/new.txt")).await);
    assert!(answer["diff"].as_str().unwrap().ends_with("Binary files /dev/null and b/new.txt differ\n"), "{answer}");

    // A further worktree, whose folder in the repository is elsewhere within the roots.
    place.git("root/proj", &["worktree", "add", "-q", "../tree", "-b", "other"]);
    let answer = json_of(&post(&rig, "/api/git-history", &place.root("tree/a.txt")).await);
    assert_eq!(answer["commits"].as_array().unwrap().len(), 2, "{answer}");
}

#[tokio::test]
async fn it_can_be_turned_off_and_needs_what_all_else_needs() {
    let place = Place::new();
    let rig = start(place.settings());
    let text = place.root("a.txt");
    let set = |change: &dyn Fn(&mut Settings)| {
        let mut settings = (**rig.settings.borrow()).clone();
        change(&mut settings);
        rig.settings.send_replace(std::sync::Arc::new(settings));
    };
    set(&|s| s.files.enabled = false);
    assert_eq!(code(&get(&rig, "/api/file/read", &text).await), "files_disabled");
    set(&|s| (s.files.enabled, s.files.roots) = (true, Vec::new()));
    assert_eq!(code(&get(&rig, "/api/file/read", &text).await), "outside_roots");
    set(&|s| (s.files.roots, s.files.max_size) = (vec![place.path("root")], 12));
    assert_eq!(code(&get(&rig, "/api/file/read", &text).await), "too_large");
    // What the monitor keeps for itself is never read, whatever the names say.
    set(&|s| (s.files.max_size, s.files.deny, s.state_dir) = (100, Vec::new(), place.path("root/deep")));
    assert_eq!(code(&get(&rig, "/api/file/read", &place.root("deep/er/b.py")).await), "secret");
    assert_eq!(status(&get(&rig, "/api/file/read", &place.root(".env")).await), 200, "no name is denied now");
    let token = mpm_monitor::config::Token::new("0123456789abcdef").unwrap();
    set(&|s| (s.token, s.local) = (Some(token.clone()), mpm_monitor::config::LocalAccess::Read));
    assert_eq!(status(&post(&rig, "/api/file", &text).await), 200, "to read needs no token on this machine");
    set(&|s| s.local = mpm_monitor::config::LocalAccess::None);
    for answer in [post(&rig, "/api/file", &text).await, get(&rig, "/api/file/read", &text).await] {
        assert_eq!((status(&answer), code(&answer).as_str()), (401, "token_required"));
    }
}
