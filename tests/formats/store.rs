//! The events: the database, its lock and a segment of the journal.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use daemon::components::{Components, State};
use daemon::pulse::Pulse;
use mpm_monitor::events::key::Key;
use mpm_monitor::events::model::{Draft, Event, Origin};
use mpm_monitor::events::store::{Arrival, Filter, Store, StoreConfig, Stored, journal};
use rusqlite::Connection;

use crate::{assert_frozen, fixture, text};

const EARLIER: &str = "events.db.journal-4";
/// The bytes before a segment's first record: magic, format, epoch, first number, checksum.
const HEAD: usize = 28;
const KEYS: [Key; 2] = [
    Key::from_u128(0x019a_aaaa_0000_7000_8000_0000_0000_0001),
    Key::from_u128(0x019a_aaaa_0001_7000_8000_0000_0000_0002),
];

fn open(dir: &Path) -> Store {
    let config = StoreConfig {
        path: dir.join("events.db"),
        durable: false,
        max_events: 1 << 40,
        max_bytes: 1 << 50,
        max_age: Duration::from_secs(1 << 33),
    };
    let components = Components::new();
    let store = Store::open(config, &Pulse::new(), &components, Box::new(|_| {})).unwrap();
    let told = components.snapshot().remove("store").unwrap();
    assert_eq!((told.state, told.detail), (State::Ok, None));
    assert_eq!(store.set_aside(), None);
    store
}

fn close(store: &Store) {
    assert!(store.close(Instant::now() + Duration::from_secs(20)), "the writer ends in time");
}

async fn all(store: &Store) -> Vec<Event> {
    let page = store.after(0, 1000, &Filter::default()).await.unwrap();
    assert!(page.complete && page.damaged == 0);
    page.events
}

fn draft(n: u64) -> Draft {
    Draft {
        name: "tool_event".into(),
        subtype: "pre_tool".into(),
        session: (n % 3 != 2).then(|| "s-1".to_owned()),
        payload: format!(r#"{{"n":{n},"text":"ünï"}}"#).into(),
    }
}

/// Of each three events the first is a plain one, the second has a key and no session, the third is another node's.
async fn write(store: &Store, from: u64) {
    assert_eq!(store.append(draft(from)).await.unwrap(), from);
    assert_eq!(store.append_keyed(draft(from + 1), KEYS[from as usize / 3]).await.unwrap(), from + 1);
    let seq = from / 3 * 10 + 7;
    let origin = Arc::new(Origin { node: "build".into(), epoch: "0badcafe".into(), seq });
    let arrival = Arrival { origin, after: store.reached("build", "0badcafe"), draft: draft(from + 2) };
    assert_eq!(store.append_remote(arrival).await.unwrap(), Stored::Now(from + 2));
}

/// What [`write`] wrote.
fn assert_written(events: &[Event]) {
    for (event, n) in events.iter().zip(1..) {
        assert_eq!((event.seq, &event.draft), (n, &draft(n)));
        let origin = event.origin.as_ref().map(|o| (o.node.as_str(), o.epoch.as_str(), o.seq));
        assert_eq!(origin, (n % 3 == 0).then_some(("build", "0badcafe", (n - 1) / 3 * 10 + 7)));
    }
}

/// A copy of the fixtures, which the store may change.
fn copy(names: &[&str]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for name in names {
        fs::copy(fixture("store").join(name), dir.path().join(name)).unwrap();
    }
    dir
}

/// Schema and marks of a database, and which settings it has.
fn dump(path: &Path) -> String {
    let conn = Connection::open(path).unwrap();
    let number = |name: &str| conn.pragma_query_value(None, name, |row| row.get::<_, i64>(0)).unwrap();
    let mut text =
        format!("-- application_id {:#x}\n-- user_version {}\n", number("application_id"), number("user_version"));
    text += &format!("-- auto_vacuum {}\n", number("auto_vacuum"));
    let rows = |sql: &str, form: fn(String) -> String| {
        let mut query = conn.prepare(sql).unwrap();
        let found = query.query_map([], |row| row.get::<_, String>(0)).unwrap();
        found.map(|row| form(row.unwrap())).collect::<String>()
    };
    text += &rows("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY name", |sql| format!("{sql};\n"));
    text += &rows("SELECT key FROM meta ORDER BY key", |key| format!("-- meta {key}\n"));
    text
}

#[tokio::test]
async fn database_of_an_earlier_build_is_read() {
    let dir = copy(&["events.db", "events.db.lock"]);
    assert_eq!(dump(&dir.path().join("events.db")), text("store/schema.sql"));
    let store = open(dir.path());
    assert_eq!((store.lineage(), store.last_seq()), ("5eed5eed", 3));
    let events = all(&store).await;
    assert_eq!(events.len(), 3);
    assert_written(&events);
    assert_eq!(events[0].accepted, "2026-11-28T00:00:00.000001Z".parse().unwrap());
    assert!(store.has_key(KEYS[0]).await.unwrap());
    assert_eq!(store.reached("build", "0badcafe"), 7);
    write(&store, 4).await;
    close(&store);
}

/// A crash left three events in the journal alone.
#[tokio::test]
async fn journal_of_an_earlier_build_is_read() {
    let dir = copy(&["events.db", "events.db.lock", EARLIER]);
    let store = open(dir.path());
    assert_eq!(store.last_seq(), 6);
    let events = all(&store).await;
    assert_eq!(events.len(), 6);
    assert_written(&events);
    assert!(store.has_key(KEYS[1]).await.unwrap());
    assert_eq!(store.reached("build", "0badcafe"), 17);
    close(&store);
    assert!(!dir.path().join(EARLIER).exists(), "its events are in the database");
}

/// The records of a segment, written again from what they mean.
fn rewritten(mut records: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    while !records.is_empty() {
        let (record, length) = journal::parse(records).unwrap();
        if let Some(key) = record.key {
            journal::encode_key(&mut out, key);
        }
        let event = record.to_event();
        journal::encode(&mut out, event.seq, event.accepted, event.origin.as_deref(), &event.draft).unwrap();
        records = &records[length..];
    }
    out
}

#[test]
fn records_of_the_journal_are_written_the_same() {
    let segment = fs::read(fixture("store").join(EARLIER)).unwrap();
    assert_eq!(rewritten(&segment[HEAD..]), segment[HEAD..]);
}

/// A store whose indexer is kept from the database, so that its events stay in the journal.
async fn fresh() -> (tempfile::TempDir, Store, Connection) {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let other = Connection::open(dir.path().join("events.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    (dir, store, other)
}

#[tokio::test]
async fn segment_of_the_journal_has_the_same_head() {
    let (dir, store, other) = fresh().await;
    write(&store, 1).await;
    let segment = fs::read(dir.path().join("events.db.journal-1")).unwrap();
    let earlier = fs::read(fixture("store").join(EARLIER)).unwrap();
    let head = |bytes: &[u8], epoch: &str, first: u64| {
        let mut head = bytes[..8].to_vec();
        head.extend_from_slice(epoch.as_bytes());
        head.extend_from_slice(&first.to_le_bytes());
        let check = crc32fast::hash(&head);
        head.extend_from_slice(&check.to_le_bytes());
        head
    };
    assert_eq!(segment[..8], *b"mpmJ\x01\0\0\0");
    assert_eq!(segment[..HEAD], head(&segment, store.lineage(), 1));
    assert_eq!(earlier[..HEAD], head(&segment, "5eed5eed", 4));
    assert_eq!(rewritten(&segment[HEAD..]), segment[HEAD..]);
    drop(other);
    close(&store);
}

#[tokio::test]
async fn database_is_made_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    write(&store, 1).await;
    close(&store);
    assert_frozen("store/schema.sql", &dump(&dir.path().join("events.db")));
    assert_frozen("store/events.db.lock", &fs::read_to_string(dir.path().join("events.db.lock")).unwrap());
    let mut files: Vec<PathBuf> = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name().into()).collect();
    files.sort();
    assert_eq!(files, ["events.db", "events.db.lock"].map(PathBuf::from), "a clean end leaves one file and its lock");
}
