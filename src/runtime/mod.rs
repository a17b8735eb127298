//! One life of the process, from the first line of `run` to its exit code.
//!
//! [`boot`] takes the lock and the sockets, opens the store and fills the history; the latches of [`readiness`] drop; a probe
//! through the real socket proves that it is this process that answers; then the manager hears READY=1. [`life`] serves until a
//! signal, a panic or the watchdog ends it, renews the manager's status line (`status`) and reads the configuration again
//! when asked to (`reload`); [`shutdown`] reports how each part ended.

pub mod boot;
pub mod components;
pub mod failpoint;
pub mod fatal;
pub mod identity;
pub mod ledger;
pub mod life;
pub mod limits;
pub mod lock;
pub mod logfile;
pub mod logging;
pub mod notify;
pub mod pid_files;
pub mod ports;
pub mod program_file;
pub mod pulse;
pub mod readiness;
mod reload;
pub mod shutdown;
mod signals;
pub mod socket_owner;
pub mod sockets;
pub mod standby;
mod status;
pub mod tcp_users;
pub mod unix_socket;
pub mod usage;
pub mod watchdog;
