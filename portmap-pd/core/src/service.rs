//! What the port map answers, given who asks and what time it is.
//!
//! Times are microseconds since the machine started.

use crate::addresses::AddressTable;
use crate::config::{MAXIMUM_OWNERS, OwnerEntry, OwnerTable, PoolTable};
use crate::holds::{Holds, Seconds};
use crate::leases::Leases;
use crate::ports::{Ports, Returned};
use crate::protocol::{
    Answer, LONGEST_HOLD, Message, Operation, PortError, Request, encode_addresses, encode_answer,
};
use crate::table::{EPHEMERAL_PORTS, PortTable};
use segue_shared_memory::Region;

/// The port map: ports and addresses, who may call on which channel, and each caller's
/// last request.
#[derive(Debug)]
pub struct Service {
    ports: Ports,
    leases: Leases,
    owners: &'static OwnerTable,
    /// The last request of the owner in the same entry of `owners`, with its
    /// answer. `None` until the first: then an earlier incarnation may have
    /// done what is being asked.
    last: [Option<(Request, Answer)>; MAXIMUM_OWNERS],
    /// The owners in the same entries that have been stopped or cut off.
    gone: [bool; MAXIMUM_OWNERS],
    /// The next ephemeral port of owners that are alone at their address; 0 before the first.
    next: u16,
}

/// Which incarnation of an owner there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Life {
    /// How often the owner has been restarted.
    pub restarts: u32,
    /// Whether it has been stopped after a fault, or cut off by the network server.
    pub is_gone: bool,
}

/// Who must hear of changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Whether the address table has changed: the network server must hear of it.
    pub table: bool,
    /// The owners, by their index in [`OwnerTable`], that should ask for their addresses.
    pub owners: u64,
}

/// A time in microseconds as full seconds.
fn seconds(microseconds: u64) -> Seconds {
    Seconds::try_from(microseconds / 1_000_000).unwrap_or(Seconds::MAX)
}

/// The first full second at or after this time; one that does not fit is the last that does.
fn seconds_up(microseconds: u64) -> Seconds {
    // The top bit has another meaning in the memory of holds.
    const LAST: Seconds = Seconds::MAX / 2;
    let up = microseconds.div_ceil(1_000_000);
    Seconds::try_from(up).map_or(LAST, |up| up.min(LAST))
}

impl Service {
    /// A port map for these owners and pools. `tables` is the region of both tables
    /// ([`crate::REGION_SIZE`]), `holds` what nobody else reads ([`crate::HOLDS_SIZE`]); what
    /// an earlier incarnation left in them holds. `None` if one is too small.
    pub fn new(
        tables: Region,
        holds: Region,
        owners: &'static OwnerTable,
        pools: &'static PoolTable,
    ) -> Option<Self> {
        let ports = Ports::new(PortTable::new(tables)?, Holds::new(holds)?);
        Some(Self {
            ports,
            leases: Leases::new(AddressTable::new(tables)?, owners, pools),
            owners,
            last: [None; MAXIMUM_OWNERS],
            gone: [false; MAXIMUM_OWNERS],
            next: 0,
        })
    }

    /// The port table.
    pub const fn table(&self) -> &PortTable {
        self.ports.table()
    }

    /// The address table.
    pub const fn addresses(&self) -> &AddressTable {
        self.leases.table()
    }

    /// Answers a message that came in on this channel.
    pub fn handle(&mut self, channel: u32, message: &Message, now: u64) -> Message {
        let sequence = message.registers[0];
        let refuse = |error| encode_answer(sequence, Err(error));
        let Some(index) = self.caller(channel) else {
            return refuse(PortError::NotAllowed);
        };
        if self.gone[index] {
            return refuse(PortError::NotAllowed);
        }
        let request = match Request::decode(message) {
            Ok(request) => request,
            Err(error) => return refuse(error),
        };
        self.expire(now);
        let entry = &self.owners.owners()[index];
        if request.operation == Operation::Addresses {
            // Asked again, it is answered again.
            self.last[index] = Some((request, Ok(0)));
            return encode_addresses(sequence, self.leases.addresses(entry));
        }
        let answer = match self.last[index] {
            Some((last, answer)) if last == request => answer,
            last => self.perform(entry, request.operation, last.is_none(), now),
        };
        self.last[index] = Some((request, answer));
        encode_answer(sequence, answer)
    }

    /// Who calls on this channel: an index into the table of owners.
    pub fn caller(&self, channel: u32) -> Option<usize> {
        let mut owners = self.owners.owners().iter();
        owners.position(|entry| entry.channel == channel)
    }

    /// Takes note of the owner in entry `index`. One that is gone has no ports but those that
    /// are held, and gets none; if there is another incarnation of it, it starts with none.
    /// Either happens once for each life that ended, whenever it is noticed: before
    /// a new incarnation's first request is answered, this must have been called.
    /// Returns what was taken back from a life that ended.
    pub fn note(&mut self, index: usize, life: Life, now: u64) -> Option<Returned> {
        let owner = self.owners.owners().get(index)?.owner;
        let seen = self.ports.holds().incarnation(owner);
        let current = life.restarts.saturating_add(1);
        if seen != current {
            self.ports.holds().set_incarnation(owner, current);
        }
        let is_another = seen != 0 && seen != current;
        let was_gone = core::mem::replace(&mut self.gone[index], life.is_gone);
        if was_gone || !(life.is_gone || is_another) {
            return None;
        }
        self.last[index] = None;
        let returned = self.ports.release_all(owner, seconds(now));
        self.expire(now);
        Some(returned)
    }

    /// Does what time has brought about; call it at [`Self::next_deadline`].
    pub fn expire(&mut self, now: u64) {
        let now = seconds(now);
        self.ports.expire(now);
        for (index, entry) in self.owners.owners().iter().enumerate() {
            if self.gone[index]
                && self.leases.has_member(entry)
                && self.ports.holds().last_hold(entry.owner) <= now
            {
                self.leases.give_back(entry);
            }
            let lease = self.ports.holds().lease(entry.owner);
            if lease != 0 && lease <= now {
                self.ports.holds().set_lease(entry.owner, 0);
                // Taking away is never refused.
                let _ = self.leases.share(entry, None);
            }
        }
    }

    /// When [`Self::expire`] should be called at the latest.
    pub fn next_deadline(&mut self) -> Option<u64> {
        let mut next = self.ports.next_expiry();
        let mut expect = |at: Seconds| next = Some(next.map_or(at, |next| next.min(at)));
        for (index, entry) in self.owners.owners().iter().enumerate() {
            if self.gone[index] && self.leases.has_member(entry) {
                expect(self.ports.holds().last_hold(entry.owner));
            }
            let lease = self.ports.holds().lease(entry.owner);
            if lease != 0 {
                expect(lease);
            }
        }
        next.map(|at| u64::from(at) * 1_000_000)
    }

    /// Who must be notified of what has changed since the last call.
    pub fn take_changes(&mut self) -> Changes {
        Changes {
            table: core::mem::take(&mut self.leases.changed),
            owners: core::mem::take(&mut self.leases.notify),
        }
    }

    fn perform(
        &mut self,
        entry: &OwnerEntry,
        operation: Operation,
        first: bool,
        now: u64,
    ) -> Answer {
        if entry.is_alone()
            && let Some(answer) = self.perform_alone(operation, now)
        {
            return answer;
        }
        let owner = entry.owner;
        let second = seconds(now);
        match operation {
            Operation::Bind(protocol, port, families) => {
                // The first request since this incarnation started may repeat
                // one that its predecessor carried out and did not answer.
                let result = self
                    .ports
                    .bind(owner, families, protocol, port, first, second);
                result.map(|()| port.into())
            }
            Operation::BindAny(protocol, families) => self
                .ports
                .bind_any(owner, families, protocol, second)
                .map(u32::from),
            Operation::Release(protocol, port, families) => {
                // As above.
                let result = self
                    .ports
                    .release(owner, families, protocol, port, first, second);
                result.map(|()| port.into())
            }
            Operation::ReleaseAll => {
                let returned = self.ports.release_all(owner, second);
                Ok(returned.free + returned.held)
            }
            Operation::Hold(protocol, port, families, milliseconds) => {
                let milliseconds = milliseconds.min(LONGEST_HOLD);
                let until = seconds_up(now.saturating_add(u64::from(milliseconds) * 1000));
                if !entry.is_alone() {
                    self.ports
                        .hold(owner, families, protocol, port, until, second)?;
                }
                let holds = self.ports.holds();
                let last = holds.last_hold(owner).max(until);
                holds.set_last_hold(owner, last);
                Ok(port.into())
            }
            Operation::SetShared(shared) if entry.is_dhcp_client() => {
                self.leases.share(entry, shared.as_ref())?;
                let until = shared.map_or(0, |shared| {
                    seconds_up(now.saturating_add(u64::from(shared.seconds) * 1_000_000))
                });
                self.ports.holds().set_lease(owner, until);
                Ok(0)
            }
            Operation::SetShared(_) => Err(PortError::NotAllowed),
            // Answered elsewhere.
            Operation::Addresses => Err(PortError::InvalidRequest),
        }
    }

    /// What an owner is told that is alone at its address, as far as it is special: it has all
    /// ports, and keeps account of them itself.
    fn perform_alone(&mut self, operation: Operation, now: u64) -> Option<Answer> {
        match operation {
            Operation::Bind(_, 0, _) => Some(Err(PortError::InvalidPort)),
            Operation::Bind(_, port, _) | Operation::Release(_, port, _) => Some(Ok(port.into())),
            Operation::BindAny(..) => {
                let first = *EPHEMERAL_PORTS.start();
                if self.next == 0 {
                    // Not where a predecessor has begun.
                    let count = EPHEMERAL_PORTS.len() as u64;
                    self.next = first + (now % count) as u16;
                }
                let port = self.next;
                self.next = port.checked_add(1).unwrap_or(first);
                Some(Ok(port.into()))
            }
            Operation::ReleaseAll => Some(Ok(0)),
            _ => None,
        }
    }
}
