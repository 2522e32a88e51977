//! What the image builder tells the updater: a table that it writes over the symbol `upgrades`.
//! Native byte order, no pointers.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Most protection domains that can be upgraded by packages.
pub const MAXIMUM_TARGETS: usize = 62;
/// Bytes of the region in which the updater remembers a serial number for each target.
pub const SERIALS_SIZE: usize = 0x1000;
const _: () = assert!(MAXIMUM_TARGETS * size_of::<u64>() <= SERIALS_SIZE);
/// Bytes of a protection domain's name, padded with zeroes; at most 63 are used.
pub const NAME_SIZE: usize = 64;

/// Symbol `upgrades` of the updater.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct UpgradeTable {
    /// Targets in use.
    pub count: u64,
    /// Packages with this serial number or a lower one are refused.
    pub serial: u64,
    /// The key whose signatures count (Ed25519).
    pub public_key: [u8; 32],
    /// Who can be upgraded.
    pub targets: [Target; MAXIMUM_TARGETS],
}

/// A protection domain that can be upgraded by a package.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Target {
    /// Its name, padded with zeroes.
    pub name: [u8; NAME_SIZE],
    /// SHA-256 of its maps, channels and variables.
    pub built_for: [u8; 32],
    /// Bytes of the place for its program.
    pub place: u64,
    /// Its index in the system status.
    pub index: u32,
    /// The numbers, among its images, of the two places for a program that is sent: one is free while
    /// the other runs.
    pub images: [u32; 2],
    /// 0.
    pub reserved: u32,
}

impl Target {
    /// Nobody.
    pub const EMPTY: Self = Self {
        name: [0; NAME_SIZE],
        built_for: [0; 32],
        place: 0,
        index: 0,
        images: [0; 2],
        reserved: 0,
    };

    /// Its name.
    pub fn name(&self) -> &str {
        let length = self.name.iter().position(|byte| *byte == 0);
        let name = self.name.get(..length.unwrap_or(NAME_SIZE));
        core::str::from_utf8(name.unwrap_or_default()).unwrap_or_default()
    }
}

impl UpgradeTable {
    /// A table in which nobody can be upgraded.
    pub const EMPTY: Self = Self {
        count: 0,
        serial: 0,
        public_key: [0; 32],
        targets: [Target::EMPTY; MAXIMUM_TARGETS],
    };

    /// Who can be upgraded.
    pub fn targets(&self) -> &[Target] {
        let count = usize::try_from(self.count).unwrap_or(MAXIMUM_TARGETS);
        self.targets.get(..count).unwrap_or(&self.targets)
    }
}
