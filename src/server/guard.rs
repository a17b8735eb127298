//! Who may speak to the monitor: programs on this machine, and web pages from this machine or from origins that the
//! user named. Decided before a request is routed, from its head alone.
//!
//! - *Host* must name this machine: `localhost`, `127.0.0.1`, `[::1]`, the very address that the connection came to, or a
//!   name listed in `allow_host`.
//!   Else a foreign name was made to resolve to it (DNS rebinding), and the browser would hold the attacker's page for
//!   ours. A request without a Host is refused too, except an HTTP/1.0 `GET` of `/health` or `/ready`, as simple
//!   health checkers send it: browsers never speak HTTP/1.0, and these tell nothing that harms.
//! - *Origin*, where there is one, must be such a host too (any port), or listed in `allow_origin`, or the page must come
//!   from the same host and port. A program sends none. `null` (sandboxed frames, files) is refused.
//! - A browser that fetches for a foreign page without an Origin (an image, a script, a form) says so in *Sec-Fetch-Site*;
//!   only a link to one of the monitor's pages is followed.
//! - A page of another origin that is let in, because it is of this machine, may still be another user's; it is
//!   [no page of ours](Allowed::is_foreign_page), and gets no files.
//! - Over the Unix socket no browser comes by itself, so any Host goes; a proxy that passes pages' requests on brings their
//!   Origin, which must be listed.

use std::net::IpAddr;

use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, Version, header};

use super::answer::Refusal;
use super::stream::Ends;
use crate::config::Settings;

/// What is allowed to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Allowed {
    /// It is no page's.
    Program,
    /// A page of the monitor's own origin, or of one in `allow_origin`, may read the answer.
    OwnPage(HeaderValue),
    /// A page of another origin of this machine may; a browser names none where the page cannot read the answer.
    OtherPage(Option<HeaderValue>),
}

impl Allowed {
    /// Whether the request was made for a page that may be anybody's who can listen on a port of this machine.
    pub fn is_foreign_page(&self) -> bool {
        matches!(self, Self::OtherPage(_))
    }
}

/// Decides on the head of a request that came over a connection with these ends.
///
/// # Errors
/// 421 `host_not_allowed`, 403 `origin_not_allowed`.
pub fn check(head: &Parts, ends: Ends, settings: &Settings) -> Result<Allowed, Refusal> {
    let names = Names { ends, allow_host: &settings.allow_host };
    let host = match ends {
        Ends::Tcp { .. } => check_host(&head.headers, &head.uri, head.version, &head.method, names)?,
        Ends::Unix { .. } => None,
    };
    let mut origins = head.headers.get_all(header::ORIGIN).iter();
    match (origins.next(), origins.next()) {
        (None, _) => match head.headers.get("sec-fetch-site").map(HeaderValue::as_bytes) {
            // "none" is an address that was typed or a bookmark.
            None | Some(b"none" | b"same-origin") => Ok(Allowed::Program),
            Some(b"same-site") => Ok(Allowed::OtherPage(None)),
            Some(_) if is_link_to_a_page(head) => Ok(Allowed::Program),
            Some(_) => Err(origin_refusal("a page of another site")),
        },
        (Some(origin), None) => {
            let text = origin.to_str().unwrap_or_default();
            if is_listed(text, &settings.allow_origin) || is_same_origin(text, host) {
                Ok(Allowed::OwnPage(origin.clone()))
            } else if is_of_this_machine(text) {
                Ok(Allowed::OtherPage(Some(origin.clone())))
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
    names: Names<'_>,
) -> Result<Option<&'a str>, Refusal> {
    let mut hosts = headers.get_all(header::HOST).iter();
    let refuse = |what: String| {
        let message = format!(
            "{what}; this monitor answers to localhost, 127.0.0.1 and [::1], and to the names in `server.allow_host`"
        );
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
        if !host_of(named).is_some_and(|name| names.are_ours(name)) {
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

/// What this machine is called by whoever came over a connection.
#[derive(Clone, Copy)]
struct Names<'a> {
    ends: Ends,
    allow_host: &'a [String],
}

impl Names<'_> {
    fn are_ours(self, host: &str) -> bool {
        let is_local_end = |a: IpAddr| match self.ends {
            Ends::Tcp { local, .. } => a == local.to_canonical(),
            Ends::Unix { .. } => false,
        };
        is_loopback(host)
            || address_of(host).is_some_and(is_local_end)
            || self.allow_host.iter().any(|name| name.eq_ignore_ascii_case(host))
    }
}

fn is_loopback(host: &str) -> bool {
    let loopback = [IpAddr::from([127, 0, 0, 1]), IpAddr::V6(std::net::Ipv6Addr::LOCALHOST)];
    host.eq_ignore_ascii_case("localhost") || address_of(host).is_some_and(|a| loopback.contains(&a))
}

/// An address cannot be rebound, so the one that the connection came to is as good as a name of ours.
fn address_of(host: &str) -> Option<IpAddr> {
    let address: Option<IpAddr> = match host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
        Some(v6) => v6.parse().map(IpAddr::V6).ok(),
        None => host.parse().map(IpAddr::V4).ok(),
    };
    address.map(|a| a.to_canonical())
}

fn is_listed(origin: &str, allow_origin: &[String]) -> bool {
    allow_origin.iter().any(|allowed| allowed.trim_end_matches('/').eq_ignore_ascii_case(origin))
}

/// The host and port of a page's origin.
fn authority_of(origin: &str) -> Option<&str> {
    let (scheme, authority) = origin.split_once("://")?;
    matches!(scheme, "http" | "https").then_some(authority)
}

/// Whether the page came from the host and port that the request is for, which [`check_host`] found to be ours.
fn is_same_origin(origin: &str, host: Option<&str>) -> bool {
    host.is_some_and(|host| authority_of(origin).is_some_and(|authority| authority.eq_ignore_ascii_case(host)))
}

/// Any port of this machine's own names.
fn is_of_this_machine(origin: &str) -> bool {
    authority_of(origin).and_then(host_of).is_some_and(is_loopback)
}

/// Whether somebody followed a link of another site to a page, rather than to a route that does or opens something.
fn is_link_to_a_page(head: &Parts) -> bool {
    let is =
        |name: &'static str, value: &str| head.headers.get(HeaderName::from_static(name)).is_some_and(|v| v == value);
    matches!(head.method, Method::GET | Method::HEAD)
        && is("sec-fetch-mode", "navigate")
        && is("sec-fetch-dest", "document")
        && super::page::PATHS.contains(&head.uri.path())
}

fn origin_refusal(origin: &str) -> Refusal {
    let origin: String = origin.chars().take(80).collect();
    let message = format!("requests from {origin:?} are not allowed; a page's origin can be listed in `allow_origin`");
    Refusal::new(StatusCode::FORBIDDEN, "origin_not_allowed", message)
}

/// Lets the page of an allowed origin read the answer, and keeps caches from giving it to another.
pub fn share(headers: &mut HeaderMap, allowed: &Allowed) {
    headers.append(header::VARY, HeaderValue::from_static("Origin"));
    if let Allowed::OwnPage(origin) | Allowed::OtherPage(Some(origin)) = allowed {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
    }
}

/// What a preflight request is told, on every path: the methods and headers that Claude MPM's server names, and the token's.
pub fn preflight(headers: &mut HeaderMap) {
    let methods = HeaderValue::from_static("GET, POST, PUT, PATCH, DELETE, OPTIONS");
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, methods);
    headers.insert(
        header::ACCESS_CONTROL_ALLOW_HEADERS,
        HeaderValue::from_static(
            "Authorization, Content-Type, Idempotency-Key, Idempotency-Retry, If-None-Match, Last-Event-ID",
        ),
    );
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
}

#[cfg(test)]
mod tests;
