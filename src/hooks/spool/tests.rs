use super::*;

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

fn spool() -> (tempfile::TempDir, Spool) {
    let dir = tempfile::tempdir().unwrap();
    let spool = Spool::new(dir.path().join("spool/8765"));
    (dir, spool)
}

fn put(spool: &Spool, key: &str) {
    assert_eq!(spool.append([(State::New, key, "{}")], soon()).unwrap(), Kept::All);
}

fn keys(spool: &Spool, most: usize) -> Vec<String> {
    let mut delivery = spool.deliver(soon()).unwrap().unwrap();
    let mut keys = Vec::new();
    while keys.len() < most {
        let Some(record) = delivery.next_record().unwrap() else { break };
        delivery.mark(&record, State::Done).unwrap();
        keys.push(record.key);
    }
    keys
}

#[test]
fn what_waits_is_delivered_in_order_and_leaves_nothing() {
    let (_dir, spool) = spool();
    assert!(!spool.waits() && spool.deliver(soon()).unwrap().is_none());
    ["a", "b", "c"].iter().for_each(|key| put(&spool, key));
    assert_eq!(spool.waiting().events, 3);
    assert_eq!(keys(&spool, 2), ["a", "b"]);
    // Those that come meanwhile stand behind those that were there.
    put(&spool, "d");
    assert_eq!(spool.waiting().events, 2);
    assert_eq!(keys(&spool, 9), ["c", "d"]);
    assert!(!spool.waits());
    assert_eq!(keys(&spool, 9), [""; 0]);
}

#[test]
fn one_delivers_and_what_was_sent_is_known_to_the_next() {
    let (_dir, spool) = spool();
    put(&spool, "a");
    put(&spool, "b");
    let mut delivery = spool.deliver(soon()).unwrap().unwrap();
    assert!(spool.deliver(soon()).unwrap().is_none(), "one at a time");
    let record = delivery.next_record().unwrap().unwrap();
    delivery.mark(&record, State::Maybe).unwrap();
    // It is killed here.
    drop(delivery);
    let mut delivery = spool.deliver(soon()).unwrap().unwrap();
    let states = [delivery.next_record(), delivery.next_record()].map(|r| r.unwrap().unwrap().state);
    assert_eq!(states, [State::Maybe, State::New]);
}

#[test]
fn half_a_record_is_none() {
    let (_dir, spool) = spool();
    put(&spool, "a");
    let queue = spool.at("queue");
    let whole = fs::read(&queue).unwrap();
    for torn in ["+", "+half", "+key {\"a\":"] {
        fs::write(&queue, [&whole[..], torn.as_bytes()].concat()).unwrap();
        put(&spool, "b");
        assert_eq!(keys(&spool, 9), ["a", "b"], "{torn:?}");
        fs::write(&queue, [&whole[..], torn.as_bytes()].concat()).unwrap();
        assert_eq!(keys(&spool, 9), ["a"], "{torn:?} at the end");
    }
    fs::write(&queue, "x".repeat(200_000)).unwrap();
    put(&spool, "c");
    assert_eq!(keys(&spool, 9), ["c"]);
}

#[test]
fn it_is_bounded_and_counts_what_found_no_room() {
    let (_dir, spool) = spool();
    let body = "x".repeat(1 << 20);
    let kept = (0..10).map(|_| spool.append([(State::New, "k", &*body)], soon()).unwrap());
    assert_eq!(kept.filter(|k| *k == Kept::All).count(), 7);
    spool.count_lost(3, soon());
    assert_eq!((spool.waiting().events, spool.waiting().dropped), (7, 3));
    assert!(spool.waiting().bytes <= MOST);
}

#[test]
fn many_at_once_lose_nothing_and_keep_the_order_of_each() {
    let (_dir, spool) = spool();
    spool.make().unwrap();
    std::thread::scope(|scope| {
        for writer in 0..8 {
            let spool = &spool;
            scope.spawn(move || (0..100).for_each(|n| put(spool, &format!("{writer}-{n}"))));
        }
        let mut all = Vec::new();
        while all.len() < 800 {
            all.extend(keys(&spool, 50));
        }
        for writer in 0..8 {
            let of: Vec<_> = all.iter().filter_map(|k| k.strip_prefix(&format!("{writer}-"))).collect();
            assert_eq!(of, (0..100).map(|n| n.to_string()).collect::<Vec<_>>());
        }
    });
}

#[test]
fn who_comes_too_late_does_not_stand_behind_those_that_came_later() {
    let (_dir, spool) = spool();
    put(&spool, "a");
    let late = spool.append([(State::New, "b", "{}")], Instant::now());
    assert_eq!(late.unwrap_err().kind(), io::ErrorKind::TimedOut);
    spool.count_lost(1, Instant::now());
    assert_eq!((spool.waiting().events, spool.waiting().dropped), (1, 1));
}

#[test]
fn a_moment_of_rest_ends() {
    let (_dir, spool) = spool();
    assert!(!spool.is_held_off());
    spool.hold_off();
    assert!(spool.is_held_off());
    spool.go_on();
    assert!(!spool.is_held_off());
    spool.hold_off();
    let file = File::options().write(true).open(spool.at("held-off")).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_secs(2)).unwrap();
    assert!(!spool.is_held_off());
    file.set_modified(SystemTime::now() + Duration::from_secs(3600)).unwrap();
    assert!(!spool.is_held_off(), "a clock that was set back");
}

#[test]
fn what_is_kept_is_private() {
    use std::os::unix::fs::MetadataExt;
    let (dir, spool) = spool();
    put(&spool, "a");
    assert_eq!(fs::metadata(spool.dir()).unwrap().mode() & 0o077, 0);
    assert_eq!(fs::metadata(spool.at("queue")).unwrap().mode() & 0o077, 0);
    // Nobody gets us to write where a link leads.
    let other = dir.path().join("other");
    fs::write(&other, "theirs").unwrap();
    fs::remove_file(spool.at("queue")).unwrap();
    std::os::unix::fs::symlink(&other, spool.at("queue")).unwrap();
    assert!(spool.append([(State::New, "a", "{}")], soon()).is_err());
    assert_eq!(fs::read_to_string(&other).unwrap(), "theirs");
}
