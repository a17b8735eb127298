//! The watchdog: an OS thread, not a task, because it must see the runtime hang.
//!
//! Every third of the manager's `WATCHDOG_USEC` it asks each critical task for a tick ([`super::pulse`]) and pings the manager
//! only if all of them answered. It names the silent ones before it withholds the ping. Without a manager it still logs, and
//! with `watchdog.exit` it ends the process.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::identity::Manager;
use super::notify::Notifier;
use super::pulse::Pulse;
use crate::clock::Moment;

/// How many rounds of questions fit into the limit.
const ROUNDS: u32 = 3;

/// What the thread goes by.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The stall that is too long: the manager's `WATCHDOG_USEC`, else the setting `watchdog.timeout`.
    pub limit: Duration,
    /// Whether the thread itself ends the process after [`Plan::limit`]; with a manager that does, it need not.
    pub exit: bool,
}

impl Plan {
    /// The manager's limit where it has one, else `timeout`. launchd has no watchdog but restarts a process that ended, so
    /// there the thread always ends it.
    pub fn new(timeout: Duration, exit: bool, manager: Manager) -> Self {
        let exit = exit || manager == Manager::Launchd;
        match sd_notify::watchdog_enabled().filter(|limit| !limit.is_zero()) {
            Some(limit) => Self { limit, exit },
            None => Self { limit: timeout, exit },
        }
    }
}

/// What one round of questions says, and so what is to be done; pure.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// All answered: ping.
    Alive,
    /// Some did not, for the first time: log, and withhold the ping.
    Stalled,
    /// Still.
    StillStalled,
    /// For so long that the process must end.
    Hopeless,
}

#[derive(Debug, Default)]
struct Judge {
    /// How long tasks have been silent, not counting time in which the machine slept.
    silent_for: Duration,
}

impl Judge {
    fn round(&mut self, all_answered: bool, took: Duration, slept: Duration, limit: Duration) -> Verdict {
        if all_answered {
            self.silent_for = Duration::ZERO;
            return Verdict::Alive;
        }
        if slept > Duration::ZERO {
            // Whoever slept with the machine had no chance to answer: one round of grace.
            self.silent_for = Duration::ZERO;
            return Verdict::StillStalled;
        }
        let first = self.silent_for.is_zero();
        // A round that took longer was one in which this very thread did not run (SIGSTOP, a frozen machine, a suspend to idle,
        // in which neither clock stands still): the tasks had no more chance to answer than in a usual one.
        self.silent_for += took.min(limit / ROUNDS + Duration::from_nanos(1));
        if self.silent_for >= limit {
            Verdict::Hopeless
        } else if first {
            Verdict::Stalled
        } else {
            Verdict::StillStalled
        }
    }
}

/// The running thread.
#[derive(Debug)]
pub struct Watchdog {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Watchdog {
    /// Starts the thread. `give_up` is called with the names of the silent tasks when the process must end; it does not return
    /// in earnest, but may in a test.
    ///
    /// # Errors
    /// When the system has no thread left.
    pub fn start(
        plan: Plan,
        pulse: Pulse,
        notifier: Notifier,
        give_up: impl Fn(&[&'static str]) + Send + 'static,
    ) -> std::io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::Builder::new()
            .name("watchdog".into())
            .stack_size(128 * 1024)
            .spawn(move || watch(&plan, &pulse, &notifier, &stopped, &give_up))?;
        Ok(Self { stop, thread })
    }

    /// Ends the thread and waits for it.
    pub fn stop(self) -> bool {
        self.stop.store(true, Ordering::Release);
        self.thread.thread().unpark();
        self.thread.join().is_ok()
    }
}

fn watch(plan: &Plan, pulse: &Pulse, notifier: &Notifier, stop: &AtomicBool, give_up: &dyn Fn(&[&'static str])) {
    let period = plan.limit / ROUNDS;
    let mut judge = Judge::default();
    pulse.answers_to(thread::current());
    while !stop.load(Ordering::Acquire) {
        let began = Moment::now();
        let start = Instant::now();
        pulse.ask();
        // Ping as soon as all have answered: the answers of a healthy process take microseconds.
        let mut pinged = false;
        while start.elapsed() < period && !stop.load(Ordering::Acquire) {
            if !pinged && pulse.silent().is_empty() {
                notifier.watchdog();
                pinged = true;
            }
            thread::park_timeout(period.saturating_sub(start.elapsed()));
        }
        let silent = pulse.silent();
        let slept = Moment::now().slept_since(&began);
        // The two clocks are read one after the other; less than a second is no sleep worth a word.
        let slept = if slept < Duration::from_secs(1) { Duration::ZERO } else { slept };
        if slept > Duration::ZERO {
            tracing::info!(slept_s = slept.as_secs(), "the machine slept; one period of grace");
        }
        match judge.round(pinged || silent.is_empty(), start.elapsed(), slept, plan.limit) {
            Verdict::Alive | Verdict::StillStalled => {}
            Verdict::Stalled => tracing::error!(
                silent = silent.join(","),
                after_ms = u64::try_from(judge.silent_for.as_millis()).unwrap_or(u64::MAX),
                limit_ms = u64::try_from(plan.limit.as_millis()).unwrap_or(u64::MAX),
                "stalled: {} did not answer; the watchdog is not pinged",
                silent.join(", ")
            ),
            Verdict::Hopeless => {
                tracing::error!(silent = silent.join(","), "stalled for too long: {}", silent.join(", "));
                if plan.exit {
                    give_up(&silent);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(9);
    const THIRD: Duration = Duration::from_secs(3);

    #[test]
    fn a_stall_is_told_once_and_then_ends() {
        let mut judge = Judge::default();
        assert_eq!(judge.round(true, THIRD, Duration::ZERO, LIMIT), Verdict::Alive);
        assert_eq!(judge.round(false, THIRD, Duration::ZERO, LIMIT), Verdict::Stalled);
        assert_eq!(judge.round(false, THIRD, Duration::ZERO, LIMIT), Verdict::StillStalled);
        assert_eq!(judge.round(false, THIRD, Duration::ZERO, LIMIT), Verdict::Hopeless);
    }

    #[test]
    fn a_recovery_forgets_the_stall() {
        let mut judge = Judge::default();
        judge.round(false, THIRD, Duration::ZERO, LIMIT);
        judge.round(false, THIRD, Duration::ZERO, LIMIT);
        assert_eq!(judge.round(true, THIRD, Duration::ZERO, LIMIT), Verdict::Alive);
        assert_eq!(judge.round(false, THIRD, Duration::ZERO, LIMIT), Verdict::Stalled);
    }

    /// Pain 17: a lid closed for half an hour must not end the process.
    #[test]
    fn pain_17_a_suspend_gives_one_period_of_grace() {
        let mut judge = Judge::default();
        let half_an_hour = Duration::from_secs(1800);
        judge.round(false, THIRD, Duration::ZERO, LIMIT);
        judge.round(false, THIRD, Duration::ZERO, LIMIT);
        assert_eq!(judge.round(false, THIRD, half_an_hour, LIMIT), Verdict::StillStalled);
        assert_eq!(judge.round(false, THIRD, Duration::ZERO, LIMIT), Verdict::Stalled);
    }

    /// A suspend to idle is seen by neither clock (systemd issue 20284), and SIGSTOP is no suspend: the thread itself comes late.
    #[test]
    fn pain_17_a_pause_that_no_clock_tells_is_one_round_and_no_hang() {
        let mut judge = Judge::default();
        let half_an_hour = Duration::from_secs(1800);
        assert_eq!(judge.round(false, half_an_hour, Duration::ZERO, LIMIT), Verdict::Stalled);
        assert_eq!(judge.round(true, THIRD, Duration::ZERO, LIMIT), Verdict::Alive);
        // A hang is found all the same, as fast as ever once the thread runs.
        for verdict in [Verdict::Stalled, Verdict::StillStalled, Verdict::Hopeless] {
            assert_eq!(judge.round(false, half_an_hour, Duration::ZERO, LIMIT), verdict);
        }
    }

    #[test]
    fn the_thread_gives_up_on_a_task_that_never_answers() {
        let pulse = Pulse::new();
        let _dead = pulse.register("hub");
        let (send, receive) = mpsc::channel();
        let plan = Plan { limit: Duration::from_millis(30), exit: true };
        let watchdog = Watchdog::start(plan, pulse, Notifier::default(), move |silent| {
            let _ = send.send(silent.to_vec());
        })
        .unwrap();
        assert_eq!(receive.recv_timeout(Duration::from_secs(10)).unwrap(), ["hub"]);
        assert!(watchdog.stop());
    }
}
