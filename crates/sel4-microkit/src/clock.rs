//! The time since the machine started, from the processor's time stamp counter.

use core::sync::atomic::Ordering;
use segue_shared_memory::Region;

/// Bytes of the header that precedes a region filled from the boot information:
/// identifier and length.
const HEADER: usize = 16;

/// A clock that counts from the machine's start and is the same in all
/// protection domains. Reading it takes no system call.
///
/// Its rate is what was measured at boot. The timer protection domain's
/// timeouts do not depend on it.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// Nanoseconds in a tick, times 2^32.
    nanoseconds_per_tick: u64,
}

impl Clock {
    /// A clock that runs at the frequency in `region`, a memory region that is
    /// filled with `x86_tsc_freq`: a header of two words, then the frequency in
    /// MHz as 32 bits.
    ///
    /// # Panics
    ///
    /// If the kernel measured no frequency.
    pub fn new(region: Region) -> Self {
        Self::with_frequency(region.load32(HEADER, Ordering::Relaxed))
    }

    /// A clock for a counter of `megahertz` ticks a microsecond.
    ///
    /// # Panics
    ///
    /// If it is 0.
    pub const fn with_frequency(megahertz: u32) -> Self {
        assert!(
            megahertz != 0,
            "the kernel reports no frequency of the time stamp counter"
        );
        Self {
            nanoseconds_per_tick: (1000 << 32) / megahertz as u64,
        }
    }

    /// Nanoseconds since the machine started.
    #[inline]
    pub fn now_nanoseconds(&self) -> u64 {
        self.nanoseconds(ticks())
    }

    /// Microseconds since the machine started.
    #[inline]
    pub fn now_microseconds(&self) -> u64 {
        self.now_nanoseconds() / 1000
    }

    #[inline]
    const fn nanoseconds(&self, ticks: u64) -> u64 {
        ((ticks as u128 * self.nanoseconds_per_tick as u128) >> 32) as u64
    }
}

#[inline]
fn ticks() -> u64 {
    // SAFETY: the kernel lets user programs read the counter.
    unsafe { core::arch::x86_64::_rdtsc() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use segue_shared_memory::testing::leaked_region;

    #[test]
    fn ticks_become_time() {
        let clock = Clock::with_frequency(2300);
        // Ten years, within a millionth.
        let seconds = 10 * 365 * 86_400_u64;
        let nanoseconds = clock.nanoseconds(seconds * 2_300_000_000);
        let expected = seconds * 1_000_000_000;
        assert!(nanoseconds.abs_diff(expected) < expected / 1_000_000);
        assert_eq!(Clock::with_frequency(1000).nanoseconds(123_456), 123_456);
    }

    #[test]
    fn the_frequency_follows_the_header() {
        let region = leaked_region(4096);
        region.store32(16, 500, Ordering::Relaxed);
        assert_eq!(Clock::new(region).nanoseconds(1), 2);
    }

    #[test]
    fn the_clock_does_not_run_backwards() {
        let clock = Clock::with_frequency(1000);
        let before = clock.now_nanoseconds();
        assert!(clock.now_nanoseconds() >= before);
    }
}
