//! `report`.

use service::health;
use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io::Write;
use std::ops::ControlFlow;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::args::{ScopeArgs, Target};
use super::doctor::{self, Doctor};
use super::failed;
use super::service::Context;
use super::status;
use crate::build::PROGRAM;
use crate::bundle::{self, Part, redact};
use crate::doctor::look::{self, Look};
use crate::doctor::{Subject, settings};
use daemon::exit::Exit;
use daemon::guarded::Guard;
use daemon::out;
use daemon::probe;
use service::exec::{self, QUICK};
use service::receipt::Receipt;
use service::report::report as status_report;
use service::{Kind, desired, journal, logfile};

/// How many of the last log lines.
const LINES: usize = 2000;
/// How long one part may take.
const LIMIT: Duration = Duration::from_secs(6);

/// `report`.
#[derive(Debug, Clone, Args)]
pub struct ReportArgs {
    /// Whose manager; both where neither is named.
    #[command(flatten)]
    pub scope: ScopeArgs,
    /// The instance's port; all that are installed where none is named
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    pub port: Option<u16>,
    /// Where to write it, which must not be there yet; `-` for standard output
    #[arg(short, long, value_name = "PATH|-")]
    pub output: Option<PathBuf>,
}

/// Packs the bundle, and says where it is and what is in it.
///
/// # Errors
/// When the file is there already or cannot be written, or the scope is refused.
pub fn run(args: &ReportArgs) -> anyhow::Result<Exit> {
    let now = Timestamp::now();
    let name = format!("mpm-monitor-report-{}", now.strftime("%Y%m%dT%H%M%SZ"));
    let to_stdout = args.output.as_deref() == Some(Path::new("-"));
    if to_stdout && out::is_terminal() {
        return Err(failed(
            Exit::Usage,
            "the bundle is binary, and standard output is a terminal; give a file by --output",
        ));
    }
    let path = args.output.clone().unwrap_or_else(|| format!("{name}.tar.gz").into());
    // Claimed first: gathering takes seconds, and would be for nothing where the file cannot be made.
    let file = if to_stdout { None } else { Some(create(&path)?) };
    let packed = gather(args).and_then(|(parts, known)| {
        let files = bundle::assemble(&parts, &known);
        Ok((bundle::pack(&files, &name, now, Vec::new())?, files))
    });
    let written = packed.and_then(|(bytes, files)| {
        match file {
            Some(mut file) => file.write_all(&bytes).and_then(|()| file.sync_all())?,
            None => out::print_bytes(&bytes)?,
        }
        Ok((bytes.len(), files))
    });
    let (size, files) = match written {
        Ok(written) => written,
        Err(error) => {
            if !to_stdout {
                let _ = std::fs::remove_file(&path);
            }
            return Err(error);
        }
    };
    let place = if to_stdout { "standard output".to_owned() } else { path.display().to_string() };
    let mut text = format!("{place}: {size} bytes, {} files, for your eyes first\n", files.len());
    text.push_str(files.first().map(|f| f.text.as_str()).unwrap_or_default());
    if to_stdout {
        out::tell(text.trim_end());
    } else {
        super::service::print_text(&text)?;
    }
    Ok(Exit::Ok)
}

fn create(path: &Path) -> anyhow::Result<std::fs::File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(|e| {
        let text = match e.kind() {
            std::io::ErrorKind::AlreadyExists => {
                format!("{} is there already, and stays; give another --output", path.display())
            }
            _ => format!("cannot make {}: {e}; give another --output", path.display()),
        };
        failed(Exit::CantCreate, text)
    })
}

/// A part that is being gathered.
struct Gathering {
    name: String,
    about: &'static str,
    look: Look<Result<String, String>>,
}

impl Gathering {
    fn begin(
        name: impl Into<String>,
        about: &'static str,
        look: impl FnOnce() -> Result<String, String> + Send + 'static,
    ) -> Self {
        Self { name: name.into(), about, look: look::begin(LIMIT, look) }
    }

    fn end(self) -> Part {
        Part { name: self.name, about: self.about, text: self.look.end().and_then(|text| text) }
    }
}

/// All parts, and the secrets that are known by their values.
fn gather(args: &ReportArgs) -> anyhow::Result<(Vec<Part>, Vec<String>)> {
    let doctor = Doctor { scope: args.scope.clone(), port: args.port, verbose: true, ..Doctor::default() };
    let subjects = doctor::subjects(&doctor)?;
    let mut gathering = vec![Gathering::begin("versions.txt", "versions of what takes part", || Ok(versions()))];
    let mut known = BTreeSet::new();
    for (target, subject) in &subjects {
        known.extend(secrets(subject));
        gathering.extend(instance(target, subject));
    }
    // It has deadlines of its own.
    let mut parts = Vec::new();
    let known: Vec<String> = known.into_iter().collect();
    match doctor::report(&doctor) {
        Ok(mut report) => {
            // Before its lines are wrapped, which may part a name from its value.
            for check in report.instances.iter_mut().flat_map(|i| &mut i.checks).chain(&mut report.user) {
                for text in check.evidence.iter_mut().chain([&mut check.summary]).chain(&mut check.next) {
                    *text = redact::redact(text, &known).0;
                }
            }
            let json = serde_json::to_string_pretty(&report).map_err(|e| e.to_string());
            let text = Ok(report.human(false, true));
            parts.push(Part { name: "doctor.txt".into(), about: "the doctor's table", text });
            parts.push(Part { name: "doctor.json".into(), about: "the same for programs", text: json });
        }
        Err(error) => {
            parts.push(Part {
                name: "doctor.txt".into(),
                about: "the doctor's table",
                text: Err(format!("{error:#}")),
            });
        }
    }
    parts.extend(gathering.into_iter().map(Gathering::end));
    Ok((parts, known))
}

/// The values of this instance that must not be in the bundle, wherever they stand.
fn secrets(subject: &Subject) -> Vec<String> {
    let receipt = Receipt::read(&subject.paths.receipt(subject.port)).ok().flatten();
    let env = receipt.map(|r| r.env).unwrap_or_default();
    let seen = settings::look(subject, &env, &Err("not asked".to_owned()));
    let env = env.into_iter().filter(|(name, v)| redact::is_secret_name(name) || redact::may_be_secret(v));
    let env = env.map(|(_, v)| v);
    let bus = seen.settings.ok().and_then(|s| s.bus_password_file);
    let files = seen.token.map(|(path, _)| path).into_iter().chain(bus);
    let words = files.filter_map(|path| Guard::WRITTEN.text(&path).ok().flatten()).map(|t| t.trim().to_owned());
    env.chain(words).filter(|v| !v.is_empty()).collect()
}

fn instance(target: &Target, subject: &Subject) -> Vec<Gathering> {
    let folder = format!("{}-{}", subject.scope, subject.port);
    let at = |name: &str| format!("{folder}/{name}");
    let this = || subject.clone();
    let (target, for_figures) = (target.clone(), target.clone());
    let (for_status, for_api, for_config, for_log) = (this(), this(), this(), this());
    let mut all = vec![
        Gathering::begin(at("status.json"), "what `status --json` says", move || {
            let context = Context::new(&target, "report").map_err(|e| e.to_string())?;
            let report = status_report(for_status.port, for_status.scope, status::facts(&context));
            serde_json::to_string_pretty(&report).map_err(|e| e.to_string())
        }),
        Gathering::begin(at("figures.json"), "what the process says at /api/status", move || {
            let context = Context::new(&for_figures, "report").map_err(|e| e.to_string())?;
            if status::would_start(&context) { Err(status::NOT_ASKED.to_owned()) } else { figures(&for_api) }
        }),
        Gathering::begin(at("config.toml"), "the settings with their origins", move || settings(&for_config)),
        Gathering::begin(at("log.txt"), "the last lines of the log", move || log(&for_log)),
    ];
    let history = subject.paths.history(subject.port);
    let ledger = history.join(daemon::ledger::FILE);
    let files = [
        (ledger, "ledger.json", "the crash ledger"),
        (subject.paths.receipt(subject.port), "receipt.json", "what install made"),
    ];
    for (path, name, about) in files {
        all.push(Gathering::begin(at(name), about, move || read(Guard::KEPT, &path)));
    }
    let mut units: Vec<PathBuf> =
        desired::candidates(subject.port, &subject.paths).into_iter().map(|(p, _)| p).collect();
    if subject.paths.kind == Kind::Systemd {
        let drop_ins = subject.paths.units.join(format!("{}.d", subject.unit()));
        let entries = std::fs::read_dir(drop_ins).into_iter().flatten().flatten().map(|e| e.path());
        units.extend(entries.filter(|p| p.extension().is_some_and(|x| x == "conf")).take(20));
    }
    units.sort();
    units.dedup();
    for path in units.into_iter().filter(|p| p.symlink_metadata().is_ok()) {
        let parent = path.parent().and_then(Path::file_name).map(|p| p.to_string_lossy().into_owned());
        let parent = parent.filter(|p| p.ends_with(".d")).map_or(String::new(), |p| format!("{p}/"));
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        all.push(Gathering::begin(at(&format!("unit/{parent}{name}")), "an installed file", move || {
            read(Guard::WRITTEN, &path)
        }));
    }
    all
}

fn read(guard: Guard, path: &Path) -> Result<String, String> {
    let text = guard.text(path).map_err(|e| format!("{}: {e}", path.display()))?;
    text.ok_or_else(|| format!("there is no {}", path.display()))
}

fn figures(subject: &Subject) -> Result<String, String> {
    let address = *health::addresses(subject.port, &subject.paths).first().ok_or("no address to ask")?;
    let health = health::health(subject.port, &subject.paths).map_err(|e| e.to_string())?;
    if health.instance_id.is_none() {
        return Err("another monitor has the port".to_owned());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
    let asked =
        runtime.block_on(probe::get(address, "/api/status", &PROGRAM, health::LOOK)).map_err(|e| e.to_string())?;
    let value: serde_json::Value = serde_json::from_slice(&asked.1).map_err(|e| format!("status {}: {e}", asked.0))?;
    serde_json::to_string_pretty(&value).map_err(|e| e.to_string())
}

/// As the service reads them.
fn settings(subject: &Subject) -> Result<String, String> {
    let receipt = Receipt::read(&subject.paths.receipt(subject.port)).ok().flatten();
    match settings::read(subject, &receipt.map(|r| r.env).unwrap_or_default()) {
        Ok((_, provenance)) => Ok(provenance.to_toml(true)),
        Err(problems) => Ok(super::problems(&problems)),
    }
}

fn log(subject: &Subject) -> Result<String, String> {
    let mut text = String::new();
    let mut take = |line: String| {
        text.push_str(&line);
        text.push('\n');
        Ok(ControlFlow::Continue(()))
    };
    match logfile::Query::of(&subject.paths, subject.port, LINES, None, false) {
        Some(query) => logfile::read(&query, &mut |line| take(line.human())).map_err(|e| e.to_string())?,
        None => {
            let zone = TimeZone::UTC;
            let query = journal::Query::of(&subject.paths, subject.port, LINES, None);
            journal::read(&query, &mut |e| take(e.human(&zone))).map_err(|e| e.to_string())?;
        }
    }
    if text.is_empty() { Err("there is no line that this user may read".to_owned()) } else { Ok(text) }
}

fn versions() -> String {
    let mut text = format!("mpm-monitor {} (build {})\n", crate::build::VERSION, crate::build::ID);
    let program = std::env::current_exe().map_or_else(|e| e.to_string(), |p| p.display().to_string());
    text.push_str(&format!("program {program}\nsystem {} {}\n", std::env::consts::OS, std::env::consts::ARCH));
    let tools: [(&str, &[&str]); 5] = [
        ("uname", &["-srvm"]),
        ("systemctl", &["--version"]),
        ("sw_vers", &[]),
        ("tmux", &["-V"]),
        ("git", &["--version"]),
    ];
    for (tool, arguments) in tools {
        // A tool that is not here is of the other system, or simply not here.
        if let Ok(output) = exec::tool(tool, arguments, QUICK) {
            text.push_str(&format!("{tool}: {}\n", output.stdout.lines().next().unwrap_or_default()));
        }
    }
    if let Ok(Some(release)) = service::files::read(Path::new("/etc/os-release"))
        && let Some(name) = release.lines().find_map(|l| l.strip_prefix("PRETTY_NAME="))
    {
        text.push_str(&format!("release: {}\n", name.trim_matches('"')));
    }
    text
}
