use super::*;
use std::io::Write;
use std::sync::mpsc;

fn query(dir: &Path) -> Query {
    Query { log: dir.join("1.log"), stderr: dir.join("1.stderr.log"), lines: 10, since: None, follow: false }
}

fn texts(query: &Query) -> Vec<String> {
    let mut all = Vec::new();
    read(query, &mut |line| {
        all.push(line.human());
        Ok(ControlFlow::Continue(()))
    })
    .unwrap();
    all
}

#[test]
fn both_files_and_the_rotated_ones_in_the_order_of_time() {
    let dir = tempfile::tempdir().unwrap();
    let query = query(dir.path());
    assert_eq!(texts(&query), Vec::<String>::new());
    fs::write(dir.path().join("1.log.2"), "2026-11-22T09:00:00Z INFO oldest\n").unwrap();
    fs::write(dir.path().join("1.log.1"), "2026-11-22T10:00:00Z INFO older\n  its second line\n").unwrap();
    fs::write(&query.log, "2026-11-22T11:00:00.5Z INFO newer\n{\"timestamp\":\"2026-11-22T13:00:00Z\",\"m\":1}\n")
        .unwrap();
    fs::write(&query.stderr, "2026-11-22T12:00:00Z thread panicked\n").unwrap();
    let all = texts(&query);
    assert_eq!(
        all,
        [
            "2026-11-22T09:00:00Z INFO oldest",
            "2026-11-22T10:00:00Z INFO older",
            "  its second line",
            "2026-11-22T11:00:00.5Z INFO newer",
            "stderr: 2026-11-22T12:00:00Z thread panicked",
            "{\"timestamp\":\"2026-11-22T13:00:00Z\",\"m\":1}",
        ]
    );
    assert_eq!(texts(&Query { lines: 2, ..query.clone() }), all[4..]);
    let since = Some("2026-11-22T11:30:00Z".parse().unwrap());
    assert_eq!(texts(&Query { since, ..query.clone() }), all[4..]);
}

#[test]
fn every_line_is_one_json_object() {
    let line = |source, text: &str| Line { source, time: None, text: text.into() }.json();
    assert_eq!(line(Source::Log, "{\"a\":1}"), "{\"a\":1}");
    let parsed: serde_json::Value = serde_json::from_str(&line(Source::Stderr, "a \"b\"")).unwrap();
    assert_eq!((parsed["file"].as_str(), parsed["message"].as_str()), (Some("stderr"), Some("a \"b\"")));
}

#[test]
fn a_line_cannot_steer_the_terminal() {
    let line = Line { source: Source::Log, time: None, text: "a\u{1b}[2Jb\tc".into() };
    assert_eq!(line.human(), "a\\u001b[2Jb\tc");
    assert!(!line.json().contains('\u{1b}'));
}

#[test]
fn following_survives_rotation_and_truncation() {
    let dir = tempfile::tempdir().unwrap();
    let query = Query { follow: true, ..query(dir.path()) };
    fs::write(&query.log, "before\n").unwrap();
    let append = |path: &Path, text: &str| {
        fs::OpenOptions::new().append(true).create(true).open(path).unwrap().write_all(text.as_bytes()).unwrap();
    };
    let (send, receive) = mpsc::channel();
    let following = query.clone();
    let reader = std::thread::spawn(move || {
        read(&following, &mut |line| {
            let last = line.text == "end";
            send.send(line.text.clone()).unwrap();
            Ok(if last { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        })
    });
    let next = || receive.recv_timeout(Duration::from_secs(20)).unwrap();
    assert_eq!(next(), "before");
    append(&query.log, "half");
    append(&query.log, " a line\n");
    assert_eq!(next(), "half a line");
    append(&query.log, "last of the old\n");
    fs::rename(&query.log, dir.path().join("1.log.1")).unwrap();
    append(&query.log, "first of the new\n");
    assert_eq!((next(), next()), ("last of the old".into(), "first of the new".into()));
    append(&query.stderr, "a panic\n");
    assert_eq!(next(), "a panic");
    fs::write(&query.stderr, "").unwrap();
    // The truncation has to be seen before the file is as long as it was.
    append(&query.log, "seen\n");
    assert_eq!(next(), "seen");
    append(&query.stderr, "new\n");
    assert_eq!(next(), "new");
    append(&query.log, "end\n");
    assert_eq!(next(), "end");
    reader.join().unwrap().unwrap();
}

#[test]
fn every_emptiness_has_its_reason() {
    let dir = tempfile::tempdir().unwrap();
    let query = query(dir.path());
    assert!(explain(&query, false).contains("mpm-monitor install"));
    assert!(explain(&query, true).contains("mpm-monitor start"));
    fs::write(&query.log, "").unwrap();
    assert!(explain(&query, true).contains("is empty"));
    assert!(explain(&Query { since: Some(Timestamp::UNIX_EPOCH), ..query.clone() }, true).contains("--since"));
    let gone = Query { log: "/no/such/dir/1.log".into(), ..query };
    assert!(explain(&gone, true).contains("78"));
}
