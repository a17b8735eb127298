//! A token bucket for what one client sends: it holds `burst` tokens and regains `rate` of them a second; each packet
//! takes one. Packets that are there are always taken, into debt if need be, and then nothing is read from the client
//! until the debt is paid: it waits, nothing is lost.

use std::time::{Duration, Instant};

/// The longest that a client waits for more than its debt.
const LONGEST: Duration = Duration::from_secs(1);

/// See the module. All of it is one moment: when the bucket would be full again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bucket {
    full_at: Instant,
    /// Until when the client is not read from.
    blocked: Option<Instant>,
}

impl Bucket {
    /// A full one.
    pub fn new(now: Instant) -> Self {
        Self { full_at: now, blocked: None }
    }

    /// Takes tokens; whether the bucket has just become empty. A client that finds it empty waits until it is a quarter
    /// full again, though no longer than [`LONGEST`], so that reading goes on in bursts and not packet by packet.
    pub fn spend(&mut self, tokens: usize, rate: u32, burst: u32, now: Instant) -> bool {
        let (rate, burst) = (f64::from(rate.max(1)), f64::from(burst.max(1)));
        self.full_at = self.full_at.max(now) + Duration::from_secs_f64(tokens as f64 / rate);
        let whole = Duration::from_secs_f64(burst / rate);
        let missing = self.full_at - now;
        if missing < whole {
            return false;
        }
        let begins = self.blocked.is_none_or(|until| until <= now);
        self.blocked = Some(now + (missing - whole) + (whole / 4).min(LONGEST));
        begins
    }

    /// Until when nothing is to be read, if so.
    pub fn empty_until(&self, now: Instant) -> Option<Instant> {
        self.blocked.filter(|until| now < *until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_then_the_rate_holds() {
        let start = Instant::now();
        let mut bucket = Bucket::new(start);
        let mut now = start;
        let mut sent = 0;
        while now < start + Duration::from_secs(10) {
            match bucket.empty_until(now) {
                Some(until) => now = until,
                None => {
                    bucket.spend(1, 100, 400, now);
                    sent += 1;
                }
            }
        }
        assert!((1300..=1500).contains(&sent), "{sent} in 10 s at 100 a second after a burst of 400");
    }

    #[test]
    fn who_stays_below_the_rate_never_waits_and_each_wait_is_told_once() {
        let start = Instant::now();
        let mut bucket = Bucket::new(start);
        for n in 0..1000_u32 {
            let now = start + Duration::from_millis(11) * n;
            assert!(!bucket.spend(1, 100, 2, now) && bucket.empty_until(now).is_none());
        }
        let mut bucket = Bucket::new(start);
        let begins: Vec<bool> = (0..6).map(|_| bucket.spend(1, 10, 4, start)).collect();
        assert_eq!(begins, [false, false, false, true, false, false]);
        let until = bucket.empty_until(start).unwrap();
        assert_eq!(until, start + Duration::from_millis(300), "the debt of two and a quarter of the bucket");
        assert_eq!(bucket.empty_until(until), None);
        let mut large = Bucket::new(start);
        assert!((0..100_000).any(|_| large.spend(1, 1, 100_000, start)));
        assert!(large.empty_until(start).unwrap() <= start + LONGEST, "a large bucket is no long wait");
    }
}
