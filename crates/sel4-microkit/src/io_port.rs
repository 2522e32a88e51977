//! IO ports.

use crate::abi;
use sel4::{Error, cap};

/// A range of IO ports that the system description gives.
///
/// Ports are the machine's port numbers, not offsets into the range. Every
/// access is a system call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IoPort(u8);

impl IoPort {
    /// The range with this id.
    ///
    /// # Panics
    ///
    /// If `index` is not below 62.
    pub const fn new(index: usize) -> Self {
        assert!(
            index < abi::CHANNELS,
            "no such range of ports: ids are below 62"
        );
        Self(index as u8)
    }

    #[doc(hidden)]
    pub fn from_description(symbol: &str, index: u64) -> Self {
        match usize::try_from(index) {
            Ok(index) if index < abi::CHANNELS => Self::new(index),
            _ => panic!("the system description does not set {symbol} to the id of IO ports"),
        }
    }

    fn capability(self) -> cap::IoPort {
        cap::IoPort(abi::slot::io_port(usize::from(self.0)))
    }

    /// Reads the 8-bit port `port`.
    ///
    /// # Errors
    ///
    /// If the port is not in the range. So for all of these.
    pub fn read8(self, port: u16) -> Result<u8, Error> {
        self.capability().in8(port)
    }

    /// Reads the 16-bit port `port`.
    ///
    /// # Errors
    ///
    /// As [`read8`](Self::read8).
    pub fn read16(self, port: u16) -> Result<u16, Error> {
        self.capability().in16(port)
    }

    /// Reads the 32-bit port `port`.
    ///
    /// # Errors
    ///
    /// As [`read8`](Self::read8).
    pub fn read32(self, port: u16) -> Result<u32, Error> {
        self.capability().in32(port)
    }

    /// Writes the 8-bit port `port`.
    ///
    /// # Errors
    ///
    /// As [`read8`](Self::read8).
    pub fn write8(self, port: u16, value: u8) -> Result<(), Error> {
        self.capability().out8(port.into(), value.into())
    }

    /// Writes the 16-bit port `port`.
    ///
    /// # Errors
    ///
    /// As [`read8`](Self::read8).
    pub fn write16(self, port: u16, value: u16) -> Result<(), Error> {
        self.capability().out16(port.into(), value.into())
    }

    /// Writes the 32-bit port `port`.
    ///
    /// # Errors
    ///
    /// As [`read8`](Self::read8).
    pub fn write32(self, port: u16, value: u32) -> Result<(), Error> {
        self.capability().out32(port.into(), value.into())
    }
}
