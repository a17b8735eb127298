//! Who asks for what is the user's own.

use super::access::Access;
use super::stream::Ends;
use crate::config::{LocalAccess, Settings};
use daemon::socket_owner::Pair;
use daemon::socket_owner::client;

/// Who asks for what is the user's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asker {
    /// Somebody who has shown who it is: by the token, or over the Unix socket.
    Known,
    /// A page of another origin, perhaps another user's, whose visitor lends it the browser.
    ForeignPage,
    /// Whoever is at the other end; `None` where that cannot be looked up.
    Over(Option<Pair>),
}

impl Asker {
    /// Who asks over a connection with these ends. Other machines have shown the token, or are not let in at all.
    pub fn new(
        ends: Option<Ends>,
        pair: Option<Pair>,
        is_foreign_page: bool,
        access: Access,
        settings: &Settings,
    ) -> Self {
        let by_token = settings.token.is_some() && access.write && settings.local != LocalAccess::All;
        match ends {
            _ if by_token => Self::Known,
            _ if is_foreign_page => Self::ForeignPage,
            Some(Ends::Unix { .. }) => Self::Known,
            Some(ends) if !ends.is_local() => Self::Known,
            _ => Self::Over(pair),
        }
    }

    /// Whether it is the user that we run as, or root. Reads the kernel's table, so it blocks for a moment.
    pub fn is_ours(self) -> bool {
        match self {
            Self::Known => true,
            Self::ForeignPage => false,
            Self::Over(pair) => {
                pair.and_then(client).is_some_and(|uid| uid == 0 || uid == rustix::process::geteuid().as_raw())
            }
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn asker_is_ours_while_its_connection_is_open() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, peer) = listener.accept().unwrap();
        let asker = Asker::Over(Some(Pair { local: server.local_addr().unwrap(), peer }));
        assert!(asker.is_ours());
        drop(client);
        assert!(!asker.is_ours() && !Asker::Over(None).is_ours() && Asker::Known.is_ours());
    }
}
