//! The way down: each component is ended in order and reports how, within a deadline of its own.

use std::fmt;
use std::time::{Duration, Instant};

/// How a component ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// By itself, with its work done.
    Joined,
    /// At its deadline, with work left.
    Aborted,
}

/// What every component did at the end.
#[derive(Debug, Default)]
pub struct Report {
    steps: Vec<(&'static str, End, Duration)>,
}

impl Report {
    /// Without a component yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Writes down how a component that was being ended since `began` ended.
    pub fn add(&mut self, component: &'static str, began: Instant, joined: bool) {
        let end = if joined { End::Joined } else { End::Aborted };
        self.steps.push((component, end, began.elapsed()));
    }

    /// How many components had to be ended at their deadline.
    pub fn aborted(&self) -> u64 {
        self.steps.iter().filter(|(_, end, _)| *end == End::Aborted).count() as u64
    }

    /// Whether every component ended by itself.
    pub fn is_clean(&self) -> bool {
        self.aborted() == 0
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (component, end, took)) in self.steps.iter().enumerate() {
            let how = if *end == End::Joined { "joined" } else { "aborted" };
            let comma = if i == 0 { "" } else { ", " };
            write!(f, "{comma}{component} {how} {} ms", took.as_millis())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_who_did_not_end() {
        let mut report = Report::new();
        report.add("server", Instant::now(), true);
        assert!(report.is_clean());
        report.add("store", Instant::now(), false);
        assert!(!report.is_clean());
        assert_eq!(report.to_string(), "server joined 0 ms, store aborted 0 ms");
    }
}
