//! How many bytes may go to the line now.
//!
//! The console runs before the network server and all applications, and an
//! emulated line takes bytes as fast as they are written. Without a limit, a
//! program that floods its log would stop everything of a lower priority.

/// Bytes that may go out at once after a time of silence: about a boot's lines,
/// a crash report or an answer to the operator.
pub const BURST: usize = 2048;

/// Bytes that each tick allows: about what a line of 115,200 bits a second
/// carries meanwhile.
const GRANT: usize = 128;

/// Length of a tick, in microseconds.
pub const TICK_MICROSECONDS: u64 = 10_000;

/// Counts the bytes that may go out. Ticks are needed only while it is not full.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    allowed: usize,
}

impl Pace {
    /// A full allowance.
    pub const fn new() -> Self {
        Self { allowed: BURST }
    }

    /// Bytes that may go out now.
    pub const fn allowed(&self) -> usize {
        self.allowed
    }

    /// Whether a tick would allow more.
    pub const fn needs_tick(&self) -> bool {
        self.allowed < BURST
    }

    /// So many bytes went out.
    pub fn sent(&mut self, count: usize) {
        self.allowed = self.allowed.saturating_sub(count);
    }

    /// A tick has passed.
    pub fn tick(&mut self) {
        self.allowed = (self.allowed + GRANT).min(BURST);
    }
}

impl Default for Pace {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_held_to_the_rate_and_silence_restores_the_burst() {
        let mut pace = Pace::new();
        let mut sent = 0;
        for _ in 0..100 {
            let count = pace.allowed();
            pace.sent(count);
            sent += count;
            assert!(pace.needs_tick());
            pace.tick();
        }
        assert_eq!(sent, BURST + 99 * GRANT);
        let ticks = (0..1000).take_while(|_| {
            let needed = pace.needs_tick();
            pace.tick();
            needed
        });
        assert!(ticks.count() <= BURST.div_ceil(GRANT));
        assert_eq!(pace.allowed(), BURST);
    }
}
