//! The heartbeat of Engine.IO protocol 4: the server pings one interval after the last answer, and a client that does
//! not answer within the timeout is gone. One task looks after all sessions, and sleeps while there are none.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::SocketIo;
use super::outgoing::Outgoing;

/// Deadlines closer together than this are handled in one round.
const ROUND: Duration = Duration::from_millis(20);
/// How soon to look again while there is nothing to wait for; only a bound, a new session wakes the task.
const FAR: Duration = Duration::from_secs(3600);

/// Where a session is between two pings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beat {
    /// The client has answered; the next ping is due then.
    Quiet(Instant),
    /// A ping was sent.
    Asked {
        /// The answer must be there by then.
        by: Instant,
        /// The next ping is due then, if there is an answer: pings keep their rhythm, however long answers take.
        next: Instant,
    },
}

/// What a look at the heartbeat asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// To look again then.
    Nothing(Instant),
    /// To send a ping, and look again then.
    Ping(Instant),
    /// To end the session.
    Timeout,
}

impl Beat {
    /// After the handshake.
    pub fn new(now: Instant, interval: Duration) -> Self {
        Self::Quiet(now + interval)
    }

    /// The client answered; whether the next ping is overdue already.
    pub fn answered(&mut self, now: Instant) -> bool {
        // An answer that nobody asked for changes nothing.
        let Self::Asked { next, .. } = *self else { return false };
        *self = Self::Quiet(next);
        next <= now
    }

    /// What is to be done now.
    pub fn due(&mut self, now: Instant, interval: Duration, timeout: Duration) -> Due {
        match *self {
            Self::Quiet(at) if now < at => Due::Nothing(at),
            Self::Quiet(_) => {
                // Counted from now: a machine that slept leaves the client its full time to answer.
                let (by, next) = (now + timeout, now + interval);
                *self = Self::Asked { by, next };
                Due::Ping(by.min(next))
            }
            Self::Asked { by, .. } if now >= by => Due::Timeout,
            // Looking at `next` as well finds a client that has answered meanwhile.
            Self::Asked { by, next } => Due::Nothing(if now < next { by.min(next) } else { by }),
        }
    }
}

/// Looks after every session until the server ends.
pub async fn run(sio: Arc<SocketIo>) {
    let ping = || Outgoing::packet(Bytes::from_static(b"2"));
    loop {
        let now = Instant::now();
        let mut next = now + FAR;
        let mut over = Vec::new();
        {
            let ping = ping();
            sio.registry.each(|session| match session.tick(&ping, now) {
                Ok(at) => next = next.min(at),
                Err(end) => over.push((Arc::clone(session), end)),
            });
        }
        for (session, end) in over {
            sio.end(&session, end);
        }
        let next = tokio::time::Instant::from_std(next.max(now + ROUND));
        tokio::select! {
            () = tokio::time::sleep_until(next) => {}
            () = sio.registry.looked_for.notified() => {
                // New sessions come in bursts; their deadlines are not that close.
                tokio::time::sleep(ROUND).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(30);
    const TIMEOUT: Duration = Duration::from_secs(60);

    #[test]
    fn pings_after_one_interval_and_gives_up_after_the_timeout() {
        let start = Instant::now();
        let mut beat = Beat::new(start, INTERVAL);
        assert_eq!(beat.due(start, INTERVAL, TIMEOUT), Due::Nothing(start + INTERVAL));
        let pinged = start + INTERVAL;
        assert_eq!(beat.due(pinged, INTERVAL, TIMEOUT), Due::Ping(pinged + INTERVAL));
        assert_eq!(beat.due(pinged + INTERVAL, INTERVAL, TIMEOUT), Due::Nothing(pinged + TIMEOUT));
        assert_eq!(beat.due(pinged + TIMEOUT, INTERVAL, TIMEOUT), Due::Timeout);
    }

    #[test]
    fn whoever_answers_is_pinged_every_interval_and_looked_at_in_time() {
        let start = Instant::now();
        let mut beat = Beat::new(start, INTERVAL);
        let mut look = start + INTERVAL;
        for round in 1..=5 {
            assert_eq!(look, start + INTERVAL * round);
            let Due::Ping(at) = beat.due(look, INTERVAL, TIMEOUT) else { panic!("no ping in round {round}") };
            assert!(!beat.answered(look + Duration::from_secs(1)));
            look = at;
        }
    }

    #[test]
    fn a_late_answer_makes_the_next_ping_due_at_once() {
        let start = Instant::now();
        let mut beat = Beat::new(start, INTERVAL);
        assert!(!beat.answered(start), "nobody asked");
        let pinged = start + INTERVAL;
        beat.due(pinged, INTERVAL, TIMEOUT);
        let late = pinged + INTERVAL + Duration::from_secs(1);
        assert!(beat.answered(late));
        assert_eq!(beat.due(late, INTERVAL, TIMEOUT), Due::Ping(late + INTERVAL));
    }

    #[test]
    fn a_machine_that_slept_asks_before_it_judges() {
        let start = Instant::now();
        let mut beat = Beat::new(start, INTERVAL);
        let woke = start + Duration::from_secs(36_000);
        assert_eq!(beat.due(woke, INTERVAL, TIMEOUT), Due::Ping(woke + INTERVAL));
        assert_eq!(beat.due(woke + TIMEOUT / 2, INTERVAL, TIMEOUT), Due::Nothing(woke + TIMEOUT));
    }
}
