//! Primitives of a process that the operating system runs. They know neither the program's settings nor what it serves.
//!
//! - [`clock`]: how long the machine slept.
//! - [`components`]: the state of each part of the process.
//! - [`dirs`]: where a user's files belong.
//! - [`exit`]: every exit code.
//! - [`fatal`]: a panic in any thread ends the process in good order.
//! - [`fs`]: directories of this user alone.
//! - [`guarded`]: reads small files that others may have made.
//! - [`identity`]: which process this is, and which service manager runs it.
//! - [`ledger`]: how earlier lives of an instance ended.
//! - [`limits`]: the number of open files.
//! - [`lock`]: one instance for each port.
//! - [`logfile`]: a log file of bounded size.
//! - [`notify`]: the messages of `sd_notify(3)`.
//! - [`out`]: the only way to the terminal, where every text is escaped.
//! - [`ports`]: who has a port.
//! - [`probe`]: asks a running process who it is, through its real socket.
//! - [`Program`]: which program a process is.
//! - [`program_file`]: whether the file that a process was started from is still the same.
//! - [`pulse`], [`watchdog`]: whether the critical tasks still answer.
//! - [`readiness`]: the latches that drop before the process is ready.
//! - [`sockets`], [`unix_socket`]: listening sockets, passed by the service manager or bound here.
//! - [`socket_owner`], [`tcp_users`]: the user at the other end of a local connection.
//! - [`sys`]: the only `unsafe` code.
//! - [`text`]: counts and lines for people.
//! - [`usage`]: the memory and threads of this process.
#![deny(clippy::print_stdout, clippy::print_stderr, clippy::dbg_macro)]
#![cfg_attr(not(test), deny(clippy::disallowed_methods), warn(unused_crate_dependencies))]

pub mod clock;
pub mod components;
pub mod dirs;
pub mod exit;
pub mod fatal;
pub mod fs;
pub mod guarded;
pub mod identity;
pub mod ledger;
pub mod limits;
pub mod lock;
pub mod logfile;
pub mod notify;
pub mod out;
pub mod ports;
pub mod probe;
mod program;
pub mod program_file;
pub mod pulse;
pub mod readiness;
pub mod socket_owner;
pub mod sockets;
pub mod sys;
pub mod tcp_users;
pub mod text;
pub mod unix_socket;
pub mod usage;
pub mod watchdog;

pub use program::Program;
