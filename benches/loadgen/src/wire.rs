//! Bytes on the wire: client frames of RFC 6455, server frames, HTTP responses. Nothing here does IO.

use memchr::memmem;

/// A text frame.
pub const TEXT: u8 = 1;
/// A close frame.
pub const CLOSE: u8 = 8;
/// A ping.
pub const PING: u8 = 9;
/// Its answer.
pub const PONG: u8 = 10;

/// One final client frame. A mask of zeros is a valid mask and leaves the payload as it is.
pub fn client_frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(payload.len() + 14);
    frame.push(0x80 | opcode);
    match payload.len() {
        n @ 0..126 => frame.push(0x80 | n as u8),
        n @ 126..65536 => {
            frame.push(0x80 | 126);
            frame.extend((n as u16).to_be_bytes());
        }
        n => {
            frame.push(0x80 | 127);
            frame.extend((n as u64).to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.extend(payload);
    frame
}

/// The first whole server frame: opcode, payload, bytes used.
pub fn server_frame(bytes: &[u8]) -> Option<(u8, &[u8], usize)> {
    let (&first, &second) = (bytes.first()?, bytes.get(1)?);
    let (length, header) = match second & 127 {
        126 => (u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?) as usize, 4),
        127 => (u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?) as usize, 10),
        short => (short as usize, 2),
    };
    let end = header + length;
    Some((first & 15, bytes.get(header..end)?, end))
}

/// An HTTP response.
pub struct Response {
    /// Its status.
    pub status: u32,
    /// Its body, without chunk marks.
    pub body: Vec<u8>,
    /// How many bytes it took.
    pub used: usize,
}

/// The first whole response. One that switches protocols ends with its head.
pub fn response(bytes: &[u8]) -> Option<Response> {
    let head_end = memmem::find(bytes, b"\r\n\r\n")? + 4;
    let head = String::from_utf8_lossy(&bytes[..head_end]).to_ascii_lowercase();
    let status = head.get(9..12).and_then(|s| s.parse().ok()).unwrap_or(0);
    let length: Option<usize> =
        head.lines().find_map(|l| l.strip_prefix("content-length:")).and_then(|v| v.trim().parse().ok());
    if let Some(length) = length {
        let used = head_end + length;
        return Some(Response { status, body: bytes.get(head_end..used)?.to_vec(), used });
    }
    if head.contains("transfer-encoding: chunked") {
        let (body, used) = chunks(bytes, head_end)?;
        return Some(Response { status, body, used });
    }
    Some(Response { status, body: Vec::new(), used: head_end })
}

fn chunks(bytes: &[u8], mut at: usize) -> Option<(Vec<u8>, usize)> {
    let mut body = Vec::new();
    loop {
        let line = memmem::find(&bytes[at..], b"\r\n")?;
        let size = std::str::from_utf8(&bytes[at..at + line]).ok()?;
        let size = usize::from_str_radix(size.trim(), 16).ok()?;
        let start = at + line + 2;
        body.extend(bytes.get(start..start + size)?);
        at = start + size + 2;
        if at > bytes.len() {
            return None;
        }
        if size == 0 {
            return Some((body, at));
        }
    }
}

/// Where an event carries its stamp: `LGT<19 digits of nanoseconds>S<10 digits of sequence>E`.
pub fn stamp(packet: &[u8]) -> Option<(u64, u64)> {
    let at = memmem::find(packet, b"LGT")? + 3;
    let digits = |range: std::ops::Range<usize>| std::str::from_utf8(packet.get(range)?).ok()?.parse().ok();
    Some((digits(at..at + 19)?, digits(at + 20..at + 30)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_of_every_length_are_read() {
        for length in [0, 125, 126, 65535, 65536] {
            let mut frame = client_frame(TEXT, &vec![b'x'; length]);
            // As a server would send it: without the mask.
            let mask = frame.len() - length - 4;
            frame.drain(mask..mask + 4);
            frame[1] &= 0x7f;
            let (opcode, payload, used) = server_frame(&frame).unwrap();
            assert_eq!((opcode, payload.len(), used), (TEXT, length, frame.len()));
            assert!(server_frame(&frame[..frame.len() - 1]).is_none());
        }
    }

    #[test]
    fn responses_end_where_they_say() {
        let fixed = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP";
        let answer = response(fixed).unwrap();
        assert_eq!((answer.status, answer.body.as_slice(), answer.used), (200, &b"ok"[..], fixed.len() - 4));
        let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
        let answer = response(chunked).unwrap();
        assert_eq!((answer.body.as_slice(), answer.used), (&b"abc"[..], chunked.len()));
        assert!(response(&chunked[..chunked.len() - 1]).is_none());
    }

    #[test]
    fn a_stamp_is_found_inside_an_event() {
        assert_eq!(stamp(b"42[\"e\",{\"lg\":\"LGT0000000000000000012S0000000007E\"}]"), Some((12, 7)));
        assert_eq!(stamp(b"42[\"e\",{}]"), None);
        assert_eq!(stamp(b"42[\"LGT1"), None);
    }
}
