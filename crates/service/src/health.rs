//! Asks a running instance who it is, at the addresses where it can be.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use super::paths::Paths;
use daemon::probe::{self, Health, ProbeError};
use daemon::{lock, socket_owner};

/// How long one look at `/health` may take; loopback answers in a millisecond.
pub const LOOK: Duration = Duration::from_secs(1);

/// The addresses to ask for an instance: where its lock file says it listens, and loopback in both families. To whom that file
/// tells nothing, because it is another user's, the kernel tells where anybody listens on the port.
pub fn addresses(port: u16, paths: &Paths) -> Vec<SocketAddr> {
    let holder = paths.locks(port).iter().find_map(|path| lock::read(path));
    let others = if holder.is_none() { socket_owner::listening(port) } else { Vec::new() };
    let named = holder.map(|holder| holder.addresses).unwrap_or_default();
    let named = named.iter().filter_map(|address| address.parse().ok());
    let own = [IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(Ipv6Addr::LOCALHOST)];
    let mut all: Vec<SocketAddr> = Vec::new();
    for mut address in named.chain(own.map(|ip| SocketAddr::new(ip, port))).chain(others) {
        // 0.0.0.0 and [::] are places to listen on, not to call.
        if address.ip().is_unspecified() {
            address.set_ip(if address.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() });
        }
        if address.port() == port && !all.contains(&address) {
            all.push(address);
        }
    }
    all
}

/// Asks the instance on `port` who it is.
///
/// # Errors
/// The error of the first address where somebody listens, else that nobody does.
pub fn health(port: u16, paths: &Paths) -> Result<Health, ProbeError> {
    let mut refused = None;
    let mut other = None;
    for address in addresses(port, paths) {
        match probe::health_blocking(address, &paths.app.program, LOOK) {
            Ok(health) => return Ok(health),
            Err(e @ ProbeError::Refused(_)) => refused = refused.or(Some(e)),
            Err(e) => other = other.or(Some(e)),
        }
    }
    Err(other.or(refused).unwrap_or(ProbeError::Refused(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port).into())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Kind;
    use crate::app::App;
    use daemon::dirs::UserDirs;
    use daemon::identity::Identity;
    use daemon::lock::InstanceLock;

    #[test]
    fn a_lock_file_tells_where_to_ask() {
        let root = tempfile::tempdir().unwrap();
        let dirs = UserDirs { runtime: root.path().to_owned(), ..UserDirs::default() };
        let paths = Paths::user(App::TEST, Kind::Systemd, &dirs);
        let mut held = InstanceLock::take(&App::TEST.program, &paths.runtime, 9000).unwrap();
        held.describe(9000, vec!["0.0.0.0:9000".into()], &Identity::new().unwrap()).unwrap();
        let first = addresses(9000, &paths);
        assert_eq!(first, ["127.0.0.1:9000".parse().unwrap(), "[::1]:9000".parse().unwrap()]);
        std::fs::write(paths.lock(9000), "not json").unwrap();
        assert_eq!(addresses(9000, &paths), first);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn where_no_lock_file_tells_the_kernel_does() {
        let root = tempfile::tempdir().unwrap();
        let dirs = UserDirs { runtime: root.path().to_owned(), ..UserDirs::default() };
        let listener = std::net::TcpListener::bind("127.0.0.7:0").unwrap();
        let (port, there) = (listener.local_addr().unwrap().port(), listener.local_addr().unwrap());
        let all = addresses(port, &Paths::user(App::TEST, Kind::Systemd, &dirs));
        assert_eq!((all.len(), all[2]), (3, there), "after the usual ones: {all:?}");
    }
}
