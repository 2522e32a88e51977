//! QEMU's educational device, which copies between memory and a buffer of its own
//! (QEMU's docs/specs/edu.rst).

use sel4::{CPtr, CapData, Word, constants};

use crate::workshop::{Workshop, read, write};
use crate::{device_memory, pci};

/// Where the driver puts it: device 4, function 0.
const FUNCTION: u8 = 4 << 3;
/// Vendor and device identifiers.
const IDENTIFIERS: u32 = 0x11e8_1234;

const COMMAND: u8 = 0x04;
const COMMAND_MEMORY: u32 = 1 << 1;
const COMMAND_BUS_MASTER: u32 = 1 << 2;
const BAR0: u8 = 0x10;

const DMA_SOURCE: Word = 0x80;
const DMA_DESTINATION: Word = 0x88;
const DMA_COUNT: Word = 0x90;
const DMA_COMMAND: Word = 0x98;
const DMA_START: Word = 1;
const DMA_TO_MEMORY: Word = 1 << 1;
/// The device's own buffer, as its DMA engine addresses it.
const BUFFER: Word = 0x4_0000;

/// The device.
pub struct Edu {
    registers: Word,
}

impl Edu {
    /// Finds it and lets it reach for memory.
    pub fn new(workshop: &mut Workshop) -> Self {
        assert_eq!(
            pci::read(FUNCTION, 0),
            IDENTIFIERS,
            "the device is not there"
        );
        let command = pci::read(FUNCTION, COMMAND) | COMMAND_MEMORY | COMMAND_BUS_MASTER;
        pci::write(FUNCTION, COMMAND, command);
        let bar = pci::read(FUNCTION, BAR0) & !0xf;
        Self {
            registers: device_memory::map(workshop, bar.into()),
        }
    }

    /// Has the device fetch a word from its address `from`.
    pub fn fetch(&self, from: Word) {
        self.copy(from, BUFFER, 0);
    }

    /// Has the device store the word it fetched last at its address `to`.
    pub fn store(&self, to: Word) {
        self.copy(BUFFER, to, DMA_TO_MEMORY);
    }

    fn copy(&self, from: Word, to: Word, direction: Word) {
        write(self.registers + DMA_SOURCE, from);
        write(self.registers + DMA_DESTINATION, to);
        write(self.registers + DMA_COUNT, 8);
        write(self.registers + DMA_COMMAND, DMA_START | direction);
        while read(self.registers + DMA_COMMAND) & DMA_START != 0 {}
    }
}

/// The device's IO space, in VT-d domain 1.
pub fn io_space(workshop: &mut Workshop) -> CPtr {
    workshop.mint(
        constants::seL4_CapIOSpace,
        CapData::io_space(1, FUNCTION.into()),
    )
}
