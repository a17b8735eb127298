//! Three nodes in networks of their own, and everything happens to them: whatever was accepted ends on every node, once, in its
//! node's order, and every subscriber has heard it so.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::fleet::{Net, Node, Row, Subscriber, differs, event, request};
use crate::server::{Server, kinds};
use testkit::{Random, eventually, figure, how_many, skip};

/// Posts to a node, over its deaths, until it is told to stop: the markers that were acknowledged.
struct Poster {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<Mutex<Vec<String>>>,
    thread: Option<JoinHandle<()>>,
}

impl Poster {
    fn of(node: &Node, pause: Duration) -> Self {
        let (stop, acknowledged) = (Arc::<AtomicBool>::default(), Arc::<Mutex<Vec<String>>>::default());
        let (socket, name) = (node.socket(), node.name.clone());
        let thread = std::thread::spawn({
            let (stop, acknowledged) = (Arc::clone(&stop), Arc::clone(&acknowledged));
            move || {
                let mut number = 0;
                while !stop.load(Ordering::Acquire) {
                    let marker = format!("{name}-{number}");
                    number += 1;
                    if request(&socket, "POST", "/api/events", &event(&marker)).is_ok_and(|(status, _)| status == 204) {
                        acknowledged.lock().unwrap().push(marker);
                    }
                    std::thread::sleep(pause);
                }
            }
        });
        Self { stop, acknowledged, thread: Some(thread) }
    }

    fn end(mut self) -> Vec<String> {
        self.stop.store(true, Ordering::Release);
        self.thread.take().expect("it runs").join().expect("it ended well");
        std::mem::take(&mut self.acknowledged.lock().unwrap())
    }
}

/// A fleet in its networks: the server in the middle, each node on a line of its own.
fn fleet(count: usize) -> Option<(Net, Server, Vec<Node>)> {
    let Some(kind) = kinds().into_iter().next() else {
        skip("there is no redis-server; scripts/setup.sh test installs it");
        return None;
    };
    let middle = Net::new(None)?;
    let server = Server::of(&kind, &[], Some(&middle));
    let mut nodes = Vec::new();
    for index in 0..count {
        let net = Net::new(Some(&middle))?;
        middle.ip(&format!("link add v{index} type veth peer name eth0 netns {}", net.pid()));
        middle.ip(&format!("addr add 10.77.{index}.1/24 dev v{index}"));
        middle.ip(&format!("link set v{index} up"));
        net.ip(&format!("addr add 10.77.{index}.2/24 dev eth0"));
        net.ip("link set eth0 up");
        let name = format!("n{index}");
        // So few that a node that is away for some seconds has to ask for what it missed.
        let mut node = Node::new(
            &name,
            &format!("redis://10.77.{index}.1"),
            // And all of it is kept: ten minutes of the release build are more than the history holds by default.
            &["bus.stream_events=200", "bus.gap_wait=10m", "history.events=10000000", "history.bytes=8GiB"],
            Some(net),
        );
        node.up();
        nodes.push(node);
    }
    for node in &nodes {
        node.until_connected();
    }
    Some((middle, server, nodes))
}

#[test]
fn three_nodes_partitioned_killed_and_brought_back_end_with_the_same_events() {
    let Some((_middle, mut server, mut nodes)) = fleet(3) else { return };
    let seconds = how_many("MPM_MONITOR_BUS_SECONDS", 8);
    let entropy = Instant::now().elapsed().subsec_nanos() as usize ^ std::process::id() as usize;
    let seed = how_many("MPM_MONITOR_BUS_SEED", entropy.max(1) * 2_654_435_761);
    println!("MPM_MONITOR_BUS_SEED={seed}");
    let mut random = Random(seed as u64);
    for (index, node) in nodes.iter().enumerate() {
        node.post(&format!("begin-{index}"));
    }
    // Each knows each: from here on nothing may be missed.
    for here in &nodes {
        for there in nodes.iter().filter(|n| n.name != here.name) {
            here.until_same_as(there, Duration::from_secs(20));
        }
    }
    let subscribers: Vec<Subscriber> = nodes.iter().map(Subscriber::of).collect();
    let posters: Vec<Poster> = nodes.iter().map(|n| Poster::of(n, Duration::from_millis(10))).collect();
    let (began, mut happened) = (Instant::now(), BTreeMap::<&str, u64>::new());
    // In the short form each thing happens once, in the long one what chance says.
    let mut next = 0;
    while began.elapsed() < Duration::from_secs(seconds as u64) || next < 6 {
        let what = if next < 6 { next } else { random.below(6) };
        next += 1;
        let (victim, lasts) =
            (random.below(nodes.len() as u64) as usize, Duration::from_millis(300 + random.below(2500)));
        let name = match what {
            0 => {
                nodes[victim].link(false);
                std::thread::sleep(lasts);
                nodes[victim].link(true);
                "partition"
            }
            1 => {
                nodes[victim].kill();
                std::thread::sleep(lasts / 4);
                nodes[victim].up();
                "kill"
            }
            2 => {
                server.kill();
                std::thread::sleep(lasts / 2);
                server.up();
                "server_restart"
            }
            3 => {
                server.lose_everything();
                std::thread::sleep(lasts / 2);
                server.up();
                "server_emptied"
            }
            4 => {
                server.signal("STOP");
                std::thread::sleep(lasts);
                server.signal("CONT");
                "server_hung"
            }
            _ => {
                nodes[victim].link(false);
                nodes[victim].kill();
                std::thread::sleep(lasts / 4);
                nodes[victim].up();
                std::thread::sleep(lasts / 4);
                nodes[victim].link(true);
                "partition_and_kill"
            }
        };
        *happened.entry(name).or_default() += 1;
        std::thread::sleep(Duration::from_millis(random.below(1000)));
    }
    let accepted: Vec<Vec<String>> = posters.into_iter().map(Poster::end).collect();
    let healing = Instant::now();
    for here in &nodes {
        here.until_connected();
        for there in nodes.iter().filter(|n| n.name != here.name) {
            eventually(Duration::from_secs(20), &format!("{} to have the newest of {}", here.name, there.name), || {
                let (got, own) = (here.newest_of(&there.name)?, there.newest_of("local")?);
                if got == own {
                    return Ok(());
                }
                let said = format!("{got:?}, not {own:?}; the bus here {:?}, there {:?}", here.bus(), there.bus());
                Err(std::io::Error::other(said))
            });
        }
    }
    figure("bus_chaos_all_the_same_after", format!("{:.2}", healing.elapsed().as_secs_f64()), "s");
    for (what, times) in &happened {
        figure(&format!("bus_chaos_{what}"), times, "times");
    }
    figure("bus_chaos_events_accepted", accepted.iter().map(Vec::len).sum::<usize>(), "events");
    let own: Vec<Vec<Row>> = nodes.iter().map(|node| node.events_of("local")).collect();
    let markers: Vec<Vec<String>> = own.iter().map(|rows| rows.iter().map(|r| r.marker.clone()).collect()).collect();
    for ((node, accepted), markers) in nodes.iter().zip(&accepted).zip(&markers) {
        figure(&format!("bus_chaos_{}_gaps_refilled", node.name), node.figure("gaps"), "times");
        assert_eq!(node.figure("gaps_lost"), 0);
        let mut at = markers.iter();
        for marker in accepted {
            assert!(at.any(|m| m == marker), "{marker} was accepted and is not there in its order");
        }
        let mut distinct: Vec<_> = markers.iter().collect();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(distinct.len(), markers.len(), "an event is there twice");
    }
    // What each node has of the others, and what the subscribers of each node have heard: all, once, in order.
    for (here, subscriber) in nodes.iter().zip(&subscribers) {
        let last = here.get("/health").unwrap().1["last_seq"].as_u64().unwrap();
        eventually(Duration::from_secs(20), &format!("the subscriber of {}", here.name), || {
            if subscriber.seen() >= last { Ok(()) } else { Err(subscriber.seen()) }
        });
        let heard = subscriber.by_node();
        for ((there, own), markers) in nodes.iter().zip(&own).zip(&markers) {
            let name = if there.name == here.name { "" } else { there.name.as_str() };
            assert_eq!(
                heard.get(name),
                Some(markers),
                "{} heard other events of {} than it has",
                here.name,
                there.name
            );
            if there.name != here.name {
                assert_eq!(differs(&here.events_of(&there.name), own), None, "{} at {}", there.name, here.name);
            }
        }
    }
}
