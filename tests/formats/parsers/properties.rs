//! What must hold for every parser whatever it reads, one function for each. The fuzz targets in `fuzz/` call them with
//! bytes that libFuzzer finds, the tests beside this file with the committed seeds and with generated input.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::{Arc, OnceLock};

use axum::http::request::Parts;
use axum::http::{Request, Uri};
use bytes::Bytes;
use daemon::ledger::Ledger;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use mpm_monitor::config::{Directories, Settings, Token, layers, settings};
use mpm_monitor::events::ingest::{self, client};
use mpm_monitor::events::model::{Dialect, Draft, Event};
use mpm_monitor::events::shown::Shown;
use mpm_monitor::events::store::journal;
use mpm_monitor::server::access::Access;
use mpm_monitor::server::event_pages::Wanted;
use mpm_monitor::server::feed::resume::Resume;
use mpm_monitor::server::guard::{self, Allowed};
use mpm_monitor::server::stream::Ends;
use serde_json::Value;
use serde_json::value::RawValue;
use service::journal::{ctl, since};
use service::launchd::print;
use service::manager::Phase;
use service::receipt::Receipt;
use service::systemd::show;
use socketio::memory::{Memory, Unlimited};
use socketio::packet::{Engine, Kind, MAX_ATTACHMENTS, Packet};
use socketio::payload::{self, Part};
use socketio::reader::{Next, Reader};
use socketio::turn::Turn;

/// One parser: the name of its fuzz target and of its seeds' folder, and what must hold for it.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: &[Target] = &[
    ("engine_packet", engine_packet),
    ("polling_payload", polling_payload),
    ("socketio_packet", socketio_packet),
    ("websocket", websocket),
    ("ingest_wrapped", ingest_wrapped),
    ("ingest_pass_through", ingest_pass_through),
    ("client_events", client_events),
    ("events_query", events_query),
    ("guard", guard),
    ("config_file", config_file),
    ("receipt", receipt),
    ("ledger", ledger),
    ("systemctl_show", systemctl_show),
    ("journal_json", journal_json),
    ("since", since),
    ("event_record", event_record),
    ("launchctl_print", launchctl_print),
    ("auth_payload", auth_payload),
];

/// The target of that name.
///
/// # Panics
/// When there is none.
pub fn run(name: &str, data: &[u8]) {
    let (_, check) = TARGETS.iter().find(|(n, _)| *n == name).expect("a target of that name");
    check(data);
}

/// What can be read is written and read again as the same.
fn engine_packet(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(packet) = Engine::parse(text) {
        assert_eq!(Engine::parse(&packet.encode()), Ok(packet));
    }
}

/// No packet is lost or invented, and a body is its packets joined.
fn polling_payload(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let body = Bytes::copy_from_slice(data);
    let packets: Vec<Bytes> = payload::split(&body).collect();
    assert_eq!(payload::join(packets.clone()), body);
    let Ok(parts) = payload::parse(text).map(|(_, part)| part).collect::<Result<Vec<_>, _>>() else { return };
    assert_eq!(parts.len(), packets.len());
    for (part, packet) in parts.iter().zip(&packets) {
        match part {
            Part::Text(engine) => assert_eq!(Engine::parse(std::str::from_utf8(packet).unwrap()).as_ref(), Ok(engine)),
            Part::Binary(bytes) => assert!(packet[0] == b'b' && bytes.len() < packet.len()),
        }
    }
}

/// What can be read is written and read again as the same, within the bounds, and an event's arguments are JSON.
fn socketio_packet(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(packet) = Packet::parse(text) else { return };
    assert_eq!(Packet::parse(&packet.encode()), Ok(packet));
    assert!(packet.attachments <= MAX_ATTACHMENTS && packet.namespace.starts_with('/'));
    if matches!(packet.kind, Kind::Event | Kind::BinaryEvent) {
        let (_, arguments) = packet.event().unwrap();
        for argument in arguments {
            // Checks the grammar again, from nothing.
            serde_json::from_str::<&RawValue>(argument.get()).unwrap();
        }
    }
}

/// The largest message that is read.
const MAX_PAYLOAD: usize = 1_000_000;

/// Gives its bytes in pieces, and between two of them says that there are none for now, as a socket does.
struct Pieces<'a> {
    rest: &'a [u8],
    piece: usize,
    pause: bool,
}

impl Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if std::mem::replace(&mut self.pause, true) {
            self.pause = false;
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let length = self.piece.min(self.rest.len()).min(buffer.len());
        buffer[..length].copy_from_slice(&self.rest[..length]);
        self.rest = &self.rest[length..];
        Ok(length)
    }
}

/// Everything the reader says of a stream that comes in pieces of that size, the pauses left out, and its replies.
fn frames(data: &[u8], piece: usize) -> (Vec<Next>, Vec<u8>) {
    let mut source = Pieces { rest: data, piece, pause: false };
    let memory: Arc<dyn Memory> = Arc::new(Unlimited);
    let mut reader = Reader::new(&Bytes::new(), MAX_PAYLOAD, &memory);
    let (mut all, mut replies) = (Vec::new(), Vec::new());
    loop {
        let next = reader.next_from(&mut source, &mut Turn::begin());
        replies.extend_from_slice(&reader.take_reply());
        match next {
            Next::Idle | Next::Later => {}
            Next::Message(_) => all.push(next),
            Next::Closed | Next::Failed(..) => {
                all.push(next);
                return (all, replies);
            }
        }
        // Each message needs two bytes at least, each pause one.
        assert!(all.len() <= data.len());
    }
}

/// The same messages and replies however the bytes arrive, and no more than was sent.
fn websocket(data: &[u8]) {
    let (whole, replies) = frames(data, usize::MAX);
    let (bytewise, same) = frames(data, 1);
    assert_eq!(whole, bytewise);
    assert_eq!(replies, same);
    let size: usize = whole.iter().map(|n| if let Next::Message(m) = n { m.len() } else { 0 }).sum();
    assert!(size <= data.len() && size <= MAX_PAYLOAD.max(data.len()));
    // A pong is no longer than its ping, and a close frame has at most 127 bytes.
    assert!(replies.len() <= data.len() + 127, "{} bytes answer {}", replies.len(), data.len());
}

/// JSON without the whitespace between its tokens, by another way than the crate's.
fn compact(json: &str) -> String {
    let (mut inside, mut escaped) = (false, false);
    let mut keep = |c: char| {
        let kept = inside || !matches!(c, ' ' | '\t' | '\n' | '\r');
        let ends = c == '"' && !escaped;
        escaped = inside && c == '\\' && !escaped;
        inside ^= ends;
        kept
    };
    json.chars().filter(|c| keep(*c)).collect()
}

#[derive(serde::Deserialize)]
struct Payload<'a> {
    #[serde(borrow)]
    data: &'a RawValue,
    #[serde(borrow)]
    r#type: &'a RawValue,
}

/// What every event is: JSON that goes out to the clients as JSON, under names that are JSON strings.
fn shown(draft: Draft) {
    serde_json::from_str::<&RawValue>(&draft.payload).expect("the payload is JSON");
    assert_eq!(compact(&draft.payload), *draft.payload, "the payload is compact");
    let event = Event { seq: 7, accepted: Timestamp::UNIX_EPOCH, origin: None, draft };
    let shown = Shown::new(event, "0123abcd");
    for array in shown.arrays() {
        let items: Vec<&RawValue> = serde_json::from_slice(&array).expect("what goes out is JSON");
        assert_eq!(items.len(), 2);
        serde_json::from_str::<String>(items[0].get()).expect("the name is a string");
    }
    serde_json::from_slice::<&RawValue>(shown.payload()).expect("what is kept is JSON");
}

fn ingest_wrapped(data: &[u8]) {
    let Ok(draft) = ingest::draft(data, Dialect::Wrapped, Timestamp::UNIX_EPOCH) else { return };
    let payload: Payload<'_> = serde_json::from_str(&draft.payload).unwrap();
    let body = compact(std::str::from_utf8(data).unwrap());
    assert!(payload.data.get() == "{}" || body.contains(payload.data.get()), "data is not what was posted");
    assert_eq!(payload.r#type.get(), format!("\"{}\"", draft.name));
    assert!(draft.payload.len() <= body.len() * 8 + 400, "{} of {}", draft.payload.len(), body.len());
    shown(draft);
}

fn ingest_pass_through(data: &[u8]) {
    let Ok(draft) = ingest::draft(data, Dialect::PassThrough, Timestamp::UNIX_EPOCH) else { return };
    let body = compact(std::str::from_utf8(data).unwrap());
    assert!(&*draft.payload == "{}" || body.contains(&*draft.payload), "data is not what was posted");
    shown(draft);
}

/// As `claude_event` and as `hook:ingest`; both get JSON only.
fn client_events(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    // As the packet's parser hands it over: valid, and without whitespace around it.
    let Ok(argument) = serde_json::from_str::<&RawValue>(text) else { return };
    let body = compact(argument.get());
    for make in [client::claude_event, client::hook_ingest] {
        let Ok(draft) = make(argument.get(), Timestamp::UNIX_EPOCH) else { continue };
        let payload: Payload<'_> = serde_json::from_str(&draft.payload).unwrap();
        assert!(payload.data.get() == "{}" || body.contains(payload.data.get()), "data is not what was sent");
        assert!(draft.payload.len() <= body.len() * 3 + 500);
        shown(draft);
    }
}

fn events_query(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(uri) = format!("/api/events?{text}").parse::<Uri>() else { return };
    match Wanted::parse(&uri) {
        Ok(wanted) => assert!((1..=1000).contains(&wanted.limit)),
        Err(refusal) => assert_eq!((refusal.status.as_u16(), refusal.code), (400, "bad_parameter")),
    }
}

/// A host or origin that is let in names this machine, by another reading than the crate's.
fn names_this_machine(authority: &str) -> bool {
    let digits = authority.trim_end_matches(|c: char| c.is_ascii_digit());
    let host = digits.strip_suffix(':').unwrap_or(authority);
    if host.eq_ignore_ascii_case("localhost") {
        return true;
    }
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    let address = bare.parse::<IpAddr>().map(|a| a.to_canonical());
    matches!(address, Ok(IpAddr::V4(Ipv4Addr::LOCALHOST))) || address.is_ok_and(|a| a.is_loopback() && a.is_ipv6())
}

/// Only who says the token may write, and only who says it may do anything from elsewhere.
fn token(head: &Parts, settings: &Settings, local: IpAddr) {
    let said = head.headers.get_all("authorization").iter().any(|v| {
        v.to_str().is_ok_and(|v| v.split_once(' ').is_some_and(|(_, token)| token.trim() == "0123456789abcdef"))
    });
    let far = Ends::Tcp { local, peer: IpAddr::from([192, 0, 2, 7]) };
    let near = Ends::Tcp { local, peer: local };
    assert!(said || Access::of(&head.headers, far, settings) == Access::NONE);
    assert!(said || !Access::of(&head.headers, near, settings).write);
}

fn nowhere() -> Directories {
    Directories { system_config: "/c".into(), user_config: None, state: "/s".into(), runtime: "/r".into() }
}

/// The first line is method and target, each further one a header.
fn guard(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut lines = text.lines();
    let Some((method, target)) = lines.next().and_then(|l| l.split_once(' ')) else { return };
    let mut request = Request::builder().method(method).uri(target);
    for (name, value) in lines.filter_map(|l| l.split_once(": ")) {
        request = request.header(name, value);
    }
    let Ok(request) = request.body(()) else { return };
    let (head, ()) = request.into_parts();
    let listed = "https://board.example";
    static SETTINGS: OnceLock<Settings> = OnceLock::new();
    let settings = SETTINGS.get_or_init(|| Settings {
        allow_origin: vec![listed.to_owned()],
        token: Token::new("0123456789abcdef").ok(),
        ..settings::settle(layers::Merged::default(), &nowhere()).unwrap().0
    });
    let local = IpAddr::from(Ipv4Addr::LOCALHOST);
    token(&head, settings, local);
    let Ok(allowed) = guard::check(&head, Ends::Tcp { local, peer: local }, settings) else { return };
    let hosts: Vec<_> = head.headers.get_all("host").iter().collect();
    assert_eq!(hosts.len(), 1, "exactly one host");
    assert!(names_this_machine(hosts[0].to_str().unwrap()), "{hosts:?}");
    if let Some(authority) = head.uri.authority() {
        assert!(names_this_machine(authority.as_str()), "{authority}");
    }
    let origins: Vec<_> = head.headers.get_all("origin").iter().collect();
    match allowed {
        Allowed::Program | Allowed::OtherPage(None) => assert!(origins.is_empty()),
        Allowed::OwnPage(ref origin) | Allowed::OtherPage(Some(ref origin)) => {
            assert_eq!(origins, [origin]);
            let origin = origin.to_str().unwrap();
            let ours = origin
                .split_once("://")
                .is_some_and(|(scheme, authority)| matches!(scheme, "http" | "https") && names_this_machine(authority));
            assert!(ours || origin.eq_ignore_ascii_case(listed), "{origin}");
        }
    }
}

/// What is valid means the same after it was shown and read again, and listens on loopback only.
fn config_file(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let directories = nowhere();
    let settle =
        |text: &str| settings::settle(layers::merge(vec![layers::from_toml(Path::new("/c"), text)]), &directories);
    match settle(text) {
        Ok((settings, provenance)) => {
            assert!(!settings.bind.is_empty() && settings.max_clients <= settings.max_connections);
            let (again, _) = settle(&provenance.to_toml(true)).expect("what is shown can be read");
            assert_eq!(again, settings);
        }
        Err(problems) => {
            assert!(!problems.is_empty());
            for problem in problems {
                if let layers::Origin::File(_, line) = problem.origin {
                    assert!((1..=text.matches('\n').count() + 1).contains(&line), "line {line}");
                }
            }
        }
    }
}

fn receipt(data: &[u8]) {
    let Ok(receipt) = serde_json::from_slice::<Receipt>(data) else { return };
    assert_eq!(serde_json::from_str::<Receipt>(&receipt.to_text()).unwrap(), receipt);
}

/// What can be read of the events' journal is written again byte for byte; what cannot is never read by a length it claims.
fn event_record(data: &[u8]) {
    let Ok((record, taken)) = journal::parse(data) else { return };
    let event = record.to_event();
    let mut again = Vec::new();
    record.key.into_iter().for_each(|key| journal::encode_key(&mut again, key));
    journal::encode(&mut again, event.seq, event.accepted, event.origin.as_deref(), &event.draft).unwrap();
    assert_eq!(again, &data[..taken]);
}

/// Nothing but a plain line makes a job running.
fn launchctl_print(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let job = print::job(&text);
    if job.phase() == Phase::Running {
        assert!(text.contains("\tstate = running") && job.pid.is_some_and(|pid| pid > 0));
    }
    let _ = (print::labels(&text), print::is_disabled(&text, "mpm-monitor.8765"));
}

/// What a client says when it enters: a number to resume from is one that it said.
fn auth_payload(data: &[u8]) {
    let Ok(auth) = serde_json::from_slice::<serde_json::Map<String, Value>>(data) else { return };
    assert_eq!(Resume::of(&auth).is_some(), auth.get("last_seq").is_some_and(Value::is_u64));
}

/// Whatever the file says, a life can begin, become ready, and end.
fn ledger(data: &[u8]) {
    let Ok(mut ledger) = serde_json::from_slice::<Ledger>(data) else { return };
    let text = serde_json::to_string(&ledger).unwrap();
    assert_eq!(serde_json::from_str::<Ledger>(&text).unwrap(), ledger);
    ledger.begin(1, "boot", Timestamp::UNIX_EPOCH, None);
    ledger.ready();
    ledger.crash("reason", Timestamp::UNIX_EPOCH);
    assert!(ledger.starts > 0 && ledger.consecutive_failures > 0 && ledger.life.is_none());
}

fn systemctl_show(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let job = show::job(&text);
    assert_ne!(job.pid, Some(0));
    assert!(job.started_usec.is_none() || job.pid.is_some());
    let ports = show::ports("mpm-monitor", &text);
    assert!(ports.is_sorted_by(|a, b| a < b));
    let _ = show::version(&text);
}

/// A line of the journal stays one line of JSON, and cannot steer the terminal it is shown on.
fn journal_json(data: &[u8]) {
    let Ok(line) = std::str::from_utf8(data) else { return };
    let Some(entry) = ctl::entry(line) else { return };
    let json = entry.json();
    assert!(!json.contains('\n'));
    assert_eq!(serde_json::from_str::<BTreeMap<String, String>>(&json).unwrap(), entry.fields);
    let human = entry.human(&TimeZone::UTC);
    assert!(!human.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\t')), "{human:?}");
}

fn since(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let now = "2026-11-22T12:00:00Z".parse::<Timestamp>().unwrap().to_zoned(TimeZone::UTC);
    match since::parse(text, &now) {
        Ok(at) if text.trim_end().ends_with("ago") => assert!(at <= now.timestamp(), "{at} is not ago"),
        Ok(_) => {}
        Err(error) => assert!(error.to_string().contains("10 min ago"), "no example: {error}"),
    }
}

/// A seed is what a real program said or sent: at least one of each target's must be understood, or the target proves
/// nothing.
#[allow(dead_code)] // the fuzz targets need no such assurance
pub fn is_understood(name: &str, data: &[u8]) -> bool {
    let text = std::str::from_utf8(data);
    match name {
        "engine_packet" => text.is_ok_and(|t| Engine::parse(t).is_ok()),
        "polling_payload" => text.is_ok_and(|t| payload::parse(t).all(|(_, part)| part.is_ok())),
        "socketio_packet" => text.is_ok_and(|t| Packet::parse(t).is_ok()),
        "websocket" => matches!(frames(data, usize::MAX).0.first(), Some(Next::Message(_))),
        "ingest_wrapped" => ingest::draft(data, Dialect::Wrapped, Timestamp::UNIX_EPOCH).is_ok(),
        "ingest_pass_through" => ingest::draft(data, Dialect::PassThrough, Timestamp::UNIX_EPOCH).is_ok(),
        "client_events" => text.is_ok_and(|t| client::hook_ingest(t, Timestamp::UNIX_EPOCH).is_ok()),
        "events_query" => {
            text.is_ok_and(|t| format!("/?{t}").parse::<Uri>().is_ok_and(|uri| Wanted::parse(&uri).is_ok()))
        }
        "guard" => text.is_ok_and(|t| t.contains("host: localhost")),
        "config_file" => text.is_ok_and(|t| layers::from_toml(Path::new("/c"), t).problems.is_empty()),
        "receipt" => serde_json::from_slice::<Receipt>(data).is_ok(),
        "ledger" => serde_json::from_slice::<Ledger>(data).is_ok(),
        "systemctl_show" => show::job(&String::from_utf8_lossy(data)).loaded,
        "journal_json" => text.is_ok_and(|t| ctl::entry(t).is_some()),
        "event_record" => journal::parse(data).is_ok(),
        "launchctl_print" => print::job(&String::from_utf8_lossy(data)).phase() == Phase::Running,
        "auth_payload" => serde_json::from_slice(data).is_ok_and(|auth| Resume::of(&auth).is_some()),
        "since" => serde_json::from_slice::<Value>(data).is_err() && text.is_ok_and(|t| !t.is_empty()),
        _ => false,
    }
}
