//! What the image builder tells the console: whose rings are where.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Most rings: as many as a system has protection domains beside the console.
pub const MAXIMUM_RINGS: usize = 62;

/// Size of the region that the console alone has, in bytes: for what must outlive it.
pub const CONSOLE_MEMORY_SIZE: usize = 0x5000;

/// Longest name, in bytes.
pub const NAME_SIZE: usize = 64;

/// One protection domain's ring.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Ring {
    /// Name of the protection domain, padded with zeros.
    pub name: [u8; NAME_SIZE],
    /// Virtual address of the region in the console.
    pub address: u64,
    /// Length of the region, in bytes.
    pub length: u64,
}

impl Ring {
    /// No ring.
    pub const EMPTY: Self = Self {
        name: [0; NAME_SIZE],
        address: 0,
        length: 0,
    };

    /// The ring of `name` (cut to [`NAME_SIZE`] bytes).
    pub fn new(name: &str, address: u64, length: u64) -> Self {
        let mut ring = Self {
            address,
            length,
            ..Self::EMPTY
        };
        let bytes = name.as_bytes();
        let count = bytes.len().min(NAME_SIZE);
        ring.name[..count].copy_from_slice(&bytes[..count]);
        ring
    }

    /// The name as text; `?` if it is not UTF-8.
    pub fn name(&self) -> &str {
        let length = self
            .name
            .iter()
            .position(|byte| *byte == 0)
            .unwrap_or(NAME_SIZE);
        core::str::from_utf8(&self.name[..length]).unwrap_or("?")
    }
}

/// All rings: the value of the symbol `log_rings` in the console.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct RingTable {
    /// Number of entries that count.
    pub count: u64,
    /// Virtual address, in the console, of a region of [`CONSOLE_MEMORY_SIZE`] bytes.
    pub memory: u64,
    /// The entries.
    pub rings: [Ring; MAXIMUM_RINGS],
}

impl RingTable {
    /// No rings.
    pub const EMPTY: Self = Self {
        count: 0,
        memory: 0,
        rings: [Ring::EMPTY; MAXIMUM_RINGS],
    };

    /// The entries that count.
    pub fn rings(&self) -> &[Ring] {
        let count = usize::try_from(self.count)
            .unwrap_or(MAXIMUM_RINGS)
            .min(MAXIMUM_RINGS);
        &self.rings[..count]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    extern crate std;
    use std::string::String;

    #[test]
    fn names_survive_and_are_cut() {
        assert_eq!(Ring::new("netserver", 1, 2).name(), "netserver");
        let long: String = core::iter::repeat_n('a', 70).collect();
        assert_eq!(Ring::new(&long, 0, 0).name().len(), NAME_SIZE);
    }

    #[test]
    fn a_count_too_large_is_bounded() {
        let table = RingTable {
            count: u64::MAX,
            ..RingTable::EMPTY
        };
        assert_eq!(table.rings().len(), MAXIMUM_RINGS);
    }
}
