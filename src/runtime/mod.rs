//! One life of the process, from the first line of `run` to its exit code.

pub mod components;
pub mod pulse;
pub mod readiness;
