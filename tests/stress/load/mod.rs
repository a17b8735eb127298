//! The real program under load: killed at random moments, with clients that stop reading, with thousands of clients. Each
//! test prints what it measured. They run short with all the others; `scripts/soak.sh` runs them at length.

#[cfg(target_os = "linux")]
mod clients;
#[cfg(target_os = "linux")]
mod hour;
mod kill;
#[cfg(target_os = "linux")]
mod stalled;
