use super::*;

/// A store whose newest events are remembered elsewhere, as the hub does.
fn open_remembered(config: &StoreConfig, room: usize) -> (Store, Components) {
    let memory = Arc::new(Mutex::new(Vec::<Arc<Event>>::new()));
    let (filled, components) = (Arc::clone(&memory), Components::new());
    let remember = move |events: &[Arc<Event>]| {
        let mut memory = filled.lock().unwrap();
        memory.extend_from_slice(events);
        let extra = memory.len().saturating_sub(room);
        memory.drain(..extra);
    };
    let store = Store::open(config.clone(), &Pulse::new(), &components, Box::new(remember)).unwrap();
    store.remember(move || memory.lock().unwrap().clone());
    (store, components)
}

async fn put(store: &Store, numbers: std::ops::RangeInclusive<u64>) {
    for n in numbers {
        assert_eq!(store.append(draft(&n.to_string())).await.unwrap(), n);
    }
}

async fn seqs(store: &Store) -> Vec<u64> {
    all(store).await.iter().map(|e| e.seq).collect()
}

#[tokio::test]
async fn a_removed_directory_is_begun_anew_with_the_newest_events() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(&dir.path().join("state/events.db"));
    let (store, components) = open_remembered(&config, 10);
    put(&store, 1..=30).await;
    until("they are in the database", async || store.unindexed() == 0).await;
    let epoch = store.epoch().to_owned();
    std::fs::remove_dir_all(dir.path().join("state")).unwrap();
    put(&store, 31..=35).await;
    until("a new database is there", async || config.path.exists() && store.unindexed() == 0).await;
    until("it is told", async || told(&components).0 == State::Degraded).await;
    assert!(told(&components).1.contains("removed or replaced while it was in use"), "{:?}", told(&components));
    put(&store, 36..=40).await;
    let kept = seqs(&store).await;
    // The open segment of the journal had all of them.
    assert_eq!(kept, (1..=40).collect::<Vec<_>>());
    close(&store);
    let (store, components) = open(&config);
    assert_eq!((store.epoch(), told(&components)), (epoch.as_str(), (State::Ok, String::new())));
    assert_eq!(seqs(&store).await, kept);
    close(&store);
}

#[tokio::test]
async fn what_no_open_file_has_comes_from_memory() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(&dir.path().join("state/events.db"));
    close(&{
        let (store, _) = open_remembered(&config, 10);
        put(&store, 1..=30).await;
        store
    });
    let (store, _) = open(&config);
    let memory: Vec<_> = store.latest(10).await.unwrap().into_iter().map(Arc::new).collect();
    store.remember(move || memory.clone());
    std::fs::remove_dir_all(dir.path().join("state")).unwrap();
    until("a new database is there", async || config.path.exists() && store.unindexed() == 0).await;
    assert_eq!(seqs(&store).await, (21..=30).collect::<Vec<_>>());
    put(&store, 31..=31).await;
    close(&store);
    let (store, _) = open(&config);
    assert_eq!(seqs(&store).await, (21..=31).collect::<Vec<_>>());
    close(&store);
}

#[tokio::test]
async fn a_directory_removed_right_before_the_end_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(&dir.path().join("state/events.db"));
    let (store, _) = open_remembered(&config, 10);
    put(&store, 1..=5).await;
    std::fs::remove_dir_all(dir.path().join("state")).unwrap();
    close(&store);
    let (store, _) = open(&config);
    assert_eq!(seqs(&store).await, [1, 2, 3, 4, 5]);
    close(&store);
}

#[tokio::test]
async fn each_file_alone_is_missed_and_no_event_is_lost() {
    for name in ["events.db", "events.db-wal", "events.db.lock", "events.db.journal-1"] {
        let dir = tempfile::tempdir().unwrap();
        let config = config(&dir.path().join("events.db"));
        let (store, _) = open_remembered(&config, 10);
        put(&store, 1..=5).await;
        let file = dir.path().join(name);
        std::fs::remove_file(&file).unwrap();
        until(name, async || file.exists()).await;
        put(&store, 6..=9).await;
        assert_eq!(seqs(&store).await, (1..=9).collect::<Vec<_>>(), "{name}");
        until("all are in the database", async || store.unindexed() == 0).await;
        assert_eq!(open(&config).0.append(draft("x")).await.unwrap_err().code(), "store_read_only", "{name}");
        let killed = copy(&config, &dir.path().join("killed"));
        close(&store);
        for left in [config, killed] {
            let (store, _) = open(&left);
            assert_eq!(seqs(&store).await, (1..=9).collect::<Vec<_>>(), "{name}");
            close(&store);
        }
    }
}

#[tokio::test]
async fn a_directory_that_cannot_be_made_again_refuses_events() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let config = config(&state.join("events.db"));
    let (store, components) = open_remembered(&config, 10);
    put(&store, 1..=5).await;
    std::fs::remove_dir_all(&state).unwrap();
    std::fs::write(&state, "in the way").unwrap();
    // What is accepted until then is in the open segment.
    until("events are refused", async || {
        store.append(draft("maybe")).await.is_err_and(|e| e.code() == "store_degraded")
    })
    .await;
    assert_eq!(told(&components).0, State::Degraded);
    let accepted = store.last_seq();
    std::fs::remove_file(&state).unwrap();
    until("they are taken again", async || store.append(draft("yes")).await.is_ok()).await;
    assert_eq!(seqs(&store).await, (1..=accepted + 1).collect::<Vec<_>>());
    close(&store);
    let (store, _) = open(&config);
    assert_eq!(seqs(&store).await, (1..=accepted + 1).collect::<Vec<_>>());
    close(&store);
}

#[tokio::test]
async fn a_directory_that_another_monitor_took_is_left_to_it() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let config = config(&state.join("events.db"));
    let (store, components) = open_remembered(&config, 10);
    put(&store, 1..=5).await;
    let new = dir.path().join("new");
    std::fs::create_dir(&new).unwrap();
    let theirs = std::fs::File::create(new.join("events.db.lock")).unwrap();
    theirs.lock().unwrap();
    std::fs::rename(&state, dir.path().join("old")).unwrap();
    std::fs::rename(new, &state).unwrap();
    // What is accepted until then is in the open segment.
    until("events are refused", async || {
        store.append(draft("maybe")).await.is_err_and(|e| e.code() == "store_degraded")
    })
    .await;
    assert_eq!(told(&components).0, State::Degraded);
    let accepted = store.last_seq();
    drop(theirs);
    until("the other is gone", async || store.append(draft("yes")).await.is_ok()).await;
    assert_eq!(seqs(&store).await, (1..=accepted + 1).collect::<Vec<_>>());
    close(&store);
}
