//! What can be wrong with a device, in sentences that say what to do.

use core::fmt;

use crate::address::{Address, RequesterId};
use crate::config::{Device, NAME_LENGTH};

/// A device is not what the system description says, or does not do what it must.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Error {
    name: [u8; NAME_LENGTH],
    /// Where the physical function was expected.
    pub address: Address,
    /// What is wrong.
    pub kind: ErrorKind,
}

/// What is wrong with a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// Configuration space of its bus is not mapped.
    BusNotMapped,
    /// Nothing shows itself there.
    NoDevice {
        /// The vendor that was expected.
        vendor_id: u16,
        /// The device id that was expected.
        device_id: u16,
    },
    /// Another product is there.
    WrongDevice {
        /// Vendor and device id found.
        found: (u16, u16),
        /// Vendor and device id expected.
        expected: (u16, u16),
    },
    /// The system description places a BAR that the function does not have.
    NoBar {
        /// The BAR's number.
        bar: usize,
        /// Whether it belongs to the virtual functions.
        of_virtual: bool,
    },
    /// A BAR is not as large as the rest of the system takes it to be.
    BarSize {
        /// The BAR's number.
        bar: usize,
        /// Whether it belongs to the virtual functions.
        of_virtual: bool,
        /// Its size in bytes.
        found: u64,
        /// The size in the system description.
        expected: u64,
    },
    /// A BAR cannot lie where the system description puts it.
    BarPlace {
        /// The BAR's number.
        bar: usize,
        /// Whether it belongs to the virtual functions.
        of_virtual: bool,
        /// The address.
        address: u64,
        /// Why not.
        reason: PlaceProblem,
    },
    /// Virtual functions are wanted, but the device has no SR-IOV capability.
    NoSriov,
    /// The device has fewer virtual functions than are wanted.
    TooFewVirtualFunctions {
        /// How many it has.
        found: u16,
        /// How many are wanted.
        expected: u16,
    },
    /// Virtual functions appear at other places than the system description says.
    VirtualFunctionPlaces {
        /// Offset and stride found.
        found: (u16, u16),
        /// Offset and stride in the system description.
        expected: (u16, u16),
    },
    /// The device refused to switch SR-IOV on.
    SriovRefused,
    /// A virtual function does not answer after SR-IOV was switched on.
    VirtualFunctionSilent {
        /// The function.
        function: RequesterId,
    },
    /// An interrupt is wanted of a function without MSI-X.
    NoMsiX {
        /// The function.
        function: RequesterId,
    },
    /// An interrupt is wanted that the function's table has no entry for.
    NoMsiXEntry {
        /// The function.
        function: RequesterId,
        /// The entry.
        index: u16,
        /// The vector.
        vector: u32,
        /// How many entries the table has.
        entries: usize,
    },
    /// The function's MSI-X table is not mapped in this protection domain.
    MsiXNotMapped {
        /// The function.
        function: RequesterId,
        /// The BAR it lies in.
        bar: usize,
        /// Bytes from the BAR's start.
        offset: usize,
        /// Bytes of the table.
        length: usize,
    },
}

/// Why a BAR cannot lie somewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlaceProblem {
    /// Not a multiple of its size.
    Unaligned,
    /// Reaches above 4 GiB, where the register (or, for virtual functions, the
    /// emulated device) cannot go.
    Above4GiB,
    /// Another function's BAR is there.
    Taken {
        /// The function that has it.
        by: Address,
    },
    /// The register did not keep the address.
    NotKept,
}

impl Error {
    /// A problem with `device`.
    pub fn new(device: &Device, kind: ErrorKind) -> Self {
        Self {
            name: device.name,
            address: device.address(),
            kind,
        }
    }

    /// The device's name in the system description.
    pub fn name(&self) -> &str {
        let length = self
            .name
            .iter()
            .position(|&byte| byte == 0)
            .unwrap_or(NAME_LENGTH);
        core::str::from_utf8(&self.name[..length]).unwrap_or("?")
    }
}

struct Owner(bool);

impl fmt::Display for Owner {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(if self.0 {
            "virtual function BAR"
        } else {
            "BAR"
        })
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.name();
        let at = self.address;
        match self.kind {
            ErrorKind::BusNotMapped => write!(
                formatter,
                "{name} is on bus {}, whose configuration space is not mapped: enlarge the memory region of the ECAM",
                at.bus()
            ),
            ErrorKind::NoDevice {
                vendor_id,
                device_id,
            } => write!(
                formatter,
                "no device at {at}: start the machine with {name} ({vendor_id:04x}:{device_id:04x}) there"
            ),
            ErrorKind::WrongDevice { found, expected } => write!(
                formatter,
                "the device at {at} is {:04x}:{:04x}, but {name} is {:04x}:{:04x} in the system description",
                found.0, found.1, expected.0, expected.1
            ),
            ErrorKind::NoBar { bar, of_virtual } => write!(
                formatter,
                "{name} at {at} has no memory {} {bar}, which the system description places",
                Owner(of_virtual)
            ),
            ErrorKind::BarSize {
                bar,
                of_virtual,
                found,
                expected,
            } => write!(
                formatter,
                "{} {bar} of {name} at {at} has {found:#x} bytes, {expected:#x} in the system description",
                Owner(of_virtual)
            ),
            ErrorKind::BarPlace {
                bar,
                of_virtual,
                address,
                reason,
            } => {
                write!(
                    formatter,
                    "{} {bar} of {name} at {at} cannot go to {address:#x}: ",
                    Owner(of_virtual)
                )?;
                match reason {
                    PlaceProblem::Unaligned => {
                        formatter.write_str("that is not a multiple of its size")
                    }
                    PlaceProblem::Above4GiB => formatter.write_str("it must end below 4 GiB"),
                    PlaceProblem::Taken { by } => write!(formatter, "a BAR of {by} is there"),
                    PlaceProblem::NotKept => {
                        formatter.write_str("the device did not keep the address")
                    }
                }
            }
            ErrorKind::NoSriov => {
                write!(
                    formatter,
                    "{name} at {at} has no SR-IOV capability, but the system description wants virtual functions"
                )
            }
            ErrorKind::TooFewVirtualFunctions { found, expected } => write!(
                formatter,
                "{name} at {at} can have {found} virtual functions, the system description wants {expected}"
            ),
            ErrorKind::VirtualFunctionPlaces { found, expected } => write!(
                formatter,
                "virtual functions of {name} at {at} have offset {:#x} and stride {}, in the system description {:#x} and {}",
                found.0, found.1, expected.0, expected.1
            ),
            ErrorKind::SriovRefused => {
                write!(
                    formatter,
                    "{name} at {at} refused to switch its virtual functions on"
                )
            }
            ErrorKind::VirtualFunctionSilent { function } => write!(
                formatter,
                "virtual function {function} of {name} does not answer after it was switched on"
            ),
            ErrorKind::NoMsiX { function } => write!(
                formatter,
                "function {function} of {name} has no MSI-X, but the system description gives it an interrupt"
            ),
            ErrorKind::NoMsiXEntry {
                function,
                index,
                vector,
                entries,
            } => write!(
                formatter,
                "function {function} of {name} cannot have interrupt {index} with vector {vector}: its MSI-X table has {entries} entries, vectors end at 107"
            ),
            ErrorKind::MsiXNotMapped {
                function,
                bar,
                offset,
                length,
            } => write!(
                formatter,
                "the MSI-X table of {function} ({name}, BAR {bar}, {length} bytes at {offset:#x}) is not mapped in this protection domain"
            ),
        }
    }
}

impl core::error::Error for Error {}
