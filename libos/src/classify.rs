//! What the demultiplexer reads from a received frame.
//!
//! Lengths are checked here, once; a [`Segment`] that exists lies inside its
//! frame. Everything else is left to smoltcp's own parser.

use crate::Statistics;
use crate::address::{Address, FlowKey, Local};
use crate::wire::{
    ETHERNET_HEADER, ETHERTYPE_IPV4, ETHERTYPE_IPV6, IPV4_HEADER, IPV6_HEADER, PROTOCOL_ICMP,
    PROTOCOL_ICMPV6, PROTOCOL_TCP, PROTOCOL_UDP, Segment, TCP_HEADER, fold, half, pseudo_header,
    sum, word,
};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// ICMPv6: destination unreachable (RFC 4443, 3.1).
const UNREACHABLE: u8 = 1;
/// ICMPv6: packet too big (RFC 4443, 3.2).
const PACKET_TOO_BIG: u8 = 2;
/// ICMPv6: echo request (RFC 4443, 4.1).
const ECHO_REQUEST: u8 = 128;
/// ICMPv6: neighbour solicitation and advertisement (RFC 4861, 4.3 and 4.4).
const NEIGHBOR_SOLICITATION: u8 = 135;
const NEIGHBOR_ADVERTISEMENT: u8 = 136;
/// Length of an ICMPv6 header with the word that its type defines.
const ICMPV6_HEADER: usize = 8;

/// Where a frame goes.
#[derive(Clone, Copy, Debug)]
pub enum Class {
    /// A TCP segment for us.
    Tcp(Segment),
    /// A UDP datagram for us (a whole one), with its destination port.
    Udp(u16),
    /// An IPv4 fragment for us, of something that is not TCP.
    Fragment,
    /// Anything that smoltcp's interface answers by itself: ARP, ICMP, neighbour
    /// discovery.
    Other,
    /// Asks, from nowhere, whether somebody has this address, which is ours: before
    /// taking it (RFC 4862, 5.4).
    Probe(Ipv6Addr),
    /// Says over IPv6 that a segment of ours cannot be delivered.
    Unreachable(Quoted),
    /// Says over IPv6 that a segment of ours was larger than the packets that its way
    /// takes, and how large these are.
    TooBig(Quoted, u32),
    /// Dropped and counted.
    Drop,
}

/// A TCP segment that somebody quotes to us in an error message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quoted {
    /// The connection it belongs to.
    pub key: FlowKey,
    /// Its sequence number.
    pub sequence: u32,
}

/// Sorts a received frame. `verified` says that the NIC has checked the IPv4
/// header checksum and the TCP or UDP checksum; if not, they are checked here.
pub fn classify(frame: &[u8], verified: bool, local: &Local, statistics: &mut Statistics) -> Class {
    if frame.len() < ETHERNET_HEADER {
        statistics.malformed += 1;
        return Class::Drop;
    }
    match half(frame, 12) {
        ETHERTYPE_IPV4 => ipv4(frame, verified, local, statistics),
        ETHERTYPE_IPV6 => ipv6(frame, verified, local, statistics),
        _ => Class::Other,
    }
}

fn ipv4(frame: &[u8], verified: bool, local: &Local, statistics: &mut Statistics) -> Class {
    let ip = &frame[ETHERNET_HEADER..];
    if ip.len() < IPV4_HEADER || ip[0] >> 4 != 4 {
        statistics.malformed += 1;
        return Class::Drop;
    }
    let header = usize::from(ip[0] & 15) * 4;
    let total = usize::from(half(ip, 2));
    if header < IPV4_HEADER || total < header || total > ip.len() {
        statistics.malformed += 1;
        return Class::Drop;
    }
    let ip = &ip[..total];
    let protocol = ip[9];
    let fragment = half(ip, 6) & 0x3fff != 0;
    if fragment {
        // A TCP segment would miss its connection after reassembly, and be
        // answered with a RST. Nobody sends these: path MTU discovery is universal.
        if protocol == PROTOCOL_TCP {
            statistics.tcp_fragments += 1;
            return Class::Drop;
        }
        let destination = Address::from_ipv4_bits(word(ip, 16));
        if !local.has(destination) || frame[..6] != local.hardware {
            statistics.not_for_us += 1;
            return Class::Drop;
        }
        return Class::Fragment;
    }
    let packet = Packet {
        source: Address::from_ipv4_bits(word(ip, 12)),
        destination: Address::from_ipv4_bits(word(ip, 16)),
        header: &ip[..header],
        start: ETHERNET_HEADER + header,
        payload: &ip[header..],
        verified,
    };
    match protocol {
        PROTOCOL_TCP => {
            if Some(Ipv4Addr::from_bits(word(ip, 16))) != local.ipv4.map(|network| network.address)
                || frame[..6] != local.hardware
            {
                statistics.not_for_us += 1;
                return Class::Drop;
            }
            packet.tcp(statistics)
        }
        // Whose address it is, smoltcp looks at: it may be the one for all.
        PROTOCOL_UDP => packet.udp(statistics),
        PROTOCOL_ICMP => {
            // No device verifies these.
            if fold(sum(0, packet.payload)) != 0xffff {
                statistics.bad_checksum += 1;
                return Class::Drop;
            }
            Class::Other
        }
        _ => Class::Other,
    }
}

fn ipv6(frame: &[u8], verified: bool, local: &Local, statistics: &mut Statistics) -> Class {
    let ip = &frame[ETHERNET_HEADER..];
    if ip.len() < IPV6_HEADER || ip[0] >> 4 != 6 {
        statistics.malformed += 1;
        return Class::Drop;
    }
    let total = IPV6_HEADER + usize::from(half(ip, 4));
    if total > ip.len() {
        statistics.malformed += 1;
        return Class::Drop;
    }
    let source = Address::from_ipv6_bytes(&ip[8..]);
    let destination = Address::from_ipv6_bytes(&ip[24..]);
    let (protocol, hop_limit) = (ip[6], ip[7]);
    let for_us = local.has_ipv6(destination);
    if !for_us && !local.listens_to_group(destination) {
        statistics.not_for_us += 1;
        return Class::Drop;
    }
    // An IPv4 address in IPv6's clothes would be taken for one (RFC 4291, 2.5.5.2).
    if source.is_ipv4() || !source.is_host() && source != Address::from_ipv6_bits(0) {
        statistics.malformed += 1;
        return Class::Drop;
    }
    let packet = Packet {
        source,
        destination,
        header: &[],
        start: ETHERNET_HEADER + IPV6_HEADER,
        payload: &ip[IPV6_HEADER..total],
        verified,
    };
    match protocol {
        PROTOCOL_TCP | PROTOCOL_UDP if !for_us || frame[..6] != local.hardware => {
            statistics.not_for_us += 1;
            Class::Drop
        }
        PROTOCOL_TCP => packet.tcp(statistics),
        PROTOCOL_UDP => packet.udp(statistics),
        PROTOCOL_ICMPV6 => packet.icmpv6(local, hop_limit, statistics),
        // Extension headers, fragments among them: nobody needs them to talk to us.
        _ => {
            statistics.extension_headers += 1;
            Class::Drop
        }
    }
}

/// What follows an IP header, and what is known of it.
struct Packet<'a> {
    source: Address,
    destination: Address,
    /// The IP header, if it has a checksum.
    header: &'a [u8],
    /// Where the payload starts in the frame.
    start: usize,
    payload: &'a [u8],
    verified: bool,
}

impl Packet<'_> {
    fn is_summed_right(&self, protocol: u8, length: usize) -> bool {
        let start = pseudo_header(self.source, self.destination, protocol, length);
        (self.header.is_empty() || fold(sum(0, self.header)) == 0xffff)
            && fold(sum(start, &self.payload[..length])) == 0xffff
    }

    #[inline]
    fn tcp(&self, statistics: &mut Statistics) -> Class {
        let tcp = self.payload;
        if tcp.len() < TCP_HEADER || !self.source.is_host() {
            statistics.malformed += 1;
            return Class::Drop;
        }
        let options_end = usize::from(tcp[12] >> 4) * 4;
        let (remote_port, local_port) = (half(tcp, 0), half(tcp, 2));
        // Another application may share our address; nobody else has our port there.
        let from_ourselves = self.source == self.destination && remote_port == local_port;
        if options_end < TCP_HEADER
            || options_end > tcp.len()
            || remote_port == 0
            || local_port == 0
            || from_ourselves
        {
            statistics.malformed += 1;
            return Class::Drop;
        }
        if !self.verified {
            statistics.software_checksums += 1;
            if !self.is_summed_right(PROTOCOL_TCP, tcp.len()) {
                statistics.bad_checksum += 1;
                return Class::Drop;
            }
        }
        Class::Tcp(Segment {
            key: FlowKey {
                remote: self.source,
                local: self.destination,
                remote_port,
                local_port,
            },
            sequence: word(tcp, 4),
            acknowledgement: word(tcp, 8),
            flags: tcp[13],
            window: half(tcp, 14),
            tcp: self.start,
            payload: self.start + options_end,
            end: self.start + tcp.len(),
        })
    }

    fn udp(&self, statistics: &mut Statistics) -> Class {
        let udp = self.payload;
        if udp.len() < 8 {
            statistics.malformed += 1;
            return Class::Drop;
        }
        let length = usize::from(half(udp, 4));
        if length < 8 || length > udp.len() {
            statistics.malformed += 1;
            return Class::Drop;
        }
        // A checksum of 0 says that there is none (RFC 768); over IPv6 there must be
        // one (RFC 8200, 8.1).
        let summed = half(udp, 6) != 0;
        if !summed && !self.destination.is_ipv4() {
            statistics.bad_checksum += 1;
            return Class::Drop;
        }
        if !self.verified && summed {
            statistics.software_checksums += 1;
            if !self.is_summed_right(PROTOCOL_UDP, length) {
                statistics.bad_checksum += 1;
                return Class::Drop;
            }
        }
        Class::Udp(half(udp, 2))
    }

    /// Lets through what smoltcp answers or learns from: it does not look closely
    /// at whom a message is for.
    fn icmpv6(&self, local: &Local, hop_limit: u8, statistics: &mut Statistics) -> Class {
        let icmp = self.payload;
        let for_us = local.has_ipv6(self.destination);
        if icmp.len() < ICMPV6_HEADER {
            statistics.malformed += 1;
            return Class::Drop;
        }
        // No device verifies these.
        if !self.is_summed_right(PROTOCOL_ICMPV6, icmp.len()) {
            statistics.bad_checksum += 1;
            return Class::Drop;
        }
        match (icmp[0], icmp[1]) {
            (ECHO_REQUEST, 0) if for_us => Class::Other,
            // smoltcp does not look at what comes from nowhere.
            (NEIGHBOR_SOLICITATION, 0) if hop_limit == 255 && !self.source.is_host() => {
                match probed(icmp).filter(|target| !for_us && local.has_ipv6((*target).into())) {
                    Some(target) => Class::Probe(target),
                    None => {
                        statistics.ignored_messages += 1;
                        Class::Drop
                    }
                }
            }
            // From no further than the link (RFC 4861, 7.1).
            (NEIGHBOR_SOLICITATION | NEIGHBOR_ADVERTISEMENT, 0) if hop_limit == 255 => Class::Other,
            (kind @ (UNREACHABLE | PACKET_TOO_BIG), _) if for_us => {
                let Some(quoted) = self.quoted_segment() else {
                    statistics.ignored_messages += 1;
                    return Class::Drop;
                };
                match kind {
                    UNREACHABLE => Class::Unreachable(quoted),
                    _ => Class::TooBig(quoted, word(icmp, 4)),
                }
            }
            _ => {
                statistics.ignored_messages += 1;
                Class::Drop
            }
        }
    }

    /// The TCP segment of ours that an ICMPv6 error is about.
    fn quoted_segment(&self) -> Option<Quoted> {
        let quoted = &self.payload[ICMPV6_HEADER..];
        if quoted.len() < IPV6_HEADER + 8 || quoted[0] >> 4 != 6 || quoted[6] != PROTOCOL_TCP {
            return None;
        }
        let key = FlowKey {
            remote: Address::from_ipv6_bytes(&quoted[24..]),
            local: Address::from_ipv6_bytes(&quoted[8..]),
            remote_port: half(quoted, IPV6_HEADER + 2),
            local_port: half(quoted, IPV6_HEADER),
        };
        (key.local == self.destination).then_some(Quoted {
            key,
            sequence: word(quoted, IPV6_HEADER + 4),
        })
    }
}

/// The address that a neighbour solicitation from nowhere is about, if that may have
/// its options (RFC 4861, 7.1.1): Linux adds a nonce.
fn probed(icmp: &[u8]) -> Option<Ipv6Addr> {
    const SOURCE_LINK_LAYER_ADDRESS: u8 = 1;
    let mut options = icmp.get(ICMPV6_HEADER + 16..)?;
    while let [kind, units, ..] = *options {
        if units == 0 || kind == SOURCE_LINK_LAYER_ADDRESS {
            return None;
        }
        options = options.get(usize::from(units) * 8..)?;
    }
    match Address::from_ipv6_bytes(&icmp[ICMPV6_HEADER..]).ip() {
        IpAddr::V6(target) if options.is_empty() => Some(target),
        _ => None,
    }
}

/// The segment that an ICMP message in `frame`, which [`classify`] has let through,
/// says to be undeliverable (RFC 792).
pub fn undeliverable(frame: &[u8]) -> Option<Quoted> {
    if frame.get(12..14)? != [0x08, 0x00] {
        return None;
    }
    let (header, icmp) = ipv4_parts(&frame[ETHERNET_HEADER..])?;
    // A packet that is too big for the path says nothing against the peer.
    if header[9] != PROTOCOL_ICMP || icmp.len() < 8 || icmp[0] != 3 || icmp[1] == 4 {
        return None;
    }
    // Quotations end early, so the total length means nothing.
    let quoted = &icmp[8..];
    let length = usize::from(quoted.first()? & 15) * 4;
    let quoted_header = quoted.get(..length)?;
    if length < IPV4_HEADER || quoted[0] >> 4 != 4 || quoted_header[9] != PROTOCOL_TCP {
        return None;
    }
    let tcp = quoted.get(length..length + 8)?;
    Some(Quoted {
        key: FlowKey {
            remote: Address::from_ipv4_bits(word(quoted_header, 16)),
            local: Address::from_ipv4_bits(word(quoted_header, 12)),
            remote_port: half(tcp, 2),
            local_port: half(tcp, 0),
        },
        sequence: word(tcp, 4),
    })
}

/// Header and payload of an IPv4 packet.
fn ipv4_parts(ip: &[u8]) -> Option<(&[u8], &[u8])> {
    let header = usize::from(ip.first()? & 15) * 4;
    let total = usize::from(u16::from_be_bytes([*ip.get(2)?, *ip.get(3)?]));
    if header < IPV4_HEADER || ip[0] >> 4 != 4 {
        return None;
    }
    ip.get(..total)?.split_at_checked(header)
}
