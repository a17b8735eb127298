use super::damage::tell_that_it_ended;
use super::*;

/// The files of a running store, whose last events only the journal has.
async fn running(dir: &Path, durable: bool) -> (Store, StoreConfig, rusqlite::Connection) {
    let config = StoreConfig { durable, ..config(&dir.join("live/events.db")) };
    let (store, _) = open(&config);
    for n in 1..=10 {
        store.append(draft(&n.to_string())).await.unwrap();
    }
    until("ten are in the database", async || store.unindexed() == 0).await;
    let lock = lock_out_the_indexer(&config);
    for n in 11..=20 {
        store.append(draft(&n.to_string())).await.unwrap();
    }
    (store, config, lock)
}

/// What a power cut leaves: another boot, and of the journal only what is said.
fn cut_power(config: &StoreConfig, to: &Path, keeps_journal: bool) -> StoreConfig {
    let left = copy(config, to);
    if !keeps_journal {
        segments(&left).iter().for_each(|path| std::fs::remove_file(path).unwrap());
    }
    tell_that_it_ended(&left, "no", "another-boot");
    left
}

#[tokio::test]
async fn a_kill_keeps_the_epoch_and_a_power_cut_begins_one() {
    let dir = tempfile::tempdir().unwrap();
    let (store, config, lock) = running(dir.path(), false).await;
    let killed = copy(&config, &dir.path().join("killed"));
    let cut = cut_power(&config, &dir.path().join("cut"), false);
    let kept = cut_power(&config, &dir.path().join("kept"), true);
    drop(lock);
    close(&store);

    let (after, _) = open(&killed);
    assert_eq!((after.epoch(), after.last_seq()), (store.epoch(), 20));
    close(&after);
    for (left, last) in [(cut, 10), (kept, 20)] {
        let (after, _) = open(&left);
        assert_ne!(after.epoch(), store.epoch(), "numbers after {last} may have been given before");
        assert_eq!((after.lineage(), after.last_seq()), (store.lineage(), last));
        assert_eq!(all(&after).await.len() as u64, last);
        assert_eq!(after.append(draft("next")).await.unwrap(), last + 1);
        let renewed = after.epoch().to_owned();
        close(&after);
        let (again, _) = open(&left);
        assert_eq!((again.epoch(), again.last_seq()), (renewed.as_str(), last + 1), "a clean end keeps it");
        close(&again);
    }
}

#[tokio::test]
async fn a_power_cut_of_a_durable_store_keeps_the_epoch() {
    let dir = tempfile::tempdir().unwrap();
    let (store, config, lock) = running(dir.path(), true).await;
    let cut = cut_power(&config, &dir.path().join("cut"), true);
    drop(lock);
    close(&store);
    // The next run's setting says nothing of what the last one did.
    let (after, _) = open(&StoreConfig { durable: false, ..cut });
    assert_eq!((after.epoch(), after.last_seq()), (store.epoch(), 20));
    close(&after);
}

#[tokio::test]
async fn power_cuts_in_a_row_lose_nothing_that_is_on_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let (store, config, lock) = running(dir.path(), false).await;
    let mut left = cut_power(&config, &dir.path().join("0"), true);
    drop(lock);
    close(&store);
    let mut epochs = std::collections::BTreeSet::from([store.epoch().to_owned()]);
    for round in 1..=3_u64 {
        let (after, _) = open(&left);
        assert!(epochs.insert(after.epoch().to_owned()), "an epoch came twice");
        assert_eq!(all(&after).await.len() as u64, 19 + round);
        let lock = lock_out_the_indexer(&left);
        after.append(draft("more")).await.unwrap();
        let next = copy(&left, &dir.path().join(round.to_string()));
        drop(lock);
        close(&after);
        tell_that_it_ended(&next, "no", "another-boot");
        left = next;
    }
}

#[tokio::test]
async fn an_end_that_left_events_in_the_journal_is_not_clean() {
    let dir = tempfile::tempdir().unwrap();
    let (store, config, lock) = running(dir.path(), false).await;
    // The indexer cannot write until it has given up.
    store.close(Instant::now() + Duration::from_millis(700));
    until("it has ended", async || store.close(Instant::now() + Duration::from_secs(1))).await;
    drop(lock);
    let ended = |path: &Path| {
        let conn = rusqlite::Connection::open(path).unwrap();
        schema::meta(&conn, "clean").unwrap()
    };
    assert_eq!(ended(&config.path).as_deref(), Some("no"));
    let (store, _) = open(&config);
    assert_eq!(store.last_seq(), 20);
    close(&store);
    assert_eq!(ended(&config.path).as_deref(), Some("yes"));
}
