//! Who has which port, and which ports stay with their owner after it has gone.
//!
//! A port is *bound*, *held*, or *free*. Held is a port whose owner has given it back, or is
//! gone, while a connection on it was in TIME_WAIT: the table still names the owner, who
//! may bind it again at once; everybody else waits until the hold has ended.

use crate::config::MAXIMUM_OWNERS;
use crate::holds::{Hold, Holds, Seconds};
use crate::protocol::{LONGEST_HOLD, PortError};
use crate::table::{
    ENTRIES, EPHEMERAL_PORTS, FREE, Families, Family, PortTable, Protocol, from_index, index,
};
use core::sync::atomic::Ordering::Release;
use core::sync::atomic::fence;
use segue_fault_points::{Point, reached};

/// No hold is longer, in seconds: one that begins in the middle of a second ends with one.
pub(crate) const LONGEST_HOLD_SECONDS: Seconds = LONGEST_HOLD / 1000 + 1;

/// Ports of one block: blocks without a held port need no look when time has passed, and those without
/// an owner none when somebody has died.
const BLOCK: usize = 256;
const BLOCKS: usize = ENTRIES / BLOCK;

/// Ports, their owners and their holds.
#[derive(Debug)]
pub struct Ports {
    table: PortTable,
    holds: Holds,
    /// Held ports in each block.
    held: [u16; BLOCKS],
    /// Ports with an owner in each block.
    owned: [u16; BLOCKS],
    /// No held port becomes free before this.
    next_expiry: Option<Seconds>,
    /// Where the next search for a free ephemeral port begins.
    next: [u16; 2],
}

/// What became of an owner's ports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Returned {
    /// How many became free; a port counts once for each version of IP.
    pub free: u32,
    /// How many stay with it for a while.
    pub held: u32,
}

impl Ports {
    /// What an earlier incarnation left, or, all zeroes, nothing. Also says how many entries made
    /// no sense and were put right: the owner was none of `owners` (a bit each, from 1 on), or a
    /// hold was longer than there are.
    pub(crate) fn new(table: PortTable, holds: Holds, owners: u64, now: Seconds) -> (Self, u32) {
        let mut ports = Self {
            table,
            holds,
            held: [0; BLOCKS],
            owned: [0; BLOCKS],
            next_expiry: None,
            next: [*EPHEMERAL_PORTS.start(); 2],
        };
        let mut repaired = 0;
        for start in (0..ENTRIES).step_by(4) {
            // Most of it is empty.
            if ports.table.four_are_free(start)
                && ports.holds.two_are_empty(start)
                && ports.holds.two_are_empty(start + 2)
            {
                continue;
            }
            for index in start..start + 4 {
                repaired += u32::from(ports.recover(index, owners, now));
            }
        }
        (ports, repaired)
    }

    /// Takes over one entry. Returns whether it made no sense.
    fn recover(&mut self, index: usize, owners: u64, now: Seconds) -> bool {
        let Some((family, protocol, port)) = from_index(index) else {
            return false;
        };
        let owner = self.table.owner(family, protocol, port);
        self.owned[index / BLOCK] += u16::from(owner != FREE);
        if owner == FREE {
            // It was becoming free.
            if self.holds.at(index) != Hold::default() {
                self.holds.set(family, protocol, port, Hold::default());
            }
            return false;
        }
        let bit = 1u64.checked_shl(u32::from(owner) - 1).unwrap_or(0);
        if port == 0 || owners & bit == 0 {
            self.free(family, protocol, port);
            return true;
        }
        let hold = self.holds.at(index);
        let until = hold.until.min(now.saturating_add(LONGEST_HOLD_SECONDS));
        if until != hold.until {
            self.holds
                .set(family, protocol, port, Hold { until, ..hold });
        }
        if hold.released {
            self.held[index / BLOCK] += 1;
            self.expect(until);
        }
        until != hold.until
    }

    /// Nobody owns the port any more. In this order: a port without an owner that still has a
    /// hold is known to be free, one without a hold that still has an owner would be taken for
    /// a bound one.
    fn free(&mut self, family: Family, protocol: Protocol, port: u16) {
        let owned = &mut self.owned[index(family, protocol, port) / BLOCK];
        *owned = owned.saturating_sub(1);
        self.table.set(family, protocol, port, FREE);
        fence(Release);
        reached(Point::PortmapFreed);
        self.holds.set(family, protocol, port, Hold::default());
    }

    /// The table.
    pub const fn table(&self) -> &PortTable {
        &self.table
    }

    pub(crate) const fn holds(&mut self) -> &mut Holds {
        &mut self.holds
    }

    /// Whether `owner` has bound the port.
    fn is_bound(&self, owner: u16, family: Family, protocol: Protocol, port: u16) -> bool {
        owner != FREE
            && self.table.owner(family, protocol, port) == owner
            && !self.holds.get(family, protocol, port).released
    }

    /// Whether `owner` may have `port` in all of `families`: it is free, or its own and was given
    /// back.
    pub(crate) fn may_bind(
        &self,
        owner: u16,
        families: Families,
        protocol: Protocol,
        port: u16,
    ) -> Result<(), PortError> {
        if port == 0 {
            return Err(PortError::InvalidPort);
        }
        let may_have = |family: &Family| {
            let holder = self.table.owner(*family, protocol, port);
            let released = self.holds.get(*family, protocol, port).released;
            holder == FREE || holder == owner && released
        };
        if !families.each().iter().all(may_have) {
            return Err(PortError::AddressInUse);
        }
        Ok(())
    }

    /// A port of [`EPHEMERAL_PORTS`] that is free in all of `families`.
    pub(crate) fn find_free(
        &mut self,
        families: Families,
        protocol: Protocol,
    ) -> Result<u16, PortError> {
        let next = usize::from(protocol == Protocol::Udp);
        let mut port = self.next[next];
        for _ in EPHEMERAL_PORTS {
            let candidate = port;
            port = if port == *EPHEMERAL_PORTS.end() {
                *EPHEMERAL_PORTS.start()
            } else {
                port + 1
            };
            let is_free = |family: &Family| self.table.owner(*family, protocol, candidate) == FREE;
            if families.each().iter().all(is_free) {
                self.next[next] = port;
                return Ok(candidate);
            }
        }
        Err(PortError::NoPortFree)
    }

    /// Gives `port` to `owner`, in all of `families` but those where it is another's. To be
    /// done once more if it was done in part.
    pub(crate) fn bind(&mut self, owner: u16, families: Families, protocol: Protocol, port: u16) {
        for family in families.each() {
            let holder = self.table.owner(*family, protocol, port);
            if port == 0 || owner == FREE || holder != FREE && holder != owner {
                continue;
            }
            let hold = self.holds.get(*family, protocol, port);
            if hold.released {
                let held = &mut self.held[index(*family, protocol, port) / BLOCK];
                *held = held.saturating_sub(1);
                let hold = Hold {
                    released: false,
                    ..hold
                };
                self.holds.set(*family, protocol, port, hold);
            }
            reached(Point::PortmapHoldEnded);
            self.owned[index(*family, protocol, port) / BLOCK] += u16::from(holder == FREE);
            self.table.set(*family, protocol, port, owner);
            reached(Point::PortmapBound);
        }
    }

    /// Whether `owner` has bound `port` in all of `families`.
    pub(crate) fn may_release(
        &self,
        owner: u16,
        families: Families,
        protocol: Protocol,
        port: u16,
    ) -> Result<(), PortError> {
        let is_bound = |family: &Family| self.is_bound(owner, *family, protocol, port);
        if !families.each().iter().all(is_bound) {
            return Err(PortError::NotOwner);
        }
        Ok(())
    }

    /// Takes `port` back from `owner`, where it has bound it. A hold that lasts goes on. To be
    /// done once more if it was done in part.
    pub(crate) fn release(
        &mut self,
        owner: u16,
        families: Families,
        protocol: Protocol,
        port: u16,
        now: Seconds,
    ) {
        for family in families.each() {
            if self.is_bound(owner, *family, protocol, port) {
                self.give_back(*family, protocol, port, now);
            }
        }
    }

    /// How many ports `owner` has bound; one counts once for each version of IP.
    pub(crate) fn count_bound(&self, owner: u16) -> u32 {
        let mut count = 0;
        if owner == FREE {
            return count;
        }
        for block in 0..BLOCKS {
            // Most of the table is empty, and everybody waits meanwhile.
            if self.owned[block] == 0 {
                continue;
            }
            let ports = block_of(block).filter_map(from_index);
            count += ports
                .filter(|(family, protocol, port)| self.is_bound(owner, *family, *protocol, *port))
                .count() as u32;
        }
        count
    }

    /// Takes all ports back from `owner`.
    pub(crate) fn release_all(&mut self, owner: u16, now: Seconds) -> Returned {
        let mut returned = Returned::default();
        if owner == FREE {
            return returned;
        }
        for block in 0..BLOCKS {
            // Most of the table is empty, and everybody waits meanwhile: who dies over and over would
            // otherwise take much of the machine.
            if self.owned[block] == 0 {
                continue;
            }
            for (family, protocol, port) in block_of(block).filter_map(from_index) {
                if !self.is_bound(owner, family, protocol, port) {
                    continue;
                }
                if self.give_back(family, protocol, port, now) {
                    returned.held += 1;
                } else {
                    returned.free += 1;
                }
                reached(Point::PortmapOneReturned);
            }
        }
        returned
    }

    /// Whether `port` is the owner's in all of `families`, be it bound or held.
    pub(crate) fn may_hold(
        &self,
        owner: u16,
        families: Families,
        protocol: Protocol,
        port: u16,
    ) -> Result<(), PortError> {
        let is_owner = |family: &Family| self.table.owner(*family, protocol, port) == owner;
        if owner == FREE || !families.each().iter().all(is_owner) {
            return Err(PortError::NotOwner);
        }
        Ok(())
    }

    /// Notes that connections on `port` are in TIME_WAIT until then, where it is the owner's. An
    /// earlier hold that ends later stays.
    pub(crate) fn hold(
        &mut self,
        owner: u16,
        families: Families,
        protocol: Protocol,
        port: u16,
        until: Seconds,
    ) {
        for family in families.each() {
            if owner == FREE || self.table.owner(*family, protocol, port) != owner {
                continue;
            }
            let hold = self.holds.get(*family, protocol, port);
            let hold = Hold {
                until: hold.until.max(until),
                ..hold
            };
            self.holds.set(*family, protocol, port, hold);
        }
    }

    /// Frees the ports whose holds have ended.
    pub(crate) fn expire(&mut self, now: Seconds) {
        if self.next_expiry.is_none_or(|next| next > now) {
            return;
        }
        self.next_expiry = None;
        for block in 0..BLOCKS {
            if self.held[block] == 0 {
                continue;
            }
            for index in block_of(block) {
                let hold = self.holds.at(index);
                if !hold.released {
                    continue;
                }
                if hold.lasts(now) {
                    self.expect(hold.until);
                } else if let Some((family, protocol, port)) = from_index(index) {
                    self.free(family, protocol, port);
                    self.held[block] -= 1;
                }
            }
        }
    }

    /// When [`Self::expire`] has something to do at the earliest.
    pub(crate) const fn next_expiry(&self) -> Option<Seconds> {
        self.next_expiry
    }

    /// Takes one bound port back. Returns whether it is held.
    fn give_back(&mut self, family: Family, protocol: Protocol, port: u16, now: Seconds) -> bool {
        let hold = self.holds.get(family, protocol, port);
        if hold.lasts(now) {
            let hold = Hold {
                released: true,
                ..hold
            };
            self.holds.set(family, protocol, port, hold);
            self.held[index(family, protocol, port) / BLOCK] += 1;
            self.expect(hold.until);
            return true;
        }
        self.free(family, protocol, port);
        false
    }

    fn expect(&mut self, until: Seconds) {
        let next = self.next_expiry.map_or(until, |next| next.min(until));
        self.next_expiry = Some(next);
    }
}

/// The indices of a block.
fn block_of(block: usize) -> core::ops::Range<usize> {
    block * BLOCK..(block + 1) * BLOCK
}

// A block's number of held ports, and an owner's number, fit 16 bits.
const _: () = assert!(BLOCK <= u16::MAX as usize);
const _: () = assert!(MAXIMUM_OWNERS <= u16::MAX as usize);
