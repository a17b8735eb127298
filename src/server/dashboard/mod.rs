//! The dashboard of the user's own Claude MPM, served from where it is installed. Its licence is not ours, so nothing of it
//! is in this program.

mod below;
mod files;
pub mod find;
mod policy;
pub mod watch;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::body::Body;
use axum::extract::Request;
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, LAST_MODIFIED};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};

use self::below::Below;
use self::files::{FileError, Found, Pieces};
pub use self::find::{Choice, Dashboard, DashboardError, Machine, Make, resolve};
use super::access::Right;
use super::answer::Refusal;
use super::page::{FIRST, ICON};
use super::routes::Route;

/// The largest page, bytes: it is read whole, as its policy names the scripts in it.
const LARGEST_PAGE: u64 = 4 << 20;

/// The routes, for a server on `port`.
pub fn routes(dashboard: &Arc<Dashboard>, port: u16) -> Vec<Route> {
    // The files of `root`, whose path follows `prefix`, or is always `name`.
    let files = |path: &'static str, about, root: &Path, prefix: &'static str, name: &'static str| {
        let site = Arc::new(Site { root: root.to_owned(), make: dashboard.make, port });
        Route::get(path, Right::Open, about, move |request: Request| {
            let site = Arc::clone(&site);
            async move {
                // As it was sent: the router's own parameters are decoded already.
                let path = request.uri().path();
                let sent = if name.is_empty() { path.strip_prefix(prefix).unwrap_or_default() } else { name };
                site.answer(sent, request.headers()).await
            }
        })
    };
    let mut all = vec![files("/", FIRST, &dashboard.page, "", "index.html")];
    match dashboard.make {
        Make::Built => {
            let about = "Scripts and styles of an installed dashboard (5.4 and later)";
            all.push(files("/_app/{*path}", about, &dashboard.page.join("_app"), "/_app/", ""));
            all.push(files("/favicon.svg", ICON, &dashboard.page, "", "favicon.svg"));
        }
        Make::Templates => {
            let about = "Pages of an installed dashboard (5.3 and before)";
            all.push(files("/templates/{*path}", about, &dashboard.page, "/templates/", ""));
        }
    }
    if let Some(statics) = &dashboard.statics {
        all.push(files("/static/{*path}", "Static files of an installed dashboard", statics, "/static/", ""));
    }
    all
}

/// A folder of it.
#[derive(Debug)]
struct Site {
    root: PathBuf,
    make: Make,
    port: u16,
}

impl Site {
    async fn answer(self: &Arc<Self>, sent: &str, request: &HeaderMap) -> Response {
        let absent = || Refusal::new(StatusCode::NOT_FOUND, FileError::Absent.code(), FileError::Absent.to_string());
        let Some(below) = Below::from_url(sent) else {
            return absent().into_response();
        };
        let (kind, cache) = (content_type(below.as_str()), caching(&self.root, below.as_str()));
        let is_page = kind.starts_with("text/html");
        let site = Arc::clone(self);
        let opened = tokio::task::spawn_blocking(move || {
            let mut found = files::open(&site.root, &below)?;
            let page = if is_page { Some(read_page(&mut found)?) } else { None };
            Ok((found, page))
        });
        let (found, page) = match opened.await {
            Ok(Ok(opened)) => opened,
            Ok(Err(FileError::Absent)) => return absent().into_response(),
            Ok(Err(error)) => {
                tracing::warn!(root = %self.root.display(), %error, "a file of the dashboard cannot be served");
                let refusal = Refusal::new(StatusCode::SERVICE_UNAVAILABLE, error.code(), error.to_string());
                return refusal.into_response();
            }
            Err(error) => return Refusal::internal(error.to_string()).into_response(),
        };
        let policy = page.as_ref().map(|html| policy::page(self.make, html, self.port));
        let known = files::is_known(request, &found.tag);
        let headers: [(HeaderName, Option<&str>); 5] = [
            (CONTENT_TYPE, Some(kind)),
            (CONTENT_SECURITY_POLICY, Some(policy.as_deref().unwrap_or(policy::FILE))),
            (CACHE_CONTROL, Some(cache)),
            (ETAG, Some(&found.tag)),
            (LAST_MODIFIED, found.modified.as_deref()),
        ];
        let headers: HeaderMap =
            headers.into_iter().filter_map(|(name, value)| Some((name, HeaderValue::from_str(value?).ok()?))).collect();
        if known {
            return (StatusCode::NOT_MODIFIED, headers).into_response();
        }
        let body = match page {
            // For HEAD the router keeps the length and leaves the body away, of which nothing has been read then.
            Some(html) => Body::from(html),
            None => Body::new(Pieces::new(found.file, found.size)),
        };
        (headers, body).into_response()
    }
}

fn read_page(found: &mut Found) -> Result<String, FileError> {
    use std::io::Read as _;
    let mut html = Vec::new();
    (&mut found.file).take(LARGEST_PAGE + 1).read_to_end(&mut html).map_err(FileError::Io)?;
    if html.len() as u64 > LARGEST_PAGE {
        return Err(FileError::Io(std::io::Error::other("the page is too large")));
    }
    String::from_utf8(html).map_err(|e| FileError::Io(std::io::Error::other(e)))
}

/// Names below `immutable` hold a hash of the content; everything else is asked for again, and answered with 304.
fn caching(root: &Path, path: &str) -> &'static str {
    if root.ends_with("_app") && path.starts_with("immutable/") {
        "public, max-age=31536000, immutable"
    } else {
        "no-cache"
    }
}

fn content_type(path: &str) -> &'static str {
    let ending = path.rsplit('/').next().and_then(|name| name.rsplit_once('.')).map_or("", |(_, ending)| ending);
    match ending.to_ascii_lowercase().as_str() {
        "html" | "htm" => "text/html; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "json" | "map" => "application/json; charset=utf-8",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "gif" => "image/gif",
        "webp" => "image/webp",
        "ico" => "image/vnd.microsoft.icon",
        "wasm" => "application/wasm",
        "woff" => "font/woff",
        "woff2" => "font/woff2",
        "ttf" => "font/ttf",
        "txt" | "md" => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}
