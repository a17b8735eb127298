//! Who may speak to the monitor: programs on this machine, and web pages from this machine or from origins that the
//! user named. Decided before a request is routed, from its head alone.
//!
//! - *Host* must name this machine: `localhost`, `127.0.0.1`, `[::1]`, or the very address that the connection came to.
//!   Else a foreign name was made to resolve to it (DNS rebinding), and the browser would hold the attacker's page for
//!   ours. A request without a Host is refused too, except an HTTP/1.0 `GET` of `/health` or `/ready`, as simple
//!   health checkers send it: browsers never speak HTTP/1.0, and these tell nothing that harms.
//! - *Origin*, where there is one, must be such a host too (any port), or listed in `allow_origin`, or the page must come
//!   from the same host and port. A program sends none. `null` (sandboxed frames, files) is refused.
//! - A browser that fetches for a foreign page without an Origin (an image, a script) says so in *Sec-Fetch-Site*;
//!   only following a link, that is a navigation to a document, is allowed.

use std::net::IpAddr;

use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, Version, header};

use super::answer::Refusal;

/// What is allowed to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Allowed {
    /// It is no page's.
    Program,
    /// A page of this origin may read the answer.
    Page(HeaderValue),
}

/// Decides on a request's head. `local` is the address of our end of the connection.
///
/// # Errors
/// 421 `host_not_allowed`, 403 `origin_not_allowed`.
pub fn check(head: &Parts, local: IpAddr, allow_origin: &[String]) -> Result<Allowed, Refusal> {
    let host = check_host(&head.headers, &head.uri, head.version, &head.method, local)?;
    let mut origins = head.headers.get_all(header::ORIGIN).iter();
    match (origins.next(), origins.next()) {
        (None, _) if is_foreign_fetch(&head.headers) => Err(origin_refusal("a page of another site")),
        (None, _) => Ok(Allowed::Program),
        (Some(origin), None) => {
            let text = origin.to_str().unwrap_or_default();
            if is_origin_allowed(text, host, local, allow_origin) {
                Ok(Allowed::Page(origin.clone()))
            } else {
                Err(origin_refusal(text))
            }
        }
        (Some(_), Some(_)) => Err(origin_refusal("more than one origin")),
    }
}

fn check_host<'a>(
    headers: &'a HeaderMap,
    uri: &'a Uri,
    version: Version,
    method: &Method,
    local: IpAddr,
) -> Result<Option<&'a str>, Refusal> {
    let mut hosts = headers.get_all(header::HOST).iter();
    let refuse = |what: String| {
        let message = format!("{what}; this monitor answers to localhost, 127.0.0.1 and [::1] only");
        Err(Refusal::new(StatusCode::MISDIRECTED_REQUEST, "host_not_allowed", message))
    };
    let host = match (hosts.next(), hosts.next()) {
        (None, _) => {
            let reads = matches!(*method, Method::GET | Method::HEAD) && matches!(uri.path(), "/health" | "/ready");
            if version == Version::HTTP_10 && reads && uri.authority().is_none() {
                return Ok(None);
            }
            return refuse("the request names no Host".to_owned());
        }
        (Some(_), Some(_)) => return refuse("the request names more than one Host".to_owned()),
        (Some(host), None) => host.to_str().unwrap_or_default(),
    };
    // A request to a proxy names the host in its target as well; then both must be ours.
    for named in [Some(host), uri.authority().map(|a| a.as_str())].into_iter().flatten() {
        if !host_of(named).is_some_and(|name| is_ours(name, local)) {
            return refuse(format!("the request is for the host {:?}", named.chars().take(80).collect::<String>()));
        }
    }
    Ok(Some(host))
}

/// The host of `host[:port]`, brackets included; `None` when it is neither.
fn host_of(authority: &str) -> Option<&str> {
    let end = if authority.starts_with('[') {
        authority.find(']')? + 1
    } else {
        authority.find(':').unwrap_or(authority.len())
    };
    let (host, port) = authority.split_at(end);
    let port_fits = port.is_empty() || port.strip_prefix(':').is_some_and(|p| p.bytes().all(|b| b.is_ascii_digit()));
    (port_fits && !host.is_empty()).then_some(host)
}

fn is_ours(host: &str, local: IpAddr) -> bool {
    if host.eq_ignore_ascii_case("localhost") {
        return true;
    }
    let address = match host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
        Some(v6) => v6.parse().map(IpAddr::V6).ok(),
        None => host.parse().map(IpAddr::V4).ok(),
    };
    // An address cannot be rebound, so the one that the connection came to is as good as a name of ours.
    address.is_some_and(|a: IpAddr| {
        let a = a.to_canonical();
        a == IpAddr::from([127, 0, 0, 1]) || a == IpAddr::V6(std::net::Ipv6Addr::LOCALHOST) || a == local.to_canonical()
    })
}

fn is_origin_allowed(origin: &str, host: Option<&str>, local: IpAddr, allow_origin: &[String]) -> bool {
    if allow_origin.iter().any(|allowed| allowed.trim_end_matches('/').eq_ignore_ascii_case(origin)) {
        return true;
    }
    let Some((scheme, authority)) = origin.split_once("://") else { return false };
    if !matches!(scheme, "http" | "https") {
        return false;
    }
    let Some(name) = host_of(authority) else { return false };
    // Any port of this machine's own names; another address of ours only as the same origin.
    is_ours(name, IpAddr::from([127, 0, 0, 1]))
        || (is_ours(name, local) && host.is_some_and(|h| h.eq_ignore_ascii_case(authority)))
}

fn is_foreign_fetch(headers: &HeaderMap) -> bool {
    let is = |name: &'static str, value: &str| headers.get(HeaderName::from_static(name)).is_some_and(|v| v == value);
    is("sec-fetch-site", "cross-site") && !(is("sec-fetch-mode", "navigate") && is("sec-fetch-dest", "document"))
}

fn origin_refusal(origin: &str) -> Refusal {
    let origin: String = origin.chars().take(80).collect();
    let message = format!("requests from {origin:?} are not allowed; a page's origin can be listed in `allow_origin`");
    Refusal::new(StatusCode::FORBIDDEN, "origin_not_allowed", message)
}

/// Lets the page of an allowed origin read the answer, and keeps caches from giving it to another.
pub fn share(headers: &mut HeaderMap, allowed: &Allowed) {
    headers.append(header::VARY, HeaderValue::from_static("Origin"));
    if let Allowed::Page(origin) = allowed {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
    }
}

/// What a preflight request is told, on every path: the methods and headers that Claude MPM's server names.
pub fn preflight(headers: &mut HeaderMap) {
    let methods = HeaderValue::from_static("GET, POST, PUT, PATCH, DELETE, OPTIONS");
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, methods);
    headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static("Content-Type, If-None-Match"));
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::Request;

    const LOCAL: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn decide(
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        local: IpAddr,
    ) -> Result<Allowed, (u16, &'static str)> {
        let mut request = Request::builder().method(method).uri(target);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (head, ()) = request.body(()).unwrap().into_parts();
        check(&head, local, &["https://board.example".to_owned()]).map_err(|r| (r.status.as_u16(), r.code))
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
            check(&head, LOCAL, &[]).is_ok()
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
        let fetch = |pairs: &[(&str, &str)]| {
            let headers: Vec<_> = [("host", "localhost")].iter().chain(pairs).copied().collect();
            decide("GET", "/socket.io/", &headers, LOCAL).is_ok()
        };
        let site = ("sec-fetch-site", "cross-site");
        assert!(!fetch(&[site, ("sec-fetch-mode", "no-cors"), ("sec-fetch-dest", "script")]));
        assert!(!fetch(&[site, ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "iframe")]));
        assert!(fetch(&[site, ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")]));
        assert!(fetch(&[("sec-fetch-site", "same-origin")]));
    }

    #[test]
    fn only_the_origin_that_asked_may_read() {
        let mut headers = HeaderMap::new();
        share(&mut headers, &Allowed::Page(HeaderValue::from_static("http://localhost:5173")));
        assert_eq!(headers[header::ACCESS_CONTROL_ALLOW_ORIGIN], "http://localhost:5173");
        let mut headers = HeaderMap::new();
        share(&mut headers, &Allowed::Program);
        assert!(!headers.contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN));
        assert_eq!(headers[header::VARY], "Origin");
    }
}
