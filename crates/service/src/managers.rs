//! The manager of a scope, whichever kind it is.

use super::Kind;
use super::launchd::Launchd;
use super::manager::Manager;
use super::paths::Paths;
use super::systemd::Systemd;

/// The manager of the scope and kind whose directories these are.
pub fn of(paths: &Paths) -> Box<dyn Manager> {
    match paths.kind {
        Kind::Systemd => Box::new(Systemd::new(paths.clone())),
        Kind::Launchd => Box::new(Launchd::new(paths.clone())),
    }
}
