//! What a side says of a peer that breaks the protocol, and of a channel that
//! was described wrongly.

use core::fmt;

/// The peer wrote something that the protocol does not allow.
///
/// The caller knows the peer's name and says it before this sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProtocolViolation {
    /// Its producer index claims more frames than the ring holds, or fewer than
    /// before.
    Producer {
        /// What it claims.
        claimed: u32,
        /// Frames this side has taken so far.
        taken: u32,
        /// Entries of the ring.
        entries: u32,
    },
    /// Its consumer index claims frames that were never produced, or fewer than
    /// before.
    Consumer {
        /// What it claims.
        claimed: u32,
        /// What it claimed before.
        before: u32,
        /// Frames this side has produced so far.
        produced: u32,
    },
    /// It claims an epoch that was never offered.
    Epoch {
        /// What it claims.
        claimed: u32,
        /// What was offered.
        offered: u32,
    },
    /// A transmit descriptor names memory outside the pool.
    OutsidePool {
        /// Offset in bytes.
        offset: u32,
        /// Length in bytes.
        length: u32,
    },
    /// A transmit descriptor's frame is shorter than an Ethernet header or
    /// longer than any frame may be.
    FrameLength(u32),
    /// A transmit descriptor's header is shorter than an Ethernet header,
    /// longer than the frame, or longer than the server copies.
    HeaderLength {
        /// Length of the header in bytes.
        header: u16,
        /// Length of the frame in bytes.
        frame: u32,
    },
    /// A descriptor has flags that do not exist, or segmentation without
    /// checksums.
    Flags(u64),
    /// A receive descriptor's frame does not fit its slot.
    ReceiveLength(u32),
}

impl fmt::Display for ProtocolViolation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Producer {
                claimed,
                taken,
                entries,
            } => write!(
                formatter,
                "its producer index is {claimed}, but {taken} frames were taken and the ring has {entries} entries"
            ),
            Self::Consumer {
                claimed,
                before,
                produced,
            } => write!(
                formatter,
                "its consumer index is {claimed}, but it was {before} before and {produced} frames were produced"
            ),
            Self::Epoch { claimed, offered } => {
                write!(
                    formatter,
                    "it claims epoch {claimed}, but {offered} was offered"
                )
            }
            Self::OutsidePool { offset, length } => {
                write!(
                    formatter,
                    "a descriptor names {length} bytes at {offset:#x}, outside its pool"
                )
            }
            Self::FrameLength(length) => {
                write!(formatter, "a descriptor names a frame of {length} bytes")
            }
            Self::HeaderLength { header, frame } => {
                write!(
                    formatter,
                    "a descriptor names a header of {header} bytes in a frame of {frame}"
                )
            }
            Self::Flags(word) => write!(formatter, "a descriptor has impossible flags ({word:#x})"),
            Self::ReceiveLength(length) => {
                write!(
                    formatter,
                    "a receive descriptor names {length} bytes, more than a slot holds"
                )
            }
        }
    }
}

impl core::error::Error for ProtocolViolation {}

/// The regions and entry numbers given for a channel do not fit each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GeometryError(pub &'static str);

impl fmt::Display for GeometryError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.0)
    }
}

impl core::error::Error for GeometryError {}
