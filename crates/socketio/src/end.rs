//! The ends of a session.

use std::fmt;

/// Why a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum End {
    /// The client said so.
    ClientClosed,
    /// Its connection closed or broke.
    TransportClosed,
    /// It did not answer a ping.
    PingTimeout,
    /// More waited for it than it may have waiting.
    Backlog,
    /// It took nothing for [`super::connection::WRITE_DEADLINE`].
    Stalled,
    /// It never asked for a namespace.
    NeverConnected,
    /// It opened the session and never came back for its packets, and there was no room for others.
    Unused,
    /// It broke the protocol.
    Protocol,
    /// It sent something large, and what others had not sent to its end took all the memory there is for that.
    Crowded,
    /// Its poll was cut short, or it polled twice at once: what it has received is unknown.
    Poll,
    /// The server shuts down.
    Drain,
}

impl End {
    /// Whether the connection is reset instead of closed: a close would queue behind what the client does not read.
    pub fn is_abortive(self) -> bool {
        matches!(self, Self::PingTimeout | Self::Backlog | Self::Stalled)
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ClientClosed => "the client closed",
            Self::TransportClosed => "the connection closed",
            Self::PingTimeout => "no answer to the ping",
            Self::Backlog => "too much waits for a client that reads too slowly",
            Self::Stalled => "the client takes nothing",
            Self::NeverConnected => "the client asked for no namespace",
            Self::Unused => "the client never came back, and others needed the room",
            Self::Protocol => "the client broke the protocol",
            Self::Crowded => "unfinished large messages take all the memory there is for them",
            Self::Poll => "a poll was cut short or doubled",
            Self::Drain => "the server shuts down",
        })
    }
}
