//! One life of the process, from the first line of `run` to its exit code.
//!
//! [`boot`] takes the lock and the sockets, opens the store and fills the history; the latches of [`daemon::readiness`] drop; a
//! probe through the real socket proves that it is this process that answers; then the manager hears READY=1. [`supervisor`] serves until a
//! signal, a panic or the watchdog ends it, renews the manager's status line (`status`) and reads the configuration again
//! when asked to (`reload`); [`shutdown`] reports how each part ended.

pub mod boot;
pub mod failpoint;
pub mod logging;
mod reload;
pub mod shutdown;
mod signals;
pub mod standby;
mod status;
pub mod supervisor;
