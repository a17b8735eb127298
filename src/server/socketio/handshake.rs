//! What is kept of the request that opened a session, for the middlewares of the namespaces that its client asks for
//! later.

use axum::http::header::{AUTHORIZATION, COOKIE, HeaderMap, ORIGIN, USER_AGENT};
use axum::http::{HeaderName, Uri};

use crate::server::access::Access;
use crate::server::stream::Ends;
use daemon::socket_owner::Pair;

/// The headers that are kept. Others say nothing about who a client is.
const KEPT: [HeaderName; 4] = [AUTHORIZATION, COOKIE, ORIGIN, USER_AGENT];
/// The parameters of the transport, which are of no interest afterwards.
const TRANSPORT: [&str; 6] = ["EIO", "transport", "sid", "t", "j", "b64"];

/// See the module.
#[derive(Clone, PartialEq, Eq)]
pub struct Handshake {
    /// Who is at the ends of the connection that the request came over.
    pub ends: Option<Ends>,
    /// By what the kernel finds that connection.
    pub pair: Option<Pair>,
    /// Whether a page of another origin made the request.
    pub is_foreign_page: bool,
    /// What the request alone entitles to.
    pub access: Access,
    headers: Box<[(HeaderName, Box<str>)]>,
    query: Box<str>,
}

impl Handshake {
    /// Of a request.
    pub fn new(ends: Option<Ends>, access: Access, uri: &Uri, headers: &HeaderMap) -> Self {
        let text = |name: &HeaderName| Some((name.clone(), headers.get(name)?.to_str().ok()?.into()));
        let own = |pair: &&str| !TRANSPORT.contains(&pair.split('=').next().unwrap_or_default());
        let query: Vec<&str> = uri.query().unwrap_or_default().split('&').filter(own).collect();
        Self {
            ends,
            pair: None,
            is_foreign_page: false,
            access,
            headers: KEPT.iter().filter_map(text).collect(),
            query: query.join("&").into(),
        }
    }

    /// A header of the request, if it is one of `authorization`, `cookie`, `origin` and `user-agent`.
    pub fn header(&self, name: &HeaderName) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| &**value)
    }

    /// The client's own part of the query, as it was sent.
    pub fn query(&self) -> &str {
        &self.query
    }
}

impl Default for Handshake {
    /// One of which nothing is known.
    fn default() -> Self {
        Self {
            ends: None,
            pair: None,
            is_foreign_page: false,
            access: Access::NONE,
            headers: Box::default(),
            query: Box::default(),
        }
    }
}

/// Shows no values: among them are secrets.
impl std::fmt::Debug for Handshake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handshake").field("ends", &self.ends).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_says_who_the_client_is_is_kept_and_its_secrets_are_not_shown() {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, "Bearer s3cret".parse().unwrap());
        headers.insert(axum::http::header::ACCEPT, "*/*".parse().unwrap());
        let uri = "/socket.io/?EIO=4&transport=polling&token=a%20b&t=x&room=1".parse().unwrap();
        let handshake = Handshake::new(None, Access::NONE, &uri, &headers);
        assert_eq!(handshake.header(&AUTHORIZATION), Some("Bearer s3cret"));
        assert_eq!(handshake.header(&axum::http::header::ACCEPT), None);
        assert_eq!(handshake.query(), "token=a%20b&room=1");
        assert!(!format!("{handshake:?}").contains("s3cret"));
    }
}
