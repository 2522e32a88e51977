//! Kinds and sizes of objects, rights and attributes.

use crate::constants::*;
use crate::{MessageInfo, Word};

/// What untyped memory can be retyped to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObjectType {
    /// Memory to retype again, of 2^n bytes.
    Untyped,
    /// A thread.
    Tcb,
    /// An endpoint.
    Endpoint,
    /// A notification.
    Notification,
    /// A CNode of 2^n slots.
    CNode,
    /// The root of an address space.
    Pml4,
    /// A page directory pointer table: 512 GiB.
    PageDirectoryPointerTable,
    /// A page directory: 1 GiB.
    PageDirectory,
    /// A page table: 2 MiB.
    PageTable,
    /// A table of a device's address space.
    IoPageTable,
    /// A page of 4 KiB.
    SmallPage,
    /// A page of 2 MiB.
    LargePage,
    /// A page of 1 GiB.
    HugePage,
}

impl ObjectType {
    /// The kernel's number.
    pub const fn raw(self) -> Word {
        match self {
            Self::Untyped => seL4_UntypedObject,
            Self::Tcb => seL4_TCBObject,
            Self::Endpoint => seL4_EndpointObject,
            Self::Notification => seL4_NotificationObject,
            Self::CNode => seL4_CapTableObject,
            Self::Pml4 => seL4_X64_PML4Object,
            Self::PageDirectoryPointerTable => seL4_X86_PDPTObject,
            Self::PageDirectory => seL4_X86_PageDirectoryObject,
            Self::PageTable => seL4_X86_PageTableObject,
            Self::IoPageTable => seL4_X86_IOPageTableObject,
            Self::SmallPage => seL4_X86_4K,
            Self::LargePage => seL4_X86_LargePageObject,
            Self::HugePage => seL4_X64_HugePageObject,
        }
    }

    /// Size of an object, as the power of two of its bytes. `size_bits` counts
    /// for untyped memory (bytes) and CNodes (slots) only.
    pub const fn object_bits(self, size_bits: u8) -> u8 {
        let bits = match self {
            Self::Untyped => return size_bits,
            Self::CNode => return size_bits + seL4_SlotBits as u8,
            Self::Tcb => seL4_TCBBits,
            Self::Endpoint => seL4_EndpointBits,
            Self::Notification => seL4_NotificationBits,
            Self::Pml4 => seL4_PML4Bits,
            Self::PageDirectoryPointerTable => seL4_PDPTBits,
            Self::PageDirectory => seL4_PageDirBits,
            Self::PageTable => seL4_PageTableBits,
            Self::IoPageTable => seL4_IOPageTableBits,
            Self::SmallPage => seL4_PageBits,
            Self::LargePage => seL4_LargePageBits,
            Self::HugePage => seL4_HugePageBits,
        };
        bits as u8
    }
}

impl From<ObjectType> for Word {
    fn from(object_type: ObjectType) -> Word {
        object_type.raw()
    }
}

/// What a capability allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CapRights(Word);

impl CapRights {
    /// Any combination.
    pub const fn new(read: bool, write: bool, grant: bool) -> Self {
        Self(
            (read as Word) << seL4_CapRights_capAllowRead_SHIFT
                | (write as Word) << seL4_CapRights_capAllowWrite_SHIFT
                | (grant as Word) << seL4_CapRights_capAllowGrant_SHIFT,
        )
    }
    /// Everything.
    pub const ALL: Self = Self::new(true, true, true);
    /// Reading (receiving) and writing (sending).
    pub const READ_WRITE: Self = Self::new(true, true, false);
    /// Reading (receiving) alone.
    pub const READ: Self = Self::new(true, false, false);
    /// Writing (sending) alone.
    pub const WRITE: Self = Self::new(false, true, false);
    /// Sending messages with capabilities; also what a protected call needs.
    pub const WRITE_GRANT: Self = Self::new(false, true, true);

    /// The kernel's word.
    pub const fn raw(self) -> Word {
        self.0
    }
}

/// A badge, a CNode's guard, or what else Mint attaches to a capability.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CapData(Word);

impl CapData {
    /// Nothing attached.
    pub const NONE: Self = Self(0);

    /// A badge: 28 bits for an endpoint, 64 for a notification.
    pub const fn badge(badge: Word) -> Self {
        Self(badge)
    }

    /// A guard of `bits` bits.
    pub const fn guard(guard: Word, bits: u8) -> Self {
        Self(guard << cnode_capdata_guard_SHIFT | (bits as Word) << cnode_capdata_guardSize_SHIFT)
    }

    /// The zero guard that makes a CNode of 2^`radix` slots resolve a whole word.
    pub const fn root_guard(radix: u8) -> Self {
        Self::guard(0, seL4_WordBits as u8 - radix)
    }

    /// The name of a device's address space: VT-d domain and requester id.
    pub const fn io_space(domain: u16, requester: u16) -> Self {
        Self((domain as Word) << 16 | requester as Word)
    }

    /// The port range `first..=last`.
    pub const fn io_ports(first: u16, last: u16) -> Self {
        Self((first as Word) << 16 | last as Word)
    }

    /// The kernel's word.
    pub const fn raw(self) -> Word {
        self.0
    }
}

/// Priority and maximum controlled priority of a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Priorities(Word);

impl Priorities {
    /// The two together.
    pub const fn new(priority: u8, maximum_controlled: u8) -> Self {
        Self(
            (priority as Word) << seL4_PrioProps_prio_SHIFT
                | (maximum_controlled as Word) << seL4_PrioProps_mcp_SHIFT,
        )
    }

    /// The kernel's word.
    pub const fn raw(self) -> Word {
        self.0
    }
}

/// How a mapping is cached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VmAttributes(Word);

impl VmAttributes {
    /// Ordinary memory.
    pub const WRITE_BACK: Self = Self(seL4_X86_WriteBack);
    /// Device registers.
    pub const UNCACHEABLE: Self = Self(seL4_X86_Uncacheable);
    /// Frame buffers and the like.
    pub const WRITE_COMBINING: Self = Self(seL4_X86_WriteCombining);

    /// The kernel's word.
    pub const fn raw(self) -> Word {
        self.0
    }
}

const _: () = assert!(MessageInfo::LABEL_BITS == 20);

#[cfg(test)]
mod tests {
    use super::*;

    // The expected numbers were found by experiment (sel4.md, section 2), so
    // these tests compare the generator with a running kernel's behaviour.

    #[test]
    fn object_types_of_a_kernel_with_iommu_and_huge_pages() {
        use ObjectType::*;
        let numbered = [
            Untyped,
            Tcb,
            Endpoint,
            Notification,
            CNode,
            PageDirectoryPointerTable,
            Pml4,
            HugePage,
            SmallPage,
            LargePage,
            PageTable,
            PageDirectory,
            IoPageTable,
        ];
        for (number, object_type) in numbered.into_iter().enumerate() {
            assert_eq!(object_type.raw(), number as Word, "{object_type:?}");
        }
    }

    #[test]
    fn sizes() {
        assert_eq!(ObjectType::Tcb.object_bits(0), 11);
        assert_eq!(ObjectType::CNode.object_bits(9), 14);
        assert_eq!(ObjectType::Untyped.object_bits(20), 20);
        assert_eq!(ObjectType::LargePage.object_bits(0), 21);
    }

    #[test]
    fn words_that_the_kernel_takes_apart() {
        assert_eq!(CapRights::WRITE.raw(), 1);
        assert_eq!(CapRights::READ.raw(), 2);
        assert_eq!(CapRights::ALL.raw(), 7);
        assert_eq!(CapData::guard(0x2a, 49).raw(), 0x2a << 8 | 49 << 2);
        assert_eq!(CapData::root_guard(9).raw(), 55 << 2);
        assert_eq!(CapData::io_space(1, 0x0018).raw(), 0x1_0018);
        assert_eq!(CapData::io_ports(0x3f8, 0x3ff).raw(), 0x3f8_03ff);
        assert_eq!(Priorities::new(100, 254).raw(), 100 | 254 << 8);
    }
}
