//! One life: boot, serve, and end, under the eyes of a supervisor that outlives every panic.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::boot::{self, BootError, Claim};
use super::failpoint::Failpoint;
use super::logging::Level;
use super::reload::{Load, Reload};
use super::shutdown::Report;
use super::signals::Signals;
use super::standby::Standby;
use super::status::{self, StatusLine};
use crate::bus::{self, Bus};
use crate::config::{PortChoice, Provenance, Settings};
use crate::events::hub::{self, Hub};
use crate::events::intake::Intake;
use crate::events::store::Store;
use crate::migrate::pid_files::PidFiles;
use crate::server::dashboard::{self, Dashboard};
use crate::server::{Context, Instance, Server};
use daemon::components::{Components, State};
use daemon::exit::Exit;
use daemon::fatal::Fatal;
use daemon::identity::{Identity, Manager};
use daemon::ledger::{self, BURST, Failure, INTERVAL, LedgerFile};
use daemon::limits;
use daemon::logfile;
use daemon::notify::Notifier;
use daemon::out;
use daemon::probe::Target;
use daemon::program_file::{Fate, ProgramFile};
use daemon::pulse::Pulse;
use daemon::readiness::Readiness;
use daemon::sockets::{self, Listeners};
use daemon::watchdog::{Plan, Watchdog};

/// How long the store may take for its last commit and checkpoint.
const STORE_CLOSE: Duration = Duration::from_secs(2);
/// How long the bus may take to publish what is left.
const BUS_STOP: Duration = Duration::from_secs(1);
/// The name under which the state of the PID files is told.
const PID_FILES: &str = "pid_files";
/// What the names of the event journal's files begin with: only a living process writes them.
const JOURNAL: &str = "events.db.journal-";

/// What a life begins with.
pub struct Start {
    /// The settings.
    pub settings: Settings,
    /// Where they come from.
    pub provenance: Provenance,
    /// How to read them again.
    pub load: Load,
    /// The log's level.
    pub level: Level,
}

impl std::fmt::Debug for Start {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Start").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// Lives: returns the exit code when it was told to stop, or what kept it from serving.
///
/// # Errors
/// See [`BootError`].
pub fn live(start: Start) -> Result<Exit, BootError> {
    let notifier = Notifier::from_environment();
    let fatal = Fatal::default();
    fatal.hook_panics();
    let manager = Manager::of_this_process();
    if manager == Manager::Launchd {
        shorten_caught();
    }
    let (port, state_dir) = (start.settings.port, start.settings.state_dir.clone());
    let passed = sockets::passed();
    let of_launchd = passed.as_ref().ok().and_then(Option::as_ref).filter(|_| manager == Manager::Launchd);
    let standby = of_launchd.map(Standby::new).unwrap_or_default();
    let result = passed.map_err(BootError::from).and_then(|passed| begin(start, passed, &notifier, &fatal));
    if let Err(error) = &result {
        notifier.status(&format!("cannot serve: {error}"));
    }
    match result {
        Err(error) if manager == Manager::Launchd && error.ends_for_good() => {
            give_up(&error, port, &state_dir);
            standby.serve(&failure(error.to_string(), error.exit()));
            Ok(Exit::Ok)
        }
        other => other,
    }
}

/// How a life ends that no other follows.
pub fn failure(reason: String, exit: Exit) -> Failure {
    Failure { reason, at: ledger::now(), alive_at: None, was_ready: false, exit_code: Some(exit.code()) }
}

/// launchd tries again after every end but a good one, and no number of tries cures this one: it is told that all is well,
/// and the reason is where `status` looks for it.
fn give_up(error: &BootError, port: PortChoice, state_dir: &Path) {
    tracing::error!(
        exit_code = error.exit().code(),
        "{error}; no restart cures this: launchd is not asked for another start"
    );
    if let PortChoice::Fixed(port) = port {
        note_refusal(&state_dir.join(port.to_string()), &error.to_string(), error.exit());
    }
}

/// Writes into the ledger of an instance why launchd was not asked for another start.
pub fn note_refusal(dir: &Path, reason: &str, exit: Exit) {
    if exit == Exit::AlreadyRunning {
        // The instance that runs has its own story.
        return;
    }
    // Without the directory the log has to do.
    let _ = daemon::fs::make_private(dir);
    LedgerFile::in_dir(dir).update(|l| l.give_up(std::process::id(), reason, exit.code(), ledger::now()));
}

fn shorten_caught() {
    match out::errors_as_file().and_then(|file| logfile::shorten_caught(&file)) {
        Ok(Some(kept)) => tracing::info!(kept = %kept.display(), "what launchd caught of standard error was large"),
        Ok(None) => {}
        Err(error) => tracing::warn!(%error, "cannot shorten what launchd caught of standard error"),
    }
}

fn begin(start: Start, passed: Option<Listeners>, notifier: &Notifier, fatal: &Fatal) -> Result<Exit, BootError> {
    let identity = Identity::new().map_err(|e| BootError::Fatal(format!("no randomness for an instance id: {e}")))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(4)
        .thread_keep_alive(Duration::from_secs(5))
        .thread_name("blocking")
        .build()
        .map_err(|e| BootError::Fatal(format!("cannot make the runtime: {e}")))?;
    // Before anything else: newer systemd refuses a service that says READY without a handler for its reload signal.
    let signals = {
        let _inside = runtime.enter();
        Signals::new().map_err(|e| BootError::Fatal(format!("cannot handle signals: {e}")))?
    };
    tracing::info!(
        version = crate::build::VERSION,
        build = crate::build::ID,
        pid = identity.pid,
        instance_id = identity.instance_id,
        managed_by = ?identity.managed_by,
        "starting"
    );
    match limits::raise_files() {
        Ok((was, now)) if was != now => tracing::debug!(?was, ?now, "the limit of open files was raised"),
        Ok(_) => {}
        Err(error) => tracing::warn!(%error, "cannot raise the limit of open files; many clients may be too many"),
    }
    let dashboard = dashboard::resolve(&start.settings.dashboard, &dashboard::Machine::this())?;
    if let Some(dashboard) = &dashboard {
        tracing::info!(dir = %dashboard.page.display(), "the page at / is that of the installed Claude MPM");
    }
    if Failpoint::FailAtStart.is_wanted() {
        return Err(BootError::Fatal("asked for by MPM_MONITOR_FAILPOINT".to_owned()));
    }
    notifier.status("starting: taking the port");
    let claim = boot::claim(&start.settings, &identity, passed)?;
    let ledger = LedgerFile::in_dir(&claim.dir);
    let now = ledger::now();
    let sign = ledger.last_sign(JOURNAL);
    let before = ledger.update(|l| l.begin(identity.pid, &identity.boot_id, now, sign));
    if identity.managed_by == Manager::Launchd && before.is_crash_loop(now) {
        let last = before.last_failure.map_or(String::new(), |f| f.reason);
        let reason = format!("{BURST} bad ends within {} s; the last one: {last}", INTERVAL.as_secs());
        let _ = claim.lock.release();
        return Err(BootError::CrashLoop(reason));
    }
    if let (Some(failure), true) = (&before.last_failure, before.consecutive_failures > 0) {
        tracing::warn!(
            reason = failure.reason,
            consecutive = before.consecutive_failures,
            "the last life ended badly: {}",
            failure.reason
        );
    }
    let life = Life {
        notifier: notifier.clone(),
        fatal: fatal.clone(),
        identity,
        ledger,
        readiness: Readiness::new(),
        components: Components::new(),
        pulse: Pulse::new(),
        reload: Reload::new(start.load, start.provenance, start.level),
        dashboard: dashboard.map(Arc::new),
        aborted_before: before.aborted_parts,
        program: ProgramFile::of_this_process(),
    };
    let ended = runtime.block_on(life.run(start.settings, claim, signals));
    // What is left are readers of the store in the middle of a query; they hold nothing that could be lost.
    runtime.shutdown_timeout(Duration::from_millis(200));
    ended
}

struct Life {
    notifier: Notifier,
    fatal: Fatal,
    identity: Identity,
    ledger: LedgerFile,
    readiness: Readiness,
    components: Components,
    pulse: Pulse,
    reload: Reload,
    dashboard: Option<Arc<Dashboard>>,
    program: ProgramFile,
    /// Parts that earlier lives had to cut off.
    aborted_before: u64,
}

/// Everything that runs and must be ended.
struct Running {
    settings: watch::Sender<Arc<Settings>>,
    server: Server,
    hub_task: tokio::task::JoinHandle<()>,
    store: Arc<Store>,
    bus: Option<Bus>,
    pid_files: PidFiles,
}

impl Life {
    async fn run(mut self, settings: Settings, claim: Claim, mut signals: Signals) -> Result<Exit, BootError> {
        let watchdog = self.watchdog(&settings)?;
        // The Unix socket's path goes when this life ends, whichever way.
        let Claim { lock, listeners, addresses, unix, dir } = claim;
        let urls = boot::urls(&addresses, unix.as_ref());
        let targets: Vec<Target> =
            addresses.into_iter().map(Target::from).chain(unix.iter().map(|u| u.path().into())).collect();
        let booted = tokio::select! {
            booted = self.boot(settings, listeners, targets, &dir) => booted,
            reason = self.fatal.raised() => Err(BootError::Fatal(reason)),
            () = signals.stop.asked_to_stop() => {
                tracing::info!("told to stop before it was ready");
                self.notifier.stopping("stopped before it was ready");
                self.ledger.update(daemon::ledger::Ledger::end);
                let _ = lock.release();
                return Ok(Exit::Ok);
            }
        };
        let running = match booted {
            Ok(running) => running,
            Err(error) => {
                self.ledger.update(|l| l.crash(error.to_string(), ledger::now()));
                let _ = lock.release();
                return Err(error);
            }
        };
        self.serve(&running, &urls, &mut signals).await;
        let exit = self.end(running, watchdog).await;
        if let Err(error) = lock.release() {
            tracing::warn!(%error, "cannot remove the lock file; it is harmless");
        }
        Ok(exit)
    }

    fn watchdog(&self, settings: &Settings) -> Result<Watchdog, BootError> {
        let ledger = self.ledger.clone();
        let give_up = move |silent: &[&'static str]| {
            // The runtime hangs, so no orderly way is left: write down why, and go.
            ledger.update(|l| l.crash(format!("stalled: {} did not answer", silent.join(", ")), ledger::now()));
            std::process::exit(Exit::Software.code().into());
        };
        Watchdog::start(
            Plan::new(settings.watchdog_timeout, settings.watchdog_exit, self.identity.managed_by),
            self.pulse.clone(),
            self.notifier.clone(),
            give_up,
        )
        .map_err(|e| BootError::Fatal(format!("cannot start the watchdog's thread: {e}")))
    }

    async fn boot(
        &self,
        settings: Settings,
        listeners: daemon::sockets::Listeners,
        targets: Vec<Target>,
        dir: &std::path::Path,
    ) -> Result<Running, BootError> {
        let began = Instant::now();
        let latches = ["listeners", "store", "history", "hub", "self-probe"].map(|name| self.readiness.latch(name));
        let [listeners_latch, store_latch, history_latch, hub_latch, probe_latch] = latches;
        self.watch_runtime();

        self.notifier.status("starting: opening the event store");
        let hub = Hub::new(hub::Limits::default());
        let committed = Arc::clone(&hub);
        let store = boot::open_store(
            boot::store_config(&settings, dir),
            (self.pulse.clone(), self.components.clone()),
            Box::new(move |batch| committed.publish(batch)),
            &self.notifier,
        )
        .await?;
        let store = Arc::new(store);
        drop(store_latch);
        phase("store", began);

        self.notifier.status("starting: reading the history");
        let epoch = store.epoch().to_owned();
        hub.load(&epoch, store.latest(hub::Limits::default().events).await?);
        let newest = Arc::clone(&hub);
        store.remember(move || newest.kept());
        drop(history_latch);
        phase("history", began);
        let hub_task = hub.start(&self.pulse);
        drop(hub_latch);

        let intake = Intake::new(Arc::clone(&store), Arc::clone(&hub));
        let port = listeners.port;
        let bus = settings.bus_url.clone().map(|url| {
            let around = bus::Around {
                port,
                instance: self.identity.instance_id.clone(),
                dir: dir.to_owned(),
                hub: Arc::clone(&hub),
                store: Arc::clone(&store),
                intake: Arc::clone(&intake),
                components: self.components.clone(),
                max_body: settings.max_body,
            };
            Bus::start(url, settings.bus.clone(), around)
        });
        let (settings, receiver) = watch::channel(Arc::new(settings));
        let context = Context {
            settings: receiver,
            readiness: self.readiness.clone(),
            components: self.components.clone(),
            pulse: self.pulse.clone(),
            hub: Arc::clone(&hub),
            intake,
            store: Arc::clone(&store),
            instance: Arc::new(Instance {
                id: self.identity.instance_id.clone(),
                port,
                pid: self.identity.pid,
                started: self.identity.since,
                aborted_before: self.aborted_before,
            }),
            config_generation: self.reload.generation(),
            bus: bus.as_ref().map(|bus| Arc::clone(bus.figures())),
            dashboard: self.dashboard.clone(),
            program: self.program.clone(),
        };
        let server = Server::start(listeners.sockets, context)
            .map_err(|e| BootError::Fatal(format!("cannot serve on the sockets: {e}")))?;
        drop(listeners_latch);
        phase("listeners", began);

        if Failpoint::HangBeforeReady.is_wanted() {
            hang();
        }
        self.notifier.status("starting: asking ourselves through the socket");
        boot::probe_self(targets, &self.identity).await?;
        drop(probe_latch);
        phase("self-probe", began);
        let pid_files = PidFiles::new(&settings.borrow().pid_files_in, port, self.identity.pid);
        if !pid_files.is_empty() {
            // Before READY=1, so that who waited for that finds them.
            match pid_files.in_time(PidFiles::write).await {
                Ok(()) => self.components.set(PID_FILES, State::Ok),
                Err(problems) => {
                    tracing::warn!("cannot write {problems}; `claude-mpm monitor` will not find this process there");
                    self.components.set_because(PID_FILES, State::Degraded, format!("cannot write {problems}"));
                }
            }
        }
        Ok(Running { settings, server, hub_task, store, bus, pid_files })
    }

    /// A task whose only work is to show that the runtime turns.
    fn watch_runtime(&self) {
        let probe = self.pulse.register("runtime");
        tokio::spawn(async move {
            loop {
                probe.asked().await;
                probe.answer();
            }
        });
    }

    async fn serve(&mut self, running: &Running, urls: &str, signals: &mut Signals) {
        self.ledger.update(daemon::ledger::Ledger::ready);
        let mut status = StatusLine {
            notifier: &self.notifier,
            program: &self.program,
            components: &self.components,
            server: &running.server,
            store: &running.store,
            urls,
            told: String::new(),
        };
        status.tell_ready();
        tracing::info!(
            ready_ms = u64::try_from(self.identity.since.elapsed().as_millis()).unwrap_or(u64::MAX),
            "ready: serving {urls}"
        );
        if Failpoint::PanicAfterReady.is_wanted() {
            tokio::spawn(async { panic!("asked for by MPM_MONITOR_FAILPOINT") });
        }
        if Failpoint::HangAfterReady.is_wanted() {
            hang();
        }
        let mut tick = status::ticks();
        loop {
            tokio::select! {
                () = signals.stop.asked_to_stop() => return tracing::info!("told to stop"),
                reason = self.fatal.raised() => return tracing::error!("stopping after a {reason}"),
                _ = signals.hangup.recv() => {
                    tracing::info!("reading the configuration again");
                    self.notifier.reloading();
                    self.reload.apply(&running.settings, &running.store, &self.components);
                    status.tell_ready();
                }
                _ = signals.user1.recv() => self.dump(running),
                _ = tick.tick() => status.renew(),
            }
        }
    }

    /// SIGUSR1: everything the process knows of itself, into the log.
    fn dump(&self, running: &Running) {
        tracing::info!(
            clients = running.server.clients(),
            last_seq = running.store.last_seq(),
            components = ?self.components.snapshot(),
            pending = ?self.readiness.pending(),
            silent = ?self.pulse.silent(),
            "state"
        );
    }

    async fn end(&self, running: Running, watchdog: Watchdog) -> Exit {
        let began = Instant::now();
        let clients = running.server.clients();
        self.notifier.stopping(&format!("stopping: {clients} clients, draining"));
        let drain = running.settings.borrow().drain_timeout;
        let mut report = Report::new();
        self.pulse.retire_all_but("runtime");

        let step = Instant::now();
        // Clients are told why: after a failure and after an upgrade somebody comes back for certain.
        self.program.look();
        let reason = match (self.fatal.reason(), self.program.fate()) {
            (Some(_), _) => "failure",
            (None, Fate::Replaced) => "upgrade",
            (None, _) => "shutdown",
        };
        let drained = running.server.drain(drain, reason).await;
        report.add("server", step, drained.cut == 0);
        if running.settings.borrow().watches_dashboard() {
            report.add("dashboard watch", step, drained.watch_ended);
        }

        if !running.pid_files.is_empty() {
            let step = Instant::now();
            // While the port's lock is held, so that no other process of ours can have written its own.
            let removed = running.pid_files.in_time(PidFiles::remove).await;
            if let Err(problems) = &removed {
                tracing::warn!("cannot remove {problems}");
            }
            report.add("pid files", step, removed.is_ok());
        }

        if let Some(bus) = running.bus {
            let step = Instant::now();
            // What it does not get done the next life does: that is no reason to call the end unclean.
            let all = bus.stop(BUS_STOP.min(drain)).await;
            if !all {
                tracing::info!("events that the bus did not take are published by the next start");
            }
            report.add("bus", step, true);
        }

        let step = Instant::now();
        // Its subscribers are gone; it waits for events that nobody would see.
        running.hub_task.abort();
        let ended = running.hub_task.await;
        report.add("hub", step, !ended.is_err_and(|e| e.is_panic()));

        let step = Instant::now();
        let store = Arc::clone(&running.store);
        let closed = tokio::task::spawn_blocking(move || store.close(Instant::now() + STORE_CLOSE)).await;
        report.add("store", step, closed.unwrap_or(false));

        let step = Instant::now();
        report.add("watchdog", step, watchdog.stop());
        let reason = self.fatal.reason();
        let exit = if reason.is_some() { Exit::Software } else { Exit::Ok };
        self.ledger.update(|l| {
            l.aborted_parts = l.aborted_parts.saturating_add(report.aborted());
            match reason {
                None => l.end(),
                Some(reason) => l.crash(reason, ledger::now()),
            }
        });
        tracing::info!(
            clean = report.is_clean(),
            connections = drained.connections,
            clients_told = drained.clients_told,
            cut = drained.cut,
            took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
            exit_code = exit.code(),
            "cleanup completed: {report}"
        );
        exit
    }
}

fn phase(name: &str, began: Instant) {
    tracing::debug!(
        phase = name,
        since_boot_us = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX),
        "boot phase done"
    );
}

fn hang() -> ! {
    loop {
        std::thread::park();
    }
}
