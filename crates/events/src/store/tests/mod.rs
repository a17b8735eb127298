mod arrivals;
mod bounds;
mod crash;
mod damage;
mod disk;
mod epoch;
mod flow;
mod gone;
mod journal;
mod keys;

use super::*;
use daemon::components::State;

/// Bounds that no test reaches by accident.
fn config(path: &Path) -> StoreConfig {
    StoreConfig {
        path: path.to_owned(),
        durable: false,
        max_events: 1 << 40,
        max_bytes: 1 << 50,
        max_age: Duration::from_secs(1 << 33),
    }
}

fn open(config: &StoreConfig) -> (Store, Components) {
    let components = Components::new();
    let store = Store::open(config.clone(), &Pulse::new(), &components, Box::new(|_| {})).expect("the store opens");
    (store, components)
}

fn told(components: &Components) -> (State, String) {
    let component = components.snapshot().remove(NAME).expect("the store tells its state");
    (component.state, component.detail.unwrap_or_default())
}

fn draft(text: &str) -> Draft {
    Draft {
        name: "tool_event".to_owned(),
        subtype: "pre_tool".to_owned(),
        session: Some("s-1".to_owned()),
        payload: format!("{{\"n\":\"{text}\"}}").into(),
    }
}

fn close(store: &Store) {
    assert!(store.close(Instant::now() + Duration::from_secs(20)), "the writer ends in time");
}

async fn all(store: &Store) -> Vec<Event> {
    let mut events: Vec<Event> = Vec::new();
    loop {
        let page = store.after(events.last().map_or(0, |e| e.seq), 1000, &Filter::default()).await.unwrap();
        events.extend(page.events);
        if page.complete {
            return events;
        }
    }
}

/// Asks until the answer is yes; says what it waited for when it never comes.
async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds().await {
        assert!(Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Keeps the indexer from the database while it lives, as a user's `sqlite3` may.
fn lock_out_the_indexer(config: &StoreConfig) -> rusqlite::Connection {
    let other = rusqlite::Connection::open(&config.path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    other
}

/// The segments of the journal, oldest first.
fn segments(config: &StoreConfig) -> Vec<PathBuf> {
    let prefix = format!("{}.journal-", config.path.display());
    let mut found: Vec<(u64, PathBuf)> = std::fs::read_dir(config.path.parent().unwrap())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter_map(|path| Some((path.to_str()?.strip_prefix(&prefix)?.parse().ok()?, path)))
        .collect();
    found.sort();
    found.into_iter().map(|(_, path)| path).collect()
}

/// The files of a store as they are at this moment, as a crash of the process would leave them.
fn copy(config: &StoreConfig, to: &Path) -> StoreConfig {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(config.path.parent().unwrap()).unwrap() {
        let from = entry.unwrap().path();
        if from.is_file() {
            std::fs::copy(&from, to.join(from.file_name().unwrap())).unwrap();
        }
    }
    StoreConfig { path: to.join(config.path.file_name().unwrap()), ..config.clone() }
}
