//! The body of a long-polling request or response: packets separated by the character U+001E, binary ones as `b` and
//! base64 (Engine.IO protocol 4, "HTTP long-polling").

use std::collections::VecDeque;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Buf, Bytes, BytesMut};

use super::frame;
use super::packet::{Engine, ParseError};

/// Stands between two packets.
pub const SEPARATOR: u8 = 0x1e;
/// Begins a packet of binary data.
pub const BINARY: u8 = b'b';

/// One part of a payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part<'a> {
    /// A text packet.
    Text(Engine<'a>),
    /// Binary data, always a message.
    Binary(Bytes),
}

/// Reads the packets of a request's body one by one: a list of them would be many times larger than the body. With each
/// comes how many bytes it is of it.
pub fn parse(body: &str) -> impl Iterator<Item = (usize, Result<Part<'_>, ParseError>)> {
    body.split(char::from(SEPARATOR)).map(|text| {
        let part = match text.strip_prefix('b') {
            Some(base64) => STANDARD.decode(base64).map(|b| Part::Binary(b.into())).map_err(|_| ParseError::Data),
            None => Engine::parse(text).map(Part::Text),
        };
        (text.len() + 1, part)
    })
}

/// Joins encoded packets into one body. A single one is not copied.
pub fn join(mut packets: Vec<Bytes>) -> Bytes {
    if packets.len() == 1 {
        return packets.remove(0);
    }
    let mut body = BytesMut::with_capacity(packets.iter().map(|p| p.len() + 1).sum());
    for (index, packet) in packets.iter().enumerate() {
        if index > 0 {
            body.extend_from_slice(&[SEPARATOR]);
        }
        body.extend_from_slice(packet);
    }
    body.freeze()
}

/// The most packets of one body: the Python client refuses a body with more, ends its session, and comes back to the same.
pub const MOST: usize = 16;

/// A part of the line that is larger than this is a body by itself, which is not copied: what its bytes hold on to goes with
/// them.
const LARGE: usize = 64 << 10;

/// Takes the packets of the next body from what waits in line: all of them, or the first [`MOST`], or those before or in a
/// large part. How many bytes of the line they were, with the separators that were left out.
pub fn next(line: &mut VecDeque<Bytes>) -> (Bytes, usize) {
    let (mut packets, mut room, mut taken) = (Vec::with_capacity(line.len().min(MOST)), MOST, 0);
    while let Some(mut joined) = line.pop_front() {
        let is_large = joined.len() > LARGE;
        if is_large && !packets.is_empty() {
            line.push_front(joined);
            break;
        }
        // Of a part with as many packets as there is room for, no separator ends the last one.
        let end = memchr::memchr_iter(SEPARATOR, &joined).nth(room - 1);
        if let Some(end) = end {
            packets.push(joined.split_to(end));
            joined.advance(1);
            taken += end + 1;
            line.push_front(joined);
            break;
        }
        room -= memchr::memchr_iter(SEPARATOR, &joined).count() + 1;
        taken += joined.len();
        packets.push(joined);
        if room == 0 || is_large {
            break;
        }
    }
    (join(packets), taken)
}

/// The packets of a body that [`join`] made, without copying them. JSON never contains the separator unescaped.
pub fn split(body: &Bytes) -> impl Iterator<Item = Bytes> + '_ {
    body.split(|b| *b == SEPARATOR).map(|packet| body.slice_ref(packet))
}

/// A packet of a body that [`join`] made, as a WebSocket frame.
pub fn to_frame(packet: &[u8]) -> Bytes {
    match packet.strip_prefix(&[BINARY]).map(|base64| STANDARD.decode(base64)) {
        Some(Ok(data)) => {
            let mut out = BytesMut::with_capacity(data.len() + frame::MAX_HEAD);
            frame::binary_head(&mut out, data.len());
            out.extend_from_slice(&data);
            out.freeze()
        }
        _ => frame::text(packet),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn next_large_part_goes_alone_and_uncopied() {
        let large = Bytes::from(vec![b'4'; LARGE + 1]);
        let mut line: VecDeque<Bytes> = ["4a".into(), "4b".into(), large.clone(), "4c".into()].into();
        let mut bodies = std::iter::from_fn(|| (!line.is_empty()).then(|| next(&mut line)));
        assert_eq!(bodies.next(), Some(("4a\u{1e}4b".into(), 4)));
        let (body, taken) = bodies.next().unwrap();
        assert_eq!((body.as_ptr(), taken), (large.as_ptr(), LARGE + 1));
        assert_eq!(bodies.next(), Some(("4c".into(), 2)));
    }

    #[test]
    fn a_body_has_at_most_as_many_packets_as_the_python_client_takes() {
        // Parts of 1, 20, 15, 16 and 3 packets in line.
        let mut number = 0;
        let mut line: VecDeque<Bytes> = [1, 20, 15, 16, 3]
            .map(|count| {
                let packets = (0..count).map(|_| {
                    number += 1;
                    Bytes::from(format!("4{number}"))
                });
                join(packets.collect())
            })
            .into();
        let (mut queued, mut bodies) = (line.iter().map(Bytes::len).sum::<usize>(), Vec::new());
        while !line.is_empty() {
            let (body, taken) = next(&mut line);
            queued -= taken;
            assert_eq!(queued, line.iter().map(Bytes::len).sum::<usize>());
            bodies.push(
                split(&body).map(|p| String::from_utf8_lossy(&p[1..]).parse::<u32>().unwrap()).collect::<Vec<_>>(),
            );
        }
        assert!(bodies.iter().all(|b| (1..=MOST).contains(&b.len())), "{bodies:?}");
        assert!(bodies.iter().flatten().copied().eq(1..=55), "{bodies:?}");
        assert_eq!(bodies.len(), 4, "{bodies:?}");
    }

    #[test]
    fn packets_of_one_request_are_read_in_order() {
        assert_eq!(
            all("2probe\u{1e}4hello\u{1e}bAQID\u{1e}1").unwrap(),
            [
                Part::Text(Engine::Ping("probe")),
                Part::Text(Engine::Message("hello")),
                Part::Binary(Bytes::from_static(&[1, 2, 3])),
                Part::Text(Engine::Close),
            ]
        );
    }

    #[test]
    fn what_waited_for_a_poll_becomes_frames() {
        assert_eq!(to_frame(b"4x"), &b"\x81\x024x"[..]);
        assert_eq!(to_frame(b"bAQID"), &b"\x82\x03\x01\x02\x03"[..]);
    }

    #[test]
    fn a_part_that_is_no_packet_is_told_in_its_turn() {
        assert_eq!(all(""), Err(ParseError::Empty));
        assert_eq!(all("4a\u{1e}"), Err(ParseError::Empty));
        assert_eq!(all("4a\u{1e}abc"), Err(ParseError::Type));
        assert_eq!(all("b***"), Err(ParseError::Data));
        let mut parts = parse("4a\u{1e}abc");
        assert_eq!(parts.next(), Some((3, Ok(Part::Text(Engine::Message("a"))))));
    }

    fn all(body: &str) -> Result<Vec<Part<'_>>, ParseError> {
        parse(body).map(|(_, part)| part).collect()
    }

    proptest! {
        #[test]
        fn join_and_split_are_inverse(packets in prop::collection::vec("[^\u{1e}]{1,20}", 1..8)) {
            let packets: Vec<Bytes> = packets.into_iter().map(Bytes::from).collect();
            let body = join(packets.clone());
            prop_assert_eq!(split(&body).collect::<Vec<_>>(), packets);
        }

        #[test]
        fn garbage_never_panics(body in any::<String>()) {
            let _ = parse(&body).count();
        }
    }
}
