//! WebSocket frames as a server sends them (RFC 6455, section 5.2): final, unmasked, the header computed once for all
//! clients.

use bytes::{BufMut, Bytes, BytesMut};

/// A text frame's first byte: FIN and opcode 1.
const TEXT: u8 = 0x81;
/// A binary frame's first byte: FIN and opcode 2.
const BINARY: u8 = 0x82;
/// A close frame's first byte: FIN and opcode 8.
const CLOSE: u8 = 0x88;
/// The most bytes of a header that is not masked.
pub const MAX_HEAD: usize = 10;

/// All is said (RFC 6455, section 7.4.1).
pub const NORMAL: u16 = 1000;
/// Going away: the server shuts down (RFC 6455, section 7.4.1).
pub const GOING_AWAY: u16 = 1001;
/// The peer broke the protocol.
pub const PROTOCOL_ERROR: u16 = 1002;
/// Text that is not UTF-8.
pub const INVALID_DATA: u16 = 1007;
/// There is no room for it now (RFC 6455's registry, section 11.7).
pub const TRY_AGAIN: u16 = 1013;
/// A message over the limit.
pub const TOO_BIG: u16 = 1009;

/// Appends the header of a text frame with `length` bytes of payload.
pub fn text_head(out: &mut BytesMut, length: usize) {
    head(out, TEXT, length);
}

/// Appends the header of a binary frame with `length` bytes of payload.
pub fn binary_head(out: &mut BytesMut, length: usize) {
    head(out, BINARY, length);
}

/// A whole text frame.
pub fn text(payload: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(payload.len() + MAX_HEAD);
    text_head(&mut out, payload.len());
    out.extend_from_slice(payload);
    out.freeze()
}

/// A close frame with its code and a reason of at most 123 bytes (longer ones are cut at a character).
pub fn close(code: u16, reason: &str) -> Bytes {
    let fits = (0..=reason.len().min(123)).rev().find(|n| reason.is_char_boundary(*n)).unwrap_or(0);
    let reason = &reason[..fits];
    let mut out = BytesMut::with_capacity(reason.len() + 4);
    head(&mut out, CLOSE, reason.len() + 2);
    out.put_u16(code);
    out.extend_from_slice(reason.as_bytes());
    out.freeze()
}

fn head(out: &mut BytesMut, first: u8, length: usize) {
    out.put_u8(first);
    match length {
        0..=125 => out.put_u8(length as u8),
        126..=0xffff => {
            out.put_u8(126);
            out.put_u16(length as u16);
        }
        _ => {
            out.put_u8(127);
            out.put_u64(length as u64);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;
    use tungstenite::protocol::{Message, Role, WebSocket};

    #[test]
    fn a_kept_client_reads_every_length_form() {
        for length in [0, 1, 125, 126, 65_535, 65_536, 200_000] {
            let payload = "x".repeat(length);
            let mut client =
                WebSocket::from_raw_socket(Cursor::new(text(payload.as_bytes()).to_vec()), Role::Client, None);
            assert_eq!(client.read().unwrap(), Message::Text(payload.into()), "{length}");
        }
    }

    #[test]
    fn a_close_frame_says_code_and_reason() {
        let bytes = close(GOING_AWAY, &"ä".repeat(100));
        let mut client = WebSocket::from_raw_socket(Cursor::new(bytes.to_vec()), Role::Client, None);
        let Message::Close(Some(frame)) = client.read().unwrap() else { panic!("no close frame") };
        assert_eq!((u16::from(frame.code), frame.reason.len()), (1001, 122));
    }
}
