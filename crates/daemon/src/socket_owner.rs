//! The user at the other end of a connection within this machine. TCP names no user, but the kernel's table of sockets does,
//! on Linux and macOS, as long as the connection is open.

use std::io;
use std::net::SocketAddr;
use std::path::Path;

use crate::Program;

/// The two ends of a TCP connection, by which the kernel finds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pair {
    /// The address of this process's end.
    pub local: SocketAddr,
    /// The address of the other end.
    pub peer: SocketAddr,
}

impl Pair {
    /// Whether both ends are on this machine: a connection from one of its own addresses can come from nowhere else.
    pub fn is_local(self) -> bool {
        let (local, peer) = (self.local.ip().to_canonical(), self.peer.ip().to_canonical());
        peer.is_loopback() || peer == local
    }
}

/// The user of the process that connected to us, `None` if it cannot be looked up. Reads the kernel's table, so it blocks
/// for a moment.
pub fn client(pair: Pair) -> Option<u32> {
    table::client(pair)
}

/// Where processes listen on `port`, as far as the kernel tells everybody.
pub fn listening(port: u16) -> Vec<SocketAddr> {
    table::listening(port)
}

/// Makes sure that the server at the other end of `pair` runs as a user whom this process trusts with its token and its
/// events, see [`is_trusted`]. Servers of other machines pass: their addresses were chosen by the user.
///
/// # Errors
/// When it runs as another user, or when nobody can tell.
pub fn check_server(program: &Program, pair: Pair) -> io::Result<()> {
    if !pair.is_local() {
        return Ok(());
    }
    match table::server(pair) {
        Some(users) => users.into_iter().try_for_each(|uid| check_user(program, uid, pair.peer.port())),
        None if cfg!(any(target_os = "linux", target_os = "macos")) => {
            Err(denied(format!("cannot tell which user listens on {}; nothing was sent", pair.peer)))
        }
        None => Ok(()),
    }
}

/// Makes sure that the server of a connected Unix socket runs as a trusted user. Only Linux tells without a runtime; elsewhere
/// the folder of the socket says who could make it.
///
/// # Errors
/// When it runs as another user, or when the kernel does not tell.
pub fn check_unix_server(program: &Program, socket: impl std::os::fd::AsFd, port: u16) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    check_user(program, rustix::net::sockopt::socket_peercred(socket)?.uid.as_raw(), port)?;
    #[cfg(not(target_os = "linux"))]
    let _ = (program, socket, port);
    Ok(())
}

/// Makes sure that what is sent to `uid`, whose server of `program` is that of `port`, is for that user to know.
///
/// # Errors
/// When it is not: it is neither this user, root, nor the user of the machine's service on that port.
pub fn check_user(program: &Program, uid: u32, port: u16) -> io::Result<()> {
    if is_trusted(uid, rustix::process::geteuid().as_raw(), port, &Path::new(SYSTEM_STATES).join(program.name)) {
        return Ok(());
    }
    Err(denied(format!(
        "the server there runs as another user (uid {uid}), who could read what is sent; nothing was sent. \
         See which program it is: {} status --port {port}",
        program.name
    )))
}

fn denied(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, message)
}

/// Where the machine's own instances keep their state, in a folder with the name of the program. Only root can make folders
/// there, and gives them to the user of the service.
const SYSTEM_STATES: &str = if cfg!(target_os = "macos") { "/Library/Application Support" } else { "/var/lib" };

/// Whether `uid` may have what `own` sends: the same user, root, or the user whose service root installed on this port.
fn is_trusted(uid: u32, own: u32, port: u16, system_state: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    if uid == own || uid == 0 {
        return true;
    }
    let is_roots = std::fs::metadata(system_state).is_ok_and(|meta| meta.uid() == 0 && meta.mode() & 0o022 == 0);
    is_roots && std::fs::symlink_metadata(system_state.join(port.to_string())).is_ok_and(|meta| meta.uid() == uid)
}

#[cfg(target_os = "macos")]
mod table {
    use std::net::SocketAddr;

    use super::Pair;
    use crate::tcp_users;

    pub(super) fn client(pair: Pair) -> Option<u32> {
        tcp_users::of_client(&tcp_users::all().ok()?, pair.peer, pair.local).map(|socket| socket.uid)
    }

    pub(super) fn listening(port: u16) -> Vec<SocketAddr> {
        let all = tcp_users::all().unwrap_or_default();
        all.iter().filter(|s| s.remote.port() == 0 && s.local.port() == port).map(|s| s.local).collect()
    }

    /// A connection that nobody accepted yet is listed with the user of its listener.
    pub(super) fn server(pair: Pair) -> Option<Vec<u32>> {
        let all = tcp_users::all().ok()?;
        let accepted = tcp_users::of_client(&all, pair.peer, pair.local);
        let socket = accepted.or_else(|| tcp_users::of_listener(&all, pair.peer))?;
        Some(vec![socket.uid])
    }
}

/// Elsewhere the kernel tells such things only about one's own processes.
#[cfg(not(any(target_os = "linux", target_os = "macos")))]
mod table {
    use std::net::SocketAddr;

    use super::Pair;

    pub(super) fn listening(_port: u16) -> Vec<SocketAddr> {
        Vec::new()
    }

    pub(super) fn client(_pair: Pair) -> Option<u32> {
        Some(rustix::process::geteuid().as_raw())
    }

    pub(super) fn server(_pair: Pair) -> Option<Vec<u32>> {
        None
    }
}

#[cfg(target_os = "linux")]
mod table {
    use std::fs::File;
    use std::io::{BufRead, BufReader};
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

    use super::Pair;
    use crate::tcp_users::canonical;

    /// The state of a listening socket in the table (`TCP_LISTEN` in the kernel's `tcp_states.h`).
    const LISTENING: &str = "0A";

    /// One line of the table: proc_pid_net(5).
    #[derive(Debug, PartialEq, Eq)]
    pub(super) struct Line {
        local: SocketAddr,
        remote: SocketAddr,
        is_listening: bool,
        /// `None` for a socket that no process has: not accepted yet, or closed. The table says root then.
        user: Option<u32>,
        /// The user as the table says it.
        listed: u32,
    }

    impl Line {
        pub(super) fn parse(line: &str) -> Option<Self> {
            let mut fields = line.split_ascii_whitespace().skip(1);
            let (local, remote) = (address(fields.next()?)?, address(fields.next()?)?);
            let is_listening = fields.next()? == LISTENING;
            // Left out: queues, timer, retransmissions; then user, timeout, inode.
            let mut rest = fields.skip(3);
            let (listed, inode) = (rest.next()?.parse().ok()?, rest.nth(1)?);
            Some(Self { local, remote, is_listening, user: (inode != "0").then_some(listed), listed })
        }

        /// Whether this is the end at `local` of a connection with `remote`.
        pub(super) fn is(&self, local: SocketAddr, remote: SocketAddr) -> bool {
            !self.is_listening && self.local == canonical(local) && self.remote == canonical(remote)
        }

        /// Whether a connection to `address` may be this listener's.
        fn listens_on(&self, address: SocketAddr) -> bool {
            let address = canonical(address);
            let ip = self.local.ip();
            self.is_listening && self.local.port() == address.port() && (ip == address.ip() || ip.is_unspecified())
        }
    }

    fn lines() -> impl Iterator<Item = Line> {
        // A socket for both families that talks IPv4 is in the second table.
        ["/proc/self/net/tcp", "/proc/self/net/tcp6"].into_iter().flat_map(|table| {
            let lines = File::open(table).ok().map(|file| BufReader::with_capacity(64 << 10, file).lines());
            lines.into_iter().flatten().map_while(Result::ok).filter_map(|line| Line::parse(&line))
        })
    }

    pub(super) fn client(pair: Pair) -> Option<u32> {
        lines().find(|line| line.is(pair.peer, pair.local))?.user
    }

    pub(super) fn listening(port: u16) -> Vec<SocketAddr> {
        lines().filter(|line| line.is_listening && line.local.port() == port).map(|line| line.local).collect()
    }

    /// The users who may read what is sent: of the process that accepted the connection or, until one has, of all who
    /// listen there. A connection that is still waiting after the listeners were read is one of theirs, as a listener that
    /// goes takes its waiting connections along.
    pub(super) fn server(pair: Pair) -> Option<Vec<u32>> {
        let accepted = || lines().find(|line| line.is(pair.peer, pair.local));
        if let Some(user) = accepted()?.user {
            return Some(vec![user]);
        }
        let listeners: Vec<u32> = lines().filter(|line| line.listens_on(pair.peer)).map(|line| line.listed).collect();
        match accepted()?.user {
            Some(user) => Some(vec![user]),
            None => Some(listeners).filter(|users| !users.is_empty()),
        }
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

    use super::table::Line;
    use super::*;

    #[test]
    fn table_line_is_parsed() {
        let user_of = |line: &str, local: &str, peer: &str| {
            let (local, peer): (SocketAddr, SocketAddr) = (local.parse().unwrap(), peer.parse().unwrap());
            Line::parse(line).filter(|line| line.is(peer, local)).map(|line| format!("{line:?}"))
        };
        let v4 = "   1: 0100007F:D2F0 0100007F:223D 01 00000000:00000000 00:00000000 00000000  1000        0 31415 1 0000000000000000 20 4 30 10 -1";
        if cfg!(target_endian = "little") {
            let found = user_of(v4, "127.0.0.1:8765", "127.0.0.1:54000").unwrap();
            assert!(found.contains("user: Some(1000)") && found.contains("is_listening: false"), "{found}");
            let v6 = "   2: 00000000000000000000000001000000:D2F0 00000000000000000000000001000000:223D 01 00000000:00000000 00:00000000 00000000    42        0 27182 1";
            assert!(user_of(v6, "[::1]:8765", "[::1]:54000").unwrap().contains("user: Some(42)"));
            let mapped = "   3: 0000000000000000FFFF00000100007F:D2F0 0000000000000000FFFF00000100007F:223D 01 00000000:00000000 00:00000000 00000000     7        0 9 1";
            assert!(user_of(mapped, "127.0.0.1:8765", "127.0.0.1:54000").unwrap().contains("user: Some(7)"));
            let gone = user_of(&v4.replace(" 31415 ", " 0 "), "127.0.0.1:8765", "127.0.0.1:54000").unwrap();
            assert!(gone.contains("user: None"), "{gone}");
        }
        assert_eq!(user_of(v4, "127.0.0.1:8765", "127.0.0.1:54001"), None);
        for bad in ["", "  sl  local_address rem_address   st", "1: x y", &v4[..60]] {
            assert_eq!(Line::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn open_connection_names_users_of_both_ends() {
        let own = rustix::process::geteuid().as_raw();
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let listener = TcpListener::bind(address).unwrap();
            let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let from_client = Pair { local: client.local_addr().unwrap(), peer: client.peer_addr().unwrap() };
            assert_eq!(super::table::server(from_client), Some(vec![own]), "{address}: waiting to be accepted");
            let (server, peer) = listener.accept().unwrap();
            assert_eq!(super::table::server(from_client), Some(vec![own]), "{address}: accepted");
            check_server(&Program::TEST, from_client).unwrap();
            let from_server = Pair { local: server.local_addr().unwrap(), peer };
            assert_eq!(super::client(from_server), Some(own), "{address}");
            drop(client);
            assert_eq!(super::client(from_server), None, "{address}: closed");
        }
    }

    #[test]
    fn trusted_are_self_root_and_the_user_of_the_system_service() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("8765")).unwrap();
        let own = rustix::process::geteuid().as_raw();
        let trusted = |uid, reader, port| is_trusted(uid, reader, port, dir.path());
        assert!(trusted(1000, 1000, 8765) && trusted(0, 1000, 8765));
        assert!(!trusted(1001, 1000, 8765));
        // The folder of the test is root's where the test is root's.
        assert_eq!(trusted(own, own + 1, 8765), own == 0);
        if own == 0 {
            std::os::unix::fs::chown(dir.path().join("8765"), Some(999), None).unwrap();
            assert!(trusted(999, 1000, 8765) && !trusted(999, 1000, 8766));
            std::os::unix::fs::chown(dir.path(), Some(999), None).unwrap();
            assert!(!trusted(999, 1000, 8765), "somebody else could have made the folder");
        }
    }
}
