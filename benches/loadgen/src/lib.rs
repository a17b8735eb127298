//! What the programs of this package have in common.

pub mod process;
