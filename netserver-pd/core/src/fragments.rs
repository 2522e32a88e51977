//! Whose are the later fragments of a datagram?
//!
//! Only the first fragment of an IPv4 datagram names ports. Who it belongs to is
//! remembered for a while, for a bounded number of datagrams.

use crate::directory::Applications;
use alloc::vec;
use alloc::vec::Vec;
use segue_portmap_core::Protocol;
use smoltcp::wire::Ipv4Address;

/// How long the later fragments may follow the first, in microseconds.
pub const LIFETIME_MICROSECONDS: u64 = 15_000_000;
/// Received datagrams that are remembered at once.
pub const RECEIVED: usize = 64;
/// Sent datagrams of each application that are remembered at once.
pub const SENT: usize = 8;

/// What the fragments of a datagram have in common (RFC 791, section 3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// Our address.
    pub ours: Ipv4Address,
    /// The other end's.
    pub peer: Ipv4Address,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// The identification field.
    pub identification: u16,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    datagram: Datagram,
    applications: Applications,
    at: u64,
}

impl Entry {
    /// Whether it is this datagram's, and not too old.
    fn is(&self, datagram: &Datagram, now: u64) -> bool {
        self.datagram == *datagram && now.saturating_sub(self.at) <= LIFETIME_MICROSECONDS
    }
}

/// Some datagrams; the oldest gives way to a new one.
#[derive(Clone, Debug)]
struct Table {
    entries: Vec<Option<Entry>>,
    next: usize,
}

impl Table {
    fn new(size: usize) -> Self {
        Self {
            entries: vec![None; size],
            next: 0,
        }
    }

    fn find(&self, datagram: &Datagram, now: u64) -> Option<Applications> {
        let mut entries = self.entries.iter().flatten();
        let entry = entries.find(|entry| entry.is(datagram, now))?;
        Some(entry.applications)
    }

    fn remember(&mut self, datagram: Datagram, applications: Applications, at: u64) {
        let known = self
            .entries
            .iter()
            .position(|entry| entry.is_some_and(|entry| entry.datagram == datagram));
        let slot = known.unwrap_or_else(|| {
            let slot = self.next;
            self.next = (self.next + 1) % self.entries.len();
            slot
        });
        self.entries[slot] = Some(Entry {
            datagram,
            applications,
            at,
        });
    }
}

/// Datagrams of each application under way. Those of others are found by their
/// identification, so that more applications do not make the search longer.
#[derive(Debug)]
struct Sent {
    /// [`SENT`] slots for each application.
    slots: Vec<Option<Entry>>,
    /// The slot of each application that gives way next.
    next: Vec<usize>,
    /// Slots in use, by the low bits of the identification.
    buckets: Vec<Vec<usize>>,
}

/// Lists in which slots are found.
const BUCKETS: usize = 64;

impl Sent {
    fn new(applications: usize) -> Self {
        Self {
            slots: vec![None; SENT * applications],
            next: vec![0; applications],
            buckets: vec![Vec::new(); BUCKETS],
        }
    }

    fn bucket(datagram: &Datagram) -> usize {
        usize::from(datagram.identification) % BUCKETS
    }

    /// The applications that have this datagram under way.
    fn senders(&self, datagram: &Datagram, now: u64) -> impl Iterator<Item = usize> {
        let slots = self.buckets[Self::bucket(datagram)].iter();
        slots.filter_map(move |slot| {
            let entry = self.slots[*slot].as_ref()?;
            entry.is(datagram, now).then_some(slot / SENT)
        })
    }

    fn remember(&mut self, sender: usize, datagram: Datagram, at: u64) {
        let own = SENT * sender..SENT * (sender + 1);
        let known = own
            .clone()
            .find(|slot| self.slots[*slot].is_some_and(|entry| entry.datagram == datagram));
        let slot = known.unwrap_or_else(|| {
            let slot = own.start + self.next[sender];
            self.next[sender] = (self.next[sender] + 1) % SENT;
            if let Some(old) = self.slots[slot] {
                self.buckets[Self::bucket(&old.datagram)].retain(|other| *other != slot);
            }
            self.buckets[Self::bucket(&datagram)].push(slot);
            slot
        });
        self.slots[slot] = Some(Entry {
            datagram,
            applications: 1 << sender,
            at,
        });
    }
}

/// Fragmented datagrams under way.
#[derive(Debug)]
pub struct Fragments {
    received: Table,
    sent: Sent,
}

impl Fragments {
    /// Of so many applications.
    pub fn new(applications: usize) -> Self {
        Self {
            received: Table::new(RECEIVED),
            sent: Sent::new(applications),
        }
    }

    /// Remembers that these applications get the datagram.
    pub fn received_first(&mut self, datagram: Datagram, applications: Applications, now: u64) {
        self.received.remember(datagram, applications, now);
    }

    /// Who gets the datagram; `None` if its first fragment has not come, or
    /// was too long ago.
    pub fn received_later(&self, datagram: &Datagram, now: u64) -> Option<Applications> {
        self.received.find(datagram, now)
    }

    /// Whether `sender` may send a first fragment of this datagram: not if
    /// another application has one under way that the receiver could not tell
    /// from it.
    pub fn send_first(&mut self, sender: usize, datagram: Datagram, now: u64) -> bool {
        let taken = self
            .sent
            .senders(&datagram, now)
            .any(|other| other != sender);
        if !taken {
            self.sent.remember(sender, datagram, now);
        }
        !taken
    }

    /// Whether `sender` may send a later fragment of this datagram: it has sent
    /// the first one.
    pub fn send_later(&self, sender: usize, datagram: &Datagram, now: u64) -> bool {
        self.sent
            .senders(datagram, now)
            .any(|other| other == sender)
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    fn datagram(identification: u16) -> Datagram {
        Datagram {
            ours: Ipv4Address::new(10, 0, 2, 15),
            peer: Ipv4Address::new(10, 0, 2, 2),
            protocol: Protocol::Udp,
            identification,
        }
    }

    #[test]
    fn the_later_ones_follow_the_first_for_a_while() {
        let mut fragments = Fragments::new(4);
        assert_eq!(fragments.received_later(&datagram(1), 0), None);
        fragments.received_first(datagram(1), 0b10, 5);
        fragments.received_first(datagram(2), 0b100, 5);
        assert_eq!(fragments.received_later(&datagram(1), 6), Some(0b10));
        assert_eq!(fragments.received_later(&datagram(2), 6), Some(0b100));
        let late = 6 + LIFETIME_MICROSECONDS;
        assert_eq!(fragments.received_later(&datagram(1), late), None);
        for number in 0..RECEIVED as u16 {
            fragments.received_first(datagram(100 + number), 1, 6);
        }
        assert_eq!(
            fragments.received_later(&datagram(2), 6),
            None,
            "the oldest"
        );
    }

    proptest! {
        /// Whatever the others do, nobody's datagrams are mixed with another's.
        #[test]
        fn no_datagram_has_fragments_of_two_senders(
            frames in prop::collection::vec((0..4usize, 0..6u16, any::<bool>(), 0..100u64), 1..400),
        ) {
            let mut fragments = Fragments::new(4);
            let mut now = 0;
            // (datagram, sender, when) of all that were let through.
            let mut passed: Vec<(u16, usize, u64)> = Vec::new();
            for (sender, identification, first, wait) in frames {
                now += wait * 100_000;
                let datagram = datagram(identification);
                let may = if first {
                    fragments.send_first(sender, datagram, now)
                } else {
                    fragments.send_later(sender, &datagram, now)
                };
                if !may {
                    continue;
                }
                if first {
                    // Each has fewer datagrams than are remembered of it.
                    let mixed = passed.iter().any(|(other, by, at)| {
                        *other == identification
                            && *by != sender
                            && at + LIFETIME_MICROSECONDS >= now
                    });
                    prop_assert!(!mixed);
                    passed.push((identification, sender, now));
                } else {
                    let begun = passed
                        .iter()
                        .any(|(other, by, _)| *other == identification && *by == sender);
                    prop_assert!(begun);
                }
            }
        }
    }
}
