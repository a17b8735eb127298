//! Two nodes and one server: events come across, and whatever becomes of the server, the nodes serve.

use std::collections::HashMap;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use crate::fleet::{Node, Subscriber};
use crate::server::{Server, kinds};
use testkit::command::run;
use testkit::daemon::SOON;
use testkit::{eventually, figure, how_many, percentile, program};

/// How soon after the server's return everything is to be as before.
const HEALED: Duration = Duration::from_secs(5);

#[test]
fn what_is_posted_on_one_node_is_heard_on_the_other() {
    let Some(first) = Server::start(&[]) else { return };
    drop(first);
    for kind in kinds() {
        let server = Server::of(&kind, &[], None);
        let a = Node::serving("a", &server.url(), &[]);
        let b = Node::serving("b", &server.url(), &[]);
        a.until_connected();
        b.until_connected();
        let (at_a, at_b) = (Subscriber::of(&a), Subscriber::of(&b));
        let (rate, seconds) = (200, how_many("MPM_MONITOR_BUS_RATE_SECONDS", 3));
        a.post("first");
        b.until_same_as(&a, SOON);

        let (mut sent, began) = (HashMap::new(), Instant::now());
        for index in 0..rate * seconds {
            let due = began + Duration::from_secs(1) * index as u32 / rate as u32;
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            let marker = format!("m{index}");
            sent.insert(marker.clone(), Instant::now());
            a.post(&marker);
        }
        b.post("back");
        b.until_same_as(&a, SOON);
        a.until_same_as(&b, SOON);
        for (subscriber, node) in [(&at_a, &a), (&at_b, &b)] {
            let last = node.get("/health").unwrap().1["last_seq"].as_u64().unwrap();
            eventually(SOON, "the subscribers to hear all", || {
                if subscriber.seen() == last { Ok(()) } else { Err(subscriber.seen()) }
            });
        }
        let mut took: Vec<Duration> = at_b
            .heard()
            .iter()
            .filter(|(node, ..)| node == "a")
            .filter_map(|(_, marker, at)| Some(at.duration_since(*sent.get(marker)?)))
            .collect();
        assert_eq!(took.len(), sent.len());
        let name = kind.file_name().unwrap().to_string_lossy().replace("-server", "");
        figure(&format!("bus_{name}_200_a_second_p50"), format!("{:.2}", percentile(&mut took, 50)), "ms");
        figure(&format!("bus_{name}_200_a_second_p99"), format!("{:.2}", percentile(&mut took, 99)), "ms");

        let heard = at_a.by_node();
        assert_eq!(
            (heard["b"].as_slice(), heard[""].len()),
            (&["back".to_owned()][..], sent.len() + 1),
            "no event came back"
        );
        let row = b.get("/api/events?node=a&limit=1").unwrap().1["events"][0].clone();
        assert_eq!((&row["node"], &row["node_seq"]), (&"a".into(), &1.into()), "{row}");
        assert_eq!(b.markers_of("local"), ["back"]);
        assert_eq!((a.figure("published"), a.figure("received")), (sent.len() as u64 + 1, 1));
        let metrics = b.request("GET", "/metrics", "").unwrap().1;
        for line in [
            "mpm_monitor_bus_publishing 1",
            "mpm_monitor_bus_received_total ",
            "mpm_monitor_bus_behind_events{node=\"a\"} ",
        ] {
            assert!(metrics.contains(line), "{line} is not in\n{metrics}");
        }
    }
}

#[test]
fn without_a_bus_there_is_nothing_of_it() {
    let node = Node::serving("alone", "", &[]);
    node.post("x");
    let status = node.get("/api/status").unwrap().1;
    assert!(status["bus"].is_null() && status["components"]["bus"].is_null(), "{status}");
    assert!(!node.request("GET", "/metrics", "").unwrap().1.contains("_bus_"));
}

/// Refused, hung, emptied: each time posts are answered as ever, and all is well soon after the server's return.
#[test]
fn a_server_that_goes_hangs_or_forgets_costs_the_nodes_nothing() {
    let Some(mut server) = Server::start(&[]) else { return };
    let a = Node::serving("a", &server.url(), &[]);
    let b = Node::serving("b", &server.url(), &[]);
    a.until_connected();
    b.until_connected();
    a.post_many("before", 20);
    b.until_same_as(&a, SOON);

    let mut times = Vec::new();
    let mut away =
        |what: &str, server: &mut Server, go: &dyn Fn(&mut Server), reason: &str, back: &dyn Fn(&mut Server)| {
            go(server);
            let slowest = (0..100).map(|i| a.post(&format!("{what}-{i}"))).max().unwrap();
            b.post(&format!("{what}-b"));
            a.until_degraded(reason);
            b.until_degraded(reason);
            let (_, health) = a.get("/health").unwrap();
            assert_eq!((&health["ready"], a.get("/ready").unwrap().0), (&true.into(), 200), "{health}");
            a.post(&format!("{what}-last"));
            back(server);
            let began = Instant::now();
            a.until_connected();
            b.until_connected();
            a.post(&format!("{what}-after"));
            b.until_same_as(&a, SOON);
            a.until_same_as(&b, SOON);
            times.push((what.to_owned(), began.elapsed(), slowest));
        };
    let kill = |server: &mut Server| server.kill();
    let up = |server: &mut Server| server.up();
    away("refused", &mut server, &kill, "refuses connections", &up);
    away("hung", &mut server, &|s| s.signal("STOP"), "does not answer", &|s| s.signal("CONT"));
    away("emptied", &mut server, &|s| s.lose_everything(), "refuses connections", &up);
    for (what, healed, slowest) in times {
        figure(&format!("bus_{what}_healed_after"), format!("{:.2}", healed.as_secs_f64()), "s");
        figure(&format!("bus_{what}_slowest_post"), format!("{:.2}", slowest.as_secs_f64() * 1000.0), "ms");
        assert!(healed < HEALED, "{what}: {healed:?}");
        assert!(slowest < Duration::from_secs(1), "{what}: a post took {slowest:?}");
    }
    let all = b.markers_of("a");
    let distinct: std::collections::HashSet<_> = all.iter().collect();
    assert_eq!((all.len(), distinct.len()), (20 + 3 * 102, 20 + 3 * 102));
}

#[test]
fn what_the_server_refuses_is_told_and_the_password_never() {
    const PASSWORD: &str = "s3cret-of-the-bus";
    let Some(server) = Server::start(&[]) else { return };
    let mut node = Node::serving("a", &server.url(), &[]);
    node.until_connected();
    for (words, undo, reason) in [
        (["CONFIG", "SET", "maxmemory", "1"], ["CONFIG", "SET", "maxmemory", "0"], "out of memory"),
        (["REPLICAOF", "127.0.0.1", "1", ""], ["REPLICAOF", "NO", "ONE", ""], "read-only replica"),
    ] {
        let said = |words: [&str; 4]| server.say(&words.into_iter().filter(|w| !w.is_empty()).collect::<Vec<_>>());
        assert_eq!(said(words), "OK");
        node.post("during");
        node.until_degraded(reason);
        assert_eq!(said(undo), "OK");
        node.until_connected();
    }
    node.stop();
    server.say(&["DEL", "mpm-monitor:streams"]);
    server.say(&["SET", "mpm-monitor:streams", "mine"]);
    node.up();
    node.until_degraded("choose another bus.stream");
    node.stop();
    server.say(&["DEL", "mpm-monitor:streams"]);

    server.say(&["CONFIG", "SET", "requirepass", PASSWORD]);
    node.up();
    node.until_degraded("bus.password_file");
    let mut said = node.stop();
    let wrong = format!("redis://:not-{PASSWORD}@127.0.0.1:{}", server.port);
    let mut other = Node::serving("b", &wrong, &["log.level=trace"]);
    other.until_degraded("another user or password");
    said.push_str(&other.stop());

    let file = node.place.path("password");
    std::fs::write(&file, format!("{PASSWORD}\n")).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    let setting = format!("bus.password_file={}", file.display());
    let mut node = Node::serving("a", &server.url(), &[&setting, "log.level=trace"]);
    node.until_connected();
    said.push_str(&node.request("GET", "/api/status", "").unwrap().1);
    said.push_str(&node.stop());
    let right = format!("redis://:{PASSWORD}@127.0.0.1:{}", server.port);
    for verb in [&["config", "show", "--origin"][..], &["config", "show", "--json"], &["config", "check"]] {
        let mut command = std::process::Command::new(program());
        said.push_str(&run(command.args(verb).args(["--bus", &right]), SOON).ok().all());
    }
    assert!(said.contains("redis://:***@127.0.0.1"), "{said}");
    assert!(!said.contains(PASSWORD), "{said}");
    for (bus, code, part) in [("rediss://h", 78, "stunnel"), ("http://h", 78, "scheme")] {
        let refused =
            run(std::process::Command::new(program()).args(["config", "check", "--bus", bus]), SOON).expect(code).all();
        assert!(refused.contains(part), "{refused}");
    }
}

#[test]
fn two_monitors_of_one_name_are_told_and_the_second_waits() {
    let Some(server) = Server::start(&[]) else { return };
    let mut first = Node::serving("twin", &server.url(), &[]);
    first.until_connected();
    let second = Node::serving("twin", &server.url(), &[]);
    second.until_degraded("publishes as node twin");
    second.post("of the second");
    assert_eq!(second.figure("published"), 0);
    assert_eq!(first.bus().0, "ok");
    first.stop();
    second.until_connected();
    eventually(SOON, "the second to publish", || if second.figure("published") == 1 { Ok(()) } else { Err("not yet") });
}
