//! What the real program tells over HTTP while it goes on: the stream of events, to readers of every kind, and that a served
//! dashboard has changed.

#[cfg(target_os = "linux")]
mod reload;
#[cfg(target_os = "linux")]
mod resume;
#[cfg(target_os = "linux")]
mod slow;
mod speaks;

use std::time::Duration;

use testkit::wire::Poster;

/// Long enough for a busy machine; a test that works does not wait for it.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Posts an event of that subtype and session that carries a number.
#[track_caller]
pub fn post(poster: &mut Poster, subtype: &str, session: &str, number: usize) {
    let status = poster.post(&event(subtype, session, number)).expect("the monitor answers");
    assert_eq!(status, 204);
}

/// The body of such an event.
pub fn event(subtype: &str, session: &str, number: usize) -> String {
    let data = format!(r#"{{"type":"hook","subtype":"{subtype}","session_id":"{session}","data":{{"n":{number}}}}}"#);
    format!(r#"{{"event":"claude_event","data":{data}}}"#)
}
