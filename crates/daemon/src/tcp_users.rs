//! Whose a TCP socket is, on macOS: the kernel lists all of them with user and process (`net.inet.tcp.pcblist_n`), to anybody.
//!
//! Apple has no header for the records; the layout is that of the kernel's published sources (`in_pcb.h`, `socketvar.h`), and
//! what netstat reads. Each record says its length and its kind, so that longer ones of a later system are read as well.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// A socket of any process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TcpUser {
    /// Its own address.
    pub local: SocketAddr,
    /// Where it is connected to; port 0 of one that is not.
    pub remote: SocketAddr,
    /// The user who opened it.
    pub uid: u32,
    /// The process that used it last.
    pub pid: u32,
}

/// All sockets of this machine.
///
/// # Errors
/// What the kernel says.
#[cfg(target_os = "macos")]
pub fn all() -> std::io::Result<Vec<TcpUser>> {
    crate::sys::sysctl(c"net.inet.tcp.pcblist_n").map(|bytes| parse(&bytes))
}

/// The socket at the client's end of a connection that `client` made to `server`.
pub fn of_client(all: &[TcpUser], client: SocketAddr, server: SocketAddr) -> Option<&TcpUser> {
    let (client, server) = (canonical(client), canonical(server));
    all.iter().find(|socket| socket.local == client && socket.remote == server)
}

/// The socket that takes the connections to an address: one for that very address before one for all.
pub fn of_listener(all: &[TcpUser], address: SocketAddr) -> Option<&TcpUser> {
    let address = canonical(address);
    let listens = |socket: &&TcpUser| socket.remote.port() == 0 && socket.local.port() == address.port();
    let any = |ip: IpAddr| ip.is_unspecified() && (ip.is_ipv6() || address.is_ipv4());
    let exact = all.iter().filter(listens).find(|socket| socket.local.ip() == address.ip());
    exact.or_else(|| all.iter().filter(listens).find(|socket| any(socket.local.ip())))
}

/// The address with an IPv4 one that is written as IPv6 turned back.
pub(crate) fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// The kinds of records: a socket, and its protocol's part, which comes before it.
const SOCKET: u32 = 0x001;
const INTERNET: u32 = 0x010;
/// The bit of `inp_vflag` for IPv6.
const IPV6: u8 = 0x2;

/// Reads the kernel's list: a head, then for each socket its records, one after the other, and a head again.
pub fn parse(bytes: &[u8]) -> Vec<TcpUser> {
    let mut all = Vec::new();
    let mut ends = None;
    // The head has its length where every record has it, and no kind.
    let mut rest = bytes.get(length(bytes).unwrap_or(usize::MAX)..).unwrap_or_default();
    while let Some(length) = length(rest).filter(|n| *n <= rest.len()) {
        let record = &rest[..length];
        match word(record, 4) {
            Some(INTERNET) => ends = addresses(record),
            Some(SOCKET) => all.extend(ends.take().and_then(|(local, remote)| {
                Some(TcpUser { local, remote, uid: word(record, 64)?, pid: word(record, 68)? })
            })),
            _ => {}
        }
        rest = &rest[length..];
    }
    all
}

/// How far it is to the next record: they begin at multiples of eight.
fn length(record: &[u8]) -> Option<usize> {
    let length = usize::try_from(word(record, 0)?).ok()?;
    (length >= 8).then(|| length.next_multiple_of(8))
}

fn word(record: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(record.get(at..at + 4)?.try_into().ok()?))
}

/// The local and the remote end in the record `xinpcb_n`.
fn addresses(record: &[u8]) -> Option<(SocketAddr, SocketAddr)> {
    let port = |at: usize| Some(u16::from_be_bytes(record.get(at..at + 2)?.try_into().ok()?));
    let is_v6 = record.get(44)? & IPV6 != 0;
    let ip = |at: usize| -> Option<IpAddr> {
        let bytes: [u8; 16] = record.get(at..at + 16)?.try_into().ok()?;
        // An IPv4 address is in the last four bytes.
        let v4 = Ipv4Addr::new(bytes[12], bytes[13], bytes[14], bytes[15]);
        Some(if is_v6 { Ipv6Addr::from(bytes).to_canonical() } else { v4.into() })
    };
    Some((SocketAddr::new(ip(64)?, port(18)?), SocketAddr::new(ip(48)?, port(16)?)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    /// The records of one socket, with sizes as on a current macOS.
    fn records(local: &str, remote: &str, uid: u32, pid: u32) -> Vec<u8> {
        let (local, remote) = (address(local), address(remote));
        let mut internet = vec![0_u8; 104];
        internet[0..4].copy_from_slice(&104_u32.to_ne_bytes());
        internet[4..8].copy_from_slice(&INTERNET.to_ne_bytes());
        internet[16..18].copy_from_slice(&remote.port().to_be_bytes());
        internet[18..20].copy_from_slice(&local.port().to_be_bytes());
        internet[44] = if local.is_ipv6() { 2 } else { 1 };
        for (at, ip) in [(48, remote.ip()), (64, local.ip())] {
            match ip {
                IpAddr::V4(ip) => internet[at + 12..at + 16].copy_from_slice(&ip.octets()),
                IpAddr::V6(ip) => internet[at..at + 16].copy_from_slice(&ip.octets()),
            }
        }
        let mut socket = vec![0_u8; 80];
        // Not a multiple of eight: the next record begins after a gap.
        socket[0..4].copy_from_slice(&76_u32.to_ne_bytes());
        socket[4..8].copy_from_slice(&SOCKET.to_ne_bytes());
        socket[64..68].copy_from_slice(&uid.to_ne_bytes());
        socket[68..72].copy_from_slice(&pid.to_ne_bytes());
        let other = |kind: u32| {
            let mut record = vec![0_u8; 32];
            record[0..4].copy_from_slice(&32_u32.to_ne_bytes());
            record[4..8].copy_from_slice(&kind.to_ne_bytes());
            record
        };
        [internet, socket, other(0x2), other(0x4), other(0x8), other(0x20)].concat()
    }

    fn list(sockets: &[Vec<u8>]) -> Vec<u8> {
        let mut head = vec![0_u8; 24];
        head[0] = 24;
        [vec![head.clone()], sockets.to_vec(), vec![head]].concat().concat()
    }

    #[test]
    fn owner_of_a_connection_and_of_a_listener_is_found() {
        if cfg!(target_endian = "big") {
            return;
        }
        let all = parse(&list(&[
            records("127.0.0.1:8765", "0.0.0.0:0", 501, 10),
            records("127.0.0.1:8765", "127.0.0.1:50000", 501, 10),
            records("127.0.0.1:50000", "127.0.0.1:8765", 502, 20),
            records("[::1]:50001", "[::1]:8765", 503, 30),
            records("[::ffff:127.0.0.1]:50002", "[::ffff:127.0.0.1]:8765", 504, 40),
            records("[::]:9000", "[::]:0", 505, 50),
        ]));
        assert_eq!(all.len(), 6, "{all:?}");
        let client = |client: &str, server: &str| of_client(&all, address(client), address(server)).map(|s| s.uid);
        assert_eq!(client("127.0.0.1:50000", "127.0.0.1:8765"), Some(502));
        assert_eq!(client("[::1]:50001", "[::1]:8765"), Some(503));
        assert_eq!(client("127.0.0.1:50002", "127.0.0.1:8765"), Some(504), "a socket for both families");
        assert_eq!(client("127.0.0.1:50003", "127.0.0.1:8765"), None);
        let listener = |at: &str| of_listener(&all, address(at)).map(|s| (s.uid, s.pid));
        assert_eq!(listener("127.0.0.1:8765"), Some((501, 10)));
        assert_eq!(listener("127.0.0.1:9000"), Some((505, 50)), "a socket for all addresses");
        assert_eq!(listener("[::1]:8765"), None);
    }

    #[test]
    fn damaged_list_gives_what_is_whole() {
        let whole = list(&[records("127.0.0.1:1", "127.0.0.1:2", 1, 1), records("127.0.0.1:3", "127.0.0.1:4", 1, 1)]);
        assert_eq!(parse(&whole[..whole.len() / 2]).len(), 1);
        assert_eq!(parse(&[]), []);
        assert_eq!(parse(&[0; 100]), []);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            let _ = parse(&bytes);
        }
    }

    #[cfg(target_os = "macos")]
    #[test]
    fn own_connection_is_in_the_kernels_list() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (_server, peer) = listener.accept().unwrap();
        let all = all().unwrap();
        let us = (rustix::process::geteuid().as_raw(), std::process::id());
        let found = of_client(&all, peer, client.peer_addr().unwrap()).unwrap();
        assert_eq!((found.uid, found.pid), us);
        let found = of_listener(&all, listener.local_addr().unwrap()).unwrap();
        assert_eq!((found.uid, found.pid), us);
    }
}
