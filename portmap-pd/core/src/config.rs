//! What the image builder tells the port map about its callers: a table that it
//! writes over the symbol `port_owners`.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Most owners of ports.
pub const MAXIMUM_OWNERS: usize = 64;

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
    /// 0.
    pub reserved: u16,
}

/// Size in bytes of [`OwnerTable`].
pub const OWNER_TABLE_SIZE: usize = size_of::<OwnerTable>();

impl OwnerTable {
    /// A table without owners: what the program holds before it is patched.
    pub const EMPTY: Self = Self {
        count: 0,
        reserved: 0,
        entries: [OwnerEntry {
            name: [0; NAME_SIZE],
            channel: u32::MAX,
            owner: 0,
            reserved: 0,
        }; MAXIMUM_OWNERS],
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
    /// The owner's name.
    pub fn name(&self) -> &str {
        let length = self
            .name
            .iter()
            .position(|byte| *byte == 0)
            .unwrap_or(NAME_SIZE);
        core::str::from_utf8(&self.name[..length]).unwrap_or("?")
    }
}
