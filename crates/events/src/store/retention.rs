//! Which events have to go. Pure; the indexer carries it out, a piece at a time.

use std::time::Duration;

use super::StoreConfig;

/// The most events removed in one transaction: more than one slice brings, so that removing always catches up, and few
/// enough not to keep the processor for long.
pub(super) const CHUNK: u64 = 1024;

/// How much is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limits {
    /// The most events.
    pub max_events: u64,
    /// The most bytes they may take in the database and the journal, the overhead of both included.
    pub max_bytes: u64,
    /// The greatest age.
    pub max_age: Duration,
}

impl Limits {
    pub(super) fn of(config: &StoreConfig) -> Self {
        Self { max_events: config.max_events, max_bytes: config.max_bytes, max_age: config.max_age }
    }

    /// The moment, in microseconds since 1970, before which events are too old.
    pub(super) fn cutoff(&self, now: i64) -> i64 {
        now.saturating_sub(i64::try_from(self.max_age.as_micros()).unwrap_or(i64::MAX))
    }

    /// How many bytes may come in before it is worth to ask for the file's size again.
    pub(super) fn stride(&self) -> u64 {
        (self.max_bytes / 64).clamp(4096, 1 << 20)
    }
}

/// What is stored at the moment. The numbers are without gaps, for events leave only at the old end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Held {
    /// The oldest number still there; above `last` when there is none.
    pub oldest: u64,
    /// The newest number.
    pub last: u64,
    /// The bytes that they take.
    pub bytes: u64,
}

/// The part of the bytes that is kept free for the journal.
pub(super) fn journal_share(limits: &Limits) -> u64 {
    limits.max_bytes / 4
}

/// The number up to which events must not be in the database, nor come into it, because those in the journal alone fill
/// the bounds. Up to `indexed` they are in the database, which takes `database` bytes; the others take `journal` bytes. 0 if
/// there is nothing of the kind.
///
/// While the journal keeps to its share, what is too much leaves the database in pieces, see [`excess`]. Beyond that
/// posts flood in faster than pieces can be removed, and all of the database goes.
pub(super) fn floor(limits: &Limits, last: u64, indexed: u64, database: u64, journal: u64) -> u64 {
    let by_count = match last.saturating_sub(limits.max_events) {
        floor if floor >= indexed => floor,
        _ => 0,
    };
    let flooded = journal > journal_share(limits) && database.saturating_add(journal) > limits.max_bytes;
    by_count.max(if flooded { indexed } else { 0 })
}

/// The number up to which events have to go now, because they are too many or too large; at most [`CHUNK`] of them.
///
/// Once a bound is passed it goes a little (1/64) below it, so that a full store does not remove one event for each one
/// that comes.
pub(super) fn excess(limits: &Limits, held: Held) -> Option<u64> {
    let count = (held.last + 1).saturating_sub(held.oldest);
    if count == 0 {
        return None;
    }
    let too_many = match count > limits.max_events {
        true => count - (limits.max_events - limits.max_events / 64),
        false => 0,
    };
    let too_large = match held.bytes > limits.max_bytes {
        true => {
            let target = limits.max_bytes - limits.max_bytes / 64;
            let share = u128::from(count) * u128::from(held.bytes - target);
            u64::try_from(share.div_ceil(u128::from(held.bytes))).unwrap_or(count)
        }
        false => 0,
    };
    match too_many.max(too_large).min(count).min(CHUNK) {
        0 => None,
        go => Some(held.oldest + go - 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { max_events: 640, max_bytes: 64_000, max_age: Duration::from_secs(10) };

    #[test]
    fn nothing_goes_within_the_bounds() {
        for held in [
            Held { oldest: 1, last: 0, bytes: 1 << 40 },
            Held { oldest: 900, last: 899, bytes: 4096 },
            Held { oldest: 1, last: 640, bytes: 64_000 },
            Held { oldest: 5001, last: 5640, bytes: 0 },
        ] {
            assert_eq!(excess(&LIMITS, held), None, "{held:?}");
        }
    }

    #[test]
    fn the_oldest_go_first_and_a_little_more_than_needed() {
        let by_count = Held { oldest: 101, last: 741, bytes: 0 };
        assert_eq!(excess(&LIMITS, by_count), Some(111), "641 are there, 630 stay");
        let by_bytes = Held { oldest: 101, last: 200, bytes: 126_000 };
        assert_eq!(excess(&LIMITS, by_bytes), Some(150), "half of the bytes are too many");
        let piece = Held { oldest: 1, last: 1_000_000, bytes: 0 };
        assert_eq!(excess(&LIMITS, piece), Some(CHUNK), "a piece at a time");
    }

    #[test]
    fn only_a_flood_takes_the_whole_database() {
        assert_eq!(floor(&LIMITS, 700, 650, 40_000, 10_000), 0, "60 are too many, and leave in pieces");
        assert_eq!(floor(&LIMITS, 1300, 650, 40_000, 10_000), 660, "of the journal itself 10 are too many");
        assert_eq!(floor(&LIMITS, 700, 650, 40_000, 16_001), 0, "there is room for both");
        assert_eq!(floor(&LIMITS, 700, 650, 48_000, 16_001), 650, "there is none");
    }

    #[test]
    fn bounds_of_nothing_keep_nothing() {
        let none = Limits { max_events: 0, max_bytes: 0, max_age: Duration::ZERO };
        let held = Held { oldest: 7, last: 9, bytes: 8192 };
        assert_eq!(excess(&none, held), Some(9));
        assert_eq!(excess(&Limits { max_events: 2, ..LIMITS }, held), Some(7), "small bounds are kept exactly");
    }

    #[test]
    fn a_cutoff_never_overflows() {
        assert_eq!(LIMITS.cutoff(20_000_000), 10_000_000);
        let forever = Limits { max_age: Duration::MAX, ..LIMITS };
        assert!(forever.cutoff(0) < -(1 << 62));
    }
}
