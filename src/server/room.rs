//! How much memory large answers and large bodies may take, all of them together.
//!
//! One answer and one body have bounds of their own, but a thousand connections times that bound is more than a machine
//! has, and it costs a client nothing: it asks for a page of the history and does not read it, or it sends all of a body
//! but the last byte. What is small needs no room, so that events are taken and questions answered whoever misbehaves.
//!
//! Who is sent the past, over Socket.IO or as a stream, has a room of its own: it waits there for its turn as long as that
//! takes, and those who ask once over HTTP need not wait behind it.

use std::time::Duration;

use axum::http::StatusCode;
use bytes::Bytes;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::answer::Refusal;
use super::tide::Tide;
use socketio::outgoing::Outgoing;

/// What is counted, bytes.
const UNIT: usize = 1 << 10;
/// All large answers together, and all large bodies together, in units: 64 MiB each.
const ROOM: usize = (64 << 20) / UNIT;
/// All large pieces of the past together, in units.
const PAST_ROOM: usize = (32 << 20) / UNIT;
/// What has at most so many bytes needs no room.
pub const SMALL: usize = 64 << 10;
/// What a large piece of the past takes until it is encoded, for each byte of its events: an event may go out under two names.
const TIMES: usize = 2;
/// What is set aside for an answer before its size is known, in units: as much as one page of the store holds.
const ANSWER: u32 = (8 << 20) / UNIT as u32;
/// How long a client waits for room; one that does not read its answer is cut off in twice that time.
const PATIENCE: Duration = Duration::from_secs(5);

static ANSWERS: Hall = Hall::new(ROOM);
static BODIES: Hall = Hall::new(ROOM);
static PAST: Hall = Hall::new(PAST_ROOM);

/// All the memory for one purpose.
#[derive(Debug)]
struct Hall {
    free: Semaphore,
    /// After it was more than half full, what is freed goes back to the system.
    taken: Tide,
}

impl Hall {
    const fn new(units: usize) -> Self {
        Self { free: Semaphore::const_new(units), taken: Tide::new(units / 2) }
    }

    fn room(&'static self, permit: SemaphorePermit<'static>) -> Room {
        self.taken.rise(permit.num_permits());
        Room { held: Some((self, permit)) }
    }
}

/// A part of that memory, given back when it is dropped.
#[derive(Debug, Default)]
pub struct Room {
    held: Option<(&'static Hall, SemaphorePermit<'static>)>,
}

impl Drop for Room {
    fn drop(&mut self) {
        self.shrink_to(0);
    }
}

/// Room for one answer, as soon as there is some.
///
/// # Errors
/// 503 `too_many_answers` when there is none in time.
pub async fn for_answer() -> Result<Room, Refusal> {
    for_units(ANSWER).await
}

/// Room for an answer that takes so many bytes while it is made.
///
/// # Errors
/// As [`for_answer`].
pub async fn for_answer_of(bytes: usize) -> Result<Room, Refusal> {
    match bytes {
        0..=SMALL => Ok(Room::default()),
        _ => for_units(u32::try_from(bytes.div_ceil(UNIT).min(ROOM)).unwrap_or(ANSWER)).await,
    }
}

/// How much of the past may be read for a client now, and the room for that.
#[derive(Debug)]
pub struct Share {
    /// The most bytes of events.
    pub bytes: usize,
    /// To be held as long as they are.
    pub room: Room,
}

impl Default for Share {
    /// What needs no room.
    fn default() -> Self {
        Self { bytes: SMALL, room: Room::default() }
    }
}

impl Share {
    /// Enough for an event of that size, once it is this one's turn. Whoever waits must not hold another.
    pub async fn of(bytes: usize) -> Self {
        let units = bytes.saturating_mul(TIMES).div_ceil(UNIT).min(PAST_ROOM);
        let permit = PAST.free.acquire_many(u32::try_from(units).unwrap_or(u32::MAX)).await;
        // It is never closed.
        Self { bytes, room: permit.map_or_else(|_| Room::default(), |permit| PAST.room(permit)) }
    }
}

impl Share {
    /// The packets, with the room that they need until every client has taken them.
    pub fn sent_in(mut self, packets: Outgoing) -> Outgoing {
        if self.room.held.is_none() {
            return packets;
        }
        self.room.shrink_to(packets.size());
        packets.holding(self.room)
    }
}

async fn for_units(units: u32) -> Result<Room, Refusal> {
    match tokio::time::timeout(PATIENCE, ANSWERS.free.acquire_many(units)).await {
        Ok(Ok(permit)) => Ok(ANSWERS.room(permit)),
        _ => {
            let message =
                "large answers that others have not read yet take all the memory there is for them; try again";
            Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "too_many_answers", message))
        }
    }
}

impl Room {
    /// Room for a body that has so many bytes now; false when there is none.
    pub fn grow_for_body(&mut self, bytes: usize) -> bool {
        let wanted = if bytes <= SMALL { 0 } else { bytes.div_ceil(UNIT).min(ROOM) };
        let has = self.held.as_ref().map_or(0, |(_, permit)| permit.num_permits());
        let Ok(more) = u32::try_from(wanted.saturating_sub(has)) else { return false };
        if more == 0 {
            return true;
        }
        let Ok(permit) = BODIES.free.try_acquire_many(more) else { return false };
        match &mut self.held {
            Some((hall, all)) => {
                hall.taken.rise(permit.num_permits());
                all.merge(permit);
            }
            None => *self = BODIES.room(permit),
        }
        true
    }

    /// Gives back what is not needed for so many bytes.
    pub fn shrink_to(&mut self, bytes: usize) {
        let Some((hall, permit)) = &mut self.held else { return };
        let surplus = permit.num_permits().saturating_sub(bytes.div_ceil(UNIT));
        drop(permit.split(surplus));
        hall.taken.fall(surplus);
    }

    /// Ties the room that these bytes need to them, for as long as anybody holds them, and gives back the rest.
    pub fn held_by<B: AsRef<[u8]> + Into<Bytes> + Send + 'static>(mut self, bytes: B) -> Bytes {
        if self.held.is_none() {
            return bytes.into();
        }
        self.shrink_to(bytes.as_ref().len());
        Bytes::from_owner(Held { bytes, _room: self })
    }
}

/// In this order: the bytes are freed before their room.
struct Held<B> {
    bytes: B,
    _room: Room,
}

impl<B: AsRef<[u8]>> AsRef<[u8]> for Held<B> {
    fn as_ref(&self) -> &[u8] {
        self.bytes.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One test, for the room is the process's.
    #[tokio::test(start_paused = true)]
    async fn room_is_what_is_held_and_comes_back() {
        let free = || ANSWERS.free.available_permits();
        let answer = for_answer().await.unwrap().held_by(vec![b'x'; 1_000_000]);
        assert_eq!(free(), ROOM - 977);
        let copy = answer.clone();
        drop(answer);
        assert_eq!((copy.len(), free()), (1_000_000, ROOM - 977), "held as long as a copy is");
        drop(copy);
        assert_eq!(free(), ROOM);
        let mut all = Vec::new();
        while free() >= ANSWER as usize {
            all.push(for_answer().await.unwrap());
        }
        assert_eq!(for_answer().await.unwrap_err().code, "too_many_answers");
        drop(all);
        assert!(for_answer().await.is_ok());
        assert!(for_answer_of(SMALL).await.unwrap().held.is_none());
        let whole = for_answer_of(usize::MAX).await.unwrap();
        assert_eq!((free(), for_answer_of(SMALL + 1).await.unwrap_err().code), (0, "too_many_answers"));
        drop(whole);

        let mut small = Room::default();
        assert!(small.grow_for_body(SMALL) && small.held.is_none());
        let mut large: Vec<Room> = (0..8).map(|_| Room::default()).collect();
        assert!(large.iter_mut().all(|room| room.grow_for_body(4 << 20) && room.grow_for_body(8 << 20)));
        assert!(!Room::default().grow_for_body(SMALL + 1));
        assert!(Room::default().grow_for_body(SMALL), "what is small needs no room");
        drop(large.pop().unwrap().held_by(vec![0; 10]));
        assert!(Room::default().grow_for_body(8 << 20));
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_sent_the_past_waits_for_its_turn() {
        let free = || PAST.free.available_permits();
        let mut first = Share::of(12 << 20).await;
        assert_eq!((first.bytes, free()), (12 << 20, 8 << 10));
        let mut second = tokio::spawn(Share::of(12 << 20));
        assert!(tokio::time::timeout(Duration::from_secs(600), &mut second).await.is_err());
        first.room.shrink_to(8 << 20);
        second.await.unwrap();
        drop(first);
        assert_eq!(free(), PAST_ROOM);
        assert_eq!(Share::of(usize::MAX).await.bytes, usize::MAX, "alone, what is larger than the room");
        assert_eq!(free(), PAST_ROOM);
    }
}
