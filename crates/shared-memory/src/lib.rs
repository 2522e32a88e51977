//! Checked access to memory that a device or another protection domain may
//! change at any time.
//!
//! This crate is one of the few that may use `unsafe`. It never forms a Rust
//! reference to the memory it covers: words are read and written with volatile
//! or atomic accesses, bytes are copied. Every access is checked against the
//! region's length and panics outside it, so callers that take offsets from a
//! peer check them first.
#![no_std]

#[cfg(feature = "testing")]
pub mod testing;

use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
use segue_device::{DmaMemory, Mmio};

/// A range of mapped memory that others may read or write concurrently.
///
/// Copies of a `Region` name the same memory.
#[derive(Clone, Copy, Debug)]
pub struct Region {
    base: NonNull<u8>,
    length: usize,
    device_address: u64,
}

// SAFETY: a Region holds an address, not data; all accesses through it are
// volatile or atomic and valid from any thread (contract of `Region::new`).
unsafe impl Send for Region {}
// SAFETY: as above; shared access is what the type is for.
unsafe impl Sync for Region {}

impl Region {
    /// Covers `length` bytes at `base`.
    ///
    /// # Safety
    ///
    /// `base` is aligned to 8 bytes and the range stays mapped (for reading, and
    /// for writing if a write method is used) for the rest of the program, is
    /// not part of any Rust object, and no Rust reference to it exists.
    pub const unsafe fn new(base: NonNull<u8>, length: usize) -> Self {
        Self {
            base,
            length,
            device_address: 0,
        }
    }

    /// The same memory, known to a device at `device_address`.
    pub const fn with_device_address(self, device_address: u64) -> Self {
        Self {
            device_address,
            ..self
        }
    }

    /// Length in bytes.
    pub const fn length(&self) -> usize {
        self.length
    }

    /// The part of `length` bytes that starts at `offset`, or `None` if it does
    /// not lie inside or `offset` is not a multiple of 8.
    pub fn part(&self, offset: usize, length: usize) -> Option<Region> {
        let end = offset.checked_add(length)?;
        if end > self.length || !offset.is_multiple_of(8) {
            return None;
        }
        Some(Region {
            // SAFETY: offset <= self.length, so the result stays in the range.
            base: unsafe { self.base.add(offset) },
            length,
            device_address: self.device_address.wrapping_add(offset as u64),
        })
    }

    #[inline]
    fn at(&self, offset: usize, size: usize) -> *mut u8 {
        assert!(
            offset.is_multiple_of(size)
                && offset
                    .checked_add(size)
                    .is_some_and(|end| end <= self.length),
            "access outside a memory region"
        );
        // SAFETY: checked above: the access lies inside the range.
        unsafe { self.base.as_ptr().add(offset) }
    }

    /// Loads the 32-bit word at `offset`, a multiple of 4.
    #[inline]
    pub fn load32(&self, offset: usize, order: Ordering) -> u32 {
        // SAFETY: `at` checks range and alignment; the memory is mapped
        // (contract of `new`), and atomics may be shared.
        unsafe { AtomicU32::from_ptr(self.at(offset, 4).cast()) }.load(order)
    }

    /// Stores the 32-bit word at `offset`, a multiple of 4.
    #[inline]
    pub fn store32(&self, offset: usize, value: u32, order: Ordering) {
        #[cfg(feature = "testing")]
        testing::store();
        // SAFETY: as for `load32`.
        unsafe { AtomicU32::from_ptr(self.at(offset, 4).cast()) }.store(value, order)
    }

    /// Loads the 64-bit word at `offset`, a multiple of 8.
    #[inline]
    pub fn load64(&self, offset: usize, order: Ordering) -> u64 {
        // SAFETY: as for `load32`.
        unsafe { AtomicU64::from_ptr(self.at(offset, 8).cast()) }.load(order)
    }

    /// Stores the 64-bit word at `offset`, a multiple of 8.
    #[inline]
    pub fn store64(&self, offset: usize, value: u64, order: Ordering) {
        #[cfg(feature = "testing")]
        testing::store();
        // SAFETY: as for `load32`.
        unsafe { AtomicU64::from_ptr(self.at(offset, 8).cast()) }.store(value, order)
    }

    /// Copies `to.len()` bytes out, from `offset`. What a peer writes meanwhile
    /// may be seen in part; decide on the copy, never on the memory.
    #[inline]
    pub fn read(&self, offset: usize, to: &mut [u8]) {
        assert!(
            offset
                .checked_add(to.len())
                .is_some_and(|end| end <= self.length),
            "read outside a memory region"
        );
        // SAFETY: the range is mapped and `to` cannot overlap it (contract of
        // `new`). The assembly is outside the compiler's memory
        // model, so a concurrent writer can at most tear the copied bytes.
        unsafe { copy_bytes(self.base.as_ptr().add(offset), to.as_mut_ptr(), to.len()) }
    }

    /// Copies `from` in, at `offset`.
    #[inline]
    pub fn write(&self, offset: usize, from: &[u8]) {
        assert!(
            offset
                .checked_add(from.len())
                .is_some_and(|end| end <= self.length),
            "write outside a memory region"
        );
        #[cfg(feature = "testing")]
        testing::copy(from.len(), |length| {
            // SAFETY: as below, with fewer bytes.
            unsafe { copy_bytes(from.as_ptr(), self.base.as_ptr().add(offset), length) }
        });
        // SAFETY: as for `read`.
        unsafe { copy_bytes(from.as_ptr(), self.base.as_ptr().add(offset), from.len()) }
    }

    /// Sets `length` bytes from `offset` on to zero.
    #[inline]
    pub fn clear(&self, offset: usize, length: usize) {
        assert!(
            offset
                .checked_add(length)
                .is_some_and(|end| end <= self.length),
            "write outside a memory region"
        );
        // SAFETY: the range is mapped for writing (contract of `new`); the direction flag is
        // clear by the ABI, and rdi goes on from one instruction to the next.
        unsafe {
            core::arch::asm!(
                "rep stosq",
                "mov rcx, {rest}",
                "rep stosb",
                rest = in(reg) length % 8,
                inout("rcx") length / 8 => _,
                inout("rdi") self.base.as_ptr().add(offset) => _,
                in("rax") 0,
                options(nostack, preserves_flags)
            )
        }
    }

    /// Copies `length` bytes from `source` at `source_offset` to `offset` here,
    /// without a stop in between.
    #[inline]
    pub fn copy_from(&self, offset: usize, source: &Region, source_offset: usize, length: usize) {
        assert!(
            offset
                .checked_add(length)
                .is_some_and(|end| end <= self.length)
                && source_offset
                    .checked_add(length)
                    .is_some_and(|end| end <= source.length),
            "copy outside a memory region"
        );
        #[cfg(feature = "testing")]
        testing::store();
        // SAFETY: both ranges were checked. If they overlap, what is copied is
        // not defined, but nothing outside them is touched.
        unsafe {
            copy_bytes(
                source.base.as_ptr().add(source_offset),
                self.base.as_ptr().add(offset),
                length,
            )
        }
    }
}

/// Copies `length` bytes, eight at a time and then the rest:
/// one `rep movsb` would do on hardware, but an emulator pays for each step.
///
/// # Safety
///
/// `from` is mapped for reading and `to` for writing, `length` bytes each.
#[inline]
unsafe fn copy_bytes(from: *const u8, to: *mut u8, length: usize) {
    // SAFETY: the caller's contract; the direction flag is clear by the ABI,
    // and rsi and rdi go on from one instruction to the next.
    unsafe {
        core::arch::asm!(
            "rep movsq",
            "mov rcx, {rest}",
            "rep movsb",
            rest = in(reg) length % 8,
            inout("rcx") length / 8 => _,
            inout("rsi") from => _,
            inout("rdi") to => _,
            options(nostack, preserves_flags)
        )
    }
}

impl Mmio for Region {
    #[inline]
    fn read32(&self, offset: usize) -> u32 {
        // SAFETY: `at` checks range and alignment; mapped by contract of `new`.
        unsafe { self.at(offset, 4).cast::<u32>().read_volatile() }
    }
    #[inline]
    fn write32(&self, offset: usize, value: u32) {
        #[cfg(feature = "testing")]
        testing::store();
        // SAFETY: as for `read32`.
        unsafe { self.at(offset, 4).cast::<u32>().write_volatile(value) }
    }
    fn write16(&self, offset: usize, value: u16) {
        #[cfg(feature = "testing")]
        testing::store();
        // SAFETY: as for `read32`.
        unsafe { self.at(offset, 2).cast::<u16>().write_volatile(value) }
    }
    fn write8(&self, offset: usize, value: u8) {
        #[cfg(feature = "testing")]
        testing::store();
        // SAFETY: as for `read32`.
        unsafe { self.at(offset, 1).write_volatile(value) }
    }
    fn read16(&self, offset: usize) -> u16 {
        // SAFETY: as for `read32`.
        unsafe { self.at(offset, 2).cast::<u16>().read_volatile() }
    }
    fn read8(&self, offset: usize) -> u8 {
        // SAFETY: as for `read32`.
        unsafe { self.at(offset, 1).read_volatile() }
    }
}

impl DmaMemory for Region {
    fn len(&self) -> usize {
        self.length
    }
    fn device_address(&self) -> u64 {
        self.device_address
    }
    #[inline]
    fn read64(&self, offset: usize) -> u64 {
        // SAFETY: `at` checks range and alignment; mapped by contract of `new`.
        unsafe { self.at(offset, 8).cast::<u64>().read_volatile() }
    }
    #[inline]
    fn write64(&self, offset: usize, value: u64) {
        #[cfg(feature = "testing")]
        testing::store();
        // SAFETY: as for `read64`.
        unsafe { self.at(offset, 8).cast::<u64>().write_volatile(value) }
    }
    fn copy_out(&self, offset: usize, to: &mut [u8]) {
        self.read(offset, to);
    }
    fn copy_in(&self, offset: usize, from: &[u8]) {
        self.write(offset, from);
    }
    fn write_barrier(&self) {
        // x86 keeps stores in order (SDM vol. 3, 8.2.2) and registers are
        // mapped uncached; only the compiler must be held back.
        fence(Ordering::Release);
    }
}

/// A range of mapped memory that this program alone writes.
///
/// Peers and devices may read it at any time; what they see while this program
/// writes is theirs to bear, and they are told when it is ready by a word in a
/// [`Region`], stored with release ordering. Since nobody else changes it, it
/// may be borrowed as a slice. It cannot be copied, so there is one owner.
#[derive(Debug)]
pub struct PrivateRegion {
    region: Region,
}

impl PrivateRegion {
    /// Covers `length` bytes at `base`.
    ///
    /// # Safety
    ///
    /// As for [`Region::new`], and: nothing but the returned value is used to
    /// write it (no other program, device or `Region`), for the rest of the
    /// program. A device that could write it must have been told of no buffer
    /// in it. If the range is mapped for reading only, the program never writes to
    /// what [`Self::slice_mut`] returns.
    pub const unsafe fn new(base: NonNull<u8>, length: usize) -> Self {
        Self {
            // SAFETY: the caller's contract covers that of `Region::new`.
            region: unsafe { Region::new(base, length) },
        }
    }

    /// The same memory, known to a device at `device_address`.
    pub const fn with_device_address(self, device_address: u64) -> Self {
        Self {
            region: self.region.with_device_address(device_address),
        }
    }

    /// Length in bytes.
    pub const fn length(&self) -> usize {
        self.region.length
    }

    /// The address a device uses for the first byte.
    pub const fn device_address(&self) -> u64 {
        self.region.device_address
    }

    /// The `length` bytes at `offset`, or `None` if they do not lie inside.
    ///
    /// All their values are allowed: the memory was zeroed when it was made.
    #[inline]
    pub fn slice_mut(&mut self, offset: usize, length: usize) -> Option<&mut [u8]> {
        if offset.checked_add(length)? > self.region.length {
            return None;
        }
        // SAFETY: the range lies inside the mapped memory (checked above and by
        // the contract of `new`), bytes need no alignment and are initialised.
        // Nobody else writes it (contract of `new`), and the borrow of `self`,
        // which cannot be copied, keeps this program from a second slice. That
        // others read it through mappings of their own does not touch this
        // program's memory model: a reader cannot change what this one sees.
        Some(unsafe {
            core::slice::from_raw_parts_mut(self.region.base.as_ptr().add(offset), length)
        })
    }

    /// The `length` bytes at `offset`, or `None` if they do not lie inside.
    #[inline]
    pub fn slice(&self, offset: usize, length: usize) -> Option<&[u8]> {
        if offset.checked_add(length)? > self.region.length {
            return None;
        }
        // SAFETY: as for `slice_mut`; the shared borrow keeps this program from
        // writing it meanwhile, and nobody else may.
        Some(unsafe { core::slice::from_raw_parts(self.region.base.as_ptr().add(offset), length) })
    }

    /// Makes all earlier writes to this memory visible before anything that
    /// follows, as far as the compiler is concerned; x86 keeps stores in order.
    #[inline]
    pub fn publish(&self) {
        // SAFETY: no instruction. The compiler must assume that the assembly
        // reads the memory, whose address it is given.
        unsafe {
            core::arch::asm!("/* {0} */", in(reg) self.region.base.as_ptr(), options(nostack, preserves_flags))
        }
    }
}
