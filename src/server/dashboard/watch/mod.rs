//! Tells the clients when a served dashboard has changed: its page then loads itself again.
//!
//! One task decides when; [`notify`] listens on a thread of its own, which exists only while there is a folder to watch.
//! That thread holds the sending end of a channel, so that the end of the channel is the end of the thread: this is how its
//! end is waited for.

pub mod debounce;
mod notes;
mod sight;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::mpsc::{Receiver, channel};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio_util::sync::CancellationToken;

use self::debounce::Debounce;
use self::notes::{Notebook, Notes, describe};
use self::sight::Sight;
use super::Dashboard;
use crate::runtime::components::{Components, State};

/// The name under which its state is told.
pub const COMPONENT: &str = "dashboard_watch";
/// Between two looks for a folder that is not there.
const ABSENT: Duration = Duration::from_millis(500);
/// Between two looks at the folders that nothing gave cause to: whether one was moved together with what it is in, and
/// whether all of it can be watched again.
const LOOK: Duration = Duration::from_secs(30);
/// How long the thread and the task may take to end.
const END: Duration = Duration::from_secs(1);

/// A dashboard that is watched.
#[derive(Debug)]
pub struct Watch {
    stop: CancellationToken,
    task: JoinHandle<bool>,
}

impl Watch {
    /// Watches, and calls `reload` whenever the dashboard has changed and is whole.
    pub fn start(dashboard: &Dashboard, components: Components, reload: impl Fn() + Send + 'static) -> Self {
        let stop = CancellationToken::new();
        let folders = std::iter::once(dashboard.page.clone()).chain(dashboard.statics.clone()).collect();
        let index = dashboard.page.join("index.html");
        let run = Run { folders, index, components, stop: stop.clone(), watching: None, problem: None };
        Self { stop, task: tokio::spawn(run.run(reload)) }
    }

    /// Ends it; whether it has ended, its thread included, in time.
    pub async fn stop(mut self) -> bool {
        self.stop.cancel();
        match tokio::time::timeout(2 * END, &mut self.task).await {
            Ok(ended) => ended.unwrap_or(false),
            Err(_) => {
                self.task.abort();
                false
            }
        }
    }
}

/// The thread that listens, seen from here.
struct Watching {
    watcher: RecommendedWatcher,
    notes: Arc<Mutex<Notes>>,
    over: Arc<AtomicBool>,
    rings: Receiver<()>,
    sight: Sight,
}

struct Run {
    folders: Arc<[PathBuf]>,
    index: PathBuf,
    components: Components,
    stop: CancellationToken,
    watching: Option<Watching>,
    problem: Option<String>,
}

impl Run {
    async fn run(mut self, reload: impl Fn()) -> bool {
        let stop = self.stop.clone();
        let mut debounce = Debounce::default();
        // What it finds first is no change.
        if stop.run_until_cancelled(self.look(true, false)).await.is_none() {
            return self.end().await;
        }
        let mut next_look = Instant::now() + self.pause();
        loop {
            // While the folder is not there, nothing is told, and a change is what comes back.
            let due = debounce.due().filter(|_| self.watching.is_some());
            let heard = tokio::select! {
                () = stop.cancelled() => return self.end().await,
                rung = ring(&mut self.watching) => Heard::Notes(rung),
                () = until(due) => Heard::Due,
                () = until(Some(next_look)) => Heard::Nothing,
            };
            let retry = matches!(heard, Heard::Nothing);
            let notes = match heard {
                // Its thread has ended by itself: it is begun anew.
                Heard::Notes(None) => {
                    self.watching = None;
                    Notes { changed: true, look: true, ..Notes::default() }
                }
                Heard::Notes(Some(notes)) => notes,
                Heard::Due | Heard::Nothing => Notes { look: true, ..Notes::default() },
            };
            if notes.changed {
                debounce.changed(Instant::now());
            }
            if notes.problem.is_some() {
                self.say(notes.problem);
            }
            if notes.look {
                let Some(is_other) = stop.run_until_cancelled(self.look(retry, notes.lost)).await else {
                    return self.end().await;
                };
                next_look = Instant::now() + self.pause();
                if is_other {
                    debounce.changed(Instant::now());
                }
            }
            // A page that loads itself again while it is not there could never do so once more.
            if self.watching.is_some() && debounce.fire(Instant::now()) && self.is_there().await {
                reload();
            }
        }
    }

    fn pause(&self) -> Duration {
        if self.watching.is_none() && self.problem.is_none() { ABSENT } else { LOOK }
    }

    async fn is_there(&self) -> bool {
        let index = self.index.clone();
        spawn_blocking(move || index.is_file()).await.unwrap_or(false)
    }

    /// Looks at the folders, and watches those that are there now, or, to `retry`, all of what could not be watched; whether
    /// they are others than before, which they are in any case if one was `lost`.
    async fn look(&mut self, retry: bool, lost: bool) -> bool {
        let folders = Arc::clone(&self.folders);
        let seen = spawn_blocking(move || Sight::of(&folders)).await;
        let seen = match seen {
            Ok(Ok(seen)) => seen,
            Ok(Err(error)) => {
                if self.watching.is_some() || self.problem.is_some() {
                    tracing::info!(%error, "the dashboard's folder is gone; waiting for another");
                }
                self.problem = None;
                self.components.set_because(COMPONENT, State::Degraded, "the dashboard's folder is not there");
                self.close().await;
                return false;
            }
            Err(_) => return false,
        };
        let is_other = lost || self.watching.as_ref().is_none_or(|w| w.sight != seen);
        let wants_more = retry && self.problem.is_some();
        if !is_other && !wants_more {
            return false;
        }
        self.close().await;
        let began = Instant::now();
        match spawn_blocking(move || open(seen)).await {
            Ok((watching, problem)) => {
                tracing::debug!(took_us = began.elapsed().as_micros() as u64, "the dashboard's folders are watched");
                self.watching = watching;
                self.say(problem);
            }
            Err(error) => self.say(Some(format!("the dashboard's folder cannot be watched: {error}"))),
        }
        is_other
    }

    /// Tells what is wrong, once, and that it is well again.
    fn say(&mut self, problem: Option<String>) {
        match &problem {
            Some(problem) => {
                if self.problem.as_ref() != Some(problem) {
                    tracing::warn!("{problem}");
                }
                self.components.set_because(COMPONENT, State::Degraded, problem.as_str());
            }
            None => self.components.set(COMPONENT, State::Ok),
        }
        self.problem = problem;
    }

    /// Ends the thread; whether it is gone.
    async fn close(&mut self) -> bool {
        let Some(Watching { watcher, over, mut rings, .. }) = self.watching.take() else { return true };
        over.store(true, Ordering::Release);
        // On some systems this waits for the thread.
        let dropped = spawn_blocking(move || drop(watcher));
        let gone = async {
            while rings.recv().await.is_some() {}
            dropped.await.is_ok()
        };
        let is_gone = tokio::time::timeout(END, gone).await.unwrap_or(false);
        if !is_gone {
            tracing::warn!("the thread that watches the dashboard's folder has not ended within {END:?}");
        }
        is_gone
    }

    async fn end(mut self) -> bool {
        self.close().await
    }
}

/// What the task waited for.
enum Heard {
    Notes(Option<Notes>),
    Due,
    Nothing,
}

/// The notes, once there are any; nothing when the thread has ended.
async fn ring(watching: &mut Option<Watching>) -> Option<Notes> {
    match watching {
        None => std::future::pending().await,
        Some(watching) => {
            watching.rings.recv().await?;
            Some(std::mem::take(&mut *watching.notes.lock().unwrap_or_else(PoisonError::into_inner)))
        }
    }
}

async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment.into()).await,
        None => std::future::pending().await,
    }
}

/// Begins to watch what was seen, as far as that goes. Blocks.
fn open(sight: Sight) -> (Option<Watching>, Option<String>) {
    let (bell, rings) = channel(1);
    let notes = Arc::<Mutex<Notes>>::default();
    let over = Arc::<AtomicBool>::default();
    let notebook = Notebook::new(Arc::clone(&notes), bell, Arc::clone(&over), &sight);
    // Nothing is served through a link that leads out of the folder, so nothing behind one is watched.
    let config = notify::Config::default().with_follow_symlinks(false);
    let mut watcher = match RecommendedWatcher::new(notebook, config) {
        Ok(watcher) => watcher,
        Err(error) => return (None, Some(describe(&error))),
    };
    let mut problem = None;
    for (root, _) in &sight.roots {
        if let Err(error) = watcher.watch(root, RecursiveMode::Recursive) {
            problem.get_or_insert_with(|| describe(&error));
        }
    }
    for folder in sight.folders_of_links() {
        if let Err(error) = watcher.watch(folder, RecursiveMode::NonRecursive) {
            problem.get_or_insert_with(|| describe(&error));
        }
    }
    (Some(Watching { watcher, notes, over, rings, sight }), problem)
}
