//! The way up: claim the port, open the store, fill the history, serve, prove it.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::build::PROGRAM;
use crate::config::settings::AUTO_PORTS;
use crate::config::{PortChoice, Settings};
use crate::events::store::{OnCommit, Store, StoreConfig, StoreError};
use crate::server::dashboard::DashboardError;
use daemon::exit::Exit;
use daemon::identity::Identity;
use daemon::lock::{InstanceLock, LockError};
use daemon::notify::Notifier;
use daemon::ports::{Kind, Owner};
use daemon::probe::{self, Target};
use daemon::sockets::{self, Listener, Listeners, SocketError};
use daemon::unix_socket::{self, SocketPath};

/// How long the self-probe may take; a healthy process answers within a millisecond.
const SELF_PROBE: Duration = Duration::from_secs(5);
/// How often a long recovery speaks up; well below the units' `TimeoutStartSec=`.
const TELL_EVERY: Duration = Duration::from_secs(5);
/// How much more time each word asks for: three words may get lost.
const EXTENSION: Duration = Duration::from_secs(15);

/// Why the process cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// The port's lock cannot be had.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// There is no socket to serve on.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// No port of the range is free.
    #[error("no port from {} to {} is free; stop one of the programs there, or name a port with --port", AUTO_PORTS.start(), AUTO_PORTS.end())]
    NoFreePort,
    /// The socket the manager passed is for another port than the settings name.
    #[error("the service manager passed a socket for port {passed}, but the settings say {wanted}; make them agree")]
    WrongPort {
        /// Of the socket.
        passed: u16,
        /// Of the settings.
        wanted: u16,
    },
    /// The manager's socket lets other machines in, and there is no token that they would have to know.
    #[error("the service manager passed a socket for {0}, which is not a loopback address, and {why}", why = crate::config::EXPOSED)]
    Exposed(SocketAddr),
    /// The state directory cannot be made.
    #[error("cannot make {path}: {source}; check its owner and mode, or set state_dir")]
    Directory {
        /// It.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The dashboard that the settings name is not there.
    #[error(transparent)]
    Dashboard(#[from] DashboardError),
    /// The store cannot be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The process serves, but what answers on the port is not it.
    #[error("asked {address} for ourselves and got {got}; this process is not the one that clients would reach")]
    SelfProbe {
        /// Where was asked.
        address: Target,
        /// Who or what answered.
        got: String,
    },
    /// Too many lives before this one ended badly, under a manager that does not count.
    #[error("{0}")]
    CrashLoop(String),
    /// A panic, a stall or the system's refusal.
    #[error("{0}")]
    Fatal(String),
}

impl BootError {
    /// The code the process ends with.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Lock(LockError::Held { .. })
            | Self::Socket(SocketError::Taken { owner: Some(Owner { kind: Kind::MpmMonitor { .. }, .. }), .. }) => {
                Exit::AlreadyRunning
            }
            Self::Lock(LockError::Io { .. }) | Self::Directory { .. } | Self::Store(_) => Exit::CantCreate,
            Self::Socket(SocketError::Taken { .. } | SocketError::PathTaken(_)) | Self::NoFreePort => Exit::PortTaken,
            Self::Socket(SocketError::Denied(_)) => Exit::NoPermission,
            Self::Socket(SocketError::Bind { .. } | SocketError::Path { .. }) => Exit::CantCreate,
            Self::Socket(SocketError::Passed(_)) | Self::WrongPort { .. } | Self::Exposed(_) | Self::Dashboard(_) => {
                Exit::Config
            }
            Self::SelfProbe { .. } | Self::CrashLoop(_) | Self::Fatal(_) => Exit::Software,
        }
    }

    /// Whether another start would end the same way.
    pub fn ends_for_good(&self) -> bool {
        matches!(self, Self::CrashLoop(_)) || self.exit().is_permanent()
    }
}

/// A port that is ours: locked, listening, with a directory for its state.
#[derive(Debug)]
pub struct Claim {
    /// The lock.
    pub lock: InstanceLock,
    /// The sockets.
    pub listeners: Listeners,
    /// The addresses they listen on.
    pub addresses: Vec<SocketAddr>,
    /// The Unix socket, if there is one of our own.
    pub unix: Option<SocketPath>,
    /// Holds the events and the ledger of this port.
    pub dir: PathBuf,
}

/// Takes the lock, then the sockets, of the port that settings and manager agree on; `passed` are those of the manager.
///
/// # Errors
/// See [`BootError`]; nothing is held then.
pub fn claim(settings: &Settings, identity: &Identity, passed: Option<Listeners>) -> Result<Claim, BootError> {
    let (mut lock, mut listeners) = match (passed, settings.port) {
        (Some(listeners), PortChoice::Fixed(wanted)) if listeners.port != wanted => {
            return Err(BootError::WrongPort { passed: listeners.port, wanted });
        }
        (Some(listeners), _) => (InstanceLock::take(&PROGRAM, &settings.runtime_dir, listeners.port)?, listeners),
        (None, PortChoice::Fixed(port)) => fixed(settings, port)?,
        (None, PortChoice::Auto) => first_free(settings)?,
    };
    let addresses: Vec<SocketAddr> = listeners.sockets.iter().filter_map(Listener::address).collect();
    if listeners.activated && addresses.iter().map(SocketAddr::ip).ne(settings.bind.iter().copied()) {
        tracing::warn!(
            "the setting bind is not used: the service manager holds the socket, on the addresses in its socket unit ({})",
            addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
        );
    }
    let unix = match guarded(settings, &addresses) {
        Ok(None) => None,
        Ok(Some((listener, path))) => {
            listeners.sockets.push(listener.into());
            Some(path)
        }
        Err(error) => {
            let _ = lock.release();
            return Err(error);
        }
    };
    lock.describe(listeners.port, addresses.iter().map(ToString::to_string).collect(), identity)?;
    let dir = settings.state_dir.join(listeners.port.to_string());
    if let Err(source) = daemon::fs::make_private(&dir) {
        let _ = lock.release();
        return Err(BootError::Directory { path: dir, source });
    }
    Ok(Claim { lock, listeners, addresses, unix, dir })
}

/// Lets nobody in unasked: an address that other machines reach needs a token. The Unix socket, where one is wanted.
fn guarded(
    settings: &Settings,
    addresses: &[SocketAddr],
) -> Result<Option<(std::os::unix::net::UnixListener, SocketPath)>, BootError> {
    if let Some(exposed) = addresses.iter().find(|a| !a.ip().is_loopback()) {
        if settings.token.is_none() {
            return Err(BootError::Exposed(*exposed));
        }
        tracing::warn!(
            "{exposed} can be reached from other machines, and nothing encrypts what goes there, the token included: put a \
             proxy with TLS in front of it (docs/security.md)"
        );
    }
    let bind = |path: &PathBuf| unix_socket::bind(path, !settings.unix_users.is_empty());
    Ok(settings.unix_socket.as_ref().map(bind).transpose()?)
}

fn fixed(settings: &Settings, port: u16) -> Result<(InstanceLock, Listeners), BootError> {
    let lock = InstanceLock::take(&PROGRAM, &settings.runtime_dir, port)?;
    match sockets::bind(&PROGRAM, &settings.bind, port) {
        Ok(listeners) => Ok((lock, listeners)),
        Err(error) => {
            let _ = lock.release();
            Err(error.into())
        }
    }
}

fn first_free(settings: &Settings) -> Result<(InstanceLock, Listeners), BootError> {
    for port in AUTO_PORTS {
        match fixed(settings, port) {
            Ok(claim) => return Ok(claim),
            Err(BootError::Lock(LockError::Held { .. }) | BootError::Socket(SocketError::Taken { .. })) => {}
            Err(error) => return Err(error),
        }
    }
    Err(BootError::NoFreePort)
}

/// Opens the store off the runtime's thread. As long as the recovery of a large file can be expected to go on, the manager is
/// asked for more time; a hang is not prolonged for ever.
///
/// # Errors
/// When the store cannot be opened.
pub async fn open_store(
    config: StoreConfig,
    shared: (daemon::pulse::Pulse, daemon::components::Components),
    on_commit: OnCommit,
    notifier: &Notifier,
) -> Result<Store, BootError> {
    let patience = recovery_time(&config.path);
    let opening = tokio::task::spawn_blocking(move || Store::open(config, &shared.0, &shared.1, on_commit));
    let opened = while_it_lasts(opening, |elapsed| {
        tracing::info!(elapsed_s = elapsed.as_secs(), "still opening the event store");
        if elapsed < patience {
            notifier.extend(EXTENSION);
            notifier.status(&format!("recovering the event store ({} s)", elapsed.as_secs()));
        }
    });
    Ok(opened.await.map_err(|e| BootError::Fatal(format!("opening the store failed: {e}")))??)
}

/// Waits for `work`, and tells every [`TELL_EVERY`] how long it has taken so far.
async fn while_it_lasts<T>(work: impl Future<Output = T>, mut tell: impl FnMut(Duration)) -> T {
    tokio::pin!(work);
    let began = tokio::time::Instant::now();
    loop {
        tokio::select! {
            done = &mut work => return done,
            () = tokio::time::sleep(TELL_EVERY) => tell(began.elapsed()),
        }
    }
}

/// How long the check of a store may take: a slow disk reads 20 MB/s.
fn recovery_time(path: &Path) -> Duration {
    let bytes = fs::metadata(path).map_or(0, |m| m.len());
    Duration::from_secs(10 + bytes / 20_000_000)
}

/// Asks every socket for `/health` and wants our own instance id from each. A socket that the manager holds for an address
/// which this machine does not have (`::1` where IPv6 is switched off) reaches nobody, and is none; one must be left.
///
/// # Errors
/// When anybody else, or nobody, answers.
pub async fn probe_self(targets: Vec<Target>, identity: &Identity) -> Result<(), BootError> {
    let mut proved = false;
    let last = targets.len().saturating_sub(1);
    for (at, address) in targets.into_iter().enumerate() {
        let got = match probe::health(address.clone(), &PROGRAM, SELF_PROBE).await {
            Ok(health) if health.instance_id.as_deref() == Some(&identity.instance_id) => {
                proved = true;
                continue;
            }
            Err(error) if error.is_nowhere() && (proved || at < last) => {
                tracing::warn!(%address, "this machine has no such address; clients that use it will not find us");
                continue;
            }
            Ok(health) => format!("pid {} (instance {})", health.pid, health.instance_id.unwrap_or_default()),
            Err(error) => error.to_string(),
        };
        return Err(BootError::SelfProbe { address, got });
    }
    Ok(())
}

/// How the store of this instance is to be.
pub fn store_config(settings: &Settings, dir: &Path) -> StoreConfig {
    StoreConfig {
        path: dir.join("events.db"),
        durable: settings.durable,
        max_events: settings.history_events,
        max_bytes: settings.history_bytes,
        max_age: settings.history_age,
    }
}

/// The addresses as a person would open them.
pub fn urls(addresses: &[SocketAddr], unix: Option<&SocketPath>) -> String {
    let paths = unix.iter().map(|u| u.path().display().to_string());
    let urls: Vec<String> = addresses.iter().map(|a| format!("http://{a}")).chain(paths).collect();
    urls.join(" and ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_long_recovery_speaks_up_and_a_short_one_does_not() {
        let mut told = Vec::new();
        while_it_lasts(tokio::time::sleep(Duration::from_secs(12)), |elapsed| told.push(elapsed.as_secs())).await;
        assert_eq!(told, [5, 10]);
        while_it_lasts(async {}, |_| panic!("there was nothing to tell")).await;
    }

    /// A hang is ended by the start's time limit: only a store that is large may take long.
    #[test]
    fn patience_is_for_large_stores_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("events.db");
        assert_eq!(recovery_time(&path), Duration::from_secs(10));
        fs::File::create(&path).unwrap().set_len(2_000_000_000).unwrap();
        assert_eq!(recovery_time(&path), Duration::from_secs(110));
    }
}
