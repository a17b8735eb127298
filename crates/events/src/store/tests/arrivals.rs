use super::*;
use crate::store::{Arrival, Stored};

fn arrival(node: &str, seq: u64, after: u64) -> Arrival {
    let origin = Arc::new(Origin { node: node.to_owned(), epoch: "e1".to_owned(), seq });
    Arrival { origin, after, draft: draft(&format!("{node}-{seq}")) }
}

async fn bring(store: &Store, node: &str, seq: u64, after: u64) -> Result<Stored, &'static str> {
    store.append_remote(arrival(node, seq, after)).await.map_err(|e| e.code())
}

#[tokio::test]
async fn an_event_of_another_node_is_stored_once_and_in_its_order() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(&config(&dir.path().join("events.db")));
    assert_eq!(store.reached("b", "e1"), 0);
    assert_eq!(bring(&store, "b", 7, 0).await, Ok(Stored::Now(1)));
    assert_eq!(store.append(draft("own")).await.unwrap(), 2);
    assert_eq!(bring(&store, "b", 7, 0).await, Ok(Stored::Before));
    assert_eq!(bring(&store, "b", 6, 0).await, Ok(Stored::Before));
    assert_eq!(bring(&store, "b", 12, 9).await, Err("store_missing"));
    assert_eq!(bring(&store, "b", 9, 7).await, Ok(Stored::Now(3)));
    assert_eq!(bring(&store, "b", 12, 9).await, Ok(Stored::Now(4)));
    assert_eq!(bring(&store, "c", 1, 0).await, Ok(Stored::Now(5)));
    assert_eq!((store.reached("b", "e1"), store.reached("b", "e2"), store.reached("c", "e1")), (12, 0, 1));
    let of = |node| Filter { node: Some(node), ..Filter::default() };
    let seqs =
        async |filter| store.after(0, 9, &filter).await.unwrap().events.iter().map(|e| e.seq).collect::<Vec<_>>();
    // In the journal first, in the database later.
    for _ in 0..2 {
        assert_eq!(seqs(of(Place::Here)).await, [2]);
        assert_eq!(seqs(of(Place::Node("b".into()))).await, [1, 3, 4]);
        until("the indexer has them", async || store.unindexed() == 0).await;
    }
    assert_eq!(all(&store).await[2].origin.as_deref(), Some(&*arrival("b", 9, 0).origin));
    close(&store);
}

/// Several at once, as they come from the bus: what one is refused for, those after it are, too.
#[tokio::test]
async fn of_several_at_once_none_overtakes_another() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(&config(&dir.path().join("events.db")));
    let (first, again, missing, after) = tokio::join!(
        bring(&store, "b", 1, 0),
        bring(&store, "b", 1, 0),
        bring(&store, "b", 5, 3),
        bring(&store, "b", 6, 5)
    );
    assert_eq!(first, Ok(Stored::Now(1)));
    assert_eq!(again, Ok(Stored::Before));
    assert_eq!((missing, after), (Err("store_missing"), Err("store_missing")));
    assert_eq!(all(&store).await.len(), 1);
    close(&store);
}

#[tokio::test]
async fn how_far_a_node_has_come_outlives_a_crash_a_close_and_the_events() {
    let dir = tempfile::tempdir().unwrap();
    let live = config(&dir.path().join("live/events.db"));
    let (store, _) = open(&live);
    let locked = lock_out_the_indexer(&live);
    for seq in 1..=20 {
        assert_eq!(bring(&store, "b", seq, seq - 1).await, Ok(Stored::Now(seq)));
    }
    // As a crash leaves it: all in the journal.
    let crashed = copy(&live, &dir.path().join("crashed"));
    drop(locked);
    close(&store);
    let (store, _) = open(&crashed);
    assert_eq!(store.reached("b", "e1"), 20);
    assert_eq!(bring(&store, "b", 20, 19).await, Ok(Stored::Before));
    close(&store);

    // In the database, and the events pushed out of it.
    let few = StoreConfig { max_events: 5, ..live };
    let (store, _) = open(&few);
    assert_eq!(store.reached("b", "e1"), 20);
    for n in 0..600 {
        store.append(draft(&n.to_string())).await.unwrap();
    }
    until("the old ones are gone", async || all(&store).await.len() <= 5 && store.unindexed() == 0).await;
    close(&store);
    let (store, _) = open(&few);
    assert!(all(&store).await.iter().all(|e| e.origin.is_none()));
    assert_eq!(store.reached("b", "e1"), 20);
    close(&store);
}

#[tokio::test]
async fn a_database_of_an_older_version_gets_room_for_other_nodes() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(&dir.path().join("events.db"));
    let (store, _) = open(&config);
    store.append(draft("old")).await.unwrap();
    close(&store);
    let old = rusqlite::Connection::open(&config.path).unwrap();
    old.execute_batch(
        "DROP TABLE nodes; ALTER TABLE events DROP COLUMN node; ALTER TABLE events DROP COLUMN node_epoch;
         ALTER TABLE events DROP COLUMN node_seq;",
    )
    .unwrap();
    drop(old);
    let (store, components) = open(&config);
    assert_eq!(told(&components), (State::Ok, String::new()));
    assert_eq!(bring(&store, "b", 1, 0).await, Ok(Stored::Now(2)));
    until("the indexer has it", async || store.unindexed() == 0).await;
    let events = all(&store).await;
    assert_eq!((events.len(), events[0].origin.is_none(), events[1].origin.is_some()), (2, true, true));
    close(&store);
}

/// Damage costs events, but not the knowledge of what was here.
#[tokio::test]
async fn a_fresh_database_in_the_place_of_a_damaged_one_knows_the_other_nodes() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(&dir.path().join("events.db"));
    let (store, _) = open(&config);
    assert_eq!(bring(&store, "b", 3, 0).await, Ok(Stored::Now(1)));
    until("the indexer has it", async || store.unindexed() == 0).await;
    store.shared.suspect.store(true, Ordering::Release);
    store.bell.look();
    until("a fresh one is in place", async || {
        let aside = std::fs::read_dir(dir.path()).unwrap().flatten();
        aside.map(|e| e.file_name().into_string().unwrap()).any(|n| n.contains(".corrupt-"))
    })
    .await;
    store.append(draft("after")).await.unwrap();
    until("the indexer goes on", async || store.unindexed() == 0).await;
    close(&store);
    let (store, _) = open(&config);
    assert_eq!(store.reached("b", "e1"), 3);
    close(&store);
}
