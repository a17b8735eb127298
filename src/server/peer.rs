//! Whose a connection over loopback is. TCP names no user, but the kernel's table of sockets does, on Linux and macOS, as long as
//! the connection is open.

use std::net::SocketAddr;

use super::access::Access;
use super::stream::Ends;
use crate::config::{LocalAccess, Settings};

/// The two ends of a TCP connection, by which the kernel finds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pair {
    /// Ours.
    pub local: SocketAddr,
    /// The client's.
    pub peer: SocketAddr,
}

/// Who asks for what is the user's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asker {
    /// Somebody who has shown who it is: by the token, or over the Unix socket.
    Known,
    /// Whoever is at the other end; `None` where that cannot be looked up.
    Over(Option<Pair>),
}

impl Asker {
    /// Who asks over a connection with these ends. Other machines have shown the token, or are not let in at all.
    pub fn new(ends: Option<Ends>, pair: Option<Pair>, access: Access, settings: &Settings) -> Self {
        let by_token = settings.token.is_some() && access.write && settings.local != LocalAccess::All;
        match ends {
            Some(Ends::Unix { .. }) => Self::Known,
            Some(ends) if !ends.is_local() => Self::Known,
            _ if by_token => Self::Known,
            _ => Self::Over(pair),
        }
    }

    /// Whether it is the user that we run as, or root. Reads the kernel's table, so it blocks for a moment.
    pub fn is_ours(self) -> bool {
        match self {
            Self::Known => true,
            Self::Over(pair) => owner::is_ours(pair),
        }
    }
}

#[cfg(target_os = "macos")]
mod owner {
    use crate::runtime::tcp_users;

    pub(super) fn is_ours(pair: Option<super::Pair>) -> bool {
        let user = pair
            .zip(tcp_users::all().ok())
            .and_then(|(pair, all)| tcp_users::of_client(&all, pair.peer, pair.local).map(|socket| socket.uid));
        user.is_some_and(|uid| uid == 0 || uid == rustix::process::geteuid().as_raw())
    }
}

/// Elsewhere the kernel tells such things only about one's own processes, so that nothing can be told apart.
#[cfg(not(any(target_os = "linux", target_os = "macos")))]
mod owner {
    pub(super) fn is_ours(_pair: Option<super::Pair>) -> bool {
        true
    }
}

#[cfg(target_os = "linux")]
mod owner {
    use std::fs::File;
    use std::io::{BufRead, BufReader};
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

    use super::Pair;

    pub(super) fn is_ours(pair: Option<Pair>) -> bool {
        let Some(pair) = pair else { return false };
        // A socket for both families that talks IPv4 is in the second table.
        let user = ["/proc/self/net/tcp", "/proc/self/net/tcp6"].iter().find_map(|table| {
            let lines = BufReader::new(File::open(table).ok()?).lines();
            lines.map_while(Result::ok).find_map(|line| user_of(&line, pair))
        });
        user.is_some_and(|uid| uid == 0 || uid == rustix::process::geteuid().as_raw())
    }

    /// The user of the client's socket, if the line of the table (proc_pid_net(5)) is that of the other end of `pair`. A
    /// socket that no process has any more is nobody's, though the table says root.
    pub(super) fn user_of(line: &str, pair: Pair) -> Option<u32> {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let (from, to) = (address(fields.next()?)?, address(fields.next()?)?);
        if from != canonical(pair.peer) || to != canonical(pair.local) {
            return None;
        }
        // Left out: state, queues, timer, retransmissions; then user, timeout, inode.
        let mut rest = fields.skip(4);
        let (user, inode) = (rest.next()?.parse().ok()?, rest.nth(1)?);
        (inode != "0").then_some(user)
    }

    fn canonical(address: SocketAddr) -> SocketAddr {
        SocketAddr::new(address.ip().to_canonical(), address.port())
    }

    /// `0100007F:1F90`: the address in 32-bit words as they are in memory, the port as a number.
    fn address(text: &str) -> Option<SocketAddr> {
        let (ip, port) = text.split_once(':')?;
        let word = |at: usize| Some(u32::from_str_radix(ip.get(at..at + 8)?, 16).ok()?.to_ne_bytes());
        let ip: IpAddr = match ip.len() {
            8 => Ipv4Addr::from(word(0)?).into(),
            32 => {
                let words = [word(0)?, word(8)?, word(16)?, word(24)?];
                let bytes: [u8; 16] = words.concat().try_into().ok()?;
                Ipv6Addr::from(bytes).into()
            }
            _ => return None,
        };
        Some(SocketAddr::new(ip.to_canonical(), u16::from_str_radix(port, 16).ok()?))
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::owner::user_of;
    use super::*;

    fn pair(local: &str, peer: &str) -> Pair {
        Pair { local: local.parse().unwrap(), peer: peer.parse().unwrap() }
    }

    #[test]
    fn the_table_of_the_kernel_is_read() {
        let v4 = "   1: 0100007F:D2F0 0100007F:223D 01 00000000:00000000 00:00000000 00000000  1000        0 31415 1 0000000000000000 20 4 30 10 -1";
        let ours = pair("127.0.0.1:8765", "127.0.0.1:54000");
        if cfg!(target_endian = "little") {
            assert_eq!(user_of(v4, ours), Some(1000));
            let v6 = "   2: 00000000000000000000000001000000:D2F0 00000000000000000000000001000000:223D 01 00000000:00000000 00:00000000 00000000    42        0 27182 1";
            assert_eq!(user_of(v6, pair("[::1]:8765", "[::1]:54000")), Some(42));
            let mapped = "   3: 0000000000000000FFFF00000100007F:D2F0 0000000000000000FFFF00000100007F:223D 01 00000000:00000000 00:00000000 00000000     7        0 9 1";
            assert_eq!(user_of(mapped, ours), Some(7));
            assert_eq!(user_of(&v4.replace(" 31415 ", " 0 "), ours), None, "nobody's any more");
        }
        assert_eq!(user_of(v4, pair("127.0.0.1:8765", "127.0.0.1:54001")), None);
        for bad in ["", "  sl  local_address rem_address   st", "1: x y", &v4[..60]] {
            assert_eq!(user_of(bad, ours), None, "{bad:?}");
        }
    }

    #[test]
    fn our_own_connection_is_ours_and_one_that_is_gone_nobodys() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let listener = TcpListener::bind(address).unwrap();
            let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (server, peer) = listener.accept().unwrap();
            let asker = Asker::Over(Some(Pair { local: server.local_addr().unwrap(), peer }));
            assert!(asker.is_ours(), "{address}");
            drop(client);
            assert!(!asker.is_ours(), "{address}");
        }
        assert!(!Asker::Over(None).is_ours() && Asker::Known.is_ours());
    }
}
