//! The memory a channel lives in, as a trait: mapped memory in a protection
//! domain, loom's atomics in the model checker.

use core::sync::atomic::{Ordering, fence};
use segue_shared_memory::Region;

/// Memory that the peer may read or write at any time.
///
/// Offsets are in bytes; an access outside panics, so callers check first.
pub trait SharedMemory {
    /// Length in bytes.
    fn length(&self) -> usize;
    /// Loads the word at `offset`, a multiple of 4.
    fn load32(&self, offset: usize, order: Ordering) -> u32;
    /// Stores the word at `offset`, a multiple of 4.
    fn store32(&self, offset: usize, value: u32, order: Ordering);
    /// Loads the word at `offset`, a multiple of 8, relaxed.
    fn load64(&self, offset: usize) -> u64;
    /// Stores the word at `offset`, a multiple of 8, relaxed.
    fn store64(&self, offset: usize, value: u64);
    /// Copies bytes out, from `offset`.
    fn copy_out(&self, offset: usize, to: &mut [u8]);
    /// Copies bytes in, at `offset`.
    fn copy_in(&self, offset: usize, from: &[u8]);
    /// A sequentially consistent fence.
    fn fence(&self);
}

impl SharedMemory for Region {
    #[inline]
    fn length(&self) -> usize {
        Region::length(self)
    }
    #[inline]
    fn load32(&self, offset: usize, order: Ordering) -> u32 {
        Region::load32(self, offset, order)
    }
    #[inline]
    fn store32(&self, offset: usize, value: u32, order: Ordering) {
        Region::store32(self, offset, value, order);
    }
    #[inline]
    fn load64(&self, offset: usize) -> u64 {
        Region::load64(self, offset, Ordering::Relaxed)
    }
    #[inline]
    fn store64(&self, offset: usize, value: u64) {
        Region::store64(self, offset, value, Ordering::Relaxed);
    }
    #[inline]
    fn copy_out(&self, offset: usize, to: &mut [u8]) {
        self.read(offset, to);
    }
    #[inline]
    fn copy_in(&self, offset: usize, from: &[u8]) {
        self.write(offset, from);
    }
    #[inline]
    fn fence(&self) {
        fence(Ordering::SeqCst);
    }
}
