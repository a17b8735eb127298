//! The spool of hooks: a folder for each monitor with `queue`, `sending` and `dropped`.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use mpm_monitor::hooks::place::spool_name;
use mpm_monitor::hooks::spool::{Kept, Spool, State, Waiting};

use crate::{assert_frozen, fixture};

const KEYS: [&str; 4] = [
    "019aaaaa-0000-7000-8000-000000000001",
    "019aaaaa-0001-7000-8000-000000000002",
    "019aaaaa-0002-7000-8000-000000000003",
    "019aaaaa-0003-7000-8000-000000000004",
];
const BODY: &str = r#"{"event":"claude_event","data":{"type":"hook","subtype":"pre_tool","n":"ü"}}"#;

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(10)
}

/// `sending` has one that is done, one that may have arrived and one that is new; `queue` has a new one.
fn copy(to: &Path) {
    for name in ["queue", "sending", "dropped"] {
        fs::copy(fixture("spool").join(name), to.join(name)).unwrap();
    }
}

#[test]
fn spool_of_an_earlier_build_is_delivered_in_order() {
    let dir = tempfile::tempdir().unwrap();
    copy(dir.path());
    let spool = Spool::new(dir.path());
    assert!(spool.waits());
    let bytes = ["queue", "sending"].iter().map(|name| fs::metadata(dir.path().join(name)).unwrap().len()).sum();
    // The first key's own time.
    let since = Some("2025-11-22T08:24:19.201Z".parse().unwrap());
    assert_eq!(spool.waiting(), Waiting { events: 3, bytes, dropped: 12, since });

    let mut delivery = spool.deliver(soon()).unwrap().unwrap();
    let mut found = Vec::new();
    while let Some(record) = delivery.next_record().unwrap() {
        assert_eq!(record.body, BODY);
        found.push((record.state, record.key));
    }
    let expected = [(State::Maybe, KEYS[1]), (State::New, KEYS[2]), (State::New, KEYS[3])];
    assert_eq!(found, expected.map(|(state, key)| (state, key.to_owned())));
}

#[test]
fn spool_is_written_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let spool = Spool::new(dir.path());
    let put = |keys: &[&str]| {
        let records = keys.iter().map(|key| (State::New, *key, BODY));
        assert_eq!(spool.append(records, soon()).unwrap(), Kept::All);
    };
    put(&KEYS[..3]);
    let mut delivery = spool.deliver(soon()).unwrap().unwrap();
    for state in [State::Done, State::Maybe] {
        let record = delivery.next_record().unwrap().unwrap();
        delivery.mark(&record, state).unwrap();
    }
    put(&KEYS[3..]);
    spool.count_lost(12, soon());
    for name in ["queue", "sending", "dropped"] {
        assert_frozen(&format!("spool/{name}"), &fs::read_to_string(dir.path().join(name)).unwrap());
    }
    let mut files: Vec<_> =
        fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    files.sort();
    assert_eq!(files, ["deliver.lock", "dropped", "lock", "queue", "sending"]);
}

/// The daemon looks into the folder of its own port.
#[test]
fn folder_of_a_monitor_keeps_its_name() {
    assert_eq!(spool_name(None, 8765), "8765");
    assert_eq!(spool_name(Some("build.example"), 8765), "build.example_8765");
}
