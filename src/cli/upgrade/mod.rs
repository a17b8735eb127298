//! `upgrade`: check a new program, put it in place, restart what runs it, prove it, and go back when it does not become ready.

mod check;
mod instances;

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use self::check::Checked;
use self::instances::Instance;
use super::args::ScopeArgs;
use super::failed;
use super::service::{is_root, print_json, print_text, scope};
use daemon::exit::{Exit, Failed};
use daemon::out;
use service::files::{self, Lock};
use service::packaged;
use service::program;
use service::swap;
use service::trust::{self, Weak};
use service::version::Relation;
use service::{Scope, interrupt};

/// How long to wait for another upgrade to be done.
const TURN: Duration = Duration::from_secs(120);

/// `upgrade`.
#[derive(Debug, Args)]
pub struct Upgrade {
    /// Whose manager.
    #[command(flatten)]
    pub scope: ScopeArgs,
    /// The new program
    #[arg(long, value_name = "FILE", required_unless_present = "rollback", conflicts_with = "rollback")]
    pub from: Option<PathBuf>,
    /// Go back to the program that the last upgrade kept
    #[arg(long)]
    pub rollback: bool,
    /// The program of this instance, where instances run several; all that run it are restarted
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    pub port: Option<u16>,
    /// Take an older version, too
    #[arg(long)]
    pub allow_downgrade: bool,
    /// Check everything, show what would be done, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// How long to wait for each proof
    #[arg(long, default_value = "15s", value_parser = super::args::duration, value_name = "DURATION")]
    pub timeout: Duration,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Everything that is known before anything is changed.
struct Plan {
    /// The program as the units name it.
    program: PathBuf,
    /// Its file, with links followed.
    target: PathBuf,
    /// The new one.
    from: PathBuf,
    checked: Checked,
    instances: Vec<Instance>,
    notes: Vec<String>,
}

/// Does it.
///
/// # Errors
/// [`Exit::Refused`] for what would harm, [`Exit::Config`] where the new program does not take the settings, the exit code of
/// the proof that failed; in each case the old program is in place and serves.
pub fn run(args: &Upgrade) -> anyhow::Result<Exit> {
    let scope = scope(&args.scope, "upgrade")?;
    if scope == Scope::System && !is_root() && !args.dry_run {
        let text = "--system needs root: `sudo mpm-monitor upgrade --system --from FILE`";
        return Err(failed(Exit::NoPermission, text));
    }
    let instances = instances::all(args, scope)?;
    let (program, instances) = instances::of_one_program(args.port, instances)?;
    let target = std::fs::canonicalize(&program).map_err(|e| {
        let text = format!(
            "the unit runs {}, which cannot be found: {e}; `mpm-monitor install` repairs it",
            program.display()
        );
        failed(Exit::CantCreate, text)
    })?;
    if let Some(packager) = packaged::owner(&program) {
        return Err(failed(Exit::Refused, format!("{} belongs to {packager}", program.display())));
    }
    if let Some(why) = program::here(&target) {
        let text = format!("{} {why}; build it there, then `mpm-monitor restart`", target.display());
        return Err(failed(Exit::Refused, text));
    }
    let from = match &args.from {
        Some(from) => std::path::absolute(from)?,
        None => kept(&target)?,
    };
    // Root runs both, the one to find out its version and the other afterwards.
    for file in [&program, &from] {
        let trusted = if scope == Scope::System { trust::only_root_changes(file) } else { trust::may_run(file) };
        trusted.map_err(|weak| weakly(&weak, file, &target))?;
    }
    // Taken back before it is obeyed.
    let _signals = interrupt::catch()?;
    // Only one at a time changes the program.
    let lock = if args.dry_run { None } else { Some(Lock::acquire(&lock_dir(scope)?, TURN)?) };
    let upgrade = || {
        let checked = check::check(&from, &target, &instances, args.allow_downgrade || args.rollback)?;
        let notes = instances::elsewhere(scope, &target);
        let plan = Plan { program, target, from, checked, instances, notes };
        if args.dry_run { show(args, &plan) } else { apply(args, &plan) }
    };
    let done = upgrade();
    for dir in lock.iter().flat_map(|lock| lock.made.iter().rev()) {
        files::remove_if_empty(dir);
    }
    drop(lock);
    done
}

/// Refuses a file that others than root can change.
fn weakly(weak: &Weak, file: &Path, target: &Path) -> anyhow::Error {
    let (file, new) = (file.display(), target.with_extension("new"));
    let next = format!("put it where only root writes, such as `sudo install -m755 {file} {}`", new.display());
    failed(Exit::Refused, format!("root does not run {file}: {weak}; {next}; nothing was changed"))
}

/// What upgrades of a scope lock: a directory that only they can open, as anybody can lock the one where programs are.
fn lock_dir(scope: Scope) -> anyhow::Result<PathBuf> {
    Ok(super::service::paths(scope)?.state.join("upgrade"))
}

/// The program that the last upgrade kept.
fn kept(target: &Path) -> anyhow::Result<PathBuf> {
    let kept = swap::previous(target);
    if kept.is_file() {
        return Ok(kept);
    }
    let text = format!("there is no {}: no upgrade kept a program there", kept.display());
    Err(failed(Exit::Refused, text))
}

impl Plan {
    /// Whether the file stays and at most restarts are due.
    fn is_in_place(&self) -> bool {
        self.checked.relation == Relation::Same && self.checked.same_bytes
    }

    /// The instances that run, and are to be restarted.
    fn due(&self) -> impl Iterator<Item = &Instance> {
        let new = &self.checked.new;
        self.instances.iter().filter(move |i| i.is_up() && !(self.is_in_place() && i.runs(new)))
    }

    fn steps(&self) -> Vec<String> {
        let mut steps = Vec::new();
        if !self.is_in_place() {
            steps.push(format!("keep {} as {}", self.target.display(), swap::previous(&self.target).display()));
            steps.push(format!("put {} in its place", self.from.display()));
        }
        steps.extend(self.due().map(|i| format!("restart {} and prove it", i.name())));
        steps
    }

    fn told(&self, result: &str, instances: &[Value]) -> Value {
        json!({
            "schema_version": 1, "result": result, "program": self.program, "file": self.target,
            "previous": swap::previous(&self.target), "from": self.from, "old": self.checked.old, "new": self.checked.new,
            "relation": self.checked.relation, "instances": instances, "notes": self.notes,
        })
    }

    fn headline(&self) -> String {
        let new = &self.checked.new;
        let build = new.build.as_ref().map_or(String::new(), |b| format!(" (build {b})"));
        let relation = self.checked.relation.words(self.checked.old.as_ref());
        format!("{} is mpm-monitor {}{build}, {relation}", self.from.display(), new.version)
    }
}

/// `--dry-run`.
fn show(args: &Upgrade, plan: &Plan) -> anyhow::Result<Exit> {
    let steps = plan.steps();
    if args.json {
        let mut told = plan.told("plan", &[]);
        told["actions"] = json!(steps);
        print_json(&told)?;
        return Ok(Exit::Ok);
    }
    let mut text = plan.headline() + "\n";
    if steps.is_empty() {
        text.push_str("nothing to do\n");
    }
    steps.iter().for_each(|step| text.push_str(&format!("would {step}\n")));
    plan.notes.iter().for_each(|note| text.push_str(&format!("note: {note}\n")));
    print_text(&text)?;
    Ok(Exit::Ok)
}

fn apply(args: &Upgrade, plan: &Plan) -> anyhow::Result<Exit> {
    let say = |line: &str| if args.json { Ok(()) } else { print_text(&format!("{line}\n")) };
    say(&plan.headline())?;
    if !plan.is_in_place() {
        put_in_place(plan)?;
        say(&format!("kept the old program as {}", swap::previous(&plan.target).display()))?;
    }
    let mut told = Vec::new();
    let mut notes = Vec::new();
    let mut begun: Vec<&Instance> = Vec::new();
    for instance in plan.due() {
        begun.push(instance);
        match instance.renew(&plan.program, Some(&plan.checked.new), &mut notes) {
            Ok(proof) => {
                say(&format!(
                    "{}: {} is ready (pid {}, instance {})",
                    instance.name(),
                    proof.url,
                    proof.pid,
                    proof.instance_id
                ))?;
                told.push(json!({"port": instance.port(), "result": "restarted", "proof": proof}));
            }
            Err(error) if plan.is_in_place() => return Err(error),
            Err(error) => return Err(go_back(plan, &begun, &error)),
        }
    }
    for instance in plan.instances.iter().filter(|i| !i.is_up()) {
        told.push(json!({"port": instance.port(), "result": "not running"}));
        notes.push(format!("{} is not running; its next start runs the new program", instance.name()));
    }
    let result = match (plan.is_in_place(), begun.is_empty(), args.rollback) {
        (true, true, _) => "nothing to do",
        (_, _, true) => "went back",
        _ => "upgraded",
    };
    if args.json {
        let mut object = plan.told(result, &told);
        object["notes"] = json!(plan.notes.iter().chain(&notes).collect::<Vec<_>>());
        print_json(&object)?;
        return Ok(Exit::Ok);
    }
    plan.notes.iter().chain(&notes).for_each(|note| out::tell(&format!("note: {note}")));
    say(result)?;
    Ok(Exit::Ok)
}

fn put_in_place(plan: &Plan) -> anyhow::Result<()> {
    let cannot = |what: &str, error: std::io::Error| {
        let exit = match error.kind() {
            std::io::ErrorKind::PermissionDenied => Exit::NoPermission,
            _ => Exit::CantCreate,
        };
        let (from, target) = (plan.from.display(), plan.target.display());
        let next = match exit {
            Exit::NoPermission => {
                format!(" (as its owner: `sudo install -m755 {from} {target}`, then `mpm-monitor restart`)")
            }
            _ => String::new(),
        };
        failed(exit, format!("cannot {what} {target}: {error}{next}; nothing was changed, the old program is in place"))
    };
    let staged = swap::stage(&plan.from, &plan.target).map_err(|e| cannot("put the new program beside", e))?;
    // What was checked may have been exchanged since.
    if program::version(staged.path()) != Some((plan.checked.new.version.clone(), plan.checked.new.build.clone())) {
        let text = format!("{} is not what it was when it was checked; nothing was changed", plan.from.display());
        return Err(failed(Exit::Refused, text));
    }
    staged.commit().map_err(|e| cannot("replace", e))
}

/// Takes the upgrade back, whatever signal comes: the old program in place, and ready wherever the new one was tried.
fn go_back(plan: &Plan, begun: &[&Instance], error: &anyhow::Error) -> anyhow::Error {
    interrupt::unheard(|| restore(plan, begun, error))
}

fn restore(plan: &Plan, begun: &[&Instance], error: &anyhow::Error) -> anyhow::Error {
    let exit = error.downcast_ref::<Failed>().map_or(Exit::Failure, |f| f.exit);
    let mut text = format!("{error}\n");
    let file = plan.target.display();
    if let Err(restore) = swap::restore(&plan.target) {
        let kept = swap::previous(&plan.target);
        text.push_str(&format!(
            "The old program could not be put back: {restore}; `cp {} {file}` does it",
            kept.display()
        ));
        return failed(exit, text);
    }
    text.push_str(&format!("The upgrade was taken back: {file} is the old program again"));
    for instance in begun.iter().rev() {
        match instance.renew(&plan.program, plan.checked.old.as_ref(), &mut Vec::new()) {
            Ok(proof) => text.push_str(&format!("\n{}: {} is ready (pid {})", instance.name(), proof.url, proof.pid)),
            Err(e) => text.push_str(&format!("\n{} did not come back: {e}", instance.name())),
        }
    }
    failed(exit, text)
}
