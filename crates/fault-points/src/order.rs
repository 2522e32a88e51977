//! Orders: what is to fail where.

use core::sync::atomic::Ordering;
use segue_shared_memory::Region;

use crate::Point;
use crate::config::MAXIMUM_DOMAINS;

/// Orders that can wait for one protection domain. It carries them out in turn, so that one can
/// strike in the life that an earlier one brought about.
pub const QUEUE: u16 = 8;

/// Most times that an order lets a point pass.
pub const LARGEST_SKIP: u32 = (1 << 24) - 1;

const BYTES_OF_ONE: usize = QUEUE as usize * 8;

/// Bytes of the region with the orders of all protection domains.
pub const ORDERS_SIZE: usize = 0x1000;

const _: () = assert!(BYTES_OF_ONE * MAXIMUM_DOMAINS <= ORDERS_SIZE);

/// What a protection domain does to itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It panics.
    Panic,
    /// It executes an invalid instruction.
    Illegal,
    /// It writes to memory that is not there.
    Memory,
    /// It runs in a circle for ever.
    Loop,
    /// It waits for ever.
    Deadlock,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Panic,
        Self::Illegal,
        Self::Memory,
        Self::Loop,
        Self::Deadlock,
    ];

    /// Its name on the console.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Panic => "panic",
            Self::Illegal => "illegal",
            Self::Memory => "memory",
            Self::Loop => "loop",
            Self::Deadlock => "deadlock",
        }
    }

    /// The one of this name.
    pub fn find(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Whether the protection domain hangs, so that nothing but a missed heartbeat shows it.
    pub const fn is_hang(self) -> bool {
        matches!(self, Self::Loop | Self::Deadlock)
    }
}

/// A fault that is ordered in one protection domain.
///
/// As a word: sequence number (16 bits, the topmost), point (16), kind (8; never 0), times to let it
/// pass (24).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    /// Its number: one more than that of the order before, wrapping.
    pub sequence: u16,
    /// Where and what; `None` if it was withdrawn.
    pub fault: Option<(Point, Kind)>,
    /// How often the point is passed before. At most [`LARGEST_SKIP`].
    pub skip: u32,
}

/// The kind of an order that was withdrawn.
const WITHDRAWN: u64 = 0xff;

impl Order {
    /// It as a word.
    pub fn to_word(self) -> u64 {
        let (point, kind) = match self.fault {
            Some((point, kind)) => (point as u64, kind as u64 + 1),
            None => (0, WITHDRAWN),
        };
        u64::from(self.sequence) << 48
            | point << 32
            | kind << 24
            | u64::from(self.skip.min(LARGEST_SKIP))
    }

    /// What a word says. Points and kinds that do not exist are no fault.
    pub fn from_word(word: u64) -> Self {
        let kind = (word >> 24) as u8;
        let kind = Kind::ALL.get(usize::from(kind).wrapping_sub(1));
        let point = Point::ALL.get(usize::from((word >> 32) as u16));
        Self {
            sequence: (word >> 48) as u16,
            fault: point.copied().zip(kind.copied()),
            skip: word as u32 & LARGEST_SKIP,
        }
    }

    /// Where the order with this number of the protection domain at `place` lies in the region.
    fn offset(place: usize, sequence: u16) -> Option<usize> {
        let offset = BYTES_OF_ONE.checked_mul(place)? + usize::from(sequence % QUEUE) * 8;
        (place < MAXIMUM_DOMAINS).then_some(offset)
    }

    /// The order with this number of the protection domain at `place`, if there is one.
    pub fn read(orders: &Region, place: usize, sequence: u16) -> Option<Self> {
        let word = orders.load64(Self::offset(place, sequence)?, Ordering::Acquire);
        let order = Self::from_word(word);
        // Zeroes, which nobody has written, are no order of number 0.
        (order.sequence == sequence && word != 0).then_some(order)
    }

    /// Gives the order to the protection domain at `place`, which must be one of the table.
    pub fn write(self, orders: &Region, place: usize) {
        if let Some(offset) = Self::offset(place, self.sequence) {
            orders.store64(offset, self.to_word(), Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use segue_shared_memory::testing::leaked_region;

    #[test]
    fn an_order_survives_its_word() {
        for (number, point) in Point::ALL.iter().enumerate() {
            for kind in Kind::ALL {
                let order = Order {
                    sequence: (number as u16).wrapping_mul(700),
                    fault: Some((*point, kind)),
                    skip: LARGEST_SKIP - number as u32,
                };
                assert_eq!(Order::from_word(order.to_word()), order);
            }
        }
        let withdrawn = Order {
            sequence: 9,
            fault: None,
            skip: 0,
        };
        assert_eq!(Order::from_word(withdrawn.to_word()), withdrawn);
    }

    #[test]
    fn kinds_are_found_by_their_names() {
        for kind in Kind::ALL {
            assert_eq!(Kind::find(kind.name()), Some(kind));
        }
        assert_eq!(Kind::find("panics"), None);
    }

    #[test]
    fn orders_of_two_do_not_touch() {
        let region = leaked_region(ORDERS_SIZE);
        let order = |sequence| Order {
            sequence,
            fault: Some((Point::ALL[0], Kind::Loop)),
            skip: 0,
        };
        order(1).write(&region, MAXIMUM_DOMAINS - 1);
        order(7).write(&region, MAXIMUM_DOMAINS - 2);
        order(1).write(&region, MAXIMUM_DOMAINS);
        assert_eq!(Order::read(&region, MAXIMUM_DOMAINS - 1, 1), Some(order(1)));
        assert_eq!(Order::read(&region, MAXIMUM_DOMAINS - 1, 7), None);
        assert_eq!(Order::read(&region, MAXIMUM_DOMAINS - 2, 7), Some(order(7)));
        assert_eq!(Order::read(&region, usize::MAX, 1), None);
    }

    proptest! {
        #[test]
        fn any_word_is_understood(word: u64) {
            let order = Order::from_word(word);
            prop_assert!(order.skip <= LARGEST_SKIP);
            prop_assert_eq!(Order::from_word(order.to_word()).fault, order.fault);
        }
    }
}
