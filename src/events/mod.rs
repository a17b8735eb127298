//! An event's way through the process: [`intake`] takes it from whoever brings it, by [`ingest`] (validate, normalise) and
//! [`store`] (durable, bounded); [`hub`] keeps the newest in memory and passes them on to the subscribers. One direction;
//! nothing upstream knows who listens.

pub mod hub;
pub mod ingest;
pub mod intake;
pub mod key;
pub mod model;
pub mod shown;
pub mod store;
