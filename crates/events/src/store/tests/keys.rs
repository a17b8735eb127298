use super::*;
use crate::key::Key;

const KEY: Key = key(0);

/// The key with this number among those of a test.
const fn key(n: u128) -> Key {
    Key::from_u128(0x6f1c_2d3e_4b5a_4678_9abc_def0_1234_5678 + n)
}

#[tokio::test]
async fn a_key_is_known_wherever_its_event_is() {
    let dir = tempfile::tempdir().unwrap();
    let live = config(&dir.path().join("live/events.db"));
    let (store, _) = open(&live);
    assert!(!store.has_key(KEY).await.unwrap());
    let lock = lock_out_the_indexer(&live);
    assert_eq!(store.append_keyed(draft("1"), KEY).await.unwrap(), 1);
    assert!(store.has_key(KEY).await.unwrap(), "in the journal alone");
    let killed = copy(&live, &dir.path().join("killed"));
    drop(lock);
    until("it is in the database", async || store.unindexed() == 0).await;
    assert!(store.has_key(KEY).await.unwrap());
    close(&store);

    for left in [live, killed] {
        for _ in 0..2 {
            let (store, _) = open(&left);
            assert!(store.has_key(KEY).await.unwrap(), "after a start");
            assert!(!store.has_key(key(1)).await.unwrap());
            assert_eq!(all(&store).await[0].draft, draft("1"));
            close(&store);
        }
    }
}

#[tokio::test]
async fn a_key_stays_known_however_many_events_follow() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(&dir.path().join("events.db"));
    let (store, _) = open(&config);
    let store = Arc::new(store);
    store.append_keyed(draft("keyed"), KEY).await.unwrap();
    for _ in 0..250 {
        let posters: Vec<_> = (0..100)
            .map(|_| {
                let store = Arc::clone(&store);
                tokio::spawn(async move { store.append(draft("more")).await })
            })
            .collect();
        for poster in posters {
            poster.await.unwrap().unwrap();
        }
    }
    close(&store);
    let (store, _) = open(&config);
    assert_eq!(store.last_seq(), 25_001);
    assert!(store.has_key(KEY).await.unwrap());
    close(&store);
}

#[tokio::test]
async fn a_key_goes_with_its_event() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(&config(&dir.path().join("events.db")));
    for n in 0..20 {
        store.append_keyed(draft(&n.to_string()), key(n)).await.unwrap();
    }
    store.set_limits(5, 1 << 50, Duration::MAX);
    let oldest = async || store.after(0, 1, &Filter::default()).await.unwrap().oldest_seq;
    until("the old ones are removed", async || oldest().await > 1 && store.unindexed() == 0).await;
    let oldest = u128::from(oldest().await);
    for n in 0..20 {
        assert_eq!(store.has_key(key(n)).await.unwrap(), n + 1 >= oldest, "event {}", n + 1);
    }
    close(&store);
}

#[tokio::test]
async fn keys_that_a_hook_wrote_are_found_in_an_older_database() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(&dir.path().join("events.db"));
    let (store, _) = open(&config);
    let mut hook = draft("");
    hook.payload = r#"{"data":{"event_id":"6f1c2d3e-4b5a-4678-9abc-def012345678"}}"#.into();
    store.append(hook).await.unwrap();
    close(&store);
    let older = rusqlite::Connection::open(&config.path).unwrap();
    older.execute_batch("DROP TABLE keys").unwrap();
    drop(older);
    let (store, _) = open(&config);
    assert!(store.has_key(KEY).await.unwrap());
    close(&store);
}

/// A version that knows no keys in the journal skips their bytes, as it skips any that are no record.
#[tokio::test]
async fn an_event_behind_a_damaged_key_is_kept() {
    use std::os::unix::fs::FileExt;
    let dir = tempfile::tempdir().unwrap();
    let live = config(&dir.path().join("live/events.db"));
    let (store, _) = open(&live);
    let lock = lock_out_the_indexer(&live);
    for n in 0..3 {
        store.append_keyed(draft(&n.to_string()), key(n)).await.unwrap();
    }
    let left = copy(&live, &dir.path().join("left"));
    drop(lock);
    close(&store);
    let file = std::fs::OpenOptions::new().write(true).open(&segments(&left)[0]).unwrap();
    file.write_all_at(b"????", 28).unwrap();
    let (store, components) = open(&left);
    assert!(told(&components).1.contains("set aside"), "{:?}", told(&components));
    assert_eq!(all(&store).await.iter().map(|e| e.seq).collect::<Vec<_>>(), [1, 2, 3]);
    let known = [store.has_key(KEY).await.unwrap(), store.has_key(key(1)).await.unwrap()];
    assert_eq!(known, [false, true]);
    close(&store);
}
