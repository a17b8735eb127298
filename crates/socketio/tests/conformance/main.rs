//! The rules of the two specifications, Engine.IO protocol 4 and Socket.IO protocol 5, one test each, against a server made
//! of the library: `/` and `/custom` let everybody in and send back what they hear, `/guarded` asks for a password.

#[path = "../client/mod.rs"]
mod client;
mod engine;
mod real;
mod socket;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use client::*;
use serde_json::{Value, json};
use socketio::namespace::{Entry, Handled, Handler, Incoming, Middleware, Namespace, Refused, Socket};
use socketio::outgoing::Arguments;
use socketio::{Options, SocketIo};
use tokio::task::JoinHandle;

/// Sends back what it hears, asks, and moves clients between rooms, as it is told.
struct Echo;

impl Handler for Echo {
    fn event(&self, socket: Socket<'_>, event: Incoming<'_>) -> Handled {
        let same = Arguments::same(event.arguments, event.attachments);
        let word = event.argument().and_then(|a| serde_json::from_str::<String>(a.get()).ok()).unwrap_or_default();
        match event.name {
            "message" => socket.emit_with("message-back", &same),
            "message-with-ack" => return Handled::Yes(same),
            "sizes" => {
                let sizes: Vec<_> = (0..event.arguments.len()).map(|n| event.binary(n).map(|b| b.len())).collect();
                socket.emit("sizes", &json!(sizes));
            }
            "ask" => {
                let (answer, kept) = (socket.ask("question", &same, Duration::from_secs(1)), socket.keep());
                return Handled::Aside(Box::pin(async move {
                    match answer.await {
                        Ok(reply) => {
                            let sizes: Vec<usize> = reply.attachments.iter().map(bytes::Bytes::len).collect();
                            kept.socket().emit("answer", &json!([reply.arguments, sizes]));
                        }
                        Err(error) => kept.socket().emit("no-answer", &error.code().into()),
                    }
                    None
                }));
            }
            "join" => socket.join(&word).unwrap(),
            "leave" => socket.leave(&word),
            "tell-room" => socket.to(&["a", "b"]).emit("told", &same),
            "tell-room-but-not" => socket.to(&["a"]).except(&["b"]).emit("told", &same),
            "tell-all" => socket.broadcast("told", &json!(word)),
            "kick" => socket.disconnect(),
            _ => return Handled::No,
        }
        Handled::done()
    }
}

/// Lets in who knows the password, and who says in the query that it is a friend.
struct Password;

impl Middleware for Password {
    fn admit(&self, entry: Entry<'_>) -> Result<(), Refused> {
        assert_eq!(entry.namespace, "/guarded");
        let friend = entry.session.handshake.query() == "friend=1";
        if friend || entry.auth.get("password") == Some(&Value::from("open sesame")) {
            return Ok(());
        }
        Err(Refused { code: "wrong_password", message: "say the password".into() })
    }
}

/// A server on a free port of this machine, until it is dropped.
struct Rig {
    sio: Arc<SocketIo>,
    address: SocketAddr,
    serving: JoinHandle<()>,
}

impl Rig {
    /// How many clients are in the default namespace.
    fn clients(&self) -> usize {
        self.sio.registry.connected()
    }
}

impl Served for Rig {
    fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

fn options() -> Options {
    let (ping_interval, ping_timeout) = (Duration::from_secs(30), Duration::from_secs(60));
    Options { ping_interval, ping_timeout, ..Options::default() }
}

fn server_with(options: Options) -> Rig {
    let open = |name| Namespace::new(name).with(vec![Box::new(Echo)]);
    let namespaces = vec![open("/"), open("/custom"), open("/guarded").guarded_by(Box::new(Password))];
    let sio = SocketIo::new(options, namespaces);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
    let serving = tokio::spawn(socketio::listen(Arc::clone(&sio), listener, "/socket.io/"));
    Rig { sio, address, serving }
}

fn server() -> Rig {
    server_with(options())
}

/// A WebSocket on which the Engine.IO handshake is read.
async fn websocket(rig: &Rig) -> Ws {
    let mut ws = Ws::open(rig, "", "").await.unwrap();
    assert!(ws.text().await.starts_with("0{"));
    ws
}

/// The same, and in the default namespace.
async fn connected(rig: &Rig) -> Ws {
    let mut ws = websocket(rig).await;
    ws.send("40").await;
    assert!(ws.text().await.starts_with("40{\"sid\":"));
    ws
}

/// A polling session in the default namespace.
async fn connected_polling(rig: &Rig) -> String {
    let sid = rig.open().await;
    assert_eq!(body(&rig.send(&sid, "40").await), "ok");
    assert!(packets(&rig.poll(&sid).await)[0].starts_with("40{\"sid\":"));
    sid
}

/// Says that nothing else came: the next frame is the answer to this.
async fn nothing_more(ws: &mut Ws) {
    ws.send_frame(0x89, b"mark").await;
    assert_eq!(ws.next().await, Frame::Pong(b"mark".to_vec()));
}

/// The next frame that is not a text must be this close, and the session is gone.
async fn closed(rig: &Rig, ws: &mut Ws, code: u16) {
    assert_eq!(ws.next().await, Frame::Close(code));
    until("the session is gone", || rig.clients() == 0).await;
}
