//! Questions for files, while memory is full of large events that name where their sessions run.

use std::time::{Duration, Instant};

use super::Victim;
use testkit::wire::Poster;
use testkit::{figure, http, percentile};

#[test]
fn large_events_are_read_once_for_where_sessions_run() {
    let victim = Victim::new(&[]);
    let work = tempfile::tempdir().unwrap();
    let file = work.path().join("a.txt");
    std::fs::write(&file, "here").unwrap();
    let mut poster = Poster::new(victim.port).unwrap();
    // Many small values: as slow to read as JSON gets.
    let pad = vec!["{\"a\":1}"; 100_000].join(",");
    for _ in 0..8 {
        let cwd = work.path().display();
        let event = format!(r#"{{"event":"claude_event","data":{{"session_id":"s","cwd":"{cwd}","pad":[{pad}]}}}}"#);
        assert_eq!(poster.post(&event).unwrap(), 204);
    }
    let path = format!("/api/file/read?path={}", file.display());
    let ask = || {
        let began = Instant::now();
        let answer = http::get(victim.port, &path).unwrap();
        assert_eq!(answer.status, 200, "{}", answer.body);
        began.elapsed()
    };
    let first = ask();
    let mut later: Vec<Duration> = (0..30).map(|_| ask()).collect();
    let median = Duration::from_secs_f64(percentile(&mut later, 50) / 1000.0);
    figure(
        "file_first",
        format!("{:.1}", first.as_secs_f64() * 1000.0),
        "ms for the first question behind 6 MB of events",
    );
    figure("file_later", format!("{:.1}", median.as_secs_f64() * 1000.0), "ms for each later one (median)");
    // Reading them again takes as long again each time.
    assert!(median * 2 < first, "{median:?} each, the first {first:?}");
}
