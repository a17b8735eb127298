//! A whole Socket.IO server: sends back what it hears, in the namespaces `/` and `/custom`.
//!
//! ```text
//! cargo run -p mpm-socketio --example echo -- [PORT]
//! ```
//!
//! `PING_INTERVAL`, `PING_TIMEOUT` and `CONNECT_TIMEOUT` (milliseconds) and `MAX_PAYLOAD` (bytes) are read from the
//! environment. The defaults are those that the test suite of the protocol expects.

use std::error::Error;
use std::time::Duration;

use socketio::namespace::{Handled, Handler, Incoming, Namespace, Socket};
use socketio::outgoing::Arguments;
use socketio::serde_json::{Map, Value};
use socketio::{Options, SocketIo, listen};
use tokio::net::TcpListener;

struct Echo;

impl Handler for Echo {
    /// The first thing that a client hears is what it said as it entered.
    fn greeting(&self, _: Socket<'_>, auth: &Map<String, Value>, _: usize) -> Vec<(&'static str, Value)> {
        vec![("auth", Value::from(auth.clone()))]
    }

    fn event(&self, socket: Socket<'_>, event: Incoming<'_>) -> Handled {
        let same = Arguments::same(event.arguments, event.attachments);
        match event.name {
            "message" => socket.emit_with("message-back", &same),
            "message-with-ack" => return Handled::Yes(same),
            _ => return Handled::No,
        }
        Handled::done()
    }
}

/// Serves on a listener.
pub async fn serve(options: Options, listener: TcpListener) {
    let echo = |name| Namespace::new(name).with(vec![Box::new(Echo)]);
    listen(SocketIo::new(options, vec![echo("/"), echo("/custom")]), listener, "/socket.io/").await;
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
        connect_timeout: Some(time("CONNECT_TIMEOUT", 1000)?),
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
