//! Tells the clients when a served dashboard has changed: its page then loads itself again.
//!
//! One task looks at the files of the folder from time to time. That costs a millisecond every two seconds while a folder is
//! served that somebody named, and it needs neither threads of its own nor what each system calls its notification of changes.

pub mod debounce;
mod sight;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::{JoinHandle, spawn_blocking};
use tokio_util::sync::CancellationToken;

use self::debounce::{Debounce, QUIET};
use self::sight::Sight;
use super::Dashboard;
use daemon::components::{Components, State};

/// The name under which its state is told.
pub const COMPONENT: &str = "dashboard_watch";
/// The time between two looks; shorter while something changes.
const EVERY: Duration = Duration::from_secs(2);
/// How long the task may take to end: a look ends when it is told to, unless the disk does not answer.
const END: Duration = Duration::from_secs(1);

/// A dashboard that is watched.
#[derive(Debug)]
pub struct Watch {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Watch {
    /// Watches, and calls `reload` whenever the dashboard has changed and is whole.
    pub fn start(dashboard: &Dashboard, components: Components, reload: impl Fn() + Send + 'static) -> Self {
        let stop = CancellationToken::new();
        let folders = std::iter::once(dashboard.page.clone()).chain(dashboard.statics.clone()).collect();
        let run = Run { folders, components, stop: stop.clone(), told: None };
        Self { stop, task: tokio::spawn(run.run(reload)) }
    }

    /// Ends it; whether it has ended in time.
    pub async fn stop(mut self) -> bool {
        self.stop.cancel();
        match tokio::time::timeout(END, &mut self.task).await {
            Ok(ended) => ended.is_ok(),
            Err(_) => {
                self.task.abort();
                false
            }
        }
    }
}

struct Run {
    /// The folder of the page first.
    folders: Arc<[PathBuf]>,
    components: Components,
    stop: CancellationToken,
    /// What the component's state says, to tell it once.
    told: Option<Option<String>>,
}

impl Run {
    async fn run(mut self, reload: impl Fn()) {
        let mut debounce = Debounce::default();
        // What it finds first is no change.
        let mut before = self.look().await;
        loop {
            self.say(before.as_ref().err());
            let pause = if debounce.due().is_some() { QUIET } else { EVERY };
            if self.stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
                return;
            }
            let now = self.look().await;
            if self.stop.is_cancelled() {
                return;
            }
            let seen = now.as_ref().ok();
            if seen.is_some() && seen != before.as_ref().ok() {
                debounce.changed(Instant::now());
            }
            // A page that loads itself again while it is not there could never do so once more.
            if seen.is_some_and(|sight| sight.is_whole) && debounce.fire(Instant::now()) {
                reload();
            }
            before = now;
        }
    }

    async fn look(&self) -> Result<Sight, String> {
        let (folders, stop) = (Arc::clone(&self.folders), self.stop.clone());
        let looked = spawn_blocking(move || sight::look(&folders, || stop.is_cancelled())).await;
        looked.unwrap_or_else(|error| Err(format!("the dashboard's folder cannot be watched: {error}")))
    }

    /// Tells what is wrong, once, and that it is well again.
    fn say(&mut self, problem: Option<&String>) {
        if self.told.as_ref().is_some_and(|told| told.as_ref() == problem) {
            return;
        }
        match problem {
            Some(problem) => {
                tracing::info!("{problem}");
                self.components.set_because(COMPONENT, State::Degraded, problem.as_str());
            }
            None => self.components.set(COMPONENT, State::Ok),
        }
        self.told = Some(problem.cloned());
    }
}
