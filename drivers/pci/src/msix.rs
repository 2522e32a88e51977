//! MSI-X: interrupts as memory writes.
//!
//! PCI Express Base Specification 7.7.2 (capability) and 6.1.4 (use). The table
//! of messages lies in a BAR of the function. Whoever can write it can raise any
//! vector of the processor, so only the protection domain that manages PCI maps
//! it.

use segue_device::Mmio;

use crate::capability::id;
use crate::ecam::Function;

const MESSAGE_CONTROL: u16 = 2;
const TABLE: u16 = 4;
const LENGTH: u16 = 12;
const CONTROL_ENABLE: u16 = 1 << 15;
const CONTROL_FUNCTION_MASK: u16 = 1 << 14;
const CONTROL_TABLE_SIZE: u16 = 0x7ff;

/// Bytes of one table entry.
pub const ENTRY_SIZE: usize = 16;
const ENTRY_ADDRESS_LOW: usize = 0;
const ENTRY_ADDRESS_HIGH: usize = 4;
const ENTRY_DATA: usize = 8;
const ENTRY_CONTROL: usize = 12;
const ENTRY_MASKED: u32 = 1;

/// Where interrupt messages to the first processor go: the local APIC, fixed
/// delivery, APIC id 0 (Intel SDM volume 3, 11.11.1).
const MESSAGE_ADDRESS: u32 = 0xfee0_0000;
/// seL4 numbers its interrupt vectors from here on (`IRQ_INT_OFFSET`).
const FIRST_VECTOR: u32 = 0x30;
/// One above the highest vector number a system description may use.
pub const VECTOR_COUNT: u32 = 108;

/// The MSI-X capability of a function.
#[derive(Debug)]
pub struct MsiX<'a, M> {
    function: Function<'a, M>,
    offset: u16,
}

/// Where a table lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TablePlace {
    /// The BAR.
    pub bar: usize,
    /// Bytes from the start of the BAR.
    pub offset: usize,
    /// Entries.
    pub entries: usize,
}

impl TablePlace {
    /// Bytes of the table.
    pub fn length(&self) -> usize {
        self.entries * ENTRY_SIZE
    }
}

impl<'a, M: Mmio> MsiX<'a, M> {
    /// The capability of `function`, if it has one. A virtual function has its own.
    pub fn of(function: Function<'a, M>) -> Option<Self> {
        let offset = function.find_capability(id::MSI_X, LENGTH)?;
        Some(Self { function, offset })
    }

    /// Where the table lies.
    pub fn table(&self) -> TablePlace {
        let place = self.function.read32(self.offset + TABLE);
        let control = self.function.read16(self.offset + MESSAGE_CONTROL);
        TablePlace {
            bar: (place & 7) as usize,
            offset: (place & !7) as usize,
            entries: usize::from(control & CONTROL_TABLE_SIZE) + 1,
        }
    }

    /// Lets the function send MSI-X interrupts. Returns whether that had to be written.
    pub fn enable(&self) -> bool {
        let control = self.function.read16(self.offset + MESSAGE_CONTROL);
        let wanted = (control | CONTROL_ENABLE) & !CONTROL_FUNCTION_MASK;
        if wanted != control {
            self.function.write16(self.offset + MESSAGE_CONTROL, wanted);
        }
        wanted != control
    }

    /// Whether the function may send MSI-X interrupts.
    pub fn is_enabled(&self) -> bool {
        self.function.read16(self.offset + MESSAGE_CONTROL) & CONTROL_ENABLE != 0
    }
}

/// A mapped MSI-X table.
#[derive(Clone, Copy, Debug)]
pub struct Table<M> {
    registers: M,
    entries: usize,
}

impl<M: Mmio> Table<M> {
    /// Covers `entries` entries at the start of `registers`, which must be that long.
    pub fn new(registers: M, entries: usize) -> Self {
        Self { registers, entries }
    }

    /// Makes entry `index` silent if it is not. Returns whether it was written.
    pub fn mask(&self, index: usize) -> bool {
        if index >= self.entries {
            return false;
        }
        let control = index * ENTRY_SIZE + ENTRY_CONTROL;
        let is_open = self.registers.read32(control) & ENTRY_MASKED == 0;
        if is_open {
            self.registers.write32(control, ENTRY_MASKED);
        }
        is_open
    }

    /// Makes entry `index` raise `vector`, a vector number of the system description. One that
    /// does so already is left alone. Returns whether it was written, or `None` if there is no such
    /// entry or vector.
    #[must_use]
    pub fn set(&self, index: usize, vector: u32) -> Option<bool> {
        if index >= self.entries || vector >= VECTOR_COUNT {
            return None;
        }
        let entry = index * ENTRY_SIZE;
        let wanted = [
            (ENTRY_ADDRESS_LOW, MESSAGE_ADDRESS),
            (ENTRY_ADDRESS_HIGH, 0),
            (ENTRY_DATA, FIRST_VECTOR + vector),
        ];
        let differs =
            |&(field, value): &(usize, u32)| self.registers.read32(entry + field) != value;
        let is_wrong = wanted.iter().any(differs);
        if is_wrong {
            // Masked while it changes, so that no mixture of old and new is sent.
            self.mask(index);
            for (field, value) in wanted.iter().filter(|&word| differs(word)) {
                self.registers.write32(entry + field, *value);
            }
        }
        let is_masked = self.registers.read32(entry + ENTRY_CONTROL) & ENTRY_MASKED != 0;
        if is_masked {
            self.registers.write32(entry + ENTRY_CONTROL, 0);
        }
        Some(is_wrong || is_masked)
    }
}

impl<M> Clone for MsiX<'_, M> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<M> Copy for MsiX<'_, M> {}
