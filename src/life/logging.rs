//! Where log lines go: to the file that is set, to the journal with structured fields when standard error is the journal, else
//! to standard error, for people or as JSON.

use std::io::Write;
use std::sync::Mutex;

use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, reload};

use crate::config::{LogFormat, Settings};
use daemon::logfile::LogFile;
use daemon::out;

/// Changes the level of the running process.
#[derive(Debug, Clone)]
pub struct Level(reload::Handle<Targets, Registry>);

impl Level {
    /// From now on, lines as `level` says (already validated; an impossible one changes nothing).
    pub fn set(&self, level: &str) {
        if let Ok(targets) = level.parse::<Targets>()
            && let Err(error) = self.0.reload(targets)
        {
            tracing::warn!(%error, "cannot change the log level");
        }
    }
}

/// Sets up the log of this process; call it once.
pub fn start(settings: &Settings) -> Level {
    let targets: Targets =
        settings.log_level.parse().unwrap_or_else(|_| Targets::new().with_default(tracing::Level::INFO));
    let (filter, handle) = reload::Layer::new(targets);
    let opened = settings.log_file.as_ref().map(|path| (path, LogFile::open(path, settings.log_bounds.clone())));
    let (file, trouble) = match opened {
        Some((_, Ok(file))) => (Some(file), None),
        Some((path, Err(error))) => (None, Some((path, error))),
        None => (None, None),
    };
    let layer = match (file, settings.log_format) {
        (Some(file), LogFormat::Json) => json(Mutex::new(file)),
        (Some(file), _) => human(Mutex::new(file), false),
        (None, LogFormat::Json) => json(|| out::Log { coloured: false }),
        (None, LogFormat::Auto) => journal().unwrap_or_else(for_people),
        (None, LogFormat::Human) => for_people(),
    };
    tracing_subscriber::registry().with(filter).with(layer).init();
    if let Some((path, error)) = trouble {
        // A monitor without its log is better than none.
        tracing::warn!(%error, path = %path.display(), "cannot open the log file; the log goes to standard error");
    }
    Level(handle)
}

type Boxed<S> = Box<dyn Layer<S> + Send + Sync>;

fn for_people<S>() -> Boxed<S>
where
    S: tracing::Subscriber + for<'a> tracing_subscriber::registry::LookupSpan<'a>,
{
    let coloured = out::wants_colours(out::errors_to_terminal());
    human(move || out::Log { coloured }, coloured)
}

fn human<S, W>(writer: W, colour: bool) -> Boxed<S>
where
    S: tracing::Subscriber + for<'a> tracing_subscriber::registry::LookupSpan<'a>,
    W: for<'a> MakeWriter<'a, Writer: Write> + Send + Sync + 'static,
{
    tracing_subscriber::fmt::layer().with_ansi(colour).with_target(false).with_writer(writer).boxed()
}

fn json<S, W>(writer: W) -> Boxed<S>
where
    S: tracing::Subscriber + for<'a> tracing_subscriber::registry::LookupSpan<'a>,
    W: for<'a> MakeWriter<'a, Writer: Write> + Send + Sync + 'static,
{
    tracing_subscriber::fmt::layer().json().flatten_event(true).with_writer(writer).boxed()
}

/// The journal, if standard error leads there: `$JOURNAL_STREAM` names its device and inode (`systemd.exec(5)`). The variable
/// alone proves nothing, children inherit it.
#[cfg(target_os = "linux")]
fn journal<S>() -> Option<Boxed<S>>
where
    S: tracing::Subscriber + for<'a> tracing_subscriber::registry::LookupSpan<'a>,
{
    let stat = out::with_errors(|fd| rustix::fs::fstat(fd)).ok()?;
    if std::env::var("JOURNAL_STREAM").ok()? != format!("{}:{}", stat.st_dev, stat.st_ino) {
        return None;
    }
    let layer = tracing_journald::layer().ok()?.with_field_prefix(Some("MPM".into()));
    Some(layer.with_syslog_identifier("mpm-monitor".into()).boxed())
}

#[cfg(not(target_os = "linux"))]
fn journal<S>() -> Option<Boxed<S>> {
    None
}
