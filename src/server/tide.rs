//! When much of something has gone, its memory goes back to the system.
//!
//! The C library keeps what is freed between other things, so that a flood would be seen in the process's memory long after it
//! is over. Whatever clients can make much of is counted by one of these: connections, and the bytes of large answers, bodies and
//! pieces of the past. After the highest level has fallen by three quarters, the memory is given back; a few of anything never ask for it.

use std::sync::atomic::{AtomicUsize, Ordering};

/// How much of something there is.
#[derive(Debug)]
pub struct Tide {
    level: AtomicUsize,
    /// The highest level since memory was given back.
    high: AtomicUsize,
    /// What is no more than this is no flood.
    flood: usize,
}

impl Tide {
    /// Nothing yet; more than `flood` at once is worth the work.
    pub const fn new(flood: usize) -> Self {
        Self { level: AtomicUsize::new(0), high: AtomicUsize::new(0), flood }
    }

    /// How much there is.
    pub fn level(&self) -> usize {
        self.level.load(Ordering::Acquire)
    }

    /// Counts `by` more as taken.
    pub fn rise(&self, by: usize) {
        let level = self.level.fetch_add(by, Ordering::AcqRel) + by;
        self.high.fetch_max(level, Ordering::AcqRel);
    }

    /// So much less, to be told once its memory is freed.
    pub fn fall(&self, by: usize) {
        if self.is_over(by) {
            daemon::sys::give_back_memory();
        }
    }

    fn is_over(&self, by: usize) -> bool {
        let level = self.level.fetch_sub(by, Ordering::AcqRel) - by;
        let high = self.high.load(Ordering::Acquire);
        let over = high > self.flood && level <= high / 4;
        // One of those that see it does the work.
        over && self.high.compare_exchange(high, level, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_given_back_once_after_a_flood() {
        let tide = Tide::new(64);
        tide.rise(60);
        assert!(!tide.is_over(60), "that was no flood");
        tide.rise(100);
        assert!(!tide.is_over(74));
        assert!(tide.is_over(1));
        assert!(!tide.is_over(25) && tide.level() == 0);
    }
}
