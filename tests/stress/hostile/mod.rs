//! The real program and peers that mean it harm: over bare sockets, and as a page of another site in a real browser. Each
//! ends with a monitor that serves on, has kept nothing it should not have, and is hardly larger than before.

#![cfg(target_os = "linux")]

mod activation;
mod browser;
mod budget;
mod bystander;
mod events;
mod files;
mod http;
mod past;
mod redis;
mod sockets;

use testkit::command::Running;
use testkit::daemon::{Place, metric, resident};
use testkit::wire::Poster;
use testkit::{eventually, figure, http as client};

use std::time::Duration;

/// For what must happen soon, on a machine that does other things as well.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// A monitor that is about to be attacked.
#[derive(Debug)]
pub struct Victim {
    /// Where it serves.
    pub port: u16,
    /// It.
    pub daemon: Running,
    _place: Place,
    before: u64,
    stored: u64,
}

impl Victim {
    /// With these settings.
    #[track_caller]
    pub fn new(settings: &[&str]) -> Self {
        let place = Place::new();
        let port = client::free_port();
        let daemon = place.serve_with(port, settings);
        // What the first requests take is no attacker's doing.
        for n in 0..50 {
            assert_eq!(client::post_event(port, &format!("before-{n}")).unwrap().status, 204);
        }
        let before = resident(daemon.pid());
        let stored = client::get(port, "/health").unwrap().json()["last_seq"].as_u64().unwrap();
        Self { port, daemon, _place: place, before, stored }
    }

    /// The process.
    pub fn pid(&self) -> u32 {
        self.daemon.pid()
    }

    /// How much it has grown so far, KiB.
    pub fn growth(&self) -> u64 {
        resident(self.pid()).saturating_sub(self.before)
    }

    /// It serves, nothing is held any more, it stored exactly that many events, and it grew by no more than that.
    #[track_caller]
    pub fn survived(self, attack: &str, stored: u64, most: u64) {
        let growth = eventually(PATIENCE, "the attacker's connections to be gone", || {
            // One connection is the one that asks.
            match metric(self.port, "connections", "") {
                n if n <= 1.0 => Ok(self.growth()),
                n => Err(format!("{n} connections")),
            }
        });
        let health = client::get(self.port, "/health").unwrap().json();
        assert_eq!((&health["ready"], &health["pid"]), (&true.into(), &self.pid().into()), "{health}");
        for (name, component) in health["components"].as_object().unwrap() {
            assert_eq!(component["state"], "ok", "{name}: {component}");
        }
        assert_eq!(health["last_seq"].as_u64().unwrap() - self.stored, stored, "events were stored");
        assert_eq!(Poster::new(self.port).unwrap().post("{}").unwrap(), 204, "it serves on");
        figure(&format!("hostile_{attack}_growth"), format!("{:.1}", growth as f64 / 1024.0), "MiB");
        assert!(growth < most << 10, "{attack} made it grow by {growth} KiB");
    }
}
