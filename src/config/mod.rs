//! Settings: layers (defaults, files, environment, flags) are merged with provenance, then validated at once.
//!
//! Three types in a row: [`layers::Layer`] is what one source says, [`layers::Merged`] what all say together, [`Settings`]
//! what it means. Nothing here binds a port or writes a file.

pub mod keys;
pub mod layers;
pub mod settings;

pub use settings::{LogFormat, PortChoice, Settings};
