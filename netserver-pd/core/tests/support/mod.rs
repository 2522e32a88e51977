//! A world for tests: applications, a port table, and frames as smoltcp writes
//! them.
#![allow(dead_code)]

pub mod ipv6;
pub mod world;

use segue_frame_channel::config::{
    ADDRESS_OWN, Addresses, ServerEntry, ServerTable, name_to_bytes,
};
use segue_netserver_core::Directory;
use segue_portmap_core::{Families, PortReader, PortTable, Protocol, TABLE_SIZE};
use segue_shared_memory::testing::leaked_region;
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::*;

pub const PEER_MAC: EthernetAddress = EthernetAddress([0x02, 0, 0, 0, 0, 0x99]);
pub const PEER: Ipv4Address = Ipv4Address::new(10, 0, 2, 2);
pub const SHARED_MAC: EthernetAddress = EthernetAddress([0x52, 0x54, 0, 0x5e, 0x60, 0]);
pub const SHARED: Ipv4Address = Ipv4Address::new(10, 0, 2, 15);
pub const OWN_MAC: EthernetAddress = EthernetAddress([0x52, 0x54, 0, 0x5e, 0x60, 1]);
pub const OWN: Ipv4Address = Ipv4Address::new(10, 0, 2, 16);

/// Applications 0 and 1 share an address, 2 has one of its own.
pub fn table(sharers: u32) -> ServerTable {
    let mut table = ServerTable::EMPTY;
    table.count = sharers + 1;
    for index in 0..=sharers {
        let own = index == sharers;
        table.entries[index as usize] = ServerEntry {
            name: name_to_bytes(&format!("application-{index}")).unwrap(),
            owner: index as u16 + 1,
            flags: if own { ADDRESS_OWN } else { 0 },
            addresses: Addresses {
                mac: if own { OWN_MAC.0 } else { SHARED_MAC.0 },
                ipv4: if own { OWN.octets() } else { SHARED.octets() },
                ipv4_prefix_length: 24,
                ipv6: if own {
                    ipv6::OWN.octets()
                } else {
                    ipv6::SHARED.octets()
                },
                ipv6_prefix_length: 64,
                ..Addresses::NONE
            },
            transmit_entries: 64,
            receive_entries: 64,
            ..ServerEntry::EMPTY
        };
    }
    table
}

/// The port table: 80 is application 0's, 81 application 1's, TCP and UDP.
pub fn ports() -> PortReader {
    let region = leaked_region(TABLE_SIZE);
    let mut ports = PortTable::new(region).unwrap();
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        ports.bind(1, Families::Both, protocol, 80).unwrap();
        ports.bind(2, Families::Both, protocol, 81).unwrap();
    }
    PortReader::new(region).unwrap()
}

pub fn directory(sharers: u32) -> Directory {
    Directory::new(&table(sharers), ports(), None)
}

#[derive(Clone, Copy, Debug)]
pub struct Ends {
    pub source_mac: EthernetAddress,
    pub destination_mac: EthernetAddress,
    pub source: Ipv4Address,
    pub destination: Ipv4Address,
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

pub fn ethernet(ends: Ends, ethertype: EthernetProtocol, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; 14 + payload.len()];
    let repr = EthernetRepr {
        src_addr: ends.source_mac,
        dst_addr: ends.destination_mac,
        ethertype,
    };
    repr.emit(&mut EthernetFrame::new_unchecked(&mut frame[..]));
    frame[14..].copy_from_slice(payload);
    frame
}

pub fn ipv4(ends: Ends, next_header: IpProtocol, payload: &[u8]) -> Vec<u8> {
    let repr = Ipv4Repr {
        src_addr: ends.source,
        dst_addr: ends.destination,
        next_header,
        payload_len: payload.len(),
        hop_limit: 64,
    };
    let mut packet = vec![0; 20 + payload.len()];
    repr.emit(
        &mut Ipv4Packet::new_unchecked(&mut packet[..]),
        &ChecksumCapabilities::default(),
    );
    packet[20..].copy_from_slice(payload);
    ethernet(ends, EthernetProtocol::Ipv4, &packet)
}

/// A TCP segment, complete with its checksum.
pub fn segment(
    from: IpAddress,
    to: IpAddress,
    source: u16,
    destination: u16,
    control: TcpControl,
    payload: &[u8],
) -> Vec<u8> {
    let repr = TcpRepr {
        src_port: source,
        dst_port: destination,
        control,
        seq_number: TcpSeqNumber(1),
        ack_number: Some(TcpSeqNumber(2)),
        window_len: 1000,
        window_scale: None,
        max_seg_size: None,
        sack_permitted: false,
        sack_ranges: [None; 3],
        timestamp: None,
        payload,
    };
    let mut segment = vec![0; repr.buffer_len()];
    let mut packet = TcpPacket::new_unchecked(&mut segment[..]);
    repr.emit(&mut packet, &from, &to, &ChecksumCapabilities::default());
    segment
}

/// A UDP datagram, complete with its checksum.
pub fn datagram(
    from: IpAddress,
    to: IpAddress,
    source: u16,
    destination: u16,
    payload: &[u8],
) -> Vec<u8> {
    let mut datagram = vec![0; 8 + payload.len()];
    let repr = UdpRepr {
        src_port: source,
        dst_port: destination,
    };
    repr.emit(
        &mut UdpPacket::new_unchecked(&mut datagram[..]),
        &from,
        &to,
        payload.len(),
        |bytes| bytes.copy_from_slice(payload),
        &ChecksumCapabilities::default(),
    );
    datagram
}

pub fn tcp(
    ends: Ends,
    source: u16,
    destination: u16,
    control: TcpControl,
    payload: &[u8],
) -> Vec<u8> {
    let (from, to) = (ends.source.into(), ends.destination.into());
    let segment = segment(from, to, source, destination, control, payload);
    ipv4(ends, IpProtocol::Tcp, &segment)
}

pub fn udp(ends: Ends, source: u16, destination: u16, payload: &[u8]) -> Vec<u8> {
    let (from, to) = (ends.source.into(), ends.destination.into());
    let datagram = datagram(from, to, source, destination, payload);
    ipv4(ends, IpProtocol::Udp, &datagram)
}

pub fn icmp(ends: Ends, message: &Icmpv4Repr) -> Vec<u8> {
    let mut bytes = vec![0; message.buffer_len()];
    message.emit(
        &mut Icmpv4Packet::new_unchecked(&mut bytes[..]),
        &ChecksumCapabilities::default(),
    );
    ipv4(ends, IpProtocol::Icmp, &bytes)
}

pub fn echo(ends: Ends, request: bool, identifier: u16) -> Vec<u8> {
    let (ident, seq_no, data) = (identifier, 1, &[7; 32][..]);
    if request {
        icmp(
            ends,
            &Icmpv4Repr::EchoRequest {
                ident,
                seq_no,
                data,
            },
        )
    } else {
        icmp(
            ends,
            &Icmpv4Repr::EchoReply {
                ident,
                seq_no,
                data,
            },
        )
    }
}

/// "Port unreachable" about a datagram that went the other way.
pub fn unreachable(
    ends: Ends,
    protocol: IpProtocol,
    quoted_source: u16,
    quoted_destination: u16,
) -> Vec<u8> {
    let mut ports = [0; 8];
    ports[..2].copy_from_slice(&quoted_source.to_be_bytes());
    ports[2..4].copy_from_slice(&quoted_destination.to_be_bytes());
    let header = Ipv4Repr {
        src_addr: ends.destination,
        dst_addr: ends.source,
        next_header: protocol,
        payload_len: 8,
        hop_limit: 64,
    };
    icmp(
        ends,
        &Icmpv4Repr::DstUnreachable {
            reason: Icmpv4DstUnreachable::PortUnreachable,
            header,
            data: &ports,
        },
    )
}

pub fn arp(ends: Ends, operation: ArpOperation) -> Vec<u8> {
    let repr = ArpRepr::EthernetIpv4 {
        operation,
        source_hardware_addr: ends.source_mac,
        source_protocol_addr: ends.source,
        target_hardware_addr: ends.destination_mac,
        target_protocol_addr: ends.destination,
    };
    let mut packet = vec![0; repr.buffer_len()];
    repr.emit(&mut ArpPacket::new_unchecked(&mut packet[..]));
    ethernet(ends, EthernetProtocol::Arp, &packet)
}
