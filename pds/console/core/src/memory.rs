//! What must outlive the console: how far it has read everything, and what it has not handed to
//! the serial line yet.
//!
//! The memory is a region of its own that the console alone can reach. All zeroes is a console
//! that has read nothing. Text is put behind the queue first, where it does not count yet; then
//! one [`Memory::commit`] makes it count together with the position behind what it says. So
//! whenever the console dies, each line is either in the queue or still to be read.

use core::sync::atomic::Ordering::{Relaxed, Release};
use core::sync::atomic::fence;
use segue_fault_points::{Point, reached};
use segue_log_ring::config::{CONSOLE_MEMORY_SIZE, MAXIMUM_RINGS};
use segue_shared_memory::Region;

/// Bytes that wait for the line at most, with those of the line that is being sent.
pub const CAPACITY: usize = 16 * 1024;

/// No console comes to say so much.
const MOST_BYTES: u64 = 1 << 63;

/// Protection domains of which something is told.
const MOST_TOLD: usize = MAXIMUM_RINGS + 1;

const WORD: usize = size_of::<u64>();
/// How many bytes were sent, at least.
const HEAD: usize = 0;
/// A number of bytes sent, below the last one, after which a line begins that is still there.
const LINE: usize = WORD;
/// How many bytes there were to be sent.
const TAIL: usize = 2 * WORD;
/// Whether an operator is there.
const PROMPT: usize = 3 * WORD;
/// Whether bytes are being handed to the line, of which [`HEAD`] does not know yet.
const SENDING: usize = 4 * WORD;
/// A commit under way: 1 and a checksum of the next three; a place, what it gets, and the tail.
const COMMIT: usize = 8 * WORD;
/// How many crash reports are in the queue, or were.
const REPORTED: usize = 16 * WORD;
/// The last order to `init` whose answer was told.
const ANSWERED: usize = REPORTED + WORD;
const POSITIONS: usize = ANSWERED + WORD;
const TOLD: usize = POSITIONS + MAXIMUM_RINGS * WORD;
const END: usize = TOLD + MOST_TOLD * WORD;
const QUEUE: usize = 4096;

const _: () = assert!(END <= QUEUE);
const _: () = assert!(QUEUE + CAPACITY == CONSOLE_MEMORY_SIZE);

/// Something that goes on with the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// Crash reports that are told.
    Reported,
    /// The last order to `init` whose answer is told.
    Answered,
    /// How far the log ring with this index is told.
    Position(usize),
    /// What is told of the protection domain with this index.
    Told(usize),
}

impl Mark {
    /// Where it lies; `None` for one that there is no room for, which is forgotten.
    fn place(self) -> Option<usize> {
        match self {
            Self::Reported => Some(REPORTED),
            Self::Answered => Some(ANSWERED),
            Self::Position(index) if index < MAXIMUM_RINGS => Some(POSITIONS + index * WORD),
            Self::Told(index) if index < MOST_TOLD => Some(TOLD + index * WORD),
            Self::Position(_) | Self::Told(_) => None,
        }
    }
}

/// The queue's counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Queue {
    /// Bytes sent.
    pub head: u64,
    /// Bytes sent before the line that is being sent.
    pub line: u64,
    /// Bytes that there were to be sent.
    pub tail: u64,
    /// Whether more than `head` bytes may have been sent.
    pub is_sending: bool,
}

/// The region.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    region: Region,
}

impl Memory {
    /// What a predecessor has left in this region; `None` if it is smaller than
    /// [`CONSOLE_MEMORY_SIZE`].
    pub fn new(region: Region) -> Option<Self> {
        if region.length() < CONSOLE_MEMORY_SIZE {
            return None;
        }
        let memory = Self { region };
        let [state, place, value, tail] =
            core::array::from_fn(|index| memory.load(COMMIT + index * WORD));
        let is_place = usize::try_from(place)
            .is_ok_and(|place| (REPORTED..END).contains(&place) && place.is_multiple_of(WORD));
        if state == sum(place, value, tail) && is_place {
            memory.apply(place as usize, value, tail);
        } else {
            memory.store(COMMIT, 0);
        }
        Some(memory)
    }

    fn load(&self, offset: usize) -> u64 {
        self.region.load64(offset, Relaxed)
    }

    fn store(&self, offset: usize, value: u64) {
        self.region.store64(offset, value, Release);
        // Nor does anything that follows happen before.
        fence(Release);
    }

    /// What is kept under this mark.
    pub fn get(&self, mark: Mark) -> u64 {
        mark.place().map_or(0, |place| self.load(place))
    }

    /// Makes all bytes before `tail` count, and at the same moment keeps `value` under `mark`.
    pub fn commit(&self, mark: Mark, value: u64, tail: u64) {
        let Some(place) = mark.place() else {
            return self.commit_text(tail);
        };
        for (index, word) in [place as u64, value, tail].into_iter().enumerate() {
            self.region
                .store64(COMMIT + (1 + index) * WORD, word, Release);
        }
        self.store(COMMIT, sum(place as u64, value, tail));
        reached(Point::ConsoleCommitted);
        self.apply(place, value, tail);
    }

    fn apply(&self, place: usize, value: u64, tail: u64) {
        self.store(place, value);
        reached(Point::ConsoleMarkKept);
        self.store(TAIL, tail);
        self.store(COMMIT, 0);
    }

    /// Makes all bytes before `tail` count.
    pub fn commit_text(&self, tail: u64) {
        self.store(TAIL, tail);
    }

    /// The queue's counters, or `None` if they cannot be.
    pub fn queue(&self) -> Option<Queue> {
        let [head, line, tail] = [HEAD, LINE, TAIL].map(|offset| self.load(offset));
        let is_in_order = line <= head && head <= tail && tail < MOST_BYTES;
        let is_sane = is_in_order && tail - line <= CAPACITY as u64;
        is_sane.then_some(Queue {
            head,
            line,
            tail,
            is_sending: self.load(SENDING) != 0,
        })
    }

    /// Forgets all that waits in the queue.
    pub fn clear_queue(&self) {
        for counter in [LINE, HEAD, TAIL, SENDING] {
            self.store(counter, 0);
        }
    }

    /// Whether bytes are being sent that [`Self::set_sent`] has not been told of.
    pub fn set_sending(&self, is_sending: bool) {
        self.store(SENDING, u64::from(is_sending));
    }

    /// So many bytes were sent; the line that is being sent began after `line` of them.
    pub fn set_sent(&self, head: u64, line: u64) {
        self.store(HEAD, head);
        self.store(LINE, line);
    }

    /// Whether an operator is there.
    pub fn has_prompt(&self) -> bool {
        self.load(PROMPT) == 1
    }

    /// An operator is there.
    pub fn set_prompt(&self) {
        self.store(PROMPT, 1);
    }

    /// Byte number `number` of the queue.
    pub fn byte(&self, number: u64) -> u8 {
        let mut byte = [0];
        self.region.read(place(number), &mut byte);
        byte[0]
    }

    /// Puts bytes at number `number` of the queue and the following. At most [`CAPACITY`].
    pub fn put(&self, number: u64, bytes: &[u8]) {
        let at = place(number);
        let (now, later) = bytes.split_at(bytes.len().min(QUEUE + CAPACITY - at));
        self.region.write(at, now);
        if !later.is_empty() {
            self.region.write(QUEUE, later);
        }
    }
}

/// Where byte number `number` of the queue lies.
fn place(number: u64) -> usize {
    QUEUE + (number % CAPACITY as u64) as usize
}

/// The state of a commit under way: 1, and a checksum.
fn sum(place: u64, value: u64, tail: u64) -> u64 {
    let sum = [place, value, tail]
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |sum: u64, word| {
            (sum ^ word).wrapping_mul(0x100_0000_01b3)
        });
    sum << 1 | 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use segue_shared_memory::testing::{leaked_region, with_death_after};

    #[test]
    fn text_and_mark_count_together() {
        for mark in [
            Mark::Reported,
            Mark::Answered,
            Mark::Position(61),
            Mark::Told(62),
        ] {
            for stores in 0..10 {
                let region = leaked_region(CONSOLE_MEMORY_SIZE);
                let memory = Memory::new(region).unwrap();
                memory.commit(mark, 5, 50);
                with_death_after(stores, || memory.commit(mark, 7, 70));
                with_death_after(stores % 3, || Memory::new(region));
                let memory = Memory::new(region).unwrap();
                let found = (memory.get(mark), memory.queue().unwrap().tail);
                assert!([(5, 50), (7, 70)].contains(&found), "{found:?}");
                assert_eq!(found.0 == 7, stores > 3);
            }
        }
    }

    proptest! {
        /// Whatever a dying console has left, its successor has counters that can be.
        #[test]
        fn remains_are_checked(words in proptest::collection::vec((0_usize..64, any::<u64>()), 0..30)) {
            let region = leaked_region(CONSOLE_MEMORY_SIZE);
            for (place, word) in words {
                region.store64(place * WORD, word, Relaxed);
            }
            let memory = Memory::new(region).unwrap();
            match memory.queue() {
                Some(Queue { head, line, tail, .. }) => {
                    prop_assert!(line <= head && head <= tail && tail - line <= CAPACITY as u64);
                }
                None => {
                    memory.clear_queue();
                    prop_assert_eq!(memory.queue(), Some(Queue::default()));
                }
            }
        }
    }
}
