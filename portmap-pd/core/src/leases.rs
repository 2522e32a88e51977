//! Who has which addresses: members of pools, and what a DHCP server has given.

use crate::addresses::AddressTable;
use crate::config::{NO_POOL, OwnerEntry, OwnerTable, PoolTable};
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
    pub const fn new(
        table: AddressTable,
        owners: &'static OwnerTable,
        pools: &'static PoolTable,
    ) -> Self {
        Self {
            table,
            owners,
            pools,
            notify: 0,
            changed: false,
        }
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

    /// All that follow DHCP client `client` have this IPv4 address from now on.
    pub fn share(
        &mut self,
        client: &OwnerEntry,
        shared: Option<&SharedAddress>,
    ) -> Result<(), PortError> {
        if let Some(shared) = shared {
            self.check(client, shared)?;
        }
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
        Ok(())
    }

    fn check(&self, client: &OwnerEntry, shared: &SharedAddress) -> Result<(), PortError> {
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
