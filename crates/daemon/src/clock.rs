//! Two clocks, one of which stands still while the machine sleeps: their difference tells of a suspend.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// The clock that runs through a suspend: `CLOCK_BOOTTIME` on Linux; on macOS `CLOCK_MONOTONIC` does.
#[cfg(target_os = "linux")]
const THROUGH_SLEEP: ClockId = ClockId::Boottime;
#[cfg(not(target_os = "linux"))]
const THROUGH_SLEEP: ClockId = ClockId::Monotonic;

/// Both clocks at one moment. [`Instant`] is `CLOCK_MONOTONIC` on Linux and `CLOCK_UPTIME_RAW` on macOS: neither runs while
/// the machine is suspended to memory.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    awake: Instant,
    always: Duration,
}

impl Moment {
    /// Now.
    pub fn now() -> Self {
        let now = clock_gettime(THROUGH_SLEEP);
        let seconds = Duration::from_secs(u64::try_from(now.tv_sec).unwrap_or(0));
        Self { awake: Instant::now(), always: seconds + Duration::from_nanos(u64::try_from(now.tv_nsec).unwrap_or(0)) }
    }

    /// How long the machine slept between an earlier moment and this one.
    pub fn slept_since(&self, earlier: &Self) -> Duration {
        let always = self.always.saturating_sub(earlier.always);
        always.saturating_sub(self.awake.saturating_duration_since(earlier.awake))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_suspend_is_the_difference_of_the_clocks() {
        let before = Moment::now();
        let half_an_hour = Duration::from_secs(1800);
        let after = Moment {
            awake: before.awake + Duration::from_secs(3),
            always: before.always + Duration::from_secs(3) + half_an_hour,
        };
        assert_eq!(after.slept_since(&before), half_an_hour);
        let awake = Moment { awake: before.awake + half_an_hour, always: before.always + half_an_hour };
        assert_eq!(awake.slept_since(&before), Duration::ZERO);
    }
}
