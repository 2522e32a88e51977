//! Base address registers: what they cover, and where.
//!
//! PCI Express Base Specification 7.5.1.2.1. The same code serves a function's
//! own registers and those of the virtual functions in the SR-IOV capability,
//! which have the same form.

use segue_device::Mmio;

use crate::config::BAR_COUNT;
use crate::ecam::Function;

const IO_SPACE: u32 = 1 << 0;
const TYPE_MASK: u32 = 3 << 1;
const TYPE_64_BIT: u32 = 2 << 1;
const MEMORY_FLAGS: u32 = 0xf;

/// A base address register in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bar {
    /// Its number, 0..5; a 64-bit one also takes the next.
    pub number: usize,
    /// Where it is.
    pub address: u64,
    /// Bytes it covers, a power of two. For virtual functions: of one of them.
    pub size: u64,
    /// Whether it is 64 bits wide.
    pub is_64_bit: bool,
}

/// A row of base address registers in configuration space.
#[derive(Debug)]
pub struct Bars<'a, M> {
    function: Function<'a, M>,
    first: u16,
}

impl<'a, M: Mmio> Bars<'a, M> {
    /// The row that starts at offset `first` of the function's configuration space.
    pub(crate) fn new(function: Function<'a, M>, first: u16) -> Self {
        Self { function, first }
    }

    fn offset(&self, number: usize) -> u16 {
        self.first + 4 * number as u16
    }

    /// The address in register `number`, without sizing it; `None` for I/O space
    /// and for a register that was never set.
    ///
    /// The upper half of a 64-bit register looks like one of its own here, so
    /// walk with [`Bars::addresses`].
    fn address(&self, number: usize) -> Option<(u64, bool)> {
        let low = self.function.read32(self.offset(number));
        if low & IO_SPACE != 0 {
            return None;
        }
        let wide = low & TYPE_MASK == TYPE_64_BIT && number + 1 < BAR_COUNT;
        let high = if wide {
            self.function.read32(self.offset(number + 1))
        } else {
            0
        };
        Some((u64::from(high) << 32 | u64::from(low & !MEMORY_FLAGS), wide))
    }

    /// The memory addresses in the first `count` registers: (number, address).
    pub fn addresses(&self, count: usize) -> impl Iterator<Item = (usize, u64)> {
        let mut number = 0;
        core::iter::from_fn(move || {
            while number < count.min(BAR_COUNT) {
                let this = number;
                number += 1;
                if let Some((address, wide)) = self.address(this) {
                    number += usize::from(wide);
                    if address != 0 {
                        return Some((this, address));
                    }
                }
            }
            None
        })
    }

    /// Finds address and size of memory register `number`, or `None` if it is
    /// not there, is I/O space or the upper half of another.
    ///
    /// Sizing writes all ones and restores: memory decoding must be off.
    pub fn measure(&self, number: usize) -> Option<Bar> {
        if number >= BAR_COUNT || self.is_upper_half(number) {
            return None;
        }
        let (address, is_64_bit) = self.address(number)?;
        let low = self.function.read32(self.offset(number));
        self.function.write32(self.offset(number), u32::MAX);
        let mut mask = u64::from(self.function.read32(self.offset(number)) & !MEMORY_FLAGS);
        self.function.write32(self.offset(number), low);
        if is_64_bit {
            let high = self.function.read32(self.offset(number + 1));
            self.function.write32(self.offset(number + 1), u32::MAX);
            mask |= u64::from(self.function.read32(self.offset(number + 1))) << 32;
            self.function.write32(self.offset(number + 1), high);
        } else if mask != 0 {
            mask |= 0xffff_ffff_0000_0000;
        }
        // The writable bits of a sound register are an unbroken run at the top.
        let size = (!mask).wrapping_add(1);
        if mask == 0 || !size.is_power_of_two() {
            return None;
        }
        Some(Bar {
            number,
            address,
            size,
            is_64_bit,
        })
    }

    /// What memory register `number` says without being sized: its place and, since it lies at a
    /// multiple of its size, the most bytes that it can cover. `None` if it is not there, is I/O space,
    /// the upper half of another, or was never set.
    pub fn at_most(&self, number: usize) -> Option<Bar> {
        if number >= BAR_COUNT || self.is_upper_half(number) {
            return None;
        }
        let (address, is_64_bit) = self.address(number)?;
        (address != 0).then(|| Bar {
            number,
            address,
            size: address & address.wrapping_neg(),
            is_64_bit,
        })
    }

    fn is_upper_half(&self, number: usize) -> bool {
        let mut at = 0;
        while at < number {
            at += match self.address(at) {
                Some((_, true)) => 2,
                _ => 1,
            };
        }
        at != number
    }

    /// Points `bar` to `address`. Returns whether the register took it.
    ///
    /// Memory decoding must be off.
    #[must_use]
    pub fn place(&self, bar: &Bar, address: u64) -> bool {
        self.function
            .write32(self.offset(bar.number), address as u32);
        if bar.is_64_bit {
            self.function
                .write32(self.offset(bar.number + 1), (address >> 32) as u32);
        }
        self.address(bar.number)
            .is_some_and(|(read, _)| read == address)
    }
}

impl<M: Mmio> Bars<'_, M> {
    /// Points memory register `number` to `address` without sizing it, if it points elsewhere. Returns
    /// whether it was written, or `None` if it does not take the address.
    ///
    /// Memory decoding must be off.
    #[must_use]
    pub fn correct(&self, number: usize, address: u64) -> Option<bool> {
        if number >= BAR_COUNT || self.is_upper_half(number) {
            return None;
        }
        let (found, is_64_bit) = self.address(number)?;
        if found == address {
            return Some(false);
        }
        let bar = Bar {
            number,
            address: found,
            size: 0,
            is_64_bit,
        };
        self.place(&bar, address).then_some(true)
    }
}

impl<'a, M: Mmio> Function<'a, M> {
    /// The function's own base address registers.
    pub fn bars(&self) -> Bars<'a, M> {
        Bars::new(*self, crate::ecam::header::BAR_0)
    }
}

impl<M> Clone for Bars<'_, M> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<M> Copy for Bars<'_, M> {}
