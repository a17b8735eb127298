//! The past, for clients that ask for all of it and read nothing: resuming ones over Socket.IO, and readers of the stream.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::bystander::Bystander;
use super::{PATIENCE, Victim};
use testkit::daemon::metric;
use testkit::sse::Sse;
use testkit::wire::{Poster, Sio, connect, narrow};
use testkit::{eventually, figure};

/// As many as `server.max_clients` lets in by default, but the bystander's.
const CROWD: usize = 99;
/// The bytes of each of the large events, nearly as many as a post may have.
const LARGE: usize = 2_000_000;
/// How long nobody reads.
const ATTACK: Duration = Duration::from_secs(4);

/// A monitor that has large events in its store, of which memory has only the newest.
fn victim() -> Victim {
    let victim = Victim::new(&[]);
    let mut poster = Poster::new(victim.port).unwrap();
    for n in 1..=5 {
        let event = format!(r#"{{"event":"claude_event","data":{{"n":{n},"pad":"{}"}}}}"#, "x".repeat(LARGE));
        assert_eq!(poster.post(&event).unwrap(), 204);
    }
    // So that what the posts take is no attacker's doing: they go on to the database.
    eventually(PATIENCE, "the events to be in the database", || {
        match metric(victim.port, "store_unindexed_events", "") {
            0.0 => Ok(()),
            n => Err(n),
        }
    });
    victim
}

/// A crowd does nothing for a while and then goes.
#[track_caller]
fn attack<T>(name: &'static str, victim: Victim, enter: impl Fn(u16) -> T) {
    let bystander = Bystander::beside(name, victim.port, victim.pid());
    let began = Instant::now();
    let crowd: Vec<T> = (0..CROWD).map(|_| enter(victim.port)).collect();
    figure(&format!("{name}_entered"), format!("{:.1}", began.elapsed().as_secs_f64()), "s until all 99 were there");
    std::thread::sleep(ATTACK);
    drop(crowd);
    bystander.holds();
}

#[test]
fn clients_that_resume_and_read_nothing_share_one_room() {
    attack("unread_resumes", victim(), |port| {
        let mut client = Sio::open(narrow(port).unwrap()).unwrap();
        client.send(r#"40{"last_seq":0}"#).unwrap();
        client
    });
}

#[test]
fn streams_that_nobody_reads_share_one_room() {
    attack("unread_streams", victim(), |port| -> TcpStream {
        Sse::over(narrow(port).unwrap(), port, "?after=0", "").unwrap().into_socket()
    });
}

/// Who waits for room gets everything, later: when those that read nothing are cut off.
#[test]
fn who_reads_gets_all_of_the_past_behind_those_that_do_not() {
    let victim = victim();
    let stalled: Vec<TcpStream> = (0..24)
        .map(|_| Sse::over(narrow(victim.port).unwrap(), victim.port, "?after=0", "").unwrap().into_socket())
        .collect();
    let began = Instant::now();
    let (port, last) = (victim.port, 55);
    let stream = std::thread::spawn(move || {
        let mut reader = Sse::open(port, "?after=50", "").unwrap();
        reader.patience(PATIENCE);
        (51..=last).for_each(|seq| assert_eq!(reader.event().unwrap().json()["seq"], seq));
    });
    let socket = connect(port).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut client = Sio::open(socket).unwrap();
    client.send(r#"40{"last_seq":50}"#).unwrap();
    for seq in 51..=last {
        client.until(&format!("\"seq\":{seq}}}")).unwrap();
    }
    let told = client.until("\"resumed\"").unwrap();
    assert!(told.contains("\"count\":5") && told.contains("\"missed\":0"), "{told}");
    stream.join().unwrap();
    figure("past_behind_the_stalled", format!("{:.1}", began.elapsed().as_secs_f64()), "s until all was read");
    drop((stalled, client));
}

/// A client that asks for all that memory has, over and over, and reads none of it.
fn ask(port: u16, question: &str) -> Sio {
    let mut client = Sio::join(narrow(port).unwrap()).unwrap();
    for _ in 0..8 {
        client.send(question).unwrap();
    }
    client
}

#[test]
fn answers_about_the_past_share_one_room() {
    attack("unread_hook_history", victim(), |port| ask(port, r#"42["hook:history:get",{"limit":-1}]"#));
}

#[test]
fn older_answers_about_the_past_share_one_room() {
    attack("unread_history", victim(), |port| ask(port, r#"42["get_history",{}]"#));
}

/// Each client comes to another newest event, so that no two have the same greeting.
#[test]
fn greetings_that_nobody_reads_share_one_room() {
    let victim = Victim::new(&[]);
    let port = victim.port;
    let mut poster = Poster::new(port).unwrap();
    let event = format!(r#"{{"event":"claude_event","data":{{"pad":"{}"}}}}"#, "x".repeat(40_000));
    for _ in 0..50 {
        assert_eq!(poster.post(&event).unwrap(), 204);
    }
    let poster = std::cell::RefCell::new(poster);
    attack("unread_greetings", victim, |port| {
        assert_eq!(poster.borrow_mut().post(&event).unwrap(), 204);
        let mut client = Sio::open(narrow(port).unwrap()).unwrap();
        client.send("40").unwrap();
        client
    });
}

/// Who reads gets the whole answer and then what is new.
#[test]
fn who_reads_is_answered_behind_those_that_do_not() {
    let victim = victim();
    let stalled: Vec<Sio> = (0..40).map(|_| ask(victim.port, r#"42["hook:history:get",{"limit":-1}]"#)).collect();
    let socket = connect(victim.port).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let began = Instant::now();
    let mut client = Sio::join(socket).unwrap();
    client.send(r#"420["hook:history:get",{"limit":-1}]"#).unwrap();
    let answer = client.until("hook:history:response").unwrap();
    assert!(answer.len() > LARGE && answer.contains("\"total\":1"), "{}", answer.len());
    client.until("430[").unwrap();
    figure("answer_behind_the_stalled", format!("{:.1}", began.elapsed().as_secs_f64()), "s until it was there");
    drop(stalled);
}
