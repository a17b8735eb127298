//! A panic anywhere ends the process in good order: the hook writes it down and rings the bell, the supervisor shuts down.

use std::panic::PanicHookInfo;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

/// The bell; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Fatal(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    reason: Mutex<Option<String>>,
    rung: Notify,
}

impl Fatal {
    /// Rings it; the first reason counts.
    pub fn raise(&self, reason: String) {
        self.0.reason.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(reason);
        self.0.rung.notify_one();
    }

    /// Returns the reason once it was rung. Cancel safe.
    pub async fn raised(&self) -> String {
        loop {
            if let Some(reason) = self.reason() {
                return reason;
            }
            self.0.rung.notified().await;
        }
    }

    /// The reason, if it was rung.
    pub fn reason(&self) -> Option<String> {
        self.0.reason.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// From now on every panic of this process is logged and rings the bell.
    pub fn hook_panics(&self) {
        let bell = self.clone();
        std::panic::set_hook(Box::new(move |info| {
            let reason = describe(info);
            tracing::error!(backtrace = %std::backtrace::Backtrace::force_capture(), "{reason}");
            bell.raise(reason);
        }));
    }
}

fn describe(info: &PanicHookInfo<'_>) -> String {
    let payload = info.payload();
    let message = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("(no message)");
    let thread = std::thread::current();
    let place = info.location().map(|l| format!(" at {}:{}", l.file(), l.line())).unwrap_or_default();
    format!("panic in thread {}{place}: {message}", thread.name().unwrap_or("?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_reason_counts_and_is_not_missed() {
        let fatal = Fatal::default();
        fatal.raise("first".into());
        fatal.raise("second".into());
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        assert_eq!(runtime.block_on(fatal.raised()), "first");
    }
}
