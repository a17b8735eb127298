//! `emit`: posts one event.

use std::io::Read;
use std::time::{Duration, Instant};

use clap::Args;

use super::events::Monitor;
use super::failed;
use crate::hooks::json::{Object, quoted};
use crate::hooks::key;
use crate::hooks::wire::{Client, Sent};
use daemon::exit::Exit;

/// The most data of an event; the monitor's own bound is `server.max_body`.
const MOST: u64 = 64 << 20;

/// `emit`.
#[derive(Debug, Args)]
pub struct Emit {
    /// What happened, such as build_finished
    pub event: String,
    /// What is to be known of it, as JSON: itself, @FILE, or - for standard input
    #[arg(long, value_name = "JSON|@FILE|-", allow_hyphen_values = true)]
    pub data: Option<String>,
    /// The agent session it belongs to
    #[arg(long, value_name = "ID")]
    pub session: Option<String>,
    /// What happened in detail; readers sort events by it [default: EVENT]
    #[arg(long, value_name = "NAME")]
    pub subtype: Option<String>,
    /// How long it may take
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = deadline)]
    pub deadline: Duration,
    /// The monitor.
    #[command(flatten)]
    pub monitor: Monitor,
}

fn deadline(text: &str) -> Result<Duration, String> {
    crate::hooks::run::deadline(text).ok_or_else(|| format!("{text:?} is no time from 20ms to 1m"))
}

/// Posts it.
///
/// # Errors
/// When the data is no JSON; [`Exit::NotRunning`] when no monitor is there, [`Exit::Unknown`] when it did not answer,
/// [`Exit::NotReady`] when it cannot take it now, [`Exit::NoPermission`] without its token, [`Exit::Refused`] when it never will.
pub fn run(args: &Emit) -> anyhow::Result<Exit> {
    let data = data(args.data.as_deref())?;
    let key = key::fresh();
    let body = body(args, &data, &key);
    let place = args.monitor.place();
    let sent = Client::new(&place).post(&key, &body, false, Instant::now() + args.deadline);
    let url = place.url();
    match sent {
        Sent::Accepted => Ok(Exit::Ok),
        Sent::Useless(413) => {
            Err(failed(Exit::Refused, format!("{url} takes no event as large as this one; see server.max_body")))
        }
        Sent::Useless(status) => Err(failed(Exit::Refused, format!("{url} takes no such event (status {status})"))),
        Sent::Unknown(why) => {
            Err(failed(Exit::Unknown, format!("{url} may or may not have the event: {why}; see mpm-monitor status")))
        }
        Sent::NotNow(why) => Err(match why.strip_prefix("it said ") {
            Some("401" | "403") => {
                failed(Exit::NoPermission, format!("{url} wants its token; name the file with --token-file FILE"))
            }
            Some(status) => {
                failed(Exit::NotReady, format!("{url} does not take the event now (status {status}); try again"))
            }
            None => failed(
                Exit::NotRunning,
                format!("no monitor at {url}: {why}; see mpm-monitor status, or start one with mpm-monitor start"),
            ),
        }),
    }
}

/// The data as JSON text.
fn data(said: Option<&str>) -> anyhow::Result<String> {
    let read = |name: &str, from: &mut dyn Read| {
        let mut text = String::new();
        let read = from.take(MOST).read_to_string(&mut text);
        read.map(|_| text).map_err(|e| failed(Exit::Usage, format!("cannot read the data from {name}: {e}")))
    };
    let text = match said {
        None => return Ok("{}".to_owned()),
        Some("-") => read("standard input", &mut std::io::stdin())?,
        Some(file) if file.starts_with('@') => {
            let name = &file[1..];
            let mut file = std::fs::File::open(name)
                .map_err(|e| failed(Exit::Usage, format!("cannot read the data from {name}: {e}")))?;
            read(name, &mut file)?
        }
        Some(text) => text.to_owned(),
    };
    match serde_json::from_str::<&serde_json::value::RawValue>(&text) {
        Ok(json) => Ok(json.get().to_owned()),
        Err(error) => {
            let hint = if said.is_some_and(|s| !s.starts_with(['{', '[', '"'])) {
                format!("; text is written as --data '{}'", quoted(said.unwrap_or_default()))
            } else {
                String::new()
            };
            Err(failed(Exit::Usage, format!("--data is not valid JSON: {error}{hint}")))
        }
    }
}

fn body(args: &Emit, data: &str, key: &str) -> String {
    let cwd = std::env::current_dir().ok().map(|dir| dir.display().to_string());
    // Only an object can be unwrapped by who reads it.
    let inner = if data.starts_with('{') { data.to_owned() } else { Object::new().raw("value", data).end() };
    let event = Object::new()
        .text("type", "cli")
        .text("subtype", args.subtype.as_deref().unwrap_or(&args.event))
        .text("source", "cli")
        .text("timestamp", &format!("{:.6}", jiff::Timestamp::now()))
        .maybe("session_id", args.session.as_deref())
        .maybe("cwd", cwd.as_deref())
        .text("event_id", key)
        .raw("data", &inner);
    Object::new().text("namespace", "").text("event", &args.event).raw("data", &event.end()).end()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_is_json_and_says_what_is_wrong_with_it() {
        assert_eq!(data(None).unwrap(), "{}");
        assert_eq!(data(Some(" [1, 2] ")).unwrap(), "[1, 2]");
        let error = data(Some("hello \"x\"")).unwrap_err().to_string();
        assert!(error.contains("not valid JSON") && error.contains(r#"--data '"hello \"x\""'"#), "{error}");
        assert!(data(Some("@/nonexistent")).unwrap_err().to_string().contains("/nonexistent"));
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("d.json");
        std::fs::write(&path, "{\"a\":1}\n").unwrap();
        assert_eq!(data(Some(&format!("@{}", path.display()))).unwrap(), "{\"a\":1}");
    }
}
