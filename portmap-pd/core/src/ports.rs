//! Who has which port, and which ports stay with their owner after it has gone.
//!
//! A port is *bound*, *held*, or *free*. Held is a port whose owner has given it back, or is
//! gone, while a connection on it was in TIME_WAIT: the table still names the owner, who
//! may bind it again at once; everybody else waits until the hold has ended.

use crate::config::MAXIMUM_OWNERS;
use crate::holds::{Hold, Holds, Seconds};
use crate::protocol::PortError;
use crate::table::{
    ENTRIES, EPHEMERAL_PORTS, FREE, Families, Family, PortTable, Protocol, from_index, index,
};

/// Ports of one block: blocks without a held port need no look when time has passed.
const BLOCK: usize = 256;
const BLOCKS: usize = ENTRIES / BLOCK;

/// Ports, their owners and their holds.
#[derive(Debug)]
pub struct Ports {
    table: PortTable,
    holds: Holds,
    /// Held ports in each block.
    held: [u16; BLOCKS],
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
    /// What an earlier incarnation left, or, all zeroes, nothing.
    pub(crate) fn new(table: PortTable, holds: Holds) -> Self {
        let mut ports = Self {
            table,
            holds,
            held: [0; BLOCKS],
            next_expiry: None,
            next: [*EPHEMERAL_PORTS.start(); 2],
        };
        for start in (0..ENTRIES).step_by(2) {
            // Most of it is empty.
            if ports.holds.two_are_empty(start) {
                continue;
            }
            for index in [start, start + 1] {
                let hold = ports.holds.at(index);
                if hold.released {
                    ports.held[index / BLOCK] += 1;
                    ports.expect(hold.until);
                }
            }
        }
        ports
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

    /// Gives `port` to `owner`, in all of `families` or in none. With `again` it may be the
    /// owner's already, in any of them.
    pub(crate) fn bind(
        &mut self,
        owner: u16,
        families: Families,
        protocol: Protocol,
        port: u16,
        again: bool,
        now: Seconds,
    ) -> Result<(), PortError> {
        if port == 0 {
            return Err(PortError::InvalidPort);
        }
        self.expire(now);
        let may_have = |family: &Family| {
            let holder = self.table.owner(*family, protocol, port);
            let released = self.holds.get(*family, protocol, port).released;
            holder == FREE || holder == owner && (released || again)
        };
        if !families.each().iter().all(may_have) {
            return Err(PortError::AddressInUse);
        }
        for family in families.each() {
            let hold = self.holds.get(*family, protocol, port);
            if hold.released {
                self.held[index(*family, protocol, port) / BLOCK] -= 1;
                let hold = Hold {
                    released: false,
                    ..hold
                };
                self.holds.set(*family, protocol, port, hold);
            }
            self.table.set(*family, protocol, port, owner);
        }
        Ok(())
    }

    /// Gives a port of [`EPHEMERAL_PORTS`] to `owner` that is free in all of `families`.
    pub(crate) fn bind_any(
        &mut self,
        owner: u16,
        families: Families,
        protocol: Protocol,
        now: Seconds,
    ) -> Result<u16, PortError> {
        self.expire(now);
        let next = usize::from(protocol == Protocol::Udp);
        let mut port = self.next[next];
        for _ in EPHEMERAL_PORTS {
            let candidate = port;
            port = if port == *EPHEMERAL_PORTS.end() {
                *EPHEMERAL_PORTS.start()
            } else {
                port + 1
            };
            if self
                .table
                .bind(owner, families, protocol, candidate)
                .is_ok()
            {
                self.next[next] = port;
                return Ok(candidate);
            }
        }
        Err(PortError::NoPortFree)
    }

    /// Takes `port` back from `owner`, in all of `families` or in none. A hold that lasts
    /// goes on. With `again` it may have been taken back already, in any of them.
    pub(crate) fn release(
        &mut self,
        owner: u16,
        families: Families,
        protocol: Protocol,
        port: u16,
        again: bool,
        now: Seconds,
    ) -> Result<(), PortError> {
        let may = |family: &Family| {
            let holder = self.table.owner(*family, protocol, port);
            self.is_bound(owner, *family, protocol, port)
                || again && port != 0 && (holder == FREE || holder == owner)
        };
        if !families.each().iter().all(may) {
            return Err(PortError::NotOwner);
        }
        for family in families.each() {
            if self.is_bound(owner, *family, protocol, port) {
                self.give_back(*family, protocol, port, now);
            }
        }
        Ok(())
    }

    /// Takes all ports back from `owner`.
    pub(crate) fn release_all(&mut self, owner: u16, now: Seconds) -> Returned {
        let mut returned = Returned::default();
        if owner == FREE {
            return returned;
        }
        for start in (0..ENTRIES).step_by(4) {
            // Most of the table is empty, and everybody waits meanwhile.
            if self.table.four_are_free(start) {
                continue;
            }
            for (family, protocol, port) in (start..start + 4).filter_map(from_index) {
                if !self.is_bound(owner, family, protocol, port) {
                    continue;
                }
                if self.give_back(family, protocol, port, now) {
                    returned.held += 1;
                } else {
                    returned.free += 1;
                }
            }
        }
        returned
    }

    /// Notes that connections on `port` are in TIME_WAIT until then. An earlier hold that
    /// ends later stays.
    pub(crate) fn hold(
        &mut self,
        owner: u16,
        families: Families,
        protocol: Protocol,
        port: u16,
        until: Seconds,
        now: Seconds,
    ) -> Result<(), PortError> {
        self.expire(now);
        let is_owner = |family: &Family| self.table.owner(*family, protocol, port) == owner;
        if owner == FREE || !families.each().iter().all(is_owner) {
            return Err(PortError::NotOwner);
        }
        for family in families.each() {
            let hold = self.holds.get(*family, protocol, port);
            let hold = Hold {
                until: hold.until.max(until),
                ..hold
            };
            self.holds.set(*family, protocol, port, hold);
        }
        Ok(())
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
            for index in block * BLOCK..(block + 1) * BLOCK {
                let hold = self.holds.at(index);
                if !hold.released {
                    continue;
                }
                if hold.lasts(now) {
                    self.expect(hold.until);
                } else if let Some((family, protocol, port)) = from_index(index) {
                    self.table.set(family, protocol, port, FREE);
                    self.holds.set(family, protocol, port, Hold::default());
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
        // Whoever sees a free port must not find an old hold at it.
        self.holds.set(family, protocol, port, Hold::default());
        self.table.set(family, protocol, port, FREE);
        false
    }

    fn expect(&mut self, until: Seconds) {
        let next = self.next_expiry.map_or(until, |next| next.min(until));
        self.next_expiry = Some(next);
    }
}

// A block's number of held ports, and an owner's number, fit 16 bits.
const _: () = assert!(BLOCK <= u16::MAX as usize);
const _: () = assert!(MAXIMUM_OWNERS <= u16::MAX as usize);
