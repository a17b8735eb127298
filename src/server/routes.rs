//! The route table: each HTTP route with its method, its path, the right that it takes, who is admitted and what it is for.
//!
//! The router is built from it, and so are its answers to what may not be asked (401), to other paths (404) and to other
//! methods (405). `docs/openapi.json` describes the same routes, which a test compares. A new route is an entry here, a handler
//! in the module that knows the answer, its description there (`summary` is `about`, and `"security": []` stands only for
//! [`Right::Open`]), and its row in `docs/protocol.md`.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::handler::Handler;
use axum::http::{Method, Request, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{self, MethodRouter};
use tokio::sync::watch;

use super::accept::{Connection, Open, Phase};
use super::access::{self, Access, Right};
use super::answer::Refusal;
use super::clients::visitor::Visitor;
use super::dashboard::{self, Dashboard, Make};
use super::guard::Allowed;
use super::peer::Asker;
use super::sse::{self, Streams};
use super::{Context, Counters, event_pages, files, health, openapi, page, post, project, stats};
use socketio::extensions::Extensions;
use socketio::{SocketIo, polling};

/// Where events are posted and read.
pub const EVENTS: &str = "/api/events";

/// What the routes need.
#[derive(Debug)]
pub struct App {
    /// What the server was started with.
    pub context: Context,
    /// The Socket.IO server.
    pub sio: Arc<SocketIo>,
    /// The readers of the stream.
    pub streams: Arc<Streams>,
    /// What happened so far.
    pub counters: Arc<Counters>,
    /// The open connections.
    pub open: Arc<Open>,
    /// The files that clients may read.
    pub files: super::files::Files,
    /// How far the server is on its way down.
    pub phase: watch::Receiver<Phase>,
}

/// How a route is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// GET, and HEAD.
    Get,
    /// POST.
    Post,
    /// Any method: the route tells by itself which it answers.
    Any,
}

/// Whom a route is for, of those that have its right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// All of them.
    All,
    /// Those that show that they are the user, or have the token: files are the user's own.
    Owner,
}

/// An entry of the table.
#[derive(Debug)]
pub struct Route {
    /// How it is asked.
    pub verb: Verb,
    /// Its path; `{name}` stands for a part of it and `{*name}` for the rest.
    pub path: String,
    /// What its sender must be allowed.
    pub right: Right,
    /// Whom it is for.
    pub admission: Admission,
    /// What it is for, as the OpenAPI document has it.
    pub about: &'static str,
    answer: MethodRouter<Arc<App>>,
}

impl Route {
    /// Answers GET and HEAD.
    pub fn get<T: 'static>(
        path: impl Into<String>,
        right: Right,
        about: &'static str,
        handler: impl Handler<T, Arc<App>>,
    ) -> Self {
        Self::new(Verb::Get, path, right, about, routing::get(handler))
    }

    /// Answers POST.
    pub fn post<T: 'static>(
        path: impl Into<String>,
        right: Right,
        about: &'static str,
        handler: impl Handler<T, Arc<App>>,
    ) -> Self {
        Self::new(Verb::Post, path, right, about, routing::post(handler))
    }

    /// Answers any method.
    pub fn any<T: 'static>(
        path: impl Into<String>,
        right: Right,
        about: &'static str,
        handler: impl Handler<T, Arc<App>>,
    ) -> Self {
        Self::new(Verb::Any, path, right, about, routing::any(handler))
    }

    fn new(
        verb: Verb,
        path: impl Into<String>,
        right: Right,
        about: &'static str,
        answer: MethodRouter<Arc<App>>,
    ) -> Self {
        Self { verb, path: path.into(), right, admission: Admission::All, about, answer }
    }

    /// The same, for the owner of the files alone.
    fn of_the_owner(self) -> Self {
        Self { admission: Admission::Owner, ..self }
    }
}

/// The table, for a server on `port` that serves that dashboard of Claude MPM.
pub fn table(dashboard: Option<&Arc<Dashboard>>, port: u16) -> Vec<Route> {
    use Right::{Look, Open, Read, Write};
    let mut all = vec![
        Route::get("/health", Look, "Who this process is and how its parts are", health::health),
        Route::get("/ready", Open, "Whether it serves with all its parts", health::ready),
        Route::get("/openapi.json", Read, "This description", openapi::document),
        Route::get("/api/status", Read, "The server's figures", stats::status),
        Route::get("/api/clients", Read, "Who is connected", stats::clients),
        Route::get("/metrics", Read, "The figures for Prometheus", stats::metrics),
        Route::get(EVENTS, Read, "The events that are kept, a page at a time", event_pages::list),
        Route::post(EVENTS, Write, "Takes an event", post::routed),
        Route::get(sse::PATH, Read, "The events as they happen, as server-sent events", sse::stream),
        // Its namespaces ask for the token.
        Route::any("/socket.io/", Open, "Socket.IO 5 over Engine.IO 4", socket_io),
        Route::post("/api/file", Read, "A file as text", files::http::file).of_the_owner(),
        Route::get("/api/files", Read, "What is in a folder", files::http::list).of_the_owner(),
        Route::get(
            "/api/file/read",
            Read,
            "A file as pages show it: text, or a picture in base64",
            files::http::file_read,
        )
        .of_the_owner(),
        Route::get("/api/file/diff", Read, "What changed in a file, by git", files::http::diff).of_the_owner(),
        Route::post("/api/git-history", Read, "The commits of a file", files::http::history).of_the_owner(),
        Route::get("/version.json", Read, "The version, as Claude MPM's server tells it", project::version),
        Route::get(
            "/api/working-directory",
            Read,
            "The directory that the monitor was started in",
            project::working_directory,
        ),
        Route::get("/api/config", Read, "The directory and its branch, as Claude MPM's page asks", project::config),
    ];
    let of_the_project = |(path, about)| Route::get(format!("/api/config{path}"), Read, about, project::unavailable);
    all.extend(project::PATHS.into_iter().map(of_the_project));
    all.extend(page::routes(dashboard.is_none(), dashboard.is_none_or(|theirs| theirs.make == Make::Templates)));
    all.extend(dashboard.into_iter().flat_map(|theirs| dashboard::routes(theirs, port)));
    all
}

/// The router of the table, each route behind its right.
pub fn router(app: Arc<App>) -> Router {
    let table = table(app.context.dashboard.as_ref(), app.context.instance.port);
    let guarded = |router: Router<Arc<App>>, Route { verb, path, right, admission, answer, .. }: Route| {
        let gate = middleware::from_fn_with_state(Gate { app: Arc::clone(&app), right, admission }, enter);
        // Another method has the right of an unknown path, and no method is another one where any is answered.
        router.route(&path, if verb == Verb::Any { answer.layer(gate) } else { answer.route_layer(gate) })
    };
    table
        .into_iter()
        .fold(Router::new(), guarded)
        .fallback(not_found)
        .method_not_allowed_fallback(wrong_method)
        .with_state(app)
}

/// What stands before a route.
#[derive(Clone)]
struct Gate {
    app: Arc<App>,
    right: Right,
    admission: Admission,
}

async fn enter(State(gate): State<Gate>, request: Request<Body>, next: Next) -> Response {
    let Gate { app, right, admission } = gate;
    if let Err(refusal) = may(&request, right) {
        return access::refuse(&app.counters, refusal);
    }
    if admission == Admission::Owner {
        let asker = asker(&app, &request);
        if let Err(error) = app.files.admit(asker).await {
            return files::http::turned_away(&app.files, error);
        }
    }
    next.run(request).await
}

/// Without the site's word on its sender a request may do nothing.
fn may(request: &Request<Body>, right: Right) -> Result<(), Refusal> {
    let access = request.extensions().get().copied().unwrap_or(Access::NONE);
    access::check(request.headers(), access, right)
}

fn asker(app: &App, request: &Request<Body>) -> Asker {
    let extensions = request.extensions();
    let connection = extensions.get::<Arc<Connection>>();
    let access = extensions.get().copied().unwrap_or(Access::NONE);
    let foreign = extensions.get().is_none_or(Allowed::is_foreign_page);
    let settings = app.context.settings.borrow();
    Asker::new(connection.map(|c| c.held.ends), connection.and_then(|c| c.held.pair), foreign, access, &settings)
}

/// What a request takes that no route answers: who may ask nothing is not told which paths there are.
fn any_right(method: &Method) -> Right {
    if matches!(*method, Method::GET | Method::HEAD) { Right::Read } else { Right::Write }
}

async fn not_found(State(app): State<Arc<App>>, request: Request<Body>) -> Response {
    if let Err(refusal) = may(&request, any_right(request.method())) {
        return access::refuse(&app.counters, refusal);
    }
    let path: String = request.uri().path().chars().take(200).collect();
    Refusal::new(StatusCode::NOT_FOUND, "not_found", format!("there is no {path}")).into_response()
}

async fn wrong_method(State(app): State<Arc<App>>, request: Request<Body>) -> Response {
    if let Err(refusal) = may(&request, any_right(request.method())) {
        return access::refuse(&app.counters, refusal);
    }
    let message = format!("{} does not answer this method, see the Allow header", request.uri().path());
    // The router adds Allow.
    Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message).into_response()
}

async fn socket_io(State(app): State<Arc<App>>, request: Request<Body>) -> Response {
    let Some(connection) = request.extensions().get::<Arc<Connection>>().cloned() else {
        return Refusal::internal("the request has no connection").into_response();
    };
    let access = request.extensions().get().copied().unwrap_or(Access::NONE);
    let is_foreign_page = request.extensions().get::<Allowed>().is_some_and(Allowed::is_foreign_page);
    let visitor = Visitor::new(connection.held.ends, connection.held.pair, is_foreign_page, access);
    match polling::serve(Arc::clone(&app.sio), request, connection, Extensions::new(visitor)).await {
        Ok(answer) => answer.map(Body::new),
        Err(refused) => Refusal::from(refused).into_response(),
    }
}

/// The routes of every page that can be served.
#[cfg(test)]
pub(super) fn every_route() -> Vec<Route> {
    let folder = std::path::PathBuf::from("/nonexistent");
    let theirs = |make| Arc::new(Dashboard { make, page: folder.clone(), statics: Some(folder.clone()) });
    let (built, templates) = (theirs(Make::Built), theirs(Make::Templates));
    [None, Some(&built), Some(&templates)].into_iter().flat_map(|theirs| table(theirs, 1)).collect()
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use axum::http::{HeaderMap, HeaderName};

    use super::*;
    use crate::config::{LocalAccess, Settings, Token};
    use crate::server::stream::Ends;

    const TOKEN: &str = "0123456789abcdef";
    const HOME: Ends = Ends::Tcp { local: IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), peer: HERE };
    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 9));

    fn away() -> Ends {
        Ends::Tcp { local: [192, 168, 1, 5].into(), peer: [192, 168, 1, 6].into() }
    }

    fn settings(local: LocalAccess) -> Settings {
        Settings { token: Some(Token::new(TOKEN).unwrap()), local, ..crate::config::settings::defaults() }
    }

    /// What the table, with every page that it can have, says that a request takes.
    fn right(method: &Method, path: &str) -> Right {
        let is_it = |route: &Route| {
            let verb = match route.verb {
                Verb::Get => matches!(*method, Method::GET | Method::HEAD),
                Verb::Post => method == Method::POST,
                Verb::Any => true,
            };
            let is_path = match route.path.split_once("{*") {
                Some((start, _)) => path.starts_with(start),
                None => route.path == path,
            };
            verb && is_path
        };
        every_route().iter().find(|route| is_it(route)).map_or_else(|| any_right(method), |route| route.right)
    }

    fn may(method: &str, path: &str, header: Option<(&str, &str)>, ends: Ends, settings: &Settings) -> bool {
        let mut headers = HeaderMap::new();
        if let Some((name, value)) = header {
            headers.insert(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        }
        let right = right(&method.parse().unwrap(), path);
        access::check(&headers, Access::of(&headers, ends, settings), right).is_ok()
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
}
