//! What this process tells its service manager, by the datagrams of `sd_notify(3)`. Without a manager all of it is nothing.
//!
//! The crate `sd-notify` writes the messages. Beside it stands what it lacks: abstract socket names (`@...`), and a guard
//! against line breaks in `STATUS=`, behind which a second assignment could hide.

use std::io;
use std::os::unix::net::UnixDatagram;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sd_notify::NotifyState;

/// The way to the manager, cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Notifier(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    abstract_socket: Option<String>,
    to_manager: bool,
    status: Mutex<String>,
}

impl Notifier {
    /// As `$NOTIFY_SOCKET` says; a process that was started by hand has none.
    pub fn from_environment() -> Self {
        let socket = std::env::var("NOTIFY_SOCKET").ok().filter(|s| !s.is_empty());
        Self(Arc::new(Inner {
            abstract_socket: socket.as_ref().and_then(|s| s.strip_prefix('@')).map(str::to_owned),
            to_manager: socket.is_some(),
            status: Mutex::default(),
        }))
    }

    /// Whether a manager listens.
    pub fn is_connected(&self) -> bool {
        self.0.to_manager
    }

    /// It serves, and proved it.
    pub fn ready(&self, status: &str) {
        let status = self.keep(status);
        self.send(&[NotifyState::Ready, NotifyState::Status(&status)]);
    }

    /// It reads its configuration again. The time stamp must be in the same datagram, or a manager that waits for the reload
    /// (`Type=notify-reload`) takes the later READY=1 for an old one and kills the service.
    pub fn reloading(&self) {
        let now = match NotifyState::monotonic_usec_now() {
            Ok(now) => now,
            Err(error) => {
                tracing::warn!(%error, "cannot read the monotonic clock; the manager is not told of the reload");
                return;
            }
        };
        self.send(&[NotifyState::Reloading, now, NotifyState::Status("reading the configuration")]);
    }

    /// It is on its way down.
    pub fn stopping(&self, status: &str) {
        let status = self.keep(status);
        self.send(&[NotifyState::Stopping, NotifyState::Status(&status)]);
    }

    /// What it does just now, in one line.
    pub fn status(&self, status: &str) {
        let status = self.keep(status);
        self.send(&[NotifyState::Status(&status)]);
    }

    /// It needs more time to start; the manager waits at least that long from now on.
    pub fn extend(&self, more: Duration) {
        self.send(&[NotifyState::ExtendTimeoutUsec(u32::try_from(more.as_micros()).unwrap_or(u32::MAX))]);
    }

    /// Every critical task turns.
    pub fn watchdog(&self) {
        self.send(&[NotifyState::Watchdog]);
    }

    /// The last status told.
    pub fn last_status(&self) -> String {
        self.0.status.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn keep(&self, status: &str) -> String {
        let line = one_line(status);
        self.0.status.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&line);
        line
    }

    fn send(&self, states: &[NotifyState<'_>]) {
        if !self.0.to_manager {
            return;
        }
        let sent = match &self.0.abstract_socket {
            Some(name) => send_abstract(name, states),
            None => sd_notify::notify(states),
        };
        if let Err(error) = sent {
            // Once it cannot hear us the manager will act on its own; all we can do is leave a trace.
            tracing::warn!(%error, "cannot tell the service manager {}", states[0]);
        }
    }
}

/// A text without line breaks and control characters, at most 200 characters.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(200).collect()
}

#[cfg(target_os = "linux")]
fn send_abstract(name: &str, states: &[NotifyState<'_>]) -> io::Result<()> {
    use std::os::linux::net::SocketAddrExt;
    let address = std::os::unix::net::SocketAddr::from_abstract_name(name)?;
    let message: String = states.iter().map(|s| format!("{s}\n")).collect();
    UnixDatagram::unbound()?.send_to_addr(message.as_bytes(), &address).map(|_| ())
}

#[cfg(not(target_os = "linux"))]
fn send_abstract(_: &str, _: &[NotifyState<'_>]) -> io::Result<()> {
    let _ = UnixDatagram::unbound;
    Err(io::Error::new(io::ErrorKind::Unsupported, "abstract sockets exist on Linux only"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_cannot_smuggle_a_second_assignment() {
        assert_eq!(one_line("fine\nMAINPID=1\r\n"), "fine MAINPID=1  ");
        assert_eq!(one_line(&"x".repeat(500)).len(), 200);
    }
}
