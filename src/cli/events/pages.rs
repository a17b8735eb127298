//! Reads a running monitor's events page by page: `GET /api/events?after=`, over which everything here is built.

use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::hooks::place::Place;
use daemon::probe::{self, Manner, ProbeError};

/// How long one page may take.
const PAGE: Duration = Duration::from_secs(20);
/// The most bytes of a page: the monitor sends 8 MiB of events, or one event.
const MOST: usize = 64 << 20;
/// The most events of a page.
pub const LIMIT: usize = 1000;

/// Which events are wanted, as the monitor's own parameters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Names and values of the parameters.
    pub parameters: Vec<(&'static str, String)>,
}

impl Wanted {
    fn path(&self, after: u64, limit: usize) -> String {
        let mut path = format!("/api/events?after={after}&limit={limit}");
        for (name, value) in &self.parameters {
            path.push_str(&format!("&{name}={}", encoded(value)));
        }
        path
    }
}

fn encoded(text: &str) -> String {
    let one = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(one).collect()
}

/// An event as the monitor tells it.
#[derive(Debug, Deserialize)]
pub struct Item {
    /// Its number.
    pub seq: u64,
    /// Its name for ever.
    pub id: String,
    /// When it was accepted.
    pub accepted: String,
    /// Its category, or the poster's name for it.
    pub name: String,
    /// What it says.
    pub payload: Box<RawValue>,
}

/// Some events, and how far they go.
#[derive(Debug, Deserialize)]
pub struct Page {
    /// The events, oldest first.
    pub events: Vec<Item>,
    /// The greatest number ever given.
    pub last_seq: u64,
    /// The oldest number that is kept.
    pub oldest_seq: u64,
    /// Where to go on.
    pub next: u64,
    /// Which store the numbers are of.
    pub epoch: String,
}

/// Why there is no page.
#[derive(Debug, thiserror::Error)]
pub enum PageError {
    /// Nobody answers; it may come back.
    #[error("{0}")]
    Away(String),
    /// It answers, and will not give this.
    #[error("the monitor refused ({status}): {message}")]
    Refused {
        /// The status.
        status: u16,
        /// What it said.
        message: String,
    },
}

/// A monitor that is read from.
#[derive(Debug)]
pub struct Pages {
    place: Place,
    wanted: Wanted,
    runtime: tokio::runtime::Runtime,
}

impl Pages {
    /// Of the monitor at this place.
    ///
    /// # Errors
    /// When there can be no runtime.
    pub fn new(place: Place, wanted: Wanted) -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(Self { place, wanted, runtime })
    }

    /// Where they come from.
    pub fn url(&self) -> String {
        self.place.url()
    }

    /// The events with numbers above `after`, at most `limit` of them.
    ///
    /// # Errors
    /// See [`PageError`].
    pub fn page(&self, after: u64, limit: usize) -> Result<Page, PageError> {
        let path = self.wanted.path(after, limit);
        let manner = Manner {
            program: &crate::build::PROGRAM,
            host: Some(&self.place.host),
            token: self.place.token.as_deref(),
            port: self.place.port,
            most: MOST,
        };
        let mut failed = None;
        for target in self.place.resolve(PAGE) {
            match self.runtime.block_on(probe::get_as(target, &path, manner, PAGE)) {
                Ok((200, body)) => {
                    return serde_json::from_slice(&body)
                        .map_err(|e| PageError::Away(format!("{} sent no events: {e}", self.url())));
                }
                Ok((status, body)) if status < 500 => {
                    let said: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
                    let message = said["error"].as_str().unwrap_or("it is no mpm-monitor").to_owned();
                    return Err(PageError::Refused { status, message });
                }
                Ok((status, _)) => failed = Some(format!("{} said {status}", self.url())),
                // One of two addresses may not be served.
                Err(error @ ProbeError::Refused(_)) => {
                    failed.get_or_insert(error.to_string());
                }
                Err(error) => failed = Some(error.to_string()),
            }
        }
        Err(PageError::Away(failed.unwrap_or_else(|| format!("the host of {} is not known", self.url()))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_reach_the_monitor_as_they_are() {
        let wanted = Wanted { parameters: vec![("session", "a b&c=\u{e4}".into())] };
        assert_eq!(wanted.path(7, 2), "/api/events?after=7&limit=2&session=a%20b%26c%3D%C3%A4");
    }
}
