//! The rules of the two specifications, Engine.IO protocol 4 and Socket.IO protocol 5, one test each, against a server made
//! of the library: `/` and `/custom` let everybody in and send back what they hear, `/guarded` asks for a password.
mod engine;
mod real;
mod socket;

use std::sync::Arc;
use std::time::Duration;

use crate::support::*;
use mpm_monitor::config::Settings;
use mpm_monitor::server::socketio::namespace::{
    Entry, Handled, Handler, Incoming, Middleware, Namespace, Refused, Socket,
};
use mpm_monitor::server::socketio::outgoing::Arguments;
use serde_json::{Value, json};

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

fn server_with(settings: Settings) -> Rig {
    start_with(settings, Arc::new(tempfile::tempdir().unwrap()), |_| {
        let open = |name| Namespace::new(name).with(vec![Box::new(Echo)]);
        vec![open("/"), open("/custom"), open("/guarded").guarded_by(Box::new(Password))]
    })
}

fn server() -> Rig {
    server_with(settings())
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
    until("the session is gone", || rig.server().clients() == 0).await;
}
