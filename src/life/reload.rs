//! SIGHUP: the configuration is read again, and what can change in a running process does; the rest waits for a restart and
//! says so.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::watch;

use super::logging::Level;
use crate::config::layers::Problem;
use crate::config::{Provenance, Settings};
use crate::events::store::Store;
use daemon::components::{Components, State};

/// The component that tells what became of the last one.
const CONFIG: &str = "config";

/// Reads the configuration again, from the same sources as at the start.
pub type Load = Box<dyn Fn() -> Result<(Settings, Provenance), Vec<Problem>> + Send>;

/// What one needs, and where the settings in force come from.
pub(super) struct Reload {
    load: Load,
    provenance: Provenance,
    level: Level,
    generation: Arc<AtomicU64>,
}

impl Reload {
    /// Of a process that has just read its configuration.
    pub(super) fn new(load: Load, provenance: Provenance, level: Level) -> Self {
        Self { load, provenance, level, generation: Arc::new(AtomicU64::new(1)) }
    }

    /// How many configurations have been in force.
    pub(super) fn generation(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.generation)
    }

    /// Reads, and puts in force what a running process can take; one that is refused changes nothing.
    pub(super) fn apply(&mut self, running: &watch::Sender<Arc<Settings>>, store: &Store, components: &Components) {
        match (self.load)() {
            Ok((settings, provenance)) => {
                let changed = self.provenance.changed_in(&provenance);
                let waiting: Vec<_> = changed.iter().filter(|(_, live)| !live).map(|(name, _)| *name).collect();
                self.level.set(&settings.log_level);
                store.set_limits(settings.history_events, settings.history_bytes, settings.history_age);
                let kept = running.borrow().clone();
                running.send_replace(Arc::new(settings.with_fixed_parts_of(&kept)));
                self.generation.fetch_add(1, Ordering::AcqRel);
                if waiting.is_empty() {
                    components.set(CONFIG, State::Ok);
                    self.provenance = provenance;
                    tracing::info!(changed = ?changed.iter().map(|(n, _)| n).collect::<Vec<_>>(), "configuration applied");
                } else {
                    // The provenance stays the old one, so that the next reload still says what waits.
                    let names = waiting.join(", ");
                    components.set_because(CONFIG, State::Degraded, format!("{names} changed; restart to apply"));
                    tracing::warn!("configuration applied, but {names} need a restart");
                }
            }
            Err(problems) => {
                for problem in &problems {
                    tracing::error!("configuration refused: {problem}");
                }
                let more = problems.len() - 1;
                let more = if more > 0 { format!(" (and {more} more)") } else { String::new() };
                let first = problems.first().map(ToString::to_string).unwrap_or_default();
                components.set_because(CONFIG, State::Degraded, format!("reload refused, {first}{more}"));
            }
        }
    }
}
