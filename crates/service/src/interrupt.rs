//! Signals that come while something is changed: they are noted, what was begun is taken back, and then they are obeyed.

use std::cell::Cell;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::{flag, low_level};

/// What a terminal, a logout or a person sends to end a command.
const ENDS: [i32; 3] = [SIGHUP, SIGINT, SIGTERM];

#[derive(Debug, Default)]
struct State {
    /// Whether they are obeyed at once.
    at_once: Arc<AtomicBool>,
    /// The one that came; 0 for none.
    caught: Arc<AtomicUsize>,
}

static STATE: OnceLock<State> = OnceLock::new();

thread_local! {
    /// Whether this thread takes something back, which no signal breaks off.
    static DEAF: Cell<bool> = const { Cell::new(false) };
}

/// As long as it is there, signals are noted and not obeyed.
#[derive(Debug)]
pub struct Guard(());

/// Notes signals from here on, for [`caught`].
///
/// # Errors
/// When a handler cannot be installed.
pub fn catch() -> io::Result<Guard> {
    if STATE.get().is_none() {
        let state = State::default();
        for signal in ENDS.into_iter().filter(|signal| !is_ignored(*signal)) {
            // In this order: what is obeyed at once never comes to the second.
            flag::register_conditional_default(signal, Arc::clone(&state.at_once))?;
            flag::register_usize(signal, Arc::clone(&state.caught), usize::try_from(signal).unwrap_or_default())?;
        }
        // Only the main thread changes things, so that nobody else was here meanwhile.
        let _ = STATE.set(state);
    }
    set_at_once(false);
    Ok(Guard(()))
}

/// Whether whoever started this process wanted it to live on through that signal (`nohup`); known on Linux only.
fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| u64::from_str_radix(line.strip_prefix("SigIgn:")?.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}

impl Drop for Guard {
    fn drop(&mut self) {
        set_at_once(true);
    }
}

fn set_at_once(at_once: bool) {
    if let Some(state) = STATE.get() {
        state.at_once.store(at_once, Ordering::SeqCst);
    }
}

/// The signal that came, unless what was begun is being taken back.
pub fn caught() -> Option<i32> {
    if DEAF.get() { None } else { came() }
}

fn came() -> Option<i32> {
    let signal = STATE.get()?.caught.load(Ordering::SeqCst);
    i32::try_from(signal).ok().filter(|signal| *signal != 0)
}

/// Does what no signal may break off.
pub fn unheard<T>(act: impl FnOnce() -> T) -> T {
    let before = DEAF.replace(true);
    let done = act();
    DEAF.set(before);
    done
}

/// Ends the process by the signal that came, as it would have ended without a guard; returns if none came.
pub fn obey() {
    if let Some(signal) = came() {
        // It returns only where it cannot be done; then the exit code tells of the failure.
        let _ = low_level::emulate_default_handler(signal);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_is_noted_and_not_heard_while_taking_back() {
        let guard = catch().unwrap();
        assert_eq!(caught(), None);
        low_level::raise(SIGHUP).unwrap();
        assert_eq!(caught(), Some(SIGHUP));
        assert_eq!(unheard(caught), None);
        assert_eq!(caught(), Some(SIGHUP));
        STATE.get().unwrap().caught.store(0, Ordering::SeqCst);
        drop(guard);
    }
}
