//! Descriptors: what is said of a frame beside its bytes.

use crate::layout::{MAXIMUM_FRAME_LENGTH, MAXIMUM_HEADER_LENGTH, RECEIVE_SLOT_SIZE};
use crate::violation::ProtocolViolation;

/// Length of an Ethernet header in bytes.
pub const ETHERNET_HEADER_LENGTH: usize = 14;

/// What the sender leaves to the network card.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FrameOffload {
    /// The IPv4 header checksum is to be computed; its field is ignored.
    pub ipv4_checksum: bool,
    /// The TCP or UDP checksum is to be computed; its field is ignored.
    pub transport_checksum: bool,
    /// The TCP segment is to be cut into segments of this many payload bytes;
    /// 0: sent as it is. Implies both checksums.
    pub segment_size: u16,
}

/// A frame in a transmit pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransmitFrame {
    /// Where it starts in the pool, in bytes.
    pub offset: u32,
    /// Its length in bytes, from the Ethernet header on, without checksum.
    pub length: u32,
    /// How many of its bytes are headers: through TCP, UDP or ICMP, or the
    /// whole of an ARP packet. The server copies and verifies these.
    pub header_length: u16,
    /// What is left to the network card.
    pub offload: FrameOffload,
}

/// A frame that was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReceivedFrame {
    /// Its length in bytes.
    pub length: usize,
    /// The network card has found its IPv4 header and its TCP or UDP checksum
    /// to be right.
    pub checksums_verified: bool,
}

const FLAG_IPV4_CHECKSUM: u64 = 1 << 32;
const FLAG_TRANSPORT_CHECKSUM: u64 = 1 << 33;
const SECOND_WORD_MASK: u64 = 0xffff_ffff | FLAG_IPV4_CHECKSUM | FLAG_TRANSPORT_CHECKSUM;

const RECEIVE_CHECKSUMS_VERIFIED: u64 = 1 << 32;

impl TransmitFrame {
    pub(crate) fn encode(&self) -> [u64; 2] {
        let mut second = u64::from(self.header_length) | u64::from(self.offload.segment_size) << 16;
        if self.offload.ipv4_checksum {
            second |= FLAG_IPV4_CHECKSUM;
        }
        if self.offload.transport_checksum {
            second |= FLAG_TRANSPORT_CHECKSUM;
        }
        [
            u64::from(self.offset) | u64::from(self.length) << 32,
            second,
        ]
    }

    /// Checks a descriptor that the peer wrote. The words are copies.
    pub(crate) fn decode(words: [u64; 2], pool_size: usize) -> Result<Self, ProtocolViolation> {
        let frame = Self::decode_unchecked(words);
        let length = frame.length as usize;
        if !(ETHERNET_HEADER_LENGTH..=MAXIMUM_FRAME_LENGTH).contains(&length) {
            return Err(ProtocolViolation::FrameLength(frame.length));
        }
        // On a 64-bit machine the sum of two 32-bit numbers cannot wrap.
        if frame.offset as u64 + frame.length as u64 > pool_size as u64 {
            return Err(ProtocolViolation::OutsidePool {
                offset: frame.offset,
                length: frame.length,
            });
        }
        let header = frame.header_length as usize;
        let headers = ETHERNET_HEADER_LENGTH..=MAXIMUM_HEADER_LENGTH.min(length);
        if !headers.contains(&header) {
            return Err(ProtocolViolation::HeaderLength {
                header: frame.header_length,
                frame: frame.length,
            });
        }
        let segments = frame.offload.segment_size != 0;
        if words[1] & !SECOND_WORD_MASK != 0
            || segments && !(frame.offload.ipv4_checksum && frame.offload.transport_checksum)
        {
            return Err(ProtocolViolation::Flags(words[1]));
        }
        Ok(frame)
    }

    /// Reads a descriptor that this side wrote itself.
    pub(crate) fn decode_unchecked(words: [u64; 2]) -> Self {
        Self {
            offset: words[0] as u32,
            length: (words[0] >> 32) as u32,
            header_length: words[1] as u16,
            offload: FrameOffload {
                ipv4_checksum: words[1] & FLAG_IPV4_CHECKSUM != 0,
                transport_checksum: words[1] & FLAG_TRANSPORT_CHECKSUM != 0,
                segment_size: (words[1] >> 16) as u16,
            },
        }
    }
}

impl ReceivedFrame {
    pub(crate) fn encode(&self) -> u64 {
        self.length as u64
            | if self.checksums_verified {
                RECEIVE_CHECKSUMS_VERIFIED
            } else {
                0
            }
    }

    pub(crate) fn decode(word: u64) -> Result<Self, ProtocolViolation> {
        let length = word as u32;
        if word & !(0xffff_ffff | RECEIVE_CHECKSUMS_VERIFIED) != 0 {
            return Err(ProtocolViolation::Flags(word));
        }
        if length as usize > RECEIVE_SLOT_SIZE {
            return Err(ProtocolViolation::ReceiveLength(length));
        }
        Ok(Self {
            length: length as usize,
            checksums_verified: word & RECEIVE_CHECKSUMS_VERIFIED != 0,
        })
    }
}

/// How many bytes of a frame its sender should declare as headers: through TCP
/// or UDP, the whole of ARP, and of anything else what the server may copy.
/// The server checks what it is told, so this decides about cost alone.
pub fn header_length(frame: &[u8]) -> u16 {
    let most = frame.len().min(MAXIMUM_HEADER_LENGTH);
    let byte = |offset: usize| frame.get(offset).copied().unwrap_or(0);
    let (transport, protocol) = match (byte(12), byte(13)) {
        (0x08, 0x00) => {
            let header = 4 * usize::from(byte(ETHERNET_HEADER_LENGTH) & 0xf);
            (ETHERNET_HEADER_LENGTH + header, byte(23))
        }
        (0x86, 0xdd) => (ETHERNET_HEADER_LENGTH + 40, byte(20)),
        _ => (0, 0),
    };
    let length = match protocol {
        6 => transport + 4 * usize::from(byte(transport + 12) >> 4),
        17 => transport + 8,
        _ => most,
    };
    length.clamp(ETHERNET_HEADER_LENGTH.min(most), most) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_survive_the_way_through_words() {
        let frame = TransmitFrame {
            offset: 0x1_0000,
            length: 65_549,
            header_length: 66,
            offload: FrameOffload {
                ipv4_checksum: true,
                transport_checksum: true,
                segment_size: 1448,
            },
        };
        assert_eq!(TransmitFrame::decode(frame.encode(), 0x20_0000), Ok(frame));
        for received in [
            ReceivedFrame {
                length: 0,
                checksums_verified: true,
            },
            ReceivedFrame {
                length: 2048,
                checksums_verified: false,
            },
        ] {
            assert_eq!(ReceivedFrame::decode(received.encode()), Ok(received));
        }
    }

    #[test]
    fn each_kind_of_bad_descriptor_is_told_apart() {
        let good = TransmitFrame {
            offset: 0,
            length: 60,
            header_length: 54,
            offload: FrameOffload::default(),
        };
        let check = |frame: TransmitFrame| TransmitFrame::decode(frame.encode(), 0x1000);
        assert_eq!(check(good), Ok(good));
        assert!(matches!(
            check(TransmitFrame {
                offset: 0x1000 - 59,
                ..good
            }),
            Err(ProtocolViolation::OutsidePool { .. })
        ));
        assert!(matches!(
            check(TransmitFrame {
                offset: u32::MAX,
                ..good
            }),
            Err(ProtocolViolation::OutsidePool { .. })
        ));
        assert_eq!(
            check(TransmitFrame {
                length: u32::MAX,
                ..good
            }),
            Err(ProtocolViolation::FrameLength(u32::MAX))
        );
        assert!(matches!(
            check(TransmitFrame { length: 13, ..good }),
            Err(ProtocolViolation::FrameLength(13))
        ));
        for header_length in [0, 13, 61, 257] {
            assert!(matches!(
                check(TransmitFrame {
                    header_length,
                    ..good
                }),
                Err(ProtocolViolation::HeaderLength { .. })
            ));
        }
        let segments = FrameOffload {
            segment_size: 1448,
            ..FrameOffload::default()
        };
        assert!(matches!(
            check(TransmitFrame {
                offload: segments,
                ..good
            }),
            Err(ProtocolViolation::Flags(_))
        ));
        let mut words = good.encode();
        words[1] |= 1 << 63;
        assert!(matches!(
            TransmitFrame::decode(words, 0x1000),
            Err(ProtocolViolation::Flags(_))
        ));
        assert!(matches!(
            ReceivedFrame::decode(2049),
            Err(ProtocolViolation::ReceiveLength(2049))
        ));
        assert!(matches!(
            ReceivedFrame::decode(1 << 40),
            Err(ProtocolViolation::Flags(_))
        ));
    }

    #[test]
    fn header_lengths() {
        let mut tcp = [0u8; 200];
        tcp[12] = 8;
        tcp[14] = 0x45;
        tcp[23] = 6;
        tcp[46] = 0x80;
        assert_eq!(header_length(&tcp), 66);
        tcp[23] = 17;
        assert_eq!(header_length(&tcp), 42);
        tcp[23] = 1;
        assert_eq!(header_length(&tcp), 200);
        let mut tcp6 = [0u8; 200];
        tcp6[12..14].copy_from_slice(&[0x86, 0xdd]);
        (tcp6[20], tcp6[66]) = (6, 0x80);
        assert_eq!(header_length(&tcp6), 86);
        tcp6[20] = 17;
        assert_eq!(header_length(&tcp6), 62);
        tcp6[20] = 58;
        assert_eq!(header_length(&tcp6), 200);
        assert_eq!(header_length(&[0; 1500]), 256);
        assert_eq!(header_length(&tcp[..20]), 20);
        assert_eq!(header_length(&[]), 0);
    }
}
