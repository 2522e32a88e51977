//! Frames between applications: who gets a frame that one of them sends, and
//! what a network card would do to it on its way.

use crate::directory::Directory;
use crate::egress::{Approved, MAXIMUM_UNSEGMENTED, SendOffload};
use crate::ingress::is_for_group;
use crate::ipv6::{IPV6, NEIGHBOR, message, target};
use segue_portmap_core::{Family, Protocol};
use smoltcp::wire::{
    ArpOperation, ArpPacket, EthernetFrame, EthernetProtocol, IpAddress, IpProtocol, Ipv4Address,
    Ipv4Packet, Ipv6Packet, TcpPacket, UdpPacket,
};

const ETHERNET: usize = 14;
const IPV4: usize = 20;
const ARP: usize = 28;

/// Where a verified frame goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// To the network alone.
    Out,
    /// To an application, or to the server itself; it does not leave the machine.
    Inside,
    /// To the network, and to whomever it concerns inside but its sender.
    Both,
    /// To whomever it concerns inside but its sender, which has sent it to the network
    /// itself.
    Others,
    /// Nowhere: it is for the network alone, and its sender has sent it there itself.
    Nowhere,
}

impl Route {
    /// Where the frame that starts with `header` goes if its sender is in direct mode:
    /// what is for all, or for a group, has gone to the network from its own function of
    /// the card, and is here for those inside alone.
    pub fn in_direct_mode(self, header: &[u8]) -> Self {
        match self {
            Self::Both => Self::Others,
            Self::Out if is_for_group(header) => Self::Nowhere,
            route => route,
        }
    }
}

/// Where the frame that starts with `header`, verified, goes. A frame for a MAC
/// address of ours stays inside; of what is for all, ARP requests and neighbour
/// solicitations for an address of ours do. ARP announcements of an address, and
/// IPv4 broadcasts, go both ways.
#[inline]
pub fn route(directory: &Directory, header: &[u8]) -> Route {
    if header.len() < ETHERNET {
        return Route::Out;
    }
    let ethernet = EthernetFrame::new_unchecked(header);
    let destination = ethernet.dst_addr();
    if !destination.is_unicast() {
        return route_for_group(directory, &ethernet, header);
    }
    if directory.has_mac(destination) {
        Route::Inside
    } else {
        Route::Out
    }
}

/// Where a verified frame for all, or for a group, goes.
#[inline(never)]
fn route_for_group(directory: &Directory, ethernet: &EthernetFrame<&[u8]>, header: &[u8]) -> Route {
    let packet = &header[ETHERNET..];
    match ethernet.ethertype() {
        EthernetProtocol::Arp if packet.len() >= ARP => {
            let arp = ArpPacket::new_unchecked(packet);
            let (source, target) = (arp.source_protocol_addr(), arp.target_protocol_addr());
            let mut octets = [0; 4];
            octets.copy_from_slice(target);
            if arp.operation() != ArpOperation::Request
                || source == [0; 4]
                || directory.with_address(Ipv4Address::from(octets)).is_none()
            {
                Route::Out
            } else if source == target {
                Route::Both
            } else {
                Route::Inside
            }
        }
        EthernetProtocol::Ipv4 if packet.len() >= IPV4 => {
            if directory.is_broadcast(Ipv4Packet::new_unchecked(packet).dst_addr()) {
                Route::Both
            } else {
                Route::Out
            }
        }
        EthernetProtocol::Ipv6 if is_solicitation_inside(directory, packet) => Route::Inside,
        _ => Route::Out,
    }
}

/// Whether a verified IPv6 packet asks for an address of ours, and is no probe: that
/// is for others who may have it.
fn is_solicitation_inside(directory: &Directory, packet: &[u8]) -> bool {
    if packet.len() < IPV6 + NEIGHBOR {
        return false;
    }
    let ipv6 = Ipv6Packet::new_unchecked(packet);
    let bytes = &packet[IPV6..];
    ipv6.next_header() == IpProtocol::Icmpv6
        && bytes[0] == message::NEIGHBOR_SOLICITATION
        && !ipv6.src_addr().is_unspecified()
        && directory.with_ipv6(target(bytes)).is_some()
}

/// Whether a verified frame is the first segment of a TCP connection.
pub fn opens_connection(header: &[u8]) -> bool {
    const IPV6: usize = 40;
    if header.len() < ETHERNET {
        return false;
    }
    let (protocol, length) = match EthernetFrame::new_unchecked(header).ethertype() {
        EthernetProtocol::Ipv4 => (9, IPV4),
        EthernetProtocol::Ipv6 => (6, IPV6),
        _ => return false,
    };
    let flags = header.get(ETHERNET + length + 13);
    header.get(ETHERNET + protocol) == Some(&u8::from(IpProtocol::Tcp))
        && flags.is_some_and(|flags| flags & 0x12 == 0x02)
}

/// A verified frame, as it is taken apart for receivers inside.
#[derive(Clone, Copy, Debug)]
pub struct Parcel<'a> {
    /// Its verified headers.
    pub headers: &'a [u8],
    /// Its length in bytes.
    pub length: usize,
    /// What a network card would do to it.
    pub offload: Option<SendOffload>,
}

impl<'a> Parcel<'a> {
    /// The frame of `length` bytes that starts with `headers`.
    pub fn new(headers: &'a [u8], length: usize, approved: &Approved) -> Self {
        Self {
            headers,
            length,
            offload: approved.offload,
        }
    }

    /// Whether its checksums are computed here, so that they are right.
    pub fn is_summed(&self) -> bool {
        self.offload
            .is_some_and(|offload| offload.transport.is_some())
    }

    /// How many frames its receivers get: at most 1,024, since segments have 64
    /// bytes or more.
    pub fn segments(&self) -> usize {
        let (headers, size) = self.cut();
        match size {
            0 => 1,
            size => (self.length - headers).div_ceil(size).max(1),
        }
    }

    /// Length of all headers, and of a segment's payload; 0: it is not cut.
    fn cut(&self) -> (usize, usize) {
        match self.offload {
            Some(offload) if offload.segment_size != 0 => (
                ETHERNET + offload.ip_header_length + offload.transport_header_length,
                offload.segment_size.into(),
            ),
            _ => (self.headers.len(), 0),
        }
    }

    /// Writes segment `index` to the start of `to`, complete with checksums if it
    /// is to have them; `read` reads the frame from an offset on. Returns its
    /// length; `None` if it does not fit.
    pub fn write(
        &self,
        index: usize,
        to: &mut [u8],
        read: impl FnOnce(usize, &mut [u8]),
    ) -> Option<usize> {
        let (headers, size) = self.cut();
        let start = headers + index * size;
        let payload = match size {
            0 => self.length - headers,
            size => self.length.checked_sub(start)?.min(size),
        };
        let length = (headers + payload).min(MAXIMUM_UNSEGMENTED);
        let frame = to.get_mut(..length)?;
        frame[..headers].copy_from_slice(self.headers.get(..headers)?);
        read(start, &mut frame[headers..]);
        let Some(offload) = self.offload else {
            return Some(length);
        };
        let last = index + 1 == self.segments();
        finish(frame, &offload, index, last)?;
        Some(length)
    }
}

/// Does to a copied frame, or to a segment of one, what a network card does:
/// lengths, numbers, flags and checksums.
fn finish(frame: &mut [u8], offload: &SendOffload, index: usize, last: bool) -> Option<()> {
    if offload.family == Family::V6 {
        return finish_ipv6(frame, offload);
    }
    let size = usize::from(offload.segment_size);
    let mut ipv4 = Ipv4Packet::new_unchecked(frame.get_mut(ETHERNET..)?);
    if size != 0 {
        let total = ipv4.as_ref().len();
        ipv4.set_total_len(total as u16);
        ipv4.set_ident(ipv4.ident().wrapping_add(index as u16));
    }
    ipv4.fill_checksum();
    let source = IpAddress::Ipv4(ipv4.src_addr());
    let destination = IpAddress::Ipv4(ipv4.dst_addr());
    let total = usize::from(ipv4.total_len());
    let transport = frame.get_mut(ETHERNET + offload.ip_header_length..ETHERNET + total)?;
    match offload.transport {
        None => {}
        Some(Protocol::Tcp) => {
            let mut tcp = TcpPacket::new_unchecked(transport);
            if size != 0 {
                tcp.set_seq_number(tcp.seq_number() + index * size);
                tcp.set_fin(tcp.fin() && last);
                tcp.set_psh(tcp.psh() && last);
                tcp.set_cwr(tcp.cwr() && index == 0);
            }
            tcp.fill_checksum(&source, &destination);
        }
        Some(Protocol::Udp) => {
            UdpPacket::new_unchecked(transport).fill_checksum(&source, &destination);
        }
    }
    Some(())
}

/// The same for IPv6, which is not cut.
fn finish_ipv6(frame: &mut [u8], offload: &SendOffload) -> Option<()> {
    let ipv6 = Ipv6Packet::new_unchecked(frame.get(ETHERNET..).filter(|p| p.len() >= IPV6)?);
    let source = IpAddress::Ipv6(ipv6.src_addr());
    let destination = IpAddress::Ipv6(ipv6.dst_addr());
    let total = ipv6.total_len();
    let transport = frame.get_mut(ETHERNET + IPV6..ETHERNET + total)?;
    match offload.transport? {
        Protocol::Tcp => TcpPacket::new_unchecked(transport).fill_checksum(&source, &destination),
        Protocol::Udp => UdpPacket::new_unchecked(transport).fill_checksum(&source, &destination),
    }
    Some(())
}
