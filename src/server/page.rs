//! The page that the binary carries: it shows the events live.

use std::sync::Arc;

use axum::Router;
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::dashboard::{self, Dashboard, Make};

/// What an event says is text that anybody may have written; should any of it ever get past the page's care, this keeps it
/// from running or loading anything.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
/// Changes with the build, and so with the page.
const TAG: &str = concat!("\"", env!("MPM_MONITOR_BUILD_ID"), "\"");

/// The routes of the page and its parts: always at `/dashboard`, and at `/` unless a `dashboard` of Claude MPM is served there
/// on `port`.
pub fn router<S: Clone + Send + Sync + 'static>(dashboard: Option<&Arc<Dashboard>>, port: u16) -> Router<S> {
    let html = include_str!("../../dashboard/index.html");
    let css = include_str!("../../dashboard/dashboard.css");
    let js = include_str!("../../dashboard/dashboard.js");
    let icon = include_str!("../../dashboard/favicon.svg");
    let part = |kind: &'static str, text: &'static str| get(move |h: HeaderMap| async move { asset(&h, kind, text) });
    let page = || part("text/html; charset=utf-8", html);
    let picture = || part("image/svg+xml", icon);
    let router = Router::new()
        .route("/dashboard", page())
        .route("/dashboard.css", part("text/css; charset=utf-8", css))
        .route("/dashboard.js", part("text/javascript; charset=utf-8", js))
        .route("/dashboard.svg", picture());
    match dashboard {
        Some(theirs) if theirs.make == Make::Built => router.merge(dashboard::router(theirs, port)),
        Some(theirs) => router.route("/favicon.svg", picture()).merge(dashboard::router(theirs, port)),
        None => router.route("/", page()).route("/favicon.svg", picture()),
    }
}

fn asset(request: &HeaderMap, kind: &'static str, text: &'static str) -> Response {
    let headers = [
        (CONTENT_TYPE, kind),
        (CONTENT_SECURITY_POLICY, POLICY),
        // Asked again each time, so that an upgrade shows at once; answered with 304 as long as nothing changed.
        (CACHE_CONTROL, "no-cache"),
        (ETAG, TAG),
    ];
    if request.get(IF_NONE_MATCH).is_some_and(|known| known == TAG) {
        return (StatusCode::NOT_MODIFIED, headers).into_response();
    }
    (headers, text).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unchanged_page_is_not_sent_again() {
        let mut known = HeaderMap::new();
        assert_eq!(asset(&known, "text/html", "x").status(), StatusCode::OK);
        known.insert(IF_NONE_MATCH, TAG.parse().unwrap());
        assert_eq!(asset(&known, "text/html", "x").status(), StatusCode::NOT_MODIFIED);
    }

    /// The policy forbids code within the page, so the page must have none.
    #[test]
    fn the_page_obeys_its_policy() {
        let html = include_str!("../../dashboard/index.html");
        assert!(!html.contains("<style") && !html.contains(" style=") && !html.contains(" onclick"));
        assert!(html.matches("<script").count() == 1 && html.contains("<script src=\"/dashboard.js\""));
        let js = include_str!("../../dashboard/dashboard.js");
        assert!(!js.contains("innerHTML") && !js.contains("eval("));
    }
}
