//! Where log lines go: to the journal with structured fields when standard error is the journal, else to standard error, for
//! people or as JSON.

use std::io::IsTerminal;

use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, reload};

use crate::config::LogFormat;

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
pub fn start(level: &str, format: LogFormat) -> Level {
    let targets: Targets = level.parse().unwrap_or_else(|_| Targets::new().with_default(tracing::Level::INFO));
    let (filter, handle) = reload::Layer::new(targets);
    let subscriber = tracing_subscriber::registry().with(filter);
    match format {
        LogFormat::Auto => match journal() {
            Some(layer) => subscriber.with(layer).init(),
            None => subscriber.with(human()).init(),
        },
        LogFormat::Human => subscriber.with(human()).init(),
        LogFormat::Json => {
            let layer = tracing_subscriber::fmt::layer().json().flatten_event(true).with_writer(std::io::stderr);
            subscriber.with(layer).init();
        }
    }
    Level(handle)
}

type Boxed<S> = Box<dyn Layer<S> + Send + Sync>;

fn human<S>() -> Boxed<S>
where
    S: tracing::Subscriber + for<'a> tracing_subscriber::registry::LookupSpan<'a>,
{
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
    tracing_subscriber::fmt::layer().with_ansi(colour).with_target(false).with_writer(std::io::stderr).boxed()
}

/// The journal, if standard error leads there: `$JOURNAL_STREAM` names its device and inode (`systemd.exec(5)`). The variable
/// alone proves nothing, children inherit it.
#[cfg(target_os = "linux")]
fn journal<S>() -> Option<Boxed<S>>
where
    S: tracing::Subscriber + for<'a> tracing_subscriber::registry::LookupSpan<'a>,
{
    let stat = rustix::fs::fstat(std::io::stderr()).ok()?;
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
