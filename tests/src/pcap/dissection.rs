//! What is in a frame.

use std::net::{IpAddr, SocketAddr};

use smoltcp::wire::{
    EthernetFrame, EthernetProtocol, IpProtocol, Ipv4Packet, Ipv6Packet, TcpPacket, UdpPacket,
};

use super::Frame;

/// A UDP datagram in a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Datagram<'a> {
    /// Where from.
    pub source: SocketAddr,
    /// Where to.
    pub destination: SocketAddr,
    /// What it carries.
    pub payload: &'a [u8],
}

/// A TCP segment in a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment<'a> {
    /// Where from.
    pub source: SocketAddr,
    /// Where to.
    pub destination: SocketAddr,
    /// Sequence number of its first byte, or of its SYN.
    pub sequence: u32,
    /// Whether it opens a connection.
    pub is_syn: bool,
    /// Whether it resets one.
    pub is_reset: bool,
    /// What it carries. More than fits a frame, if the network card was to cut it.
    pub payload: &'a [u8],
}

impl Frame {
    /// The UDP datagram in it, unless it is something else, a fragment among them.
    pub fn datagram(&self) -> Option<Datagram<'_>> {
        let (source, destination, protocol, payload) = self.packet()?;
        let packet = (protocol == IpProtocol::Udp)
            .then(|| UdpPacket::new_checked(payload).ok())
            .flatten()?;
        Some(Datagram {
            source: SocketAddr::new(source, packet.src_port()),
            destination: SocketAddr::new(destination, packet.dst_port()),
            payload: payload.get(8..usize::from(packet.len()))?,
        })
    }

    /// The TCP segment in it, unless it is something else.
    pub fn segment(&self) -> Option<Segment<'_>> {
        let (source, destination, protocol, payload) = self.packet()?;
        let packet = (protocol == IpProtocol::Tcp)
            .then(|| TcpPacket::new_checked(payload).ok())
            .flatten()?;
        Some(Segment {
            source: SocketAddr::new(source, packet.src_port()),
            destination: SocketAddr::new(destination, packet.dst_port()),
            sequence: packet.seq_number().0 as u32,
            is_syn: packet.syn(),
            is_reset: packet.rst(),
            payload: payload.get(usize::from(packet.header_len())..)?,
        })
    }

    /// Addresses, protocol and payload of an IP packet that is whole.
    fn packet(&self) -> Option<(IpAddr, IpAddr, IpProtocol, &[u8])> {
        let frame = EthernetFrame::new_checked(&self.bytes[..]).ok()?;
        match frame.ethertype() {
            EthernetProtocol::Ipv4 => {
                let packet = Ipv4Packet::new_checked(frame.payload()).ok()?;
                if packet.more_frags() || packet.frag_offset() != 0 {
                    return None;
                }
                Some((
                    packet.src_addr().into(),
                    packet.dst_addr().into(),
                    packet.next_header(),
                    packet.payload(),
                ))
            }
            EthernetProtocol::Ipv6 => {
                let packet = Ipv6Packet::new_checked(frame.payload()).ok()?;
                Some((
                    packet.src_addr().into(),
                    packet.dst_addr().into(),
                    packet.next_header(),
                    packet.payload(),
                ))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frames;
    use crate::random::Random;

    #[test]
    fn datagrams_and_segments_are_found() {
        let udp = [0x0f, 0xa0, 0x0f, 0xa1, 0, 12, 0, 0, 1, 2, 3, 4, 99];
        let frame = Frame {
            at: 0,
            bytes: frames::ipv4(IpProtocol::Udp, &udp),
        };
        let datagram = frame.datagram().unwrap();
        assert_eq!(datagram.payload, [1, 2, 3, 4]);
        assert_eq!(datagram.source.to_string(), "10.0.2.2:4000");
        assert_eq!(datagram.destination.to_string(), "10.0.2.15:4001");
        assert_eq!(frame.segment(), None);
        let mut tcp = [0; 26];
        tcp[1] = 80;
        tcp[3] = 81;
        tcp[4..8].copy_from_slice(&[0xff, 0, 0, 1]);
        tcp[12] = 0x60;
        tcp[13] = 0x14;
        let frame = Frame {
            at: 0,
            bytes: frames::ipv4(IpProtocol::Tcp, &tcp),
        };
        let segment = frame.segment().unwrap();
        assert_eq!(
            (segment.sequence, segment.payload),
            (0xff00_0001, &[0; 2][..])
        );
        assert!(segment.is_reset && !segment.is_syn);
        assert_eq!(frame.datagram(), None);
    }

    #[test]
    fn any_frame_can_come() {
        let mut random = Random::new(7);
        for _ in 0..20_000 {
            let frame = Frame {
                at: 0,
                bytes: frames::random_frame(&mut random),
            };
            let _ = (frame.datagram(), frame.segment());
        }
    }
}
