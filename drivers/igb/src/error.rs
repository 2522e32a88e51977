//! What can go wrong with the NIC, in sentences.

use core::fmt;

use crate::filters::ADDRESS_FILTERS;

/// The NIC or the way it was set up is not as it must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// A number of descriptors is not a power of two from 8 to 4096.
    RingSize(u16),
    /// The DMA memory is smaller than the driver's part of it.
    MemoryTooSmall {
        /// Bytes there are.
        length: usize,
        /// Bytes that are needed.
        needed: usize,
    },
    /// Rings must start at a multiple of this many bytes, for the device.
    MemoryUnaligned(u64),
    /// The registers read all ones: no function answers there.
    NotPresent,
    /// A queue did not start or stop when told to.
    QueueStuck {
        /// "receive" or "transmit".
        queue: &'static str,
        /// "start" or "stop".
        what: &'static str,
    },
    /// The reset of the whole device did not end.
    ResetStuck,
    /// The transceiver did not answer.
    TransceiverSilent,
    /// The transceiver reported an error.
    TransceiverError,
    /// There are more addresses than the device has filters for.
    TooManyAddresses(usize),
    /// The device is not set up yet.
    NotReady,
    /// The function is none that can be granted.
    FunctionNotGrantable(u8),
    /// The function does not work, so no frames can go to it.
    FunctionOff(u8),
    /// The address is that of a group of stations, or of none.
    NotOneStation([u8; 6]),
    /// The address is a virtual function's own, which stays where it is.
    OwnAddress([u8; 6]),
}

/// An address as people write it.
struct Address([u8; 6]);

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, f] = self.0;
        write!(formatter, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::RingSize(entries) => {
                write!(formatter, "a ring of {entries} descriptors is not possible: take a power of two from 8 to 4096")
            }
            Error::MemoryTooSmall { length, needed } => {
                write!(formatter, "the NIC's memory region has {length:#x} bytes, but its rings and buffers need {needed:#x}: enlarge it")
            }
            Error::MemoryUnaligned(address) => {
                write!(formatter, "the NIC's memory region starts at device address {address:#x}, which is not a multiple of 4096")
            }
            Error::NotPresent => {
                formatter.write_str("the NIC does not answer: its registers read all ones (is it there, and its BAR placed?)")
            }
            Error::QueueStuck { queue, what } => {
                write!(formatter, "the NIC did not {what} its {queue} queue")
            }
            Error::ResetStuck => formatter.write_str("the NIC did not come out of its reset"),
            Error::TransceiverSilent => formatter.write_str("the NIC's transceiver does not answer"),
            Error::TransceiverError => formatter.write_str("the NIC's transceiver reports an error"),
            Error::TooManyAddresses(count) => {
                write!(formatter, "the NIC has {ADDRESS_FILTERS} filters for MAC addresses, but {count} are wanted: share addresses")
            }
            Error::NotReady => formatter.write_str("the NIC is not set up yet"),
            Error::FunctionNotGrantable(function) => {
                write!(formatter, "virtual function {function} is none that can be granted")
            }
            Error::FunctionOff(function) => {
                write!(formatter, "virtual function {function} is off: no frames can go to it")
            }
            Error::NotOneStation(address) => {
                write!(formatter, "{} is not the address of one station", Address(*address))
            }
            Error::OwnAddress(address) => {
                write!(formatter, "{} is a virtual function's own address, which stays with it", Address(*address))
            }
        }
    }
}

impl core::error::Error for Error {}
