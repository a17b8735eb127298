//! Primitives of a process that the operating system runs.
//!
//! - [`clock`]: how long the machine slept.
//! - [`exit`]: every exit code.
//! - [`fs`]: directories of this user alone.
//! - [`guarded`]: reads small files that others may have made.
//! - [`out`]: the only way to the terminal, where every text is escaped.
//! - [`Program`]: which program a process is.
//! - [`sys`]: the only `unsafe` code.
#![deny(clippy::print_stdout, clippy::print_stderr, clippy::dbg_macro)]
#![cfg_attr(not(test), deny(clippy::disallowed_methods), warn(unused_crate_dependencies))]

pub mod clock;
pub mod exit;
pub mod fs;
pub mod guarded;
pub mod out;
mod program;
pub mod sys;

pub use program::Program;
