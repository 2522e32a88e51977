//! What the timer protection domain decides: whose timeout is next ([`timer`]); and when a
//! client has to call it ([`client`]).
//!
//! Each client has one timeout. Time is in ticks of whatever clock the caller
//! uses. There are at most [`CLIENTS`] clients, so a pass over all of them is
//! short and of bounded length; nothing here allocates.
#![no_std]
#![forbid(unsafe_code)]

pub mod client;
pub mod timer;

pub use timer::{Alarm, Timer};

/// The protocol of a protected call to the timer.
pub mod protocol {
    /// Label: sets the caller's timeout, in place of an earlier one. Message
    /// register 0: nanoseconds from now.
    pub const SET: u64 = 1;
    /// Label: takes the caller's timeout back. A notification that is on its way
    /// already still arrives.
    pub const CANCEL: u64 = 2;
    /// Label of the answer to a call that was served.
    pub const DONE: u64 = 0;
}

/// Most clients: one for each channel.
pub const CLIENTS: usize = 62;

/// A valid call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// Sets the timeout.
    Set {
        /// From now.
        nanoseconds: u64,
    },
    /// Takes it back.
    Cancel,
}

impl Request {
    /// Reads a call: its label, the number of its words and the first of them.
    /// `None` if it is not of the protocol.
    pub fn parse(label: u64, count: usize, first_word: u64) -> Option<Self> {
        match (label, count) {
            (protocol::SET, 1) => Some(Self::Set {
                nanoseconds: first_word,
            }),
            (protocol::CANCEL, 0) => Some(Self::Cancel),
            _ => None,
        }
    }
}

/// The clients' timeouts.
#[derive(Clone, Debug)]
pub struct Timeouts {
    deadlines: [Option<u64>; CLIENTS],
}

impl Timeouts {
    /// No timeouts.
    pub const fn new() -> Self {
        Self {
            deadlines: [None; CLIENTS],
        }
    }

    /// Sets the client's timeout, in place of an earlier one. Clients that do
    /// not exist are ignored.
    pub fn set(&mut self, client: usize, deadline: u64) {
        if let Some(slot) = self.deadlines.get_mut(client) {
            *slot = Some(deadline);
        }
    }

    /// Takes the client's timeout back.
    pub fn cancel(&mut self, client: usize) {
        if let Some(slot) = self.deadlines.get_mut(client) {
            *slot = None;
        }
    }

    /// The earliest deadline.
    pub fn next(&self) -> Option<u64> {
        self.deadlines.iter().flatten().min().copied()
    }

    /// Takes out and yields one client whose deadline is not after `now`: the
    /// one with the earliest.
    pub fn expire(&mut self, now: u64) -> Option<usize> {
        let (deadline, client) = self
            .deadlines
            .iter()
            .enumerate()
            .filter_map(|(client, deadline)| deadline.map(|deadline| (deadline, client)))
            .min()?;
        if deadline > now {
            return None;
        }
        self.cancel(client);
        Some(client)
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    extern crate std;
    use std::vec::Vec;

    #[test]
    fn a_later_timeout_replaces_an_earlier_one() {
        let mut timeouts = Timeouts::new();
        timeouts.set(3, 100);
        timeouts.set(3, 200);
        assert_eq!(timeouts.next(), Some(200));
        assert_eq!(timeouts.expire(199), None);
        assert_eq!(timeouts.expire(200), Some(3));
        assert_eq!(timeouts.expire(u64::MAX), None);
    }

    #[test]
    fn clients_that_do_not_exist_change_nothing() {
        let mut timeouts = Timeouts::new();
        timeouts.set(CLIENTS, 1);
        timeouts.cancel(usize::MAX);
        assert_eq!(timeouts.next(), None);
    }

    #[test]
    fn calls_outside_the_protocol_are_seen() {
        assert_eq!(
            Request::parse(1, 1, 5),
            Some(Request::Set { nanoseconds: 5 })
        );
        assert_eq!(Request::parse(2, 0, 5), Some(Request::Cancel));
        for (label, count) in [(1, 0), (1, 2), (2, 1), (0, 0), (3, 1), (u64::MAX, 120)] {
            assert_eq!(Request::parse(label, count, 0), None);
        }
    }

    proptest! {
        /// Every timeout that is neither replaced nor cancelled expires exactly
        /// once, in order of its deadline, and not before it.
        #[test]
        fn it_agrees_with_a_list(
            steps in proptest::collection::vec((0..CLIENTS, 0_u64..1000, 0..4), 0..200),
        ) {
            let mut timeouts = Timeouts::new();
            let mut model: Vec<(u64, usize)> = Vec::new();
            let mut now = 0;
            for (client, number, kind) in steps {
                match kind {
                    0 | 1 => {
                        model.retain(|entry| entry.1 != client);
                        model.push((now + number, client));
                        timeouts.set(client, now + number);
                    }
                    2 => {
                        model.retain(|entry| entry.1 != client);
                        timeouts.cancel(client);
                    }
                    _ => {
                        now += number;
                        model.sort_unstable();
                        while let Some(client) = timeouts.expire(now) {
                            prop_assert!(!model.is_empty());
                            let (deadline, expected) = model.remove(0);
                            prop_assert_eq!(client, expected);
                            prop_assert!(deadline <= now);
                        }
                    }
                }
                prop_assert_eq!(timeouts.next(), model.iter().map(|entry| entry.0).min());
            }
        }
    }
}
