//! The end of the server, over real sockets: who is told what, and that nobody can make it hang.

use std::time::{Duration, Instant};

use crate::support::*;
use tokio::io::AsyncWriteExt;

#[tokio::test]
async fn clients_are_told_in_a_way_after_which_they_come_back() {
    let mut rig = start(settings());
    let mut ws = Ws::join(&rig).await;
    ws.event("history").await;
    let sid = rig.open().await;
    rig.send(&sid, "40").await;
    rig.poll(&sid).await;
    let mut idle = rig.connect().await;
    idle.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let server = rig.server.take().unwrap();
    let poll = rig.poll(&sid);
    let drain = async {
        until("the poll is pending", || server.connections() >= 3).await;
        // One more turn, so that its request is read as well.
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        server.drain(Duration::from_secs(10), "shutdown").await
    };
    let told = async {
        let event = ws.event("server_restarting").await;
        assert_eq!(event["reason"], "shutdown");
        assert!(event["timestamp"].as_str().unwrap().parse::<jiff::Timestamp>().is_ok());
        assert_eq!(ws.next().await, Frame::Close(1001));
        ws.send_frame(0x88, &1001_u16.to_be_bytes()).await;
        assert_eq!(ws.next().await, Frame::End(false));
    };
    let (polled, report, ()) = tokio::join!(poll, drain, told);
    assert!(body(&polled).starts_with("42[\"server_restarting\""), "{polled}");
    assert!(!body(&polled).contains('\u{1e}'), "the Python client takes a close packet as final: {polled}");
    assert_eq!((report.clients_told, report.cut), (2, 0));
    // The client's own close ended it, not a deadline.
    assert!(report.took < Duration::from_millis(1500), "{report:?}");
    assert_eq!(status(&to_end(&mut idle).await), 200);
    assert!(tokio::net::TcpStream::connect(rig.address).await.is_err(), "nothing listens any more");
}

#[tokio::test]
async fn what_stalls_is_cut_at_the_deadline() {
    let mut wide = settings();
    wide.client_backlog = 64 << 20;
    let mut rig = start(wide);
    let mut stalled = Ws::join(&rig).await;
    stalled.event("history").await;
    let pad = "x".repeat(100_000);
    for n in 1..=100 {
        rig.events.commit("tool_event", &format!("{{\"pad\":\"{pad}\"}}"));
        until("it went through the hub", || rig.events.hub.last_seq() == n).await;
    }
    let mut half = rig.connect().await;
    half.write_all(b"POST /api/events HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n{").await.unwrap();
    let server = rig.server.take().unwrap();
    until("both are there", || server.connections() == 2).await;
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    let began = Instant::now();
    let report = server.drain(Duration::from_millis(300), "shutdown").await;
    assert_eq!((report.connections, report.cut, report.clients_told), (2, 2, 1));
    assert!(began.elapsed() < Duration::from_secs(2), "{report:?}");
    to_end(&mut half).await;
    loop {
        match stalled.next().await {
            Frame::Text(_) => {}
            Frame::End(reset) => break assert!(reset, "a reset, not a close"),
            other => panic!("{other:?}"),
        }
    }
}
