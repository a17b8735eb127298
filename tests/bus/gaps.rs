//! What is missing is seen, asked for, and where nobody has it any more, told.

use std::path::Path;
use std::time::Duration;

use crate::fleet::Node;
use crate::server::Server;
use testkit::daemon::SOON;
use testkit::{eventually, figure};

#[test]
fn what_the_stream_has_forgotten_comes_from_its_node() {
    let Some(server) = Server::start(&[]) else { return };
    let a = Node::serving("a", &server.url(), &["bus.stream_events=100"]);
    let mut b = Node::serving("b", &server.url(), &[]);
    b.until_connected();
    a.until_connected();
    a.post_many("before", 5);
    b.until_same_as(&a, SOON);
    b.stop();
    a.post_many("meanwhile", 1500);
    a.until_published();
    let left: usize = server.say(&["XLEN", &stream(&server, "a")]).parse().unwrap();
    assert!(left < 1000, "{left} entries");
    b.up();
    let took = b.until_same_as(&a, SOON);
    figure("bus_refill_of_1500_events", format!("{:.2}", took.as_secs_f64()), "s");
    assert!(
        b.figure("gaps") >= 1 && a.figure("answered") >= 2,
        "{} gaps, {} answers",
        b.figure("gaps"),
        a.figure("answered")
    );
    assert_eq!(b.figure("gaps_lost"), 0);
    b.until_connected();
}

/// The key of a node's stream.
fn stream(server: &Server, node: &str) -> String {
    let registered = server.say(&["HKEYS", "mpm-monitor:streams"]);
    let epoch = registered.lines().find_map(|l| l.strip_prefix(&format!("{node} "))).expect("it is registered");
    format!("mpm-monitor:events:{node}:{epoch}")
}

/// An entry that somebody has put in, and one that somebody has taken out: its node says what was there.
#[test]
fn a_stream_that_others_spoil_is_mended_by_its_node() {
    let Some(server) = Server::start(&[]) else { return };
    let a = Node::serving("a", &server.url(), &[]);
    let mut b = Node::serving("b", &server.url(), &[]);
    a.until_connected();
    b.until_connected();
    a.post("one");
    b.until_same_as(&a, SOON);
    b.stop();
    a.post_many("more", 5);
    a.until_published();
    assert_eq!(server.say(&["XDEL", &stream(&server, "a"), "3-0"]), "1");
    b.up();
    b.until_same_as(&a, SOON);
    assert_eq!(b.figure("gaps"), 1);
    // A number that the node will give to an event of its own, with something that is none.
    assert_eq!(server.say(&["XADD", &stream(&server, "a"), "7-0", "p", "6", "d", "{]"]), "7-0");
    a.post("mine");
    b.until_same_as(&a, SOON);
    assert_eq!(a.markers_of("local").len(), 7);
}

#[test]
fn what_nobody_has_any_more_is_told_as_an_event() {
    let Some(mut server) = Server::start(&[]) else { return };
    let a = Node::serving("a", &server.url(), &["history.events=50"]);
    let b = Node::serving("b", &server.url(), &[]);
    a.until_connected();
    b.until_connected();
    a.post_many("before", 5);
    b.until_same_as(&a, SOON);
    server.kill();
    a.post_many("meanwhile", 1300);
    eventually(SOON, "the history to be cut", || {
        let oldest = a.get("/api/events?limit=1").unwrap().1["oldest_seq"].as_u64().unwrap();
        if oldest > 1200 { Ok(()) } else { Err(oldest) }
    });
    server.up();
    let rows = eventually(SOON, "the newest events to come across", || {
        let rows = b.events_of("a");
        if rows.last().is_some_and(|r| r.marker == "meanwhile-1299") { Ok(rows) } else { Err(rows.len()) }
    });
    let gaps: Vec<_> = rows.iter().filter(|r| r.subtype == "bus_gap").collect();
    assert_eq!((gaps.len(), b.figure("gaps_lost")), (1, 1), "{gaps:?}");
    let at = rows.iter().position(|r| r.subtype == "bus_gap").unwrap();
    assert_eq!(at, 5, "it stands where the events would");
    let gap = b.get(&format!("/api/events?after={}&limit=1", gaps[0].seq - 1)).unwrap().1["events"][0].clone();
    let data = &gap["payload"]["data"];
    let through = data["through"].as_u64().unwrap();
    assert_eq!(
        (&data["node"], &data["after"], rows[at + 1].node_seq),
        (&"a".into(), &5.into(), Some(through + 1)),
        "{gap}"
    );
    assert_eq!(rows.len() as u64 - 6, 1305 - through, "and nothing after it is missing");
}

/// A server comes back empty, and while nobody publishes for a node it stores more events of others than the stream is to hold.
/// What the node puts into the new stream begins after its own events then; the others are told of them all the same.
#[test]
fn what_never_came_into_the_stream_comes_from_its_node() {
    let Some(server) = Server::start(&[]) else { return };
    let a = Node::serving("a", &server.url(), &["bus.stream_events=20"]);
    let b = Node::serving("b", &server.url(), &[]);
    a.until_connected();
    b.until_connected();
    a.post_many("before", 5);
    b.post("begin");
    b.until_same_as(&a, SOON);
    a.until_same_as(&b, SOON);
    // Another holds the name, so that a reads and does not write.
    server.say(&["SET", "mpm-monitor:lease:a", "of another"]);
    a.until_degraded("another monitor");
    a.post_many("last", 5);
    let empty = "redis.call('FLUSHALL'); return redis.call('SET', KEYS[1], 'of another')";
    assert_eq!(server.say(&["EVAL", empty, "1", "mpm-monitor:lease:a"]), "OK");
    b.post_many("others", 50);
    a.until_same_as(&b, SOON);
    server.say(&["DEL", "mpm-monitor:lease:a"]);
    a.until_connected();
    let took = b.until_same_as(&a, SOON);
    figure("bus_refill_of_what_was_never_streamed", format!("{:.2}", took.as_secs_f64()), "s");
    assert_eq!((b.figure("gaps"), b.figure("gaps_lost")), (1, 0));
}

/// After `bus.gap_wait` for a node that does not come back, what it has in the stream goes on.
#[test]
fn a_node_that_does_not_answer_holds_nothing_up_for_ever() {
    let Some(server) = Server::start(&[]) else { return };
    let mut a = Node::serving("a", &server.url(), &["bus.stream_events=100"]);
    let mut b = Node::serving("b", &server.url(), &["bus.gap_wait=2s"]);
    a.until_connected();
    b.until_connected();
    a.post_many("before", 5);
    b.until_same_as(&a, SOON);
    b.stop();
    a.post_many("meanwhile", 500);
    a.stop();
    b.up();
    b.until_degraded("events of node a are missing");
    let rows = eventually(SOON, "the gap to be given up", || {
        let rows = b.events_of("a");
        if rows.last().is_some_and(|r| r.marker == "meanwhile-499") { Ok(rows) } else { Err(rows.len()) }
    });
    assert_eq!(rows.iter().filter(|r| r.subtype == "bus_gap").count(), 1);
    b.until_connected();
}

/// What is accepted in the last moment is published before the end, so that a node need not come back for it.
#[test]
fn an_orderly_end_publishes_what_is_left() {
    let Some(server) = Server::start(&[]) else { return };
    let mut a = Node::serving("a", &server.url(), &[]);
    let b = Node::serving("b", &server.url(), &[]);
    a.until_connected();
    b.until_connected();
    a.post_many("last", 400);
    let said = a.stop();
    assert!(said.contains("cleanup completed"), "{said}");
    eventually(SOON, "all to come across", || match b.markers_of("a").len() {
        400 => Ok(()),
        n => Err(n),
    });
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// As after a power cut: the stream has events that the store does not know, and the store gives their numbers to others.
#[test]
fn a_store_that_lost_its_newest_events_begins_a_new_stream() {
    let Some(mut server) = Server::start(&[]) else { return };
    let mut a = Node::serving("a", &server.url(), &[]);
    let b = Node::serving("b", &server.url(), &[]);
    a.until_connected();
    b.until_connected();
    a.post_many("kept", 10);
    b.until_same_as(&a, SOON);
    a.stop();
    let (state, aside) = (a.place.path("state"), a.place.path("aside"));
    copy(&state, &aside);
    a.up();
    a.post_many("lost", 5);
    eventually(SOON, "all to come across", || match b.markers_of("a").len() {
        15 => Ok(()),
        n => Err(n),
    });
    a.stop();
    std::fs::remove_dir_all(&state).unwrap();
    std::fs::rename(&aside, &state).unwrap();
    // The new ones get the numbers of the lost ones, and more, before the server is there to compare them.
    server.kill();
    a.up();
    a.post_many("new", 8);
    server.up();
    let wanted: Vec<String> = [("kept", 10), ("lost", 5), ("new", 8)]
        .iter()
        .flat_map(|(p, n)| (0..*n).map(move |i| format!("{p}-{i}")))
        .collect();
    eventually(SOON, "the new events to come across", || {
        let here = b.markers_of("a");
        if here.len() >= wanted.len() { Ok(()) } else { Err(format!("{here:?}")) }
    });
    assert_eq!(b.markers_of("a"), wanted);
    // And it stays so.
    a.stop();
    a.up();
    a.post("again");
    eventually(Duration::from_secs(10), "one more", || match b.markers_of("a").len() {
        24 => Ok(()),
        n => Err(n),
    });
}
