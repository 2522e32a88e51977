//! Who has which addresses: members of pools, and what a DHCP server has given.

use crate::addresses::AddressTable;
use crate::config::{MAXIMUM_OWNERS, NO_POOL, OwnerEntry, OwnerTable, PoolTable};
use crate::ipv4::{is_host, is_router};
use crate::protocol::{AddressAnswer, PortError, SharedAddress};
use segue_frame_channel::config::{ADDRESS_LEASED, Addresses};

/// The address table and what it is made from.
#[derive(Debug)]
pub(crate) struct Leases {
    table: AddressTable,
    owners: &'static OwnerTable,
    pools: &'static PoolTable,
    /// Owners, by index, who have other addresses than before, or may have some now.
    pub notify: u64,
    /// Whether the table has changed.
    pub changed: bool,
}

impl Leases {
    /// With what an earlier incarnation left. Everybody with leased addresses should ask for them,
    /// since whom that one has told is not known.
    pub fn new(
        table: AddressTable,
        owners: &'static OwnerTable,
        pools: &'static PoolTable,
    ) -> Self {
        let leased = owners.owners().iter().enumerate();
        let leased = leased.filter(|(_, entry)| entry.flags & ADDRESS_LEASED != 0);
        Self {
            table,
            owners,
            pools,
            notify: leased.fold(0, |set, (index, _)| set | 1 << index),
            changed: true,
        }
    }

    /// Takes away what nobody can have been given: addresses that are not from the owner's pool, or
    /// not what a DHCP client can have said, or that another one has, and those of nobody. Returns
    /// from how many they were taken.
    pub fn repair(&mut self) -> u32 {
        let mut repaired = 0;
        for owner in 1..=MAXIMUM_OWNERS as u16 {
            let Some(addresses) = self.table.addresses(owner) else {
                continue;
            };
            let mut entries = self.owners.owners().iter();
            let entry = entries.find(|entry| entry.owner == owner);
            if !entry.is_some_and(|entry| self.makes_sense(entry, &addresses)) {
                self.table.set(owner, None);
                repaired += 1;
            }
        }
        repaired
    }

    /// Whether an owner can have been given these addresses. Of two that have the same member of
    /// a pool the one with the lower number keeps it.
    fn makes_sense(&self, entry: &OwnerEntry, addresses: &Addresses) -> bool {
        if entry.flags & ADDRESS_LEASED == 0 {
            return false;
        }
        if let Some(pool) = self.pools.pool(entry.pool) {
            let has_another = (1..entry.owner)
                .any(|other| self.table.addresses(other).as_ref() == Some(addresses));
            return !has_another && pool.members().any(|member| member == *addresses);
        }
        let mut owners = self.owners.owners().iter();
        let client = owners.find(|client| client.is_dhcp_client() && entry.follows(client));
        let shared = SharedAddress {
            address: addresses.ipv4,
            prefix_length: addresses.ipv4_prefix_length,
            gateway: addresses.gateway,
            seconds: 1,
        };
        let as_given = Addresses {
            ipv4: addresses.ipv4,
            ipv4_prefix_length: addresses.ipv4_prefix_length,
            gateway: addresses.gateway,
            ..entry.addresses
        };
        client.is_some_and(|client| self.check(client, &shared).is_ok()) && *addresses == as_given
    }

    /// Whether all that follow DHCP client `client` have the same IPv4 address, or none has one.
    pub fn is_shared_by_all(&self, client: &OwnerEntry) -> bool {
        let owners = self.owners.owners().iter();
        let mut shared = owners.filter(|entry| entry.follows(client)).map(|entry| {
            let addresses = self.table.addresses(entry.owner);
            addresses.map(|of| (of.ipv4, of.ipv4_prefix_length, of.gateway))
        });
        let first = shared.next();
        shared.all(|other| Some(other) == first)
    }

    /// Whether one that follows DHCP client `client` has an address.
    pub fn is_shared(&self, client: &OwnerEntry) -> bool {
        let mut owners = self.owners.owners().iter();
        owners.any(|entry| entry.follows(client) && self.table.addresses(entry.owner).is_some())
    }

    /// The table.
    pub const fn table(&self) -> &AddressTable {
        &self.table
    }

    /// The addresses of an owner. A member of its pool is taken for it if it has none.
    pub fn addresses(&mut self, entry: &OwnerEntry) -> AddressAnswer {
        if entry.flags & ADDRESS_LEASED == 0 {
            return Ok(entry.addresses);
        }
        if let Some(addresses) = self.table.addresses(entry.owner) {
            return Ok(addresses);
        }
        let pool = self.pools.pool(entry.pool).ok_or(PortError::NoAddress)?;
        let is_free = |member: &Addresses| {
            let mut owners = self.owners.owners().iter();
            !owners.any(|other| self.table.addresses(other.owner) == Some(*member))
        };
        let member = pool.members().find(is_free).ok_or(PortError::NoAddress)?;
        self.table.set(entry.owner, Some(&member));
        self.changed = true;
        Ok(member)
    }

    /// Whether the owner has a member of its pool.
    pub fn has_member(&self, entry: &OwnerEntry) -> bool {
        entry.pool != NO_POOL && self.table.addresses(entry.owner).is_some()
    }

    /// Gives an owner's addresses back to its pool.
    pub fn give_back(&mut self, entry: &OwnerEntry) {
        self.table.set(entry.owner, None);
        self.changed = true;
        for (index, other) in self.owners.owners().iter().enumerate() {
            if other.pool == entry.pool && self.table.addresses(other.owner).is_none() {
                self.notify |= 1 << index;
            }
        }
    }

    /// All that follow DHCP client `client` have this IPv4 address from now on, which was
    /// [checked](Self::check). To be done once more if it was done in part.
    pub fn share(&mut self, client: &OwnerEntry, shared: Option<&SharedAddress>) {
        for (index, entry) in self.owners.owners().iter().enumerate() {
            if !entry.follows(client) {
                continue;
            }
            let addresses = shared.map(|shared| Addresses {
                ipv4: shared.address,
                ipv4_prefix_length: shared.prefix_length,
                gateway: shared.gateway,
                ..entry.addresses
            });
            if self.table.addresses(entry.owner) != addresses {
                self.table.set(entry.owner, addresses.as_ref());
                self.notify |= 1 << index;
                self.changed = true;
            }
        }
    }

    /// Whether those that follow a DHCP client can have this address.
    pub fn check(&self, client: &OwnerEntry, shared: &SharedAddress) -> Result<(), PortError> {
        let SharedAddress {
            address,
            prefix_length,
            gateway,
            seconds,
        } = *shared;
        let gateway_is_wrong = gateway != [0; 4] && !is_router(gateway, address, prefix_length);
        if !is_host(address, prefix_length) || gateway_is_wrong || seconds == 0 {
            return Err(PortError::InvalidAddress);
        }
        // A DHCP server must not take away what the system description has given.
        let is_taken = |other: &OwnerEntry| {
            !other.follows(client) && other.pool == NO_POOL && other.addresses.ipv4 == address
        };
        let mut members = self.pools.pools().iter().flat_map(|pool| pool.members());
        if self.owners.owners().iter().any(is_taken) || members.any(|member| member.ipv4 == address)
        {
            return Err(PortError::AddressInUse);
        }
        Ok(())
    }
}
