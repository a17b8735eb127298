//! From Claude MPM's own monitor daemon to this program, and back.
//!
//! - [`process`]: what can be known of a process: whose it is, when it began, what it was started as.
//! - [`command`]: whether a command line is that of Claude MPM's daemon; pure.
//! - [`find`]: looks for its PID files and for who serves the ports.
//! - [`plan`]: what is its daemon, what is stale, and what stands in the way; pure.
//! - [`record`]: what a migration did, so that it can be undone.
//!
//! Nothing here signals a process that is not proved to be that daemon, by pid, time of start, and command line.

pub mod command;
pub mod find;
pub mod pid_files;
pub mod plan;
pub mod process;
pub mod record;
