//! Transmit and receive descriptors: 16 bytes each, in rings shared with the device.
//!
//! Intel 82576EB datasheet, sections 7.1.5 (advanced receive descriptors) and
//! 7.2.2 (advanced transmit descriptors). Two little-endian 64-bit words each.

use tock_registers::register_bitfields;

/// Bytes of a descriptor.
pub(crate) const DESCRIPTOR_SIZE: usize = 16;

register_bitfields![u64,
    /// First word of a context descriptor: header lengths.
    pub(crate) CONTEXT_LENGTHS [
        /// Bytes of the IP header.
        IP OFFSET(0) NUMBITS(9) [],
        /// Bytes of the Ethernet header.
        ETHERNET OFFSET(9) NUMBITS(7) [],
    ],
    /// Second word of a context descriptor: protocols and segmentation.
    pub(crate) CONTEXT_COMMAND [
        IPV4 OFFSET(10) NUMBITS(1) [],
        TRANSPORT OFFSET(11) NUMBITS(2) [
            Udp = 0,
            Tcp = 1,
        ],
        TYPE OFFSET(20) NUMBITS(4) [
            Context = 2,
        ],
        /// This is an advanced descriptor.
        EXTENDED OFFSET(29) NUMBITS(1) [],
        /// Bytes of the TCP or UDP header.
        TRANSPORT_LENGTH OFFSET(40) NUMBITS(8) [],
        /// Most payload bytes of a segment.
        SEGMENT_SIZE OFFSET(48) NUMBITS(16) [],
    ],
    /// Second word of a data descriptor as the driver writes it.
    pub(crate) DATA_COMMAND [
        /// Bytes of this buffer.
        LENGTH OFFSET(0) NUMBITS(16) [],
        TYPE OFFSET(20) NUMBITS(4) [
            Data = 3,
        ],
        END_OF_PACKET OFFSET(24) NUMBITS(1) [],
        INSERT_FRAME_CHECK OFFSET(25) NUMBITS(1) [],
        /// Tell when this descriptor is done.
        REPORT_STATUS OFFSET(27) NUMBITS(1) [],
        EXTENDED OFFSET(29) NUMBITS(1) [],
        /// Cut the packet into segments.
        SEGMENT OFFSET(31) NUMBITS(1) [],
        INSERT_IP_CHECKSUM OFFSET(40) NUMBITS(1) [],
        INSERT_TRANSPORT_CHECKSUM OFFSET(41) NUMBITS(1) [],
        /// Bytes of the packet; of its payload if it is to be cut into segments.
        TOTAL_LENGTH OFFSET(46) NUMBITS(18) [],
    ],
    /// Second word of a transmit descriptor that the device has written back.
    pub(crate) TRANSMIT_STATUS [
        DONE OFFSET(32) NUMBITS(1) [],
    ],
    /// Second word of a receive descriptor that the device has written back.
    pub(crate) RECEIVE_STATUS [
        DONE OFFSET(0) NUMBITS(1) [],
        END_OF_PACKET OFFSET(1) NUMBITS(1) [],
        /// The checksum of a UDP datagram was computed.
        UDP_CHECKED OFFSET(4) NUMBITS(1) [],
        /// The TCP or UDP checksum was computed.
        TRANSPORT_CHECKED OFFSET(5) NUMBITS(1) [],
        /// The IPv4 header checksum was computed.
        IP_CHECKED OFFSET(6) NUMBITS(1) [],
        TRANSPORT_ERROR OFFSET(29) NUMBITS(1) [],
        IP_ERROR OFFSET(30) NUMBITS(1) [],
        /// The frame is damaged.
        RECEIVE_ERROR OFFSET(31) NUMBITS(1) [],
        /// Bytes in the buffer.
        LENGTH OFFSET(32) NUMBITS(16) [],
    ],
];
