//! What one connection may take of one turn of the event loop: bytes, packets and time. There is one thread for all
//! clients, so whoever has spent its turn lets the others have theirs before it goes on. Asked before work is done.

use std::time::{Duration, Instant};

/// The most bytes that are read of one connection in a turn.
pub const BYTES: usize = 64 << 10;
/// The most packets, frames or events that are handled in a turn.
pub const PACKETS: usize = 32;
/// The longest turn. A packet that takes longer by itself is the last one of its turn.
pub const TIME: Duration = Duration::from_millis(2);

/// See the module.
#[derive(Debug, Clone, Copy)]
pub struct Turn {
    bytes: usize,
    packets: usize,
    ends: Instant,
}

impl Turn {
    /// A turn that begins now.
    pub fn begin() -> Self {
        Self { bytes: BYTES, packets: PACKETS, ends: Instant::now() + TIME }
    }

    /// How many bytes may still be read.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// So many bytes were read, or made.
    pub fn spend_bytes(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    /// So many packets were handled.
    pub fn spend_packets(&mut self, packets: usize) {
        self.packets = self.packets.saturating_sub(packets);
    }

    /// Whether nothing more is to be done in this turn. One in which nothing was done yet is not, however late it is, so
    /// that there is progress on the slowest machine.
    pub fn is_spent(&self) -> bool {
        let is_fresh = self.bytes == BYTES && self.packets == PACKETS;
        self.bytes == 0 || self.packets == 0 || (!is_fresh && Instant::now() >= self.ends)
    }

    /// Lets the others have their turns if this one is spent, and begins the next one.
    pub async fn rest(&mut self) {
        if self.is_spent() {
            tokio::task::yield_now().await;
            *self = Self::begin();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn a_turn_ends_by_bytes_packets_or_time() {
        let fresh = Turn { ends: Instant::now() + Duration::from_secs(60), ..Turn::begin() };
        let (mut bytes, mut packets) = (fresh, fresh);
        bytes.spend_bytes(BYTES - 1);
        packets.spend_packets(PACKETS - 1);
        assert!(!bytes.is_spent() && !packets.is_spent());
        assert_eq!(bytes.bytes(), 1);
        bytes.spend_bytes(2);
        packets.spend_packets(1);
        assert!(bytes.is_spent() && packets.is_spent());
        let mut late = Turn { ends: Instant::now(), ..fresh };
        assert!(!late.is_spent(), "nothing was done");
        late.spend_packets(1);
        assert!(late.is_spent());
        late.rest().await;
        assert_eq!((late.bytes, late.packets), (BYTES, PACKETS));
    }

    #[tokio::test(flavor = "current_thread")]
    async fn others_run_when_a_turn_is_spent() {
        let other = tokio::spawn(async {});
        let mut turn = Turn { ends: Instant::now() + Duration::from_secs(60), ..Turn::begin() };
        turn.rest().await;
        assert!(!other.is_finished(), "nothing is spent");
        turn.spend_bytes(BYTES);
        turn.rest().await;
        assert!(other.is_finished());
    }
}
