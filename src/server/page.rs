//! The page that the binary carries: it shows the events live.

use axum::http::header::CONTENT_SECURITY_POLICY;
use axum::http::{HeaderMap, HeaderValue};
use axum::response::Response;

use super::access::Right;
use super::answer::carried;
use super::routes::Route;

/// What an event says is text that anybody may have written; should any of it ever get past the page's care, this keeps it
/// from running or loading anything.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// What is at `/`.
pub const FIRST: &str = "The page that shows the events, or that of an installed Claude MPM (`server.dashboard_dir`)";
/// What is at `/favicon.svg`.
pub const ICON: &str = "The icon of the page at `/`";
/// Where pages are: this one, or Claude MPM's.
pub const PATHS: [&str; 2] = ["/", "/dashboard"];

/// The routes of the page and its parts: always at `/dashboard`, at `/` if it `is_first` (no dashboard of Claude MPM is served
/// there), and its icon also as `/favicon.svg` if that `is_free`.
pub fn routes(is_first: bool, is_free: bool) -> Vec<Route> {
    let html = include_str!("../../dashboard/index.html");
    let css = include_str!("../../dashboard/dashboard.css");
    let js = include_str!("../../dashboard/dashboard.js");
    let icon = include_str!("../../dashboard/favicon.svg");
    let part = |path: &'static str, about, kind: &'static str, text: &'static str| {
        Route::get(path, Right::Open, about, move |h: HeaderMap| async move { asset(&h, kind, text) })
    };
    let page = |path, about| part(path, about, "text/html; charset=utf-8", html);
    let picture = |path, about| part(path, about, "image/svg+xml", icon);
    let mut all = vec![
        page("/dashboard", "The monitor's own page"),
        part("/dashboard.css", "Its style", "text/css; charset=utf-8", css),
        part("/dashboard.js", "Its script", "text/javascript; charset=utf-8", js),
        picture("/dashboard.svg", "Its icon"),
    ];
    all.extend(is_first.then(|| page("/", FIRST)));
    all.extend(is_free.then(|| picture("/favicon.svg", ICON)));
    all
}

fn asset(request: &HeaderMap, kind: &'static str, text: &'static str) -> Response {
    let mut response = carried(request, kind, text);
    response.headers_mut().insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    response
}

#[cfg(test)]
mod tests {
    use axum::http::StatusCode;
    use axum::http::header::{ETAG, IF_NONE_MATCH};

    use super::*;

    #[test]
    fn an_unchanged_page_is_not_sent_again() {
        let first = asset(&HeaderMap::new(), "text/html", "x");
        let known = HeaderMap::from_iter([(IF_NONE_MATCH, first.headers()[ETAG].clone())]);
        let again = asset(&known, "text/html", "x");
        assert_eq!((first.status(), again.status()), (StatusCode::OK, StatusCode::NOT_MODIFIED));
        for answer in [first, again] {
            assert_eq!(answer.headers()[CONTENT_SECURITY_POLICY], POLICY);
        }
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
