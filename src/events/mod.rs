//! An event's way through the process: [`ingest`] (validate, normalise), [`store`] (durable, bounded), [`hub`] (history
//! in memory, and on to the subscribers). One direction; nothing upstream knows who listens.

pub mod hub;
pub mod ingest;
pub mod key;
pub mod model;
pub mod shown;
pub mod store;
