use std::os::unix::fs::FileExt;

use super::*;

fn aside(dir: &Path) -> Vec<PathBuf> {
    let mut found: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_string_lossy().contains(".corrupt-"))
        .collect();
    found.sort();
    found
}

#[tokio::test]
async fn a_damaged_file_is_set_aside_and_said() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(&dir.path().join("events.db"));
    let garbage = b"This was a database once. ".repeat(500);
    for round in 1..=2 {
        std::fs::write(&config.path, &garbage).unwrap();
        let (store, components) = open(&config);
        let found = aside(dir.path());
        assert_eq!(found.len(), round, "each under a name of its own");
        assert!(found.iter().all(|file| std::fs::read(file).unwrap() == garbage), "not a byte is lost");
        let (state, detail) = told(&components);
        assert_eq!(state, State::Ok);
        assert!(detail.contains(&*store.set_aside().unwrap().to_string_lossy()), "{detail}");
        assert_eq!(store.append(draft("1")).await.unwrap(), 1);
        close(&store);
    }
}

/// Damages the inside of a database that opens well, as a dying disk or a lost write does.
async fn damage_inside(config: &StoreConfig) {
    let (store, _) = open(config);
    for n in 0..200 {
        store.append(draft(&format!("{n}{}", "x".repeat(500)))).await.unwrap();
    }
    close(&store);
    let file = std::fs::OpenOptions::new().write(true).open(&config.path).unwrap();
    let size = file.metadata().unwrap().len();
    let pages = size / 4096;
    for page in pages / 3..pages / 2 {
        file.write_all_at(&[0xa5; 1024], page * 4096).unwrap();
    }
}

pub(super) fn tell_that_it_ended(config: &StoreConfig, clean: &str, boot: &str) {
    let other = rusqlite::Connection::open(&config.path).unwrap();
    let sql = "UPDATE meta SET value = CASE key WHEN 'clean' THEN ?1 ELSE ?2 END WHERE key IN ('clean', 'boot')";
    other.execute(sql, [clean, boot]).unwrap();
}

#[tokio::test]
async fn an_end_with_the_machine_is_checked_and_a_clean_one_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(&dir.path().join("events.db"));
    damage_inside(&config).await;
    tell_that_it_ended(&config, "yes", "another-boot");
    let (store, components) = open(&config);
    assert_eq!(told(&components), (State::Ok, String::new()), "a check of all data is not for every start");
    close(&store);
    tell_that_it_ended(&config, "no", "another-boot");
    let (store, components) = open(&config);
    assert!(told(&components).1.contains("set aside"));
    assert_eq!(aside(dir.path()).len(), 1);
    assert_eq!((store.last_seq(), all(&store).await.len()), (0, 0));
    close(&store);
}

#[tokio::test]
async fn damage_met_in_use_is_set_aside_and_the_numbers_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(&dir.path().join("events.db"));
    damage_inside(&config).await;
    let (store, components) = open(&config);
    let epoch = store.epoch().to_owned();
    assert_eq!(store.append(draft("before")).await.unwrap(), 201);
    // Removing the old ones runs into the damage.
    store.set_limits(10, 1 << 50, Duration::MAX);
    until("the damage is met", async || !aside(dir.path()).is_empty()).await;
    until("a fresh database is in use", async || told(&components).1.contains("set aside")).await;
    assert_eq!(told(&components).0, State::Ok);
    assert_eq!(store.append(draft("after")).await.unwrap(), 202, "ids stay unique");
    let left = all(&store).await.iter().map(|e| e.seq).collect::<Vec<_>>();
    assert_eq!(left, [201, 202], "what the journal still has is not lost with the database");
    close(&store);

    let (store, components) = open(&config);
    assert_eq!(told(&components), (State::Ok, String::new()));
    assert_eq!((store.last_seq(), store.epoch()), (202, epoch.as_str()));
    close(&store);
    let main = |path: &&PathBuf| !path.to_string_lossy().ends_with("-wal") && !path.to_string_lossy().ends_with("-shm");
    assert_eq!(aside(dir.path()).iter().filter(main).count(), 1);
}

#[tokio::test]
async fn an_event_that_meets_damage_is_stored_in_the_fresh_database() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(&dir.path().join("events.db"));
    let (store, _) = open(&config);
    store.append(draft("1")).await.unwrap();
    // As a broken disk would, behind the store's back: the index can no longer take an entry.
    let other = rusqlite::Connection::open(&config.path).unwrap();
    other
        .execute_batch(
            "PRAGMA writable_schema=ON;
             UPDATE sqlite_schema SET rootpage = 1 WHERE name = 'events_by_session';
             PRAGMA schema_version=77;",
        )
        .unwrap();
    drop(other);
    assert_eq!(store.append(draft("2")).await.unwrap(), 2);
    until("the damage was met", async || store.counters().errors.load(Ordering::Relaxed) > 0).await;
    until("a fresh one has it", async || store.set_aside().is_none() && !aside(dir.path()).is_empty()).await;
    until("and what the journal still has", async || store.unindexed() == 0).await;
    assert_eq!(all(&store).await.iter().map(|e| e.seq).collect::<Vec<_>>(), [1, 2]);
    close(&store);
}

/// Damages rows as no program of ours does: text that is none, JSON that is none, numbers that are none.
fn damage_rows(config: &StoreConfig) {
    let other = rusqlite::Connection::open(&config.path).unwrap();
    other
        .execute_batch(
            "UPDATE events SET accepted = 'yesterday' WHERE seq = 1;
             UPDATE events SET payload = CAST(x'7b22ff227d' AS TEXT) WHERE seq = 5;
             UPDATE events SET payload = '{\"n\":' WHERE seq = 10;
             UPDATE events SET payload = '{' || char(10) || '}' WHERE seq = 15;
             UPDATE events SET session = CAST(x'ff' AS TEXT) WHERE seq = 30;",
        )
        .unwrap();
}

#[tokio::test]
async fn damaged_rows_are_left_out_counted_and_told() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(&dir.path().join("events.db"));
    let (store, _) = open(&config);
    for n in 1..=30 {
        store.append(draft(&n.to_string())).await.unwrap();
    }
    close(&store);
    damage_rows(&config);
    let (store, components) = open(&config);
    let newest: Vec<_> = store.latest(3).await.unwrap().iter().map(|e| e.seq).collect();
    assert_eq!((newest, store.damaged()), (vec![27, 28, 29], 1), "the history at the start");
    let good: Vec<u64> = (1..=30).filter(|n| ![1, 5, 10, 15, 30].contains(n)).collect();
    for _ in 0..2 {
        assert_eq!(all(&store).await.iter().map(|e| e.seq).collect::<Vec<_>>(), good);
        assert_eq!(store.damaged(), 5, "each is counted once");
    }
    let page = store.after(0, 8, &Filter::default()).await.unwrap();
    assert_eq!((page.events.last().unwrap().seq, page.damaged, page.complete), (11, 3, false));
    assert_eq!((page.oldest_seq, page.last_seq), (1, 30));
    let (state, detail) = told(&components);
    assert_eq!((state, detail.as_str()), (State::Degraded, "5 damaged events of the database are left out"));
    assert_eq!(store.append(draft("31")).await.unwrap(), 31);
    store.set_limits(4, 1 << 50, Duration::MAX);
    until("damaged ones grow old as well", async || {
        store.after(0, 1, &Filter::default()).await.unwrap().oldest_seq > 27
    })
    .await;
    close(&store);
    assert!(aside(dir.path()).is_empty(), "the good ones stay where they are");
}

#[tokio::test]
async fn a_database_without_a_certain_last_number_is_set_aside() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(&dir.path().join("events.db"));
    close(&open(&config).0);
    let other = rusqlite::Connection::open(&config.path).unwrap();
    other.execute("UPDATE meta SET value = 'many' WHERE key = 'seq'", []).unwrap();
    drop(other);
    let (store, components) = open(&config);
    assert!(told(&components).1.contains("set aside"));
    close(&store);
}

#[tokio::test]
async fn an_emptied_database_is_set_aside_and_said() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(&dir.path().join("events.db"));
    let (store, components) = open(&config);
    assert_eq!(told(&components), (State::Ok, String::new()), "a first start is none");
    store.append(draft("1")).await.unwrap();
    let epoch = store.epoch().to_owned();
    close(&store);
    std::fs::write(&config.path, "").unwrap();
    let (store, components) = open(&config);
    assert!(told(&components).1.contains("set aside"), "{:?}", told(&components));
    assert_eq!(aside(dir.path()).len(), 1);
    assert_ne!(store.epoch(), epoch);
    close(&store);
}

#[test]
fn files_that_are_not_ours_stay_as_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(&dir.path().join("events.db"));
    let other = rusqlite::Connection::open(&config.path).unwrap();
    other.execute_batch("CREATE TABLE theirs (x)").unwrap();
    drop(other);
    let before = std::fs::read(&config.path).unwrap();
    let try_open = || Store::open(config.clone(), &Pulse::new(), &Components::new(), Box::new(|_| {}));
    assert_eq!(try_open().unwrap_err().code(), "store_foreign");
    assert_eq!(std::fs::read(&config.path).unwrap(), before);
    std::fs::remove_file(&config.path).unwrap();

    close(&try_open().unwrap());
    let other = rusqlite::Connection::open(&config.path).unwrap();
    other.pragma_update(None, "user_version", 99).unwrap();
    drop(other);
    let error = try_open().unwrap_err();
    assert_eq!(error.code(), "store_too_new");
    assert!(error.to_string().contains("format 99"), "{error}");
    assert!(aside(dir.path()).is_empty());
}

#[test]
fn a_directory_that_cannot_be_made_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let blocker = dir.path().join("file");
    std::fs::write(&blocker, "").unwrap();
    let config = config(&blocker.join("events.db"));
    let error = Store::open(config, &Pulse::new(), &Components::new(), Box::new(|_| {})).unwrap_err();
    assert_eq!(error.code(), "store_file");
    assert!(error.to_string().contains("cannot make"), "{error}");
}
