use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use super::*;
use crate::key::Key;

const PATH: &str = "MPM_MONITOR_TEST_APPEND_TO";

/// A key of its own for each token.
fn key(token: &str) -> Key {
    Key::from_u128(token.bytes().fold(0, |key, byte| key.wrapping_mul(257).wrapping_add(byte.into())))
}

/// Appends from eight threads and prints each number once it is promised, until it is killed.
fn append_forever(path: &Path) {
    let store = Store::open(config(path), &Pulse::new(), &Components::new(), Box::new(|_| {})).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let store = &store;
            scope.spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                for n in 0.. {
                    let token = format!("{}-{thread}-{n}", std::process::id());
                    let seq = runtime.block_on(store.append_keyed(draft(&token), key(&token))).unwrap();
                    #[expect(clippy::disallowed_methods, reason = "the parent reads it, a panic is no end")]
                    if writeln!(std::io::stdout(), "acked {seq} {token}").is_err() {
                        // Nobody reads any more: the test is gone.
                        std::process::exit(1);
                    }
                }
            });
        }
    });
}

#[tokio::test]
async fn every_promised_event_survives_kill_nine_exactly_once() {
    if let Some(path) = std::env::var_os(PATH) {
        return append_forever(Path::new(&path));
    }
    let dir = tempfile::tempdir().unwrap();
    let config = config(&dir.path().join("events.db"));
    let mut acked = HashMap::new();
    let mut epoch = None;
    let name = "store::tests::crash::every_promised_event_survives_kill_nine_exactly_once";
    for round in 0..6 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([name, "--exact", "--nocapture"])
            .env(PATH, &config.path)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        // Somewhere in the middle of something, a different one each time.
        let enough = acked.len() + 1 + getrandom::u32().unwrap() as usize % 700;
        let mut line = String::new();
        while lines.read_line(&mut line).unwrap() > 0 {
            if let (true, Some(said)) = (line.ends_with('\n'), line.trim_end().split_once("acked ")) {
                let (seq, token) = said.1.split_once(' ').unwrap();
                let seq: u64 = seq.parse().unwrap();
                assert_eq!(acked.insert(seq, token.to_owned()), None, "number {seq} was given twice");
            }
            line.clear();
            if acked.len() == enough {
                // Still alive: another process may look, and only look.
                let (reader, components) = open(&config);
                assert_eq!(told(&components).0, State::Degraded);
                assert_eq!(reader.append(draft("no")).await.unwrap_err().code(), "store_read_only");
                close(&reader);
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
        assert!(acked.len() >= enough, "round {round}: the child ended by itself");

        let (store, components) = open(&config);
        assert_eq!(told(&components), (State::Ok, String::new()));
        let stored = all(&store).await;
        assert!(stored.iter().map(|e| e.seq).eq(1..=store.last_seq()), "no number is missing or twice");
        let mut tokens = std::collections::HashSet::new();
        assert!(stored.iter().all(|e| tokens.insert(&*e.draft.payload)), "no event is there twice");
        for (seq, token) in &acked {
            let event = &stored[usize::try_from(*seq).unwrap() - 1];
            assert_eq!(event.draft, draft(token), "round {round}, number {seq}");
            assert!(store.has_key(key(token)).await.unwrap(), "round {round}, the key of number {seq}");
        }
        assert_eq!(epoch.get_or_insert(store.epoch().to_owned()), store.epoch(), "a kill loses no number");
        close(&store);
    }
}
