//! A git that hangs, says too much or wants too much memory, and a repository that is huge.

use std::time::{Duration, Instant};

use serde_json::json;

use super::*;

/// Whether any process of a group runs; one that was killed may wait to be collected by its new parent.
fn group_lives(id: i32) -> bool {
    if !cfg!(target_os = "linux") {
        return rustix::process::test_kill_process_group(rustix::process::Pid::from_raw(id).unwrap()).is_ok();
    }
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    all.filter_map(|entry| std::fs::read_to_string(entry.path().join("stat")).ok()).any(|stat| {
        let mut words = stat.rsplit(") ").next().unwrap_or_default().split(' ');
        let (state, group) = (words.next().unwrap_or_default(), words.nth(1));
        group == Some(&id.to_string()) && !["Z", "X"].contains(&state)
    })
}

#[tokio::test]
async fn a_git_that_hangs_is_ended_and_delays_nobody_else() {
    let place = Place::new();
    place.repository("root/proj");
    let rig = start(stand_in(&place, &format!("echo $$ >> {}/pids; sleep 1000 & wait", place.base.display())));
    let file = place.root("proj/a.txt");
    let began = Instant::now();
    let ask = async || (get(&rig, "/api/file/diff", &file).await, began.elapsed());
    let meanwhile = async {
        let (mut slowest, mut count) = (Duration::ZERO, 0_u32);
        while began.elapsed() < Duration::from_secs(2) {
            let asked = Instant::now();
            assert_eq!(status(&rig.ask("GET", "/health", "", "").await), 200);
            slowest = slowest.max(asked.elapsed());
            count += 1;
        }
        (slowest, count)
    };
    let (a, b, c, d, e, f, (slowest, count)) = tokio::join!(ask(), ask(), ask(), ask(), ask(), ask(), meanwhile);
    let all = [a, b, c, d, e, f];
    for (answer, took) in &all {
        let value = json_of(answer);
        assert!(["git_timeout", "git_busy"].contains(&&*described(answer, "/api/file/diff")), "{answer}");
        assert!(
            matches!(status(answer), 503 | 504) && value["diff"] == "" && value["has_changes"] == false,
            "{answer}"
        );
        assert!(*took < Duration::from_secs(15), "{took:?}");
    }
    assert!(all.iter().any(|(answer, _)| code(answer) == "git_timeout"));
    println!(
        "six questions to a git that hangs: {:?}; meanwhile {count} other requests, the slowest {slowest:?}",
        all.iter().map(|(answer, took)| (code(answer), *took)).collect::<Vec<_>>()
    );
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
    for id in std::fs::read_to_string(place.path("pids")).unwrap().lines() {
        until("the group has ended", || !group_lives(id.parse().unwrap())).await;
    }
    let figures = json_of(&rig.ask("GET", "/api/status", "", "").await);
    assert!(figures["files"]["diff"]["git_timeout"].as_u64().unwrap() >= 1, "{figures}");
}

#[tokio::test]
async fn the_real_git_that_waits_for_a_pipe_is_ended_too() {
    let place = Place::new();
    let rig = start(place.settings());
    place.repository("root/proj");
    for name in ["HEAD", "index", "commondir", "objects/info/alternates"] {
        let path = place.path("root/proj/.git").join(name);
        let kept = std::fs::read(&path).ok();
        let _ = std::fs::remove_file(&path);
        assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
        let began = Instant::now();
        let answer = get(&rig, "/api/file/diff", &place.root("proj/a.txt")).await;
        let took = began.elapsed();
        println!("{name} is a pipe: {} after {took:?}", body(&answer));
        let wanted = if matches!(name, "HEAD" | "index") { "git_timeout" } else { "outside_roots" };
        assert_eq!(code(&answer), wanted, "{name}: {answer}");
        assert!(took < Duration::from_secs(12), "{name}: {took:?}");
        std::fs::remove_file(&path).unwrap();
        if let Some(bytes) = kept {
            std::fs::write(&path, bytes).unwrap();
        }
    }
    assert_eq!(json_of(&get(&rig, "/api/file/diff", &place.root("proj/a.txt")).await)["has_changes"], true);
}

#[tokio::test]
async fn output_of_git_is_bounded() {
    let place = Place::new();
    place.repository("root/proj");
    let rig = start(stand_in(&place, "exec cat /dev/zero"));
    let (before, began) = (resident(), Instant::now());
    let answer = get(&rig, "/api/file/diff", &place.root("proj/a.txt")).await;
    let grown = resident().saturating_sub(before);
    println!(
        "a git that never stops talking: {:?}, {} MiB more memory: {:.100}",
        began.elapsed(),
        grown >> 20,
        body(&answer)
    );
    assert!(grown < 64 << 20, "{grown}");
    let rig = start(stand_in(&place, "exit 128"));
    assert_eq!(json_of(&get(&rig, "/api/file/diff", &place.root("proj/a.txt")).await)["tracked"], false);
    let missing = mpm_monitor::server::files::Rules { git: Some("/nonexistent/git".into()), ..place.rules() };
    let rig = start(Settings { files: missing, ..settings() });
    assert_eq!(code(&get(&rig, "/api/file/diff", &place.root("proj/a.txt")).await), "git_failed");
}

#[tokio::test]
async fn a_commit_that_unpacks_to_more_than_git_may_have_of_memory_is_not_shown() {
    let place = Place::new();
    let rig = start(place.settings());
    place.repository("root/bomb");
    place.write("root/bomb/a.txt", &vec![b'a'; (128 << 20) + 1]);
    place.git("root/bomb", &["-c", "core.compression=1", "commit", "-q", "-a", "-m", "large"]);
    let large = place.git("root/bomb", &["rev-parse", "HEAD"]);
    place.write("root/bomb/a.txt", b"hello\n");
    place.git("root/bomb", &["commit", "-q", "-a", "-m", "small"]);
    let (file, began) = (encoded(&place.root("bomb/a.txt")), Instant::now());
    for commit in [large.trim(), "main"] {
        let answer = rig.ask("GET", &format!("/api/file/diff?path={file}&commit={commit}"), "", "").await;
        // Some gits need not have it in memory to say that it is no text.
        match status(&answer) {
            200 => assert!(body(&answer).contains("Binary files a/a.txt and b/a.txt differ"), "{answer:.1000}"),
            _ => assert_eq!(described(&answer, "/api/file/diff"), "too_large", "{answer}"),
        }
        println!("128 MiB: {} in {:?}", status(&answer), began.elapsed());
    }
    let diff = json_of(&get(&rig, "/api/file/diff", &place.root("bomb/a.txt")).await);
    assert_eq!((&diff["tracked"], diff["history"].as_array().unwrap().len()), (&json!(true), 3), "{diff}");
}

#[tokio::test]
async fn a_repository_of_a_hundred_thousand_files_answers_in_time() {
    use std::io::Write as _;
    let place = Place::new();
    let rig = start(place.settings());
    std::fs::create_dir_all(place.path("root/huge")).unwrap();
    place.git("root/huge", &["init", "-q", "-b", "main"]);
    let mut import = place.git_command("root/huge", &["fast-import", "--quiet"]);
    let mut import = import.stdin(Stdio::piped()).spawn().unwrap();
    let mut input = std::io::BufWriter::new(import.stdin.take().unwrap());
    write!(input, "blob\nmark :1\ndata 6\nhello\n\n").unwrap();
    for n in 0..50 {
        writeln!(input, "commit refs/heads/main\ncommitter t <t@example.org> {} +0000\ndata 1\nx", 1_700_000_000 + n)
            .unwrap();
        for m in 0..2000 {
            writeln!(input, "M 100644 :1 d{n:02}/f{m:04}.txt").unwrap();
        }
    }
    drop(input);
    assert!(import.wait().unwrap().success());
    place.git("root/huge", &["read-tree", "HEAD"]);
    place.write("root/huge/d07/f0007.txt", b"hello\nchange\n");
    let file = place.root("huge/d07/f0007.txt");
    let (before, mut slowest) = (resident(), Duration::ZERO);
    for round in 0..3 {
        let began = Instant::now();
        let diff = json_of(&get(&rig, "/api/file/diff", &file).await);
        assert_eq!((&diff["tracked"], &diff["has_changes"]), (&json!(true), &json!(true)), "{diff}");
        assert_eq!(diff["history"].as_array().unwrap().len(), 1);
        let history = json_of(&post(&rig, "/api/git-history", &file).await);
        assert_eq!(history["commits"].as_array().unwrap().len(), 1, "{history}");
        let of_commit = get(&rig, "/api/file/diff", &format!("{file}&commit=main")).await;
        assert!(status(&of_commit) == 404, "no such file: {of_commit}");
        slowest = slowest.max(began.elapsed());
        println!("round {round}: {:?}", began.elapsed());
    }
    println!("100000 files: slowest round {slowest:?}, {} KiB more memory", resident().saturating_sub(before) >> 10);
    assert!(slowest < Duration::from_secs(12), "{slowest:?}");
}
