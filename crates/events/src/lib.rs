//! The way of an event through the process, in one direction: nothing upstream knows who listens.
//!
//! - [`intake`]: the one way into the store, whoever brings the event.
//! - [`ingest`]: what a posted body becomes: validated, normalised.
//! - [`store`]: the events on disk, durable and bounded.
//! - [`hub`]: the newest events in memory, and every new one on its way to the subscribers.
//! - [`cursor`]: follows the store from a number on.
//! - [`model`]: an event. [`shown`]: an event as subscribers see it. [`key`]: the idempotency key of an event.
#![deny(clippy::print_stdout, clippy::print_stderr, clippy::dbg_macro)]
#![cfg_attr(not(test), deny(clippy::disallowed_methods), warn(unused_crate_dependencies))]

pub mod cursor;
pub mod hub;
pub mod ingest;
pub mod intake;
pub mod key;
pub mod model;
pub mod shown;
pub mod store;
