//! Regions made of ordinary memory, for tests on the host.

extern crate std;

use crate::{PrivateRegion, Region};
use core::ptr::NonNull;
use std::boxed::Box;
use std::vec;

/// A zeroed region of `length` bytes, which is never freed.
pub fn leaked_region(length: usize) -> Region {
    let memory: &'static mut [u64] = Box::leak(vec![0; length.div_ceil(8)].into_boxed_slice());
    // SAFETY: aligned to 8 bytes, never freed, and the only reference to it ends here.
    unsafe { Region::new(NonNull::from(memory).cast(), length) }
}

/// A zeroed private region of `length` bytes, which is never freed, and the
/// same memory as its readers see it. Do not write to the latter.
pub fn leaked_private_region(length: usize) -> (PrivateRegion, Region) {
    let memory: &'static mut [u64] = Box::leak(vec![0; length.div_ceil(8)].into_boxed_slice());
    let base = NonNull::from(memory).cast();
    // SAFETY: as above; that nobody else writes is the caller's part, and in a
    // test nobody reads while a slice of it is borrowed.
    unsafe { (PrivateRegion::new(base, length), Region::new(base, length)) }
}
