use std::os::unix::fs::PermissionsExt;
use std::sync::mpsc;

use super::*;

#[tokio::test]
async fn a_new_start_finds_events_and_goes_on_counting() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(&dir.path().join("deep/er/events.db"));
    let (store, components) = open(&config);
    assert_eq!(told(&components), (State::Ok, String::new()));
    assert_eq!(store.last_seq(), 0);
    for n in 1..=3 {
        assert_eq!(store.append(draft(&n.to_string())).await.unwrap(), n);
    }
    let mut odd = draft("\u{2028} é \\ud800 1e400");
    odd.session = None;
    odd.name = "a\0b".to_owned();
    assert_eq!(store.append(odd.clone()).await.unwrap(), 4);
    let before = all(&store).await;
    let epoch = store.epoch().to_owned();
    assert_eq!((before.len(), &before[3].draft), (4, &odd));
    assert_eq!(epoch.len(), 8);
    close(&store);
    assert!(!dir.path().join("deep/er/events.db-wal").exists(), "a clean end leaves one file");

    let (store, _) = open(&config);
    assert_eq!((store.last_seq(), store.epoch()), (4, epoch.as_str()));
    assert_eq!(all(&store).await, before, "with the very moments they were accepted at");
    assert_eq!(store.append(draft("5")).await.unwrap(), 5);
    let latest: Vec<_> = store.latest(2).await.unwrap().iter().map(|e| e.seq).collect();
    assert_eq!(latest, [4, 5]);
    close(&store);

    let mode = |name: &str| std::fs::metadata(dir.path().join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("deep"), mode("deep/er"), mode("deep/er/events.db")), (0o700, 0o700, 0o600));
}

#[test]
fn subscribers_hear_in_the_order_of_the_numbers_and_before_the_poster() {
    let dir = tempfile::tempdir().unwrap();
    let heard = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&heard);
    let store = Store::open(
        config(&dir.path().join("events.db")),
        &Pulse::new(),
        &Components::new(),
        Box::new(move |events| sink.lock().unwrap().extend(events.iter().cloned())),
    )
    .unwrap();
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let (store, heard) = (&store, &heard);
            scope.spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                let mut last = 0;
                for n in 0..100 {
                    let seq = runtime.block_on(store.append(draft(&format!("{thread}-{n}")))).unwrap();
                    assert!(seq > last, "one poster's events keep their order");
                    last = seq;
                    let heard = heard.lock().unwrap();
                    let event = &heard[usize::try_from(seq).unwrap() - 1];
                    assert_eq!(event.draft, draft(&format!("{thread}-{n}")));
                }
            });
        }
    });
    let heard = heard.lock().unwrap();
    assert!(heard.iter().map(|e| e.seq).eq(1..=800));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let stored = runtime.block_on(all(&store));
    assert!(stored.iter().eq(heard.iter().map(|e| &**e)), "what was told is what was stored");
    let counters = store.counters();
    assert_eq!(counters.events.load(Ordering::Relaxed), 800);
    assert!((1..=800).contains(&counters.batches.load(Ordering::Relaxed)));
    close(&store);
}

#[tokio::test]
async fn pages_and_filters() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(&config(&dir.path().join("events.db")));
    for n in 0..10_u64 {
        let mut draft = draft(&n.to_string());
        draft.session = (n % 2 == 0).then(|| "even".to_owned());
        draft.subtype = format!("sub{}", n % 3);
        draft.name = if n < 5 { "early" } else { "late" }.to_owned();
        store.append(draft).await.unwrap();
    }
    let text = |s: &str| Some(s.to_owned());
    let none = Filter::default;
    let table = [
        (0, 100, none(), vec![1, 2, 3, 4, 5, 6, 7, 8, 9, 10], true),
        (0, 4, none(), vec![1, 2, 3, 4], false),
        (4, 6, none(), vec![5, 6, 7, 8, 9, 10], true),
        (0, 0, none(), vec![], false),
        (10, 5, none(), vec![], true),
        (u64::MAX, usize::MAX, none(), vec![], true),
        (0, 100, Filter { session: text("even"), ..none() }, vec![1, 3, 5, 7, 9], true),
        (3, 1, Filter { session: text("even"), ..none() }, vec![5], false),
        (0, 100, Filter { name: text("late"), ..none() }, vec![6, 7, 8, 9, 10], true),
        (0, 100, Filter { session: text("even"), name: text("early"), subtype: text("sub2"), ..none() }, vec![3], true),
        (0, 100, Filter { subtype: text("sub1' OR 1"), ..none() }, vec![], true),
    ];
    for (after, limit, filter, seqs, complete) in table {
        let page = store.after(after, limit, &filter).await.unwrap();
        let got: Vec<_> = page.events.iter().map(|e| e.seq).collect();
        assert_eq!((got, page.complete), (seqs, complete), "after {after}, {limit}, {filter:?}");
        assert_eq!((page.oldest_seq, page.last_seq), (1, 10));
    }
    close(&store);
}

#[tokio::test]
async fn a_page_of_large_events_is_cut_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(&config(&dir.path().join("events.db")));
    let large = "x".repeat(5 << 20);
    for _ in 0..3 {
        store.append(draft(&large)).await.unwrap();
    }
    let page = store.after(0, 100, &Filter::default()).await.unwrap();
    assert_eq!((page.events.len(), page.complete), (1, false));
    let within = async |bytes| store.within(1, bytes, &Filter::default()).await.unwrap();
    let next = within(64 << 10).await.next.unwrap();
    assert!(next > large.len() && within(next - 1).await.events.is_empty(), "it says how large the next one is");
    let page = within(next).await;
    assert_eq!((page.events.len(), page.complete, page.next.is_some()), (1, false, true));
    assert_eq!(store.latest(100).await.unwrap().iter().map(|e| e.seq).collect::<Vec<_>>(), [3]);
    assert_eq!(all(&store).await.len(), 3);
    close(&store);
}

#[tokio::test]
async fn a_busy_writer_makes_posters_wait_but_not_the_watchdog() {
    let dir = tempfile::tempdir().unwrap();
    let (pulse, components) = (Pulse::new(), Components::new());
    let (go, gate) = mpsc::channel::<()>();
    let store = Store::open(
        // The store's thread commits then; on that of this test the gate would close for ever.
        StoreConfig { durable: true, ..config(&dir.path().join("events.db")) },
        &pulse,
        &components,
        Box::new(move |_| {
            // Holds up the first batch; when the sender is gone, none.
            let _ = gate.recv();
        }),
    )
    .unwrap();
    let store = Arc::new(store);
    pulse.ask();
    until("an idle writer answers", async || pulse.silent().is_empty()).await;

    let posters: Vec<_> = (0..6000)
        .map(|n| {
            let store = Arc::clone(&store);
            tokio::spawn(async move { store.append(draft(&n.to_string())).await })
        })
        .collect();
    let counters = store.counters();
    until("the first batch is committed", async || counters.batches.load(Ordering::Relaxed) == 1).await;
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    pulse.ask();
    until("who is stuck is known, and asking did not block", async || pulse.silent() == ["store"]).await;
    drop(go);
    let mut seqs = Vec::new();
    for poster in posters {
        seqs.push(poster.await.unwrap().unwrap());
    }
    seqs.sort_unstable();
    assert!(seqs.into_iter().eq(1..=6000));
    until("the writer answers again", async || pulse.silent().is_empty()).await;
    close(&store);
    pulse.ask();
    assert!(pulse.silent().is_empty(), "a closed store is not asked");
}

#[tokio::test]
async fn an_abandoned_append_leaves_a_whole_event_or_none() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(&config(&dir.path().join("events.db")));
    for n in 0..200 {
        tokio::select! {
            biased;
            _ = store.append(draft(&format!("abandoned-{n}"))) => {}
            () = std::future::ready(()) => {}
        }
    }
    let seq = store.append(draft("last")).await.unwrap();
    let events = all(&store).await;
    assert!(events.iter().map(|e| e.seq).eq(1..=seq));
    assert_eq!(events.last().unwrap().draft, draft("last"));
    for (n, event) in events.iter().take(200).enumerate() {
        assert_eq!(event.draft, draft(&format!("abandoned-{n}")));
    }
    close(&store);
}

#[tokio::test]
async fn closing_commits_what_waits_and_takes_no_more() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(&dir.path().join("events.db"));
    let (store, _) = open(&config);
    let store = Arc::new(store);
    let posters: Vec<_> = (0..100)
        .map(|n| {
            let store = Arc::clone(&store);
            tokio::spawn(async move { store.append(draft(&n.to_string())).await })
        })
        .collect();
    // Lets each of them come as far as the queue.
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    close(&store);
    close(&store);
    assert!(matches!(store.append(draft("late")).await, Err(StoreError::Closed)));
    assert!(matches!(store.latest(1).await, Err(StoreError::Closed)));
    let mut accepted = Vec::new();
    for poster in posters {
        accepted.extend(poster.await.unwrap().ok());
    }
    assert_eq!(accepted.len(), 100, "they were in the queue before the end");
    let (store, _) = open(&config);
    assert_eq!(all(&store).await.iter().map(|e| e.seq).collect::<Vec<_>>(), accepted);
    close(&store);
}

#[tokio::test]
async fn a_second_opener_only_reads() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(&dir.path().join("events.db"));
    let (first, _) = open(&config);
    first.append(draft("1")).await.unwrap();
    let (second, components) = open(&config);
    assert_eq!(told(&components).0, State::Degraded);
    assert_eq!((second.last_seq(), second.epoch()), (1, first.epoch()));
    let refused = second.append(draft("no")).await.unwrap_err();
    assert_eq!(refused.code(), "store_read_only");
    assert!(refused.to_string().contains("events.db.lock"), "{refused}");
    first.append(draft("2")).await.unwrap();
    assert_eq!(all(&second).await, all(&first).await);
    assert_eq!(second.last_seq(), 2);
    close(&second);
    assert_eq!(first.append(draft("3")).await.unwrap(), 3, "the reader's end disturbs nothing");
    close(&first);
    let (third, components) = open(&config);
    assert_eq!(told(&components).0, State::Ok, "the lock goes with its holder");
    assert_eq!(third.append(draft("4")).await.unwrap(), 4);
    close(&third);
}

#[tokio::test]
async fn anyone_may_read_the_file_meanwhile_and_a_lock_held_too_long_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(&dir.path().join("events.db"));
    let (store, components) = open(&config);
    let other = rusqlite::Connection::open(&config.path).unwrap();
    let count = || other.query_row("SELECT count(*) FROM events", [], |row| row.get::<_, i64>(0)).unwrap();
    let began = Instant::now();
    store.append(draft("1")).await.unwrap();
    until("it is in the database", async || count() == 1).await;
    assert!(began.elapsed() < Duration::from_secs(1), "within a second: {:?}", began.elapsed());

    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    assert_eq!(store.append(draft("2")).await.unwrap(), 2, "posters do not wait for that");
    until("the lock is told", async || told(&components).1.contains("locked")).await;
    assert_eq!(told(&components).0, State::Degraded);
    assert_eq!(store.append(draft("3")).await.unwrap(), 3);
    assert_eq!(store.unindexed(), 2);
    assert_eq!(all(&store).await.iter().map(|e| e.seq).collect::<Vec<_>>(), [1, 2, 3]);
    other.execute_batch("ROLLBACK").unwrap();
    until("it goes on by itself", async || count() == 3).await;
    until("and says so", async || told(&components) == (State::Ok, String::new())).await;
    assert!(store.counters().errors.load(Ordering::Relaxed) >= 1);
    assert_eq!(store.unindexed(), 0);
    close(&store);
}

#[tokio::test]
async fn a_writer_that_panics_leaves_nobody_waiting() {
    // On the store's thread and on the poster's.
    for durable in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let config = StoreConfig { durable, ..config(&dir.path().join("events.db")) };
        let (pulse, components) = (Pulse::new(), Components::new());
        let on_commit = Box::new(|events: &[Arc<Event>]| assert!(events[0].seq < 2, "the subscribers' side is broken"));
        let store = Store::open(config.clone(), &pulse, &components, on_commit).unwrap();
        assert_eq!(store.append(draft("1")).await.unwrap(), 1);
        assert!(matches!(store.append(draft("2")).await, Err(StoreError::Closed)));
        until("the writer is known to be gone", async || told(&components).0 == State::Degraded).await;
        assert!(matches!(store.append(draft("3")).await, Err(StoreError::Closed)));
        pulse.ask();
        until("so the watchdog acts", async || pulse.silent() == ["store"]).await;
        close(&store);
        let (store, _) = open(&config);
        assert_eq!(store.last_seq(), 2, "committed, though not promised");
        assert_eq!(all(&store).await.len(), 2);
        close(&store);
    }
}
