//! Who has a port.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use serde::Serialize;

use crate::Program;
use crate::probe::{self, ProbeError};

/// The process that listens on a port, as far as it can be known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Owner {
    /// Its process, where we may see it.
    pub pid: Option<u32>,
    /// The name of its program.
    pub program: Option<String>,
    /// What kind of program it is to us.
    pub kind: Kind,
}

/// What to type to see all listeners and their processes.
const WHO: &str = if cfg!(target_os = "macos") { "sudo lsof -nP -iTCP -sTCP:LISTEN" } else { "sudo ss -ltnp" };

/// What kind of program it is to us.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Kind {
    /// An mpm-monitor, with its version and instance id.
    MpmMonitor {
        /// Its version.
        version: String,
        /// Its identity.
        instance_id: String,
    },
    /// The Python daemon of Claude MPM.
    ClaudeMpm {
        /// Its version.
        version: String,
    },
    /// Another program.
    Foreign,
    /// It takes the connection but does not answer.
    Silent,
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.pid, &self.program) {
            (Some(pid), Some(program)) => write!(f, "{program} (pid {pid})")?,
            (Some(pid), None) => write!(f, "pid {pid}")?,
            _ => write!(f, "a process that only root may see (try `{WHO}`)")?,
        }
        match &self.kind {
            Kind::MpmMonitor { version, instance_id } => {
                write!(f, ", an mpm-monitor {version}, instance {instance_id}")
            }
            Kind::ClaudeMpm { version } => write!(f, ", Claude MPM's own monitor {version}"),
            Kind::Foreign => write!(f, ", not a monitor"),
            Kind::Silent => write!(f, ", which does not answer"),
        }
    }
}

/// Who listens on `port` of this machine's own addresses; nothing if nobody does.
pub fn owner_of(program: &Program, port: u16, timeout: Duration) -> Option<Owner> {
    let own = [IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(Ipv6Addr::LOCALHOST)];
    own.into_iter().find_map(|address| owner(program, address, port, timeout))
}

/// Who listens on `port` of `address`; nothing if nobody does. Asks at most `timeout` for the owner's name.
pub fn owner(program: &Program, address: IpAddr, port: u16, timeout: Duration) -> Option<Owner> {
    let asked = probe::health_blocking(SocketAddr::new(address, port), program, timeout);
    // Nobody listens there, or this machine has no such address.
    if matches!(asked, Err(ProbeError::Refused(_))) || matches!(&asked, Err(e) if e.is_nowhere()) {
        return None;
    }
    let process = listeners::get_all().ok().and_then(|all| {
        all.into_iter()
            .filter(|l| l.protocol == listeners::Protocol::TCP && l.state == listeners::SocketState::Listen)
            .filter(|l| l.socket.port() == port)
            .max_by_key(|l| covers(l.socket.ip(), address))
            .map(|l| l.process)
    });
    let kind = match &asked {
        Ok(health) => match &health.instance_id {
            Some(id) => Kind::MpmMonitor { version: health.version.clone(), instance_id: id.clone() },
            None => Kind::ClaudeMpm { version: health.version.clone() },
        },
        Err(ProbeError::Timeout(..)) => Kind::Silent,
        Err(_) => Kind::Foreign,
    };
    let pid = process.as_ref().map(|p| p.pid).or(asked.ok().map(|h| h.pid));
    Some(Owner { pid, program: process.map(|p| p.name).filter(|n| !n.is_empty()), kind })
}

/// How surely a listener on `bound` is the one that takes connections to `asked`.
fn covers(bound: IpAddr, asked: IpAddr) -> u8 {
    match bound {
        b if b == asked => 2,
        b if b.is_unspecified() => 1,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn names_the_process_that_listens() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let owner = owner(&Program::TEST, Ipv4Addr::LOCALHOST.into(), port, Duration::from_millis(50)).unwrap();
        assert_eq!(owner.pid, Some(std::process::id()));
        assert_eq!(owner.kind, Kind::Silent);
        assert!(owner.to_string().contains(&format!("(pid {}), which does not answer", std::process::id())), "{owner}");
    }

    #[test]
    fn a_free_port_has_no_owner() {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        assert_eq!(owner(&Program::TEST, Ipv4Addr::LOCALHOST.into(), port, Duration::from_millis(50)), None);
    }
}
