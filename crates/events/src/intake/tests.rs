use std::time::{Duration, Instant};

use super::*;
use crate::hub::Limits;
use crate::key::Key;
use crate::model::Origin;
use crate::store::StoreConfig;
use daemon::components::Components;
use daemon::pulse::Pulse;

struct Rig {
    intake: Arc<Intake>,
    hub: Arc<Hub>,
    pulse: Pulse,
    _dir: tempfile::TempDir,
}

/// An intake whose hub passes nothing on until it is started.
fn rig() -> Rig {
    let (dir, pulse, hub) = (tempfile::tempdir().unwrap(), Pulse::new(), Hub::new(Limits::default()));
    let config = StoreConfig {
        path: dir.path().join("events.db"),
        durable: false,
        max_events: 1 << 40,
        max_bytes: 1 << 50,
        max_age: Duration::from_secs(1 << 33),
    };
    let publish = Arc::clone(&hub);
    let store = Store::open(config, &pulse, &Components::new(), Box::new(move |batch| publish.publish(batch))).unwrap();
    Rig { intake: Intake::new(Arc::new(store), Arc::clone(&hub)), hub, pulse, _dir: dir }
}

fn post(body: &str) -> Input<'_> {
    Input::Post(body.as_bytes(), Dialect::PassThrough)
}

#[tokio::test]
async fn event_is_counted_by_way_and_known_name() {
    let rig = rig();
    let intake = &rig.intake;
    for name in ["tool_event", "tool_event", "anything at all"] {
        intake.take(post(&format!(r#"{{"event":"{name}"}}"#)), None).await.unwrap();
    }
    intake.take(Input::ClaudeEvent("{}"), None).await.unwrap();
    let counts = intake.counts();
    let (http, sio) = (Via::Http, Via::SocketIo);
    assert_eq!(
        counts.accepted.into_iter().collect::<Vec<_>>(),
        [((http, "other"), 1), ((http, "tool_event"), 2), ((sio, "hook:event"), 1)]
    );
    assert_eq!(counts.refused.len(), 0);
}

#[tokio::test]
async fn refused_input_is_counted_by_code_and_not_stored() {
    let rig = rig();
    let intake = &rig.intake;
    for (input, code) in [
        (post("{"), "malformed_json"),
        (post("[]"), "not_an_object"),
        (Input::ClaudeEvent("[]"), "not_an_object"),
        (Input::HookIngest("{}"), "invalid_hook"),
    ] {
        let error = intake.take(input, None).await.unwrap_err();
        assert_eq!((error.code(), error.is_final()), (code, true));
        assert_eq!(intake.counts().refused[&(input.via(), code)], 1);
    }
    assert_eq!((intake.store.last_seq(), intake.counts().accepted.len()), (0, 0));
}

#[tokio::test]
async fn event_with_a_known_key_is_stored_and_counted_once() {
    let rig = rig();
    let intake = &rig.intake;
    let keyed = Keyed { key: Key::from_u128(7), again: false };
    assert_eq!(intake.take(post("{}"), Some(keyed)).await.unwrap(), Stored::Now(1));
    assert_eq!(intake.take(post("{}"), Some(keyed)).await.unwrap(), Stored::Before);
    assert_eq!((intake.store.last_seq(), intake.counts().accepted[&(Via::Http, "claude_event")]), (1, 1));
}

#[tokio::test]
async fn taker_waits_while_the_hub_is_full() {
    let Rig { intake, hub, pulse, _dir } = rig();
    let large = format!(r#"{{"data":{{"pad":"{}"}}}}"#, "x".repeat(9 << 20));
    let takes = tokio::spawn({
        let intake = Arc::clone(&intake);
        async move { intake.take(post(&large), None).await.unwrap() }
    });
    let deadline = Instant::now() + Duration::from_secs(10);
    while intake.counts().accepted.is_empty() {
        assert!(Instant::now() < deadline, "the event is never stored");
        tokio::task::yield_now().await;
    }
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    assert!(!takes.is_finished());
    let passing = hub.start(&pulse);
    assert_eq!(takes.await.unwrap(), Stored::Now(1));
    passing.abort();
}

#[tokio::test]
async fn arrivals_are_stored_in_order_up_to_the_first_gap() {
    let rig = rig();
    let intake = &rig.intake;
    let arrival = |seq, after| Arrival {
        origin: Arc::new(Origin { node: "b".into(), epoch: "e".into(), seq }),
        after,
        draft: Draft { name: "n".into(), subtype: "s".into(), session: None, payload: "{}".into() },
    };
    let brought = intake.bring(vec![arrival(1, 0), arrival(2, 1), arrival(1, 0), arrival(5, 4)]).await;
    assert_eq!((brought.new, brought.known), (2, 1));
    assert!(matches!(brought.failed, Some(StoreError::Missing { after: 2, through: 4, .. })), "{:?}", brought.failed);
    assert_eq!(intake.counts(), Counts::default());
}
