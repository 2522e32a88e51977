//! Whose frame is sent next: deficit round robin by bytes (Shreedhar and
//! Varghese, 1996), in the variant that lets a frame overdraw its sender's
//! account, which then starts the next round in debt. So a frame's length need
//! not be known before it is the sender's turn.

use crate::directory::Applications;
use alloc::vec::Vec;

/// Bytes an application may send each round. Longer than the longest frame, so
/// that nearly every turn sends one.
pub const QUANTUM: i64 = 0x1_8000;

/// Accounts of all applications, and whose turn it is.
#[derive(Debug)]
pub struct RoundRobin {
    accounts: Vec<i64>,
    current: usize,
    /// Whether the current application has been given its quantum.
    granted: bool,
}

impl RoundRobin {
    /// Accounts of so many applications.
    pub fn new(applications: usize) -> Self {
        Self {
            accounts: alloc::vec![0; applications],
            current: 0,
            granted: false,
        }
    }

    /// Whose turn it is, of those that have something to send. What it costs does
    /// not depend on how many others there are.
    pub fn next(&mut self, waiting: Applications) -> Option<usize> {
        if waiting == 0 || self.accounts.is_empty() {
            return None;
        }
        loop {
            let account = &mut self.accounts[self.current];
            if waiting & 1 << self.current != 0 {
                if !self.granted {
                    *account += QUANTUM;
                    self.granted = true;
                }
                if *account > 0 {
                    return Some(self.current);
                }
            }
            // Who has nothing to send saves nothing up; debts stay. So only the
            // current account is ever above 0.
            *account = (*account).min(0);
            self.granted = false;
            let behind = waiting
                & Applications::MAX
                    .checked_shl(self.current as u32 + 1)
                    .unwrap_or(0);
            let next = if behind == 0 { waiting } else { behind };
            self.current = next.trailing_zeros() as usize;
        }
    }

    /// Charges the application whose turn it is for a frame.
    pub fn charge(&mut self, bytes: usize) {
        self.accounts[self.current] -= bytes as i64;
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn each_gets_its_share_of_the_bytes_whatever_the_lengths(
            lengths in prop::collection::vec(60usize..120_000, 2..=16),
        ) {
            let mut fair = RoundRobin::new(lengths.len());
            let waiting = ((1u32 << lengths.len()) - 1) as Applications;
            let mut bytes = std::vec![0usize; lengths.len()];
            let total = 40 * QUANTUM as usize * lengths.len();
            while bytes.iter().sum::<usize>() < total {
                let index = fair.next(waiting).unwrap();
                fair.charge(lengths[index]);
                bytes[index] += lengths[index];
            }
            let share = total / lengths.len();
            for sent in bytes {
                // Never apart by more than a quantum and a frame or two.
                prop_assert!(sent.abs_diff(share) <= QUANTUM as usize + 2 * 120_000);
            }
        }
    }

    #[test]
    fn who_is_idle_saves_nothing_up() {
        let mut fair = RoundRobin::new(3);
        for _ in 0..1000 {
            assert_eq!(fair.next(0b10), Some(1));
            fair.charge(1000);
        }
        let mut first = 0;
        for _ in 0..1000 {
            let index = fair.next(0b11).unwrap();
            fair.charge(1000);
            first += usize::from(index == 0);
        }
        assert!((400..=600).contains(&first), "{first}");
        assert_eq!(fair.next(0), None);
    }
}
