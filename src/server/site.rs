//! What a request meets before its route: the guard, the preflight answer, and afterwards the CORS headers.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use axum::Router;
use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use axum::response::{IntoResponse, Response};
use hyper::body::Incoming;
use tower::ServiceExt;

use super::accept::Connection;
use super::guard::{self, Allowed};
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
    router: Router,
}

impl Site {
    /// With the routes it leads to.
    pub fn new(context: Context, counters: Arc<Counters>, router: Router) -> Self {
        Self { context, counters, out_of_descriptors: AtomicBool::new(false), router }
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
        let allowed = match guard::check(&head, connection.local.ip(), &self.settings().allow_origin) {
            Ok(allowed) => allowed,
            Err(refusal) => {
                let mut response = refusal.into_response();
                guard::share(response.headers_mut(), &Allowed::Program);
                return Ok(response);
            }
        };
        let mut response = if head.method == Method::OPTIONS {
            let mut response = StatusCode::OK.into_response();
            guard::preflight(response.headers_mut());
            response
        } else {
            head.extensions.insert(connection);
            let request = Request::from_parts(head, Body::new(body));
            let Ok(response) = self.router.clone().oneshot(request).await;
            response
        };
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            guard::share(response.headers_mut(), &allowed);
        }
        Ok(response)
    }
}
