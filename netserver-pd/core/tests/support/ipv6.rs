//! IPv6 frames as smoltcp writes them.

use super::{OWN_MAC, PEER_MAC, SHARED_MAC};
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::*;

pub const PEER: Ipv6Address = Ipv6Address::new(0xfd00, 0x5e60, 0, 0, 0, 0, 0, 2);
pub const SHARED: Ipv6Address = Ipv6Address::new(0xfd00, 0x5e60, 0, 0, 0, 0, 0, 0x15);
pub const OWN: Ipv6Address = Ipv6Address::new(0xfd00, 0x5e60, 0, 0, 0, 0, 0, 0x16);
/// fe80:: and the EUI-64 of the MAC addresses.
pub const SHARED_LINK_LOCAL: Ipv6Address =
    Ipv6Address::new(0xfe80, 0, 0, 0, 0x5054, 0x00ff, 0xfe5e, 0x6000);
pub const OWN_LINK_LOCAL: Ipv6Address =
    Ipv6Address::new(0xfe80, 0, 0, 0, 0x5054, 0x00ff, 0xfe5e, 0x6001);
pub const NOBODY: Ipv6Address = Ipv6Address::new(0xfd00, 0x5e60, 0, 0, 0, 0, 0, 0x77);
pub const ALL_NODES: Ipv6Address = Ipv6Address::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

#[derive(Clone, Copy, Debug)]
pub struct Ends {
    pub source_mac: EthernetAddress,
    pub destination_mac: EthernetAddress,
    pub source: Ipv6Address,
    pub destination: Ipv6Address,
}

impl Ends {
    /// The other way round.
    pub fn back(self) -> Self {
        Self {
            source_mac: self.destination_mac,
            destination_mac: self.source_mac,
            source: self.destination,
            destination: self.source,
        }
    }
}

/// From application 0 to the peer.
pub const OUT: Ends = Ends {
    source_mac: SHARED_MAC,
    destination_mac: PEER_MAC,
    source: SHARED,
    destination: PEER,
};
/// From the peer to the shared address.
pub const IN: Ends = Ends {
    source_mac: PEER_MAC,
    destination_mac: SHARED_MAC,
    source: PEER,
    destination: SHARED,
};
/// From the peer to the application with an address of its own.
pub const TO_OWN: Ends = Ends {
    destination_mac: OWN_MAC,
    destination: OWN,
    ..IN
};

/// The group for solicitations of an address.
pub fn solicited_node(address: Ipv6Address) -> Ipv6Address {
    let [.., a, b, c] = address.octets();
    Ipv6Address::new(
        0xff02,
        0,
        0,
        0,
        0,
        1,
        0xff00 | u16::from(a),
        u16::from_be_bytes([b, c]),
    )
}

pub fn group_mac(group: Ipv6Address) -> EthernetAddress {
    let octets = group.octets();
    EthernetAddress([0x33, 0x33, octets[12], octets[13], octets[14], octets[15]])
}

pub fn ipv6(ends: Ends, next_header: IpProtocol, hop_limit: u8, payload: &[u8]) -> Vec<u8> {
    let repr = Ipv6Repr {
        src_addr: ends.source,
        dst_addr: ends.destination,
        next_header,
        payload_len: payload.len(),
        hop_limit,
    };
    let mut packet = vec![0; 40 + payload.len()];
    repr.emit(&mut Ipv6Packet::new_unchecked(&mut packet[..]));
    packet[40..].copy_from_slice(payload);
    let addresses = super::Ends {
        source_mac: ends.source_mac,
        destination_mac: ends.destination_mac,
        ..super::OUT
    };
    super::ethernet(addresses, EthernetProtocol::Ipv6, &packet)
}

pub fn tcp(
    ends: Ends,
    source: u16,
    destination: u16,
    control: TcpControl,
    payload: &[u8],
) -> Vec<u8> {
    let segment = super::segment(
        ends.source.into(),
        ends.destination.into(),
        source,
        destination,
        control,
        payload,
    );
    ipv6(ends, IpProtocol::Tcp, 64, &segment)
}

pub fn udp(ends: Ends, source: u16, destination: u16, payload: &[u8]) -> Vec<u8> {
    let datagram = super::datagram(
        ends.source.into(),
        ends.destination.into(),
        source,
        destination,
        payload,
    );
    ipv6(ends, IpProtocol::Udp, 64, &datagram)
}

pub fn icmp(ends: Ends, hop_limit: u8, message: &Icmpv6Repr) -> Vec<u8> {
    let mut bytes = vec![0; message.buffer_len()];
    message.emit(
        &ends.source,
        &ends.destination,
        &mut Icmpv6Packet::new_unchecked(&mut bytes[..]),
        &ChecksumCapabilities::default(),
    );
    ipv6(ends, IpProtocol::Icmpv6, hop_limit, &bytes)
}

pub fn echo(ends: Ends, request: bool, identifier: u16) -> Vec<u8> {
    let (ident, seq_no, data) = (identifier, 1, &[7; 32][..]);
    let message = if request {
        Icmpv6Repr::EchoRequest {
            ident,
            seq_no,
            data,
        }
    } else {
        Icmpv6Repr::EchoReply {
            ident,
            seq_no,
            data,
        }
    };
    icmp(ends, 64, &message)
}

/// "Port unreachable" about a packet that went the other way.
pub fn unreachable(
    ends: Ends,
    protocol: IpProtocol,
    quoted_source: u16,
    quoted_destination: u16,
) -> Vec<u8> {
    let mut ports = [0; 8];
    ports[..2].copy_from_slice(&quoted_source.to_be_bytes());
    ports[2..4].copy_from_slice(&quoted_destination.to_be_bytes());
    let header = Ipv6Repr {
        src_addr: ends.destination,
        dst_addr: ends.source,
        next_header: protocol,
        payload_len: 8,
        hop_limit: 64,
    };
    let reason = Icmpv6DstUnreachable::PortUnreachable;
    let data = &ports;
    icmp(
        ends,
        64,
        &Icmpv6Repr::DstUnreachable {
            reason,
            header,
            data,
        },
    )
}

/// A solicitation with the source's MAC address, if it has an IP address.
pub fn solicit(ends: Ends, target: Ipv6Address) -> Vec<u8> {
    let lladdr = (!ends.source.is_unspecified()).then(|| ends.source_mac.into());
    icmp(
        ends,
        255,
        &Icmpv6Repr::Ndisc(NdiscRepr::NeighborSolicit {
            target_addr: target,
            lladdr,
        }),
    )
}

/// A solicitation to the target's group.
pub fn solicit_group(ends: Ends, target: Ipv6Address) -> Vec<u8> {
    let group = solicited_node(target);
    let ends = Ends {
        destination_mac: group_mac(group),
        destination: group,
        ..ends
    };
    solicit(ends, target)
}

pub fn advertise(ends: Ends, target: Ipv6Address) -> Vec<u8> {
    advertise_with(
        ends,
        target,
        NdiscNeighborFlags::SOLICITED | NdiscNeighborFlags::OVERRIDE,
    )
}

pub fn advertise_with(ends: Ends, target: Ipv6Address, flags: NdiscNeighborFlags) -> Vec<u8> {
    icmp(
        ends,
        255,
        &Icmpv6Repr::Ndisc(NdiscRepr::NeighborAdvert {
            flags,
            target_addr: target,
            lladdr: Some(ends.source_mac.into()),
        }),
    )
}

/// Puts the right ICMPv6 checksum into a frame that was changed.
pub fn sum(mut frame: Vec<u8>) -> Vec<u8> {
    let packet = Ipv6Packet::new_checked(&frame[14..]).unwrap();
    let (source, destination) = (packet.src_addr(), packet.dst_addr());
    let end = 14 + packet.total_len();
    Icmpv6Packet::new_unchecked(&mut frame[54..end]).fill_checksum(&source, &destination);
    frame
}
