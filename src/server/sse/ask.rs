//! What a request for the stream asks for.

use std::collections::{BTreeMap, HashMap};

use axum::extract::Query;
use axum::http::{HeaderMap, Request, StatusCode, header};

use crate::events::store::{self, Filter};
use crate::server::answer::Refusal;

/// What `EventSource` says when it comes back.
const LAST_EVENT_ID: &str = "last-event-id";

/// The last event that a reader has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Its number.
    pub seq: u64,
    /// The store that the number is from, where it was said.
    pub epoch: Option<String>,
}

impl Place {
    /// `EPOCH-NUMBER`, as ids are, or a number alone.
    fn parse(text: &str) -> Option<Self> {
        let (epoch, seq) = match text.rsplit_once('-') {
            None => (None, text),
            Some((epoch, seq)) => (Some(epoch).filter(|e| !e.is_empty() && e.len() <= 64), seq),
        };
        let digits = !seq.is_empty() && seq.bytes().all(|b| b.is_ascii_digit());
        if epoch.is_none() && text.contains('-') || !digits {
            return None;
        }
        Some(Self { seq: seq.parse().ok()?, epoch: epoch.map(str::to_owned) })
    }
}

/// See the module.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Ask {
    /// Where to go on; live events alone where nothing is said.
    pub from: Option<Place>,
    /// Which events.
    pub filter: Filter,
}

impl Ask {
    /// Reads a request.
    ///
    /// # Errors
    /// 406 `not_acceptable`, 400 `bad_parameter`.
    pub fn of<B>(request: &Request<B>) -> Result<Self, Refusal> {
        if !accepts(request.headers()) {
            let message = "this is a stream of server-sent events; accept text/event-stream";
            return Err(Refusal::new(StatusCode::NOT_ACCEPTABLE, "not_acceptable", message));
        }
        let query = Query::<HashMap<String, String>>::try_from_uri(request.uri())
            .map_err(|e| bad(format!("the query is malformed: {e}")))?;
        let mut ask = Self::default();
        // In a fixed order, so that the same mistake gets the same answer.
        for (name, value) in BTreeMap::from_iter(query.0) {
            match name.as_str() {
                "after" => ask.from = Some(place("after", &value)?),
                "session" => ask.filter.session = Some(value),
                "type" => ask.filter.name = Some(value),
                "subtype" => ask.filter.subtype = Some(value),
                "node" if value == crate::bus::HERE => ask.filter.node = Some(store::Place::Here),
                "node" => ask.filter.node = Some(store::Place::Node(value)),
                _ => {
                    let there_are = "after, session, type, subtype and node";
                    return Err(bad(format!("{name:?} is no parameter; there are {there_are}")));
                }
            }
        }
        // The address stays the same when a reader comes back, so what it says then is newer.
        if let Some(said) = request.headers().get(LAST_EVENT_ID).filter(|said| !said.is_empty()) {
            ask.from = Some(place("Last-Event-ID", said.to_str().unwrap_or("?"))?);
        }
        Ok(ask)
    }
}

fn place(name: &str, value: &str) -> Result<Place, Refusal> {
    Place::parse(value).ok_or_else(|| {
        let value: String = value.chars().take(80).collect();
        bad(format!("{name}: {value:?} is no event's id or number"))
    })
}

fn bad(message: String) -> Refusal {
    Refusal::new(StatusCode::BAD_REQUEST, "bad_parameter", message)
}

/// Whether the client takes what there is. Who says nothing takes everything.
fn accepts(headers: &HeaderMap) -> bool {
    let mut said = headers.get_all(header::ACCEPT).iter().peekable();
    if said.peek().is_none() {
        return true;
    }
    let mut kinds = said.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    kinds.any(|kind| {
        let mut parts = kind.split(';').map(str::trim);
        let fits = parts.next().is_some_and(|kind| {
            ["text/event-stream", "text/*", "*/*"].iter().any(|ours| ours.eq_ignore_ascii_case(kind))
        });
        let is_refused = |part: &str| {
            part.split_once('=').is_some_and(|(name, value)| {
                name.trim().eq_ignore_ascii_case("q") && value.trim().parse::<f32>().is_ok_and(|q| q == 0.0)
            })
        };
        fits && !parts.any(is_refused)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(query: &str, headers: &[(&str, &str)]) -> Result<Ask, &'static str> {
        let mut request = Request::builder().uri(format!("/api/stream{query}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        Ask::of(&request.body(()).unwrap()).map_err(|r| r.code)
    }

    fn place(seq: u64, epoch: Option<&str>) -> Option<Place> {
        Some(Place { seq, epoch: epoch.map(str::to_owned) })
    }

    #[test]
    fn what_the_header_says_is_newer_than_the_address() {
        assert_eq!(ask("", &[]), Ok(Ask::default()));
        assert_eq!(ask("?after=7", &[]).unwrap().from, place(7, None));
        assert_eq!(ask("?after=0a-7", &[("last-event-id", "")]).unwrap().from, place(7, Some("0a")));
        assert_eq!(ask("?after=7", &[("last-event-id", "ab-9")]).unwrap().from, place(9, Some("ab")));
        let of = |query: &str| ask(query, &[]).unwrap().filter.node;
        assert_eq!(of("?node=local"), Some(store::Place::Here));
        assert_eq!(of("?node=b"), Some(store::Place::Node("b".into())));
        let all = ask("?session=s&type=t&subtype=u", &[]).unwrap().filter;
        let (session, name, subtype) = (Some("s".into()), Some("t".into()), Some("u".into()));
        assert_eq!(all, Filter { session, name, subtype, ..Filter::default() });
    }

    #[test]
    fn nonsense_is_refused() {
        for query in
            ["?after=", "?after=x", "?after=-1", "?after=a-", "?after=+1", "?after=99999999999999999999", "?a=1"]
        {
            assert_eq!(ask(query, &[]), Err("bad_parameter"), "{query}");
        }
        assert_eq!(ask("", &[("last-event-id", "mine")]), Err("bad_parameter"));
        assert_eq!(ask("?after=1&limit=3", &[]), Err("bad_parameter"));
    }

    #[test]
    fn only_who_takes_a_stream_gets_one() {
        for good in ["text/event-stream", "*/*", "text/html, Text/Event-Stream;q=0.5", "text/*;q=0.1"] {
            assert!(ask("", &[("accept", good)]).is_ok(), "{good}");
        }
        for bad in ["application/json", "text/html", "", "text/event-stream;q=0", "*/*; q=0.0"] {
            assert_eq!(ask("", &[("accept", bad)]), Err("not_acceptable"), "{bad}");
        }
    }
}
