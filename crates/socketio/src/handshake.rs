//! What is kept of the request that opened a session, for the middlewares of the namespaces that its client asks for
//! later.

use http::header::{AUTHORIZATION, COOKIE, HeaderMap, ORIGIN, USER_AGENT};
use http::{HeaderName, Uri};

use super::extensions::Extensions;

/// The headers that are kept. Others say nothing about who a client is.
const KEPT: [HeaderName; 4] = [AUTHORIZATION, COOKIE, ORIGIN, USER_AGENT];
/// The parameters of the transport, which are of no interest afterwards.
const TRANSPORT: [&str; 6] = ["EIO", "transport", "sid", "t", "j", "b64"];

/// See the module.
#[derive(Clone, Default)]
pub struct Handshake {
    /// What the application knows of the client.
    pub extensions: Extensions,
    headers: Box<[(HeaderName, Box<str>)]>,
    query: Box<str>,
}

impl Handshake {
    /// Of a request.
    pub fn new(extensions: Extensions, uri: &Uri, headers: &HeaderMap) -> Self {
        let text = |name: &HeaderName| Some((name.clone(), headers.get(name)?.to_str().ok()?.into()));
        let own = |pair: &&str| !TRANSPORT.contains(&pair.split('=').next().unwrap_or_default());
        let query: Vec<&str> = uri.query().unwrap_or_default().split('&').filter(own).collect();
        Self { extensions, headers: KEPT.iter().filter_map(text).collect(), query: query.join("&").into() }
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

/// Shows no values: among them are secrets.
impl std::fmt::Debug for Handshake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handshake").field("extensions", &self.extensions).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_says_who_the_client_is_is_kept_and_its_secrets_are_not_shown() {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, "Bearer s3cret".parse().unwrap());
        headers.insert(http::header::ACCEPT, "*/*".parse().unwrap());
        let uri = "/socket.io/?EIO=4&transport=polling&token=a%20b&t=x&room=1".parse().unwrap();
        let handshake = Handshake::new(Extensions::default(), &uri, &headers);
        assert_eq!(handshake.header(&AUTHORIZATION), Some("Bearer s3cret"));
        assert_eq!(handshake.header(&http::header::ACCEPT), None);
        assert_eq!(handshake.query(), "token=a%20b&room=1");
        assert!(!format!("{handshake:?}").contains("s3cret"));
    }
}
