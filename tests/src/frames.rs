//! Frames made by hand: right ones, wrong ones, and ones that are wrong in a random way.

pub mod ipv6;

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, EthernetAddress, EthernetFrame, EthernetProtocol,
    EthernetRepr, Icmpv4Packet, Icmpv4Repr, IpProtocol, Ipv4Address, Ipv4Packet, Ipv4Repr,
};

use crate::host::APPLICATION;
use crate::random::Random;

/// MAC address of the default application (of virtual function 0), as in `system.xml`.
pub const APPLICATION_MAC: EthernetAddress = EthernetAddress([0x52, 0x54, 0, 0x5e, 0x60, 0]);
/// MAC address of a [`crate::PeerHost`].
pub const PEER_MAC: EthernetAddress = EthernetAddress(crate::peer_host::MAC);
/// IPv4 address of a [`crate::PeerHost`].
pub const PEER: Ipv4Address = crate::peer_host::ADDRESS;

/// An Ethernet frame from the peer to the application.
pub fn ethernet(kind: EthernetProtocol, payload: &[u8]) -> Vec<u8> {
    let header = EthernetRepr {
        src_addr: PEER_MAC,
        dst_addr: APPLICATION_MAC,
        ethertype: kind,
    };
    let mut bytes = vec![0; header.buffer_len() + payload.len()];
    header.emit(&mut EthernetFrame::new_unchecked(&mut bytes[..]));
    bytes[header.buffer_len()..].copy_from_slice(payload);
    bytes
}

/// An IPv4 packet from the peer to the application, in a frame.
pub fn ipv4(protocol: IpProtocol, payload: &[u8]) -> Vec<u8> {
    let header = Ipv4Repr {
        src_addr: PEER,
        dst_addr: APPLICATION,
        next_header: protocol,
        payload_len: payload.len(),
        hop_limit: 64,
    };
    let mut bytes = vec![0; header.buffer_len() + payload.len()];
    let checksums = ChecksumCapabilities::default();
    header.emit(&mut Ipv4Packet::new_unchecked(&mut bytes[..]), &checksums);
    bytes[header.buffer_len()..].copy_from_slice(payload);
    ethernet(EthernetProtocol::Ipv4, &bytes)
}

/// An echo request.
pub fn echo_request(sequence: u16, data: &[u8]) -> Vec<u8> {
    let message = Icmpv4Repr::EchoRequest {
        ident: 77,
        seq_no: sequence,
        data,
    };
    let mut bytes = vec![0; message.buffer_len()];
    let checksums = ChecksumCapabilities::default();
    message.emit(&mut Icmpv4Packet::new_unchecked(&mut bytes[..]), &checksums);
    ipv4(IpProtocol::Icmp, &bytes)
}

/// The sequence number and data of an echo reply to the peer, if `frame` is one and is right.
pub fn echo_reply(frame: &[u8]) -> Option<(u16, Vec<u8>)> {
    echo_reply_of(frame, APPLICATION_MAC.0)
}

/// The same of an application with this MAC address.
pub fn echo_reply_of(frame: &[u8], mac: [u8; 6]) -> Option<(u16, Vec<u8>)> {
    let ethernet = EthernetFrame::new_checked(frame).ok()?;
    let from_to = (ethernet.src_addr(), ethernet.dst_addr());
    if from_to != (EthernetAddress(mac), PEER_MAC) || ethernet.ethertype() != EthernetProtocol::Ipv4
    {
        return None;
    }
    let checksums = ChecksumCapabilities::default();
    let packet = Ipv4Packet::new_checked(ethernet.payload()).ok()?;
    let header = Ipv4Repr::parse(&packet, &checksums).ok()?;
    if (header.src_addr, header.dst_addr) != (APPLICATION, PEER) {
        return None;
    }
    let message = Icmpv4Packet::new_checked(packet.payload()).ok()?;
    match Icmpv4Repr::parse(&message, &checksums).ok()? {
        Icmpv4Repr::EchoReply {
            ident: 77,
            seq_no,
            data,
        } => Some((seq_no, data.to_vec())),
        _ => None,
    }
}

/// A broadcast ARP request for `address`.
pub fn arp_request(address: Ipv4Address) -> Vec<u8> {
    let request = ArpRepr::EthernetIpv4 {
        operation: ArpOperation::Request,
        source_hardware_addr: PEER_MAC,
        source_protocol_addr: PEER,
        target_hardware_addr: EthernetAddress([0; 6]),
        target_protocol_addr: address,
    };
    let mut bytes = vec![0; request.buffer_len()];
    request.emit(&mut ArpPacket::new_unchecked(&mut bytes[..]));
    let mut frame = ethernet(EthernetProtocol::Arp, &bytes);
    frame[..6].fill(0xff);
    frame
}

/// The hardware address that an ARP reply gives for `address`, if `frame` is one.
pub fn arp_reply(frame: &[u8], address: Ipv4Address) -> Option<EthernetAddress> {
    let ethernet = EthernetFrame::new_checked(frame).ok()?;
    if ethernet.ethertype() != EthernetProtocol::Arp {
        return None;
    }
    let packet = ArpPacket::new_checked(ethernet.payload()).ok()?;
    match ArpRepr::parse(&packet).ok()? {
        ArpRepr::EthernetIpv4 {
            operation: ArpOperation::Reply,
            source_hardware_addr,
            source_protocol_addr,
            ..
        } if source_protocol_addr == address => Some(source_hardware_addr),
        _ => None,
    }
}

/// Frames that are wrong in a known way, each with what is wrong.
pub fn wrong() -> Vec<(&'static str, Vec<u8>)> {
    let tcp = tcp_segment();
    let good = ipv4(IpProtocol::Tcp, &tcp);
    let changed = |at: usize, value: &[u8]| {
        let mut frame = good.clone();
        frame[at..at + value.len()].copy_from_slice(value);
        frame
    };
    // In the frame: IPv4 header at 14, TCP header at 34.
    vec![
        ("an unknown ethertype", changed(12, &[0x88, 0xb5])),
        ("IPv6", changed(12, &[0x86, 0xdd])),
        ("IP version 6 in an IPv4 frame", changed(14, &[0x65])),
        ("an IP header of 4 bytes", changed(14, &[0x41])),
        ("an IP header longer than the frame", {
            let mut frame = changed(14, &[0x4f]);
            frame.truncate(60);
            frame
        }),
        ("a total length below the header's", changed(16, &[0, 19])),
        (
            "a total length beyond the frame",
            changed(16, &[0xff, 0xff]),
        ),
        ("a wrong IP checksum", changed(24, &[0xde, 0xad])),
        ("somebody else's address", readdress(&good, [10, 0, 2, 99])),
        ("a multicast group", readdress(&good, [224, 0, 0, 251])),
        (
            "a TCP header that ends before it begins",
            changed(46, &[0x10]),
        ),
        ("a TCP header longer than the packet", changed(46, &[0xf0])),
        ("a wrong TCP checksum", changed(50, &[0xbe, 0xef])),
        ("SYN and FIN at once", changed(47, &[0x03])),
        ("no TCP flags at all", changed(47, &[0x00])),
        (
            "a first fragment that has no second",
            refragment(&good, 0x2000),
        ),
        (
            "a last fragment that has no first",
            refragment(&good, 0x00ff),
        ),
        ("ARP of a strange hardware", {
            let mut frame = arp_request(APPLICATION);
            frame[15] = 9;
            frame
        }),
        ("ARP with long addresses", {
            let mut frame = arp_request(APPLICATION);
            frame[18] = 200;
            frame
        }),
        ("ARP cut short", arp_request(APPLICATION)[..30].to_vec()),
        ("an echo request with a wrong checksum", {
            let mut frame = echo_request(1, b"data");
            frame[36] ^= 0x55;
            frame
        }),
        ("UDP longer than its packet", {
            ipv4(IpProtocol::Udp, &[0, 80, 0, 80, 0xff, 0xff, 0, 0])
        }),
        (
            "an IP packet without a header",
            ethernet(EthernetProtocol::Ipv4, &[]),
        ),
        (
            "half an IP header",
            ethernet(EthernetProtocol::Ipv4, &good[14..24]),
        ),
    ]
}

/// A right frame with random bytes changed, or cut, or grown.
pub fn random_frame(random: &mut Random) -> Vec<u8> {
    let mut frame = match random.below(6) {
        0 => arp_request(APPLICATION),
        1 => echo_request(9, &[0; 64]),
        2 => ipv4(IpProtocol::Udp, &[0, 80, 0, 80, 0, 12, 0, 0, 1, 2, 3, 4]),
        3 => {
            let mut noise = vec![0; random.below(1500)];
            random.fill(&mut noise);
            let kinds = [EthernetProtocol::Ipv4, EthernetProtocol::Arp];
            ethernet(kinds[random.below(2)], &noise)
        }
        _ => ipv4(IpProtocol::Tcp, &tcp_segment()),
    };
    for _ in 0..random.below(5) {
        let at = 12 + random.below(frame.len() - 12);
        frame[at] = random.number() as u8;
    }
    match random.below(4) {
        0 => frame.truncate(14 + random.below(frame.len() - 13)),
        1 => frame.resize((frame.len() + random.below(200)).min(1514), 0xa5),
        _ => {}
    }
    // Half of them with a right header checksum: the others go no further than that.
    if random.below(2) == 0 && frame.len() >= 34 {
        fix_ip_checksum(&mut frame);
    }
    frame
}

/// A SYN from port 1234 to port 80, with an MSS option; its checksum is 0.
fn tcp_segment() -> Vec<u8> {
    let mut segment = vec![0; 24];
    segment[..4].copy_from_slice(&[0x04, 0xd2, 0, 80]);
    segment[12] = 0x60;
    segment[13] = 0x02;
    segment[14..16].copy_from_slice(&[0xff, 0xff]);
    segment[20..24].copy_from_slice(&[2, 4, 0x05, 0xb4]);
    segment
}

fn readdress(frame: &[u8], address: [u8; 4]) -> Vec<u8> {
    let mut frame = frame.to_vec();
    frame[30..34].copy_from_slice(&address);
    fix_ip_checksum(&mut frame);
    frame
}

fn refragment(frame: &[u8], field: u16) -> Vec<u8> {
    let mut frame = frame.to_vec();
    frame[20..22].copy_from_slice(&field.to_be_bytes());
    fix_ip_checksum(&mut frame);
    frame
}

/// Makes the checksum of the IPv4 header right, as far as there is one.
fn fix_ip_checksum(frame: &mut [u8]) {
    let length = usize::from(frame[14] & 15) * 4;
    if (20..=frame.len() - 14).contains(&length) {
        Ipv4Packet::new_unchecked(&mut frame[14..]).fill_checksum();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_is_told_from_a_request() {
        assert_eq!(echo_reply(&echo_request(1, b"x")), None);
        assert_eq!(arp_reply(&arp_request(APPLICATION), APPLICATION), None);
    }

    #[test]
    fn random_frames_are_reproducible_and_fit_the_cable() {
        let make = |seed| {
            let mut random = Random::new(seed);
            (0..5000)
                .map(|_| random_frame(&mut random))
                .collect::<Vec<_>>()
        };
        let frames = make(5);
        assert_eq!(frames, make(5));
        assert!(
            frames
                .iter()
                .all(|frame| (14..=1514).contains(&frame.len()))
        );
        assert!(wrong().len() > 20);
    }
}
