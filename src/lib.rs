//! mpm-monitor: the monitor of coding-agent fleets that the operating system runs.
//!
//! The map, in the order a reader needs it:
//!
//! - [`bundle`]: what `report` packs, without its secrets.
//! - [`cli`]: one file per verb; [`daemon::exit`] holds every exit code.
//! - [`config`]: where a setting comes from, and the validated [`config::Settings`].
//! - [`migrate`]: from Claude MPM's own daemon to this program, and back.
//! - [`life`]: one life of the process: boot, readiness, watchdog, signals, shutdown.
//! - [`bus`]: the same events on several machines, through Redis or Valkey.
//! - [`server`]: HTTP and Socket.IO on the listeners.
//! - [`hooks`]: our own hook for Claude Code, its spool, and how it gets into Claude Code's settings.
//! - [`doctor`]: is the plumbing of the service as it should be, and what to type where it is not.
#![deny(clippy::print_stdout, clippy::print_stderr, clippy::dbg_macro)]
#![cfg_attr(not(test), deny(clippy::disallowed_methods), warn(unused_crate_dependencies))]

pub mod app;
pub mod bundle;
pub mod bus;
pub mod cli;
pub mod config;
pub mod doctor;
pub use events;
pub mod hooks;
pub mod life;
pub mod migrate;
pub mod server;

/// Version and build of this program, as `--version`, `/health` and the unit's header say them.
pub mod build {
    /// The crate's version, `MAJOR.MINOR.PATCH`.
    pub const VERSION: &str = env!("CARGO_PKG_VERSION");
    /// Identifies the build: a short hash of the sources it was made from, set by `build.rs`.
    pub const ID: &str = env!("MPM_MONITOR_BUILD_ID");
    /// The value of `service` in `/health`, by which existing clients know a monitor.
    pub const SERVICE: &str = "claude-mpm-monitor";
    /// All of it, for the libraries.
    pub const PROGRAM: daemon::Program =
        daemon::Program { name: "mpm-monitor", version: VERSION, build: ID, service: SERVICE };
}
