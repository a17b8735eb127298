//! `GET /api/events`: a page of the events that are kept.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::sync::Arc;

use axum::extract::{Query, State};
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use jiff::Timestamp;

use super::answer::{Refusal, json_bytes};
use super::room;
use super::routes::App;
use crate::events::model::Event;
use crate::events::store::{Filter, Page, Place, StoreError};

/// How many events one answer holds unless the request says.
const DEFAULT_LIMIT: usize = 100;
/// The most events of one answer.
const MAX_LIMIT: usize = 1000;

/// What a request for events asks for.
#[derive(Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Events with greater numbers.
    pub after: u64,
    /// At most so many.
    pub limit: usize,
    /// Only those that it lets through.
    pub filter: Filter,
}

impl Wanted {
    /// Reads the query of `GET /api/events`.
    ///
    /// # Errors
    /// 400 `bad_parameter`.
    pub fn parse(uri: &Uri) -> Result<Self, Refusal> {
        let query = Query::<HashMap<String, String>>::try_from_uri(uri).map_err(|e| {
            Refusal::new(StatusCode::BAD_REQUEST, "bad_parameter", format!("the query is malformed: {e}"))
        })?;
        wanted(query.0)
    }
}

fn wanted(query: HashMap<String, String>) -> Result<Wanted, Refusal> {
    let bad = |message: String| Refusal::new(StatusCode::BAD_REQUEST, "bad_parameter", message);
    let mut wanted = Wanted { after: 0, limit: DEFAULT_LIMIT, filter: Filter::default() };
    // In a fixed order, so that the same mistake gets the same answer.
    for (name, value) in BTreeMap::from_iter(query) {
        match name.as_str() {
            "after" => {
                wanted.after = value.parse().map_err(|_| bad(format!("after={value:?} is no event number")))?;
            }
            "limit" => {
                let limit = value.parse().ok().filter(|n| (1..=MAX_LIMIT).contains(n));
                wanted.limit = limit.ok_or_else(|| bad(format!("limit={value:?} is not from 1 to {MAX_LIMIT}")))?;
            }
            "session" => wanted.filter.session = Some(value),
            "type" => wanted.filter.name = Some(value),
            "subtype" => wanted.filter.subtype = Some(value),
            "since" => wanted.filter.since = Some(moment(&name, &value)?),
            "until" => wanted.filter.until = Some(moment(&name, &value)?),
            "node" if value == crate::bus::HERE => wanted.filter.node = Some(Place::Here),
            "node" => wanted.filter.node = Some(Place::Node(value)),
            _ => {
                return Err(bad(format!(
                    "{name:?} is no parameter; there are after, limit, session, type, subtype, since, until and node"
                )));
            }
        }
    }
    Ok(wanted)
}

/// A moment as RFC 3339 has it, or in seconds since 1970.
fn moment(name: &str, value: &str) -> Result<Timestamp, Refusal> {
    let seconds = || {
        let seconds = value.parse::<f64>().ok().filter(|s| s.is_finite())?;
        // What is too far away for an integer is so for a timestamp.
        Timestamp::from_microsecond((seconds * 1e6).round() as i64).ok()
    };
    value.parse().ok().or_else(seconds).ok_or_else(|| {
        let message = format!("{name}={value:?} is no moment; write 2026-01-31T12:00:00Z, or seconds since 1970");
        Refusal::new(StatusCode::BAD_REQUEST, "bad_parameter", message)
    })
}

/// `GET /api/events`.
pub async fn list(State(app): State<Arc<App>>, uri: Uri) -> Response {
    match page(&app, &uri).await {
        Ok(page) => json_bytes(StatusCode::OK, page),
        Err(refusal) => refusal.into_response(),
    }
}

async fn page(app: &App, uri: &Uri) -> Result<Bytes, Refusal> {
    let wanted = Wanted::parse(uri)?;
    let room = room::for_answer().await?;
    let store = &app.context.store;
    let text = match store.after(wanted.after, wanted.limit, &wanted.filter).await {
        Ok(page) => render(&page, wanted.after, store.epoch(), "store"),
        Err(error @ (StoreError::Read(_) | StoreError::File { .. })) => {
            tracing::warn!(%error, "events are read from memory");
            let page = remembered(&app.context.hub.kept(), &wanted);
            render(&page, wanted.after, store.epoch(), "memory")
        }
        Err(error) => return Err(error.into()),
    };
    // Its room is that of its length.
    let mut text = text.into_bytes();
    text.shrink_to_fit();
    Ok(room.held_by(text))
}

/// The page as far as the newest events go, which are in memory: better than none while the disk cannot be read.
fn remembered(kept: &[Arc<Event>], wanted: &Wanted) -> Page {
    let last_seq = kept.last().map_or(0, |e| e.seq);
    let mut fit = kept.iter().filter(|e| e.seq > wanted.after && wanted.filter.fits(e));
    let events = fit.by_ref().take(wanted.limit).map(|e| Event::clone(e)).collect();
    let oldest_seq = kept.first().map_or(last_seq + 1, |e| e.seq);
    Page { events, last_seq, oldest_seq, complete: fit.next().is_none(), damaged: 0, next: None }
}

/// Payloads are JSON already and go out as they are. `next` is what to pass as `after` to go on: where more
/// events fit the last one of the page, else the newest of all, for then everything up to it was looked at.
fn render(page: &Page, after: u64, epoch: &str, source: &str) -> String {
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let size = page.events.iter().map(|e| e.draft.payload.len() + 96).sum::<usize>();
    let mut out = String::with_capacity(size + 128);
    out.push_str("{\"success\":true,\"events\":[");
    for (index, event) in page.events.iter().enumerate() {
        let comma = if index > 0 { "," } else { "" };
        // Writing to a String cannot fail.
        let _ = write!(
            out,
            "{comma}{{\"seq\":{},\"id\":\"{epoch}-{}\",\"accepted\":\"{}\",\"name\":{},",
            event.seq,
            event.seq,
            event.accepted,
            quoted(&event.draft.name),
        );
        if let Some(origin) = &event.origin {
            let (node, epoch) = (quoted(&origin.node), quoted(&origin.epoch));
            let _ = write!(out, "\"node\":{node},\"node_epoch\":{epoch},\"node_seq\":{},", origin.seq);
        }
        let _ = write!(out, "\"payload\":{}}}", event.draft.payload);
    }
    let next = match page.events.last() {
        Some(last) if !page.complete => last.seq,
        _ => page.last_seq.max(after),
    };
    let _ = write!(
        out,
        "],\"last_seq\":{},\"oldest_seq\":{},\"next\":{next},\"epoch\":{},\"source\":\"{source}\"}}",
        page.last_seq,
        page.oldest_seq,
        quoted(epoch)
    );
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::events::model::Draft;

    fn ask(pairs: &[(&str, &str)]) -> Result<Wanted, &'static str> {
        wanted(pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect()).map_err(|r| r.code)
    }

    #[test]
    fn parameters_have_bounds_and_unknown_ones_are_told() {
        let all = ask(&[("after", "7"), ("limit", "1000"), ("type", "tool_event"), ("session", "s")]).unwrap();
        assert_eq!((all.after, all.limit, all.filter.name.as_deref()), (7, 1000, Some("tool_event")));
        assert_eq!(ask(&[]).unwrap().limit, 100);
        let bad = [("limit", "0"), ("limit", "1001"), ("limit", "x"), ("after", "-1"), ("before", "1")];
        for bad in bad.into_iter().chain([("since", "yesterday"), ("until", "2026-13-01T00:00:00Z"), ("since", "NaN")])
        {
            assert_eq!(ask(&[bad]), Err("bad_parameter"), "{bad:?}");
        }
    }

    #[test]
    fn moments_are_written_as_time_or_as_seconds() {
        let filter = |pairs| ask(pairs).unwrap().filter;
        let time = filter(&[("since", "2026-01-31T13:00:00.5+01:00"), ("until", "1769860801")]);
        assert_eq!(time.since, Timestamp::from_millisecond(1_769_860_800_500).ok());
        assert_eq!(time.until, Timestamp::from_second(1_769_860_801).ok());
        assert_eq!(filter(&[("since", "1769860800.5")]).since, time.since);
    }

    #[test]
    fn a_page_is_json_and_says_where_to_go_on() {
        let draft = Draft { name: "a\"b".into(), subtype: "x".into(), session: None, payload: r#"{"k":[1]}"#.into() };
        let event = |seq| Event { seq, accepted: jiff::Timestamp::UNIX_EPOCH, origin: None, draft: draft.clone() };
        let page = Page {
            events: vec![event(3), event(4)],
            last_seq: 9,
            oldest_seq: 1,
            complete: false,
            damaged: 0,
            next: None,
        };
        let value: serde_json::Value = serde_json::from_str(&render(&page, 2, "e", "store")).unwrap();
        assert_eq!((&value["next"], &value["events"][0]["payload"]["k"][0]), (&json!(4), &json!(1)));
        assert_eq!((&value["events"][1]["id"], &value["events"][1]["name"]), (&json!("e-4"), &json!("a\"b")));
        assert_eq!(value["events"][0]["accepted"], "1970-01-01T00:00:00Z");
        let all = Page { complete: true, ..page };
        let value: serde_json::Value = serde_json::from_str(&render(&all, 2, "e", "memory")).unwrap();
        assert_eq!((&value["next"], &value["source"]), (&json!(9), &json!("memory")));
    }

    #[test]
    fn memory_answers_the_same_questions() {
        let event = |seq: u64| {
            let session = seq.is_multiple_of(2).then(|| "even".to_owned());
            let draft = Draft { name: "n".into(), subtype: "x".into(), session, payload: "{}".into() };
            Arc::new(Event { seq, accepted: Timestamp::UNIX_EPOCH, origin: None, draft })
        };
        let kept: Vec<_> = (5..=10).map(event).collect();
        let page = |pairs| remembered(&kept, &ask(pairs).unwrap());
        let seqs = |page: &Page| page.events.iter().map(|e| e.seq).collect::<Vec<_>>();
        let all = page(&[]);
        assert_eq!((seqs(&all), all.oldest_seq, all.last_seq, all.complete), (vec![5, 6, 7, 8, 9, 10], 5, 10, true));
        let some = page(&[("after", "6"), ("limit", "1"), ("session", "even")]);
        assert_eq!((seqs(&some), some.complete), (vec![8], false));
        assert_eq!(remembered(&[], &ask(&[]).unwrap()).oldest_seq, 1);
    }
}
