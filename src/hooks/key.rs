//! The key that an event keeps however often it is sent: a UUID of version 7 (RFC 9562), which begins with the time.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use uuid::{Builder, Uuid};

/// A key that nobody else has.
pub fn fresh() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut random = [0_u8; 10];
    if getrandom::fill(&mut random).is_err() {
        // Without randomness: the finer part of the time and this process, which two hooks at once do not share.
        random[..4].copy_from_slice(&now.subsec_nanos().to_le_bytes());
        random[4..8].copy_from_slice(&std::process::id().to_le_bytes());
    }
    let millis = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
    Builder::from_unix_timestamp_millis(millis, &random).into_uuid().to_string()
}

/// The time at which a key was made, after 1970. `None` if it is no key of [`fresh`].
pub fn time(key: &str) -> Option<Duration> {
    let (seconds, nanos) = Uuid::try_parse(key).ok()?.get_timestamp()?.to_unix();
    Some(Duration::new(seconds, nanos))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::key::Key;

    #[test]
    fn fresh_key_has_the_time_and_is_like_no_other() {
        let made = time("01234567-89ab-7fff-bfff-ffffffffffff");
        assert_eq!(made, Some(Duration::from_millis(0x0123_4567_89ab)));
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let key = fresh();
        let made = time(&key).unwrap();
        assert!(made.abs_diff(now) < Duration::from_secs(10), "{made:?}");
        assert!(Key::parse(&key).is_some(), "the store takes it: {key}");
        assert_ne!(fresh(), key);
        assert_eq!((time(""), time("6f1c2d3e-4b5a-4678-9abc-def012345678")), (None, None));
    }
}
