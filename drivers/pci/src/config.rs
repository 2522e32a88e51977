//! What the system description says about PCI devices.
//!
//! The image builder writes a [`DeviceTable`] into the symbol `pci_devices` of
//! the protection domain that manages PCI and of each device's owner. The layout
//! is fixed, little-endian and free of pointers. What it says is checked against
//! the hardware before it is used (`crate::check`).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::address::{Address, RequesterId};

/// Devices a table can hold.
pub const MAX_DEVICES: usize = 4;
/// Virtual functions a device in the table can have.
pub const MAX_VIRTUAL_FUNCTIONS: usize = 8;
/// MSI-X interrupts of all devices together.
pub const MAX_INTERRUPTS: usize = 32;
/// Base address registers of a function.
pub const BAR_COUNT: usize = 6;
/// Bytes of a device's name; shorter names are padded with zeros.
pub const NAME_LENGTH: usize = 32;
/// The first word of a table: "SEGP", and the number of the layout.
pub const MAGIC: u64 = 0x0000_0001_5047_4553;
/// Bytes of the whole table.
pub const TABLE_SIZE: usize = size_of::<DeviceTable>();

/// Where a base address register is to point.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable,
)]
#[repr(C)]
pub struct BarPlacement {
    /// Physical address; 0 leaves the register as the firmware set it.
    pub address: u64,
    /// Bytes that the rest of the system takes the BAR to have; 0: nothing relies
    /// on it. For the BARs of virtual functions: of *one* function.
    pub size: u64,
}

/// A physical function and, if it has them, its virtual functions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Device {
    /// Name in the system description, padded with zeros.
    pub name: [u8; NAME_LENGTH],
    /// Requester id (bus << 8 | device << 3 | function) of the physical function.
    pub requester_id: u16,
    /// Vendor the function must have.
    pub vendor_id: u16,
    /// Device id the function must have.
    pub device_id: u16,
    /// Virtual functions to switch on; 0 leaves SR-IOV off.
    pub vf_count: u16,
    /// Requester id of virtual function 0, less that of the physical function.
    pub vf_offset: u16,
    /// Distance between the requester ids of neighbouring virtual functions.
    pub vf_stride: u16,
    /// Zero.
    pub reserved: u32,
    /// Where the BARs of the physical function go, by number.
    pub bars: [BarPlacement; BAR_COUNT],
    /// Where the BARs of virtual function 0 go; those of function n follow at n times the size.
    pub vf_bars: [BarPlacement; BAR_COUNT],
    /// MAC addresses of the virtual functions; all zero: none, the function stays silent.
    pub vf_macs: [[u8; 6]; MAX_VIRTUAL_FUNCTIONS],
}

/// One MSI-X interrupt.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable,
)]
#[repr(C)]
pub struct Interrupt {
    /// The function that raises it, physical or virtual.
    pub requester_id: u16,
    /// Entry of the function's MSI-X table (`handle` in the system description).
    pub table_index: u16,
    /// The kernel's vector number (`vector` in the system description, 0..107);
    /// the processor's is 0x30 higher.
    pub vector: u32,
}

/// All PCI devices of the system description.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct DeviceTable {
    /// [`MAGIC`].
    pub magic: u64,
    /// Entries of `devices` in use.
    pub device_count: u32,
    /// Entries of `interrupts` in use.
    pub interrupt_count: u32,
    /// The devices.
    pub devices: [Device; MAX_DEVICES],
    /// The interrupts.
    pub interrupts: [Interrupt; MAX_INTERRUPTS],
}

impl Device {
    /// No device.
    pub const EMPTY: Device = Device {
        name: [0; NAME_LENGTH],
        requester_id: 0,
        vendor_id: 0,
        device_id: 0,
        vf_count: 0,
        vf_offset: 0,
        vf_stride: 0,
        reserved: 0,
        bars: [BarPlacement {
            address: 0,
            size: 0,
        }; BAR_COUNT],
        vf_bars: [BarPlacement {
            address: 0,
            size: 0,
        }; BAR_COUNT],
        vf_macs: [[0; 6]; MAX_VIRTUAL_FUNCTIONS],
    };

    /// The device's name.
    pub fn name(&self) -> &str {
        let length = self
            .name
            .iter()
            .position(|&byte| byte == 0)
            .unwrap_or(NAME_LENGTH);
        core::str::from_utf8(&self.name[..length]).unwrap_or("?")
    }

    /// Sets the name, cut to [`NAME_LENGTH`] bytes at a character boundary.
    pub fn set_name(&mut self, name: &str) {
        let mut length = name.len().min(NAME_LENGTH);
        while !name.is_char_boundary(length) {
            length -= 1;
        }
        self.name = [0; NAME_LENGTH];
        self.name[..length].copy_from_slice(&name.as_bytes()[..length]);
    }

    /// Where the physical function is.
    pub fn address(&self) -> Address {
        RequesterId(self.requester_id).address()
    }

    /// Requester id of virtual function `index`, or `None` if the device has no
    /// such function or the number does not fit.
    pub fn vf_requester_id(&self, index: usize) -> Option<RequesterId> {
        if index >= usize::from(self.vf_count) {
            return None;
        }
        let distance = u16::try_from(index).ok()?.checked_mul(self.vf_stride)?;
        let id = self
            .requester_id
            .checked_add(self.vf_offset)?
            .checked_add(distance)?;
        Some(RequesterId(id))
    }

    /// MAC address of virtual function `index`, if it has one.
    pub fn vf_mac(&self, index: usize) -> Option<[u8; 6]> {
        let mac = *self.vf_macs.get(index)?;
        (index < usize::from(self.vf_count) && mac != [0; 6]).then_some(mac)
    }

    /// Where BAR `bar` of virtual function `index` is: address and bytes.
    pub fn vf_bar(&self, index: usize, bar: usize) -> Option<BarPlacement> {
        let first = self.vf_bars.get(bar)?;
        if index >= usize::from(self.vf_count) || first.size == 0 {
            return None;
        }
        let address = first
            .address
            .checked_add(first.size.checked_mul(index as u64)?)?;
        Some(BarPlacement {
            address,
            size: first.size,
        })
    }
}

impl DeviceTable {
    /// A table without a device, as it stands in a program before the image
    /// builder fills it in.
    pub const EMPTY: DeviceTable = DeviceTable {
        magic: MAGIC,
        device_count: 0,
        interrupt_count: 0,
        devices: [Device::EMPTY; MAX_DEVICES],
        interrupts: [Interrupt {
            requester_id: 0,
            table_index: 0,
            vector: 0,
        }; MAX_INTERRUPTS],
    };

    /// The devices in use, or `None` if the table is not one of this layout.
    pub fn devices(&self) -> Option<&[Device]> {
        if self.magic != MAGIC {
            return None;
        }
        self.devices.get(..self.device_count as usize)
    }

    /// The interrupts in use, or `None` if the table is not one of this layout.
    pub fn interrupts(&self) -> Option<&[Interrupt]> {
        if self.magic != MAGIC {
            return None;
        }
        self.interrupts.get(..self.interrupt_count as usize)
    }

    /// Adds a device. Returns false if the table is full.
    #[must_use]
    pub fn add_device(&mut self, device: Device) -> bool {
        let Some(place) = self.devices.get_mut(self.device_count as usize) else {
            return false;
        };
        *place = device;
        self.device_count += 1;
        true
    }

    /// Adds an interrupt. Returns false if the table is full.
    #[must_use]
    pub fn add_interrupt(&mut self, interrupt: Interrupt) -> bool {
        let Some(place) = self.interrupts.get_mut(self.interrupt_count as usize) else {
            return false;
        };
        *place = interrupt;
        self.interrupt_count += 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nic() -> Device {
        let mut nic = Device {
            requester_id: 0x18,
            vendor_id: 0x8086,
            device_id: 0x10c9,
            vf_count: 7,
            vf_offset: 0x80,
            vf_stride: 2,
            ..Device::EMPTY
        };
        nic.set_name("nic");
        nic.vf_bars[0] = BarPlacement {
            address: 0xe010_0000,
            size: 0x4000,
        };
        nic.vf_macs[0] = [0x52, 0x54, 0, 0x5e, 0x60, 0];
        nic
    }

    #[test]
    fn virtual_functions_are_where_the_capability_puts_them() {
        let nic = nic();
        assert_eq!(nic.name(), "nic");
        assert_eq!(nic.vf_requester_id(0), Some(RequesterId(0x98)));
        assert_eq!(nic.vf_requester_id(6), Some(RequesterId(0xa4)));
        assert_eq!(nic.vf_requester_id(7), None);
        let last = BarPlacement {
            address: 0xe011_8000,
            size: 0x4000,
        };
        assert_eq!(nic.vf_bar(6, 0), Some(last));
        assert_eq!(nic.vf_bar(7, 0), None);
        assert_eq!(nic.vf_bar(0, 1), None);
        assert_eq!(nic.vf_mac(0), Some([0x52, 0x54, 0, 0x5e, 0x60, 0]));
        assert_eq!(nic.vf_mac(1), None);
    }

    #[test]
    fn a_requester_id_that_does_not_fit_is_refused() {
        let device = Device {
            requester_id: 0xfff0,
            vf_count: 8,
            vf_offset: 1,
            vf_stride: 4,
            ..Device::EMPTY
        };
        assert_eq!(device.vf_requester_id(3), Some(RequesterId(0xfffd)));
        assert_eq!(device.vf_requester_id(4), None);
    }

    #[test]
    fn the_table_survives_its_bytes_and_refuses_too_much() {
        let mut table = DeviceTable::EMPTY;
        for _ in 0..MAX_DEVICES {
            assert!(table.add_device(nic()));
        }
        assert!(!table.add_device(nic()));
        for index in 0..MAX_INTERRUPTS as u16 {
            assert!(table.add_interrupt(Interrupt {
                requester_id: 0x98,
                table_index: index,
                vector: 16
            }));
        }
        assert!(!table.add_interrupt(Interrupt::default()));
        let copy = DeviceTable::read_from_bytes(table.as_bytes()).unwrap();
        assert_eq!(copy, table);
        assert_eq!(copy.devices().unwrap().len(), MAX_DEVICES);

        let broken = DeviceTable {
            device_count: MAX_DEVICES as u32 + 1,
            ..table
        };
        assert!(broken.devices().is_none());
        let foreign = DeviceTable { magic: 0, ..table };
        assert!(foreign.devices().is_none() && foreign.interrupts().is_none());
    }

    #[test]
    fn a_long_name_is_cut_at_a_character() {
        let mut device = Device::EMPTY;
        device.set_name("a-name-of-thirty-one-characters\u{e9}");
        assert_eq!(device.name(), "a-name-of-thirty-one-characters");
    }
}
