//! What is sent to many clients is encoded once for each kind of transport, and all packets of one send travel in one
//! write: the system call is what a delivery costs, hardly its bytes.

use std::cell::OnceCell;

use bytes::{Bytes, BytesMut};

use super::{frame, payload};
use crate::events::hub::Shown;

/// Engine.IO packets for one or many clients, encoded on demand and then shared.
#[derive(Debug)]
pub struct Outgoing {
    packets: Vec<(&'static str, Bytes)>,
    socket: OnceCell<Bytes>,
    polling: OnceCell<Bytes>,
}

/// The start of an event in the default namespace: Engine.IO message, Socket.IO event.
const EVENT: &str = "42";

impl Outgoing {
    /// One packet, already encoded.
    pub fn packet(text: impl Into<Bytes>) -> Self {
        Self::packets(vec![("", text.into())])
    }

    /// Several packets, each as a constant start and the rest.
    pub fn packets(packets: Vec<(&'static str, Bytes)>) -> Self {
        Self { packets, socket: OnceCell::new(), polling: OnceCell::new() }
    }

    /// Events from the hub.
    pub fn events(events: &[Shown]) -> Self {
        Self::packets(events.iter().flat_map(Shown::arrays).map(|array| (EVENT, array)).collect())
    }

    /// The packet of one event: its name and its payload, which is JSON.
    pub fn event(name: &str, payload: &[u8]) -> (&'static str, Bytes) {
        let name = serde_json::Value::from(name).to_string();
        let mut array = BytesMut::with_capacity(name.len() + payload.len() + 3);
        for piece in [b"[", name.as_bytes(), b",", payload, b"]"] {
            array.extend_from_slice(piece);
        }
        (EVENT, array.freeze())
    }

    /// As WebSocket frames.
    pub fn socket(&self) -> &Bytes {
        self.socket.get_or_init(|| {
            let size = self.packets.iter().map(|(start, rest)| frame::MAX_HEAD + start.len() + rest.len()).sum();
            let mut out = BytesMut::with_capacity(size);
            for (start, rest) in &self.packets {
                frame::text_head(&mut out, start.len() + rest.len());
                out.extend_from_slice(start.as_bytes());
                out.extend_from_slice(rest);
            }
            out.freeze()
        })
    }

    /// As a part of a polling payload.
    pub fn polling(&self) -> &Bytes {
        self.polling.get_or_init(|| {
            let size = self.packets.iter().map(|(start, rest)| 1 + start.len() + rest.len()).sum();
            let mut out = BytesMut::with_capacity(size);
            for (index, (start, rest)) in self.packets.iter().enumerate() {
                if index > 0 {
                    out.extend_from_slice(&[payload::SEPARATOR]);
                }
                out.extend_from_slice(start.as_bytes());
                out.extend_from_slice(rest);
            }
            out.freeze()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_carry_the_same_packets() {
        let out = Outgoing::packets(vec![("4", Bytes::from_static(b"0{}")), Outgoing::event("a\"b", b"{\"n\":1}")]);
        assert_eq!(out.polling(), &b"40{}\x1e42[\"a\\\"b\",{\"n\":1}]"[..]);
        assert_eq!(out.socket(), &b"\x81\x0440{}\x81\x1242[\"a\\\"b\",{\"n\":1}]"[..]);
        assert_eq!(out.socket().as_ptr(), out.socket().as_ptr());
    }
}
