//! What a job of launchd's does that has given up, while launchd holds its sockets.
//!
//! launchd starts a job for every connection to its sockets, whatever its last end was. A process that ended would be started
//! again for ever, by the next hook or page, only to give up once more. So it stays, and tells everybody why.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use super::signals::Signals;
use daemon::ledger::Failure;
use daemon::sockets::{Listener, Listeners};

/// How long a client has for its question and for taking the answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// How many are answered at a time.
const MOST: usize = 64;
/// More than the head of any question.
const QUESTION: usize = 16 << 10;

/// The sockets that launchd would go on listening on.
#[derive(Debug, Default)]
pub struct Standby(Vec<std::net::TcpListener>);

impl Standby {
    /// For the sockets that the manager passed to this process.
    pub fn new(passed: &Listeners) -> Self {
        let tcp = passed.sockets.iter().filter_map(|listener| match listener {
            Listener::Tcp(listener) => listener.try_clone().ok(),
            Listener::Unix(_) => None,
        });
        Self(tcp.collect())
    }

    /// Answers everybody with 503 and the reason until it is told to stop; at once where there are no sockets. Blocks.
    pub fn serve(self, failure: &Failure) {
        if self.0.is_empty() {
            return;
        }
        tracing::info!(
            "launchd holds the sockets and would start this again for each connection: it stays, and says why"
        );
        if let Err(error) = self.run(failure) {
            tracing::error!(%error, "cannot stay; the next connection starts it again");
        }
    }

    fn run(self, failure: &Failure) -> io::Result<()> {
        let port = self.0.first().and_then(|l| l.local_addr().ok()).map_or(0, |address| address.port());
        let body = json!({
            "service": crate::build::SERVICE,
            "version": crate::build::VERSION,
            "build": crate::build::ID,
            "port": port,
            "pid": std::process::id(),
            "ready": false,
            "gave_up": failure,
            "error": failure.reason,
            "code": "gave_up",
        });
        let body = body.to_string();
        let answer: Arc<str> = format!(
            "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
             Cache-Control: no-store\r\nConnection: close\r\n\r\n{body}",
            body.len()
        )
        .into();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let mut signals = Signals::new()?;
            let room = Arc::new(Semaphore::new(MOST));
            for listener in self.0 {
                listener.set_nonblocking(true)?;
                tokio::spawn(accept(TcpListener::from_std(listener)?, Arc::clone(&answer), Arc::clone(&room)));
            }
            signals.stop.asked_to_stop().await;
            Ok(())
        })
    }
}

async fn accept(listener: TcpListener, answer: Arc<str>, room: Arc<Semaphore>) {
    // The semaphore is never closed.
    while let Ok(permit) = Arc::clone(&room).acquire_owned().await {
        match listener.accept().await {
            Ok((client, _)) => {
                let answer = Arc::clone(&answer);
                tokio::spawn(async move {
                    // Whoever is gone or too slow has no answer.
                    let _ = tokio::time::timeout(PATIENCE, tell(client, &answer)).await;
                    drop(permit);
                });
            }
            // Out of descriptors, most likely: some are free again in a moment.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

/// Reads the head of one question, and as much of its body as comes with it, and answers.
async fn tell(mut client: TcpStream, answer: &str) -> io::Result<()> {
    let (mut question, mut part) = (Vec::new(), [0; 1024]);
    while question.len() < QUESTION && !question.windows(4).any(|end| end == b"\r\n\r\n") {
        match client.read(&mut part).await? {
            0 => break,
            count => question.extend_from_slice(&part[..count]),
        }
    }
    client.write_all(answer.as_bytes()).await?;
    client.shutdown().await?;
    // A connection that is closed with something unread is reset, and the answer with it.
    while client.read(&mut part).await? > 0 {}
    Ok(())
}
