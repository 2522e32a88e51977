//! Where the words of a frame channel lie in its regions, and how large the
//! regions are. The image builder computes the sizes with these functions; the
//! two ends compute the same offsets from the same numbers of entries.

use core::ops::RangeInclusive;

/// Size of a receive slot in bytes; slot *i* belongs to receive descriptor *i*.
pub const RECEIVE_SLOT_SIZE: usize = 2048;

/// Numbers of entries a ring may have. It must be a power of two, too.
pub const ENTRIES: RangeInclusive<u32> = 8..=4096;

/// Sizes a transmit pool may have, in bytes. It must be a power of two, so that it is contiguous in
/// physical memory: QEMU's 82576 drops a frame that is not.
/// The lower bound lets a 64 KiB segment find room whatever lies before it.
pub const POOL_SIZE: RangeInclusive<u64> = 0x4_0000..=0x400_0000;

/// Longest frame a transmit descriptor may name, in bytes: an Ethernet header
/// (14) before the longest IPv4 packet (65,535).
pub const MAXIMUM_FRAME_LENGTH: usize = 14 + 65_535;

/// Most bytes the server copies and verifies of one frame. Ethernet (14), IPv4
/// (60) and TCP (60) headers need 134; an ICMP error with the packet that it
/// quotes needs less than 200.
pub const MAXIMUM_HEADER_LENGTH: usize = 256;

/// Whether a ring may have this number of entries.
pub const fn entries_are_valid(entries: u32) -> bool {
    entries.is_power_of_two() && entries >= *ENTRIES.start() && entries <= *ENTRIES.end()
}

/// Whether a transmit pool may have this size in bytes.
pub const fn pool_size_is_valid(size: u64) -> bool {
    size.is_power_of_two() && size >= *POOL_SIZE.start() && size <= *POOL_SIZE.end()
}

/// Size in bytes of the region that the application writes, a multiple of 4096.
pub const fn client_region_size(transmit_entries: u32) -> usize {
    (DESCRIPTORS + transmit_entries as usize * TRANSMIT_DESCRIPTOR_SIZE).next_multiple_of(PAGE)
}

/// Size in bytes of the region that the server writes, a multiple of 4096.
pub const fn server_region_size(receive_entries: u32) -> usize {
    (receive_slots_offset(receive_entries) + receive_entries as usize * RECEIVE_SLOT_SIZE)
        .next_multiple_of(PAGE)
}

const PAGE: usize = 4096;

/// The writer's epoch; 0 while it is not ready. The first word of both regions.
pub(crate) const EPOCH: usize = 0x00;
/// In the server's region: the last epoch in which it saw the application.
pub(crate) const JOINED: usize = 0x04;
/// In the application's region: the ring position of the epoch's first frame.
pub(crate) const START: usize = 0x04;
/// How many frames the writer has produced in this epoch. Words that one side polls while the
/// other writes lie in cache lines of their own.
pub(crate) const PRODUCER: usize = 0x40;
/// How many frames of the other direction the writer is done with in this epoch.
pub(crate) const CONSUMER: usize = 0x80;
/// Whether the writer is awake ([`crate::wake`]).
pub(crate) const WAKE: usize = 0xc0;
/// The first descriptor.
pub(crate) const DESCRIPTORS: usize = 0x100;

/// Size of a transmit descriptor in bytes.
pub(crate) const TRANSMIT_DESCRIPTOR_SIZE: usize = 16;
/// Size of a receive descriptor in bytes.
pub(crate) const RECEIVE_DESCRIPTOR_SIZE: usize = 8;

/// Offset of receive slot 0 in the server's region.
pub(crate) const fn receive_slots_offset(receive_entries: u32) -> usize {
    (DESCRIPTORS + receive_entries as usize * RECEIVE_DESCRIPTOR_SIZE)
        .next_multiple_of(RECEIVE_SLOT_SIZE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sizes_of_the_default_system() {
        assert_eq!(client_region_size(256), 0x2000);
        assert_eq!(server_region_size(256), 0x8_1000);
        assert!(pool_size_is_valid(0x20_0000));
        assert!(!pool_size_is_valid(0x30_0000));
        assert!(entries_are_valid(256));
        assert!(!entries_are_valid(100));
        assert!(!entries_are_valid(4));
        assert!(!entries_are_valid(8192));
    }
}
