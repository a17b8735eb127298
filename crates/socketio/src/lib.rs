//! Engine.IO protocol 4 and Socket.IO protocol 5 for servers, written to be read beside the two specifications.
//!
//! [`SocketIo`] is a server of namespaces, [`Engine`] one of anything else that is spoken over Engine.IO. [`listen`] serves
//! either on a listener; an application with an HTTP server of its own hands requests to [`polling::serve`], and its
//! connections go through [`io::ClientIo`]. It runs [`heartbeat::run`] then. The map:
//!
//! - [`packet`] and [`payload`]: the formats. Pure.
//! - [`session`]: one client: its transport, what waits for it, its heartbeat, the namespaces it is in.
//! - [`polling`] and `websocket`: the transports; [`reader`] parses what comes over a WebSocket, `frame` makes what goes,
//!   `older` tells clients of an older protocol that they are not served.
//! - `engine`, [`registry`], `places`, [`heartbeat`], `beat`: all sessions, their number, their pings and their end.
//! - `dispatch`: what a packet of a client leads to. [`namespace`], [`socket`], [`rooms`]: what a server says and answers.
//! - [`outgoing`]: what is sent, encoded once for all clients.
//! - [`connection`], [`stream`], [`io`], [`body`]: the connection layer; [`turn`] and `bucket` bound what one client takes.
//! - [`options`], [`extensions`], [`memory`], [`counters`]: what an application gives, and what it may read.
//!
//! Nothing here waits for a client: an event is encoded once for each kind of transport and written to every socket that
//! takes it. What a slow client does not take waits in its own bounded backlog. All tasks may run on one thread, and what
//! the application does in a call from here must not block.
#![deny(clippy::print_stdout, clippy::print_stderr, clippy::dbg_macro)]
#![cfg_attr(not(test), deny(clippy::disallowed_methods), warn(unused_crate_dependencies))]

mod answer;
mod beat;
pub mod body;
mod bucket;
pub mod connection;
pub mod counters;
mod dispatch;
mod end;
mod engine;
pub mod extensions;
mod frame;
pub mod handshake;
pub mod heartbeat;
pub mod io;
mod listen;
pub mod memory;
pub mod namespace;
mod older;
pub mod options;
pub mod outgoing;
pub mod packet;
pub mod payload;
mod places;
pub mod polling;
pub mod reader;
pub mod registry;
pub mod rooms;
mod server;
pub mod session;
pub mod sid;
pub mod socket;
pub mod stream;
pub mod turn;
mod websocket;

pub use {bytes, serde_json};

pub use self::answer::{Answer, Refused};
pub use self::end::End;
pub use self::engine::{Engine, Protocol};
pub use self::extensions::Extensions;
pub use self::listen::listen;
pub use self::options::{Config, Options};
pub use self::server::{Namespaces, SocketIo};
