//! A client's connection, as everything that serves it shares it.

use std::any::Any;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::watch;

/// A client that takes nothing for so long, although something waits for it, is cut off.
pub const WRITE_DEADLINE: Duration = Duration::from_secs(10);

/// How far a server is on its way down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// It serves.
    Serving,
    /// It accepts nothing new and finishes what it has begun.
    Draining,
    /// It resets what is left.
    Cut,
}

/// One connection. It lives until the last task that serves it is done, and with it what the application holds for it.
pub struct Connection<T: ?Sized = dyn Any + Send + Sync> {
    stalled: AtomicBool,
    phase: watch::Receiver<Phase>,
    /// The application's own.
    pub held: T,
}

impl<T> Connection<T> {
    /// A connection of a server whose phase is told by `phase`.
    pub fn new(phase: watch::Receiver<Phase>, held: T) -> Self {
        Self { stalled: AtomicBool::new(false), phase, held }
    }
}

impl<T: ?Sized> Connection<T> {
    /// The phase of its server.
    pub fn phase(&self) -> &watch::Receiver<Phase> {
        &self.phase
    }

    /// Returns when the connection is to be reset.
    pub async fn cut(&self) {
        // An error means that the server is gone without a drain; there is nobody left to serve for.
        let _ = self.phase.clone().wait_for(|phase| *phase == Phase::Cut).await;
    }

    /// Whether the connection is to be reset.
    pub fn is_cut(&self) -> bool {
        *self.phase.borrow() == Phase::Cut
    }

    /// Its client has taken nothing for too long.
    pub fn stall(&self) {
        self.stalled.store(true, Ordering::Release);
    }

    /// Whether its client has taken nothing for too long; then it is reset.
    pub fn has_stalled(&self) -> bool {
        self.stalled.load(Ordering::Acquire)
    }
}

impl<T: ?Sized> fmt::Debug for Connection<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("stalled", &self.stalled).finish_non_exhaustive()
    }
}
