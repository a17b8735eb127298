//! Who is let in, form by form.

use super::*;
use axum::http::Request;

const LOCAL: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

fn settings() -> Settings {
    Settings {
        allow_origin: vec!["https://board.example".to_owned()],
        allow_host: vec!["monitor.example".to_owned()],
        ..crate::config::settings::defaults()
    }
}

fn decide(method: &str, target: &str, headers: &[(&str, &str)], local: IpAddr) -> Result<Allowed, (u16, &'static str)> {
    let mut request = Request::builder().method(method).uri(target);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let (head, ()) = request.body(()).unwrap().into_parts();
    let ends = Ends::Tcp { local, peer: LOCAL };
    check(&head, ends, &settings()).map_err(|r| (r.status.as_u16(), r.code))
}

fn host(host: &str) -> bool {
    decide("POST", "/api/events", &[("host", host)], LOCAL).is_ok()
}

fn origin(origin: &str) -> bool {
    decide("POST", "/api/events", &[("host", "localhost:8765"), ("origin", origin)], LOCAL).is_ok()
}

#[test]
fn only_names_of_this_machine_are_hosts() {
    for good in ["localhost", "LocalHost:8765", "127.0.0.1:1", "[::1]", "[::1]:8765", "localhost:"] {
        assert!(host(good), "{good}");
    }
    for bad in [
        "",
        "evil.example",
        "localhost.evil.example",
        "evil.example:8765",
        "localhost.",
        "127.0.0.2",
        "10.0.0.1",
        "user@localhost",
        "[::1",
        "[::2]",
        "localhost:80x",
        "::1",
        "127.1",
        "2130706433",
        "localhost,evil.example",
    ] {
        assert!(!host(bad), "{bad}");
    }
}

#[test]
fn a_host_is_needed_once_and_in_the_target_too() {
    let refused = Err((421, "host_not_allowed"));
    assert_eq!(decide("GET", "/health", &[], LOCAL), refused);
    assert_eq!(decide("GET", "/health", &[("host", "localhost"), ("host", "evil.example")], LOCAL), refused);
    assert_eq!(decide("GET", "http://evil.example/health", &[("host", "localhost")], LOCAL), refused);
    assert!(decide("GET", "http://localhost:8765/health", &[("host", "localhost:8765")], LOCAL).is_ok());
}

#[test]
fn an_old_health_checker_may_omit_the_host_and_nobody_else() {
    let old = |method: &str, path: &str| {
        let request = Request::builder().method(method).uri(path).version(Version::HTTP_10);
        let (head, ()) = request.body(()).unwrap().into_parts();
        check(&head, Ends::Tcp { local: LOCAL, peer: LOCAL }, &settings()).is_ok()
    };
    assert!(old("GET", "/health") && old("HEAD", "/ready"));
    assert!(!old("GET", "/api/events") && !old("POST", "/health"));
}

#[test]
fn the_address_that_was_connected_to_is_a_host() {
    let lan = IpAddr::from([192, 168, 1, 5]);
    assert!(decide("GET", "/", &[("host", "192.168.1.5:8765")], lan).is_ok());
    assert!(decide("GET", "/", &[("host", "192.168.1.6:8765")], lan).is_err());
    let page = |origin| decide("GET", "/", &[("host", "192.168.1.5:8765"), ("origin", origin)], lan).is_ok();
    assert!(page("http://192.168.1.5:8765"));
    assert!(!page("http://192.168.1.5:9999"));
}

#[test]
fn pages_are_of_this_machine_or_listed() {
    for good in ["http://localhost:5173", "https://127.0.0.1", "http://[::1]:8765", "https://board.example"] {
        assert!(origin(good), "{good}");
    }
    for bad in [
        "null",
        "",
        "http://evil.example",
        "http://localhost.evil.example",
        "https://board.example.evil.example",
        "http://board.example",
        "file://",
        "http://user@localhost",
        "http://localhost:80@evil.example",
        "localhost",
        "chrome-extension://localhost",
    ] {
        assert!(!origin(bad), "{bad}");
    }
}

#[test]
fn a_foreign_page_cannot_hide_by_sending_no_origin() {
    let fetch = |method: &str, path: &str, pairs: &[(&str, &str)]| {
        let headers: Vec<_> = [("host", "localhost")].iter().chain(pairs).copied().collect();
        decide(method, path, &headers, LOCAL)
    };
    let site = ("sec-fetch-site", "cross-site");
    let link = [site, ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")];
    assert!(fetch("GET", "/", &[site, ("sec-fetch-mode", "no-cors"), ("sec-fetch-dest", "script")]).is_err());
    assert!(fetch("GET", "/", &[site, ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "iframe")]).is_err());
    assert!(fetch("GET", "/", &[("sec-fetch-site", "made-up")]).is_err());
    for path in super::super::page::PATHS {
        assert_eq!(fetch("GET", path, &link), Ok(Allowed::Program), "{path}");
        assert!(fetch("POST", path, &link).is_err(), "{path}");
    }
    for path in ["/socket.io/?EIO=4&transport=polling", "/api/events", "/health", "/api/stream", "//"] {
        assert!(fetch("GET", path, &link).is_err(), "{path}");
    }
    assert_eq!(fetch("GET", "/socket.io/", &[("sec-fetch-site", "same-origin")]), Ok(Allowed::Program));
    assert_eq!(fetch("GET", "/api/files", &[("sec-fetch-site", "none")]), Ok(Allowed::Program));
}

#[test]
fn only_our_own_and_listed_origins_are_own_pages() {
    let of = |pairs: &[(&str, &str)]| {
        let headers: Vec<_> = [("host", "localhost:8765")].iter().chain(pairs).copied().collect();
        decide("GET", "/api/files", &headers, LOCAL).unwrap()
    };
    for own in ["http://localhost:8765", "https://board.example"] {
        assert!(!of(&[("origin", own)]).is_foreign_page(), "{own}");
    }
    for other in ["http://localhost:9999", "http://localhost", "http://127.0.0.1:8765", "http://[::1]:8765"] {
        assert!(of(&[("origin", other)]).is_foreign_page(), "{other}");
    }
    assert!(of(&[("sec-fetch-site", "same-site")]).is_foreign_page());
    assert!(!of(&[]).is_foreign_page() && !of(&[("sec-fetch-site", "same-origin")]).is_foreign_page());
}

#[test]
fn only_the_origin_that_asked_may_read() {
    let origin = || HeaderValue::from_static("http://localhost:5173");
    for allowed in [Allowed::OwnPage(origin()), Allowed::OtherPage(Some(origin()))] {
        let mut headers = HeaderMap::new();
        share(&mut headers, &allowed);
        assert_eq!(headers[header::ACCESS_CONTROL_ALLOW_ORIGIN], "http://localhost:5173");
    }
    for allowed in [Allowed::Program, Allowed::OtherPage(None)] {
        let mut headers = HeaderMap::new();
        share(&mut headers, &allowed);
        assert!(!headers.contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN));
        assert_eq!(headers[header::VARY], "Origin");
    }
}

#[test]
fn a_listed_name_is_a_host_and_its_pages_are_ours() {
    assert!(host("monitor.example") && host("Monitor.Example:443"));
    assert!(!host("monitor.example.evil.example") && !host("x.monitor.example"));
    let page = |host, origin| decide("GET", "/", &[("host", host), ("origin", origin)], LOCAL).is_ok();
    assert!(page("monitor.example", "https://monitor.example"));
    assert!(!page("localhost:8765", "https://monitor.example"), "another origin, which must be listed as one");
    assert!(!page("monitor.example", "https://evil.example"));
}

#[test]
fn over_the_unix_socket_the_host_is_free_and_the_origin_is_not() {
    let decide = |headers: &[(&str, &str)]| {
        let mut request = Request::builder().uri("/api/events");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (head, ()) = request.body(()).unwrap().into_parts();
        check(&head, Ends::Unix { uid: 0 }, &settings()).is_ok()
    };
    assert!(decide(&[]) && decide(&[("host", "anything.example")]));
    assert!(decide(&[("host", "public.example"), ("origin", "https://board.example")]));
    assert!(!decide(&[("host", "public.example"), ("origin", "https://public.example")]));
    assert!(!decide(&[("host", "localhost"), ("origin", "null")]));
}
