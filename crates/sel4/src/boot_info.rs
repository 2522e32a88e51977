//! What the kernel tells the root task at boot.

use crate::Word;
use crate::constants::CONFIG_MAX_NUM_BOOTINFO_UNTYPED_CAPS;
use core::ops::Range;

/// Bytes from the boot information's start to its additional chunks.
const EXTRA_OFFSET: usize = 4096;

const UNTYPED_COUNT: usize = CONFIG_MAX_NUM_BOOTINFO_UNTYPED_CAPS as usize;

#[derive(Clone, Copy, Debug)]
#[repr(C, packed)]
struct SlotRegion {
    start: Word,
    end: Word,
}

impl SlotRegion {
    fn range(self) -> Range<Word> {
        self.start..self.end
    }
}

#[derive(Clone, Copy, Debug)]
#[repr(C, packed)]
struct RawUntyped {
    physical_address: Word,
    padding: [u8; 2],
    size_bits: u8,
    is_device: u8,
}

/// One untyped capability of the root task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UntypedDescription {
    /// Slot of the capability in the root CNode.
    pub slot: Word,
    /// First byte's physical address.
    pub physical_address: u64,
    /// Size, as the power of two of its bytes.
    pub size_bits: u8,
    /// Whether the memory is a device's (or unknown to the kernel), which the
    /// kernel neither zeroes nor uses for its own objects.
    pub is_device: bool,
}

/// The kernel's `seL4_BootInfo` (libsel4's `bootinfo_types.h`).
#[derive(Clone, Copy, Debug)]
#[repr(C, packed)]
pub struct BootInfo {
    extra_length: Word,
    node_id: Word,
    node_count: Word,
    io_page_table_levels: Word,
    ipc_buffer: Word,
    empty: SlotRegion,
    shared_frames: SlotRegion,
    image_frames: SlotRegion,
    image_paging: SlotRegion,
    io_space_capabilities: SlotRegion,
    extra_pages: SlotRegion,
    root_cnode_bits: u8,
    domain: Word,
    tsc_frequency: Word,
    untyped: SlotRegion,
    untyped_list: [RawUntyped; UNTYPED_COUNT],
}

// Offsets found by experiment (sel4.md, section 2).
const _: () = {
    assert!(core::mem::offset_of!(BootInfo, ipc_buffer) == 32);
    assert!(core::mem::offset_of!(BootInfo, empty) == 40);
    assert!(core::mem::offset_of!(BootInfo, root_cnode_bits) == 136);
    assert!(core::mem::offset_of!(BootInfo, tsc_frequency) == 145);
    assert!(core::mem::offset_of!(BootInfo, untyped_list) == 169);
    assert!(size_of::<RawUntyped>() == 12);
    assert!(size_of::<BootInfo>() <= EXTRA_OFFSET);
};

impl BootInfo {
    /// The boot information whose address the kernel passes in rdi.
    ///
    /// # Safety
    ///
    /// `address` is the one the kernel passed to the root task, and the pages
    /// stay mapped and unchanged.
    pub unsafe fn from_kernel(address: *const u8) -> &'static BootInfo {
        // SAFETY: the kernel put a BootInfo there (contract); the type is
        // packed, so any alignment does, and any bit pattern is a value.
        unsafe { &*address.cast() }
    }

    /// Address of the root task's IPC buffer.
    pub fn ipc_buffer(&self) -> *mut Word {
        self.ipc_buffer as *mut Word
    }

    /// Levels of a device's page tables; 0 without an IOMMU.
    pub fn io_page_table_levels(&self) -> Word {
        self.io_page_table_levels
    }

    /// Free slots of the root CNode.
    pub fn empty_slots(&self) -> Range<Word> {
        self.empty.range()
    }

    /// Slots of the frames of the root task's image, in the order of addresses.
    pub fn image_frames(&self) -> Range<Word> {
        self.image_frames.range()
    }

    /// Size of the root CNode, as the power of two of its slots.
    pub fn root_cnode_bits(&self) -> u8 {
        self.root_cnode_bits
    }

    /// Frequency of the time stamp counter, in MHz.
    pub fn tsc_megahertz(&self) -> u32 {
        self.tsc_frequency as u32
    }

    /// Number of processors that the kernel runs on.
    pub fn node_count(&self) -> Word {
        self.node_count
    }

    /// The untyped capabilities.
    pub fn untyped(&self) -> impl Iterator<Item = UntypedDescription> + '_ {
        let SlotRegion { start, end } = self.untyped;
        let count = end.saturating_sub(start).min(UNTYPED_COUNT as Word);
        (0..count as usize).map(move |index| {
            let raw = self.untyped_list[index];
            UntypedDescription {
                slot: start + index as Word,
                physical_address: raw.physical_address,
                size_bits: raw.size_bits,
                is_device: raw.is_device != 0,
            }
        })
    }

    /// The additional chunks: identifier and contents, header excluded.
    pub fn chunks(&'static self) -> BootInfoChunks {
        // SAFETY: the kernel maps `extra_length` bytes from EXTRA_OFFSET on
        // (libsel4's `bootinfo_types.h`), and nobody changes them (contract of
        // `from_kernel`).
        let bytes = unsafe {
            let start = core::ptr::from_ref(self).cast::<u8>().add(EXTRA_OFFSET);
            core::slice::from_raw_parts(start, self.extra_length as usize)
        };
        BootInfoChunks { bytes }
    }
}

/// Iterates over the additional chunks of the boot information.
pub struct BootInfoChunks {
    bytes: &'static [u8],
}

impl Iterator for BootInfoChunks {
    /// Identifier and contents.
    type Item = (Word, &'static [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (identifier, rest) = self.bytes.split_first_chunk()?;
        let (length, _) = rest.split_first_chunk()?;
        let length = usize::try_from(Word::from_le_bytes(*length)).ok()?;
        let chunk = self.bytes.get(16..length)?;
        self.bytes = &self.bytes[length..];
        Some((Word::from_le_bytes(*identifier), chunk))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    extern crate std;
    use std::vec::Vec;

    #[test]
    fn chunks_end_at_the_first_bad_length() {
        let mut bytes = Vec::new();
        for word in [1_u64, 24, 77, 0, 16, 5, 3] {
            bytes.extend_from_slice(&word.to_le_bytes());
        }
        let chunks: Vec<_> = BootInfoChunks {
            bytes: bytes.leak(),
        }
        .collect();
        assert_eq!(chunks, [(1, &77_u64.to_le_bytes()[..]), (0, &[][..])]);
    }
}
