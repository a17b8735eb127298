//! What a client may do, once the [guard](super::guard) has let its request pass: everything as long as no token is set.
//!
//! With a token, programs of this machine may do without it what `access.local` says; clients of other machines need it
//! for everything. A request that a proxy passed on counts as one of another machine. Whoever comes over the Unix socket is known by its user and needs no token.

use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::Counters;
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

/// What a route takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Right {
    /// Nothing: it tells nothing and cannot ask for the token before it is loaded (the page and its parts), or asks by itself.
    Open,
    /// To ask who the monitor is.
    Look,
    /// To see events, figures, files.
    Read,
    /// To bring events in and change things.
    Write,
}

impl Right {
    /// Whether whoever may do that has it.
    pub fn is_of(self, access: Access) -> bool {
        match self {
            Self::Open => true,
            Self::Look => access.look || access.read,
            Self::Read => access.read,
            Self::Write => access.write,
        }
    }
}

/// Lets a request pass that has this right.
///
/// # Errors
/// 401 `token_required` or `token_wrong`.
pub fn check(headers: &HeaderMap, access: Access, right: Right) -> Result<(), Refusal> {
    if right.is_of(access) { Ok(()) } else { Err(refusal(bearer(headers).is_some())) }
}

/// The answer to a request that may not pass; counted.
pub fn refuse(counters: &Counters, refusal: Refusal) -> Response {
    counters.denied(refusal.code);
    let mut response = refusal.into_response();
    if response.status() == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, CHALLENGE);
    }
    response
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
const CHALLENGE: HeaderValue = HeaderValue::from_static("Bearer realm=\"mpm-monitor\"");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_tells_a_wrong_token_from_none() {
        let token = Token::new("0123456789abcdef").unwrap();
        assert_eq!((refusal(true).code, refusal(false).code), ("token_wrong", "token_required"));
        assert_eq!(Access::NONE.with(Some("0123456789abcdef"), Some(&token)), Access::FULL);
        assert_eq!(Access::NONE.with(Some("wrong"), Some(&token)), Access::NONE);
        assert_eq!(Access::NONE.with(None, None), Access::FULL);
    }
}
