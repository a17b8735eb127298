//! Questions about files and repositories, to both servers.

use std::process::Command;

use serde_json::{Value, json};

use super::compare::{Side, both};
use testkit::command::run;
use testkit::daemon::SOON;

/// A project in the home of the side's user, the same on both.
fn project(side: &Side) -> String {
    let dir = side.net.path("home/p");
    for (name, bytes) in [
        ("a.txt", &b"hello\n"[..]),
        ("sub/B.PY", b"import os\n"),
        ("sub/c.tar.gz", b"\x1f\x8b\xff"),
        ("Makefile", b"all:\n\ttrue\n"),
        (".hidden", b""),
        ("node_modules/x", b""),
        ("latin.txt", b"caf\xe9\n"),
        ("pixel.png", b"\x89PNG\r\n\x1a\n\0"),
        ("empty", b""),
    ] {
        let path = dir.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
    let git = |arguments: &[&str]| {
        let mut git = Command::new("git");
        git.current_dir(&dir).args(["-c", "user.name=t", "-c", "user.email=t@example.org"]).args(arguments);
        // Both repositories have the same numbers, as their commits have the same time.
        for name in ["GIT_AUTHOR_DATE", "GIT_COMMITTER_DATE"] {
            git.env(name, "2026-01-01T00:00:00Z");
        }
        run(&mut git, SOON).ok();
    };
    git(&["init", "-q", "-b", "main"]);
    git(&["add", "a.txt", "Makefile", "sub/B.PY"]);
    git(&["commit", "-q", "-m", "first"]);
    std::fs::write(dir.join("Makefile"), "all:\n\tfalse\nmore:\n").unwrap();
    git(&["commit", "-q", "-a", "-m", "second"]);
    std::fs::write(dir.join("a.txt"), "hello\nchange\n").unwrap();
    std::fs::write(dir.join("Makefile"), "all:\n\tfalse\n\n\nmore:\n").unwrap();
    dir.to_str().unwrap().to_owned()
}

fn questions(dir: &str) -> Vec<Value> {
    let get = |route: &str, path: &str| json!({"method": "GET", "path": format!("{route}?path={dir}/{path}")});
    let post = |route: &str, body: Value| json!({"method": "POST", "path": route, "body": body.to_string()});
    let at = |path: &str| json!({"path": format!("{dir}/{path}")});
    let mut all = Vec::new();
    for path in ["", "sub", "none", "a.txt"] {
        all.push(get("/api/files", path));
    }
    for path in
        ["a.txt", "sub/B.PY", "Makefile", "empty", "pixel.png", "latin.txt", "sub/c.tar.gz", "sub", "none", ".hidden"]
    {
        all.push(get("/api/file/read", path));
        if path != "pixel.png" {
            all.push(post("/api/file", at(path)));
        }
    }
    for path in ["a.txt", "Makefile", "sub/B.PY", "latin.txt", "none"] {
        all.push(get("/api/file/diff", path));
        all.push(post("/api/git-history", at(path)));
    }
    all.push(get("/api/file/diff", "Makefile&commit=HEAD"));
    all.push(get("/api/file/diff", "Makefile&commit=0000000"));
    all.push(post("/api/git-history", json!({"path": format!("{dir}/Makefile"), "limit": 1})));
    for path in ["/api/file/read", "/api/file/diff", "/api/file/read?path=", "/api/file/diff?path="] {
        all.push(json!({"method": "GET", "path": path}));
    }
    for body in [json!({}), json!({"path": ""}), json!({"path": "a.txt"})] {
        all.push(post("/api/file", body));
    }
    all.push(json!({"method": "POST", "path": "/api/file", "body": "xx"}));
    all.push(post("/api/git-history", json!({})));
    all
}

/// What differs in each run, and the place, made the same; `code` is ours alone.
fn same(value: &mut Value, dir: &str) {
    match value {
        Value::String(text) => *text = text.replace(dir, "DIR"),
        Value::Array(items) => items.iter_mut().for_each(|item| same(item, dir)),
        Value::Object(members) => {
            members.remove("code");
            for (name, member) in members.iter_mut() {
                if name == "modified" && member.is_f64() {
                    *member = json!("a time");
                }
                same(member, dir);
            }
        }
        _ => {}
    }
}

#[test]
fn questions_about_files_are_answered_the_same_by_both_servers() {
    let Some((theirs, ours)) = both() else { return };
    let (their_dir, our_dir) = (project(&theirs), project(&ours));
    let (their_questions, our_questions) = (questions(&their_dir), questions(&our_dir));
    let (their_answers, our_answers) = (theirs.ask(&their_questions), ours.ask(&our_questions));
    let mut compared = 0;
    for ((question, mut theirs), mut ours) in our_questions.iter().zip(their_answers).zip(our_answers) {
        same(&mut theirs, &their_dir);
        same(&mut ours, &our_dir);
        assert_eq!(theirs["type"], ours["type"], "{question}");
        assert_eq!(theirs["status"], ours["status"], "{question}: {theirs} {ours}");
        assert_eq!(theirs["body"], ours["body"], "{question}");
        compared += 1;
    }
    println!("{compared} questions about files, the same answers");
    assert!(compared >= 45, "{compared}");
}
