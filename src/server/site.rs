//! What a request meets before its route: the guard, the preflight answer, and afterwards the CORS headers.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, header};
use axum::response::{IntoResponse, Response};
use hyper::body::Incoming;
use tower::ServiceExt;

use super::accept::Connection;
use super::access::{self, Access, Right};
use super::guard::{self, Allowed};
use super::post;
use super::routes::{self, App};
use super::{Context, Counters};
use crate::config::Settings;

/// Everything that connections share.
#[derive(Debug)]
pub struct Site {
    /// What the server was started with.
    pub context: Context,
    /// What happened so far.
    pub counters: Arc<Counters>,
    pub(super) out_of_descriptors: AtomicBool,
    app: Arc<App>,
    router: Router,
}

impl Site {
    /// With the routes that lead to `app`.
    pub fn new(context: Context, counters: Arc<Counters>, app: Arc<App>) -> Self {
        let router = routes::router(Arc::clone(&app));
        Self { context, counters, out_of_descriptors: AtomicBool::new(false), app, router }
    }

    /// The settings of this moment.
    pub fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.context.settings.borrow())
    }

    /// Answers one request.
    ///
    /// # Errors
    /// None; the type is what hyper asks for.
    pub async fn serve(
        self: Arc<Self>,
        request: Request<Incoming>,
        connection: Arc<Connection>,
    ) -> Result<Response, Infallible> {
        let (mut head, body) = request.into_parts();
        let (allowed, access) = {
            let settings = self.context.settings.borrow();
            let allowed = guard::check(&head, connection.held.ends, &settings);
            (allowed, Access::of(&head.headers, connection.held.ends, &settings))
        };
        let (allowed, refused) = match allowed {
            Ok(allowed) => (allowed, None),
            Err(refusal) => (Allowed::Program, Some(refusal)),
        };
        let mut response = match refused {
            Some(refusal) => access::refuse(&self.counters, refusal),
            None if head.method == Method::OPTIONS => {
                let mut response = StatusCode::OK.into_response();
                guard::preflight(response.headers_mut());
                response
            }
            // By far the most frequent request goes a way without detours.
            None if head.method == Method::POST && head.uri.path() == routes::EVENTS => {
                match access::check(&head.headers, access, Right::Write) {
                    Ok(()) => post::serve(&self.app, &head.headers, body).await,
                    Err(refusal) => access::refuse(&self.counters, refusal),
                }
            }
            None => {
                head.extensions.insert(connection);
                head.extensions.insert(access);
                head.extensions.insert(allowed.clone());
                let request = Request::from_parts(head, Body::new(body));
                let Ok(response) = self.router.clone().oneshot(request).await;
                response
            }
        };
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            guard::share(response.headers_mut(), &allowed);
            // There is nothing to protect in an answer without a body.
            if response.status() != StatusCode::NO_CONTENT {
                protect(response.headers_mut());
            }
        }
        Ok(response)
    }
}

/// What a browser must not do with any answer of ours, whatever is in it; a route's own rules stay.
fn protect(headers: &mut HeaderMap) {
    const RULES: [(HeaderName, HeaderValue); 5] = [
        (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'")),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        (HeaderName::from_static("cross-origin-resource-policy"), HeaderValue::from_static("same-site")),
    ];
    for (name, rule) in RULES {
        headers.entry(name).or_insert(rule);
    }
}
