//! The port map as one would write it without thinking of cost, restarts or memory: what
//! the real one is compared with in tests and by the fuzzer.

extern crate std;

use crate::config::{NO_POOL, OwnerEntry, OwnerTable, PoolTable};
use crate::ipv4::{is_host, is_router};
use crate::protocol::{
    Answer, LONGEST_HOLD, Message, Operation, PortError, Request, SharedAddress, decode_addresses,
    decode_answer,
};
use crate::table::{EPHEMERAL_PORTS, Families, Family, Protocol, TABLE_SIZE};
use crate::{AddressReader, Life, Returned, Service};
use segue_frame_channel::config::{ADDRESS_LEASED, Addresses};
use segue_shared_memory::Region;
use std::collections::BTreeMap;
use std::vec;
use std::vec::Vec;

type Key = (Family, Protocol, u16);

/// A port that is not free.
#[derive(Clone, Copy, Debug)]
struct Port {
    owner: u16,
    bound: bool,
    /// When its hold ends, in seconds; 0 if there is none.
    until: u64,
}

/// The model.
#[derive(Debug)]
pub struct Model {
    owners: &'static OwnerTable,
    pools: &'static PoolTable,
    ports: BTreeMap<Key, Port>,
    last_hold: BTreeMap<u16, u64>,
    /// Members of pools, by owner.
    members: BTreeMap<u16, Addresses>,
    /// What DHCP clients have said, by owner, and until when.
    shared: BTreeMap<u16, (SharedAddress, u64)>,
    gone: Vec<bool>,
    /// How often they had been restarted when they were seen last.
    restarts: Vec<Option<u32>>,
    last: Vec<Option<(Request, Message)>>,
}

impl Model {
    /// Nothing is bound.
    pub fn new(owners: &'static OwnerTable, pools: &'static PoolTable) -> Self {
        let count = owners.owners().len();
        Self {
            owners,
            pools,
            ports: BTreeMap::new(),
            last_hold: BTreeMap::new(),
            members: BTreeMap::new(),
            shared: BTreeMap::new(),
            gone: vec![false; count],
            restarts: vec![None; count],
            last: vec![None; count],
        }
    }

    /// Time has passed.
    pub fn pass(&mut self, now: u64) {
        let second = now / 1_000_000;
        self.ports
            .retain(|_, port| port.bound || port.until > second);
        for (index, entry) in self.owners.owners().iter().enumerate() {
            let last = self.last_hold.get(&entry.owner).copied().unwrap_or(0);
            if self.gone[index] && last <= second {
                self.members.remove(&entry.owner);
            }
        }
        self.shared.retain(|_, (_, until)| *until > second);
    }

    /// Asserts that `reply` is the answer to `message`, and does what it says was done.
    pub fn answered(&mut self, channel: u32, message: &Message, reply: &Message, now: u64) {
        self.pass(now);
        let sequence = message.registers[0];
        let answer = decode_answer(sequence, reply);
        let mut owners = self.owners.owners().iter();
        let index = owners.position(|entry| entry.channel == channel);
        let Some(index) = index.filter(|index| !self.gone[*index]) else {
            assert_eq!(answer, Some(Err(PortError::NotAllowed)));
            return;
        };
        let request = match Request::decode(message) {
            Ok(request) => request,
            Err(error) => {
                assert_eq!(answer, Some(Err(error)), "{message:?}");
                return;
            }
        };
        let entry = &self.owners.owners()[index];
        if request.operation == Operation::Addresses {
            self.addresses(entry, sequence, reply);
        } else {
            match self.last[index] {
                Some((last, before)) if last == request => assert_eq!(*reply, before),
                _ => {
                    let answer = answer.expect("an answer to this request");
                    self.perform(entry, request.operation, answer, now);
                }
            }
            self.last[index] = Some((request, *reply));
        }
    }

    fn addresses(&mut self, entry: &OwnerEntry, sequence: u64, reply: &Message) {
        let answer = decode_addresses(sequence, reply).expect("an answer to this request");
        if entry.flags & ADDRESS_LEASED == 0 {
            assert_eq!(answer, Ok(entry.addresses));
        } else if entry.pool == NO_POOL {
            assert_eq!(answer, self.by_dhcp(entry).ok_or(PortError::NoAddress));
        } else if let Some(member) = self.members.get(&entry.owner) {
            assert_eq!(answer, Ok(*member));
        } else {
            let pool = &self.pools.entries[usize::from(entry.pool) - 1];
            let is_taken = |member: &Addresses| self.members.values().any(|other| other == member);
            match answer {
                Ok(member) => {
                    assert!(pool.members().any(|one| one == member));
                    assert!(!is_taken(&member), "two owners of {member:?}");
                    self.members.insert(entry.owner, member);
                }
                Err(error) => {
                    assert_eq!(error, PortError::NoAddress);
                    assert!(pool.members().all(|member| is_taken(&member)));
                }
            }
        }
    }

    /// The addresses of a sharer whose IPv4 address comes from a DHCP server.
    fn by_dhcp(&self, entry: &OwnerEntry) -> Option<Addresses> {
        let client = |owner: &u16| {
            self.owners
                .owners()
                .iter()
                .any(|client| client.owner == *owner && entry.follows(client))
        };
        let (_, (shared, _)) = self.shared.iter().find(|(owner, _)| client(owner))?;
        Some(Addresses {
            ipv4: shared.address,
            ipv4_prefix_length: shared.prefix_length,
            gateway: shared.gateway,
            ..entry.addresses
        })
    }

    fn perform(&mut self, entry: &OwnerEntry, operation: Operation, answer: Answer, now: u64) {
        let owner = entry.owner;
        let second = now / 1_000_000;
        let of = |port: Option<&Port>| port.map(|port| (port.owner == owner, port.bound));
        let each = |protocol, port, families: Families| {
            let keys = families.each().iter();
            keys.map(move |family| (*family, protocol, port))
        };
        match operation {
            Operation::Bind(_, 0, _) => assert_eq!(answer, Err(PortError::InvalidPort)),
            Operation::Bind(_, port, _) if entry.is_alone() => {
                assert_eq!(answer, Ok(port.into()));
            }
            Operation::Bind(protocol, port, families) => {
                let may =
                    each(protocol, port, families).all(|key| match of(self.ports.get(&key)) {
                        None => true,
                        Some((own, bound)) => own && !bound,
                    });
                if !may {
                    assert_eq!(answer, Err(PortError::AddressInUse));
                    return;
                }
                assert_eq!(answer, Ok(port.into()));
                for key in each(protocol, port, families) {
                    self.take(key, owner);
                }
            }
            Operation::BindAny(protocol, families) => {
                if entry.is_alone() {
                    assert!(answer.is_ok_and(|port| EPHEMERAL_PORTS.contains(&(port as u16))));
                    return;
                }
                let is_free =
                    |port| each(protocol, port, families).all(|key| !self.ports.contains_key(&key));
                match answer {
                    Ok(port) => {
                        let port = u16::try_from(port).expect("a port");
                        assert!(EPHEMERAL_PORTS.contains(&port) && is_free(port), "{port}");
                        for key in each(protocol, port, families) {
                            self.take(key, owner);
                        }
                    }
                    Err(error) => {
                        assert_eq!(error, PortError::NoPortFree);
                        assert!(!EPHEMERAL_PORTS.into_iter().any(is_free));
                    }
                }
            }
            Operation::Release(_, port, _) if entry.is_alone() => {
                assert_eq!(answer, Ok(port.into()));
            }
            Operation::Release(protocol, port, families) => {
                let may = each(protocol, port, families)
                    .all(|key| of(self.ports.get(&key)) == Some((true, true)));
                if !may {
                    assert_eq!(answer, Err(PortError::NotOwner));
                    return;
                }
                assert_eq!(answer, Ok(port.into()));
                for key in each(protocol, port, families) {
                    self.give_back(key, second);
                }
            }
            Operation::ReleaseAll => {
                let returned = self.release_all(owner, second);
                assert_eq!(answer, Ok(returned.free + returned.held));
            }
            Operation::Hold(protocol, port, families, milliseconds) => {
                let until = now + u64::from(milliseconds.min(LONGEST_HOLD)) * 1000;
                let until = until.div_ceil(1_000_000);
                if !entry.is_alone() {
                    let own = |key| of(self.ports.get(&key)).is_some_and(|(own, _)| own);
                    if !each(protocol, port, families).all(own) {
                        assert_eq!(answer, Err(PortError::NotOwner));
                        return;
                    }
                    for key in each(protocol, port, families) {
                        if let Some(port) = self.ports.get_mut(&key) {
                            port.until = port.until.max(until);
                        }
                    }
                }
                assert_eq!(answer, Ok(port.into()));
                let last = self.last_hold.entry(owner).or_default();
                *last = until.max(*last);
            }
            Operation::SetShared(_) if !entry.is_dhcp_client() => {
                assert_eq!(answer, Err(PortError::NotAllowed));
            }
            Operation::SetShared(None) => {
                assert_eq!(answer, Ok(0));
                self.shared.remove(&owner);
            }
            Operation::SetShared(Some(shared)) => {
                let expected = self.may_be_shared(entry, &shared);
                assert_eq!(answer, expected.map(|()| 0), "{shared:?}");
                if expected.is_ok() {
                    let until = now + u64::from(shared.seconds) * 1_000_000;
                    let until = until.div_ceil(1_000_000).min(u64::from(u32::MAX / 2));
                    self.shared.insert(owner, (shared, until));
                }
            }
            Operation::Addresses => unreachable!("answered elsewhere"),
        }
    }

    fn may_be_shared(&self, client: &OwnerEntry, shared: &SharedAddress) -> Result<(), PortError> {
        let (address, length) = (shared.address, shared.prefix_length);
        if !is_host(address, length)
            || shared.seconds == 0
            || shared.gateway != [0; 4] && !is_router(shared.gateway, address, length)
        {
            return Err(PortError::InvalidAddress);
        }
        let owners = self.owners.owners().iter();
        let mut others = owners.filter(|other| other.pool == NO_POOL && !other.follows(client));
        let mut members = self.pools.pools().iter().flat_map(|pool| pool.members());
        if others.any(|other| other.addresses.ipv4 == address)
            || members.any(|member| member.ipv4 == address)
        {
            return Err(PortError::AddressInUse);
        }
        Ok(())
    }

    fn take(&mut self, key: Key, owner: u16) {
        let fresh = Port {
            owner,
            bound: true,
            until: 0,
        };
        self.ports.entry(key).or_insert(fresh).bound = true;
    }

    /// Whether the port stays with its owner; `None` if it was not bound.
    fn give_back(&mut self, key: Key, second: u64) -> Option<bool> {
        let port = self.ports.get_mut(&key).filter(|port| port.bound)?;
        port.bound = false;
        let held = port.until > second;
        if !held {
            self.ports.remove(&key);
        }
        Some(held)
    }

    fn release_all(&mut self, owner: u16, second: u64) -> Returned {
        let mut returned = Returned::default();
        let ports = self.ports.iter();
        let own = ports.filter(|(_, port)| port.owner == owner && port.bound);
        let own: Vec<Key> = own.map(|(key, _)| *key).collect();
        for key in own {
            match self.give_back(key, second) {
                Some(true) => returned.held += 1,
                _ => returned.free += 1,
            }
        }
        returned
    }

    /// Takes note of an owner. Returns what a life that ended has given back.
    pub fn noted(&mut self, index: usize, life: Life, now: u64) -> Option<Returned> {
        self.pass(now);
        let before = self.restarts[index].replace(life.restarts);
        let is_another = before.is_some_and(|before| before != life.restarts);
        let has_ended = (life.is_gone || is_another) && !self.gone[index];
        self.gone[index] = life.is_gone;
        let returned = has_ended.then(|| {
            self.last[index] = None;
            let owner = self.owners.owners()[index].owner;
            self.release_all(owner, now / 1_000_000)
        });
        self.pass(now);
        returned
    }

    /// The port map has been started anew; nobody counts as gone until [`Self::noted`].
    pub fn restarted(&mut self) {
        self.gone.fill(false);
    }

    /// Asserts that both tables in the region say what the model says, in every byte that means
    /// something.
    pub fn compare(&mut self, region: Region, service: &mut Service, now: u64) {
        self.pass(now);
        service.expire(now);
        let mut table = vec![0; TABLE_SIZE];
        region.read(0, &mut table);
        let mut expected = vec![0; TABLE_SIZE];
        for ((family, protocol, port), entry) in &self.ports {
            let place = crate::table::index(*family, *protocol, *port) * 2;
            expected[place..place + 2].copy_from_slice(&entry.owner.to_le_bytes());
        }
        assert!(table == expected, "the port table is not what it should be");
        let reader = AddressReader::new(region).expect("the region has both tables");
        for entry in self.owners.owners() {
            let expected = if entry.flags & ADDRESS_LEASED == 0 {
                None
            } else if entry.pool == NO_POOL {
                self.by_dhcp(entry)
            } else {
                self.members.get(&entry.owner).copied()
            };
            assert_eq!(reader.addresses(entry.owner), expected, "{}", entry.name());
        }
    }
}

/// Owners of each kind, for tests: three who share an address from the system description
/// (owners 1 to 3, channels 60 downward), three with a pool of two (4 to 6), a DHCP client and a
/// sharer of its address (7 and 8), and one alone at an address of its own (9).
pub fn sample() -> (&'static OwnerTable, &'static PoolTable) {
    use crate::config::PoolEntry;
    use segue_frame_channel::config::{ADDRESS_OWN, DHCP_CLIENT};
    use std::boxed::Box;
    let station = |last: u8, ipv4: u8| Addresses {
        mac: [0x52, 0x54, 0, 0x5e, 0x60, last],
        ipv4_prefix_length: 24,
        ipv4: if ipv4 == 0 { [0; 4] } else { [10, 0, 2, ipv4] },
        gateway: [10, 0, 2, 2],
        ..Addresses::NONE
    };
    let mut owners = Box::new(OwnerTable::EMPTY);
    let kinds = [
        (0, station(0, 15), 0),
        (0, station(0, 15), 0),
        (0, station(0, 15), 0),
        (ADDRESS_OWN | ADDRESS_LEASED, Addresses::NONE, 1),
        (ADDRESS_OWN | ADDRESS_LEASED, Addresses::NONE, 1),
        (ADDRESS_OWN | ADDRESS_LEASED, Addresses::NONE, 1),
        (DHCP_CLIENT | ADDRESS_LEASED, station(1, 0), 0),
        (ADDRESS_LEASED, station(1, 0), 0),
        (ADDRESS_OWN, station(2, 17), 0),
    ];
    owners.count = kinds.len() as u32;
    for (index, (flags, addresses, pool)) in kinds.into_iter().enumerate() {
        let entry = &mut owners.entries[index];
        *entry = OwnerEntry {
            channel: 60 - index as u32,
            owner: 1 + index as u16,
            flags,
            addresses,
            pool,
            ..OwnerEntry::EMPTY
        };
        entry.name[0] = b'a' + index as u8;
    }
    let mut pools = Box::new(PoolTable::EMPTY);
    pools.count = 1;
    pools.entries[0] = PoolEntry {
        base: Addresses {
            mac: [0x52, 0x54, 0, 0x5e, 0x61, 0],
            ipv6: [0xfd, 0, 0x5e, 0x60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x20],
            ipv6_prefix_length: 64,
            ..station(0, 32)
        },
        count: 2,
        ..PoolEntry::EMPTY
    };
    (Box::leak(owners), Box::leak(pools))
}
