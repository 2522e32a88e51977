//! Counting numbered datagrams.

use alloc::vec;
use alloc::vec::Vec;

/// Which numbers have come, how often and when.
#[derive(Clone, Debug)]
pub struct Tally {
    /// A bit for each number that can be counted.
    seen: Vec<u64>,
    distinct: u64,
    doubled: u64,
    reordered: u64,
    outside: u64,
    highest: Option<u64>,
    last: Option<u64>,
    longest_gap: u64,
    /// When the longest gap began.
    gap_began: u64,
}

impl Tally {
    /// Nothing has come. Numbers below `capacity`, rounded up to a multiple of 64, will be counted;
    /// each takes a bit.
    pub fn new(capacity: u64) -> Self {
        let words = usize::try_from(capacity.div_ceil(64)).unwrap_or(0);
        Self {
            seen: vec![0; words],
            distinct: 0,
            doubled: 0,
            reordered: 0,
            outside: 0,
            highest: None,
            last: None,
            longest_gap: 0,
            gap_began: 0,
        }
    }

    /// Forgets what has come.
    pub fn clear(&mut self) {
        let seen = core::mem::take(&mut self.seen);
        *self = Self {
            seen,
            ..Self::new(0)
        };
        self.seen.fill(0);
    }

    /// The datagram `number` has come at `now` (microseconds).
    pub fn record(&mut self, number: u64, now: u64) {
        let word = usize::try_from(number / 64).ok();
        let Some(word) = word.and_then(|word| self.seen.get_mut(word)) else {
            self.outside = self.outside.saturating_add(1);
            return;
        };
        let bit = 1 << (number % 64);
        if *word & bit != 0 {
            self.doubled = self.doubled.saturating_add(1);
            return;
        }
        *word |= bit;
        self.distinct += 1;
        match self.highest {
            Some(highest) if number < highest => self.reordered += 1,
            _ => self.highest = Some(number),
        }
        if let Some(last) = self.last {
            let gap = now.saturating_sub(last);
            if gap > self.longest_gap {
                (self.longest_gap, self.gap_began) = (gap, last);
            }
        }
        self.last = Some(now);
    }

    /// Different numbers that have come.
    pub fn distinct(&self) -> u64 {
        self.distinct
    }

    /// Datagrams whose number had come before.
    pub fn doubled(&self) -> u64 {
        self.doubled
    }

    /// Datagrams that came for the first time after one with a higher number.
    pub fn reordered(&self) -> u64 {
        self.reordered
    }

    /// Datagrams with numbers too high to be counted.
    pub fn outside(&self) -> u64 {
        self.outside
    }

    /// The highest number that has come.
    pub fn highest(&self) -> Option<u64> {
        self.highest
    }

    /// The longest time between two new numbers, in microseconds.
    pub fn longest_gap(&self) -> u64 {
        self.longest_gap
    }

    /// When the longest gap began, in microseconds of the clock of [`Tally::record`].
    pub fn gap_began(&self) -> u64 {
        self.gap_began
    }

    /// Whether a number has come.
    pub fn holds(&self, number: u64) -> bool {
        let word = usize::try_from(number / 64).ok();
        let word = word.and_then(|word| self.seen.get(word));
        word.is_some_and(|word| word & 1 << (number % 64) != 0)
    }

    /// How many of the numbers below `count` have not come.
    pub fn missing_of(&self, count: u64) -> u64 {
        let (whole, rest) = (count / 64, count % 64);
        let words = self.seen.iter().zip(0u64..);
        let come: u64 = words
            .map(|(word, index)| match index.cmp(&whole) {
                core::cmp::Ordering::Less => u64::from(word.count_ones()),
                core::cmp::Ordering::Equal => u64::from((word & ((1 << rest) - 1)).count_ones()),
                core::cmp::Ordering::Greater => 0,
            })
            .sum();
        count - come
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeSet;
    use proptest::prelude::*;

    #[test]
    fn gaps_are_between_new_numbers() {
        let mut tally = Tally::new(100);
        for (number, now) in [(0, 50), (1, 150), (1, 300), (2, 400), (2, 900), (5, 500)] {
            tally.record(number, now);
        }
        assert_eq!((tally.longest_gap(), tally.gap_began()), (250, 150));
        assert_eq!((tally.distinct(), tally.doubled()), (4, 2));
        assert_eq!((tally.missing_of(6), tally.missing_of(3)), (2, 0));
        assert_eq!(tally.missing_of(1000), 996);
        tally.record(128, 600);
        tally.record(u64::MAX, 600);
        assert_eq!((tally.outside(), tally.distinct()), (2, 4));
        tally.clear();
        assert_eq!((tally.distinct(), tally.longest_gap()), (0, 0));
        assert!(!tally.holds(0) && tally.highest().is_none());
        tally.record(5, 700);
        tally.record(4, 701);
        assert_eq!((tally.reordered(), tally.highest()), (1, Some(5)));
    }

    proptest! {
        /// As a set would count, whatever comes.
        #[test]
        fn it_counts_as_a_set_does(numbers in prop::collection::vec(0..300u64, 0..400)) {
            let mut tally = Tally::new(256);
            let (mut set, mut doubled, mut reordered) = (BTreeSet::new(), 0, 0);
            for (number, now) in numbers.iter().zip(0..) {
                tally.record(*number, now);
                if *number < 256 {
                    let highest = set.last().copied();
                    if !set.insert(*number) {
                        doubled += 1;
                    } else if highest > Some(*number) {
                        reordered += 1;
                    }
                }
            }
            prop_assert_eq!(tally.distinct(), set.len() as u64);
            prop_assert_eq!((tally.doubled(), tally.reordered()), (doubled, reordered));
            prop_assert_eq!(tally.outside(), numbers.iter().filter(|n| **n >= 256).count() as u64);
            prop_assert_eq!(tally.highest(), set.last().copied());
            for count in [0, 1, 63, 64, 65, 200, 256, 300] {
                let come = set.range(..count).count() as u64;
                prop_assert_eq!(tally.missing_of(count), count - come);
            }
            prop_assert!((0..320).all(|number| tally.holds(number) == set.contains(&number)));
        }
    }
}
