use std::os::unix::fs::FileExt;

use super::*;
use crate::store::journal::parse;

fn seqs(events: &[Event]) -> Vec<u64> {
    events.iter().map(|e| e.seq).collect()
}

/// A store's files as a crash leaves them that comes before anything of `count` events is in the database.
async fn crashed(dir: &Path, count: u64) -> StoreConfig {
    let live = config(&dir.join("live/events.db"));
    let (store, _) = open(&live);
    let lock = lock_out_the_indexer(&live);
    for n in 1..=count {
        store.append(draft(&n.to_string())).await.unwrap();
    }
    let left = copy(&live, &dir.join("crashed"));
    drop(lock);
    close(&store);
    left
}

#[tokio::test]
async fn what_only_the_journal_has_is_found_at_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    let left = crashed(dir.path(), 20).await;
    assert_eq!(segments(&left).len(), 1);
    let (store, components) = open(&left);
    assert_eq!((store.last_seq(), told(&components)), (20, (State::Ok, String::new())));
    let found = all(&store).await;
    assert_eq!(seqs(&found), (1..=20).collect::<Vec<_>>());
    assert!(found.iter().all(|e| e.draft == draft(&e.seq.to_string())));
    assert_eq!(store.append(draft("21")).await.unwrap(), 21);
    close(&store);
    assert!(segments(&left).is_empty(), "a clean end leaves one file");
    let (store, _) = open(&left);
    assert_eq!(all(&store).await[..20], found, "with the very moments they were accepted at");
    close(&store);
}

#[tokio::test]
async fn a_torn_end_costs_only_what_was_not_promised_wherever_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let left = crashed(dir.path(), 3).await;
    let whole = std::fs::read(&segments(&left)[0]).unwrap();
    let mut third = whole.len();
    while parse(&whole[third..]).is_err() {
        third -= 1;
    }
    for end in third..whole.len() {
        for rest in [&[][..], &[0; 40], &[0xff; 40]] {
            let torn = copy(&left, &dir.path().join(format!("{end}-{}", rest.len())));
            std::fs::write(&segments(&torn)[0], [&whole[..end], rest].concat()).unwrap();
            let (store, components) = open(&torn);
            assert_eq!(told(&components), (State::Ok, String::new()), "cut off at {end} of {}", whole.len());
            assert_eq!(seqs(&all(&store).await), [1, 2]);
            assert_eq!(store.append(draft("3 again")).await.unwrap(), 3);
            close(&store);
            let (store, _) = open(&torn);
            assert_eq!(all(&store).await[2].draft, draft("3 again"));
            close(&store);
            std::fs::remove_dir_all(torn.path.parent().unwrap()).unwrap();
        }
    }
}

#[tokio::test]
async fn a_segment_that_was_never_written_to_does_no_harm() {
    let dir = tempfile::tempdir().unwrap();
    let left = crashed(dir.path(), 3).await;
    let whole = std::fs::read(&segments(&left)[0]).unwrap();
    for length in [0, 1, 27, 28] {
        std::fs::write(schema::beside(&left.path, ".journal-4"), &whole[..length]).unwrap();
        let torn = copy(&left, &dir.path().join(length.to_string()));
        // The head names another number where it is whole: set aside then, not believed.
        let (store, _) = open(&torn);
        assert_eq!(store.append(draft("4")).await.unwrap(), 4);
        assert_eq!(seqs(&all(&store).await), [1, 2, 3, 4]);
        close(&store);
    }
}

#[tokio::test]
async fn damage_in_the_middle_is_set_aside_and_said_and_the_rest_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let left = crashed(dir.path(), 30).await;
    let segment = segments(&left).remove(0);
    let size = std::fs::metadata(&segment).unwrap().len();
    let file = std::fs::OpenOptions::new().write(true).open(&segment).unwrap();
    file.write_all_at(&[0xa5; 10], size / 2).unwrap();
    let damaged = std::fs::read(&segment).unwrap();
    let (store, components) = open(&left);
    let (state, detail) = told(&components);
    assert_eq!((state, detail.contains("piece of the journal was set aside")), (State::Ok, true), "{detail}");
    let aside = detail.rsplit(' ').next().unwrap();
    assert_eq!(std::fs::read(aside).unwrap(), damaged, "not a byte is lost");
    let found = seqs(&all(&store).await);
    assert_eq!(found.len(), 29, "one record was hit: {found:?}");
    assert_eq!((found[0], *found.last().unwrap(), store.last_seq()), (1, 30, 30));
    close(&store);
    let (store, components) = open(&left);
    assert_eq!(told(&components), (State::Ok, String::new()));
    assert_eq!(seqs(&all(&store).await), found);
    close(&store);
}

#[tokio::test]
async fn a_crash_between_the_database_and_the_journal_brings_no_event_twice() {
    let dir = tempfile::tempdir().unwrap();
    let live = config(&dir.path().join("live/events.db"));
    let (store, _) = open(&live);
    for n in 1..=5 {
        store.append(draft(&n.to_string())).await.unwrap();
    }
    until("they are in the database", async || store.unindexed() == 0).await;
    assert_eq!(segments(&live).len(), 1, "and still in the journal");
    assert_eq!(seqs(&all(&store).await), [1, 2, 3, 4, 5], "a reader sees them once");
    let left = copy(&live, &dir.path().join("crashed"));
    close(&store);
    let (store, _) = open(&left);
    assert_eq!(seqs(&all(&store).await), [1, 2, 3, 4, 5]);
    assert!(segments(&left).is_empty(), "what was read is not kept");
    assert_eq!(store.append(draft("6")).await.unwrap(), 6);
    close(&store);
    let rows = rusqlite::Connection::open(&left.path).unwrap();
    assert_eq!(rows.query_row("SELECT count(*) FROM events", [], |row| row.get::<_, i64>(0)).unwrap(), 6);
}

#[tokio::test]
async fn readers_see_database_and_journal_as_one() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(&dir.path().join("events.db"));
    let (store, _) = open(&config);
    let put = async |n: u64| {
        let mut draft = draft(&n.to_string());
        draft.session = n.is_multiple_of(2).then(|| "even".to_owned());
        draft.subtype = format!("sub{}", n % 3);
        store.append(draft).await.unwrap();
    };
    for n in 1..=10 {
        put(n).await;
    }
    until("the first ten are in the database", async || store.unindexed() == 0).await;
    let lock = lock_out_the_indexer(&config);
    for n in 11..=20 {
        put(n).await;
    }
    let (follower, _) = open(&config);
    let middle = all(&store).await[9].accepted;
    let text = |s: &str| Some(s.to_owned());
    let none = Filter::default;
    for (after, limit, filter, seqs, complete) in [
        (0, 100, none(), (1..=20).collect::<Vec<_>>(), true),
        (7, 6, none(), vec![8, 9, 10, 11, 12, 13], false),
        (7, 3, none(), vec![8, 9, 10], false),
        (15, 5, none(), vec![16, 17, 18, 19, 20], true),
        (20, 5, none(), vec![], true),
        (6, 100, Filter { session: text("even"), ..none() }, vec![8, 10, 12, 14, 16, 18, 20], true),
        (6, 4, Filter { session: text("even"), ..none() }, vec![8, 10, 12, 14], false),
        (0, 100, Filter { session: text("even"), subtype: text("sub0"), ..none() }, vec![6, 12, 18], true),
        (0, 100, Filter { name: text("other"), ..none() }, vec![], true),
        (9, 100, Filter { since: Some(middle), session: text("even"), ..none() }, vec![10, 12, 14, 16, 18, 20], true),
        (0, 100, Filter { until: Some(middle), subtype: text("sub1"), ..none() }, vec![1, 4, 7], true),
        (0, 100, Filter { since: Some(middle), until: Some(middle), ..none() }, vec![], true),
    ] {
        for reader in [&store, &follower] {
            let page = reader.after(after, limit, &filter).await.unwrap();
            let got: Vec<_> = page.events.iter().map(|e| e.seq).collect();
            assert_eq!((&got, page.complete), (&seqs, complete), "after {after}, {limit}, {filter:?}");
            assert_eq!((page.oldest_seq, page.last_seq), (1, 20));
        }
    }
    for (count, from) in [(0, 21), (1, 20), (10, 11), (13, 8), (100, 1)] {
        let latest = store.latest(count).await.unwrap();
        assert_eq!(seqs(&latest), (from..=20).collect::<Vec<_>>());
        assert_eq!(latest, follower.latest(count).await.unwrap());
    }
    drop(lock);
    close(&follower);
    close(&store);
}

#[tokio::test]
async fn a_fresh_database_succeeds_the_one_that_the_journal_belongs_to() {
    let dir = tempfile::tempdir().unwrap();
    let left = crashed(dir.path(), 5).await;
    let (live, _) = open(&config(&dir.path().join("live/events.db")));
    std::fs::write(&left.path, b"This was a database once. ".repeat(500)).unwrap();
    // It would restore the database.
    std::fs::remove_file(schema::beside(&left.path, "-wal")).unwrap();
    let (store, components) = open(&left);
    assert!(told(&components).1.contains("damaged events were set aside"));
    assert_eq!((store.lineage(), store.last_seq()), (live.epoch(), 5), "the numbers go on");
    assert_ne!(store.epoch(), live.epoch(), "ids stay unique, whatever else is lost");
    assert_eq!(seqs(&all(&store).await), [1, 2, 3, 4, 5]);
    assert_eq!(store.append(draft("6")).await.unwrap(), 6);
    close(&store);
    close(&live);
}

#[tokio::test]
async fn the_journal_of_another_database_is_set_aside() {
    let dir = tempfile::tempdir().unwrap();
    let left = crashed(dir.path(), 5).await;
    let theirs = segments(&left).remove(0);
    let ours = config(&dir.path().join("ours/events.db"));
    close(&open(&ours).0);
    std::fs::copy(&theirs, dir.path().join("ours").join(theirs.file_name().unwrap())).unwrap();
    let (store, components) = open(&ours);
    assert!(told(&components).1.contains("set aside"), "{:?}", told(&components));
    assert_eq!((store.last_seq(), all(&store).await.len()), (0, 0));
    close(&store);
}

#[tokio::test]
async fn a_newer_journal_is_left_to_the_newer_version() {
    let dir = tempfile::tempdir().unwrap();
    let left = crashed(dir.path(), 5).await;
    let segment = segments(&left).remove(0);
    let mut bytes = std::fs::read(&segment).unwrap();
    bytes[4] = 9;
    let check = crc32fast::hash(&bytes[..24]).to_le_bytes();
    bytes[24..28].copy_from_slice(&check);
    std::fs::write(&segment, &bytes).unwrap();
    let error = Store::open(left, &Pulse::new(), &Components::new(), Box::new(|_| {})).unwrap_err();
    assert_eq!(error.code(), "store_too_new");
    assert_eq!(std::fs::read(&segment).unwrap(), bytes);
}

#[tokio::test]
async fn a_flood_beyond_the_bounds_keeps_the_disk_bounded() {
    let dir = tempfile::tempdir().unwrap();
    const MAX: u64 = 8 << 20;
    let config = StoreConfig { max_bytes: MAX, ..config(&dir.path().join("events.db")) };
    let (store, _) = open(&config);
    let store = Arc::new(store);
    let pad = "x".repeat(1000);
    let size = || -> u64 {
        let files = std::fs::read_dir(dir.path()).unwrap();
        files.filter_map(|entry| entry.unwrap().metadata().ok()).map(|m| m.len()).sum()
    };
    let (mut most, mut sent) = (0, 0_u64);
    while sent < 100_000 {
        let posters: Vec<_> = (0..200)
            .map(|_| {
                let (store, draft) = (Arc::clone(&store), draft(&pad));
                tokio::spawn(async move { store.append(draft).await })
            })
            .collect();
        for poster in posters {
            poster.await.unwrap().unwrap();
            sent += 1;
        }
        most = most.max(size());
    }
    println!("100,000 events, {} MiB: at most {} KiB on the disk", (sent * 1100) >> 20, most >> 10);
    // Where the indexer does not get the processor, the journal alone may fill the bounds beside the database's share of
    // three quarters. SQLite's own log of about 4 MiB comes on top.
    assert!(most <= 2 * MAX + (5 << 20), "{} KiB were taken", most >> 10);
    let page = store.after(0, 0, &Filter::default()).await.unwrap();
    assert_eq!(page.last_seq, 100_000);
    let kept = page.last_seq + 1 - page.oldest_seq;
    println!("{kept} events are kept");
    assert!(kept > 1000, "the newest stay: {kept}");
    until("all of them are in the database", async || store.unindexed() == 0).await;
    let events = all(&store).await;
    assert!(events.len() > 1000 && events.last().unwrap().seq == 100_000);
    assert!(events.windows(2).all(|pair| pair[0].seq + 1 == pair[1].seq), "without a gap");
    close(&store);
    assert!(size() <= MAX, "{} bytes stay", size());
}

#[tokio::test]
async fn a_journal_that_cannot_be_written_refuses_and_recovers_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(&dir.path().join("events.db"));
    let (store, components) = open(&config);
    // A directory in the place of the segment: nothing can be written there, by root neither.
    let blocker = schema::beside(&config.path, ".journal-1");
    std::fs::create_dir(&blocker).unwrap();
    let error = store.append(draft("no")).await.unwrap_err();
    assert_eq!(error.code(), "store_degraded");
    assert_eq!(told(&components).0, State::Degraded);
    std::fs::remove_dir(&blocker).unwrap();
    assert_eq!(store.append(draft("1")).await.unwrap(), 1, "the failed one used no number");
    assert_eq!(told(&components), (State::Ok, String::new()));
    close(&store);
}
