//! A register: an offset and the layout of its fields.

use core::marker::PhantomData;

use segue_device::Mmio;
use tock_registers::fields::FieldValue;
use tock_registers::{LocalRegisterCopy, RegisterLongName};

/// A 32-bit register with the fields `L` at a fixed offset.
pub(crate) struct Register<L> {
    offset: usize,
    layout: PhantomData<L>,
}

impl<L: RegisterLongName> Register<L> {
    /// The register at `offset` bytes from the start of the function's registers.
    pub(crate) const fn at(offset: usize) -> Self {
        Self {
            offset,
            layout: PhantomData,
        }
    }

    /// Reads the register once.
    pub(crate) fn read(&self, registers: &impl Mmio) -> LocalRegisterCopy<u32, L> {
        LocalRegisterCopy::new(registers.read32(self.offset))
    }

    /// Writes the register; fields not named become 0.
    pub(crate) fn write(&self, registers: &impl Mmio, fields: FieldValue<u32, L>) {
        registers.write32(self.offset, fields.value);
    }

    /// Makes sure that the fields stand as wanted, whatever the others are: nothing is written if
    /// they do. Says whether it wrote.
    pub(crate) fn correct(&self, registers: &impl Mmio, fields: FieldValue<u32, L>) -> bool {
        let before = registers.read32(self.offset);
        let is_wrong = before & fields.mask() != fields.value;
        if is_wrong {
            registers.write32(self.offset, before & !fields.mask() | fields.value);
        }
        is_wrong
    }

    /// Makes sure that the register has the value `fields`, with 0 in those not named: nothing is
    /// written if it does. Says whether it wrote.
    pub(crate) fn correct_all(&self, registers: &impl Mmio, fields: FieldValue<u32, L>) -> bool {
        let is_wrong = registers.read32(self.offset) != fields.value;
        if is_wrong {
            registers.write32(self.offset, fields.value);
        }
        is_wrong
    }

    /// Reads the register and writes it back with some fields changed.
    pub(crate) fn modify(&self, registers: &impl Mmio, fields: FieldValue<u32, L>) {
        let before = registers.read32(self.offset);
        registers.write32(self.offset, before & !fields.mask() | fields.value);
    }
}

/// A register whose value is one number or a set of bits without names.
pub(crate) struct Plain(pub(crate) usize);

impl Plain {
    /// Reads the register.
    pub(crate) fn read(&self, registers: &impl Mmio) -> u32 {
        registers.read32(self.0)
    }

    /// Writes the register.
    pub(crate) fn write(&self, registers: &impl Mmio, value: u32) {
        registers.write32(self.0, value);
    }

    /// Makes sure that the register has this value: nothing is written if it does. Says whether it
    /// wrote.
    pub(crate) fn correct(&self, registers: &impl Mmio, value: u32) -> bool {
        let is_wrong = self.read(registers) != value;
        if is_wrong {
            self.write(registers, value);
        }
        is_wrong
    }
}
