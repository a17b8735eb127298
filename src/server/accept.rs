//! The accept loop and the life of a connection: bounded in number, timed while its head arrives, ended by a drain.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioTimer;
use tokio::sync::{Notify, watch};

use super::site::Site;
use super::stream::{Ends, Listener, Stream, ends};
use super::tide::Tide;
use crate::config::Settings;
use daemon::components::State;
use daemon::pulse::Probe;
use daemon::socket_owner::Pair;
pub use socketio::connection::Phase;
use socketio::io::ClientIo;

/// The name under which the listeners' state is told.
pub const COMPONENT: &str = "http";
/// How long the loop waits when the process or the machine is out of descriptors or memory: the connection stays in
/// the backlog, and trying at once would only burn the processor.
const PAUSE: Duration = Duration::from_millis(200);
/// Refused connections that are given a moment to read why.
const MAX_REFUSALS: usize = 64;
/// That moment.
const REFUSAL_DEADLINE: Duration = Duration::from_secs(1);
/// So many connections are a crowd, after which memory is given back.
const CROWD: usize = 64;
/// The most bytes of a request's head.
const MAX_HEAD: usize = 64 << 10;

/// What a connection reads that is one too many.
const FULL: &str = concat!(
    "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json; charset=utf-8\r\n",
    "Connection: close\r\nRetry-After: 1\r\nContent-Length: 125\r\n\r\n",
    r#"{"success":false,"error":"as many connections as `max_connections` allows are open; try again","#,
    r#""code":"too_many_connections"}"#
);
/// What a user reads who may not use the Unix socket.
const STRANGER: &str = concat!(
    "HTTP/1.1 403 Forbidden\r\nContent-Type: application/json; charset=utf-8\r\n",
    "Connection: close\r\nContent-Length: 129\r\n\r\n",
    r#"{"success":false,"error":"this user may not use the Unix socket; list its number in access.unix_users","#,
    r#""code":"user_not_allowed"}"#
);

/// The number of open connections, of any kind.
#[derive(Debug)]
pub struct Open {
    count: Tide,
    refusing: AtomicUsize,
    /// Told whenever one closes.
    pub closed: Notify,
}

impl Default for Open {
    fn default() -> Self {
        Self { count: Tide::new(CROWD), refusing: AtomicUsize::new(0), closed: Notify::new() }
    }
}

impl Open {
    /// How many there are.
    pub fn count(&self) -> usize {
        self.count.level()
    }
}

/// A connection, which keeps its place as long as any task serves it.
pub type Connection = socketio::connection::Connection<Place>;

/// One connection's place among those that may be open.
#[derive(Debug)]
pub struct Place {
    /// Who is at its ends.
    pub ends: Ends,
    /// By what the kernel finds it, where it is a TCP connection.
    pub pair: Option<Pair>,
    open: Arc<Open>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.open.count.fall(1);
        self.open.closed.notify_waiters();
    }
}

/// Accepts on all listeners until the server drains, then closes them. A listener that the service manager passed stays
/// open in the manager, and its backlog with it.
pub async fn run(
    listeners: Vec<Listener>,
    site: Arc<Site>,
    open: Arc<Open>,
    mut phase: watch::Receiver<Phase>,
    probe: Arc<Probe>,
) {
    let connections = phase.clone();
    let mut first = 0;
    let mut paused: Option<Instant> = None;
    loop {
        let resume = paused.unwrap_or_else(Instant::now);
        tokio::select! {
            biased;
            _ = phase.changed() => return,
            () = probe.asked() => probe.answer(),
            () = tokio::time::sleep_until(resume.into()), if paused.is_some() => paused = None,
            accepted = accept(&listeners, &mut first), if paused.is_none() => match accepted {
                Ok(stream) => {
                    site.recovered();
                    admit(stream, &site, &open, &connections);
                }
                Err(error) if is_exhausted(&error) => {
                    site.degraded(&error);
                    paused = Some(Instant::now() + PAUSE);
                }
                // The client has gone before we took it; the next one waits already.
                Err(error) => tracing::debug!(%error, "accept"),
            },
        }
    }
}

/// The next connection of any listener; each gets to be the first one asked.
async fn accept(listeners: &[Listener], first: &mut usize) -> io::Result<Stream> {
    poll_fn(|cx| {
        for offset in 0..listeners.len() {
            let index = (*first + offset) % listeners.len();
            if let Poll::Ready(accepted) = listeners[index].poll_accept(cx) {
                *first = index + 1;
                return Poll::Ready(accepted);
            }
        }
        Poll::Pending
    })
    .await
}

/// Whether accept failed for want of descriptors or memory, and so will fail again at once.
fn is_exhausted(error: &io::Error) -> bool {
    use rustix::io::Errno;
    [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM]
        .iter()
        .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

fn admit(stream: Stream, site: &Arc<Site>, open: &Arc<Open>, phase: &watch::Receiver<Phase>) {
    let settings = site.settings();
    site.counters.connections.fetch_add(1, Ordering::Relaxed);
    let Ok((ends, pair)) = ends(&stream) else { return };
    if !knows(ends, &settings) {
        site.counters.denied("user_not_allowed");
        return turn_away(stream, open, STRANGER);
    }
    if open.count() >= settings.max_connections {
        site.counters.connections_refused.fetch_add(1, Ordering::Relaxed);
        return turn_away(stream, open, FULL);
    }
    stream.tune();
    open.count.rise(1);
    let connection = Arc::new(Connection::new(phase.clone(), Place { ends, pair, open: Arc::clone(open) }));
    tokio::spawn(serve(stream, connection, Arc::clone(site), settings.header_timeout));
}

/// Whether this user may use the Unix socket; whoever comes over TCP has no name.
fn knows(ends: Ends, settings: &Settings) -> bool {
    match ends {
        Ends::Tcp { .. } => true,
        Ends::Unix { uid } => {
            uid == 0 || uid == rustix::process::geteuid().as_raw() || settings.unix_users.contains(&uid)
        }
    }
}

fn turn_away(stream: Stream, open: &Arc<Open>, answer: &'static str) {
    if open.refusing.fetch_add(1, Ordering::AcqRel) < MAX_REFUSALS {
        tokio::spawn(refuse(stream, Arc::clone(open), answer));
    } else {
        open.refusing.fetch_sub(1, Ordering::AcqRel);
    }
}

async fn serve(stream: Stream, connection: Arc<Connection>, site: Arc<Site>, header_timeout: Duration) {
    let mut phase = connection.phase().clone();
    let io = ClientIo::new(stream, Arc::clone(&connection) as Arc<_>);
    let service = service_fn(move |request| Arc::clone(&site).serve(request, Arc::clone(&connection)));
    let conversation = http1::Builder::new()
        .timer(TokioTimer::new())
        // Also ends a connection that is kept alive without another request.
        .header_read_timeout(header_timeout)
        .max_buf_size(MAX_HEAD)
        .serve_connection(io, service)
        .with_upgrades();
    tokio::pin!(conversation);
    if *phase.borrow_and_update() != Phase::Serving {
        conversation.as_mut().graceful_shutdown();
    }
    loop {
        tokio::select! {
            result = conversation.as_mut() => {
                if let Err(error) = result {
                    tracing::debug!(%error, "connection");
                }
                return;
            }
            changed = phase.changed() => {
                if changed.is_err() || *phase.borrow_and_update() == Phase::Cut {
                    return;
                }
                conversation.as_mut().graceful_shutdown();
            }
        }
    }
}

/// Says why, and waits a moment for the client to have read it: closing over its unread request would reset the
/// connection, and the answer with it.
async fn refuse(stream: Stream, open: Arc<Open>, answer: &'static str) {
    let say = async {
        let mut rest = answer.as_bytes();
        while !rest.is_empty() && stream.writable().await.is_ok() {
            match stream.try_write(rest) {
                Ok(written) => rest = &rest[written..],
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return,
            }
        }
        stream.finish_writing();
        let mut request = [0; 1024];
        while stream.readable().await.is_ok() {
            match stream.try_read(&mut request) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
        }
    };
    let _ = tokio::time::timeout(REFUSAL_DEADLINE, say).await;
    open.refusing.fetch_sub(1, Ordering::AcqRel);
}

impl Site {
    fn degraded(&self, error: &io::Error) {
        self.counters.accept_errors.fetch_add(1, Ordering::Relaxed);
        if !self.out_of_descriptors.swap(true, Ordering::AcqRel) {
            tracing::warn!(%error, "cannot accept connections; waiting for descriptors");
            self.context.components.set_because(COMPONENT, State::Degraded, format!("cannot accept: {error}"));
        }
    }

    fn recovered(&self) {
        if self.out_of_descriptors.swap(false, Ordering::AcqRel) {
            tracing::info!("accepting connections again");
            self.context.components.set(COMPONENT, State::Ok);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_announced_length_is_the_length() {
        for answer in [FULL, STRANGER] {
            let (head, body) = answer.split_once("\r\n\r\n").unwrap();
            assert!(head.ends_with(&format!("Content-Length: {}", body.len())), "{}", body.len());
        }
    }

    #[test]
    fn only_exhaustion_makes_the_loop_wait() {
        assert!(is_exhausted(&io::Error::from_raw_os_error(rustix::io::Errno::MFILE.raw_os_error())));
        assert!(!is_exhausted(&io::ErrorKind::ConnectionAborted.into()));
    }
}
