//! `mpm-monitor` as a process of its own: the command line, signals, ports, and what it tells a service manager, each
//! in the foreground, with no manager there.

mod access;
mod claude_mpm;
mod cli;
mod clients_js;
mod clients_python;
mod compat;
#[cfg(target_os = "linux")]
mod faults;
mod help;
mod hooks;
mod hostile;
mod launchd;
mod life;
#[cfg(target_os = "linux")]
mod manager;
mod openapi;
mod operations;
mod phases;
mod ports;
#[cfg(target_os = "linux")]
mod store;
mod stream;
mod tree;
