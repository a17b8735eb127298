//! One client that sends as much as it can of what costs the most, while another one only wants its answers: each turn of
//! the event loop has a budget, on every path.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::bystander::Bystander;
use super::{PATIENCE, Victim};
use testkit::wire::{Poster, Sio, connect, frame, status};
use testkit::{eventually, figure, http};

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

/// One packet with all that it may have, again and again.
fn flood_packets(name: &'static str, packet: &str) {
    assert!(packet.len() > 900_000 && packet.len() <= 1_000_000, "{}", packet.len());
    let victim = Victim::new(&ROOMY);
    // History is searched for what is asked for.
    let mut poster = Poster::new(victim.port).unwrap();
    for n in 0..1000 {
        assert_eq!(poster.post(&format!(r#"{{"data":{{"subtype":"pre_tool","n":{n}}}}}"#)).unwrap(), 204);
    }
    let other = Bystander::beside(name, victim.port, victim.pid());
    flood(&frame(0x81, packet.as_bytes()), || Sio::join(connect(victim.port).unwrap()).unwrap().stream);
    drop(poster);
    other.holds();
    victim.survived(name, 1000, 32);
}

/// `count` different texts.
fn names(count: usize) -> String {
    (0..count).map(|n| format!("\"{n}\"")).collect::<Vec<_>>().join(",")
}

#[test]
fn a_subscription_to_everything_there_is_delays_nobody() {
    flood_packets("subscribe", &format!("42[\"subscribe\",{{\"sessions\":[{}]}}]", names(115_000)));
}

#[test]
fn a_question_for_very_many_types_delays_nobody() {
    flood_packets("history_types", &format!("42[\"get_history\",{{\"event_types\":[{}]}}]", names(115_000)));
}

#[test]
fn an_event_with_very_many_arguments_delays_nobody() {
    flood_packets("arguments", &format!("42[\"dashboard:ping\"{}]", ",1".repeat(490_000)));
}

#[test]
fn an_acknowledgement_that_nobody_waits_for_delays_nobody() {
    flood_packets("acknowledgements", &format!("431[1{}]", ",1".repeat(490_000)));
}

/// Bodies of a megabyte, all of it packets of one character.
#[test]
fn polling_bodies_of_tiny_packets_are_held_as_they_came() {
    let victim = Victim::new(&ROOMY);
    let other = Bystander::beside("polling_bodies", victim.port, victim.pid());
    let body = vec!["6"; 500_000].join("\u{1e}");
    let sent: Vec<TcpStream> = (0..60)
        .map(|_| {
            let path = format!("{POLLING}&sid={}", polling(victim.port));
            let head = format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n", body.len());
            let mut stream = connect(victim.port).unwrap();
            stream.write_all(&[head.as_bytes(), body.as_bytes()].concat()).unwrap();
            stream
        })
        .collect();
    std::thread::sleep(ATTACK);
    drop(sent);
    other.holds();
    victim.survived("polling_bodies", 0, 32);
}

/// As many sessions as there is room for, opened and left alone: a client that means it gets in all the same.
#[test]
fn sessions_that_nobody_uses_lock_nobody_out_for_long() {
    let victim = Victim::new(&[]);
    let other = Bystander::beside("unused_sessions", victim.port, victim.pid());
    let opened = (0..1000).filter(|_| http::get(victim.port, POLLING).unwrap().status == 200).count();
    assert!((90..200).contains(&opened), "{opened}");
    let began = Instant::now();
    let client = eventually(PATIENCE, "room for a client", || Sio::join(connect(victim.port).unwrap()));
    let waited = began.elapsed();
    figure("hostile_locked_out", format!("{:.1}", waited.as_secs_f64()), "s after 1000 unused sessions");
    assert!(waited < Duration::from_secs(15), "{waited:?}");
    drop(client);
    other.holds();
    victim.survived("unused_sessions", 0, 32);
}

/// All of a large message but its last byte, from more clients than there is memory for.
#[test]
fn messages_that_never_end_share_a_bounded_memory() {
    let victim = Victim::new(&ROOMY);
    let other = Bystander::beside("unfinished_messages", victim.port, victim.pid());
    let message = frame(0x81, &vec![b'4'; 990_000]);
    let held: Vec<TcpStream> = (0..300)
        .map(|_| {
            let mut stream = Sio::join(connect(victim.port).unwrap()).unwrap().stream;
            // Where there is no room for it, it ends in the middle.
            let _ = stream.write_all(&message[..message.len() - 1]);
            stream
        })
        .collect();
    std::thread::sleep(ATTACK);
    drop(held);
    other.holds();
    victim.survived("unfinished_messages", 0, 32);
}
