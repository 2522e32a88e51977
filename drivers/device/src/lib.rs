//! The traits through which device drivers reach registers and DMA memory.
//!
//! A driver crate is written against these traits alone. A protection domain
//! implements them with mapped memory (`segue-shared-memory`), a host test with
//! a simulated device. So the same driver runs unchanged in the network server,
//! in an application in direct mode and in tests.
#![no_std]
#![forbid(unsafe_code)]

/// A block of memory-mapped registers.
///
/// Offsets are in bytes from the start of the block. An access outside the
/// block is a driver bug: implementations panic.
pub trait Mmio {
    /// Reads the 32-bit register at `offset` bytes.
    fn read32(&self, offset: usize) -> u32;
    /// Writes the 32-bit register at `offset` bytes.
    fn write32(&self, offset: usize, value: u32);
    /// Reads the 64-bit register at `offset` bytes.
    fn read64(&self, offset: usize) -> u64 {
        u64::from(self.read32(offset)) | u64::from(self.read32(offset + 4)) << 32
    }
    /// Writes the 64-bit register at `offset` bytes, low half first.
    fn write64(&self, offset: usize, value: u64) {
        self.write32(offset, value as u32);
        self.write32(offset + 4, (value >> 32) as u32);
    }
    /// Reads the 16-bit register at `offset` bytes.
    fn read16(&self, offset: usize) -> u16 {
        (self.read32(offset & !3) >> ((offset & 2) * 8)) as u16
    }
    /// Reads the 8-bit register at `offset` bytes.
    fn read8(&self, offset: usize) -> u8 {
        (self.read32(offset & !3) >> ((offset & 3) * 8)) as u8
    }
    /// Writes the 16-bit register at `offset` bytes.
    fn write16(&self, offset: usize, value: u16);
    /// Writes the 8-bit register at `offset` bytes.
    fn write8(&self, offset: usize, value: u8);
}

/// Memory that both the CPU and a device read and write.
///
/// Every access is volatile, since the device may change the memory at any
/// time. Offsets are in bytes from the start; an access outside panics.
pub trait DmaMemory {
    /// Length in bytes.
    fn len(&self) -> usize;
    /// Whether the length is 0.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// The address the device uses for the first byte (an IO virtual address
    /// behind an IOMMU).
    fn device_address(&self) -> u64;
    /// Reads the little-endian 64-bit word at `offset`, a multiple of 8.
    fn read64(&self, offset: usize) -> u64;
    /// Writes the little-endian 64-bit word at `offset`, a multiple of 8.
    fn write64(&self, offset: usize, value: u64);
    /// Copies `to.len()` bytes out, from `offset`.
    fn copy_out(&self, offset: usize, to: &mut [u8]);
    /// Copies `from` in, at `offset`.
    fn copy_in(&self, offset: usize, from: &[u8]);
    /// Orders earlier writes to this memory before later register writes.
    fn write_barrier(&self);
}
