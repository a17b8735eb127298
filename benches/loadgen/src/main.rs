//! Fan-out load for a Socket.IO v5 server: one thread, one epoll set, no runtime. See README.md.
//!
//! With a rate it is an open loop, and an event's stamp is the time it was *due*: a server that stalls is charged for
//! the events that had to wait. At rate 0 it is a closed loop with a bounded number of undelivered events.

mod fleet;
mod histogram;
mod options;
mod wire;

use clap::Parser;
use fleet::{Fleet, Kind};
use loadgen::process::{self, Usage, now, own_cpu, usage};
use options::{Mode, Options, Transport};
use serde_json::json;

const TICK: u64 = 20_000_000;
const CONNECT_DEADLINE: u64 = 60_000_000_000;
/// A saturating run that receives nothing for this long takes what is under way for lost and goes on.
const STALL: u64 = 500_000_000;

fn seconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e9
}

fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

fn connect(fleet: &mut Fleet, clients: usize, slow: usize, transport: Transport, batch: usize) -> f64 {
    let since = now();
    let (total, mut opened) = (clients + slow, 0);
    while fleet.counts.connected + (fleet.counts.disconnects as usize) < total && now() - since < CONNECT_DEADLINE {
        while opened < total && opened < fleet.counts.connected + fleet.counts.disconnects as usize + batch {
            let polls = transport == Transport::Polling || (transport == Transport::Mixed && opened % 2 == 1);
            match (opened < clients, polls) {
                (true, true) => fleet.subscribe_polling(),
                (true, false) => fleet.subscribe(Kind::Websocket),
                (false, _) => fleet.subscribe(Kind::Slow),
            }
            opened += 1;
        }
        fleet.poll(TICK);
    }
    if fleet.counts.connected < total {
        eprintln!("only {} of {total} are connected: {}", fleet.counts.connected, fleet.counts.first_error);
    }
    seconds(now() - since)
}

fn hold(fleet: &mut Fleet, nanoseconds: u64) {
    let since = now();
    while now() - since < nanoseconds {
        fleet.poll(TICK);
    }
}

/// What the measured time gave.
struct Measured {
    seconds: f64,
    sent: u64,
    reads: u64,
    stalls: u64,
    server_cpu: f64,
    own_cpu: f64,
    peak_rss: u64,
}

struct Load {
    rate: f64,
    window: u64,
    warmup: u64,
    duration: u64,
    pid: i32,
    emit: bool,
}

fn load(fleet: &mut Fleet, load: &Load, subscribers: u64) -> Measured {
    let start = now();
    let (warm, end) = (start + load.warmup, start + load.warmup + load.duration);
    let (mut sequence, mut forgiven, mut stalls) = (0u64, 0u64, 0u64);
    let (mut progress, mut delivered) = (start, 0u64);
    let (mut peak_rss, mut next_rss) = (0, start);
    let mut before: Option<(Usage, f64, u64, u64)> = None;
    loop {
        let time = now();
        if before.is_none() && time >= warm {
            fleet.measuring = true;
            fleet.measuring_since = time;
            before = Some((usage(load.pid), own_cpu(), fleet.counts.sent, fleet.counts.reads));
        }
        if time >= end {
            break;
        }
        if time >= next_rss {
            next_rss = time + 100_000_000;
            peak_rss = peak_rss.max(usage(load.pid).rss);
        }
        let mut wait = 5_000_000;
        if load.rate > 0.0 {
            loop {
                let due = start + (sequence as f64 * 1e9 / load.rate) as u64;
                if due > time {
                    wait = wait.min(due - time);
                    break;
                }
                sequence += 1;
                fleet.backlog.push_back((due, sequence));
            }
            while let Some(&(due, number)) = fleet.backlog.front() {
                if !fleet.publish(due, number) {
                    break;
                }
                fleet.backlog.pop_front();
            }
        } else {
            if fleet.counts.deliveries != delivered {
                delivered = fleet.counts.deliveries;
                progress = time;
            }
            loop {
                let counts = &fleet.counts;
                let done = match subscribers {
                    0 if load.emit => counts.sent,
                    0 => counts.accepted + counts.refused,
                    n => counts.deliveries / n + forgiven,
                };
                let open = counts.sent.saturating_sub(done);
                if open >= load.window {
                    if subscribers == 0 || time - progress <= STALL {
                        break;
                    }
                    forgiven += open;
                    stalls += 1;
                    progress = time;
                } else if fleet.publish(now(), sequence + 1) {
                    sequence += 1;
                } else {
                    break;
                }
            }
        }
        fleet.poll(wait);
    }
    let (after, own) = (usage(load.pid), own_cpu());
    fleet.measuring = false;
    let (server, own_before, sent, reads) = before.unwrap_or((after, own, fleet.counts.sent, fleet.counts.reads));
    Measured {
        seconds: seconds(now() - fleet.measuring_since.min(now())),
        sent: fleet.counts.sent - sent,
        reads: fleet.counts.reads - reads,
        stalls,
        server_cpu: after.cpu - server.cpu,
        own_cpu: own - own_before,
        peak_rss,
    }
}

fn drain(fleet: &mut Fleet, nanoseconds: u64, subscribers: u64, posts: bool) {
    let since = now();
    while now() - since < nanoseconds {
        let counts = &fleet.counts;
        let answered = !posts || counts.accepted + counts.refused >= counts.sent;
        if answered && counts.deliveries >= counts.accepted * subscribers {
            break;
        }
        fleet.poll(TICK);
    }
}

fn main() {
    let options = Options::parse();
    process::raise_descriptor_limit();
    let pid = options.server_pid;
    let (clients, slow, transport, batch) = (options.clients, options.slow, options.transport, options.connect_batch);
    let nanoseconds = |s: f64| (s * 1e9) as u64;
    let (warmup, duration, drain_time) =
        (nanoseconds(options.warmup), nanoseconds(options.duration), nanoseconds(options.drain));
    let emit = options.mode == Mode::Emit;
    let plan = Load { rate: options.rate, window: options.window, warmup, duration, pid, emit };
    let (idle, payload) = (options.idle, options.payload_bytes);

    let fresh = usage(pid);
    let mut fleet = Fleet::new(options);
    let connect_seconds = connect(&mut fleet, clients, slow, transport, batch);
    hold(&mut fleet, 500_000_000);
    let (live, connected) = (fleet.live(), usage(pid));
    if idle {
        let before = usage(pid);
        hold(&mut fleet, duration);
        let after = usage(pid);
        let per_connection = (connected.rss as f64 - fresh.rss as f64) / live.max(1) as f64;
        let report = json!({
            "mode": "idle", "clients": live, "connect_s": rounded(connect_seconds),
            "rss_before_kb": fresh.rss, "rss_connected_kb": connected.rss, "rss_held_kb": after.rss,
            "anon_before_kb": fresh.anonymous, "pss_before_kb": fresh.pss,
            "per_conn_kb": rounded(per_connection),
            "idle_cpu_pct": rounded(100.0 * (after.cpu - before.cpu) / seconds(duration)),
            "disconnects": fleet.counts.disconnects, "first_error": fleet.counts.first_error,
        });
        println!("{report}");
        return;
    }

    fleet.open_publishers();
    let m = load(&mut fleet, &plan, live as u64);
    drain(&mut fleet, drain_time, live as u64, !emit);
    let (lost, expected) = fleet.lost();
    let c = &fleet.counts;
    let per_second = |n: u64| (n as f64 / m.seconds).round();
    let latency = &fleet.latency;
    let report = json!({
        "mode": if emit { "emit" } else { "post" }, "transport": format!("{transport:?}").to_lowercase(),
        "clients": live, "rate": plan.rate, "window": plan.window, "payload_bytes": payload,
        "secs": rounded(m.seconds), "events_sent": m.sent, "events_per_s": per_second(m.sent),
        "acked_per_s": per_second(c.accepted_measured),
        "acked_per_cpu_s": if m.server_cpu > 0.0 { (c.accepted_measured as f64 / m.server_cpu).round() } else { 0.0 },
        "deliveries": c.deliveries_measured, "deliveries_per_s": per_second(c.deliveries_measured),
        "deliveries_per_cpu_s":
            if m.server_cpu > 0.0 { (c.deliveries_measured as f64 / m.server_cpu).round() } else { 0.0 },
        "lat_ms": {
            "mean": rounded(latency.mean()), "p50": rounded(latency.quantile(0.5)), "p90": rounded(latency.quantile(0.9)),
            "p99": rounded(latency.quantile(0.99)), "p999": rounded(latency.quantile(0.999)), "max": rounded(latency.max()),
        },
        "post_ms": {
            "p50": rounded(fleet.post_latency.quantile(0.5)), "p99": rounded(fleet.post_latency.quantile(0.99)),
            "max": rounded(fleet.post_latency.max()),
        },
        "lost": lost, "lost_pct": if expected > 0 { rounded(lost as f64 * 100.0 / expected as f64) } else { 0.0 },
        "dup": c.duplicates, "reordered": c.reordered, "other_msgs": c.others, "post_errors": c.refused,
        "disconnects": c.disconnects, "window_stalls": m.stalls, "backlog": fleet.backlog.len(),
        "slow_clients": slow, "slow_still_connected": fleet.slow_connected(), "connect_s": rounded(connect_seconds),
        "server_cpu_pct": rounded(100.0 * m.server_cpu / m.seconds),
        "loadgen_cpu_pct": rounded(100.0 * m.own_cpu / m.seconds), "reads_per_s": per_second(m.reads),
        "rss_before_kb": fresh.rss, "rss_connected_kb": connected.rss, "rss_peak_kb": m.peak_rss,
        "rss_end_kb": usage(pid).rss, "first_error": c.first_error,
    });
    println!("{report}");
}
