//! The packets of Engine.IO protocol 4 and Socket.IO protocol 5, as text: parsing and encoding, nothing else.
//!
//! The two are nested: an Engine.IO packet of type `4` (message) carries a Socket.IO packet. The names and numbers are
//! those of the two protocol documents at <https://socket.io/docs/v4/engine-io-protocol/> and
//! <https://socket.io/docs/v4/socket-io-protocol/>.

use std::fmt;

use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// Why text is not a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// It is empty.
    #[error("an empty packet")]
    Empty,
    /// Its first character is no packet type.
    #[error("an unknown packet type")]
    Type,
    /// The part between type and data (attachments, namespace, acknowledgement) is malformed.
    #[error("a malformed packet header")]
    Header,
    /// Its data is not what a packet of its type carries.
    #[error("malformed packet data")]
    Data,
}

/// An Engine.IO packet. Binary data travels outside of it: as a binary WebSocket frame, or with `b` in a polling
/// payload (see [`super::payload`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine<'a> {
    /// `0`: the server's handshake.
    Open(&'a str),
    /// `1`: the sender closes the transport.
    Close,
    /// `2`: the server's heartbeat; from a client only as `2probe`.
    Ping(&'a str),
    /// `3`: the answer to it.
    Pong(&'a str),
    /// `4`: data.
    Message(&'a str),
    /// `5`: the client moves to the WebSocket.
    Upgrade,
    /// `6`: ends a pending poll without saying anything.
    Noop,
}

impl<'a> Engine<'a> {
    /// Reads one packet.
    ///
    /// # Errors
    /// [`ParseError::Empty`] or [`ParseError::Type`].
    pub fn parse(text: &'a str) -> Result<Self, ParseError> {
        let kind = *text.as_bytes().first().ok_or(ParseError::Empty)?;
        let data = text.get(1..).ok_or(ParseError::Type)?;
        Ok(match kind {
            b'0' => Self::Open(data),
            b'1' => Self::Close,
            b'2' => Self::Ping(data),
            b'3' => Self::Pong(data),
            b'4' => Self::Message(data),
            b'5' => Self::Upgrade,
            b'6' => Self::Noop,
            _ => return Err(ParseError::Type),
        })
    }

    /// The packet as it travels.
    pub fn encode(&self) -> String {
        match self {
            Self::Open(data) => format!("0{data}"),
            Self::Close => "1".to_owned(),
            Self::Ping(data) => format!("2{data}"),
            Self::Pong(data) => format!("3{data}"),
            Self::Message(data) => format!("4{data}"),
            Self::Upgrade => "5".to_owned(),
            Self::Noop => "6".to_owned(),
        }
    }
}

/// The types of Socket.IO packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `0`: a client wants a namespace, or the server grants it.
    Connect,
    /// `1`: either side leaves a namespace.
    Disconnect,
    /// `2`: an event.
    Event,
    /// `3`: the answer to an event that asked for one.
    Ack,
    /// `4`: the server refuses a namespace.
    ConnectError,
    /// `5`: an event with binary attachments, which follow as packets of their own.
    BinaryEvent,
    /// `6`: an answer with binary attachments.
    BinaryAck,
}

/// The most binary attachments of one packet: a client must not make a server wait for billions.
pub const MAX_ATTACHMENTS: usize = 64;

/// The most arguments of one event.
pub const MAX_ARGUMENTS: usize = 256;

/// A Socket.IO packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet<'a> {
    /// What it is.
    pub kind: Kind,
    /// How many binary packets follow; 0 for all but the binary kinds.
    pub attachments: usize,
    /// The namespace, with its slash; `/` is the default one.
    pub namespace: &'a str,
    /// The number under which the sender waits for an answer.
    pub ack: Option<u64>,
    /// JSON, or nothing. Checked only as far as [`Packet::event`] and [`Packet::parse`] say.
    pub data: &'a str,
}

impl<'a> Packet<'a> {
    /// A packet in the default namespace with neither attachments nor acknowledgement.
    pub fn new(kind: Kind, data: &'a str) -> Self {
        Self { kind, attachments: 0, namespace: "/", ack: None, data }
    }

    /// Reads one packet. The data of the kinds that must carry JSON is checked to be JSON of the right shape.
    ///
    /// # Errors
    /// See [`ParseError`].
    pub fn parse(text: &'a str) -> Result<Self, ParseError> {
        let kind = match *text.as_bytes().first().ok_or(ParseError::Empty)? {
            b'0' => Kind::Connect,
            b'1' => Kind::Disconnect,
            b'2' => Kind::Event,
            b'3' => Kind::Ack,
            b'4' => Kind::ConnectError,
            b'5' => Kind::BinaryEvent,
            b'6' => Kind::BinaryAck,
            _ => return Err(ParseError::Type),
        };
        let mut rest = text.get(1..).ok_or(ParseError::Type)?;
        let mut attachments = 0;
        if matches!(kind, Kind::BinaryEvent | Kind::BinaryAck) {
            let (count, after) = rest.split_once('-').ok_or(ParseError::Header)?;
            attachments = number(count).filter(|n| *n <= MAX_ATTACHMENTS as u64).ok_or(ParseError::Header)? as usize;
            rest = after;
        }
        let mut namespace = "/";
        if rest.starts_with('/') {
            (namespace, rest) = rest.split_once(',').unwrap_or((rest, ""));
            // A query string after the namespace is a relic that the protocol's own parser drops.
            namespace = namespace.split_once('?').map_or(namespace, |(n, _)| n);
        }
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (ack, data) = rest.split_at(digits);
        let ack = match ack {
            "" => None,
            digits => Some(number(digits).ok_or(ParseError::Header)?),
        };
        let packet = Self { kind, attachments, namespace, ack, data };
        packet.check()?;
        Ok(packet)
    }

    fn check(&self) -> Result<(), ParseError> {
        let ok = match self.kind {
            Kind::Connect => self.data.is_empty() || (self.data.starts_with('{') && is_json(self.data)),
            Kind::Disconnect => self.data.is_empty(),
            Kind::Event | Kind::BinaryEvent => return self.event().map(drop),
            Kind::Ack | Kind::BinaryAck => self.ack.is_some() && self.data.starts_with('[') && is_json(self.data),
            Kind::ConnectError => is_json(self.data),
        };
        if ok { Ok(()) } else { Err(ParseError::Data) }
    }

    /// The name and the arguments of an event.
    ///
    /// # Errors
    /// [`ParseError::Data`] when the data is no JSON array that starts with a string, or has more than [`MAX_ARGUMENTS`] after
    /// it.
    pub fn event(&self) -> Result<(String, Vec<&'a RawValue>), ParseError> {
        let Called(name, arguments) = serde_json::from_str(self.data).map_err(|_| ParseError::Data)?;
        Ok((name, arguments))
    }

    /// The packet as it travels in an Engine.IO message, without that message's `4`.
    pub fn encode(&self) -> String {
        let mut text = String::with_capacity(self.data.len() + 16);
        text.push(match self.kind {
            Kind::Connect => '0',
            Kind::Disconnect => '1',
            Kind::Event => '2',
            Kind::Ack => '3',
            Kind::ConnectError => '4',
            Kind::BinaryEvent => '5',
            Kind::BinaryAck => '6',
        });
        if matches!(self.kind, Kind::BinaryEvent | Kind::BinaryAck) {
            text.push_str(&format!("{}-", self.attachments));
        }
        if self.namespace != "/" {
            text.push_str(self.namespace);
            text.push(',');
        }
        if let Some(ack) = self.ack {
            text.push_str(&ack.to_string());
        }
        text.push_str(self.data);
        text
    }
}

/// The name of an event and its arguments. Reading stops at one argument too many.
struct Called<'a>(String, Vec<&'a RawValue>);

impl<'a> Deserialize<'a> for Called<'a> {
    fn deserialize<D: Deserializer<'a>>(from: D) -> Result<Self, D::Error> {
        struct Items;
        impl<'a> Visitor<'a> for Items {
            type Value = Called<'a>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a name and at most {MAX_ARGUMENTS} arguments")
            }

            fn visit_seq<A: SeqAccess<'a>>(self, mut items: A) -> Result<Self::Value, A::Error> {
                let name = items.next_element()?.ok_or_else(|| A::Error::invalid_length(0, &self))?;
                let mut arguments = Vec::new();
                while let Some(argument) = items.next_element()? {
                    if arguments.len() == MAX_ARGUMENTS {
                        return Err(A::Error::invalid_length(MAX_ARGUMENTS + 2, &self));
                    }
                    arguments.push(argument);
                }
                Ok(Called(name, arguments))
            }
        }
        from.deserialize_seq(Items)
    }
}

/// Digits only: `str::parse` alone would take a sign.
fn number(text: &str) -> Option<u64> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

fn is_json(text: &str) -> bool {
    serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_event_has_a_bounded_number_of_arguments() {
        let of = |count: usize| format!("2[\"x\"{}]", ",1".repeat(count));
        assert_eq!(Packet::parse(&of(MAX_ARGUMENTS)).unwrap().event().unwrap().1.len(), MAX_ARGUMENTS);
        assert_eq!(Packet::parse(&of(MAX_ARGUMENTS + 1)), Err(ParseError::Data));
        assert_eq!(Packet::parse("2[]"), Err(ParseError::Data));
    }

    #[test]
    fn reads_what_real_clients_send() {
        assert_eq!(Engine::parse("2probe"), Ok(Engine::Ping("probe")));
        assert_eq!(Engine::parse("5"), Ok(Engine::Upgrade));
        assert_eq!(Engine::parse(""), Err(ParseError::Empty));
        assert_eq!(Engine::parse("zzz"), Err(ParseError::Type));
        assert_eq!(Engine::parse("é"), Err(ParseError::Type));
        assert_eq!(Packet::parse("0"), Ok(Packet::new(Kind::Connect, "")));
        assert_eq!(Packet::parse("0{\"token\":\"x\"}").unwrap().data, "{\"token\":\"x\"}");
        assert_eq!(Packet::parse("0/hook,").unwrap().namespace, "/hook");
        assert_eq!(Packet::parse("0/hook?a=b,").unwrap().namespace, "/hook");
        assert_eq!(Packet::parse("1"), Ok(Packet::new(Kind::Disconnect, "")));
        let ping = Packet::parse(r#"27["dashboard:ping",{"timestamp":2}]"#).unwrap();
        assert_eq!((ping.ack, ping.event().unwrap().0.as_str()), (Some(7), "dashboard:ping"));
        let binary = Packet::parse(r#"51-["upload",{"_placeholder":true,"num":0}]"#).unwrap();
        assert_eq!((binary.kind, binary.attachments), (Kind::BinaryEvent, 1));
        let ack = Packet::parse("3/admin,12[1]").unwrap();
        assert_eq!((ack.kind, ack.namespace, ack.ack, ack.data), (Kind::Ack, "/admin", Some(12), "[1]"));
    }

    #[test]
    fn refuses_what_no_client_means() {
        for (text, error) in [
            ("", ParseError::Empty),
            ("abc", ParseError::Type),
            ("2", ParseError::Data),
            ("2[]", ParseError::Data),
            ("2{}", ParseError::Data),
            ("2[1]", ParseError::Data),
            ("2[\"open", ParseError::Data),
            ("0[]", ParseError::Data),
            ("1x", ParseError::Data),
            ("3[1]", ParseError::Data),
            ("5[\"x\"]", ParseError::Header),
            ("5+1-[\"x\"]", ParseError::Header),
            ("599999999999-[\"x\"]", ParseError::Header),
            ("299999999999999999999999[\"x\"]", ParseError::Header),
        ] {
            assert_eq!(Packet::parse(text), Err(error), "{text}");
        }
    }

    fn kind() -> impl Strategy<Value = Kind> {
        prop::sample::select(vec![
            Kind::Connect,
            Kind::Disconnect,
            Kind::Event,
            Kind::Ack,
            Kind::ConnectError,
            Kind::BinaryEvent,
            Kind::BinaryAck,
        ])
    }

    proptest! {
        #[test]
        fn a_socket_packet_survives_the_way_there_and_back(
            kind in kind(),
            attachments in 0..=MAX_ATTACHMENTS,
            namespace in prop_oneof![Just("/".to_owned()), "/[a-z/:-]{1,12}"],
            ack in any::<Option<u64>>(),
            name in any::<String>(),
            argument in any::<String>(),
        ) {
            let data = match kind {
                Kind::Connect => serde_json::json!({"token": argument}).to_string(),
                Kind::Disconnect => String::new(),
                Kind::ConnectError => serde_json::json!({"message": argument}).to_string(),
                _ => serde_json::json!([name, {"data": argument}]).to_string(),
            };
            let binary = matches!(kind, Kind::BinaryEvent | Kind::BinaryAck);
            let ack = if matches!(kind, Kind::Ack | Kind::BinaryAck) { Some(ack.unwrap_or(1)) } else { ack };
            let attachments = if binary { attachments } else { 0 };
            let packet = Packet { kind, attachments, namespace: &namespace, ack, data: &data };
            let text = packet.encode();
            prop_assert_eq!(Packet::parse(&text), Ok(packet));
            if matches!(kind, Kind::Event | Kind::BinaryEvent) {
                prop_assert_eq!(packet.event().unwrap().0, name);
            }
        }

        #[test]
        fn an_engine_packet_survives_the_way_there_and_back(kind in 0..7, data in any::<String>()) {
            let packet = match kind {
                0 => Engine::Open(&data),
                1 => Engine::Close,
                2 => Engine::Ping(&data),
                3 => Engine::Pong(&data),
                4 => Engine::Message(&data),
                5 => Engine::Upgrade,
                _ => Engine::Noop,
            };
            let text = packet.encode();
            prop_assert_eq!(Engine::parse(&text), Ok(packet));
        }

        #[test]
        fn garbage_never_panics(text in any::<String>(), tail in r#"[0-9/,\[\]{}"?a-z-]{0,40}"#, kind in 0..8) {
            let _ = Engine::parse(&text);
            let _ = Packet::parse(&text);
            let _ = Packet::parse(&format!("{kind}{tail}"));
        }
    }
}
