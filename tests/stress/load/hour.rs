//! What only time shows. One process serves a mixed load all along, and its memory, descriptors and threads are compared; beside
//! it another is killed every few seconds, and nothing that it accepted may be missing. Some seconds long with all the other
//! tests, an hour by `scripts/soak.sh --hour`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use testkit::command::Running;
use testkit::daemon::{Place, SOON, descriptors, metric, ready, resident, signal};
use testkit::wire::{Poster, Sio, connect};
use testkit::{eventually, figure, how_many, http};

/// Between two events of one poster: what a busy fleet of agents sends, not what the monitor could take.
const PACE: Duration = Duration::from_millis(10);
/// Between two kills, as long as the run is long enough for it.
const KILL_EVERY: Duration = Duration::from_secs(10);
/// What the memory may grow by between the first quarter and the last.
const GROWTH: u64 = 4 << 10;

fn event(number: u64) -> String {
    let pad = "x".repeat((number % 50) as usize * 40);
    format!(
        r#"{{"event":"claude_event","data":{{"type":"hook","subtype":"pre_tool","session_id":"s{}","data":{{"marker":"m-{number}-","pad":"{pad}"}}}}}}"#,
        number % 20
    )
}

/// A thread that does this again and again until it is told to stop; how often it did.
fn again(stop: &Arc<AtomicBool>, pause: Duration, mut act: impl FnMut(u64) + Send + 'static) -> JoinHandle<u64> {
    let stop = Arc::clone(stop);
    thread::spawn(move || {
        let mut times = 0;
        while !stop.load(Ordering::Acquire) {
            act(times);
            times += 1;
            thread::sleep(pause);
        }
        times
    })
}

/// What a process takes of the machine.
#[derive(Debug, Clone, Copy)]
struct Taken {
    memory: u64,
    descriptors: usize,
    threads: usize,
}

impl Taken {
    fn by(pid: u32) -> Self {
        let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("the process is there").flatten();
        let names = tasks.filter_map(|t| std::fs::read_to_string(t.path().join("comm")).ok());
        // Readers of the history come and go.
        let threads = names.filter(|name| name.trim() != "blocking").count();
        Self { memory: resident(pid), descriptors: descriptors(pid), threads }
    }

    fn show(self, when: &str) {
        figure(&format!("hour_memory_{when}"), format!("{:.1}", self.memory as f64 / 1024.0), "MiB");
        figure(&format!("hour_descriptors_{when}"), self.descriptors, "descriptors");
        figure(&format!("hour_threads_{when}"), self.threads, "threads");
    }
}

/// All kinds of clients of one process.
fn mixed(port: u16, pid: u32, stop: &Arc<AtomicBool>) -> Vec<JoinHandle<u64>> {
    let mut poster = Poster::new(port).unwrap();
    let post = again(stop, PACE, move |n| assert_eq!(poster.post(&event(n)).unwrap(), 204));
    // Comes, hears something, and goes: in good order, or without a word.
    let churn = again(stop, Duration::from_millis(100), move |n| {
        let mut client = Sio::join(connect(port).unwrap()).unwrap();
        client.until("\"marker\"").expect("an event");
        if n % 2 == 0 {
            client.send("41").expect("a goodbye");
        }
    });
    let polling = again(stop, Duration::from_millis(250), move |_| {
        let opened = http::get(port, "/socket.io/?EIO=4&transport=polling").unwrap();
        assert_eq!(opened.status, 200, "{opened:?}");
        // It is never heard of again: the ping finds out.
    });
    let read = again(stop, Duration::from_millis(200), move |n| {
        let path = ["/api/events?after=0&limit=50", "/api/status", "/metrics", "/", "/api/clients"][n as usize % 5];
        assert_eq!(http::get(port, path).unwrap().status, 200, "{path}");
    });
    let refused = again(stop, Duration::from_millis(300), move |_| {
        assert_eq!(http::request(port, "POST", "/api/events", Some("[")).unwrap().status, 400);
    });
    let reload = again(stop, Duration::from_secs(5), move |_| signal(pid, "HUP"));
    vec![post, churn, polling, read, refused, reload]
}

/// Another process, killed again and again while somebody posts to it: how many kills, and how many events were accepted.
fn storm(stop: &Arc<AtomicBool>, every: Duration) -> (u64, u64) {
    let (place, port) = (Place::new(), http::free_port());
    let begin = || -> Running {
        let settings = ["--set", "history.events=100000000", "--set", "history.bytes=64GiB", "--set", "log.level=warn"];
        Running::start(&mut place.command(["run", "--port", &port.to_string()].into_iter().chain(settings)))
    };
    let accepted = Arc::new(AtomicU64::new(0));
    let done = Arc::new(AtomicBool::new(false));
    let poster = {
        let (accepted, done) = (Arc::clone(&accepted), Arc::clone(&done));
        thread::spawn(move || {
            let (mut numbers, mut number) = (Vec::new(), 0);
            while !done.load(Ordering::Acquire) {
                let Ok(mut poster) = Poster::new(port) else {
                    thread::sleep(PACE);
                    continue;
                };
                while !done.load(Ordering::Acquire) {
                    number += 1;
                    match poster.post(&event(number)) {
                        Ok(204) => numbers.push(number),
                        // 503: it starts.
                        Ok(_) => {}
                        Err(_) => break,
                    }
                    accepted.store(numbers.len() as u64, Ordering::Release);
                    thread::sleep(PACE);
                }
            }
            numbers
        })
    };
    let mut kills = 0;
    while !stop.load(Ordering::Acquire) {
        let mut daemon = begin();
        ready(port, daemon.pid());
        let began = Instant::now();
        while began.elapsed() < every && !stop.load(Ordering::Acquire) {
            thread::sleep(every / 20);
        }
        signal(daemon.pid(), "KILL");
        assert_eq!(daemon.end(SOON), -9, "it ended by itself: {:?}", daemon.seen);
        kills += 1;
    }
    done.store(true, Ordering::Release);
    let mut numbers = poster.join().expect("a poster that did not panic");
    let daemon = begin();
    ready(port, daemon.pid());
    let (mut after, mut found) = (0, Vec::new());
    loop {
        let page = http::get(port, &format!("/api/events?limit=1000&after={after}")).unwrap().json();
        let events = page["events"].as_array().expect("events");
        let Some(last) = events.last() else { break };
        after = last["seq"].as_u64().expect("a number");
        let of =
            |e: &serde_json::Value| e["payload"]["data"]["marker"].as_str()?.split('-').nth(1)?.parse::<u64>().ok();
        found.extend(events.iter().filter_map(of));
    }
    let many = found.len();
    found.sort_unstable();
    found.dedup();
    assert_eq!(found.len(), many, "an event is there twice");
    numbers.retain(|n| found.binary_search(n).is_err());
    assert_eq!(numbers, [0; 0], "accepted and lost");
    (kills, accepted.load(Ordering::Acquire))
}

fn middle(of: &[Taken]) -> u64 {
    let mut memory: Vec<u64> = of.iter().map(|t| t.memory).collect();
    memory.sort_unstable();
    memory[memory.len() / 2]
}

#[test]
fn under_mixed_load_nothing_grows_and_beside_it_kills_lose_nothing() {
    let seconds = how_many("MPM_MONITOR_SOAK_SECONDS", 12).max(8) as u64;
    let whole = Duration::from_secs(seconds);
    let (place, port) = (Place::new(), http::free_port());
    // Small bounds, so that they are reached and kept; lost clients are found within the run.
    let settings = [
        "history.events=5000",
        "socketio.ping_interval=1s",
        "socketio.ping_timeout=1s",
        "server.max_clients=400",
        "log.level=error",
    ];
    let mut daemon = place.serve_with(port, &settings);
    let pid = daemon.pid();
    let quiet = Taken::by(pid);
    let stop = Arc::new(AtomicBool::new(false));
    let clients = mixed(port, pid, &stop);
    let stormy = {
        let (stop, every) = (Arc::clone(&stop), KILL_EVERY.min(whole / 8));
        thread::spawn(move || storm(&stop, every))
    };
    // One that is there all along hears every event once, in order.
    let mut witness = Sio::join(connect(port).unwrap()).unwrap();
    let heard = {
        let stop = Arc::clone(&stop);
        thread::spawn(move || {
            let (mut last, mut heard) = (None::<u64>, 0_u64);
            while !stop.load(Ordering::Acquire) {
                let text = witness.until("\"marker\":\"m-").expect("the witness is served");
                if text.starts_with("42[\"history\"") {
                    continue;
                }
                let number =
                    text.split("\"m-").nth(1).and_then(|t| t.split('-').next()?.parse().ok()).expect("a number");
                assert!(last.is_none_or(|last| number == last + 1), "after {last:?} came {number}");
                (last, heard) = (Some(number), heard + 1);
            }
            heard
        })
    };

    let began = Instant::now();
    // What every process takes once is not what it grows by.
    let warm = whole / 8;
    let mut samples = Vec::new();
    while began.elapsed() < whole {
        thread::sleep((whole / 200).clamp(Duration::from_millis(100), Duration::from_secs(5)));
        if began.elapsed() > warm {
            samples.push(Taken::by(pid));
        }
    }
    stop.store(true, Ordering::Release);
    let done: Vec<u64> = clients.into_iter().map(|c| c.join().expect("a client that did not panic")).collect();
    // It waits for the next event, so here is a last one.
    assert_eq!(Poster::new(port).unwrap().post(&event(done[0])).unwrap(), 204);
    let heard = heard.join().expect("the witness");
    let (kills, accepted) = stormy.join().expect("the storm");
    eventually(SOON, "all clients to be gone", || {
        let sessions = metric(port, "sessions", "");
        if sessions == 0.0 { Ok(()) } else { Err(sessions) }
    });
    let after = eventually(SOON, "the descriptors to be closed", || {
        let now = Taken::by(pid);
        if now.descriptors <= quiet.descriptors + 4 { Ok(now) } else { Err(format!("{now:?}, {quiet:?} before")) }
    });
    assert_eq!(ready(port, pid)["components"]["store"]["state"], "ok");
    signal(pid, "TERM");
    assert_eq!(daemon.end(SOON), 0, "{:?}", daemon.seen);

    let quarter = samples.len() / 4;
    let (early, late) = (middle(&samples[..quarter]), middle(&samples[samples.len() - quarter..]));
    figure("hour_seconds", seconds, "s");
    figure("hour_events", done[0], "events of one process");
    figure("hour_clients_that_came_and_went", done[1] + done[2], "clients");
    figure("hour_events_heard_by_one_client", heard, "events, each once and in order");
    quiet.show("before");
    after.show("after");
    figure("hour_memory_first_quarter", format!("{:.1}", early as f64 / 1024.0), "MiB, the middle value under load");
    figure("hour_memory_last_quarter", format!("{:.1}", late as f64 / 1024.0), "MiB, the middle value under load");
    figure("hour_storm_kills", kills, "kills");
    figure("hour_storm_accepted", accepted, "events");
    figure("hour_storm_lost_or_doubled", 0, "events");
    assert!(late < early + GROWTH, "from {early} to {late} KiB");
    assert_eq!(after.threads, quiet.threads, "{after:?}, {quiet:?} before");
    assert!(heard > seconds && accepted > seconds, "{heard} and {accepted} events in {seconds} s are no load");
}
