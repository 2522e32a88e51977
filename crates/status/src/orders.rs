//! Orders to `init`: run another image of a protection domain, install one that was sent.
//!
//! Whoever may give orders has a region of its own for them, of one page: an order is written there,
//! its sequence number last, and `init` is notified. The answer appears in the status of the system
//! ([`crate::system::SystemStatus::answer`]). `init` takes each order as it finds it, checks every word, and
//! does one at a time.

use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use segue_shared_memory::Region;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::name;

/// Bytes of a region of orders.
pub const REGION_SIZE: usize = 0x1000;

const SEQUENCE: usize = 0;
const OPERATION: usize = 8;
const DOMAIN: usize = 16;
const IMAGE: usize = 24;
const LENGTH: usize = 32;
const HASH: usize = 40;

const UPGRADE: u64 = 1;
const INSTALL: u64 = 2;

/// What `init` is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Run this image of the protection domain.
    Upgrade,
    /// Take over the image in the staging region.
    Install {
        /// Its bytes, without the signature.
        length: u64,
        /// SHA-256 of them.
        hash: [u8; 32],
    },
}

/// An order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    /// Counts the orderer's orders; not 0, and another than the last one's.
    pub sequence: u64,
    /// What to do; `None` if that means nothing.
    pub operation: Option<Operation>,
    /// Index of the protection domain.
    pub domain: u64,
    /// Its images count from 0.
    pub image: u64,
}

impl Order {
    /// Reads the order in a region; `None` if there is none yet.
    pub fn read(region: &Region) -> Option<Self> {
        let sequence = region.load64(SEQUENCE, Acquire);
        if sequence == 0 {
            return None;
        }
        let mut hash = [0; 32];
        region.read(HASH, &mut hash);
        Some(Self {
            sequence,
            operation: match region.load64(OPERATION, Relaxed) {
                UPGRADE => Some(Operation::Upgrade),
                INSTALL => Some(Operation::Install {
                    length: region.load64(LENGTH, Relaxed),
                    hash,
                }),
                _ => None,
            },
            domain: region.load64(DOMAIN, Relaxed),
            image: region.load64(IMAGE, Relaxed),
        })
    }

    /// Writes the order to the orderer's region.
    pub fn write(&self, region: &Region) {
        let operation = match self.operation {
            None => 0,
            Some(Operation::Upgrade) => UPGRADE,
            Some(Operation::Install { length, hash }) => {
                region.store64(LENGTH, length, Relaxed);
                region.write(HASH, &hash);
                INSTALL
            }
        };
        region.store64(OPERATION, operation, Relaxed);
        region.store64(DOMAIN, self.domain, Relaxed);
        region.store64(IMAGE, self.image, Relaxed);
        region.store64(SEQUENCE, self.sequence, Release);
    }

    /// The number after that of the region's last order.
    pub fn next_sequence(region: &Region) -> u64 {
        match region.load64(SEQUENCE, Relaxed).wrapping_add(1) {
            0 => 1,
            next => next,
        }
    }
}

/// What became of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is done.
    Done,
    /// There is no such protection domain, image or operation.
    Unknown,
    /// Another order is being carried out.
    Busy,
    /// The image does not have the hash that the order says.
    Damaged,
    /// The image is not made as it has to be.
    Malformed,
    /// The image is too large, or has pages where there is no room for them.
    TooLarge,
    /// The new image has faulted; the old one runs again.
    Faulted,
    /// The new image has made no progress; the old one runs again.
    Hung,
    /// The new image was not ready in time; the old one runs again.
    NotReady,
    /// The protection domain is stopped for good.
    Stopped,
    /// The kernel has refused a step.
    Refused,
    /// The protection domain runs the image that is to be replaced.
    InUse,
}

impl Outcome {
    const ALL: [Self; 12] = [
        Self::Done,
        Self::Unknown,
        Self::Busy,
        Self::Damaged,
        Self::Malformed,
        Self::TooLarge,
        Self::Faulted,
        Self::Hung,
        Self::NotReady,
        Self::Stopped,
        Self::Refused,
        Self::InUse,
    ];

    pub(crate) fn word(self) -> u32 {
        let place = Self::ALL.iter().position(|outcome| *outcome == self);
        place.unwrap_or(0) as u32
    }

    pub(crate) fn from_word(word: u32) -> Option<Self> {
        Self::ALL.get(word as usize).copied()
    }

    /// Whether the old image runs again after an attempt with the new one.
    pub fn is_rolled_back(self) -> bool {
        matches!(self, Self::Faulted | Self::Hung | Self::NotReady)
    }

    /// Why it was not done, as the end of a sentence.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Done => "it is done",
            Self::Unknown => "there is no such protection domain or image",
            Self::Busy => "another upgrade is under way",
            Self::Damaged => "the image does not have the hash that it should have",
            Self::Malformed => "the image is malformed",
            Self::TooLarge => "the image does not fit",
            Self::Faulted => "the new image faulted",
            Self::Hung => "the new image made no progress",
            Self::NotReady => "the new image was not ready in time",
            Self::Stopped => "it is stopped for good",
            Self::Refused => "the kernel refused a step",
            Self::InUse => "the protection domain runs the image that was to be replaced",
        }
    }
}

/// The answer to an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The order's number; 0 if there has been none.
    pub sequence: u64,
    /// What became of it; `None` if it is still being carried out.
    pub outcome: Option<Outcome>,
    /// Microseconds during which the protection domain did not run.
    pub outage: u64,
}

/// An image that can be ordered.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ImageEntry {
    /// Its name, NUL-padded.
    pub name: [u8; 32],
    /// Name of the protection domain, NUL-padded.
    pub domain_name: [u8; 64],
    /// Index of the protection domain.
    pub domain: u32,
    /// Which of its images.
    pub image: u32,
}

impl ImageEntry {
    /// Its name.
    pub fn name(&self) -> &str {
        name(&self.name)
    }

    /// Name of the protection domain.
    pub fn domain_name(&self) -> &str {
        name(&self.domain_name)
    }
}

/// Most images in a table.
pub const MAXIMUM_IMAGES: usize = 127;

/// The images of those protection domains that have several; the image builder writes it over the
/// symbol `images` of an orderer.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ImageTable {
    /// How many entries count.
    pub count: u32,
    /// Zero.
    pub reserved: u32,
    /// The entries.
    pub entries: [ImageEntry; MAXIMUM_IMAGES],
}

impl ImageTable {
    /// No images.
    pub const EMPTY: Self = Self {
        count: 0,
        reserved: 0,
        entries: [ImageEntry {
            name: [0; 32],
            domain_name: [0; 64],
            domain: 0,
            image: 0,
        }; MAXIMUM_IMAGES],
    };

    /// The entries that count.
    pub fn entries(&self) -> &[ImageEntry] {
        let count = (self.count as usize).min(MAXIMUM_IMAGES);
        &self.entries[..count]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use segue_shared_memory::testing::leaked_region;

    #[test]
    fn an_order_is_read_as_it_was_written() {
        let region = leaked_region(REGION_SIZE);
        assert_eq!(Order::read(&region), None);
        let operations = [
            Some(Operation::Upgrade),
            Some(Operation::Install {
                length: 0x12_345,
                hash: [7; 32],
            }),
            None,
        ];
        for operation in operations {
            let order = Order {
                sequence: Order::next_sequence(&region),
                operation,
                domain: 3,
                image: 1,
            };
            order.write(&region);
            assert_eq!(Order::read(&region), Some(order));
        }
        assert_eq!(Order::next_sequence(&region), 4);
        region.store64(SEQUENCE, u64::MAX, Relaxed);
        assert_eq!(Order::next_sequence(&region), 1);
    }

    #[test]
    fn each_outcome_has_a_word() {
        for outcome in Outcome::ALL {
            assert_eq!(Outcome::from_word(outcome.word()), Some(outcome));
        }
        assert_eq!(Outcome::from_word(12), None);
    }
}
