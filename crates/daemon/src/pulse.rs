//! The pulse: who must answer before the watchdog may be pinged.
//!
//! A critical task registers and gets a [`Probe`]. The watchdog's thread *asks* all of them; a task answers from its
//! own loop, so an answer proves that the loop still turns. A task that waits in `select!` waits on
//! [`Probe::asked`] as well; a thread that blocks on a channel registers with a function that wakes it.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::Thread;

use tokio::sync::Notify;

type Wake = Box<dyn Fn() + Send + Sync>;

/// All critical tasks of the process.
#[derive(Debug, Default, Clone)]
pub struct Pulse {
    probes: Arc<Mutex<Vec<Arc<Probe>>>>,
    asker: Arc<OnceLock<Thread>>,
}

/// A task's end: it is asked, and answers.
pub struct Probe {
    name: &'static str,
    asked: AtomicU64,
    answered: AtomicU64,
    notify: Notify,
    wake: Option<Wake>,
    asker: Arc<OnceLock<Thread>>,
}

impl Pulse {
    /// With no task yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// A task that will `select!` on [`Probe::asked`].
    pub fn register(&self, name: &'static str) -> Arc<Probe> {
        self.add(name, None)
    }

    /// A thread that `wake` makes look; it then calls [`Probe::answer`]. `wake` must not block.
    pub fn register_with(&self, name: &'static str, wake: impl Fn() + Send + Sync + 'static) -> Arc<Probe> {
        self.add(name, Some(Box::new(wake)))
    }

    fn add(&self, name: &'static str, wake: Option<Wake>) -> Arc<Probe> {
        let probe = Arc::new(Probe {
            name,
            asked: AtomicU64::new(0),
            answered: AtomicU64::new(0),
            notify: Notify::new(),
            wake,
            asker: Arc::clone(&self.asker),
        });
        self.probes().push(Arc::clone(&probe));
        probe
    }

    /// A task that ended in good order is not asked any more.
    pub fn retire(&self, probe: &Arc<Probe>) {
        self.probes().retain(|p| !Arc::ptr_eq(p, probe));
    }

    /// Only the task of this name is asked from now on: the others are about to end.
    pub fn retire_all_but(&self, name: &str) {
        self.probes().retain(|p| p.name == name);
    }

    /// The thread that asks; each answer unparks it. The first call counts.
    pub fn answers_to(&self, asker: Thread) {
        let _ = self.asker.set(asker);
    }

    /// Asks every task for a tick.
    pub fn ask(&self) {
        for probe in self.probes().iter() {
            probe.asked.fetch_add(1, Ordering::AcqRel);
            match &probe.wake {
                Some(wake) => wake(),
                None => probe.notify.notify_one(),
            }
        }
    }

    /// The tasks that have not answered the last question.
    pub fn silent(&self) -> Vec<&'static str> {
        self.probes().iter().filter(|p| !p.has_answered()).map(|p| p.name).collect()
    }

    fn probes(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Probe>>> {
        self.probes.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Probe {
    /// Returns when the watchdog asks; then call [`Probe::answer`]. Cancel safe.
    pub async fn asked(&self) {
        self.notify.notified().await;
    }

    /// Says that the loop of this task turns.
    pub fn answer(&self) {
        self.answered.store(self.asked.load(Ordering::Acquire), Ordering::Release);
        if let Some(asker) = self.asker.get() {
            asker.unpark();
        }
    }

    fn has_answered(&self) -> bool {
        self.answered.load(Ordering::Acquire) == self.asked.load(Ordering::Acquire)
    }
}

impl fmt::Debug for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Probe").field("name", &self.name).field("answered", &self.has_answered()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_exactly_the_silent_ones() {
        let pulse = Pulse::new();
        let hub = pulse.register("hub");
        let (send, receive) = std::sync::mpsc::channel();
        let store = pulse.register_with("store", move || send.send(()).unwrap());
        pulse.ask();
        assert_eq!(pulse.silent(), ["hub", "store"]);
        receive.try_recv().expect("the thread was woken");
        store.answer();
        assert_eq!(pulse.silent(), ["hub"]);
        hub.answer();
        assert!(pulse.silent().is_empty());
        pulse.ask();
        pulse.retire(&store);
        assert_eq!(pulse.silent(), ["hub"]);
    }

    #[test]
    fn a_question_asked_before_the_task_waits_is_not_lost() {
        let pulse = Pulse::new();
        let hub = pulse.register("hub");
        pulse.ask();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(hub.asked());
        hub.answer();
        assert!(pulse.silent().is_empty());
    }
}
