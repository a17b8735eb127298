//! How many files this process may have open. macOS gives 256 to what launchd or a shell starts, and each client takes two.

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// More than this no process needs that serves the most clients that may be set, and programs that close whatever they may
/// have inherited, one number after the other, take their time with more.
const ENOUGH: u64 = 65_536;
/// What macOS always allows, whatever it says the limit is (`OPEN_MAX`).
const ALWAYS: u64 = 10_240;

/// Raises the limit as far as it may be raised; what it was, and what it is.
///
/// # Errors
/// What the system says; the limit is then as it was.
pub fn raise_files() -> io::Result<(Option<u64>, Option<u64>)> {
    let limit = getrlimit(Resource::Nofile);
    let mut result = Ok(limit.current);
    for wanted in [wanted(&limit, ENOUGH), wanted(&limit, ALWAYS)].into_iter().flatten() {
        match setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum: limit.maximum }) {
            Ok(()) => return Ok((limit.current, Some(wanted))),
            Err(error) => result = Err(error.into()),
        }
    }
    result.map(|now| (limit.current, now))
}

/// What to raise it to, if that is more than it is.
fn wanted(limit: &Rlimit, most: u64) -> Option<u64> {
    let wanted = limit.maximum.map_or(most, |hard| hard.min(most));
    limit.current.filter(|current| *current < wanted).map(|_| wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limit_is_raised_to_the_hard_one_and_never_lowered() {
        let wanted = |current, maximum| wanted(&Rlimit { current, maximum }, ENOUGH);
        assert_eq!(wanted(Some(256), Some(4096)), Some(4096));
        assert_eq!(wanted(Some(256), None), Some(ENOUGH), "macOS has no hard limit");
        assert_eq!(wanted(Some(1024), Some(1_048_576)), Some(ENOUGH));
        assert_eq!(wanted(Some(100_000), Some(1_048_576)), None);
        assert_eq!(wanted(Some(4096), Some(4096)), None);
        assert_eq!(wanted(None, None), None);
    }
}
