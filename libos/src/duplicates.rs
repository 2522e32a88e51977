//! Frames that come twice while two ways are open.
//!
//! While the network card's filter is moved, a frame may reach both the network server's
//! function and the application's. During a change of legs and for a while after it, what
//! one leg brings is remembered by its hash, and dropped once if the other brings it, too.

use crate::hash::Secret;
use alloc::collections::VecDeque;
use core::hash::Hasher;
use siphasher::sip::SipHasher13;
use smoltcp::time::{Duration, Instant};

/// How long frames are compared after a change has ended.
const PERIOD: Duration = Duration::from_secs(1);
/// How long a frame is remembered: copies come at about the same time, and a later frame
/// with the same bytes is another one.
const MEMORY_MILLISECONDS: u32 = 100;
/// Frames remembered of each leg: as many as a ring holds.
const ENTRIES: usize = 256;

/// A leg that frames come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leg {
    /// The channel to the network server.
    Server,
    /// The virtual function.
    Function,
}

#[derive(Clone, Copy)]
struct Entry {
    hash: u64,
    /// When it came, in milliseconds of a clock that wraps.
    at: u32,
}

fn milliseconds(now: Instant) -> u32 {
    now.total_millis() as u32
}

/// What came by each leg lately and did not come by the other one, oldest first.
pub struct Duplicates {
    server: VecDeque<Entry>,
    function: VecDeque<Entry>,
    hasher: SipHasher13,
    now: Instant,
    until: Instant,
}

impl Duplicates {
    /// Nothing came yet; `secret` keeps others from choosing frames with equal hashes.
    pub fn new(secret: Secret, now: Instant) -> Self {
        Self {
            server: VecDeque::with_capacity(ENTRIES),
            function: VecDeque::with_capacity(ENTRIES),
            hasher: SipHasher13::new_with_keys(secret.0[0], secret.0[1]),
            now,
            until: now + PERIOD,
        }
    }

    /// Starts the time of comparison again: the legs have changed.
    pub fn extend(&mut self, now: Instant) {
        self.now = now;
        self.until = now + PERIOD;
    }

    /// Takes the time. Returns whether frames are still to be compared.
    pub fn turn(&mut self, now: Instant) -> bool {
        self.now = now;
        now < self.until
    }

    /// Whether a frame that came by `leg` has come by the other one already. Each one of
    /// those is the first of one copy only.
    pub fn has_come(&mut self, leg: Leg, frame: &[u8]) -> bool {
        let mut hasher = self.hasher;
        hasher.write(frame);
        hasher.write_usize(frame.len());
        let hash = hasher.finish();
        let at = milliseconds(self.now);
        let (mine, other) = match leg {
            Leg::Server => (&mut self.server, &mut self.function),
            Leg::Function => (&mut self.function, &mut self.server),
        };
        while let Some(oldest) = other.front()
            && at.wrapping_sub(oldest.at) >= MEMORY_MILLISECONDS
        {
            other.pop_front();
        }
        if let Some(index) = other.iter().position(|entry| entry.hash == hash) {
            // Both legs have the same order: what came before it has no copy.
            other.drain(..=index);
            return true;
        }
        if mine.len() == ENTRIES {
            mine.pop_front();
        }
        mine.push_back(Entry { hash, at });
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn duplicates() -> Duplicates {
        Duplicates::new(Secret([1, 2]), Instant::from_secs(1))
    }

    #[test]
    fn each_copy_is_dropped_once_whichever_came_first() {
        for (first, second) in [(Leg::Server, Leg::Function), (Leg::Function, Leg::Server)] {
            let mut duplicates = duplicates();
            // The same three times: three frames, not copies of each other.
            for _ in 0..3 {
                assert!(!duplicates.has_come(first, b"frame"));
            }
            for _ in 0..3 {
                assert!(duplicates.has_come(second, b"frame"));
            }
            assert!(!duplicates.has_come(second, b"frame"));
            assert!(duplicates.has_come(first, b"frame"));
            assert!(!duplicates.has_come(first, b"frames"));
        }
    }

    #[test]
    fn what_came_long_ago_is_no_copy() {
        let mut duplicates = duplicates();
        let start = Instant::from_secs(1);
        assert!(!duplicates.has_come(Leg::Server, b"frame"));
        let memory = Duration::from_millis(MEMORY_MILLISECONDS.into());
        assert!(duplicates.turn(start + memory));
        assert!(!duplicates.has_come(Leg::Function, b"frame"));
        assert!(!duplicates.turn(start + PERIOD));
        duplicates.extend(start + PERIOD);
        assert!(duplicates.turn(start + PERIOD + memory));
    }

    #[test]
    fn many_frames_need_no_more_memory() {
        let mut duplicates = duplicates();
        let mut copies = |leg, numbers: core::ops::Range<usize>| {
            numbers
                .filter(|number| duplicates.has_come(leg, &number.to_le_bytes()))
                .count()
        };
        assert_eq!(copies(Leg::Server, 0..10_000), 0);
        assert_eq!(copies(Leg::Function, 0..10_000), ENTRIES);
        // A copy tells that those before it have none.
        assert_eq!(copies(Leg::Server, 20_000..20_010), 0);
        assert_eq!(copies(Leg::Function, 20_005..20_006), 1);
        assert_eq!(copies(Leg::Function, 20_000..20_010), 4);
    }
}
