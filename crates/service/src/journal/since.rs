//! `--since`: a point in time as people write it.

use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp, Zoned};

/// A time that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "--since {0:?} is no point in time; write `2026-11-22T10:00:00Z`, `2026-11-22 10:00`, `today`, or `10 min ago`"
)]
pub struct SinceError(pub String);

/// Reads RFC 3339, a local date with or without a time, `now`, `today`, `yesterday`, or a span followed by `ago`.
///
/// # Errors
/// [`SinceError`] for everything else.
pub fn parse(text: &str, now: &Zoned) -> Result<Timestamp, SinceError> {
    let bad = || SinceError(text.to_owned());
    let text_trimmed = text.trim();
    let local = |at: DateTime, zone: &TimeZone| zone.to_zoned(at).map(|z| z.timestamp()).map_err(|_| bad());
    if let Ok(at) = text_trimmed.parse::<Timestamp>() {
        return Ok(at);
    }
    // Only then: a date-time with a trailing zone would lose it here.
    if let Ok(at) = text_trimmed.parse::<DateTime>() {
        return local(at, now.time_zone());
    }
    if let Ok(day) = text_trimmed.parse::<Date>() {
        return local(day.to_datetime(jiff::civil::Time::midnight()), now.time_zone());
    }
    match text_trimmed {
        "now" => return Ok(now.timestamp()),
        "today" => return now.start_of_day().map(|z| z.timestamp()).map_err(|_| bad()),
        "yesterday" => {
            let day = now.yesterday().and_then(|z| z.start_of_day());
            return day.map(|z| z.timestamp()).map_err(|_| bad());
        }
        _ => {}
    }
    if !text_trimmed.ends_with("ago") {
        return Err(bad());
    }
    let span: Span = text_trimmed.parse().map_err(|_| bad())?;
    now.checked_add(span).map(|z| z.timestamp()).map_err(|_| bad())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn now() -> Zoned {
        let zone = TimeZone::fixed(jiff::tz::offset(2));
        "2026-11-22T12:00:00Z".parse::<Timestamp>().unwrap().to_zoned(zone)
    }

    #[test]
    fn all_the_ways_to_write_it() {
        let read = |text: &str| parse(text, &now()).unwrap().to_string();
        assert_eq!(read("2026-11-22T10:00:00Z"), "2026-11-22T10:00:00Z");
        assert_eq!(read("2026-11-22T10:00:00+01:00"), "2026-11-22T09:00:00Z");
        assert_eq!(read("2026-11-22 10:00"), "2026-11-22T08:00:00Z");
        assert_eq!(read("2026-11-22"), "2026-11-21T22:00:00Z");
        assert_eq!(read("10 min ago"), "2026-11-22T11:50:00Z");
        assert_eq!(read("1 hour ago"), "2026-11-22T11:00:00Z");
        assert_eq!(read("2h30m ago"), "2026-11-22T09:30:00Z");
        assert_eq!(read("today"), "2026-11-21T22:00:00Z");
        assert_eq!(read("yesterday"), "2026-11-20T22:00:00Z");
        assert_eq!(read("now"), "2026-11-22T12:00:00Z");
    }

    #[test]
    fn nonsense_is_refused_with_examples() {
        for text in ["", "ago", "soon", "10 min", "25:00", "-1 day", "10 bananas ago"] {
            let error = parse(text, &now()).unwrap_err().to_string();
            assert!(error.contains("10 min ago"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(text in any::<String>()) {
            let _ = parse(&text, &now());
        }

        #[test]
        fn long_ago_is_in_the_past_or_refused(n in any::<u32>()) {
            if let Ok(at) = parse(&format!("{n} min ago"), &now()) {
                prop_assert!(at <= now().timestamp());
            }
        }
    }
}
