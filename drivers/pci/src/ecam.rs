//! Configuration space through the enhanced configuration access mechanism.
//!
//! PCI Express Base Specification 7.2.2: each function owns 4 KiB of memory at
//! bus << 20 | device << 15 | function << 12. Reads of what is not there give
//! all ones; no access can fail.

use segue_device::Mmio;

use crate::address::Address;

/// Bytes of one function's configuration space.
pub const FUNCTION_SIZE: u16 = 4096;
/// Bytes of one bus's configuration space.
pub const BUS_SIZE: usize = 1 << 20;

/// Offsets in the header every function has (section 7.5.1.1).
pub mod header {
    /// Vendor id, 16 bits.
    pub const VENDOR_ID: u16 = 0x00;
    /// Device id, 16 bits.
    pub const DEVICE_ID: u16 = 0x02;
    /// Command register, 16 bits.
    pub const COMMAND: u16 = 0x04;
    /// Status register, 16 bits.
    pub const STATUS: u16 = 0x06;
    /// Class code: interface, subclass and class from byte 9 to 11; byte 8 is the revision.
    pub const CLASS_REVISION: u16 = 0x08;
    /// Header type, 8 bits.
    pub const HEADER_TYPE: u16 = 0x0e;
    /// First base address register.
    pub const BAR_0: u16 = 0x10;
    /// Offset of the first capability, 8 bits.
    pub const CAPABILITIES_POINTER: u16 = 0x34;
}

/// Bits of the command register (section 7.5.1.1.3).
pub mod command {
    /// The function answers to accesses of its memory BARs.
    pub const MEMORY_SPACE: u16 = 1 << 1;
    /// The function may read and write memory, and send message signalled interrupts.
    pub const BUS_MASTER: u16 = 1 << 2;
}

/// Configuration space of the buses from 0 on.
#[derive(Clone, Copy, Debug)]
pub struct Ecam<M> {
    registers: M,
    buses: u16,
}

/// One function's configuration space.
#[derive(Debug)]
pub struct Function<'a, M> {
    registers: &'a M,
    address: Address,
}

/// What a function says it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Where it is.
    pub address: Address,
    /// Who made it.
    pub vendor_id: u16,
    /// Which product it is.
    pub device_id: u16,
    /// Class, subclass and programming interface, one byte each.
    pub class: u32,
    /// Whether it is a bridge (header type 1).
    pub is_bridge: bool,
}

impl Identity {
    /// What kind of device it is, in words (PCI Code and ID Assignment
    /// Specification, section 1).
    pub fn kind(&self) -> &'static str {
        match (self.class >> 16, self.class >> 8 & 0xff) {
            (0x01, 0x06) => "SATA controller",
            (0x01, 0x08) => "NVMe controller",
            (0x01, _) => "storage controller",
            (0x02, 0x00) => "Ethernet controller",
            (0x02, _) => "network controller",
            (0x03, _) => "display controller",
            (0x06, 0x00) => "host bridge",
            (0x06, 0x01) => "ISA bridge",
            (0x06, 0x04) => "PCI bridge",
            (0x06, _) => "bridge",
            (0x0c, 0x03) => "USB controller",
            (0x0c, 0x05) => "SMBus controller",
            _ => "device",
        }
    }
}

impl<M: Mmio> Ecam<M> {
    /// Reaches configuration space through `registers`, which start at bus 0 and
    /// are `length` bytes long. A part of a bus at the end is left out.
    pub fn new(registers: M, length: usize) -> Self {
        Self {
            registers,
            buses: (length / BUS_SIZE).min(256) as u16,
        }
    }

    /// The function at `address`, or `None` if its bus is not covered. The
    /// function need not be there: see [`Function::identity`].
    pub fn function(&self, address: Address) -> Option<Function<'_, M>> {
        (u16::from(address.bus()) < self.buses).then_some(Function {
            registers: &self.registers,
            address,
        })
    }

    /// All functions on `bus` that show themselves. Virtual functions do not:
    /// their vendor id reads all ones, and their places are computed
    /// ([`crate::sriov`]).
    pub fn functions_on(&self, bus: u8) -> impl Iterator<Item = (Function<'_, M>, Identity)> {
        (0..32u8).flat_map(move |device| {
            let several = Address::new(bus, device, 0)
                .and_then(|address| self.function(address))
                .is_some_and(|function| {
                    function.identity().is_some() && function.is_multi_function()
                });
            (0..if several { 8 } else { 1 }).filter_map(move |number| {
                let function = self.function(Address::new(bus, device, number)?)?;
                Some((function, function.identity()?))
            })
        })
    }
}

impl<M: Mmio> Function<'_, M> {
    /// Where this function is.
    pub fn address(&self) -> Address {
        self.address
    }

    /// Vendor, device and class, or `None` if nothing shows itself here.
    pub fn identity(&self) -> Option<Identity> {
        let vendor_id = self.read16(header::VENDOR_ID);
        if vendor_id == 0xffff {
            return None;
        }
        Some(Identity {
            address: self.address,
            vendor_id,
            device_id: self.read16(header::DEVICE_ID),
            class: self.read32(header::CLASS_REVISION) >> 8,
            is_bridge: self.read8(header::HEADER_TYPE) & 0x7f == 1,
        })
    }

    fn is_multi_function(&self) -> bool {
        self.read8(header::HEADER_TYPE) & 0x80 != 0
    }

    fn at(&self, offset: u16) -> usize {
        assert!(offset < FUNCTION_SIZE, "offset outside configuration space");
        (usize::from(self.address.requester_id().0) << 12) + usize::from(offset)
    }

    /// Reads the byte at `offset`.
    pub fn read8(&self, offset: u16) -> u8 {
        self.registers.read8(self.at(offset))
    }

    /// Reads the 16-bit word at `offset`, a multiple of 2.
    pub fn read16(&self, offset: u16) -> u16 {
        self.registers.read16(self.at(offset))
    }

    /// Reads the 32-bit word at `offset`, a multiple of 4.
    pub fn read32(&self, offset: u16) -> u32 {
        self.registers.read32(self.at(offset))
    }

    /// Writes the 16-bit word at `offset`, a multiple of 2.
    pub fn write16(&self, offset: u16, value: u16) {
        self.registers.write16(self.at(offset), value);
    }

    /// Writes the 32-bit word at `offset`, a multiple of 4.
    pub fn write32(&self, offset: u16, value: u32) {
        self.registers.write32(self.at(offset), value);
    }

    /// The command register.
    pub fn command(&self) -> u16 {
        self.read16(header::COMMAND)
    }

    /// Sets and clears bits of the command register; nothing is written if it
    /// stands as wanted. Returns whether it was written.
    pub fn change_command(&self, set: u16, clear: u16) -> bool {
        let before = self.command();
        let after = (before & !clear) | set;
        if after != before {
            self.write16(header::COMMAND, after);
        }
        after != before
    }

    /// Lets the function read and write memory and send interrupts, or stops it.
    ///
    /// Stopping is the first step of taking a function away from its user. On
    /// return no request of the function is under way in the function itself:
    /// the register is read back behind the write.
    pub fn set_bus_master(&self, on: bool) {
        let (set, clear) = if on {
            (command::BUS_MASTER, 0)
        } else {
            (0, command::BUS_MASTER)
        };
        self.change_command(set, clear);
        let _flush = self.command();
    }
}

impl<M> Clone for Function<'_, M> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<M> Copy for Function<'_, M> {}
