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
        }
    }
}

impl core::error::Error for Error {}
