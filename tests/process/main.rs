//! `mpm-monitor` as a process of its own: the command line, signals, ports, and what it tells a service manager, each
//! in the foreground, with no manager there.

mod access;
mod cli;
mod compat;
#[cfg(target_os = "linux")]
mod faults;
mod help;
mod hostile;
mod launchd;
mod life;
#[cfg(target_os = "linux")]
mod manager;
mod phases;
mod ports;
#[cfg(target_os = "linux")]
mod store;
mod tree;
