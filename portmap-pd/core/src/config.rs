//! What the image builder tells the port map about its callers and about pools of
//! addresses: tables that it writes over the symbols `port_owners` and `address_pools`.

use segue_frame_channel::config::{ADDRESS_LEASED, ADDRESS_OWN, Addresses, DHCP_CLIENT};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Most owners of ports.
pub const MAXIMUM_OWNERS: usize = 64;

/// Most pools of addresses.
pub const MAXIMUM_POOLS: usize = 8;

/// The pool number of an owner without a pool.
pub const NO_POOL: u16 = 0;

/// Bytes of a protection domain's name, padded with zeroes; at most 63 are used.
pub const NAME_SIZE: usize = 64;

/// Symbol `port_owners`: who may call, and on which channel.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct OwnerTable {
    /// Number of entries in use.
    pub count: u32,
    /// 0.
    pub reserved: u32,
    /// The owners, in any order.
    pub entries: [OwnerEntry; MAXIMUM_OWNERS],
}

/// One owner of ports.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct OwnerEntry {
    /// Its name, padded with zeroes.
    pub name: [u8; NAME_SIZE],
    /// Channel id, in the port map, on which it calls.
    pub channel: u32,
    /// Its number in the port table: 1 + its index in the server's table.
    pub owner: u16,
    /// As in the server's table: some of [`ADDRESS_OWN`], [`ADDRESS_LEASED`],
    /// [`DHCP_CLIENT`].
    pub flags: u16,
    /// Its addresses, as far as they are known beforehand; as in the server's table.
    pub addresses: Addresses,
    /// 1 + the index in [`PoolTable`] of the pool that its addresses come from, or
    /// [`NO_POOL`].
    pub pool: u16,
    /// 0.
    pub reserved: [u8; 6],
}

/// Symbol `address_pools`: stations to be given out.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct PoolTable {
    /// Number of entries in use.
    pub count: u32,
    /// 0.
    pub reserved: u32,
    /// The pools.
    pub entries: [PoolEntry; MAXIMUM_POOLS],
}

/// One pool. Its members have consecutive addresses.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct PoolEntry {
    /// Its name, padded with zeroes.
    pub name: [u8; NAME_SIZE],
    /// The first member; prefix lengths and gateways are everybody's.
    pub base: Addresses,
    /// How many members there are.
    pub count: u16,
    /// 0.
    pub reserved: [u8; 6],
}

/// Size in bytes of [`OwnerTable`].
pub const OWNER_TABLE_SIZE: usize = size_of::<OwnerTable>();
/// Size in bytes of [`PoolTable`].
pub const POOL_TABLE_SIZE: usize = size_of::<PoolTable>();

impl OwnerTable {
    /// A table without owners: what the program holds before it is patched.
    pub const EMPTY: Self = Self {
        count: 0,
        reserved: 0,
        entries: [OwnerEntry::EMPTY; MAXIMUM_OWNERS],
    };

    /// The entries in use.
    pub fn owners(&self) -> &[OwnerEntry] {
        &self.entries[..(self.count as usize).min(MAXIMUM_OWNERS)]
    }

    /// The owner that calls on this channel.
    pub fn owner_of_channel(&self, channel: u32) -> Option<&OwnerEntry> {
        self.owners().iter().find(|entry| entry.channel == channel)
    }
}

impl OwnerEntry {
    /// Nobody.
    pub const EMPTY: Self = Self {
        name: [0; NAME_SIZE],
        channel: u32::MAX,
        owner: 0,
        flags: 0,
        addresses: Addresses::NONE,
        pool: NO_POOL,
        reserved: [0; 6],
    };

    /// The owner's name.
    pub fn name(&self) -> &str {
        text(&self.name)
    }

    /// Whether it is alone at its address, so that all ports of it are its own.
    pub fn is_alone(&self) -> bool {
        self.flags & ADDRESS_OWN != 0
    }

    /// Whether it may say which IPv4 address the server's sharers have.
    pub fn is_dhcp_client(&self) -> bool {
        self.flags & DHCP_CLIENT != 0
    }

    /// Whether the IPv4 address that it shares is found out by DHCP client `other`.
    pub fn follows(&self, other: &Self) -> bool {
        self.flags & ADDRESS_LEASED != 0
            && self.pool == NO_POOL
            && self.addresses.mac == other.addresses.mac
    }
}

impl PoolTable {
    /// A table without pools: what the program holds before it is patched.
    pub const EMPTY: Self = Self {
        count: 0,
        reserved: 0,
        entries: [PoolEntry::EMPTY; MAXIMUM_POOLS],
    };

    /// The entries in use.
    pub fn pools(&self) -> &[PoolEntry] {
        &self.entries[..(self.count as usize).min(MAXIMUM_POOLS)]
    }

    /// The pool with this number, counted from 1.
    pub fn pool(&self, number: u16) -> Option<&PoolEntry> {
        self.pools().get(usize::from(number).checked_sub(1)?)
    }
}

impl PoolEntry {
    /// No members.
    pub const EMPTY: Self = Self {
        name: [0; NAME_SIZE],
        base: Addresses::NONE,
        count: 0,
        reserved: [0; 6],
    };

    /// The pool's name.
    pub fn name(&self) -> &str {
        text(&self.name)
    }

    /// Member `number`, counted from 0: all of the first one's addresses plus the
    /// number. What the first one does not have nobody has.
    pub fn member(&self, number: u16) -> Option<Addresses> {
        if number >= self.count {
            return None;
        }
        let mut member = self.base;
        for address in [&mut member.mac[..], &mut member.ipv4, &mut member.ipv6] {
            add(address, number)?;
        }
        Some(member)
    }

    /// All members.
    pub fn members(&self) -> impl Iterator<Item = Addresses> {
        (0..self.count).filter_map(|number| self.member(number))
    }
}

/// Adds to a number in network byte order, unless it is 0; `None` if it has no such
/// successor.
fn add(address: &mut [u8], number: u16) -> Option<()> {
    if address.iter().all(|byte| *byte == 0) {
        return Some(());
    }
    let mut carry = u32::from(number);
    for byte in address.iter_mut().rev() {
        carry += u32::from(*byte);
        *byte = carry as u8;
        carry >>= 8;
    }
    (carry == 0).then_some(())
}

/// A name, up to the first zero.
fn text(bytes: &[u8; NAME_SIZE]) -> &str {
    let length = bytes
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(NAME_SIZE);
    core::str::from_utf8(&bytes[..length]).unwrap_or("?")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_have_the_sizes_that_are_documented() {
        assert_eq!(OWNER_TABLE_SIZE, 8 + 64 * 128);
        assert_eq!(POOL_TABLE_SIZE, 8 + 8 * 120);
        assert_eq!(OwnerTable::EMPTY.as_bytes().len(), OWNER_TABLE_SIZE);
    }

    #[test]
    fn members_of_a_pool_count_on() {
        let pool = PoolEntry {
            base: Addresses {
                mac: [0x52, 0x54, 0, 0x5e, 0x61, 0xff],
                ipv4: [10, 0, 2, 32],
                ipv4_prefix_length: 24,
                gateway: [10, 0, 2, 2],
                ..Addresses::NONE
            },
            count: 8,
            ..PoolEntry::EMPTY
        };
        let member = pool.member(7).unwrap();
        assert_eq!(member.mac, [0x52, 0x54, 0, 0x5e, 0x62, 6]);
        assert_eq!(member.ipv4, [10, 0, 2, 39]);
        assert_eq!(member.ipv6, [0; 16]);
        assert_eq!(member.gateway, [10, 0, 2, 2]);
        assert_eq!(pool.member(0), Some(pool.base));
        assert_eq!(pool.member(8), None);
        assert_eq!(pool.members().count(), 8);
    }

    #[test]
    fn a_pool_does_not_wrap_around() {
        let mut pool = PoolEntry {
            count: 3,
            ..PoolEntry::EMPTY
        };
        pool.base.ipv4 = [255, 255, 255, 254];
        assert_eq!(pool.members().count(), 2);
    }
}
