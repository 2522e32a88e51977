//! Regions made of ordinary memory, for tests on the host.

extern crate std;

use crate::Region;
use core::ptr::NonNull;
use std::boxed::Box;
use std::vec;

/// A zeroed region of `length` bytes, which is never freed.
pub fn leaked_region(length: usize) -> Region {
    let memory: &'static mut [u64] = Box::leak(vec![0; length.div_ceil(8)].into_boxed_slice());
    // SAFETY: aligned to 8 bytes, never freed, and the only reference to it ends here.
    unsafe { Region::new(NonNull::from(memory).cast(), length) }
}
