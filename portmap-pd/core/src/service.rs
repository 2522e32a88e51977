//! What the port map answers, given who asks and what time it is.
//!
//! Times are microseconds since the machine started.
//!
//! The port map may die between any two of its stores. What it has in the two regions is then
//! put in order by its successor ([`Service::new`]): requests that were begun are carried out
//! ([`crate::journal`]), all else is such that doing it once more does no harm. What makes no
//! sense is put right and counted ([`Repairs`]).

use crate::addresses::AddressTable;
use crate::config::{MAXIMUM_OWNERS, OwnerEntry, OwnerTable, PoolTable};
use crate::holds::{Holds, Seconds};
use crate::journal::{Journal, Plan, Record};
use crate::leases::Leases;
use crate::ports::{LONGEST_HOLD_SECONDS, Ports, Returned};
use crate::protocol::{
    Answer, LONGEST_HOLD, Message, Operation, PortError, Request, encode_addresses, encode_answer,
};
use crate::table::{EPHEMERAL_PORTS, PortTable};
use segue_fault_points::{Point, reached};
use segue_shared_memory::Region;

/// The port map: ports and addresses, who may call on which channel, and each caller's
/// last request.
#[derive(Debug)]
pub struct Service {
    ports: Ports,
    leases: Leases,
    owners: &'static OwnerTable,
    journal: Journal,
    repairs: Repairs,
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

/// What made no sense in the regions when the port map took over, and was put right.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Repairs {
    /// Ports of nobody, which became free, and holds without an end, which got one.
    pub ports: u32,
    /// Owners from whom addresses were taken that nobody can have given them.
    pub addresses: u32,
    /// Records of last requests, lives and leases.
    pub records: u32,
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
    /// A port map for these owners and pools, at the time `now`. `tables` is the region of both
    /// tables ([`crate::REGION_SIZE`]), `holds` what nobody else reads ([`crate::HOLDS_SIZE`]);
    /// what an earlier incarnation left in them holds. `None` if one is too small.
    pub fn new(
        tables: Region,
        holds: Region,
        owners: &'static OwnerTable,
        pools: &'static PoolTable,
        now: u64,
    ) -> Option<Self> {
        let sharing = owners.owners().iter().filter(|entry| !entry.is_alone());
        let sharing = sharing.fold(0, |set, entry| {
            set | 1u64
                .checked_shl(u32::from(entry.owner).wrapping_sub(1))
                .unwrap_or(0)
        });
        let table = PortTable::new(tables)?;
        let (ports, repaired) = Ports::new(table, Holds::new(holds)?, sharing, seconds(now));
        let mut service = Self {
            ports,
            leases: Leases::new(AddressTable::new(tables)?, owners, pools),
            owners,
            journal: Journal::new(holds),
            repairs: Repairs {
                ports: repaired,
                ..Repairs::default()
            },
            gone: [false; MAXIMUM_OWNERS],
            next: 0,
        };
        service.go_on(now);
        service.repair_times(now);
        Some(service)
    }

    /// Carries out what a predecessor has begun.
    fn go_on(&mut self, now: u64) {
        let owners = self.owners;
        for entry in owners.owners() {
            match self.journal.last(entry.owner) {
                Record::Nothing | Record::Done(..) => {}
                Record::Begun(request, plan) => {
                    self.carry_out(entry, request.operation, plan, now);
                    self.journal.finish(entry.owner);
                }
                Record::Damaged => {
                    self.journal.clear(entry.owner);
                    self.repairs.records += 1;
                }
            }
        }
    }

    /// Puts right what cannot be: times, and addresses that go with them.
    fn repair_times(&mut self, now: u64) {
        let owners = self.owners;
        self.repairs.addresses += self.leases.repair();
        let latest = seconds(now).saturating_add(LONGEST_HOLD_SECONDS);
        for entry in owners.owners() {
            let holds = self.ports.holds();
            if holds.last_hold(entry.owner) > latest {
                holds.set_last_hold(entry.owner, latest);
                self.repairs.records += 1;
            }
            let lease = holds.lease(entry.owner);
            let has_lease = lease != 0;
            if !entry.is_dhcp_client() {
                if has_lease {
                    holds.set_lease(entry.owner, 0);
                    self.repairs.records += 1;
                }
                continue;
            }
            let is_shared = self.leases.is_shared(entry);
            if has_lease && is_shared && self.leases.is_shared_by_all(entry) {
                continue;
            }
            // An address without an end, or an end without an address. Where its client hears
            // of it, it says again what it has found out.
            self.leases.share(entry, None);
            self.ports.holds().set_lease(entry.owner, 0);
            // One whose time has come was being taken away.
            let is_over = has_lease && lease <= seconds(now);
            self.repairs.records += u32::from((has_lease || is_shared) && !is_over);
        }
    }

    /// What was put right when this port map took over.
    pub const fn repairs(&self) -> Repairs {
        self.repairs
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
        let owners = self.owners;
        let entry = &owners.owners()[index];
        if request.operation == Operation::Addresses {
            // Asked again, it is answered again.
            return encode_addresses(sequence, self.leases.addresses(entry));
        }
        let answer = match self.journal.last(entry.owner) {
            Record::Done(last, answer) if last == request => answer,
            _ => self.perform(entry, &request, now),
        };
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
        // One that is yet to come cannot have been seen: that word is damaged.
        let is_another = seen != 0 && seen < current;
        let was_gone = core::mem::replace(&mut self.gone[index], life.is_gone);
        let has_ended = !was_gone && (life.is_gone || is_another);
        let returned = has_ended.then(|| {
            self.journal.clear(owner);
            self.ports.release_all(owner, seconds(now))
        });
        reached(Point::PortmapLifeEnded);
        // Last: if this port map dies before, its successor ends that life.
        if seen != current {
            self.ports.holds().set_incarnation(owner, current);
        }
        if has_ended {
            self.expire(now);
        }
        returned
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
                // In this order: an address whose lease is forgotten would stay.
                self.leases.share(entry, None);
                self.ports.holds().set_lease(entry.owner, 0);
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

    /// Carries out a request that is not answered yet.
    fn perform(&mut self, entry: &OwnerEntry, request: &Request, now: u64) -> Answer {
        let owner = entry.owner;
        if entry.is_alone()
            && let Some(answer) = self.perform_alone(request.operation, now)
        {
            self.journal.answered(owner, request, answer);
            return answer;
        }
        let plan = match self.plan(entry, request.operation, now) {
            Ok(plan) => plan,
            Err(error) => {
                self.journal.answered(owner, request, Err(error));
                return Err(error);
            }
        };
        self.journal.begin(owner, request, plan);
        reached(Point::PortmapBegun);
        self.carry_out(entry, request.operation, plan, now);
        reached(Point::PortmapCarriedOut);
        self.journal.finish(owner);
        Ok(plan.answer)
    }

    /// Decides what is to be done about a request. Changes nothing.
    fn plan(
        &mut self,
        entry: &OwnerEntry,
        operation: Operation,
        now: u64,
    ) -> Result<Plan, PortError> {
        let owner = entry.owner;
        let answer = |answer: u32| Plan { answer, until: 0 };
        match operation {
            Operation::Bind(protocol, port, families) => {
                self.ports.may_bind(owner, families, protocol, port)?;
                Ok(answer(port.into()))
            }
            Operation::BindAny(protocol, families) => {
                let port = self.ports.find_free(families, protocol)?;
                Ok(answer(port.into()))
            }
            Operation::Release(protocol, port, families) => {
                self.ports.may_release(owner, families, protocol, port)?;
                Ok(answer(port.into()))
            }
            Operation::ReleaseAll => Ok(answer(self.ports.count_bound(owner))),
            Operation::Hold(protocol, port, families, milliseconds) => {
                if !entry.is_alone() {
                    self.ports.may_hold(owner, families, protocol, port)?;
                }
                let milliseconds = milliseconds.min(LONGEST_HOLD);
                Ok(Plan {
                    answer: port.into(),
                    until: seconds_up(now.saturating_add(u64::from(milliseconds) * 1000)),
                })
            }
            Operation::SetShared(shared) if entry.is_dhcp_client() => {
                let Some(shared) = shared else {
                    return Ok(answer(0));
                };
                self.leases.check(entry, &shared)?;
                let end = now.saturating_add(u64::from(shared.seconds) * 1_000_000);
                Ok(Plan {
                    answer: 0,
                    until: seconds_up(end),
                })
            }
            Operation::SetShared(_) => Err(PortError::NotAllowed),
            // Answered elsewhere.
            Operation::Addresses => Err(PortError::InvalidRequest),
        }
    }

    /// Does what was decided, or what is left of it: whatever of it was done is not done twice.
    /// It may have been decided by a predecessor, which is believed nothing that does harm.
    fn carry_out(&mut self, entry: &OwnerEntry, operation: Operation, plan: Plan, now: u64) {
        let owner = entry.owner;
        match operation {
            Operation::Bind(..)
            | Operation::BindAny(..)
            | Operation::Release(..)
            | Operation::ReleaseAll
                if entry.is_alone() => {}
            Operation::Bind(protocol, port, families) => {
                self.ports.bind(owner, families, protocol, port);
            }
            Operation::BindAny(protocol, families) => {
                if let Ok(port) = u16::try_from(plan.answer) {
                    self.ports.bind(owner, families, protocol, port);
                }
            }
            Operation::Release(protocol, port, families) => {
                self.ports
                    .release(owner, families, protocol, port, seconds(now));
            }
            Operation::ReleaseAll => {
                if plan.answer != 0 {
                    self.ports.release_all(owner, seconds(now));
                }
            }
            Operation::Hold(protocol, port, families, _) => {
                let latest = seconds_up(now).saturating_add(LONGEST_HOLD_SECONDS);
                let until = plan.until.min(latest);
                if !entry.is_alone() {
                    self.ports.hold(owner, families, protocol, port, until);
                }
                reached(Point::PortmapHeld);
                let holds = self.ports.holds();
                let last = holds.last_hold(owner).max(until);
                holds.set_last_hold(owner, last);
            }
            Operation::SetShared(shared) if entry.is_dhcp_client() => {
                let shared = shared.filter(|shared| self.leases.check(entry, shared).is_ok());
                self.leases.share(entry, shared.as_ref());
                reached(Point::PortmapShared);
                let until = shared.map_or(0, |_| plan.until);
                self.ports.holds().set_lease(owner, until);
            }
            Operation::SetShared(_) | Operation::Addresses => {}
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
