//! What the port map alone needs to know, but must outlive it: until when ports are
//! held, when each owner's last connection has left TIME_WAIT, when leases end, which
//! incarnations of the owners there were.
//!
//! The memory is a region of its own, which also has the [`crate::journal`]. All zeroes says that nothing is held. A time is a
//! number of seconds since the machine started; 0 is none.

use crate::config::MAXIMUM_OWNERS;
use crate::journal::{JOURNAL_AT, JOURNAL_SIZE};
use crate::table::{ENTRIES, Family, Protocol, index};
use core::sync::atomic::Ordering::Relaxed;
use segue_shared_memory::Region;

/// Size of the region in bytes.
pub const HOLDS_SIZE: usize = PORTS_AT + ENTRIES * WORD;

const WORD: usize = size_of::<u32>();
/// For each owner, when its last hold ends.
const LAST_HOLDS_AT: usize = 0;
/// For each owner that is a DHCP client, when what it has said ends.
const LEASES_AT: usize = MAXIMUM_OWNERS * WORD;
/// For each owner, one more than the incarnation that was seen last; 0 if none was.
const INCARNATIONS_AT: usize = 2 * MAXIMUM_OWNERS * WORD;
/// For each port, when its hold ends, and whether its owner has given it back.
const PORTS_AT: usize = 0x1000;
const _: () = assert!(JOURNAL_AT >= 3 * MAXIMUM_OWNERS * WORD);
const _: () = assert!(JOURNAL_AT + JOURNAL_SIZE <= PORTS_AT);
/// The owner has given the port back: it is held, or else free.
const RELEASED: u32 = 1 << 31;

/// A time in seconds since the machine started.
pub(crate) type Seconds = u32;

/// The region.
#[derive(Debug)]
pub(crate) struct Holds {
    region: Region,
}

/// What is known about a port besides its owner.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Hold {
    /// When it ends; 0 if there is none.
    pub until: Seconds,
    /// Whether the port was given back.
    pub released: bool,
}

impl Hold {
    /// Whether nobody else may have the port yet.
    pub fn lasts(self, now: Seconds) -> bool {
        self.until > now
    }
}

impl Holds {
    /// What is in this region; `None` if it is smaller than [`HOLDS_SIZE`].
    pub fn new(region: Region) -> Option<Self> {
        (region.length() >= HOLDS_SIZE).then_some(Self { region })
    }

    pub fn get(&self, family: Family, protocol: Protocol, port: u16) -> Hold {
        self.at(index(family, protocol, port))
    }

    /// The port at an index below [`ENTRIES`].
    pub fn at(&self, index: usize) -> Hold {
        let word = self.region.load32(PORTS_AT + index * WORD, Relaxed);
        Hold {
            until: word & !RELEASED,
            released: word & RELEASED != 0,
        }
    }

    /// Whether nothing is known of two ports, from this index, which is even.
    pub fn two_are_empty(&self, index: usize) -> bool {
        self.region.load64(PORTS_AT + index * WORD, Relaxed) == 0
    }

    pub fn set(&mut self, family: Family, protocol: Protocol, port: u16, hold: Hold) {
        let released = if hold.released { RELEASED } else { 0 };
        let word = hold.until & !RELEASED | released;
        let offset = PORTS_AT + index(family, protocol, port) * WORD;
        self.region.store32(offset, word, Relaxed);
    }

    /// When the last hold of `owner` ends.
    pub fn last_hold(&self, owner: u16) -> Seconds {
        word_of(LAST_HOLDS_AT, owner).map_or(0, |offset| self.region.load32(offset, Relaxed))
    }

    pub fn set_last_hold(&mut self, owner: u16, until: Seconds) {
        if let Some(offset) = word_of(LAST_HOLDS_AT, owner) {
            self.region.store32(offset, until, Relaxed);
        }
    }

    /// When the address ends that DHCP client `owner` has told of.
    pub fn lease(&self, owner: u16) -> Seconds {
        word_of(LEASES_AT, owner).map_or(0, |offset| self.region.load32(offset, Relaxed))
    }

    /// One more than the incarnation of `owner` that was seen last; 0 if none was.
    pub fn incarnation(&self, owner: u16) -> u32 {
        word_of(INCARNATIONS_AT, owner).map_or(0, |offset| self.region.load32(offset, Relaxed))
    }

    pub fn set_incarnation(&mut self, owner: u16, incarnation: u32) {
        if let Some(offset) = word_of(INCARNATIONS_AT, owner) {
            self.region.store32(offset, incarnation, Relaxed);
        }
    }

    pub fn set_lease(&mut self, owner: u16, until: Seconds) {
        if let Some(offset) = word_of(LEASES_AT, owner) {
            self.region.store32(offset, until, Relaxed);
        }
    }
}

/// The word of an owner, who count from 1.
fn word_of(array: usize, owner: u16) -> Option<usize> {
    let index = usize::from(owner).checked_sub(1)?;
    (index < MAXIMUM_OWNERS).then_some(array + index * WORD)
}
