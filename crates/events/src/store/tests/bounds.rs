use super::*;

async fn fill(store: &Arc<Store>, count: u64, text: &str) {
    let posters: Vec<_> = (0..count)
        .map(|_| {
            let (store, draft) = (Arc::clone(store), draft(text));
            tokio::spawn(async move { store.append(draft).await })
        })
        .collect();
    for poster in posters {
        poster.await.unwrap().unwrap();
    }
}

async fn oldest(store: &Store) -> u64 {
    store.after(0, 0, &Filter::default()).await.unwrap().oldest_seq
}

#[tokio::test]
async fn no_more_events_than_allowed_and_the_newest_stay() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(&StoreConfig { max_events: 50, ..config(&dir.path().join("events.db")) });
    let store = Arc::new(store);
    fill(&store, 3000, "x").await;
    until("50 events stay", async || oldest(&store).await == 2951).await;
    assert_eq!(all(&store).await.len(), 50);
    until("all others are counted", async || store.counters().pruned.load(Ordering::Relaxed) == 2950).await;
    store.set_limits(10, 1 << 50, Duration::MAX);
    until("a tighter bound acts by itself", async || oldest(&store).await == 2991).await;
    close(&store);
}

#[tokio::test]
async fn no_more_bytes_than_allowed_and_the_file_shrinks() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(&dir.path().join("events.db"));
    let (store, _) = open(&config);
    let store = Arc::new(store);
    // Four of these fit on a page of the database, so that little of it is overhead.
    fill(&store, 7000, &"x".repeat(880)).await;
    let other = rusqlite::Connection::open(&config.path).unwrap();
    let pages = || other.query_row("PRAGMA page_count", [], |row| row.get::<_, u32>(0)).unwrap();
    until("there is something to give back", async || pages() > 1500).await;
    // All is in the database, so that a segment of the journal that is larger than the new bound pushes nothing out.
    until("everything is indexed", async || store.unindexed() == 0).await;
    store.set_limits(1 << 40, 1 << 20, Duration::MAX);
    until("the free pages go back", async || pages() <= 512).await;
    drop(other);
    close(&store);
    let size = std::fs::metadata(&config.path).unwrap().len();
    assert!(size <= 2 << 20, "{size} bytes: the file shrank");
    let (store, _) = open(&config);
    let kept: usize = all(&store).await.iter().map(|e| e.draft.payload.len()).sum();
    assert!((600_000..=1 << 20).contains(&kept), "{kept} bytes stay");
    close(&store);
}

#[tokio::test]
async fn no_older_events_than_allowed() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(&dir.path().join("events.db"));
    let (store, _) = open(&config);
    for n in 0..10 {
        store.append(draft(&n.to_string())).await.unwrap();
    }
    close(&store);
    let other = rusqlite::Connection::open(&config.path).unwrap();
    other.execute_batch("UPDATE events SET accepted = 1000000 WHERE seq IN (1, 2, 3, 7)").unwrap();
    drop(other);
    let (store, _) = open(&StoreConfig { max_age: Duration::from_secs(86_400), ..config });
    store.append(draft("11")).await.unwrap();
    until("the old ones, and all before them, are gone", async || oldest(&store).await == 8).await;
    assert_eq!(all(&store).await.len(), 4);
    close(&store);
}

#[tokio::test]
async fn a_number_is_never_used_twice_even_when_all_events_are_gone() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(&dir.path().join("events.db"));
    let (store, _) = open(&config);
    let store = Arc::new(store);
    fill(&store, 2500, "x").await;
    store.set_limits(1 << 40, 1 << 50, Duration::ZERO);
    until("all are gone", async || oldest(&store).await == 2501).await;
    let page = store.after(0, 10, &Filter::default()).await.unwrap();
    assert_eq!((page.events.len(), page.last_seq, page.oldest_seq), (0, 2500, 2501));
    close(&store);

    let (store, _) = open(&config);
    assert_eq!(store.last_seq(), 2500);
    assert_eq!(store.append(draft("next")).await.unwrap(), 2501);
    assert_eq!(oldest(&store).await, 2501);
    close(&store);
}
