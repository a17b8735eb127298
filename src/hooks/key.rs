//! The key that an event keeps however often it is sent: a UUID of version 7 (RFC 9562), which begins with the time.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A key that nobody else has.
pub fn fresh() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut random = [0_u8; 10];
    if getrandom::fill(&mut random).is_err() {
        // Without randomness: the finer part of the time and this process, which two hooks at once do not share.
        random[..4].copy_from_slice(&now.subsec_nanos().to_le_bytes());
        random[4..8].copy_from_slice(&std::process::id().to_le_bytes());
    }
    of(now, random)
}

fn of(time: Duration, random: [u8; 10]) -> String {
    let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX) & 0xffff_ffff_ffff;
    let tail = random.iter().fold(0_u128, |all, byte| (all << 8) | u128::from(*byte));
    let id = (u128::from(millis) << 80)
        | (7 << 76)
        | ((tail >> 66 & 0xfff) << 64)
        | (0b10 << 62)
        | (tail & 0x3fff_ffff_ffff_ffff);
    text(id)
}

/// A key's text.
pub fn text(key: u128) -> String {
    let hex = format!("{key:032x}");
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

/// The number of a key, if it is a UUID as [`fresh`] writes them.
pub fn parse(key: &str) -> Option<u128> {
    let is_form = key.len() == 36
        && key.bytes().enumerate().all(|(at, byte)| {
            if matches!(at, 8 | 13 | 18 | 23) {
                byte == b'-'
            } else {
                byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)
            }
        });
    is_form.then(|| u128::from_str_radix(&key.replace('-', ""), 16).ok()).flatten()
}

/// When a key was made.
pub fn time(key: u128) -> Duration {
    Duration::from_millis(u64::try_from(key >> 80).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_uuids_and_know_their_time() {
        let key = of(Duration::from_millis(0x0123_4567_89ab), [0xff; 10]);
        assert_eq!(key, "01234567-89ab-7fff-bfff-ffffffffffff");
        assert_eq!(time(parse(&key).unwrap()), Duration::from_millis(0x0123_4567_89ab));
        assert_ne!(fresh(), fresh());
        let key = fresh();
        assert_eq!(text(parse(&key).unwrap()), key);
        for bad in ["", "x", "01234567-89AB-7fff-bfff-ffffffffffff", "0123456789ab7fffbfffffffffffffff0000"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
