//! The real Claude MPM, as pip has it, against the real program: its hooks, its commands, its dashboard, its clients. Where it
//! speaks of a monitor it means port 8765 of localhost, so each test has a network of its own.
#![cfg(target_os = "linux")]

mod bodies;
mod browser;
mod commands;
mod compare;
mod files;
mod net;
mod ours;
mod senders;
mod talk;
