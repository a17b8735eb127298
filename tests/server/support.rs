//! A server on a free port of this machine with a store in a folder of its own, and the clients of the Socket.IO crate's
//! tests.
#![allow(dead_code)]

#[path = "../../crates/socketio/tests/client/mod.rs"]
mod client;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use daemon::components::Components;
use daemon::pulse::Pulse;
use daemon::readiness::Readiness;
use mpm_monitor::config::layers::Merged;
use mpm_monitor::config::settings::settle;
use mpm_monitor::config::{Directories, Settings};
use mpm_monitor::events::hub::{Hub, Limits};
use mpm_monitor::events::intake::Intake;
use mpm_monitor::events::model::Draft;
use mpm_monitor::events::store::{Store, StoreConfig};
use mpm_monitor::server::dashboard::{Machine, resolve};
use mpm_monitor::server::{Context, Instance, Server};
use tokio::sync::watch;

pub use self::client::*;

pub struct Kept {
    pub hub: Arc<Hub>,
    pub store: Arc<Store>,
    pub intake: Arc<Intake>,
    pub dir: Arc<tempfile::TempDir>,
}

impl Kept {
    /// Commits past the server: returns the event's number once the store has it.
    pub fn commit(&self, name: &str, payload: &str) -> u64 {
        let draft =
            Draft { name: name.into(), subtype: "x".into(), session: Some("s".into()), payload: payload.into() };
        let store = Arc::clone(&self.store);
        // A thread of its own, as the caller's may be the one that the server under test runs on.
        let commit = || tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(store.append(draft));
        std::thread::scope(|scope| scope.spawn(commit).join().unwrap()).unwrap()
    }

    /// The id of the event with that number.
    pub fn id(&self, seq: u64) -> String {
        format!("{}-{seq}", self.store.epoch())
    }
}

fn keep(pulse: &Pulse, dir: Arc<tempfile::TempDir>) -> Kept {
    let hub = Hub::new(Limits::default());
    let config = StoreConfig {
        path: dir.path().join("events.db"),
        durable: false,
        max_events: 100_000,
        max_bytes: 1 << 30,
        max_age: Duration::from_secs(3600),
    };
    let publish = Arc::clone(&hub);
    let store = Store::open(config, pulse, &Components::new(), Box::new(move |batch| publish.publish(batch))).unwrap();
    hub.load(store.epoch(), vec![]);
    hub.start(pulse);
    let store = Arc::new(store);
    Kept { intake: Intake::new(Arc::clone(&store), Arc::clone(&hub)), hub, store, dir }
}

pub struct Rig {
    pub server: Option<Server>,
    pub address: SocketAddr,
    pub events: Arc<Kept>,
    pub readiness: Readiness,
    pub pulse: Pulse,
    pub settings: watch::Sender<Arc<Settings>>,
}

pub fn settings() -> Settings {
    let directories = Directories {
        system_config: "/nonexistent".into(),
        user_config: None,
        state: "/nonexistent".into(),
        runtime: "/nonexistent".into(),
    };
    let (settings, _) = settle(Merged::default(), &directories).unwrap();
    Settings { max_connections: 200, ping_timeout: Duration::from_secs(60), ..settings }
}

pub fn start(settings: Settings) -> Rig {
    start_in(settings, Arc::new(tempfile::tempdir().unwrap()))
}

/// With the store in this folder.
pub fn start_in(settings: Settings, dir: Arc<tempfile::TempDir>) -> Rig {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let dashboard = resolve(&settings.dashboard, &Machine::default()).unwrap().map(Arc::new);
    let (sender, receiver) = watch::channel(Arc::new(settings));
    let (readiness, pulse) = (Readiness::new(), Pulse::new());
    let events = Arc::new(keep(&pulse, dir));
    let context = Context {
        bus: Some(bus()),
        settings: receiver,
        readiness: readiness.clone(),
        components: Components::new(),
        pulse: pulse.clone(),
        hub: Arc::clone(&events.hub),
        intake: Arc::clone(&events.intake),
        store: Arc::clone(&events.store),
        instance: Arc::new(Instance {
            id: "me".into(),
            port: address.port(),
            pid: 1,
            started: Instant::now(),
            aborted_before: 3,
        }),
        config_generation: Arc::new(AtomicU64::new(1)),
        dashboard,
        program: Default::default(),
    };
    let server = Some(Server::start(vec![listener], context).unwrap());
    Rig { server, address, events, readiness, pulse, settings: sender }
}

impl Rig {
    pub fn server(&self) -> &Server {
        self.server.as_ref().unwrap()
    }

    pub async fn post(&self, event: &str) -> String {
        self.ask("POST", "/api/events", "", event).await
    }
}

impl Served for Rig {
    fn address(&self) -> SocketAddr {
        self.address
    }
}

pub fn code(answer: &str) -> String {
    let value: serde_json::Value = serde_json::from_str(body(answer)).unwrap_or_default();
    assert_eq!(value["success"], false, "{answer}");
    assert!(value["error"].as_str().is_some_and(|e| !e.is_empty()), "{answer}");
    value["code"].as_str().unwrap_or_default().to_owned()
}

/// The figures of a bus that another node is on, so that all figures are there.
fn bus() -> Arc<mpm_monitor::bus::Figures> {
    let figures = mpm_monitor::bus::Figures::new("a");
    figures.of_node("b", |f| f.behind = 1);
    Arc::new(figures)
}
