//! Readiness that cannot lie by forgetting: it is the absence of latches, not a flag somebody sets.

use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

/// Knows which parts of the boot still hold a latch.
#[derive(Debug, Default, Clone)]
pub struct Readiness(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    began: Instant,
    latches: Mutex<Vec<(&'static str, Weak<()>)>>,
    done: Mutex<Vec<(&'static str, Duration)>>,
    dropped: Notify,
}

impl Default for Inner {
    fn default() -> Self {
        Self { began: Instant::now(), latches: Mutex::default(), done: Mutex::default(), dropped: Notify::new() }
    }
}

/// Held by a part of the boot until it is done; dropping it is the only way to say so.
#[derive(Debug)]
pub struct Latch {
    name: &'static str,
    held: Option<Arc<()>>,
    inner: Arc<Inner>,
}

impl Readiness {
    /// With no latch yet, and so ready: take all latches before anything runs.
    pub fn new() -> Self {
        Self::default()
    }

    /// A new latch; `name` is what `/ready` and `STATUS=` say the boot waits for.
    pub fn latch(&self, name: &'static str) -> Latch {
        let held = Arc::new(());
        lock(&self.0.latches).push((name, Arc::downgrade(&held)));
        Latch { name, held: Some(held), inner: Arc::clone(&self.0) }
    }

    /// The names of the latches still held, in the order they were taken; empty when ready.
    pub fn pending(&self) -> Vec<&'static str> {
        lock(&self.0.latches).iter().filter(|(_, l)| l.strong_count() > 0).map(|(n, _)| *n).collect()
    }

    /// What is done, in the order in which it was, and how long after the beginning.
    pub fn done(&self) -> Vec<(&'static str, Duration)> {
        lock(&self.0.done).clone()
    }

    /// Whether every latch was dropped.
    pub fn is_ready(&self) -> bool {
        lock(&self.0.latches).iter().all(|(_, l)| l.strong_count() == 0)
    }

    /// Returns once every latch except those named in `but` was dropped.
    pub async fn wait_for_all_but(&self, but: &[&str]) {
        loop {
            let dropped = self.0.dropped.notified();
            if self.pending().iter().all(|n| but.contains(n)) {
                return;
            }
            dropped.await;
        }
    }
}

impl Drop for Latch {
    fn drop(&mut self) {
        self.held = None;
        lock(&self.inner.done).push((self.name, self.inner.began.elapsed()));
        self.inner.dropped.notify_waiters();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_only_when_every_latch_is_dropped() {
        let readiness = Readiness::new();
        let store = readiness.latch("store");
        let hub = readiness.latch("hub");
        assert_eq!(readiness.pending(), ["store", "hub"]);
        drop(store);
        assert!(!readiness.is_ready());
        assert_eq!(readiness.pending(), ["hub"]);
        drop(hub);
        assert!(readiness.is_ready());
        let done = readiness.done();
        assert_eq!(done.iter().map(|(name, _)| *name).collect::<Vec<_>>(), ["store", "hub"]);
        assert!(done[0].1 <= done[1].1);
    }

    #[test]
    fn a_panicking_part_never_leaves_a_wait_behind() {
        let readiness = Readiness::new();
        let latch = readiness.latch("store");
        let other = readiness.latch("self-probe");
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let waiter = readiness.clone();
        runtime.block_on(async move {
            let wait = tokio::spawn(async move { waiter.wait_for_all_but(&["self-probe"]).await });
            tokio::task::yield_now().await;
            drop(latch);
            wait.await.unwrap();
        });
        assert_eq!(readiness.pending(), ["self-probe"]);
        drop(other);
    }
}
