//! One client that sends as much as it can of what costs the most, while another one only wants its answers: each turn of
//! the event loop has a budget, on every path.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::bystander::Bystander;
use crate::harness::wire::{Sio, connect, frame, status};
use crate::harness::{eventually, http};
use crate::{PATIENCE, Victim};

const POLLING: &str = "/socket.io/?EIO=4&transport=polling";
/// How long each attack goes on: several times of what another client may wait.
const ATTACK: Duration = Duration::from_secs(4);

/// Sends the same bytes again and again until the attack's time is over, on a new connection whenever one ends.
fn flood(bytes: &[u8], mut open: impl FnMut() -> TcpStream) {
    let end = Instant::now() + ATTACK;
    let many = bytes.repeat((256_usize << 10).div_ceil(bytes.len()));
    while Instant::now() < end {
        let mut stream = open();
        stream.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
        // A time-out is a server that makes it wait: it comes back as somebody new.
        while Instant::now() < end && stream.write_all(&many).is_ok() {}
    }
}

/// A session that polls, by its id.
fn polling(port: u16) -> String {
    let open = http::get(port, POLLING).unwrap();
    let sid: serde_json::Value = serde_json::from_str(&open.body[1..]).unwrap();
    sid["sid"].as_str().unwrap().to_owned()
}

/// A WebSocket on that session, which has not said yet that it moves.
fn probing(port: u16, sid: &str) -> TcpStream {
    let request = format!(
        "GET /socket.io/?EIO=4&transport=websocket&sid={sid} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n\
         Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    eventually(PATIENCE, "the try before to be over", || {
        let mut stream = connect(port).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let (mut head, mut byte) = (Vec::new(), [0; 1]);
        while !head.ends_with(b"\r\n\r\n") {
            stream.read_exact(&mut byte).map_err(|e| e.to_string())?;
            head.push(byte[0]);
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        if status(&head) == 101 { Ok(stream) } else { Err(head) }
    })
}

/// Many sessions come and go in these attacks.
const ROOMY: [&str; 1] = ["server.max_clients=1000"];

#[test]
fn a_message_in_endless_pieces_delays_nobody() {
    let victim = Victim::new(&ROOMY);
    let other = Bystander::beside("websocket_pieces", victim.port, victim.pid());
    flood(&frame(0x00, b""), || {
        let mut client = Sio::join(connect(victim.port).unwrap()).unwrap();
        client.stream.write_all(&frame(0x01, b"4")).unwrap();
        client.stream
    });
    other.holds();
    victim.survived("websocket_pieces", 0, 32);
}

#[test]
fn an_upgrade_that_sends_binary_data_delays_nobody() {
    let victim = Victim::new(&ROOMY);
    let other = Bystander::beside("probe_binary", victim.port, victim.pid());
    let sid = polling(victim.port);
    flood(&frame(0x82, b"x"), || probing(victim.port, &sid));
    other.holds();
    victim.survived("probe_binary", 0, 32);
}

#[test]
fn an_upgrade_that_pings_delays_nobody_and_holds_nothing() {
    let victim = Victim::new(&ROOMY);
    let other = Bystander::beside("probe_pings", victim.port, victim.pid());
    let sid = polling(victim.port);
    flood(&frame(0x89, &[7; 125]), || probing(victim.port, &sid));
    other.holds();
    victim.survived("probe_pings", 0, 32);
}

/// The server has said goodbye and waits for the client's.
#[test]
fn data_after_the_goodbye_delay_nobody() {
    let victim = Victim::new(&ROOMY);
    let other = Bystander::beside("after_goodbye", victim.port, victim.pid());
    flood(&frame(0x82, &[0; 125]), || {
        let mut client = Sio::join(connect(victim.port).unwrap()).unwrap();
        client.stream.write_all(&frame(0x81, b"z")).unwrap();
        client.stream
    });
    other.holds();
    victim.survived("after_goodbye", 0, 32);
}
