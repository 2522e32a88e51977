//! Capability lists of a function.
//!
//! The lists are linked by offsets that the device supplies. A broken or
//! malicious one may point anywhere, itself included, so each walk visits at
//! most as many entries as fit and ends at the first offset that cannot be one.

use segue_device::Mmio;

use crate::ecam::{Function, header};

/// Capability ids (PCI Code and ID Assignment Specification, section 2).
pub mod id {
    /// MSI-X.
    pub const MSI_X: u8 = 0x11;
    /// PCI Express.
    pub const PCI_EXPRESS: u8 = 0x10;
}

/// Extended capability ids (the same document, section 3).
pub mod extended_id {
    /// Single root I/O virtualization.
    pub const SRIOV: u16 = 0x0010;
}

/// Bit of the status register: the function has a capability list.
const STATUS_CAPABILITIES: u16 = 1 << 4;
const FIRST: u16 = 0x40;
const FIRST_EXTENDED: u16 = 0x100;
/// A capability takes four bytes at least.
const MOST: usize = (0x100 - FIRST as usize) / 4;
/// An extended one too.
const MOST_EXTENDED: usize = (0x1000 - FIRST_EXTENDED as usize) / 4;

/// A walk along the capability list: (id, offset) of each.
pub struct Capabilities<'a, M> {
    function: Function<'a, M>,
    next: u16,
    left: usize,
}

impl<M: Mmio> Iterator for Capabilities<'_, M> {
    type Item = (u8, u16);

    fn next(&mut self) -> Option<Self::Item> {
        let offset = self.next & !3;
        if !(FIRST..=0xfc).contains(&offset) || self.left == 0 {
            return None;
        }
        self.left -= 1;
        let word = self.function.read16(offset);
        self.next = word >> 8;
        Some((word as u8, offset))
    }
}

/// A walk along the extended capability list: (id, offset) of each.
pub struct ExtendedCapabilities<'a, M> {
    function: Function<'a, M>,
    next: u16,
    left: usize,
}

impl<M: Mmio> Iterator for ExtendedCapabilities<'_, M> {
    type Item = (u16, u16);

    fn next(&mut self) -> Option<Self::Item> {
        let offset = self.next & !3;
        if !(FIRST_EXTENDED..=0xffc).contains(&offset) || self.left == 0 {
            return None;
        }
        self.left -= 1;
        let word = self.function.read32(offset);
        self.next = (word >> 20) as u16;
        // All zeros: the list is empty; all ones: nothing is there.
        (word != 0 && word != u32::MAX).then_some((word as u16, offset))
    }
}

impl<'a, M: Mmio> Function<'a, M> {
    /// The function's capabilities.
    pub fn capabilities(&self) -> Capabilities<'a, M> {
        let present = self.read16(header::STATUS) & STATUS_CAPABILITIES != 0;
        let next = if present {
            u16::from(self.read8(header::CAPABILITIES_POINTER))
        } else {
            0
        };
        Capabilities {
            function: *self,
            next,
            left: MOST,
        }
    }

    /// The function's extended capabilities.
    pub fn extended_capabilities(&self) -> ExtendedCapabilities<'a, M> {
        ExtendedCapabilities {
            function: *self,
            next: FIRST_EXTENDED,
            left: MOST_EXTENDED,
        }
    }

    /// Offset of the capability `id` if `length` bytes of it fit.
    pub fn find_capability(&self, id: u8, length: u16) -> Option<u16> {
        self.capabilities()
            .find(|&(found, offset)| found == id && offset + length <= 0x100)
            .map(|(_, offset)| offset)
    }

    /// Offset of the extended capability `id` if `length` bytes of it fit.
    pub fn find_extended_capability(&self, id: u16, length: u16) -> Option<u16> {
        self.extended_capabilities()
            .find(|&(found, offset)| found == id && offset + length <= 0x1000)
            .map(|(_, offset)| offset)
    }
}
