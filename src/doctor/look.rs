//! Looks that end in time: each on a thread of its own, with a deadline for it and for every tool that it runs. Who does not
//! come back by then is left behind, and what it was to find out is *not run*.

use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use super::check::Looked;
use service::exec;

/// What a tool that is killed at the deadline needs to be reaped.
const GRACE: Duration = Duration::from_millis(300);

/// A look that has begun.
#[derive(Debug)]
pub struct Look<T> {
    answer: Receiver<T>,
    limit: Duration,
    until: Instant,
}

/// Begins a look that may take `limit`.
pub fn begin<T: Send + 'static>(limit: Duration, look: impl FnOnce() -> T + Send + 'static) -> Look<T> {
    let (sender, answer) = channel();
    let until = Instant::now() + limit;
    std::thread::spawn(move || {
        // Nobody waits any more where this fails.
        let _ = sender.send(exec::until(until, look));
    });
    Look { answer, limit, until: until + GRACE }
}

impl<T> Look<T> {
    /// Its answer, or why there is none.
    ///
    /// # Errors
    /// When it was too slow, or panicked.
    pub fn end(self) -> Looked<T> {
        self.answer.recv_timeout(self.until.saturating_duration_since(Instant::now())).map_err(|e| match e {
            RecvTimeoutError::Timeout => format!("it did not end within {:?}", self.limit),
            RecvTimeoutError::Disconnected => "it failed by a fault of this program".to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_that_hangs_is_left_and_its_tool_is_ended() {
        let began = Instant::now();
        let sleep = || exec::tool("sleep", &["600"], Duration::from_secs(600)).map(drop).map_err(|e| e.to_string());
        let tool = begin(Duration::from_millis(100), sleep);
        let (keep, never) = channel::<()>();
        let hung = begin(Duration::from_millis(100), move || {
            let _ = never.recv();
        });
        let error = tool.end().unwrap().unwrap_err();
        assert!(error.contains("did not end within"), "{error}");
        assert_eq!(hung.end().unwrap_err(), "it did not end within 100ms");
        assert_eq!(begin(Duration::from_secs(60), || 7).end(), Ok(7));
        assert!(begin(Duration::from_secs(60), || panic!("as a fault does")).end().is_err());
        assert!(began.elapsed() < Duration::from_secs(30));
        drop(keep);
    }
}
