//! Regions made of ordinary memory, for tests on the host; and writers that die.

extern crate std;

use crate::{PrivateRegion, Region};
use core::cell::Cell;
use core::ptr::NonNull;
use std::boxed::Box;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::vec;

std::thread_local! {
    /// Stores that this thread may still make; `None`: as many as it likes.
    static STORES_LEFT: Cell<Option<u64>> = const { Cell::new(None) };
}

/// How a program ends that dies.
struct Death;

/// Runs `act` as a program that dies after so many stores to any [`Region`]: the next one does
/// not happen, or half of it if it is a copy of many bytes. What it returns, if it lives so long.
///
/// What the program has in its own memory must be dropped with it.
pub fn with_death_after<R>(stores: u64, act: impl FnOnce() -> R) -> Option<R> {
    STORES_LEFT.set(Some(stores));
    let result = catch_unwind(AssertUnwindSafe(act));
    STORES_LEFT.set(None);
    match result {
        Ok(result) => Some(result),
        Err(panic) if panic.is::<Death>() => None,
        Err(panic) => resume_unwind(panic),
    }
}

/// Notes a store that is about to be made.
pub(crate) fn store() {
    copy(0, |_| {});
}

/// Notes a copy of `length` bytes that is about to be made. Of the last one before death
/// `partly` is done first, with fewer bytes.
pub(crate) fn copy(length: usize, partly: impl FnOnce(usize)) {
    match STORES_LEFT.get() {
        None => {}
        Some(0) => {
            STORES_LEFT.set(None);
            partly(length / 2);
            // Unlike a panic this does not end a fuzzer.
            resume_unwind(Box::new(Death));
        }
        Some(left) => STORES_LEFT.set(Some(left - 1)),
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;
    use core::sync::atomic::Ordering::Relaxed;

    #[test]
    fn a_writer_dies_between_two_stores() {
        for stores in 0..4 {
            let region = leaked_region(32);
            let lived = with_death_after(stores, || {
                region.store32(0, 1, Relaxed);
                region.store64(8, 1, Relaxed);
                region.write(16, &[1; 16]);
            });
            assert_eq!(lived.is_some(), stores == 3);
            assert_eq!(region.load32(0, Relaxed), u32::from(stores > 0));
            assert_eq!(region.load64(8, Relaxed), u64::from(stores > 1));
            let mut bytes = [0; 16];
            region.read(16, &mut bytes);
            let written = [0, 0, 8, 16][stores as usize];
            assert!(bytes[..written].iter().all(|byte| *byte == 1));
            assert!(bytes[written..].iter().all(|byte| *byte == 0));
        }
    }

    #[test]
    #[should_panic = "another reason"]
    fn a_panic_is_no_death() {
        with_death_after(5, || panic!("another reason"));
    }
}
