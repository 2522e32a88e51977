//! The allocator of the transmit pool: a ring of bytes, freed in the order of
//! allocation, so that a segment of 64 KiB is contiguous.

/// Buffers start at multiples of this many bytes, a cache line.
const ALIGNMENT: usize = 64;

/// Which part of a pool is in use. Knows offsets, touches no memory.
#[derive(Debug)]
pub struct PoolRing {
    size: usize,
    /// Where the next buffer starts, if it fits before the end.
    head: usize,
    /// Where the oldest buffer in use starts.
    tail: usize,
    buffers: usize,
}

impl PoolRing {
    /// A pool of `size` bytes, a multiple of 64.
    pub const fn new(size: usize) -> Self {
        Self {
            size,
            head: 0,
            tail: 0,
            buffers: 0,
        }
    }

    /// Where a buffer of `length` bytes could be, or `None` if there is no room
    /// now. Takes nothing yet.
    pub fn find(&self, length: usize) -> Option<usize> {
        let length = length.max(1).next_multiple_of(ALIGNMENT);
        if self.buffers == 0 {
            return (length <= self.size).then_some(0);
        }
        if self.head > self.tail {
            if length <= self.size - self.head {
                return Some(self.head);
            }
            return (length <= self.tail).then_some(0);
        }
        (length <= self.tail - self.head).then_some(self.head)
    }

    /// Takes a buffer at `offset`, as found by [`Self::find`] for this length
    /// or more, with no call in between.
    pub fn take(&mut self, offset: usize, length: usize) {
        if self.buffers == 0 {
            self.tail = offset;
        }
        self.head = offset + length.max(1).next_multiple_of(ALIGNMENT);
        self.buffers += 1;
    }

    /// Frees the oldest buffer; `next` is where the one after it starts.
    pub fn release(&mut self, next: Option<usize>) {
        self.buffers = self.buffers.saturating_sub(1);
        match next {
            Some(offset) if self.buffers > 0 => self.tail = offset,
            _ => {
                self.buffers = 0;
                self.head = 0;
                self.tail = 0;
            }
        }
    }

    /// Buffers in use.
    pub fn buffers(&self) -> usize {
        self.buffers
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    proptest! {
        #[test]
        fn buffers_in_use_never_overlap(steps in prop::collection::vec((any::<bool>(), 1usize..3000), 1..400)) {
            let size = 8192;
            let mut pool = PoolRing::new(size);
            let mut model: VecDeque<(usize, usize)> = VecDeque::new();
            for (allocate, length) in steps {
                if allocate {
                    if let Some(offset) = pool.find(length) {
                        prop_assert!(offset + length <= size);
                        prop_assert!(offset.is_multiple_of(ALIGNMENT));
                        for (start, used) in &model {
                            prop_assert!(offset + length <= *start || start + used <= offset);
                        }
                        pool.take(offset, length);
                        model.push_back((offset, length));
                    } else {
                        prop_assert!(!model.is_empty());
                    }
                } else if model.pop_front().is_some() {
                    pool.release(model.front().map(|buffer| buffer.0));
                }
                prop_assert_eq!(pool.buffers(), model.len());
            }
        }
    }

    #[test]
    fn a_full_segment_always_finds_room_in_an_empty_pool() {
        let mut pool = PoolRing::new(0x4_0000);
        for _ in 0..100 {
            let offset = pool.find(65_549).unwrap();
            pool.take(offset, 65_549);
            pool.release(None);
        }
    }
}
