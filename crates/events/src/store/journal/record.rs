//! One event as bytes: pure, and safe on any input.
//!
//! All numbers are little-endian. A record is
//!
//! | bytes | what |
//! |---|---|
//! | 4 | `mpmE` |
//! | 4 | CRC-32 (IEEE) of everything that follows, the length included |
//! | 4 | the length of what follows |
//! | 8 | the event's number |
//! | 8 | when it was accepted, microseconds since 1970-01-01 UTC, signed |
//! | 4, 4, 4 | the lengths of name, subtype and session; a session length of `ffffffff` says that there is none |
//! | 8, 4, 4 | only where the highest bit of the name's length is set, for an event of another node: its number there, and the lengths of node and epoch |
//! | ... | node and epoch of such an event, name, subtype, session, and up to the end the payload; each UTF-8 |
//!
//! The event of a post with an idempotency key has that before its record, and both count as one. A version that knows
//! no keys passes over these bytes and finds the event behind them.
//!
//! | bytes | what |
//! |---|---|
//! | 4 | `mpmK` |
//! | 4 | CRC-32 of the key |
//! | 16 | the key |

use std::sync::Arc;

use jiff::Timestamp;

use crate::key::Key;
use crate::model::{Draft, Event, Origin};

/// What a record begins with.
pub(super) const MAGIC: [u8; 4] = *b"mpmE";
/// The bytes before those that the length counts.
const HEAD: usize = 12;
/// The bytes that every record has after them.
const FIXED: usize = 28;
/// The length of a session that is not there.
const NO_SESSION: u32 = u32::MAX;
/// Set in the length of the name where an [`Origin`] follows the fixed part, ...
const ELSEWHERE: u32 = 1 << 31;
/// ... in so many bytes, and its texts.
const ORIGIN: usize = 16;
/// What the key before a record begins with, ...
const KEYED: [u8; 4] = *b"mpmK";
/// ... and all its bytes.
const KEY: usize = 24;
/// The longest record; no body that is accepted comes near.
const MAX: usize = 1 << 30;

/// An event as it lies in the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// Its number.
    pub seq: u64,
    /// When it was accepted.
    pub accepted: Timestamp,
    /// The idempotency key it was posted with.
    pub key: Option<Key>,
    /// Node, epoch and number where it was accepted first, if not here.
    pub origin: Option<(&'a str, &'a str, u64)>,
    /// See [`Draft`].
    pub name: &'a str,
    /// See [`Draft`].
    pub subtype: &'a str,
    /// See [`Draft`].
    pub session: Option<&'a str>,
    /// See [`Draft`].
    pub payload: &'a str,
}

/// Why bytes do not begin with a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// So far they could, but they end too soon.
    #[error("the record is cut off")]
    Short,
    /// They do not, whatever would follow.
    #[error("the record is damaged")]
    Damaged,
}

/// Reads the record that `bytes` begin with, and says how many bytes it takes. What follows it is not looked at.
///
/// # Errors
///
/// [`Fault`]. Never panics, and never reads or allocates by a length that `bytes` do not have.
pub fn parse(bytes: &[u8]) -> Result<(Record<'_>, usize), Fault> {
    let total = total(bytes)?;
    let (key, before) = key(bytes)?;
    let whole = bytes.get(before..total).ok_or(Fault::Short)?;
    if u32_at(whole, 4) != crc32fast::hash(&whole[8..]) {
        return Err(Fault::Damaged);
    }
    let body = &whole[HEAD..];
    let accepted = Timestamp::from_microsecond(u64_at(body, 8).cast_signed()).map_err(|_| Fault::Damaged)?;
    let session_len = u32_at(body, 24);
    let named = u32_at(body, 16);
    let far = named & ELSEWHERE != 0;
    let texts = FIXED + if far { ORIGIN } else { 0 };
    let mut rest = body.get(texts..).ok_or(Fault::Damaged)?;
    let mut take = |len: u32| {
        let (text, after) = rest.split_at_checked(len as usize).ok_or(Fault::Damaged)?;
        rest = after;
        std::str::from_utf8(text).map_err(|_| Fault::Damaged)
    };
    let origin = match far {
        true => Some((take(u32_at(body, FIXED + 8))?, take(u32_at(body, FIXED + 12))?, u64_at(body, FIXED))),
        false => None,
    };
    let name = take(named & !ELSEWHERE)?;
    let subtype = take(u32_at(body, 20))?;
    let session = if session_len == NO_SESSION { None } else { Some(take(session_len)?) };
    let payload = std::str::from_utf8(rest).map_err(|_| Fault::Damaged)?;
    Ok((Record { seq: u64_at(body, 0), accepted, key, origin, name, subtype, session, payload }, total))
}

/// The key that `bytes` begin with, and how many bytes it takes: none and 0 where a record begins at once.
fn key(bytes: &[u8]) -> Result<(Option<Key>, usize), Fault> {
    if !bytes.starts_with(&KEYED) {
        return Ok((None, 0));
    }
    let whole: &[u8; KEY] = bytes.first_chunk().ok_or(Fault::Short)?;
    let mut key = [0; 16];
    key.copy_from_slice(&whole[8..]);
    if u32_at(whole, 4) != crc32fast::hash(&key) {
        return Err(Fault::Damaged);
    }
    Ok((Some(Key::from_u128(u128::from_le_bytes(key))), KEY))
}

/// How many bytes the record takes that `bytes` begin with, its key included; `Short` until that can be told.
pub(super) fn total(bytes: &[u8]) -> Result<usize, Fault> {
    let (_, before) = key(bytes)?;
    Ok(before + without_key(&bytes[before..])?)
}

fn without_key(bytes: &[u8]) -> Result<usize, Fault> {
    let known = bytes.len().min(MAGIC.len());
    if bytes[..known] != MAGIC[..known] {
        return Err(Fault::Damaged);
    }
    if bytes.len() < HEAD {
        return Err(Fault::Short);
    }
    let length = u32_at(bytes, 8) as usize;
    if (FIXED..=MAX).contains(&length) { Ok(HEAD + length) } else { Err(Fault::Damaged) }
}

/// Appends the key of the event whose record is appended next.
pub fn encode_key(out: &mut Vec<u8>, key: Key) {
    let key = key.as_u128().to_le_bytes();
    out.extend_from_slice(&KEYED);
    out.extend_from_slice(&crc32fast::hash(&key).to_le_bytes());
    out.extend_from_slice(&key);
}

/// Appends an event's record.
///
/// # Errors
///
/// When the event is longer than a record can be; `out` is as it was then.
pub fn encode(
    out: &mut Vec<u8>,
    seq: u64,
    accepted: Timestamp,
    origin: Option<&Origin>,
    draft: &Draft,
) -> Result<(), std::io::Error> {
    let session = draft.session.as_deref();
    let texts = [draft.name.as_str(), &draft.subtype, session.unwrap_or_default(), &draft.payload];
    let far = origin.map_or(0, |o| ORIGIN + o.node.len() + o.epoch.len());
    let length = FIXED + far + texts.iter().map(|t| t.len()).sum::<usize>();
    if length > MAX {
        return Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, "the event is larger than 1 GiB"));
    }
    // Below MAX, so each fits.
    let len = |text: &str| (text.len() as u32).to_le_bytes();
    let start = out.len();
    out.reserve(HEAD + length);
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&(length as u32).to_le_bytes());
    out.extend_from_slice(&seq.to_le_bytes());
    out.extend_from_slice(&accepted.as_microsecond().to_le_bytes());
    let mark = if origin.is_some() { ELSEWHERE } else { 0 };
    out.extend_from_slice(&(texts[0].len() as u32 | mark).to_le_bytes());
    out.extend_from_slice(&len(texts[1]));
    out.extend_from_slice(&session.map_or(NO_SESSION.to_le_bytes(), len));
    if let Some(Origin { node, epoch, seq }) = origin {
        out.extend_from_slice(&seq.to_le_bytes());
        out.extend_from_slice(&len(node));
        out.extend_from_slice(&len(epoch));
        out.extend_from_slice(node.as_bytes());
        out.extend_from_slice(epoch.as_bytes());
    }
    for text in texts {
        out.extend_from_slice(text.as_bytes());
    }
    let check = crc32fast::hash(&out[start + 8..]);
    out[start + 4..start + 8].copy_from_slice(&check.to_le_bytes());
    Ok(())
}

impl Record<'_> {
    /// A copy that stands alone.
    pub fn to_event(&self) -> Event {
        Event {
            seq: self.seq,
            accepted: self.accepted,
            origin: self
                .origin
                .map(|(node, epoch, seq)| Arc::new(Origin { node: node.to_owned(), epoch: epoch.to_owned(), seq })),
            draft: Draft {
                name: self.name.to_owned(),
                subtype: self.subtype.to_owned(),
                session: self.session.map(str::to_owned),
                payload: self.payload.into(),
            },
        }
    }
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut number = [0; 4];
    number.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(number)
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut number = [0; 8];
    number.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    prop_compose! {
        fn events()(
            seq in any::<u64>(),
            micros in -1_000_000_000_000_000_i64..4_000_000_000_000_000,
            name in ".{0,20}",
            subtype in ".{0,20}",
            session in proptest::option::of(".{0,20}"),
            payload in ".{0,400}",
            origin in proptest::option::of((".{0,9}", ".{0,9}", any::<u64>())),
        ) -> Event {
            let accepted = Timestamp::from_microsecond(micros).unwrap();
            let origin = origin.map(|(node, epoch, seq)| Arc::new(Origin { node, epoch, seq }));
            Event { seq, accepted, origin, draft: Draft { name, subtype, session, payload: payload.into() } }
        }
    }

    fn keys() -> impl Strategy<Value = Option<Key>> {
        any::<Option<u128>>().prop_map(|key| key.map(Key::from_u128))
    }

    fn bytes(event: &Event, key: Option<Key>) -> Vec<u8> {
        let mut out = Vec::new();
        key.into_iter().for_each(|key| encode_key(&mut out, key));
        encode(&mut out, event.seq, event.accepted, event.origin.as_deref(), &event.draft).unwrap();
        out
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_whatever_follows(
            event in events(),
            key in keys(),
            after in proptest::collection::vec(any::<u8>(), 0..50),
        ) {
            let mut whole = bytes(&event, key);
            let length = whole.len();
            whole.extend(after);
            let (record, taken) = parse(&whole).unwrap();
            prop_assert_eq!((record.key, record.to_event(), taken), (key, event, length));
        }

        #[test]
        fn no_piece_of_a_record_is_one(event in events(), key in keys()) {
            let whole = bytes(&event, key);
            for end in 0..whole.len() {
                prop_assert_eq!(parse(&whole[..end]), Err(Fault::Short));
            }
        }

        #[test]
        fn no_flipped_bit_goes_unseen(
            event in events(),
            key in keys(),
            at in any::<proptest::sample::Index>(),
            bit in 0..8_u32,
        ) {
            let mut whole = bytes(&event, key);
            let at = at.index(whole.len());
            whole[at] ^= 1_u8 << bit;
            prop_assert!(parse(&whole).is_err());
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(mut junk in proptest::collection::vec(any::<u8>(), 0..200), disguise in any::<bool>()) {
            if disguise && junk.len() >= HEAD + FIXED {
                // With the right frame, so that what is inside is looked at.
                let length = (junk.len() - HEAD) as u32;
                junk[..4].copy_from_slice(&MAGIC);
                junk[8..12].copy_from_slice(&length.to_le_bytes());
                let check = crc32fast::hash(&junk[8..]);
                junk[4..8].copy_from_slice(&check.to_le_bytes());
            }
            let _ = parse(&junk);
        }
    }
}
