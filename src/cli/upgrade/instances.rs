//! The instances that run one program: which there are, how they are set, and how each is renewed.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Upgrade;
use crate::cli::args::{ScopeArgs, Target};
use crate::cli::failed;
use crate::cli::restart;
use crate::cli::service::Context;
use crate::config::settings::DEFAULT_PORT;
use daemon::exit::Exit;
use service::exec;
use service::manager::{Job, Phase};
use service::paths::Paths;
use service::program;
use service::proof::{self, Proof, Unproved};
use service::receipt::Receipt;
use service::version::Identity;
use service::{Kind, Scope};

/// How long the new program may take to write its unit.
const REFRESH: Duration = Duration::from_secs(60);

/// One instance.
#[derive(Debug)]
pub struct Instance {
    /// It and its manager.
    pub context: Context,
    job: Job,
    program: PathBuf,
    receipt: Option<Receipt>,
}

/// All instances of the scope that have a definition.
///
/// # Errors
/// Without a manager, or where it does not answer.
pub fn all(args: &Upgrade, scope: Scope) -> anyhow::Result<Vec<Instance>> {
    let scope = ScopeArgs { user: scope == Scope::User, system: scope == Scope::System };
    let target = |port| Target { scope: scope.clone(), port, timeout: args.timeout, json: args.json };
    let any = Context::new(&target(args.port.unwrap_or(DEFAULT_PORT)), "upgrade")?;
    let manager = any.need_manager()?;
    let mut ports: BTreeSet<u16> = Receipt::all(&any.paths.receipts).iter().map(|r| r.port).collect();
    ports.extend(manager.ports()?);
    let mut all = Vec::new();
    for port in ports {
        let context = Context::new(&target(port), "upgrade")?;
        let Some(program) = program::of_instance(&context.paths, port) else { continue };
        let receipt = Receipt::read(&context.paths.receipt(port)).ok().flatten();
        let job = context.manager.job(&context.manager.service_name(port))?;
        if receipt.is_some() || job.loaded && (job.enabled == "enabled" || job.phase != Phase::Stopped) {
            all.push(Instance { context, job, program, receipt });
        }
    }
    Ok(all)
}

/// The program that is to be upgraded, and all instances that run it.
///
/// # Errors
/// Where there is none, or several and nobody said which.
pub fn of_one_program(port: Option<u16>, all: Vec<Instance>) -> anyhow::Result<(PathBuf, Vec<Instance>)> {
    let candidates = all.iter().filter(|i| port.is_none_or(|p| p == i.port()));
    let programs: BTreeSet<&PathBuf> = candidates.map(|i| &i.program).collect();
    let program = match programs.into_iter().collect::<Vec<_>>()[..] {
        [program] => program.clone(),
        [] => {
            let which = port.map_or_else(|| "no instance".to_owned(), |p| format!("no instance on port {p}"));
            let text =
                format!("there is {which} whose program could be upgraded; `mpm-monitor list` shows what there is");
            return Err(failed(Exit::NotInstalled, text));
        }
        ref several => {
            let names: Vec<String> = several.iter().map(|p| p.display().to_string()).collect();
            let text = format!("the instances run several programs ({}); choose one by --port", names.join(", "));
            return Err(failed(Exit::Usage, text));
        }
    };
    let same = |i: &Instance| i.program == program || program::is_same_file(&i.program, &program);
    Ok((program.clone(), all.into_iter().filter(same).collect()))
}

/// What to say of the other scope's instances, which cannot be restarted from here.
pub fn elsewhere(scope: Scope, target: &Path) -> Vec<String> {
    let other = if scope == Scope::User { Scope::System } else { Scope::User };
    let Some(paths) = Paths::of(&crate::app::APP, other) else { return Vec::new() };
    let runs = |port: &u16| program::of_instance(&paths, *port).is_some_and(|p| program::is_same_file(&p, target));
    let ports: Vec<u16> = Receipt::all(&paths.receipts).iter().map(|r| r.port).filter(runs).collect();
    let note = |port: &u16| {
        format!(
            "the {other} manager's instance on port {port} runs the same program: `mpm-monitor restart {} --port {port}`",
            other.flag()
        )
    };
    ports.iter().map(note).collect()
}

impl Instance {
    /// Its port.
    pub fn port(&self) -> u16 {
        self.context.port
    }

    /// What its manager calls it.
    pub fn name(&self) -> String {
        self.context.manager.service_name(self.port())
    }

    /// Whether it ran when this began.
    pub fn is_up(&self) -> bool {
        matches!(self.job.phase, Phase::Running | Phase::Starting)
    }

    /// Whether its process is of that build.
    pub fn runs(&self, new: &Identity) -> bool {
        let health = self.context.health(&self.job).filter(|h| Some(h.pid) == self.job.pid);
        health.is_some_and(|h| h.version == new.version && h.build == new.build)
    }

    /// The arguments and the environment that its settings come from: those of its process, where they can be seen, else what
    /// its unit is known to give.
    pub fn settings(&self) -> (Vec<String>, Vec<(String, String)>) {
        // What another user's process says of itself, root does not run a program by.
        let own_user =
            |dir: &Path| std::fs::metadata(dir).is_ok_and(|m| m.uid() == rustix::process::geteuid().as_raw());
        let dir = self.job.pid.map(|pid| PathBuf::from(format!("/proc/{pid}"))).filter(|dir| own_user(dir));
        let read = |what: &str| {
            let bytes = std::fs::read(dir.as_ref()?.join(what)).ok()?;
            let words: Vec<String> =
                bytes.split(|b| *b == 0).filter_map(|w| String::from_utf8(w.to_vec()).ok()).collect();
            (words.len() > 1).then_some(words)
        };
        let running = read("cmdline").filter(|words| words.get(1).is_some_and(|w| w == "run"));
        let arguments = running.map_or_else(
            || vec!["--port".to_owned(), self.port().to_string()],
            |words| words.into_iter().skip(2).filter(|w| !w.is_empty()).collect(),
        );
        // What belongs to that very process is none of the settings.
        let own = |name: &str| ["NOTIFY_SOCKET", "WATCHDOG_", "LISTEN_"].iter().any(|p| name.starts_with(p));
        let pair = |line: String| line.split_once('=').map(|(n, v)| (n.to_owned(), v.to_owned()));
        let environment =
            read("environ").map(|all| all.into_iter().filter_map(pair).filter(|(n, _)| !own(n)).collect());
        (arguments, environment.unwrap_or_else(|| self.known_environment()))
    }

    fn known_environment(&self) -> Vec<(String, String)> {
        let paths = &self.context.paths;
        let mut all: Vec<(String, String)> = std::env::vars_os()
            .filter_map(|(n, v)| Some((n.into_string().ok()?, v.into_string().ok()?)))
            .filter(|(n, _)| ["PATH", "HOME", "USER", "XDG_RUNTIME_DIR", service::TEST_MANAGER].contains(&n.as_str()))
            .collect();
        if self.context.scope == Scope::System && paths.kind == Kind::Systemd {
            // The service's user has no home, and root's settings are not its.
            all.retain(|(n, _)| n != "HOME");
            all.push(("HOME".to_owned(), "/".to_owned()));
        }
        all.push(("MPM_MONITOR_STATE_DIR".to_owned(), paths.state.display().to_string()));
        all.push(("MPM_MONITOR_RUNTIME_DIR".to_owned(), paths.runtime_of(self.port()).display().to_string()));
        all.extend(self.receipt.iter().flat_map(|r| r.env.clone()));
        all
    }

    /// Lets the program in place bring the unit up to date, restarts, proves that the wanted build is ready, and that it is
    /// still there a moment later.
    ///
    /// # Errors
    /// The proof's.
    pub fn renew(&self, program: &Path, wanted: Option<&Identity>, notes: &mut Vec<String>) -> anyhow::Result<Proof> {
        notes.extend(self.refresh(program));
        let proof = restart::restart(&self.context)?;
        if let Some(wanted) = wanted.filter(|w| w.build.is_some() && w.build != proof.build) {
            let (pid, wanted) = (proof.pid, wanted.build.clone().unwrap_or_default());
            let running = proof.build.clone().unwrap_or_default();
            let text = format!(
                "{}: pid {pid} is ready, but of build {running}, not {wanted}: it is started by another path (a drop-in?)",
                self.name()
            );
            return Err(failed(Exit::Failure, text));
        }
        self.settle(&proof)?;
        Ok(proof)
    }

    fn settle(&self, proof: &Proof) -> anyhow::Result<()> {
        let context = &self.context;
        proof::await_steady(&*context.manager, &context.paths, context.port, proof, context.timeout).map_err(|error| {
            let verb = if matches!(error, Unproved::Ended { .. }) { "it became ready, then ended:" } else { "upgrade" };
            context.unproved(verb, &error, None)
        })
    }

    /// A unit that another version wrote is rewritten by the program that is now in place; one that a person edited stays, and
    /// so does one of a package. What to tell of it.
    fn refresh(&self, program: &Path) -> Option<String> {
        let off = if self.context.paths.kind == Kind::Launchd {
            self.job.enabled == "disabled"
        } else {
            self.job.enabled != "enabled"
        };
        if self.receipt.is_none() || off {
            return None;
        }
        let port = self.port().to_string();
        let words = ["install", "--no-start", "--json", self.context.scope.flag(), "--port", &port];
        let why = match exec::program(program, &words, REFRESH) {
            Ok(output) if output.code == Some(0) => return None,
            Ok(output) => output.stderr,
            Err(error) => error.to_string(),
        };
        Some(format!("the unit of {} was left as it is: {why}", self.name()))
    }
}
