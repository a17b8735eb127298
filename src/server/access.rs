//! What a client may do, once the [guard](super::guard) has let its request pass: everything as long as no token is set.
//!
//! With a token, programs of this machine may do without it what `access.local` says; clients of other machines need it
//! for everything. A request that a proxy passed on counts as one of another machine. Whoever comes over the Unix socket is known by its user and needs no token.

use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};

use super::answer::Refusal;
use super::stream::Ends;
use crate::config::{LocalAccess, Settings, Token};

/// What a client may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Access {
    /// Ask who and how the monitor is.
    pub look: bool,
    /// See events, figures, files.
    pub read: bool,
    /// Bring events in, and change things.
    pub write: bool,
}

impl Access {
    /// All of it.
    pub const FULL: Self = Self { look: true, read: true, write: true };
    /// None of it.
    pub const NONE: Self = Self { look: false, read: false, write: false };

    /// What the sender of a request with these headers may do.
    pub fn of(headers: &HeaderMap, ends: Ends, settings: &Settings) -> Self {
        let Some(token) = &settings.token else { return Self::FULL };
        if matches!(ends, Ends::Unix { .. }) || bearer(headers).is_some_and(|said| token.matches(said)) {
            return Self::FULL;
        }
        if ends.is_local() && !is_passed_on(headers) {
            let local = settings.local;
            return Self { look: true, read: local != LocalAccess::None, write: local == LocalAccess::All };
        }
        Self::NONE
    }

    /// What is left to decide when a client says a token later, as Socket.IO's `auth` does.
    #[must_use]
    pub fn with(self, said: Option<&str>, token: Option<&Token>) -> Self {
        match (said, token) {
            (_, None) => Self::FULL,
            (Some(said), Some(token)) if token.matches(said) => Self::FULL,
            _ => self,
        }
    }
}

/// Lets a request pass to its route, or not. Socket.IO's requests pass: there a namespace is what needs the token.
///
/// # Errors
/// 401 `token_required` or `token_wrong`.
pub fn check(head: &Parts, access: Access) -> Result<(), Refusal> {
    let path = head.uri.path();
    // The original asks these two questions with a body.
    let asks = head.method == Method::POST && matches!(path, "/api/file" | "/api/git-history");
    let reads = asks || matches!(head.method, Method::GET | Method::HEAD);
    let may = match reads {
        _ if path == "/socket.io/" => true,
        true => access.read || (!asks && is_public(path)) || (access.look && path == "/health"),
        false => access.write,
    };
    if may { Ok(()) } else { Err(refusal(bearer(&head.headers).is_some())) }
}

/// The refusal of a client that said a wrong token, or none.
pub fn refusal(said: bool) -> Refusal {
    let (code, message) = if said {
        ("token_wrong", "this is not the token of this monitor; it is in the file that access.token_file names")
    } else {
        ("token_required", "this needs the token of this monitor: send it as Authorization: Bearer TOKEN")
    };
    Refusal::new(StatusCode::UNAUTHORIZED, code, message)
}

/// What tells nothing and cannot ask for the token before it is loaded: the page and its parts, and whether we are ready.
fn is_public(path: &str) -> bool {
    matches!(
        path,
        "/" | "/dashboard" | "/dashboard.js" | "/dashboard.css" | "/dashboard.svg" | "/favicon.svg" | "/ready"
    ) || path.starts_with("/_app/")
        || path.starts_with("/static/")
        || path.starts_with("/templates/")
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let said = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = said.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Whether a proxy says that it speaks for somebody else. Nobody gains by saying so.
fn is_passed_on(headers: &HeaderMap) -> bool {
    ["forwarded", "x-forwarded-for", "x-real-ip", "via"]
        .into_iter()
        .any(|name| headers.contains_key(HeaderName::from_static(name)))
}

/// How a 401 must look (RFC 9110, section 11.6.1).
pub const CHALLENGE: HeaderValue = HeaderValue::from_static("Bearer realm=\"mpm-monitor\"");

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::Request;
    use std::net::IpAddr;

    const TOKEN: &str = "0123456789abcdef";
    const HOME: Ends = Ends::Tcp { local: IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), peer: HERE };
    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 9));

    fn away() -> Ends {
        Ends::Tcp { local: [192, 168, 1, 5].into(), peer: [192, 168, 1, 6].into() }
    }

    fn settings(local: LocalAccess) -> Settings {
        Settings { token: Some(Token::new(TOKEN).unwrap()), local, ..crate::config::settings::defaults() }
    }

    fn may(method: &str, path: &str, header: Option<(&str, &str)>, ends: Ends, settings: &Settings) -> bool {
        let mut request = Request::builder().method(method).uri(path);
        if let Some((name, value)) = header {
            request = request.header(name, value);
        }
        let (head, ()) = request.body(()).unwrap().into_parts();
        check(&head, Access::of(&head.headers, ends, settings)).is_ok()
    }

    #[test]
    fn without_a_token_nothing_is_asked() {
        let open = Settings { token: None, ..settings(LocalAccess::Read) };
        assert!(may("POST", "/api/events", None, HOME, &open));
    }

    #[test]
    fn programs_of_this_machine_read_and_need_the_token_to_write() {
        let strict = settings(LocalAccess::Read);
        assert!(may("GET", "/api/events", None, HOME, &strict));
        for method in ["POST", "PUT", "PATCH", "DELETE"] {
            assert!(!may(method, "/api/events", None, HOME, &strict), "{method}");
            assert!(may(method, "/api/events", Some(("authorization", "bearer 0123456789abcdef")), HOME, &strict));
        }
        for path in ["/api/file", "/api/git-history"] {
            assert!(may("POST", path, None, HOME, &strict) && !may("PUT", path, None, HOME, &strict), "{path} reads");
            assert!(!may("POST", path, None, HOME, &settings(LocalAccess::None)), "{path}");
            assert!(!may("POST", path, None, away(), &settings(LocalAccess::All)), "{path}");
        }
        assert!(may("POST", "/api/events", None, HOME, &settings(LocalAccess::All)));
        let same = Ends::Tcp { local: [192, 168, 1, 5].into(), peer: [192, 168, 1, 5].into() };
        assert!(may("GET", "/api/events", None, same, &strict), "our own address is this machine");
        let closed = settings(LocalAccess::None);
        assert!(!may("GET", "/api/events", None, HOME, &closed) && !may("GET", "/metrics", None, HOME, &closed));
        assert!(may("GET", "/health", None, HOME, &closed), "the proof of readiness goes on");
    }

    #[test]
    fn other_machines_need_it_for_all_but_the_page() {
        for settings in [LocalAccess::None, LocalAccess::Read, LocalAccess::All].map(settings) {
            for path in ["/api/events", "/health", "/metrics", "/api/status", "/api/config", "/static", "/nothing"] {
                assert!(!may("GET", path, None, away(), &settings), "{path}");
                assert!(!may("HEAD", path, Some(("authorization", "Bearer wrong")), away(), &settings), "{path}");
                assert!(may("GET", path, Some(("authorization", "Bearer 0123456789abcdef")), away(), &settings));
            }
            for path in ["/", "/dashboard.js", "/dashboard.svg", "/ready", "/_app/immutable/x.js", "/templates/x.html"]
            {
                assert!(may("GET", path, None, away(), &settings), "{path}");
                assert!(!may("POST", path, None, away(), &settings), "{path}");
            }
        }
    }

    #[test]
    fn what_a_proxy_passes_on_comes_from_another_machine() {
        for name in ["forwarded", "x-forwarded-for", "x-real-ip", "via"] {
            assert!(!may("GET", "/api/events", Some((name, "127.0.0.1")), HOME, &settings(LocalAccess::All)), "{name}");
        }
    }

    #[test]
    fn the_unix_socket_is_its_own_proof() {
        assert!(may("POST", "/api/events", None, Ends::Unix { uid: 7 }, &settings(LocalAccess::None)));
    }

    #[test]
    fn a_refusal_tells_a_wrong_token_from_none() {
        assert_eq!((refusal(true).code, refusal(false).code), ("token_wrong", "token_required"));
        let later = Access::NONE.with(Some(TOKEN), settings(LocalAccess::Read).token.as_ref());
        assert_eq!(later, Access::FULL);
        assert_eq!(Access::NONE.with(Some("wrong"), settings(LocalAccess::Read).token.as_ref()), Access::NONE);
        assert_eq!(Access::NONE.with(None, None), Access::FULL);
    }
}
