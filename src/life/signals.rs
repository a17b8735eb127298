//! The signals that a life listens to, as futures of its supervisor.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use tokio::signal::unix::{Signal, SignalKind, signal};

use daemon::exit::Exit;

/// All of them, handled from here on.
pub(super) struct Signals {
    /// To end.
    pub(super) stop: Stop,
    /// SIGHUP: read the configuration again.
    pub(super) hangup: Signal,
    /// SIGUSR1: write the state into the log.
    pub(super) user1: Signal,
}

/// The two that ask for an end.
pub(super) struct Stop {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Installs the handlers; inside of a runtime.
    pub(super) fn new() -> std::io::Result<Self> {
        // The second one ends the process in the handler itself, even if no task turns any more.
        let told = Arc::new(AtomicBool::new(false));
        for number in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
            signal_hook::flag::register_conditional_shutdown(number, Exit::Failure.code().into(), Arc::clone(&told))?;
            signal_hook::flag::register(number, Arc::clone(&told))?;
        }
        Ok(Self {
            stop: Stop { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? },
            hangup: signal(SignalKind::hangup())?,
            user1: signal(SignalKind::user_defined1())?,
        })
    }
}

impl Stop {
    /// Waits for one of them.
    pub(super) async fn asked_to_stop(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
