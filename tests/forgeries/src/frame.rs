//! A frame in the making.

use alloc::vec::Vec;

use segue_frame_channel::FrameOffload;

use crate::{OWN_PORT, Parties};

/// Bytes of the longest frame.
pub const LONGEST: usize = 60_000;

const ETHERNET: usize = 14;
/// Where the transport header of an IPv4 packet without options begins.
pub(crate) const TRANSPORT: usize = 34;
/// Where the transport header of an IPv6 packet without extension headers begins.
pub(crate) const TRANSPORT_6: usize = 54;
/// ICMPv6's number.
const ICMPV6: u8 = 58;
/// Bytes of payload that there is room for a mark in.
const PAYLOAD: usize = 24;

/// A frame and what its descriptor says of it.
#[derive(Clone, Debug)]
pub struct Frame {
    /// As many as any frame has.
    bytes: Vec<u8>,
    length: usize,
    /// Bytes that the sender declares to be headers.
    pub header_length: usize,
    /// What it leaves to the network card.
    pub offload: FrameOffload,
}

impl Default for Frame {
    fn default() -> Self {
        Self {
            bytes: alloc::vec![0; LONGEST],
            length: 0,
            header_length: 0,
            offload: FrameOffload::default(),
        }
    }
}

impl Frame {
    /// The frame.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    pub(crate) fn set(&mut self, at: usize, bytes: &[u8]) {
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
    }

    pub(crate) fn set16(&mut self, at: usize, number: u16) {
        self.set(at, &number.to_be_bytes());
    }

    /// Makes the frame this long, and all that the server copies declared as headers.
    pub(crate) fn resize(&mut self, length: usize) {
        self.length = length;
        self.header_length = length.min(256);
    }

    /// Begins anew with an Ethernet header to the peer.
    pub(crate) fn ethernet(&mut self, parties: &Parties, kind: u16) {
        self.bytes[..self.length.max(256)].fill(0);
        self.offload = FrameOffload::default();
        self.set(0, &parties.peer_mac);
        self.set(6, &parties.mac);
        self.set16(12, kind);
        self.resize(ETHERNET);
    }

    /// An IPv4 packet to the peer with room for this much behind its header.
    pub(crate) fn ipv4(&mut self, parties: &Parties, protocol: u8, length: usize) {
        self.ethernet(parties, 0x0800);
        self.set(14, &[0x45, 0]);
        self.set16(16, (20 + length) as u16);
        self.set(22, &[64, protocol]);
        self.set(26, &parties.ipv4);
        self.set(30, &parties.peer_ipv4);
        self.resize(TRANSPORT + length);
        self.fix_checksum();
    }

    /// A UDP datagram from the sender's port to the peer's port of the same number.
    pub(crate) fn udp(&mut self, parties: &Parties) {
        self.ipv4(parties, 17, 8 + PAYLOAD);
        self.udp_header(TRANSPORT);
    }

    /// A TCP segment (an acknowledgement with data) from the sender's port.
    pub(crate) fn tcp(&mut self, parties: &Parties) {
        self.ipv4(parties, 6, 20 + PAYLOAD);
        self.tcp_header(TRANSPORT);
    }

    /// An ICMP message.
    pub(crate) fn icmp(&mut self, parties: &Parties, kind: u8, code: u8) {
        self.ipv4(parties, 1, 8 + PAYLOAD);
        self.set(TRANSPORT, &[kind, code]);
    }

    /// An IPv6 packet to the peer with room for this much behind its header.
    pub(crate) fn ipv6(&mut self, parties: &Parties, next_header: u8, length: usize) {
        self.ethernet(parties, 0x86dd);
        self.set(14, &[0x60, 0, 0, 0]);
        self.set16(18, length as u16);
        self.set(20, &[next_header, 64]);
        self.set(22, &parties.ipv6);
        self.set(38, &parties.peer_ipv6);
        self.resize(TRANSPORT_6 + length);
    }

    /// A UDP datagram over IPv6.
    pub(crate) fn udp6(&mut self, parties: &Parties) {
        self.ipv6(parties, 17, 8 + PAYLOAD);
        self.udp_header(TRANSPORT_6);
    }

    /// A TCP segment over IPv6.
    pub(crate) fn tcp6(&mut self, parties: &Parties) {
        self.ipv6(parties, 6, 20 + PAYLOAD);
        self.tcp_header(TRANSPORT_6);
    }

    /// An ICMPv6 message with so much behind its first eight bytes.
    pub(crate) fn icmp6(&mut self, parties: &Parties, kind: u8, code: u8, length: usize) {
        self.ipv6(parties, 58, 8 + length);
        self.set(TRANSPORT_6, &[kind, code]);
    }

    pub(crate) fn udp_header(&mut self, at: usize) {
        self.set16(at, OWN_PORT);
        self.set16(at + 2, OWN_PORT);
        self.set16(at + 4, (8 + PAYLOAD) as u16);
    }

    fn tcp_header(&mut self, at: usize) {
        self.set16(at, OWN_PORT);
        self.set16(at + 2, OWN_PORT);
        // 20 bytes of header, an acknowledgement.
        self.set(at + 12, &[0x50, 0x10]);
    }

    /// Makes the checksum of the IPv4 header right.
    pub(crate) fn fix_checksum(&mut self) {
        self.set16(24, 0);
        let sum = checksum(0, &self.bytes[14..TRANSPORT]);
        self.set16(24, sum);
    }

    /// Makes the checksum of an ICMPv6 message right, mark included.
    fn fix_checksum_6(&mut self) {
        self.set16(TRANSPORT_6 + 2, 0);
        let length = usize::from(u16::from_be_bytes([self.bytes[18], self.bytes[19]]));
        let sum = checksum(
            length as u32 + u32::from(ICMPV6),
            &self.bytes[22..TRANSPORT_6 + length],
        );
        self.set16(TRANSPORT_6 + 2, sum);
    }

    /// Puts a mark where it changes nothing of what the frame is: at its end; behind ARP and
    /// neighbour discovery as padding; where it would not fit, nowhere.
    pub(crate) fn mark(&mut self, mark: &[u8]) {
        let is_arp = self.bytes[12..14] == [8, 6];
        let is_icmp6 = self.bytes[12..14] == [0x86, 0xdd] && self.bytes[20] == ICMPV6;
        let is_discovery = is_icmp6 && (133..=137).contains(&self.bytes[TRANSPORT_6]);
        if is_arp && self.length == 42 {
            self.length = 60;
        } else if is_discovery {
            self.length += mark.len();
        }
        let start = if is_arp { 42 } else { TRANSPORT + 8 };
        if self.length >= start + mark.len() {
            self.set(self.length - mark.len(), mark);
        }
        if is_icmp6 {
            self.fix_checksum_6();
        }
    }
}

fn checksum(start: u32, bytes: &[u8]) -> u16 {
    let mut sum = start;
    for pair in bytes.chunks(2) {
        let low = pair.get(1).copied().unwrap_or(0);
        sum += u32::from(u16::from_be_bytes([pair[0], low]));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}
