//! What a session does with time given to it and with a real socket.

use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use super::*;
use crate::handshake::Handshake;
use crate::registry::Registry;

fn options(backlog: usize) -> Options {
    let (ping_interval, ping_timeout) = (Duration::from_secs(30), Duration::from_secs(60));
    Options { ping_interval, ping_timeout, backlog, ..Options::default() }
}

fn polling(backlog: usize, now: Instant) -> Session {
    Session::new(None, &options(backlog), Handshake::default(), Registry::default().reserve(1).unwrap(), now).unwrap()
}

fn poll(session: &Session, now: Instant) -> Poll<Polled> {
    session.poll_packets(&mut Context::from_waker(Waker::noop()), now)
}

fn payload(text: &'static str) -> Poll<Polled> {
    Poll::Ready(Polled::Payload(Bytes::from_static(text.as_bytes())))
}

/// A session on a socket whose peer does not read, with `size` bytes on their way to it.
async fn stalled(size: usize, backlog: usize, now: Instant) -> (Session, tokio::net::TcpStream) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let peer = tokio::net::TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (stream, _) = listener.accept().await.unwrap();
    stream.writable().await.unwrap();
    let slot = Registry::default().reserve(1).unwrap();
    let session =
        Session::new(Some(Arc::new(Stream::Tcp(stream))), &options(backlog), Handshake::default(), slot, now).unwrap();
    let greeting = Outgoing::packet("x".repeat(size));
    assert_eq!(session.enter((0, session.socket_sid), Feed::Off, &greeting, 1, now), Ok(true), "some of it waits");
    (session, peer)
}

#[test]
fn what_waits_for_a_poll_is_joined_and_bounded() {
    let now = Instant::now();
    let session = polling(10, now);
    assert!(session.begin_poll() && !session.begin_poll());
    assert_eq!(poll(&session, now), Poll::Pending);
    session.push(&Outgoing::packet("4a"), now).unwrap();
    session.push(&Outgoing::packet("4b"), now).unwrap();
    assert_eq!(poll(&session, now), payload("4a\u{1e}4b"));
    session.push(&Outgoing::packet("one may always be larger"), now).unwrap();
    assert_eq!(session.push(&Outgoing::packet("4"), now), Err(End::Backlog));
}

#[test]
fn who_tries_a_websocket_gets_its_poll_back_at_once() {
    let now = Instant::now();
    let session = polling(10, now);
    assert!(session.begin_probe() && !session.begin_probe());
    assert_eq!(poll(&session, now), payload("6"));
    session.abandon_probe();
    assert_eq!(poll(&session, now), Poll::Pending);
}

#[test]
fn who_never_asks_for_a_namespace_is_sent_away() {
    let now = Instant::now();
    let (session, options) = (polling(1000, now), options(1000));
    let (ping, first, late) = (
        Outgoing::packet("2"),
        now + options.ping_interval - Duration::from_millis(20),
        now + options.connect_timeout.unwrap(),
    );
    assert_eq!(session.tick(&ping, now), Ok(first));
    assert_eq!(session.tick(&ping, first), Ok(late));
    assert_eq!(session.tick(&ping, late), Err(End::NeverConnected));
}

#[tokio::test]
async fn a_socket_that_takes_nothing_has_a_deadline_of_its_own() {
    let now = Instant::now();
    let (session, _peer) = stalled(32 << 20, 64 << 20, now).await;
    let ping = Outgoing::packet("2");
    assert_eq!(session.tick(&ping, now), Ok(now + WRITE_DEADLINE));
    assert_eq!(session.push(&ping, now + WRITE_DEADLINE / 2), Ok(false), "more to send is no progress");
    assert_eq!(session.tick(&ping, now + WRITE_DEADLINE), Err(End::Stalled));
}

#[tokio::test]
async fn a_goodbye_waits_its_turn_even_over_the_bound() {
    let now = Instant::now();
    let (session, peer) = stalled(32 << 20, 1, now).await;
    session.close(&Outgoing::packet("4last"), frame::GOING_AWAY, "bye", now);
    assert!(session.is_closing() && !session.is_closed());
    let mut read = 0;
    let mut buffer = vec![0; 1 << 20];
    let mut tail = Vec::new();
    while !session.is_closed() {
        session.flush(now).unwrap();
        match peer.try_read(&mut buffer) {
            Ok(count) => {
                read += count;
                tail = buffer[..count].to_vec();
            }
            Err(_) => tokio::task::yield_now().await,
        }
    }
    while read < (32 << 20) + 10 + 2 + 5 {
        peer.readable().await.unwrap();
        if let Ok(count) = peer.try_read(&mut buffer) {
            read += count;
            tail.extend_from_slice(&buffer[..count]);
        }
    }
    assert!(tail.ends_with(b"\x88\x05\x03\xe9bye"), "the close frame comes last");
}

#[test]
fn who_has_events_from_the_past_gets_only_the_rest_of_a_batch_live() {
    let now = Instant::now();
    let all = Outgoing::packet("4all");
    let after = |feed| {
        let session = polling(1000, now);
        session.enter((0, session.socket_sid), feed, &Outgoing::packets(vec![]), 0, now).unwrap();
        assert_eq!(poll(&session, now), Poll::Pending, "an empty greeting is no packet");
        session.push_events(&all, (3, 8), false, |seq| Outgoing::packet(format!("4after {seq}")), now).unwrap();
        session
    };
    assert_eq!(poll(&after(Feed::After(0)), now), payload("4all"));
    assert_eq!(poll(&after(Feed::After(2)), now), payload("4all"));
    assert_eq!(poll(&after(Feed::After(3)), now), payload("4after 3"));
    assert_eq!(poll(&after(Feed::After(7)), now), payload("4after 7"));
    for none in [Feed::After(8), Feed::After(99), Feed::Past(1), Feed::Off] {
        assert_eq!(poll(&after(none), now), Poll::Pending, "{none:?}");
    }
}

#[test]
fn the_past_goes_to_the_stay_that_asked_for_it_alone() {
    let now = Instant::now();
    let (session, piece) = (polling(1000, now), Outgoing::packet("4past"));
    let enter = |task| session.enter((0, session.socket_sid), Feed::Past(task), &Outgoing::packet("40"), 0, now);
    enter(1).unwrap();
    assert_eq!(session.push_past(1, &piece, Feed::Past(1), now), Some(Ok(false)));
    session.leave(0, now);
    enter(2).unwrap();
    assert_eq!(session.push_past(1, &piece, Feed::After(9), now), None);
    assert_eq!(session.push_past(2, &piece, Feed::After(9), now), Some(Ok(false)));
    assert_eq!(session.push_past(2, &piece, Feed::After(9), now), None, "it is live");
}

#[test]
fn whoever_waits_to_send_the_past_is_woken_when_there_is_room_and_when_the_client_leaves() {
    let now = Instant::now();
    let session = polling(1000, now);
    let enter = |task| session.enter((0, session.socket_sid), Feed::Past(task), &Outgoing::packet("40"), 0, now);
    let woken = Arc::new(Woken::default());
    let (waker, is_woken) = (Arc::clone(&woken).into(), || woken.0.swap(false, Ordering::Relaxed));
    let mut cx = Context::from_waker(&waker);
    enter(1).unwrap();
    let mut first = std::pin::pin!(session.drained(1));
    assert_eq!(first.as_mut().poll(&mut cx), Poll::Pending, "the greeting waits");
    assert!(!is_woken());
    assert_eq!(poll(&session, now), payload("40"));
    assert!(is_woken());
    assert_eq!(first.as_mut().poll(&mut cx), Poll::Ready(true));
    session.push(&Outgoing::packet("4x"), now).unwrap();
    let mut second = std::pin::pin!(session.drained(1));
    assert_eq!(second.as_mut().poll(&mut cx), Poll::Pending);
    session.leave(0, now);
    enter(2).unwrap();
    assert!(is_woken());
    assert_eq!(second.as_mut().poll(&mut cx), Poll::Ready(false), "another task sends the past now");
}

/// Remembers that it was woken.
#[derive(Default)]
struct Woken(AtomicBool);

impl std::task::Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}
