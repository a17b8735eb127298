//! Several monitors on a bus: the real program, a real Redis (and Valkey, where there is one), networks of their own. They run
//! short with all the others; `scripts/soak.sh` lets random partitions and kills go on for ten minutes.
#![cfg(target_os = "linux")]

mod chaos;
mod crowd;
mod fleet;
mod gaps;
mod rights;
mod server;
mod together;
