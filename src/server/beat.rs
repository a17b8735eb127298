//! The `heartbeat` event: a sign of life that pages of Claude MPM know. The original announces it and never sends it,
//! because its task ends before the server runs.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::{Counters, Instance};
use socketio::SocketIo;

/// The time between two of them, as in the original.
pub const EVERY: Duration = Duration::from_secs(180);

/// Sends it for as long as the server runs.
pub async fn run(sio: Arc<SocketIo>, instance: Arc<Instance>) {
    every(EVERY, |number| {
        let clients = sio.registry.connected();
        let payload = payload(number, instance.started.elapsed(), clients, instance.port, jiff::Timestamp::now());
        sio.broadcast("heartbeat", &payload);
    })
    .await;
}

/// Tells the clients that the dashboard is another one now; pages of Claude MPM then load themselves again.
pub fn reload(sio: &SocketIo, counters: &Counters) {
    let timestamp = format!("{:.6}", jiff::Timestamp::now());
    sio.broadcast("reload", &json!({"type": "reload", "timestamp": timestamp, "reason": "svelte-build-updated"}));
    counters.reloads.fetch_add(1, Ordering::Relaxed);
    tracing::info!(clients = sio.registry.connected(), "the dashboard has changed; its pages are told to reload");
}

/// Calls `beat` with 1, 2, 3 and so on, the first time after one period. After the machine slept it is called once.
async fn every(period: Duration, mut beat: impl FnMut(u64)) {
    let mut timer = interval_at(Instant::now() + period, period);
    timer.set_missed_tick_behavior(MissedTickBehavior::Skip);
    for number in 1.. {
        timer.tick().await;
        beat(number);
    }
}

fn payload(number: u64, uptime: Duration, clients: usize, port: u16, now: jiff::Timestamp) -> Value {
    json!({
        "timestamp": format!("{now:.6}"),
        "type": "heartbeat",
        "server_uptime": uptime.as_secs(),
        "server_uptime_formatted": formatted(uptime),
        "connected_clients": clients,
        "heartbeat_number": number,
        "message": format!("Server heartbeat #{number} - Socket.IO connection active"),
        "service": "unified-monitor",
        "port": port,
    })
}

/// `3m 0s` below an hour, `1h 2m` from then on.
fn formatted(uptime: Duration) -> String {
    let seconds = uptime.as_secs();
    match seconds / 3600 {
        0 => format!("{}m {}s", seconds / 60, seconds % 60),
        hours => format!("{hours}h {}m", seconds % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    #[test]
    fn the_payload_is_the_documented_one() {
        let payload = payload(2, Duration::from_secs(3725), 4, 8765, jiff::Timestamp::UNIX_EPOCH);
        let expected = json!({
            "timestamp": "1970-01-01T00:00:00.000000Z", "type": "heartbeat", "server_uptime": 3725,
            "server_uptime_formatted": "1h 2m", "connected_clients": 4, "heartbeat_number": 2,
            "message": "Server heartbeat #2 - Socket.IO connection active", "service": "unified-monitor", "port": 8765,
        });
        assert_eq!(payload, expected);
        assert_eq!(formatted(Duration::from_secs(180)), "3m 0s");
        assert_eq!(formatted(Duration::from_secs(3599)), "59m 59s");
    }

    #[tokio::test(start_paused = true)]
    async fn it_beats_once_a_period_and_not_at_the_start() {
        let (start, beats) = (Instant::now(), Arc::new(Mutex::new(Vec::new())));
        let seen = Arc::clone(&beats);
        let beat = move |number| seen.lock().unwrap().push((number, start.elapsed().as_secs()));
        let timeout = tokio::time::timeout(Duration::from_secs(600), every(EVERY, beat)).await;
        assert!(timeout.is_err());
        assert_eq!(*beats.lock().unwrap(), [(1, 180), (2, 360), (3, 540)]);
    }
}
