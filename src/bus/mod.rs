//! Several machines: events travel between monitors through a Redis or Valkey server. Optional; without `bus.url` nothing of
//! this exists at run time.
//!
//! An event is stored and shown where it was accepted, whatever the server does. A [`publish`] task follows the own store and
//! keeps a stream in Redis up to date with it, a [`receive`] task reads the streams of the others into the own store. The
//! store is the only buffer on both sides. How entries are linked, so that nothing is missed unseen, is in [`entry`]; that each
//! is stored once, in [`crate::events::store::Arrival`]. `docs/bus.md` is for people.

pub mod entry;
pub mod figures;
mod generation;
mod link;
mod meter;
mod plan;
mod publish;
mod receive;
mod streams;
pub mod url;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

pub use self::figures::Figures;
pub use self::url::BusUrl;
use crate::events::hub::{Hub, Outlet, Shown};
use crate::events::intake::Intake;
use crate::events::store::Store;
use daemon::components::{Components, State};

/// The component's name.
pub const COMPONENT: &str = "bus";
/// What stands for this node where events are chosen by node; so no node can be called that.
pub const HERE: &str = "local";
/// The longest name of a node, and of what all keys begin with.
const LONGEST_NAME: usize = 64;
/// The shortest and the longest wait before a connection is tried again.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));

/// What the settings say of the bus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BusSettings {
    /// The name of this node; by default the host's name and the port.
    pub node: Option<String>,
    /// What all keys begin with: monitors that use the same are a fleet.
    pub stream: String,
    /// The most entries of a node's stream.
    pub stream_events: u64,
    /// How long events of a node wait for missing ones that come before them.
    pub gap_wait: Duration,
}

/// Checks the name of a node or of a fleet.
///
/// # Errors
/// What would be right.
pub fn check_name(name: &str) -> Result<(), String> {
    let good = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
    if name == HERE {
        return Err(format!("{HERE:?} means the node that is asked; choose another name"));
    }
    if !name.is_empty() && name.len() <= LONGEST_NAME && name.bytes().all(good) {
        return Ok(());
    }
    Err(format!("{name:?} is no name: 1 to {LONGEST_NAME} letters, digits, '-', '.' and '_'"))
}

/// The name of a node that was given none.
fn default_node(host: &str, port: u16) -> String {
    let host: String =
        host.chars().map(|c| if c.is_ascii_alphanumeric() || "-._".contains(c) { c } else { '-' }).collect();
    let host: String = host.chars().take(LONGEST_NAME - 6).collect();
    format!("{}-{port}", if host.is_empty() { "node" } else { &host })
}

/// What the bus is given.
#[derive(Debug, Clone)]
pub struct Around {
    /// The port that this monitor serves.
    pub port: u16,
    /// The identity of this life.
    pub instance: String,
    /// Where this instance keeps its state.
    pub dir: PathBuf,
    /// Where new events come from.
    pub hub: Arc<Hub>,
    /// What is published.
    pub store: Arc<Store>,
    /// Where the events of others go.
    pub intake: Arc<Intake>,
    /// Where the state is told.
    pub components: Components,
    /// The largest body of a post.
    pub max_body: usize,
}

/// What both tasks share.
struct Core {
    url: BusUrl,
    settings: BusSettings,
    node: String,
    around: Around,
    figures: Arc<Figures>,
    /// There may be something to publish.
    news: Notify,
    /// Whether this life held the lease of the node's name.
    held_lease: AtomicBool,
    troubles: Mutex<Troubles>,
}

/// Why the bus does not do all its work.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Troubles {
    publish: Option<String>,
    receive: Option<String>,
    /// The nodes whose events wait for missing ones.
    waiting: BTreeMap<String, String>,
}

impl Troubles {
    /// All in one sentence; `None` if there is none.
    fn told(&self) -> Option<String> {
        let mut parts: Vec<&str> = Vec::new();
        for part in self.publish.iter().chain(&self.receive).chain(self.waiting.values()) {
            if !parts.contains(&part.as_str()) {
                parts.push(part);
            }
        }
        if parts.is_empty() { None } else { Some(parts.join("; ")) }
    }
}

/// The running bus.
pub struct Bus {
    core: Arc<Core>,
    stop: watch::Sender<bool>,
    tasks: [JoinHandle<()>; 2],
}

impl Bus {
    /// Begins to publish and to receive; never waits for the server.
    pub fn start(url: BusUrl, settings: BusSettings, around: Around) -> Self {
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let node = settings.node.clone().unwrap_or_else(|| default_node(&host, around.port));
        tracing::info!(node, server = %url, "the bus is on");
        around.components.set_because(COMPONENT, State::Starting, format!("connecting to {}", url.place()));
        let troubles = Troubles { publish: Some("not connected yet".to_owned()), ..Troubles::default() };
        let core = Arc::new(Core {
            figures: Arc::new(Figures::new(&node)),
            url,
            settings,
            node,
            around,
            news: Notify::new(),
            held_lease: AtomicBool::new(false),
            troubles: Mutex::new(troubles),
        });
        core.around.hub.attach(Arc::new(Bell(Arc::clone(&core))));
        let (stop, stopped) = watch::channel(false);
        let tasks = [
            tokio::spawn(publish::run(Arc::clone(&core), stopped.clone())),
            tokio::spawn(receive::run(Arc::clone(&core), stopped)),
        ];
        Self { core, stop, tasks }
    }

    /// What is counted.
    pub fn figures(&self) -> &Arc<Figures> {
        &self.core.figures
    }

    /// Takes nothing more from the others, publishes what is left as long as the server takes it and `deadline` allows, and
    /// ends; true if everything was published. What was not will be by the next life.
    pub async fn stop(self, deadline: Duration) -> bool {
        self.core.around.components.set(COMPONENT, State::Stopping);
        self.stop.send_replace(true);
        let until = Instant::now() + deadline;
        for task in self.tasks {
            let handle = task.abort_handle();
            if tokio::time::timeout_at(until.into(), task).await.is_err() {
                handle.abort();
            }
        }
        self.core.figures.seen.load(Ordering::Relaxed) >= self.core.around.store.last_seq()
    }
}

impl fmt::Debug for Bus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bus").field("node", &self.core.node).finish_non_exhaustive()
    }
}

/// Wakes the publisher when events went through the hub.
struct Bell(Arc<Core>);

impl Outlet for Bell {
    fn send(&self, _: &[Shown]) {
        self.0.news.notify_one();
    }
}

impl Core {
    /// A key of the fleet.
    fn key(&self, parts: &[&str]) -> String {
        format!("{}:{}", self.settings.stream, parts.join(":"))
    }

    /// Changes what is wrong, and tells it where that changes anything.
    fn tell(&self, change: impl FnOnce(&mut Troubles)) {
        let (before, after) = {
            let mut troubles = self.troubles();
            let before = troubles.told();
            change(&mut troubles);
            (before, troubles.told())
        };
        if before == after {
            return;
        }
        match after {
            None => {
                tracing::info!(server = %self.url, "the bus works");
                self.around.components.set(COMPONENT, State::Ok);
            }
            Some(reason) => {
                tracing::warn!("the bus: {reason}");
                self.around.components.set_because(COMPONENT, State::Degraded, reason);
            }
        }
    }

    fn troubles(&self) -> MutexGuard<'_, Troubles> {
        self.troubles.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits before the next try, or until it is to stop; true then.
async fn pause(failures: &mut u32, stop: &mut watch::Receiver<bool>) -> bool {
    let wait = (BACKOFF.0 * 2_u32.saturating_pow(*failures)).min(BACKOFF.1);
    *failures = (*failures + 1).min(8);
    tokio::select! {
        () = tokio::time::sleep(wait) => false,
        _ = stop.wait_for(|stop| *stop) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_has_a_name_that_fits_into_a_key() {
        assert_eq!(default_node("build-7.example.org", 8765), "build-7.example.org-8765");
        assert_eq!(default_node("", 8765), "node-8765");
        let long = default_node(&"ä:".repeat(90), 65535);
        assert!(check_name(&long).is_ok() && long.len() == LONGEST_NAME, "{long}");
        for bad in ["", HERE, "a b", "a:b", "ä", &"x".repeat(65)] {
            assert!(check_name(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn what_both_tasks_meet_is_told_once() {
        let down = Some("the server refuses connections".to_owned());
        let mut troubles = Troubles { publish: down.clone(), receive: down, ..Troubles::default() };
        assert_eq!(troubles.told().unwrap(), "the server refuses connections");
        troubles.waiting.insert("b".into(), "events of b are missing".into());
        assert_eq!(troubles.told().unwrap(), "the server refuses connections; events of b are missing");
        assert_eq!(Troubles::default().told(), None);
    }
}
