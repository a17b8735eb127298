//! Clients that say what they have, over real sockets and with the real store: none misses an event, none sees one twice.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::support::*;
use mpm_monitor::config::Settings;
use mpm_monitor::events::model::Draft;
use mpm_monitor::events::store::Store;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;

/// A client that says what it has; its greeting up to the number of clients is read.
async fn resumed_from(rig: &Rig, auth: Value) -> Ws {
    let mut ws = Ws::open(rig, "", "").await.unwrap();
    ws.text().await;
    ws.send(&format!("40{auth}")).await;
    assert!(ws.text().await.starts_with("40{"));
    ws
}

/// The next events, as name and payload; greetings and notices of the number of clients are passed over.
async fn events(ws: &mut Ws, count: usize) -> Vec<(String, Value)> {
    let mut seen = Vec::new();
    while seen.len() < count {
        let text = ws.text().await;
        let event: (String, Value) = serde_json::from_str(text.strip_prefix("42").unwrap()).unwrap();
        if !event.0.starts_with("dashboard:") {
            seen.push(event);
        }
    }
    seen
}

fn draft(name: &str, payload: String) -> Draft {
    Draft { name: name.into(), subtype: "x".into(), session: Some("s".into()), payload: payload.into() }
}

/// Commits many at once.
async fn commit(store: &Arc<Store>, count: usize, pad: usize) {
    let all = (0..count).map(|_| {
        let (store, draft) = (Arc::clone(store), draft("tool_event", format!("{{\"pad\":\"{}\"}}", "x".repeat(pad))));
        tokio::spawn(async move { store.append(draft).await.unwrap() })
    });
    for task in all.collect::<Vec<_>>() {
        task.await.unwrap();
    }
}

#[tokio::test]
async fn who_was_away_gets_what_it_missed_under_its_own_names_then_how_it_went_then_live_events() {
    let rig = start(settings());
    rig.events.commit("tool_event", "{}");
    rig.events.commit("hook:event", "{\"a\":1}");
    rig.events.commit("file_event", "{}");
    until("the hub has them", || rig.events.hub.last_seq() == 3).await;
    let epoch = rig.events.store.epoch().to_owned();
    let mut ws = resumed_from(&rig, json!({"last_seq": 1, "epoch": epoch})).await;
    let seen = events(&mut ws, 4).await;
    let names: Vec<&str> = seen.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["hook:event", "claude_event", "file_event", "resumed"], "and no history");
    assert_eq!((&seen[1].1["seq"], &seen[2].1["id"]), (&json!(2), &json!(rig.events.id(3))));
    assert_eq!(seen[3].1, json!({"from": 1, "to": 3, "count": 2, "missed": 0, "epoch": epoch}));
    rig.events.commit("tool_event", "{}");
    assert_eq!(events(&mut ws, 1).await[0].1["seq"], 4);

    let mut up_to_date = resumed_from(&rig, json!({"last_seq": 4})).await;
    let told = json!({"from": 4, "to": 4, "count": 0, "missed": 0, "epoch": epoch});
    assert_eq!(events(&mut up_to_date, 1).await, [("resumed".to_owned(), told)]);
}

#[tokio::test]
async fn damaged_events_are_missed_and_the_rest_is_sent() {
    let rig = start(settings());
    commit(&rig.events.store, 1500, 10).await;
    until("they are in the database", || rig.events.store.unindexed() == 0).await;
    until("the hub has them", || rig.events.hub.last_seq() == 1500).await;
    let database = rusqlite::Connection::open(rig.events.dir.path().join("events.db")).unwrap();
    database.execute("UPDATE events SET payload = '{' WHERE seq IN (3, 4, 300)", []).unwrap();
    let mut ws = resumed_from(&rig, json!({"last_seq": 0})).await;
    let seen = events(&mut ws, 1498).await;
    let (last, rest) = seen.split_last().unwrap();
    assert_eq!(last.1, json!({"from": 0, "to": 1500, "count": 1497, "missed": 3, "epoch": rig.events.store.epoch()}));
    let numbers: Vec<u64> = rest.iter().map(|(_, e)| e["seq"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (1..=1500).filter(|n| ![3, 4, 300].contains(n)).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_number_of_another_store_says_nothing() {
    let rig = start(settings());
    commit(&rig.events.store, 3, 1).await;
    for auth in [json!({"last_seq": 2, "epoch": "00000000"}), json!({"last_seq": 1000})] {
        let mut ws = resumed_from(&rig, auth).await;
        let seen = events(&mut ws, 4).await;
        assert_eq!(seen[..3].iter().map(|(_, e)| e["seq"].clone()).collect::<Vec<_>>(), [json!(1), json!(2), json!(3)]);
        assert_eq!((&seen[3].1["from"], &seen[3].1["count"]), (&json!(0), &json!(3)));
    }
}

#[tokio::test]
async fn what_the_store_holds_no_more_is_counted_as_missed() {
    let dir = Arc::new(tempfile::tempdir().unwrap());
    let rig = start_in(settings(), Arc::clone(&dir));
    commit(&rig.events.store, 200, 1).await;
    rig.events.store.set_limits(50, 1 << 30, Duration::from_secs(3600));
    let deadline = std::time::Instant::now() + PATIENCE;
    while rig.events.store.after(0, 1, &Default::default()).await.unwrap().oldest_seq < 100 {
        rig.events.commit("tool_event", "{}");
        assert!(std::time::Instant::now() < deadline, "nothing is removed");
    }
    stop(rig).await;
    // A new process, which removes nothing.
    let rig = start_in(settings(), dir);
    let page = rig.events.store.after(0, 1, &Default::default()).await.unwrap();
    let (oldest, last) = (page.oldest_seq, page.last_seq);
    let mut ws = resumed_from(&rig, json!({"last_seq": 10})).await;
    let seen = events(&mut ws, (last - oldest) as usize + 2).await;
    assert_eq!(seen[0].1["seq"], oldest);
    let (name, told) = seen.last().unwrap();
    assert_eq!((name.as_str(), &told["missed"], &told["to"]), ("resumed", &json!(oldest - 11), &json!(last)));
    assert_eq!(told["count"], json!(last - oldest + 1));
}

#[tokio::test]
async fn a_gap_larger_than_memory_is_paced_by_the_client_and_holds_up_nobody() {
    // 12 MB were missed, the memory holds a thousand events, and 256 KiB may wait for a client.
    let rig = start(Settings { client_backlog: 256 << 10, ..settings() });
    for _ in 0..20 {
        commit(&rig.events.store, 200, 3000).await;
    }
    // What is on its way through the hub would reach the live client, as far as its backlog goes.
    until("all of them to be past", || rig.events.hub.last_seq() == 4000).await;
    let mut live = Ws::join(&rig).await;
    live.event("history").await;
    let mut slow = resumed_from(&rig, json!({"last_seq": 1})).await;
    // The slow one reads nothing meanwhile.
    for n in 0..50 {
        rig.events.commit("tool_event", "{}");
        assert_eq!(live.event("tool_event").await["seq"], 4001 + n);
    }
    let mut seen = events(&mut slow, 4049).await;
    assert!(seen.iter().take(3999).map(|(_, e)| e["seq"].as_u64().unwrap()).eq(2..=4000));
    let at = seen.iter().position(|(name, _)| name == "resumed");
    let told = match at {
        Some(at) => seen.remove(at).1,
        None => events(&mut slow, 1).await.remove(0).1,
    };
    assert_eq!((&told["missed"], rig.server().clients()), (&json!(0), 2));
    rig.events.commit("last", "{}");
    let rest = slow.event("last").await["seq"].as_u64().unwrap();
    assert_eq!(rest, 4051);
}

/// Ends a server with its store, so that another can open it.
async fn stop(mut rig: Rig) {
    rig.server.take().unwrap().drain(Duration::from_secs(5), "restart").await;
    let store = Arc::clone(&rig.events.store);
    assert!(tokio::task::spawn_blocking(move || store.close(std::time::Instant::now() + PATIENCE)).await.unwrap());
    // The lock of the database goes with the last of the store's threads.
    drop(rig);
}

/// A client that goes and comes back at random until it has seen everything.
struct Roamer {
    address: watch::Receiver<SocketAddr>,
    random: u64,
    seen: u64,
    visits: u64,
    polls: bool,
}

impl Roamer {
    fn below(&mut self, bound: u64) -> u64 {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.random >> 33) % bound
    }

    async fn roam(mut self, all: u64) -> u64 {
        while self.seen < all {
            let stay = self.below(300);
            self.visits += 1;
            let visit = async {
                match self.polls {
                    true => self.poll(stay, all).await,
                    false => self.listen(stay, all).await,
                }
            };
            if visit.await.is_none() {
                // Nobody there, or the connection broke: a moment for the next server.
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        self.visits
    }

    async fn connect(&self) -> std::io::Result<TcpStream> {
        let address = *self.address.borrow();
        TcpStream::connect(address).await
    }

    /// Takes the packets of one write; the number of events in it.
    fn take<'a>(&mut self, packets: impl Iterator<Item = &'a str>) -> u64 {
        let mut count = 0;
        for packet in packets {
            let Some(array) = packet.strip_prefix("42") else { continue };
            let (name, payload): (String, Value) = serde_json::from_str(array).unwrap();
            match name.as_str() {
                "tool_event" => {
                    assert_eq!(payload["seq"], self.seen + 1, "after {}", self.seen);
                    self.seen += 1;
                    count += 1;
                }
                "resumed" => assert_eq!((&payload["missed"], &payload["to"]), (&json!(0), &json!(self.seen))),
                "history" | "event_history" => panic!("history for a client that resumes"),
                _ => {}
            }
        }
        count
    }

    async fn listen(&mut self, stay: u64, all: u64) -> Option<()> {
        let stream = self.connect().await.ok()?;
        let mut ws = Ws { stream, buffer: Vec::new() };
        let request = "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n\
                       Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        ws.stream.write_all(request.as_bytes()).await.ok()?;
        let end = loop {
            if let Some(at) = ws.buffer.windows(4).position(|w| w == b"\r\n\r\n") {
                break at + 4;
            }
            if ws.stream.read_buf(&mut ws.buffer).await.ok()? == 0 {
                return None;
            }
        };
        ws.buffer.drain(..end);
        ws.send(&format!("40{{\"last_seq\":{}}}", self.seen)).await;
        let mut left = stay;
        loop {
            match ws.next().await {
                Frame::Text(text) => left = left.saturating_sub(self.take(std::iter::once(text.as_str()))),
                _ => return None,
            }
            if left == 0 || self.seen == all {
                return Some(());
            }
        }
    }

    async fn request(&self, method: &str, sid: &str, body: &str) -> Option<String> {
        let mut stream = self.connect().await.ok()?;
        let length = body.len();
        let request = format!(
            "{method} /socket.io/?EIO=4&transport=polling{sid} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
             Content-Length: {length}\r\n\r\n{body}"
        );
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        // A body that was cut short has not come.
        let length = head.to_lowercase().lines().find_map(|l| l.strip_prefix("content-length: ")?.parse().ok());
        (status(&answer) == 200 && length == Some(body.len())).then(|| body.to_owned())
    }

    async fn poll(&mut self, stay: u64, all: u64) -> Option<()> {
        let open: Value = serde_json::from_str(self.request("GET", "", "").await?.strip_prefix('0')?).ok()?;
        let sid = format!("&sid={}", open["sid"].as_str()?);
        self.request("POST", &sid, &format!("40{{\"last_seq\":{}}}", self.seen)).await?;
        let mut left = stay;
        while left > 0 && self.seen < all {
            let poll = self.request("GET", &sid, "");
            let payload = tokio::time::timeout(PATIENCE, poll).await.expect("a poll in time")?;
            left = left.saturating_sub(self.take(payload.split('\u{1e}')));
        }
        Some(())
    }
}

#[tokio::test]
async fn clients_that_come_and_go_under_load_and_over_a_restart_see_every_event_once() {
    const EACH: u64 = 3000;
    let dir = Arc::new(tempfile::tempdir().unwrap());
    let wide = Settings { max_clients: 10_000, max_connections: 10_000, ..settings() };
    let mut rig = start_in(wide.clone(), Arc::clone(&dir));
    let (address, watched) = watch::channel(rig.address);
    let roamers: Vec<_> = (0..16)
        .map(|n| Roamer { address: watched.clone(), random: n * 7919 + 3, seen: 0, visits: 0, polls: n % 2 == 1 })
        .map(|roamer| tokio::spawn(roamer.roam(3 * EACH)))
        .collect();
    for part in 1..=3 {
        let (store, done) = (Arc::clone(&rig.events.store), Arc::new(AtomicBool::new(false)));
        let told = Arc::clone(&done);
        // Not all at once: clients come and go in between.
        let publisher = tokio::spawn(async move {
            for _ in 0..EACH / 20 {
                commit(&store, 20, 400).await;
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            told.store(true, Ordering::Release);
        });
        until_slowly("everything is published", || done.load(Ordering::Acquire)).await;
        publisher.await.unwrap();
        if part < 3 {
            stop(rig).await;
            rig = start_in(wide.clone(), Arc::clone(&dir));
            address.send_replace(rig.address);
        }
    }
    let mut visits = 0;
    for roamer in roamers {
        visits += tokio::time::timeout(PATIENCE, roamer).await.expect("it has seen everything in time").unwrap();
    }
    assert!(visits > 16 * 5, "they hardly left: {visits} visits");
}

/// Like [`until`], for what takes the machine's time itself.
async fn until_slowly(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + 3 * PATIENCE;
    while !done() {
        assert!(std::time::Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
