//! What the system description says about addresses: which frames go to which
//! virtual function, beyond the function's own address.
//!
//! The image builder writes a [`FilterTable`] into the symbol `mac_filters` of the
//! protection domain that owns the physical function. The layout is fixed,
//! little-endian and free of pointers.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Unicast addresses that an 82576 tells apart: its receive address registers
/// (8.10.12 and 8.10.13).
pub const ADDRESS_FILTERS: usize = 24;

/// Entries of a [`FilterTable`]: each unicast address, and two multicast addresses
/// for the IPv6 addresses behind each, and one for all nodes for each function.
pub const MAXIMUM_FILTERS: usize = 128;

/// Frames to one address go to one virtual function.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct Filter {
    /// The destination address: of one station, or multicast.
    pub mac: [u8; 6],
    /// The device: its place in the owner's table of devices.
    pub device: u8,
    /// The virtual function that gets the frames.
    pub function: u8,
}

/// Symbol `mac_filters` of the owner of a physical function.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct FilterTable {
    /// Number of entries in use.
    pub count: u32,
    /// 0.
    pub reserved: u32,
    /// The filters, in any order.
    pub entries: [Filter; MAXIMUM_FILTERS],
}

/// Size in bytes of [`FilterTable`].
pub const FILTER_TABLE_SIZE: usize = size_of::<FilterTable>();

impl Filter {
    /// Whether the address is that of a group of stations.
    pub fn is_multicast(&self) -> bool {
        self.mac[0] & 1 != 0
    }
}

impl FilterTable {
    /// A table without filters: what a program holds before it is patched.
    pub const EMPTY: Self = Self {
        count: 0,
        reserved: 0,
        entries: [Filter {
            mac: [0; 6],
            device: 0,
            function: 0,
        }; MAXIMUM_FILTERS],
    };

    /// The entries in use.
    pub fn filters(&self) -> &[Filter] {
        &self.entries[..(self.count as usize).min(MAXIMUM_FILTERS)]
    }

    /// Adds a filter. Returns false if the table is full.
    #[must_use]
    pub fn add(&mut self, filter: Filter) -> bool {
        let Some(place) = self.entries.get_mut(self.count as usize) else {
            return false;
        };
        *place = filter;
        self.count += 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_survives_its_bytes_and_refuses_too_much() {
        let mut table = FilterTable::EMPTY;
        let filter = Filter {
            mac: [0x33, 0x33, 0, 0, 0, 1],
            device: 1,
            function: 2,
        };
        for _ in 0..MAXIMUM_FILTERS {
            assert!(table.add(filter));
        }
        assert!(!table.add(filter));
        let mut copy = FilterTable::read_from_bytes(table.as_bytes()).unwrap();
        assert_eq!(copy, table);
        assert_eq!(copy.filters().len(), MAXIMUM_FILTERS);
        copy.count = u32::MAX;
        assert_eq!(copy.filters().len(), MAXIMUM_FILTERS);
        assert_eq!(FILTER_TABLE_SIZE, 8 + 8 * 128);
    }
}
