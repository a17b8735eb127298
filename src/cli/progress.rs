//! A line on the terminal that says what is waited for, and is gone when it is over.

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use daemon::out;

/// What takes less is not worth a line.
const PATIENCE: Duration = Duration::from_millis(300);
/// The time between two of its states.
const STEP: Duration = Duration::from_secs(1);

/// The line; dropping it erases it.
#[derive(Debug)]
pub struct Waiting {
    over: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// Says so on standard error, where that is a terminal which can erase; else nothing.
pub fn waiting(what: &str) -> Waiting {
    let dumb = std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
    if dumb || !out::errors_to_terminal() {
        return Waiting { over: None, thread: None };
    }
    let what = what.to_owned();
    let (over, ended) = channel();
    let began = Instant::now();
    let thread = std::thread::Builder::new().name("progress".to_owned()).spawn(move || {
        let mut pause = PATIENCE;
        while ended.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
            out::progress(Some(&line(&what, began.elapsed())));
            pause = STEP;
        }
        if pause == STEP {
            out::progress(None);
        }
    });
    Waiting { over: Some(over), thread: thread.ok() }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.over = None;
        // Whatever is printed next must not be erased with it.
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The line: short enough for any terminal, as one that wraps cannot be erased.
fn line(what: &str, since: Duration) -> String {
    let seconds = match since.as_secs() {
        0 => String::new(),
        n => format!(" {n} s"),
    };
    super::list::fit(&format!("waiting for {what} ..."), 72) + &seconds
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_never_wraps() {
        assert_eq!(line("it", Duration::ZERO), "waiting for it ...");
        assert_eq!(line("it", Duration::from_secs(3)), "waiting for it ... 3 s");
        assert!(line(&"x".repeat(200), Duration::from_secs(100)).chars().count() < 80);
    }
}
