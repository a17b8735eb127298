//! How many clients there are, which each of them is told whenever that changes.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use socketio::SocketIo;
use socketio::outgoing::Outgoing;

/// The event that tells it.
pub(super) const CLIENT_COUNT: &str = "dashboard:client:count";
/// Clients are told at most this often: N that join at once would cost N² packets.
const PAUSE: Duration = Duration::from_millis(100);

/// Tells the clients how many they are, for as long as the server runs.
pub async fn run(sio: Arc<SocketIo>) {
    loop {
        sio.registry.count_changed().await;
        tokio::task::yield_now().await;
        {
            let (count, version) = sio.registry.count();
            let payload = json!({"count": count}).to_string();
            let out = Outgoing::packets(vec![Outgoing::event(CLIENT_COUNT, payload.as_bytes())]);
            sio.to_each(|session, now| session.push_count(&out, version, now));
        }
        tokio::time::sleep(PAUSE).await;
    }
}
