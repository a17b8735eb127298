//! The server in the test's own process, on a real socket: HTTP, Socket.IO and what it does with events and files.

mod clients;
mod dashboard;
mod drain;
mod files;
mod http;
mod memory;
mod resume;
mod socketio;
mod status;
mod subscribe;
mod support;
