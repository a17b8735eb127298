//! Events that are meant to break whoever reads them.

use super::Victim;
use testkit::http;
use testkit::wire::{Sio, connect};

fn post(victim: &Victim, body: &[u8]) -> (u16, String) {
    let head = format!(
        "POST /api/events HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let (answer, _) = testkit::wire::raw(victim.port, &[head.as_bytes(), body].concat()).unwrap();
    (testkit::wire::status(&answer), testkit::wire::code(&answer))
}

#[test]
fn bodies_that_are_no_events_have_their_codes() {
    let victim = Victim::new(&[]);
    let nested = |open: &str, close: &str, n: usize| format!("{{\"data\":{}1{}}}", open.repeat(n), close.repeat(n));
    let cases: [(&str, Vec<u8>, &str); 12] = [
        ("arrays, 100 000 deep", nested("[", "]", 100_000).into(), "nested_too_deep"),
        ("objects, 100 000 deep", nested("{\"a\":", "}", 100_000).into(), "nested_too_deep"),
        ("data in data, 100 000 deep", nested("{\"data\":", "}", 100_000).into(), "nested_too_deep"),
        ("100 000 open brackets", "[".repeat(100_000).into(), "malformed_json"),
        ("bytes that are no UTF-8", b"{\"data\":{\"a\":\"\xff\xfe\"}}".to_vec(), "invalid_utf8"),
        ("an overlong NUL", b"{\"data\":{\"a\":\"\xc0\x80\"}}".to_vec(), "invalid_utf8"),
        ("a surrogate in UTF-8", b"{\"data\":{\"a\":\"\xed\xa0\x80\"}}".to_vec(), "invalid_utf8"),
        ("UTF-16", "{\"event\":\"x\"}".encode_utf16().flat_map(u16::to_le_bytes).collect(), "malformed_json"),
        ("a raw NUL", b"{\"data\":{\"a\":\"\0\"}}".to_vec(), "malformed_json"),
        ("NaN", b"{\"data\":{\"a\":NaN}}".to_vec(), "malformed_json"),
        ("two values", b"{}{}".to_vec(), "malformed_json"),
        ("nothing", Vec::new(), "malformed_json"),
    ];
    for (what, body, expected) in cases {
        assert_eq!(post(&victim, &body), (400, expected.to_owned()), "{what}");
    }
    victim.survived("bad_bodies", 0, 16);
}

/// Valid, if strange: these reach every subscriber as they were posted.
#[test]
fn strange_events_reach_subscribers_as_they_are() {
    let victim = Victim::new(&[]);
    let digits = "9".repeat(100_000);
    let strange = [
        r#"{"n":1e400,"m":-1e-400,"k":12345678901234567890.0}"#.to_owned(),
        format!(r#"{{"n":{digits},"m":-0.{digits}}}"#),
        r#"{"lone":"\ud800","pair":"\ud83d\ude00","nul":"\u0000","esc":"\u001b[2J"}"#.to_owned(),
        r#"{"a":1,"a":2,"":3}"#.to_owned(),
        r#"{"__proto__":{"x":1},"constructor":{}}"#.to_owned(),
        r#"{"html":"</script><img src=x onerror=alert(1)>"}"#.to_owned(),
        "{\"u\":\"\u{2028}\u{2029}\u{feff}\u{202e}\u{1e}\u{7f}\"}".to_owned(),
    ];
    let mut client = Sio::join(connect(victim.port).unwrap()).unwrap();
    client.until("42[\"history\"").unwrap();
    // JSON forbids raw control characters below U+0020, so this one is refused.
    let forbidden = strange.iter().position(|s| s.contains('\u{1e}')).unwrap();
    for (n, data) in strange.iter().enumerate() {
        let body = format!(r#"{{"event":"claude_event","data":{{"subtype":"strange-{n}","data":{data}}}}}"#);
        if n == forbidden {
            assert_eq!(post(&victim, body.as_bytes()), (400, "malformed_json".to_owned()));
            continue;
        }
        assert_eq!(post(&victim, body.as_bytes()).0, 204, "{n}");
        let text = client.until(&format!("strange-{n}")).unwrap();
        assert!(text.contains(&format!("\"data\":{data},")), "{n}: {}", &text[..text.len().min(300)]);
    }
    let page = http::get(victim.port, "/api/events?limit=1000&after=50").unwrap();
    for (_, data) in strange.iter().enumerate().filter(|(n, _)| *n != forbidden) {
        assert!(page.body.contains(data.as_str()), "not in the history: {}", &data[..data.len().min(80)]);
    }
    drop(client);
    victim.survived("strange_events", strange.len() as u64 - 1, 16);
}
