//! Faults on demand, for tests: `MPM_MONITOR_FAILPOINT=NAME` in a debug build. A release build knows none of them.

/// A place in a life where a fault can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failpoint {
    /// It ends with a failure before it takes its port.
    FailAtStart,
    /// The thread that boots stops for ever, with everything up but READY untold.
    HangBeforeReady,
    /// A task panics as soon as READY is told.
    PanicAfterReady,
    /// The runtime's thread stops for ever as soon as READY is told: no task turns any more.
    HangAfterReady,
}

impl Failpoint {
    #[cfg(debug_assertions)]
    const fn name(self) -> &'static str {
        match self {
            Self::FailAtStart => "fail-at-start",
            Self::HangBeforeReady => "hang-before-ready",
            Self::PanicAfterReady => "panic-after-ready",
            Self::HangAfterReady => "hang-after-ready",
        }
    }

    /// Whether this fault was asked for.
    pub fn is_wanted(self) -> bool {
        #[cfg(debug_assertions)]
        return std::env::var("MPM_MONITOR_FAILPOINT").is_ok_and(|wanted| wanted == self.name());
        #[cfg(not(debug_assertions))]
        false
    }
}
