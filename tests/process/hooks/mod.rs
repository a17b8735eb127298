//! Our own clients against the real daemon: the hook with a monitor that is up, down, restarting, hung or full, Claude Code's
//! settings, `emit` and `events`.
#![cfg(target_os = "linux")]

mod disk;
mod events;
mod hook;
mod session;
mod settings;
mod stranger;
mod trouble;
