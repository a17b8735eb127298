//! HTTP and Socket.IO on the listeners: accept loop and limits, guard, routes.
//!
//! [`Server::start`] begins it, [`Server::drain`] ends it. It drives hyper's connections itself, because limits,
//! deadlines and the drain are about connections, not about requests.

pub mod accept;
pub mod access;
pub mod answer;
pub mod beat;
pub mod beneath;
pub mod clients;
pub mod counters;
pub mod dashboard;
pub mod event_pages;
pub mod feed;
pub mod files;
pub mod guard;
pub mod health;
pub mod metrics;
pub mod openapi;
pub mod page;
pub mod peer;
pub mod post;
pub mod project;
pub mod room;
pub mod routes;
pub mod site;
pub mod spooled;
pub mod sse;
pub mod stats;
pub mod stream;
pub mod tide;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use self::accept::{Open, Phase};
pub use self::counters::Counters;
use self::feed::{EventFeed, Fan};
use self::site::Site;
use self::sse::Streams;
use self::stream::Listener;
use crate::config::Settings;
use crate::events::hub::{Hub, Outlet};
use crate::events::intake::Intake;
use crate::events::store::Store;
use daemon::components::{Components, State};
use daemon::program_file::ProgramFile;
use daemon::pulse::{Probe, Pulse};
use daemon::readiness::Readiness;
use daemon::sockets;
use socketio::SocketIo;

/// Who this process is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// Its random identity.
    pub id: String,
    /// The port it serves.
    pub port: u16,
    /// Its process id.
    pub pid: u32,
    /// When it began.
    pub started: Instant,
    /// Parts that earlier lives on this port had to cut off at their end.
    pub aborted_before: u64,
}

/// What the server is given.
#[derive(Clone)]
pub struct Context {
    /// The live settings.
    pub settings: watch::Receiver<Arc<Settings>>,
    /// What the boot still waits for.
    pub readiness: Readiness,
    /// The states of all components; the server keeps that of `http`.
    pub components: Components,
    /// Who must answer the watchdog; the accept loop does, as `accept`.
    pub pulse: Pulse,
    /// Where new events come from.
    pub hub: Arc<Hub>,
    /// Where new events go.
    pub intake: Arc<Intake>,
    /// The events that are kept.
    pub store: Arc<Store>,
    /// Who this process is.
    pub instance: Arc<Instance>,
    /// How often the configuration was read.
    pub config_generation: Arc<AtomicU64>,
    /// What is counted of the bus, if there is one.
    pub bus: Option<Arc<crate::bus::Figures>>,
    /// The page at `/`, if it is not our own.
    pub dashboard: Option<Arc<dashboard::Dashboard>>,
    /// What this process runs from.
    pub program: ProgramFile,
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").field("instance", &self.instance).finish_non_exhaustive()
    }
}

/// How a drain went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DrainReport {
    /// Connections that were open when it began.
    pub connections: usize,
    /// Clients, of Socket.IO and of the stream, that were told.
    pub clients_told: usize,
    /// Connections that had to be reset at the deadline.
    pub cut: usize,
    /// Whether all that watched a dashboard has ended.
    pub watch_ended: bool,
    /// How long it took.
    pub took: Duration,
}

/// The running server.
#[derive(Debug)]
pub struct Server {
    sio: Arc<SocketIo>,
    streams: Arc<Streams>,
    counters: Arc<Counters>,
    open: Arc<Open>,
    phase: watch::Sender<Phase>,
    components: Components,
    pulse: Pulse,
    probe: Arc<Probe>,
    accepting: JoinHandle<()>,
    helpers: [JoinHandle<()>; 4],
    watch: Option<dashboard::watch::Watch>,
}

/// After the cut, tasks need a turn of the runtime to let go of their connections.
const CUT_DEADLINE: Duration = Duration::from_secs(1);

impl Server {
    /// Serves on bound listeners. Call it on the runtime that is to serve.
    ///
    /// # Errors
    /// When a listener cannot be registered with the runtime.
    pub fn start(
        listeners: impl IntoIterator<Item = impl Into<sockets::Listener>>,
        context: Context,
    ) -> std::io::Result<Self> {
        let listeners = listeners
            .into_iter()
            .map(|listener| match listener.into() {
                sockets::Listener::Tcp(listener) => {
                    listener.set_nonblocking(true)?;
                    tokio::net::TcpListener::from_std(listener).map(Listener::Tcp)
                }
                sockets::Listener::Unix(listener) => {
                    listener.set_nonblocking(true)?;
                    tokio::net::UnixListener::from_std(listener).map(Listener::Unix)
                }
            })
            .collect::<std::io::Result<Vec<_>>>()?;
        let (phase, phases) = watch::channel(Phase::Serving);
        let (counters, open) = (Arc::<Counters>::default(), Arc::<Open>::default());
        let (components, pulse) = (context.components.clone(), context.pulse.clone());
        let files = files::Files::new(context.settings.clone(), Arc::clone(&context.hub), Arc::clone(&counters));
        let sio = SocketIo::new(
            clients::config(context.settings.clone()),
            clients::namespaces(&clients::Parts {
                hub: Arc::clone(&context.hub),
                intake: Arc::clone(&context.intake),
                feed: EventFeed::new(Arc::clone(&context.hub), Arc::clone(&context.store), context.settings.clone()),
                counters: Arc::clone(&counters),
                settings: context.settings.clone(),
                instance: Arc::clone(&context.instance),
                files: files.clone(),
            }),
        );
        let fan = Fan { sio: Arc::clone(&sio), counters: Arc::clone(&counters) };
        context.hub.attach(Arc::new(fan) as Arc<dyn Outlet>);
        let streams = Streams::new(Arc::clone(&context.hub), Arc::clone(&context.store));
        context.hub.attach(Arc::clone(&streams) as Arc<dyn Outlet>);
        let app = routes::App {
            context: context.clone(),
            sio: Arc::clone(&sio),
            streams: Arc::clone(&streams),
            counters: Arc::clone(&counters),
            open: Arc::clone(&open),
            files,
            phase: phases.clone(),
        };
        let instance = Arc::clone(&app.context.instance);
        let watched = context.dashboard.as_ref().filter(|_| context.settings.borrow().watches_dashboard());
        let watch = watched.map(|dashboard| {
            let (sio, counters) = (Arc::clone(&sio), Arc::clone(&counters));
            dashboard::watch::Watch::start(dashboard, components.clone(), move || beat::reload(&sio, &counters))
        });
        let app = Arc::new(app);
        let site = Arc::new(Site::new(context, Arc::clone(&counters), Arc::clone(&app)));
        let probe = pulse.register("accept");
        let accepting = tokio::spawn(accept::run(listeners, site, Arc::clone(&open), phases, Arc::clone(&probe)));
        let helpers = [
            tokio::spawn(socketio::heartbeat::run(Arc::clone(&sio))),
            tokio::spawn(clients::count::run(Arc::clone(&sio))),
            tokio::spawn(beat::run(Arc::clone(&sio), instance)),
            tokio::spawn(spooled::run(app)),
        ];
        components.set(accept::COMPONENT, State::Ok);
        Ok(Self { sio, streams, counters, open, phase, components, pulse, probe, accepting, helpers, watch })
    }

    /// What happened since the start.
    pub fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    /// What happened to Socket.IO sessions since the start.
    pub fn counters_of_clients(&self) -> &socketio::counters::Counters {
        &self.sio.counters
    }

    /// The open connections of any kind.
    pub fn connections(&self) -> usize {
        self.open.count()
    }

    /// The Socket.IO clients.
    pub fn clients(&self) -> usize {
        self.sio.registry.connected()
    }

    /// Ends the server: accepts nothing new, tells the clients (`reason` is what they read), finishes the requests that
    /// have begun, and after `deadline` resets what is left. Ends in little more than the deadline, whatever clients do.
    pub async fn drain(self, deadline: Duration, reason: &str) -> DrainReport {
        let began = Instant::now();
        self.components.set(accept::COMPONENT, State::Stopping);
        self.pulse.retire(&self.probe);
        let connections = self.open.count();
        self.phase.send_replace(Phase::Draining);
        let watch_ended = match self.watch {
            Some(watch) => watch.stop().await,
            None => true,
        };
        // Once it has ended, the listeners are closed: no client that is told can come back to this process.
        let _ = self.accepting.await;
        let clients_told = say_goodbye(&self.sio, reason) + self.streams.say_goodbye(reason);
        let all_closed = || self.open.count() == 0;
        wait_until(&self.open, all_closed, deadline).await;
        let cut = self.open.count();
        self.phase.send_replace(Phase::Cut);
        self.sio.cut();
        wait_until(&self.open, all_closed, CUT_DEADLINE).await;
        for helper in &self.helpers {
            helper.abort();
        }
        DrainReport { connections, clients_told, cut, watch_ended, took: began.elapsed() }
    }
}

/// When clients may try again, seconds: managers start the next process at once, after a failure a second later.
const RETRY_AFTER: u64 = 1;

/// Tells the Socket.IO clients that the server goes; how many were told.
fn say_goodbye(sio: &SocketIo, reason: &str) -> usize {
    let timestamp = jiff::Timestamp::now().to_string();
    let payload = json!({"reason": reason, "retry_after": RETRY_AFTER, "timestamp": timestamp});
    sio.say_goodbye("server_restarting", &payload, reason)
}

async fn wait_until(open: &Open, done: impl Fn() -> bool, deadline: Duration) {
    let wait = async {
        loop {
            let closed = open.closed.notified();
            tokio::pin!(closed);
            // Registered before the look, so that nothing closes unseen between the two.
            closed.as_mut().enable();
            if done() {
                return;
            }
            closed.await;
        }
    };
    let _ = tokio::time::timeout(deadline, wait).await;
}
