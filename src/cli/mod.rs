//! The command line: one file per verb. Here alone errors are `anyhow`.

pub mod args;
pub mod exit;
