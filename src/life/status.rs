//! The status line: what the manager shows of a serving process, looked at every few seconds and told when it changed.

use std::time::Duration;

use tokio::time::{Interval, MissedTickBehavior};

use crate::events::store::Store;
use crate::server::Server;
use daemon::components::Components;
use daemon::notify::Notifier;
use daemon::program_file::{Fate, ProgramFile};

/// How often it is renewed, if it changed.
const EVERY: Duration = Duration::from_secs(5);

/// When to renew it; the first tick comes at once.
pub(super) fn ticks() -> Interval {
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// The line, and what it is made from.
pub(super) struct StatusLine<'a> {
    pub(super) notifier: &'a Notifier,
    pub(super) program: &'a ProgramFile,
    pub(super) components: &'a Components,
    pub(super) server: &'a Server,
    pub(super) store: &'a Store,
    /// The addresses, in words.
    pub(super) urls: &'a str,
    /// What was told last.
    pub(super) told: String,
}

impl StatusLine<'_> {
    /// READY=1, with the line as it is now.
    pub(super) fn tell_ready(&mut self) {
        self.told = self.line();
        self.notifier.ready(&self.told);
    }

    /// Looks at what changes without an event, and tells the line if it is another.
    pub(super) fn renew(&mut self) {
        self.look_at_program();
        let line = self.line();
        if line != self.told {
            self.notifier.status(&line);
            self.told = line;
        }
    }

    /// Notices an upgrade without a restart.
    fn look_at_program(&self) {
        let (fate, path) = (self.program.look(), self.program.path().map(|p| p.display().to_string()));
        match fate {
            None => {}
            Some(Fate::Same) => tracing::info!(path, "the program file is again the one that runs"),
            Some(fate) => tracing::warn!(
                path,
                running_build = crate::build::ID,
                "the program file was {}: the old one runs on until `mpm-monitor restart`",
                if fate == Fate::Gone { "removed" } else { "replaced" }
            ),
        }
    }

    fn line(&self) -> String {
        let clients = self.server.clients();
        let mut line = format!(
            "serving {}, {clients} client{}, {} events",
            self.urls,
            if clients == 1 { "" } else { "s" },
            self.store.last_seq()
        );
        for remark in self.program.remark().map(str::to_owned).into_iter().chain(self.components.degraded()) {
            line.push_str("; ");
            line.push_str(&remark);
        }
        line
    }
}
