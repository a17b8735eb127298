//! A whole Engine.IO server: sends back every message, text or binary.
//!
//! ```text
//! cargo run -p mpm-socketio --example engine_echo -- [PORT]
//! ```
//!
//! `PING_INTERVAL`, `PING_TIMEOUT` (milliseconds) and `MAX_PAYLOAD` (bytes) are read from the environment. The defaults
//! are those that the test suite of the protocol expects.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use socketio::bytes::Bytes;
use socketio::outgoing::{Outgoing, Piece};
use socketio::session::Session;
use socketio::{End, Engine, Options, Protocol, listen};
use tokio::net::TcpListener;

struct Echo;

impl Protocol for Echo {
    fn text(engine: &Arc<Engine<Self>>, session: &Arc<Session>, text: &str) -> Result<(), End> {
        engine.send(session, &Outgoing::packets(vec![Piece::message(text.to_owned())]));
        Ok(())
    }

    fn binary(engine: &Arc<Engine<Self>>, session: &Arc<Session>, data: Bytes) -> Result<(), End> {
        engine.send(session, &Outgoing::packets(vec![Piece::Binary(data)]));
        Ok(())
    }
}

/// Serves on a listener.
pub async fn serve(options: Options, listener: TcpListener) {
    listen(Engine::<Echo>::new(options, Echo), listener, "/engine.io/").await;
}

/// The options of the environment.
///
/// # Errors
/// When a number is none.
pub fn options() -> Result<Options, Box<dyn Error>> {
    let number = |name: &str, default: u64| std::env::var(name).map_or(Ok(default), |text| text.parse());
    let time = |name: &str, default| number(name, default).map(Duration::from_millis);
    Ok(Options {
        ping_interval: time("PING_INTERVAL", 300)?,
        ping_timeout: time("PING_TIMEOUT", 200)?,
        max_payload: usize::try_from(number("MAX_PAYLOAD", 1_000_000)?)?,
        ..Options::default()
    })
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let port = std::env::args().nth(1).map_or(Ok(3000), |port| port.parse::<u16>())?;
    serve(options()?, TcpListener::bind(("localhost", port)).await?).await;
    Ok(())
}
