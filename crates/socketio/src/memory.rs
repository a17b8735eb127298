//! Memory for what is large and not whole yet: bodies, messages in pieces, packets whose attachments are missing.
//!
//! Each has a bound of its own, but a thousand clients times that bound may be more than a machine has, and it costs a
//! client nothing to send all of a message but the last byte. So an application may count what all of them hold together.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

/// What has at most so many bytes is not counted, so that ordinary clients are served whoever misbehaves.
pub const SMALL: usize = 64 << 10;

/// A part of the memory, given back when it is dropped.
pub trait Share: fmt::Debug + Send + Sync {
    /// Makes it large enough for so many bytes; false when there is no memory left for that.
    fn grow_to(&mut self, bytes: usize) -> bool;

    /// Gives back what is not needed for so many bytes.
    fn shrink_to(&mut self, bytes: usize);
}

/// All the memory there is for that.
pub trait Memory: fmt::Debug + Send + Sync {
    /// An empty part of it.
    fn share(&self) -> Box<dyn Share>;

    /// Called after many clients have left: what they held may go back to the operating system.
    fn trim(&self) {}
}

/// As much memory as anybody asks for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Unlimited;

impl Memory for Unlimited {
    fn share(&self) -> Box<dyn Share> {
        Box::new(Self)
    }
}

impl Share for Unlimited {
    fn grow_to(&mut self, _: usize) -> bool {
        true
    }

    fn shrink_to(&mut self, _: usize) {}
}

/// What one client's unfinished message holds; it has no share while that is small.
#[derive(Debug)]
pub struct Hold {
    memory: Arc<dyn Memory>,
    share: Option<Box<dyn Share>>,
}

impl Hold {
    /// Nothing yet.
    pub fn new(memory: &Arc<dyn Memory>) -> Self {
        Self { memory: Arc::clone(memory), share: None }
    }

    /// Makes it large enough for so many bytes; false when there is no memory left for that.
    pub fn grow_to(&mut self, bytes: usize) -> bool {
        if bytes <= SMALL {
            return true;
        }
        self.share.get_or_insert_with(|| self.memory.share()).grow_to(bytes)
    }

    /// Gives all of it back.
    pub fn clear(&mut self) {
        self.share = None;
    }

    /// Ties what these bytes hold to them, for as long as anybody holds them.
    pub fn held_by<B: AsRef<[u8]> + Into<Bytes> + Send + 'static>(self, bytes: B) -> Bytes {
        let Some(mut share) = self.share else { return bytes.into() };
        share.shrink_to(bytes.as_ref().len());
        Bytes::from_owner(Held { bytes, _share: share })
    }
}

/// In this order: the bytes are freed before their share.
struct Held<B> {
    bytes: B,
    _share: Box<dyn Share>,
}

impl<B: AsRef<[u8]>> AsRef<[u8]> for Held<B> {
    fn as_ref(&self) -> &[u8] {
        self.bytes.as_ref()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// So much, shared by all.
    #[derive(Debug)]
    pub(crate) struct Limited(pub(crate) Arc<AtomicUsize>);

    #[derive(Debug)]
    struct Part(Arc<AtomicUsize>, usize);

    impl Memory for Limited {
        fn share(&self) -> Box<dyn Share> {
            Box::new(Part(Arc::clone(&self.0), 0))
        }
    }

    impl Share for Part {
        fn grow_to(&mut self, bytes: usize) -> bool {
            let more = bytes.saturating_sub(self.1);
            let took = self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, |free| free.checked_sub(more)).is_ok();
            self.1 += if took { more } else { 0 };
            took
        }

        fn shrink_to(&mut self, bytes: usize) {
            let surplus = self.1.saturating_sub(bytes);
            self.0.fetch_add(surplus, Ordering::AcqRel);
            self.1 -= surplus;
        }
    }

    impl Drop for Part {
        fn drop(&mut self) {
            self.shrink_to(0);
        }
    }

    #[test]
    fn hold_counts_large_bytes_until_they_are_dropped() {
        let free = Arc::new(AtomicUsize::new(200_000));
        let memory: Arc<dyn Memory> = Arc::new(Limited(Arc::clone(&free)));
        let left = || free.load(Ordering::Acquire);
        let (mut one, mut two) = (Hold::new(&memory), Hold::new(&memory));
        assert!(one.grow_to(SMALL) && left() == 200_000, "what is small is not counted");
        assert!(one.grow_to(150_000) && !two.grow_to(100_000) && two.grow_to(SMALL));
        let bytes = one.held_by(vec![0; 80_000]);
        assert_eq!(left(), 120_000);
        let copy = bytes.clone();
        drop(bytes);
        assert!(two.grow_to(100_000));
        drop(copy);
        two.clear();
        assert_eq!(left(), 200_000);
    }
}
