//! Where a client is between two pings. Pure: the time is given.

use std::time::{Duration, Instant};

/// Deadlines closer together than this are handled in one round.
pub(crate) const ROUND: Duration = Duration::from_millis(20);

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

/// How much earlier than announced the first ping is, so that it is not late where its round is: a client that does not
/// answer it is gone one interval and one timeout after the handshake, to the moment.
fn early(interval: Duration) -> Duration {
    ROUND.min(interval / 15)
}

impl Beat {
    /// After the handshake.
    pub fn new(now: Instant, interval: Duration) -> Self {
        Self::Quiet(now + interval - early(interval))
    }

    /// The client answered; whether the next ping is overdue already.
    pub fn answered(&mut self, now: Instant) -> bool {
        // An answer that nobody asked for changes nothing.
        let Self::Asked { next, .. } = *self else { return false };
        *self = Self::Quiet(next);
        next <= now
    }

    /// Whether the time to answer has passed.
    pub fn is_over(&self, now: Instant) -> bool {
        matches!(self, Self::Asked { by, .. } if now >= *by)
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

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(30);
    const TIMEOUT: Duration = Duration::from_secs(60);
    /// When the first ping is due.
    const FIRST: Duration = Duration::from_millis(29_980);

    #[test]
    fn pings_after_one_interval_and_gives_up_after_the_timeout() {
        let start = Instant::now();
        let mut beat = Beat::new(start, INTERVAL);
        assert_eq!(beat.due(start, INTERVAL, TIMEOUT), Due::Nothing(start + FIRST));
        let pinged = start + FIRST;
        assert_eq!(beat.due(pinged, INTERVAL, TIMEOUT), Due::Ping(pinged + INTERVAL));
        assert_eq!(beat.due(pinged + INTERVAL, INTERVAL, TIMEOUT), Due::Nothing(pinged + TIMEOUT));
        assert_eq!(beat.due(pinged + TIMEOUT, INTERVAL, TIMEOUT), Due::Timeout);
    }

    #[test]
    fn whoever_answers_is_pinged_every_interval_and_looked_at_in_time() {
        let start = Instant::now();
        let mut beat = Beat::new(start, INTERVAL);
        let mut look = start + FIRST;
        for round in 1..=5 {
            assert_eq!(look, start + FIRST + INTERVAL * (round - 1));
            let Due::Ping(at) = beat.due(look, INTERVAL, TIMEOUT) else { panic!("no ping in round {round}") };
            assert!(!beat.answered(look + Duration::from_secs(1)));
            look = at;
        }
    }

    #[test]
    fn silent_client_is_gone_an_interval_and_a_timeout_after_it_came() {
        let (interval, timeout) = (Duration::from_millis(300), Duration::from_millis(200));
        let (start, over) = (Instant::now(), Duration::from_millis(500));
        // As late as a round can be.
        let mut beat = Beat::new(start, interval);
        let Due::Nothing(at) = beat.due(start, interval, timeout) else { panic!("a ping at once") };
        beat.due(at + ROUND, interval, timeout);
        assert!(!beat.is_over(start + over - Duration::from_millis(1)) && beat.is_over(start + over));
        beat.answered(start + over);
        assert!(!beat.is_over(start + over));
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
