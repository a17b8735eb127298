//! When a change is told: not before a pause after the last one, and not too long after the first one.

use std::time::{Duration, Instant};

/// So long nothing must have changed; as the original waits.
pub const QUIET: Duration = Duration::from_millis(500);
/// What goes on changing is told this long after it began all the same.
pub const MOST: Duration = Duration::from_secs(5);

/// Two moments, whatever the number of changes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Debounce {
    /// The first and the last change that were not told yet.
    open: Option<(Instant, Instant)>,
}

impl Debounce {
    /// Something has changed.
    pub fn changed(&mut self, now: Instant) {
        let first = self.open.map_or(now, |(first, _)| first);
        self.open = Some((first, now));
    }

    /// When it is to be told, if there is something to tell.
    pub fn due(&self) -> Option<Instant> {
        self.open.map(|(first, last)| (last + QUIET).min(first + MOST))
    }

    /// Whether it is to be told now; then it counts as told.
    pub fn fire(&mut self, now: Instant) -> bool {
        let is_due = self.due().is_some_and(|due| due <= now);
        if is_due {
            self.open = None;
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The moments at which it fires when changes come after these pauses.
    fn fired(pauses: &[Duration]) -> (Vec<Duration>, Vec<Duration>) {
        let start = Instant::now();
        let (mut debounce, mut now, mut fired, mut changes) = (Debounce::default(), start, Vec::new(), Vec::new());
        let mut run_to = |debounce: &mut Debounce, until: Option<Instant>| {
            while let Some(due) = debounce.due().filter(|due| until.is_none_or(|until| *due <= until)) {
                assert!(!debounce.fire(due - Duration::from_nanos(1)), "before its time");
                assert!(debounce.fire(due) && !debounce.fire(due), "once");
                fired.push(due - start);
            }
        };
        for pause in pauses {
            now += *pause;
            run_to(&mut debounce, Some(now));
            debounce.changed(now);
            changes.push(now - start);
        }
        run_to(&mut debounce, None);
        (fired, changes)
    }

    #[test]
    fn a_burst_is_told_once_after_its_end_and_one_without_an_end_now_and_then() {
        let ms = Duration::from_millis;
        assert_eq!(fired(&[]).0, Vec::<Duration>::new());
        assert_eq!(fired(&[ms(0)]).0, [QUIET]);
        assert_eq!(fired(&[ms(1); 100]).0, [ms(100) + QUIET]);
        assert_eq!(fired(&[ms(0), ms(499), ms(501)]).0, [ms(999), ms(1500)]);
        // 12 s of changes, every 100 ms: the first 5 s after the first, the next 5 s after the first that was not told.
        assert_eq!(fired(&[ms(100); 120]).0, [ms(5100), ms(10100), ms(12500)]);
    }

    /// What waits is one reload, however many changes it is for.
    #[test]
    fn many_changes_are_told_once() {
        let (start, mut debounce) = (Instant::now(), Debounce::default());
        (0..10_000).for_each(|_| debounce.changed(start));
        assert_eq!(debounce.due(), Some(start + QUIET));
        assert!(debounce.fire(start + QUIET) && debounce.due().is_none());
    }

    proptest! {
        #[test]
        fn every_change_is_told_soon_and_few_are_told_often(pauses in prop::collection::vec(0_u64..2000, 0..300)) {
            let pauses: Vec<Duration> = pauses.into_iter().map(Duration::from_millis).collect();
            let (fired, changes) = super::tests::fired(&pauses);
            for change in &changes {
                let told = fired.iter().find(|told| *told >= change).expect("told at last");
                prop_assert!(*told - *change <= MOST, "{change:?} was told at {told:?}");
            }
            for told in &fired {
                prop_assert!(changes.iter().any(|c| c <= told && *told - *c <= MOST), "nothing changed before {told:?}");
            }
            for two in fired.windows(2) {
                prop_assert!(two[1] - two[0] >= QUIET, "{two:?}");
            }
            prop_assert!(fired.len() <= changes.len());
        }
    }
}
