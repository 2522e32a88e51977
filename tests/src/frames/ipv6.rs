//! Frames of IPv6, from the peer to the machine.

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    EthernetAddress, EthernetFrame, EthernetProtocol, Icmpv6Packet, Icmpv6Repr, IpProtocol,
    Ipv6Address, Ipv6Packet, Ipv6Repr, NdiscNeighborFlags, NdiscRepr, TcpControl, TcpPacket,
    TcpRepr, TcpSeqNumber, UdpPacket, UdpRepr,
};

use super::{APPLICATION_MAC, PEER_MAC};

/// IPv6 address of a [`crate::PeerHost`] that speaks through these frames.
pub const PEER: Ipv6Address = Ipv6Address::new(0xfd00, 0x5e60, 0, 0, 0, 0, 0, 2);
/// The shared IPv6 address, as in `system.xml`.
pub const APPLICATION: Ipv6Address = Ipv6Address::new(0xfd00, 0x5e60, 0, 0, 0, 0, 0, 0x15);
/// The link-local one of [`APPLICATION_MAC`].
pub const LINK_LOCAL: Ipv6Address =
    Ipv6Address::new(0xfe80, 0, 0, 0, 0x5054, 0x00ff, 0xfe5e, 0x6000);

/// A packet to one of the addresses, in a frame for the application's MAC address.
pub fn packet(to: Ipv6Address, next_header: IpProtocol, hop_limit: u8, payload: &[u8]) -> Vec<u8> {
    let header = Ipv6Repr {
        src_addr: PEER,
        dst_addr: to,
        next_header,
        payload_len: payload.len(),
        hop_limit,
    };
    let mut bytes = vec![0; header.buffer_len() + payload.len()];
    header.emit(&mut Ipv6Packet::new_unchecked(&mut bytes[..]));
    bytes[header.buffer_len()..].copy_from_slice(payload);
    super::ethernet(EthernetProtocol::Ipv6, &bytes)
}

fn icmp(to: Ipv6Address, hop_limit: u8, message: &Icmpv6Repr) -> Vec<u8> {
    let mut bytes = vec![0; message.buffer_len()];
    let checksums = ChecksumCapabilities::default();
    let mut packet = Icmpv6Packet::new_unchecked(&mut bytes[..]);
    message.emit(&PEER, &to, &mut packet, &checksums);
    self::packet(to, IpProtocol::Icmpv6, hop_limit, &bytes)
}

/// An echo request.
pub fn echo_request(to: Ipv6Address, sequence: u16, data: &[u8]) -> Vec<u8> {
    let (ident, seq_no) = (77, sequence);
    let message = Icmpv6Repr::EchoRequest {
        ident,
        seq_no,
        data,
    };
    icmp(to, 64, &message)
}

/// A question for the MAC address of `target`, to the group that it listens to.
pub fn solicitation(target: Ipv6Address) -> Vec<u8> {
    let [.., a, b, c] = target.octets();
    let group = Ipv6Address::new(
        0xff02,
        0,
        0,
        0,
        0,
        1,
        0xff00 | u16::from(a),
        u16::from_be_bytes([b, c]),
    );
    let message = Icmpv6Repr::Ndisc(NdiscRepr::NeighborSolicit {
        target_addr: target,
        lladdr: Some(PEER_MAC.into()),
    });
    let mut frame = icmp(group, 255, &message);
    frame[..6].copy_from_slice(&[0x33, 0x33, 0xff, a, b, c]);
    frame
}

/// The claim of a station with this MAC address to be `target`, to all nodes.
pub fn advertisement(target: Ipv6Address, hardware: [u8; 6]) -> Vec<u8> {
    let message = Icmpv6Repr::Ndisc(NdiscRepr::NeighborAdvert {
        flags: NdiscNeighborFlags::OVERRIDE,
        target_addr: target,
        lladdr: Some(EthernetAddress(hardware).into()),
    });
    let all_nodes = Ipv6Address::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    let mut frame = icmp(all_nodes, 255, &message);
    frame[..6].copy_from_slice(&[0x33, 0x33, 0, 0, 0, 1]);
    frame[6..12].copy_from_slice(&hardware);
    frame
}

/// The first segment of a connection.
pub fn syn(to: Ipv6Address, port: u16) -> Vec<u8> {
    let segment = TcpRepr {
        src_port: 5000,
        dst_port: port,
        control: TcpControl::Syn,
        seq_number: TcpSeqNumber(77),
        ack_number: None,
        window_len: 1000,
        window_scale: None,
        max_seg_size: None,
        sack_permitted: false,
        sack_ranges: [None; 3],
        timestamp: None,
        payload: &[],
    };
    let mut bytes = vec![0; segment.buffer_len()];
    let checksums = ChecksumCapabilities::default();
    let mut tcp = TcpPacket::new_unchecked(&mut bytes[..]);
    segment.emit(&mut tcp, &PEER.into(), &to.into(), &checksums);
    packet(to, IpProtocol::Tcp, 64, &bytes)
}

/// A datagram.
pub fn datagram(to: Ipv6Address, port: u16, data: &[u8]) -> Vec<u8> {
    let header = UdpRepr {
        src_port: 5000,
        dst_port: port,
    };
    let mut bytes = vec![0; header.header_len() + data.len()];
    header.emit(
        &mut UdpPacket::new_unchecked(&mut bytes[..]),
        &PEER.into(),
        &to.into(),
        data.len(),
        |payload| payload.copy_from_slice(data),
        &ChecksumCapabilities::default(),
    );
    packet(to, IpProtocol::Udp, 64, &bytes)
}

/// What the machine says to the peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// An echo reply: sequence number and data.
    Echo(u16, Vec<u8>),
    /// An advertisement of an address at a MAC address.
    Neighbor(Ipv6Address, EthernetAddress),
    /// A reset from this port that acknowledges this number.
    Reset(u16, i32),
    /// "Port unreachable" about a packet, from behind its header on.
    Unreachable(Vec<u8>),
}

/// What `frame` says, and from which address, if it is an answer to the peer and right in
/// every checksum.
pub fn answer(frame: &[u8]) -> Option<(Ipv6Address, Answer)> {
    let ethernet = EthernetFrame::new_checked(frame).ok()?;
    let from_to = (ethernet.src_addr(), ethernet.dst_addr());
    if from_to != (APPLICATION_MAC, PEER_MAC) || ethernet.ethertype() != EthernetProtocol::Ipv6 {
        return None;
    }
    let checksums = ChecksumCapabilities::default();
    let packet = Ipv6Packet::new_checked(ethernet.payload()).ok()?;
    let (from, to) = (packet.src_addr(), packet.dst_addr());
    if to != PEER {
        return None;
    }
    let said = match packet.next_header() {
        IpProtocol::Tcp => {
            let segment = TcpPacket::new_checked(packet.payload()).ok()?;
            let segment = TcpRepr::parse(&segment, &from.into(), &to.into(), &checksums).ok()?;
            if segment.control != TcpControl::Rst {
                return None;
            }
            Answer::Reset(segment.src_port, segment.ack_number?.0)
        }
        IpProtocol::Icmpv6 => {
            let message = Icmpv6Packet::new_checked(packet.payload()).ok()?;
            match Icmpv6Repr::parse(&from, &to, &message, &checksums).ok()? {
                Icmpv6Repr::EchoReply {
                    ident: 77,
                    seq_no,
                    data,
                } => Answer::Echo(seq_no, data.to_vec()),
                Icmpv6Repr::Ndisc(NdiscRepr::NeighborAdvert {
                    target_addr,
                    lladdr: Some(mac),
                    ..
                }) if packet.hop_limit() == 255 => {
                    let mac = EthernetAddress::from_bytes(mac.as_bytes());
                    Answer::Neighbor(target_addr, mac)
                }
                Icmpv6Repr::DstUnreachable { data, .. } => Answer::Unreachable(data.to_vec()),
                _ => return None,
            }
        }
        _ => return None,
    };
    Some((from, said))
}
