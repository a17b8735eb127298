//! What is sent to many clients is encoded once for each kind of transport, and all packets of one send travel in one
//! write: the system call is what a delivery costs, hardly its bytes.

use std::any::Any;
use std::cell::OnceCell;
use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{BufMut, Bytes, BytesMut};
use serde_json::Value;
use serde_json::value::RawValue;

use super::packet::{Kind, Packet};
use super::{frame, payload};

/// One Engine.IO packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// Text, as a constant start and the rest.
    Text(&'static str, Bytes),
    /// An attachment.
    Binary(Bytes),
}

impl Piece {
    /// The packet of a text message.
    pub fn message(text: impl Into<Bytes>) -> Self {
        Self::Text("4", text.into())
    }

    /// The packet that carries a Socket.IO packet.
    pub fn packet(packet: &Packet<'_>) -> Self {
        Self::message(packet.encode())
    }

    fn len(&self) -> usize {
        match self {
            Self::Text(start, rest) => start.len() + rest.len(),
            Self::Binary(data) => 1 + data.len().div_ceil(3) * 4,
        }
    }
}

/// The arguments of an event, or of an acknowledgement, that the server sends.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Arguments {
    /// JSON values, with commas between them.
    json: Vec<u8>,
    attachments: Vec<Bytes>,
}

impl Arguments {
    /// These and one more.
    #[must_use]
    pub fn value(self, value: &Value) -> Self {
        self.json(value.to_string().as_bytes())
    }

    /// These and one more, which is JSON already.
    #[must_use]
    pub fn json(mut self, value: &[u8]) -> Self {
        if !self.json.is_empty() {
            self.json.push(b',');
        }
        self.json.extend_from_slice(value);
        self
    }

    /// These and one more, which is binary data.
    #[must_use]
    pub fn binary(self, data: Bytes) -> Self {
        let placeholder = format!("{{\"_placeholder\":true,\"num\":{}}}", self.attachments.len());
        let mut more = self.json(placeholder.as_bytes());
        more.attachments.push(data);
        more
    }

    /// What a client sent, as it sent it.
    pub fn same(arguments: &[&RawValue], attachments: &[Bytes]) -> Self {
        let all = arguments.iter().fold(Self::default(), |all, argument| all.json(argument.get().as_bytes()));
        Self { attachments: attachments.to_vec(), ..all }
    }
}

/// Engine.IO packets for one or many clients, encoded on demand and then shared.
pub struct Outgoing {
    packets: Vec<Piece>,
    socket: OnceCell<Bytes>,
    polling: OnceCell<Bytes>,
    /// Dropped once every client has taken the packets.
    held: Option<Arc<dyn Any + Send + Sync>>,
}

/// The start of an event in the default namespace: Engine.IO message, Socket.IO event.
const EVENT: &str = "42";

impl Outgoing {
    /// One packet, already encoded.
    pub fn packet(text: impl Into<Bytes>) -> Self {
        Self::packets(vec![Piece::Text("", text.into())])
    }

    /// Several packets.
    pub fn packets(packets: Vec<Piece>) -> Self {
        Self { packets, socket: OnceCell::new(), polling: OnceCell::new(), held: None }
    }

    /// Ties something to the packets, as a share of a memory budget: it is dropped once the last client has taken them or is
    /// gone.
    #[must_use]
    pub fn holding(self, held: impl Any + Send + Sync) -> Self {
        Self { held: Some(Arc::new(held)), ..self }
    }

    /// The bytes of all packets, without what a transport puts around them.
    pub fn size(&self) -> usize {
        self.packets.iter().map(Piece::len).sum()
    }

    fn encoded(&self, bytes: BytesMut) -> Bytes {
        match &self.held {
            None => bytes.freeze(),
            Some(held) => Bytes::from_owner(Held { bytes: bytes.freeze(), _held: Arc::clone(held) }),
        }
    }

    /// Whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }

    /// The packets themselves, to be sent with others.
    pub fn into_packets(self) -> Vec<Piece> {
        self.packets
    }

    /// Events for the default namespace, as arrays of name and payload.
    pub fn arrays(arrays: impl Iterator<Item = Bytes>) -> Self {
        Self::packets(arrays.map(|array| Piece::Text(EVENT, array)).collect())
    }

    /// The packet of one event in the default namespace: its name and its payload, which is JSON.
    pub fn event(name: &str, payload: &[u8]) -> Piece {
        let name = Value::from(name).to_string();
        let mut array = BytesMut::with_capacity(name.len() + payload.len() + 3);
        for piece in [b"[", name.as_bytes(), b",", payload, b"]"] {
            array.extend_from_slice(piece);
        }
        Piece::Text(EVENT, array.freeze())
    }

    /// An event, or without a name an acknowledgement, in any namespace.
    pub fn call(namespace: &str, name: Option<&str>, arguments: &Arguments, ack: Option<u64>) -> Self {
        let name = name.map(|name| Value::from(name).to_string()).unwrap_or_default();
        let comma = if name.is_empty() || arguments.json.is_empty() { "" } else { "," };
        let data = format!("[{name}{comma}{}]", String::from_utf8_lossy(&arguments.json));
        let attachments = arguments.attachments.len();
        let kind = match (name.is_empty(), attachments) {
            (false, 0) => Kind::Event,
            (false, _) => Kind::BinaryEvent,
            (true, 0) => Kind::Ack,
            (true, _) => Kind::BinaryAck,
        };
        let first = Piece::packet(&Packet { kind, attachments, namespace, ack, data: &data });
        let rest = arguments.attachments.iter().cloned().map(Piece::Binary);
        Self::packets(std::iter::once(first).chain(rest).collect())
    }

    /// As WebSocket frames.
    pub fn socket(&self) -> &Bytes {
        self.socket.get_or_init(|| {
            let mut out = BytesMut::with_capacity(self.packets.iter().map(|p| frame::MAX_HEAD + p.len()).sum());
            for piece in &self.packets {
                match piece {
                    Piece::Text(start, rest) => {
                        frame::text_head(&mut out, start.len() + rest.len());
                        out.extend_from_slice(start.as_bytes());
                        out.extend_from_slice(rest);
                    }
                    Piece::Binary(data) => {
                        frame::binary_head(&mut out, data.len());
                        out.extend_from_slice(data);
                    }
                }
            }
            self.encoded(out)
        })
    }

    /// As a part of a polling payload.
    pub fn polling(&self) -> &Bytes {
        self.polling.get_or_init(|| {
            let mut out = BytesMut::with_capacity(self.packets.iter().map(|p| 1 + p.len()).sum());
            for (index, piece) in self.packets.iter().enumerate() {
                if index > 0 {
                    out.put_u8(payload::SEPARATOR);
                }
                match piece {
                    Piece::Text(start, rest) => {
                        out.extend_from_slice(start.as_bytes());
                        out.extend_from_slice(rest);
                    }
                    Piece::Binary(data) => {
                        out.put_u8(payload::BINARY);
                        out.extend_from_slice(STANDARD.encode(data).as_bytes());
                    }
                }
            }
            self.encoded(out)
        })
    }
}

impl fmt::Debug for Outgoing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outgoing").field("packets", &self.packets).finish_non_exhaustive()
    }
}

/// In this order: the bytes are freed before what they hold.
struct Held {
    bytes: Bytes,
    _held: Arc<dyn Any + Send + Sync>,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_carry_the_same_packets() {
        let granted = Piece::Text("4", Bytes::from_static(b"0{}"));
        let out = Outgoing::packets(vec![granted, Outgoing::event("a\"b", b"{\"n\":1}")]);
        assert_eq!(out.polling(), &b"40{}\x1e42[\"a\\\"b\",{\"n\":1}]"[..]);
        assert_eq!(out.socket(), &b"\x81\x0440{}\x81\x1242[\"a\\\"b\",{\"n\":1}]"[..]);
        assert_eq!(out.socket().as_ptr(), out.socket().as_ptr());
    }

    #[test]
    fn what_is_held_goes_with_the_last_of_the_bytes() {
        let held = Arc::new(());
        let out = Outgoing::packet("4x").holding(Arc::clone(&held));
        let (one, mut two) = (out.socket().clone(), out.polling().clone());
        drop((out, one));
        assert_eq!(two.split_to(1), &b"4"[..]);
        assert_eq!(Arc::strong_count(&held), 2);
        drop(two);
        assert_eq!(Arc::strong_count(&held), 1);
    }

    #[test]
    fn binary_data_follow_their_packet() {
        let arguments = Arguments::default().value(&1.into()).binary(Bytes::from_static(&[1, 2, 3]));
        let out = Outgoing::call("/x", Some("e"), &arguments, Some(7));
        let text = r#"451-/x,7["e",1,{"_placeholder":true,"num":0}]"#;
        assert_eq!(out.polling(), format!("{text}\u{1e}bAQID").as_bytes());
        assert_eq!(out.socket()[2..], [text.as_bytes(), &[0x82, 3, 1, 2, 3]].concat());
        let answer = Outgoing::call("/", None, &Arguments::default(), Some(3));
        assert_eq!(answer.polling(), &b"433[]"[..]);
    }
}
