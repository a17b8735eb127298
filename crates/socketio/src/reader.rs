//! The read side of one WebSocket: `tungstenite`'s parser over the bare socket, which gets as much to read as the turn
//! allows. It reads on until a message is whole, so without that bound a message in endless pieces would never let go.

use std::io::{self, Read, Write};
use std::mem;
use std::sync::Arc;

use bytes::Bytes;
use tungstenite::error::{CapacityError, Error, ProtocolError};
use tungstenite::protocol::{Message, Role, WebSocketConfig, WebSocketContext};

use super::frame;
use super::memory::{Hold, Memory};
use super::stream::Stream;
use super::turn::Turn;

/// The parser's read buffer, held as long as the connection; clients send little, and it grows for a larger message.
const READ_BUFFER: usize = 1024;
/// The most pieces of one message. Browsers cut the largest message that we take into a dozen.
const MAX_FRAGMENTS: usize = 1024;
/// A pong's first byte.
const PONG: u8 = 0x8a;

/// What the parser says.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// A whole message.
    Message(Message),
    /// Nothing more for now.
    Idle,
    /// The turn is spent, and there may be more.
    Later,
    /// The peer closed, in good order or not.
    Closed,
    /// The peer broke the protocol: the close code and its reason.
    Failed(u16, &'static str),
}

/// See the module.
#[derive(Debug)]
pub struct Reader {
    parser: WebSocketContext,
    reply: Vec<u8>,
    heads: Heads,
    /// Frames that came and nobody has counted yet.
    frames: usize,
    /// What the message holds that is not whole yet, where it is large.
    hold: Hold,
    /// The parser has met what it cannot parse, and must not be asked again: what comes is thrown away.
    failed: bool,
}

impl Reader {
    /// A reader of messages of at most `max_payload` bytes; `early` is what arrived together with the handshake.
    pub fn new(early: &Bytes, max_payload: usize, memory: &Arc<dyn Memory>) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER)
            .write_buffer_size(0)
            .max_message_size(Some(max_payload))
            .max_frame_size(Some(max_payload));
        let parser = WebSocketContext::from_partially_read(early.to_vec(), Role::Server, Some(config));
        let mut heads = Heads::default();
        let frames = heads.see(early);
        Self { parser, reply: Vec::new(), heads, frames, hold: Hold::new(memory), failed: false }
    }

    /// The next message, as far as the turn goes.
    pub fn next(&mut self, stream: &Stream, turn: &mut Turn) -> Next {
        if self.failed {
            return throw_away(stream, turn);
        }
        self.next_from(Socket(stream), turn)
    }

    /// The next message of any source of bytes; one that has none for now says `WouldBlock`.
    pub fn next_from(&mut self, source: impl Read, turn: &mut Turn) -> Next {
        let next = self.parse(source, turn);
        match next {
            Next::Message(Message::Text(_) | Message::Binary(_)) => {
                self.heads.held = 0;
                self.hold.clear();
                turn.spend_packets(1);
            }
            Next::Message(_) => turn.spend_packets(1),
            Next::Failed(..) | Next::Closed => {
                self.failed = true;
                self.hold.clear();
            }
            Next::Idle | Next::Later => {}
        }
        next
    }

    fn parse(&mut self, source: impl Read, turn: &mut Turn) -> Next {
        let (heads, frames, hold) = (&mut self.heads, &mut self.frames, &mut self.hold);
        let mut tap = Tap { source, turn, heads, frames, hold, reply: &mut self.reply };
        match self.parser.read(&mut tap) {
            Ok(Message::Close(_)) => {
                // Makes the parser say its own close; that it then calls the connection closed is no news.
                let _ = self.parser.flush(&mut tap);
                Next::Closed
            }
            Ok(message) => Next::Message(message),
            Err(Error::Io(e)) if e.kind() == io::ErrorKind::WouldBlock && turn.is_spent() => Next::Later,
            Err(Error::Io(e)) if e.kind() == io::ErrorKind::WouldBlock => Next::Idle,
            Err(Error::Io(e)) if e.kind() == io::ErrorKind::OutOfMemory => {
                Next::Failed(frame::TRY_AGAIN, "other large messages take all the memory there is for them")
            }
            Err(Error::Io(_)) if self.heads.too_many => Next::Failed(frame::TOO_BIG, "message in too many pieces"),
            Err(Error::Capacity(CapacityError::MessageTooLong { .. })) => {
                Next::Failed(frame::TOO_BIG, "message too big")
            }
            Err(Error::Utf8(_)) => Next::Failed(frame::INVALID_DATA, "text is not UTF-8"),
            Err(Error::Protocol(ProtocolError::ResetWithoutClosingHandshake)) => Next::Closed,
            Err(Error::Protocol(_)) => Next::Failed(frame::PROTOCOL_ERROR, "WebSocket protocol error"),
            Err(_) => Next::Closed,
        }
    }

    /// What the parser wants to be sent: the newest pong and its own close.
    pub fn take_reply(&mut self) -> Bytes {
        mem::take(&mut self.reply).into()
    }

    /// How many frames came since this was asked last.
    pub fn take_frames(&mut self) -> usize {
        mem::take(&mut self.frames)
    }
}

/// Reads and forgets what is there.
fn throw_away(stream: &Stream, turn: &mut Turn) -> Next {
    let mut rest = [0; 4096];
    while !turn.is_spent() {
        match stream.try_read(&mut rest) {
            Ok(read @ 1..) => turn.spend_bytes(read),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Next::Idle,
            Ok(0) | Err(_) => return Next::Closed,
        }
    }
    Next::Later
}

/// Reads what has arrived at a socket.
struct Socket<'a>(&'a Stream);

impl Read for Socket<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(buffer)
    }
}

/// Lets the parser read within the turn, and keeps what it writes.
struct Tap<'a, R> {
    source: R,
    turn: &'a mut Turn,
    heads: &'a mut Heads,
    frames: &'a mut usize,
    hold: &'a mut Hold,
    reply: &'a mut Vec<u8>,
}

impl<R: Read> Read for Tap<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.turn.is_spent() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let most = buffer.len().min(self.turn.bytes());
        let read = self.source.read(&mut buffer[..most])?;
        self.turn.spend_bytes(read);
        let before = self.heads.continued;
        *self.frames += self.heads.see(&buffer[..read]);
        // A whole message is counted when the parser gives it; a piece of one only here.
        self.turn.spend_packets(self.heads.continued - before);
        if self.heads.too_many {
            return Err(io::ErrorKind::InvalidData.into());
        }
        if !self.hold.grow_to(self.heads.held) {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        Ok(read)
    }
}

impl<R> Write for Tap<'_, R> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // Of several pings the newest one is answered (RFC 6455, section 5.5.3). The parser writes whole frames.
        if bytes.first() == Some(&PONG) {
            self.reply.clear();
        }
        self.reply.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Counts frames by their heads (RFC 6455, section 5.2) as the bytes pass: the parser says nothing of the pieces that a
/// message comes in.
#[derive(Debug, Default)]
struct Heads {
    /// The bytes of the head that were seen.
    seen: u8,
    /// The bytes of the length that are still to come.
    length: u8,
    is_masked: bool,
    /// The frame is of a message, and not a control frame.
    is_data: bool,
    /// The bytes of the current message that came so far.
    held: usize,
    /// The bytes of mask and payload that are still to come.
    rest: u64,
    /// The pieces of the current message.
    fragments: usize,
    /// All pieces after the first ones of their messages.
    continued: usize,
    /// A message had more pieces than it may have.
    too_many: bool,
}

impl Heads {
    /// Looks at bytes that follow those before; how many frames begin in them.
    fn see(&mut self, mut bytes: &[u8]) -> usize {
        let mut frames = 0;
        while let Some((byte, after)) = bytes.split_first() {
            if self.seen == 2 && self.length == 0 {
                let part = usize::try_from(self.rest).map_or(bytes.len(), |rest| rest.min(bytes.len()));
                self.rest -= part as u64;
                self.held += if self.is_data { part } else { 0 };
                bytes = &bytes[part..];
                self.seen = if self.rest == 0 { 0 } else { 2 };
                continue;
            }
            bytes = after;
            match self.seen {
                0 => {
                    frames += 1;
                    self.seen = 1;
                    self.is_data = byte & 0x0f <= 2;
                    match byte & 0x0f {
                        0 => {
                            self.fragments += 1;
                            self.continued += 1;
                            self.too_many |= self.fragments > MAX_FRAGMENTS;
                        }
                        1 | 2 => (self.fragments, self.held) = (1, 0),
                        _ => {}
                    }
                }
                1 => {
                    self.seen = 2;
                    self.is_masked = byte & 0x80 != 0;
                    (self.length, self.rest) = match byte & 0x7f {
                        126 => (2, 0),
                        127 => (8, 0),
                        short => (0, u64::from(short)),
                    };
                }
                _ => {
                    self.length -= 1;
                    self.rest = self.rest << 8 | u64::from(*byte);
                }
            }
            if self.seen == 2 && self.length == 0 {
                self.rest = self.rest.saturating_add(if self.is_masked { 4 } else { 0 });
                self.seen = if self.rest == 0 { 0 } else { 2 };
            }
        }
        frames
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::Unlimited;
    use crate::turn::{BYTES, PACKETS};

    const MAX: usize = 1_000_000;

    fn memory() -> Arc<dyn Memory> {
        Arc::new(Unlimited)
    }

    /// A client's frame with a mask of zeros.
    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut out = vec![first];
        match payload.len() {
            short @ 0..=125 => out.push(0x80 | short as u8),
            long => {
                out.push(0x80 | 126);
                out.extend((long as u16).to_be_bytes());
            }
        }
        [&out[..], &[0; 4], payload].concat()
    }

    #[test]
    fn frames_are_counted_however_they_are_cut() {
        let large = [vec![0x82, 0xff], 70_000_u64.to_be_bytes().to_vec(), vec![0; 70_004]].concat();
        let bytes = [
            frame(0x81, b"a"),
            frame(0x81, b""),
            frame(0x01, &[7; 300]),
            frame(0x89, b"p"),
            frame(0x00, b""),
            frame(0x80, b"z"),
            vec![0x8a, 0],
            large,
            frame(0x81, b"end"),
        ]
        .concat();
        for piece in [1, 2, 3, 7, 1024, bytes.len()] {
            let mut heads = Heads::default();
            let frames: usize = bytes.chunks(piece).map(|piece| heads.see(piece)).sum();
            assert_eq!((frames, heads.continued, heads.fragments, heads.rest), (9, 2, 1, 0), "cut at {piece}");
        }
    }

    /// A source that never ends.
    struct Endless<'a>(&'a [u8], usize);

    impl Read for Endless<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            for byte in &mut *buffer {
                *byte = self.0[self.1 % self.0.len()];
                self.1 += 1;
            }
            Ok(buffer.len())
        }
    }

    #[test]
    fn a_message_in_endless_pieces_ends_each_turn_then_fails() {
        let mut reader = Reader::new(&Bytes::from(frame(0x01, b"4")), MAX, &memory());
        let piece = frame(0x00, b"");
        let mut source = Endless(&piece, 0);
        let mut turns = 0;
        let end = loop {
            match reader.next_from(&mut source, &mut Turn::begin()) {
                Next::Later => turns += 1,
                other => break other,
            }
            assert!(turns < 100);
        };
        assert_eq!(end, Next::Failed(1009, "message in too many pieces"));
        assert!(turns >= 1 && reader.take_frames() > MAX_FRAGMENTS);
    }

    #[test]
    fn a_large_message_takes_several_turns_and_arrives() {
        let payload = vec![b'4'; 60_000];
        let bytes = [frame(0x01, &payload), frame(0x80, &payload)].concat();
        let (mut reader, mut source, mut turns) = (Reader::new(&Bytes::new(), MAX, &memory()), &bytes[..], 0);
        let message = loop {
            match reader.next_from(&mut source, &mut Turn::begin()) {
                Next::Later => turns += 1,
                other => break other,
            }
        };
        assert!(turns >= bytes.len() / BYTES && matches!(message, Next::Message(m) if m.len() == 120_000));
    }

    #[test]
    fn of_many_pings_the_newest_is_answered() {
        let pings: Vec<u8> = (0..PACKETS as u8).flat_map(|n| frame(0x89, &[n])).collect();
        let (mut reader, mut source) = (Reader::new(&Bytes::new(), MAX, &memory()), &pings[..]);
        while let Next::Message(Message::Ping(_)) = reader.next_from(&mut source, &mut Turn::begin()) {}
        assert_eq!(reader.take_reply(), &[0x8a, 1, PACKETS as u8 - 1][..]);
    }
}
