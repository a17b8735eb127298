//! The heartbeat of Engine.IO protocol 4: the server pings one interval after the last answer, and a client that does
//! not answer within the timeout is gone. One task looks after all sessions, and sleeps while there are none.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::beat::ROUND;
use super::engine::{Engine, Protocol};
use super::outgoing::Outgoing;

/// How soon to look again while there is nothing to wait for; only a bound, a new session wakes the task.
const FAR: Duration = Duration::from_secs(3600);

/// Looks after every session until the server ends.
pub async fn run<P: Protocol>(engine: Arc<Engine<P>>) {
    let ping = || Outgoing::packet(Bytes::from_static(b"2"));
    loop {
        let now = Instant::now();
        let mut next = now + FAR;
        let mut over = Vec::new();
        {
            let ping = ping();
            engine.registry.each(|session| match session.tick(&ping, now) {
                Ok(at) => next = next.min(at),
                Err(end) => over.push((Arc::clone(session), end)),
            });
        }
        for (session, end) in over {
            engine.end(&session, end);
        }
        let next = tokio::time::Instant::from_std(next.max(now + ROUND));
        tokio::select! {
            () = tokio::time::sleep_until(next) => {}
            () = engine.registry.looked_for.notified() => {
                // New sessions come in bursts; their deadlines are not that close.
                tokio::time::sleep(ROUND).await;
            }
        }
    }
}
