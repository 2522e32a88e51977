//! May this application send this frame?
//!
//! The verdict is about the server's own copy of the frame's headers, which is
//! what is sent. The payload behind it may change until the network card has
//! fetched it; nothing here depends on it.

mod ipv6;

use crate::directory::{Directory, Identity};
use crate::fragments::Datagram;
use crate::ipv6::IPV6;
use segue_frame_channel::FrameOffload;
use segue_portmap_core::{Family, Protocol};
use segue_status::network::EgressDrop;
use smoltcp::wire::{
    ArpOperation, ArpPacket, EthernetFrame, EthernetProtocol, IpProtocol, Ipv4Packet, TcpPacket,
    UdpPacket,
};

/// Longest frame without segmentation, in bytes: 1,500 behind the Ethernet
/// header.
pub const MAXIMUM_UNSEGMENTED: usize = 1514;

/// Smallest segment size that is accepted: each segment costs the network card
/// and the wire a header, so tiny ones are a way to take more than one's share.
pub const MINIMUM_SEGMENT_SIZE: u16 = 64;

const ETHERNET: usize = 14;
const IPV4: usize = 20;
/// Where an IPv4 header has the number of what follows it.
const IPV4_PROTOCOL: usize = 9;
const ARP: usize = 28;
const TCP: usize = 20;
const UDP: usize = 8;
const ICMP: usize = 8;

/// Source and destination port of what a DHCP client says (RFC 2131, section 4.1).
const DHCP_PORTS: [u8; 4] = [0, 68, 0, 67];

const ICMP_ECHO_REPLY: u8 = 0;
const ICMP_UNREACHABLE: u8 = 3;
const ICMP_ECHO_REQUEST: u8 = 8;

/// What the network card is to do to a verified frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SendOffload {
    /// The version of IP. With IPv4, compute the header's checksum, too.
    pub family: Family,
    /// Length of the IP header in bytes.
    pub ip_header_length: usize,
    /// Compute the checksum of this protocol.
    pub transport: Option<Protocol>,
    /// Length of the TCP or UDP header in bytes.
    pub transport_header_length: usize,
    /// Cut the TCP segment into segments of this many payload bytes; 0: do not.
    /// For IPv4 alone.
    pub segment_size: u16,
}

/// A frame that may be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Approved {
    /// What the network card is to do to it.
    pub offload: Option<SendOffload>,
    /// Bytes it puts on the wire, the repeated headers of segments included.
    pub wire_length: usize,
    /// It is a fragment of this datagram and its sender shares the address: it
    /// may be sent only if the datagram is the sender's.
    pub fragment: Option<Fragment>,
}

/// A fragment from an application that shares its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragment {
    /// The datagram it belongs to.
    pub datagram: Datagram,
    /// Whether it is the first one, whose source port is the sender's.
    pub is_first: bool,
}

/// Whether `sender` may send the frame of `frame_length` bytes that starts with
/// `header`.
///
/// # Errors
///
/// The cause for which it is to be dropped.
pub fn verify(
    directory: &Directory,
    sender: usize,
    header: &[u8],
    frame_length: usize,
    offload: FrameOffload,
) -> Result<Approved, EgressDrop> {
    let identity = directory.identity(sender);
    if header.len() < ETHERNET || frame_length < header.len() {
        return Err(EgressDrop::Malformed);
    }
    if !identity.is_reachable() {
        return Err(EgressDrop::NoAddress);
    }
    let ethernet = EthernetFrame::new_unchecked(header);
    if ethernet.src_addr() != identity.mac {
        return Err(EgressDrop::SourceMac);
    }
    if offload.segment_size == 0 && frame_length > MAXIMUM_UNSEGMENTED {
        return Err(EgressDrop::TooLong);
    }
    match ethernet.ethertype() {
        EthernetProtocol::Ipv4 => verify_ipv4(directory, identity, header, frame_length, offload),
        EthernetProtocol::Arp => {
            if offload != FrameOffload::default() {
                return Err(EgressDrop::Offload);
            }
            verify_arp(identity, &header[ETHERNET..])?;
            Ok(Approved {
                offload: None,
                wire_length: frame_length,
                fragment: None,
            })
        }
        EthernetProtocol::Ipv6 => ipv6::verify(directory, identity, header, frame_length, offload),
        EthernetProtocol::Unknown(_) => Err(EgressDrop::EtherType),
    }
}

/// ARP for its own address alone: a request or reply from it, or a probe for
/// it (RFC 5227, section 2.1.1).
fn verify_arp(identity: &Identity, packet: &[u8]) -> Result<(), EgressDrop> {
    if packet.len() < ARP {
        return Err(EgressDrop::HeaderTooShort);
    }
    let arp = ArpPacket::new_unchecked(packet);
    let is_ethernet_ipv4 = packet[..6] == [0, 1, 8, 0, 6, 4]
        && matches!(arp.operation(), ArpOperation::Request | ArpOperation::Reply);
    if !is_ethernet_ipv4 {
        return Err(EgressDrop::Malformed);
    }
    if !identity.has_ipv4() {
        return Err(EgressDrop::NoAddress);
    }
    let ours = identity.ipv4.octets();
    let is_probe = arp.operation() == ArpOperation::Request
        && arp.source_protocol_addr() == [0; 4]
        && arp.target_protocol_addr() == ours;
    if arp.source_hardware_addr() != identity.mac.as_bytes()
        || !(arp.source_protocol_addr() == ours || is_probe)
    {
        return Err(EgressDrop::Arp);
    }
    Ok(())
}

#[inline]
fn verify_ipv4(
    directory: &Directory,
    identity: &Identity,
    header: &[u8],
    frame_length: usize,
    offload: FrameOffload,
) -> Result<Approved, EgressDrop> {
    let packet = &header[ETHERNET..];
    if packet.len() < IPV4 {
        return Err(EgressDrop::HeaderTooShort);
    }
    let ipv4 = Ipv4Packet::new_unchecked(packet);
    let total = usize::from(ipv4.total_len());
    if ipv4.version() != 4
        || usize::from(ipv4.header_len()) < IPV4
        || total < usize::from(ipv4.header_len())
        || total > frame_length - ETHERNET
    {
        return Err(EgressDrop::Malformed);
    }
    // Options could route the answer elsewhere (RFC 7126) and nobody needs them.
    if usize::from(ipv4.header_len()) != IPV4 {
        return Err(EgressDrop::Options);
    }
    let is_fragment = ipv4.more_frags() || ipv4.frag_offset() != 0;
    if ipv4.src_addr().is_unspecified() {
        if !identity.dhcp_client {
            return Err(missing(identity));
        }
        if is_fragment || ipv4.next_header() != IpProtocol::Udp {
            return Err(EgressDrop::SourceAddress);
        }
        let to_all = EthernetFrame::new_unchecked(header)
            .dst_addr()
            .is_broadcast()
            && ipv4.dst_addr().is_broadcast();
        let ports = packet.get(IPV4..IPV4 + 4);
        if !to_all || ports != Some(&DHCP_PORTS) {
            return Err(EgressDrop::SourceAddress);
        }
    } else if ipv4.src_addr() != identity.ipv4 {
        return Err(missing(identity));
    }
    if is_fragment {
        // A whole TCP or ICMP header is all that makes these the sender's, and
        // nobody needs to send them in fragments.
        if !identity.is_alone() && ipv4.next_header() != IpProtocol::Udp {
            return Err(EgressDrop::Fragment);
        }
        if offload.transport_checksum || offload.segment_size != 0 {
            return Err(EgressDrop::Offload);
        }
        if ipv4.frag_offset() != 0 {
            return match ipv4.next_header() {
                IpProtocol::Tcp | IpProtocol::Udp | IpProtocol::Icmp => {
                    Ok(approved(frame_length, offload, Family::V4, None, 0)
                        .with_fragment(identity, &ipv4))
                }
                _ => Err(EgressDrop::Protocol),
            };
        }
    }
    // What the transport header says must hold for the packet, not for what
    // padding may follow it.
    let transport = &packet[IPV4..packet.len().min(total)];
    let transport_length = total - IPV4;
    match Protocol::from_number(packet[IPV4_PROTOCOL]) {
        Some(Protocol::Tcp) => {
            let length = verify_tcp(directory, identity, Family::V4, transport, transport_length)?;
            if offload.segment_size != 0 {
                verify_segmentation(total, frame_length, length, offload.segment_size)?;
            }
            Ok(approved(
                frame_length,
                offload,
                Family::V4,
                Some(Protocol::Tcp),
                length,
            ))
        }
        Some(Protocol::Udp) => {
            verify_udp(
                directory,
                identity,
                Family::V4,
                transport,
                transport_length,
                is_fragment,
            )?;
            if offload.segment_size != 0 {
                return Err(EgressDrop::Offload);
            }
            let approved = approved(frame_length, offload, Family::V4, Some(Protocol::Udp), UDP);
            Ok(if is_fragment {
                approved.with_fragment(identity, &ipv4)
            } else {
                approved
            })
        }
        None if ipv4.next_header() == IpProtocol::Icmp => {
            verify_icmp(directory, identity, transport, transport_length)?;
            if offload.transport_checksum || offload.segment_size != 0 {
                return Err(EgressDrop::Offload);
            }
            Ok(approved(frame_length, offload, Family::V4, None, 0))
        }
        None => Err(EgressDrop::Protocol),
    }
}

/// Why a source address that is not the sender's is refused.
fn missing(identity: &Identity) -> EgressDrop {
    if identity.has_ipv4() {
        EgressDrop::SourceAddress
    } else {
        EgressDrop::NoAddress
    }
}

#[inline(always)]
fn verify_tcp(
    directory: &Directory,
    identity: &Identity,
    family: Family,
    transport: &[u8],
    transport_length: usize,
) -> Result<usize, EgressDrop> {
    if transport.len() < TCP {
        return Err(too_short(transport_length, TCP));
    }
    let tcp = TcpPacket::new_unchecked(transport);
    let length = usize::from(tcp.header_len());
    if length < TCP || length > transport_length {
        return Err(EgressDrop::Malformed);
    }
    if length > transport.len() {
        return Err(EgressDrop::HeaderTooShort);
    }
    // A closed port answers with a reset, and a closed port is nobody's.
    let is_reset = tcp.rst() && !tcp.syn() && !tcp.fin() && length == transport_length;
    verify_port(
        directory,
        identity,
        family,
        Protocol::Tcp,
        tcp.src_port(),
        is_reset,
    )?;
    Ok(length)
}

fn verify_udp(
    directory: &Directory,
    identity: &Identity,
    family: Family,
    transport: &[u8],
    transport_length: usize,
    is_fragment: bool,
) -> Result<(), EgressDrop> {
    if transport.len() < UDP {
        return Err(too_short(transport_length, UDP));
    }
    let udp = UdpPacket::new_unchecked(transport);
    let length = usize::from(udp.len());
    let fits = if is_fragment {
        length > transport_length
    } else {
        length == transport_length
    };
    if !fits {
        return Err(EgressDrop::Malformed);
    }
    verify_port(
        directory,
        identity,
        family,
        Protocol::Udp,
        udp.src_port(),
        false,
    )
}

fn verify_port(
    directory: &Directory,
    identity: &Identity,
    family: Family,
    protocol: Protocol,
    port: u16,
    allowed_if_free: bool,
) -> Result<(), EgressDrop> {
    if identity.own_address {
        return Ok(());
    }
    let owner = directory.port_owner(family, protocol, port);
    if owner == identity.owner && owner != 0 || owner == 0 && allowed_if_free {
        return Ok(());
    }
    Err(EgressDrop::SourcePort)
}

/// Echo, and "unreachable" about a packet to a port that is its own or nobody's.
fn verify_icmp(
    directory: &Directory,
    identity: &Identity,
    message: &[u8],
    message_length: usize,
) -> Result<(), EgressDrop> {
    if message.len() < ICMP {
        return Err(too_short(message_length, ICMP));
    }
    match message[0] {
        ICMP_ECHO_REPLY => Ok(()),
        ICMP_ECHO_REQUEST => {
            // Sharers of an address are told apart by the identifier: it is
            // treated as a UDP port.
            let identifier = u16::from_be_bytes([message[4], message[5]]);
            if identity.is_alone() {
                return Ok(());
            }
            verify_port(
                directory,
                identity,
                Family::V4,
                Protocol::Udp,
                identifier,
                false,
            )
            .map_err(|_| EgressDrop::Icmp)
        }
        ICMP_UNREACHABLE => {
            let quoted = &message[ICMP..];
            if quoted.len() < IPV4 + 4 {
                return Err(too_short(message_length, ICMP + IPV4 + 4));
            }
            let ipv4 = Ipv4Packet::new_unchecked(quoted);
            let length = usize::from(ipv4.header_len());
            if ipv4.version() != 4 || length < IPV4 || ipv4.dst_addr() != identity.ipv4 {
                return Err(EgressDrop::Icmp);
            }
            let Some(ports) = quoted.get(length..length + 4) else {
                return Err(too_short(message_length, ICMP + length + 4));
            };
            let protocol = ipv4.next_header().into();
            unreachable_is_about_own_port(directory, identity, Family::V4, protocol, ports)
        }
        _ => Err(EgressDrop::Icmp),
    }
}

/// Whether a packet of this protocol number with these ports, source and destination,
/// was for a port that is its own or nobody's.
fn unreachable_is_about_own_port(
    directory: &Directory,
    identity: &Identity,
    family: Family,
    protocol: u8,
    ports: &[u8],
) -> Result<(), EgressDrop> {
    let destination = u16::from_be_bytes([ports[2], ports[3]]);
    let Some(protocol) = Protocol::from_number(protocol) else {
        return if identity.is_alone() {
            Ok(())
        } else {
            Err(EgressDrop::Icmp)
        };
    };
    verify_port(directory, identity, family, protocol, destination, true)
        .map_err(|_| EgressDrop::Icmp)
}

fn verify_segmentation(
    total: usize,
    frame_length: usize,
    tcp_header: usize,
    segment_size: u16,
) -> Result<(), EgressDrop> {
    if total != frame_length - ETHERNET {
        return Err(EgressDrop::Malformed);
    }
    if segment_size < MINIMUM_SEGMENT_SIZE {
        return Err(EgressDrop::Offload);
    }
    if ETHERNET + IPV4 + tcp_header + usize::from(segment_size) > MAXIMUM_UNSEGMENTED {
        return Err(EgressDrop::TooLong);
    }
    Ok(())
}

/// Whose fault it is that a header is not there: the packet has none, or it was
/// not declared.
fn too_short(available: usize, needed: usize) -> EgressDrop {
    if available < needed {
        EgressDrop::Malformed
    } else {
        EgressDrop::HeaderTooShort
    }
}

#[inline(always)]
fn approved(
    frame_length: usize,
    offload: FrameOffload,
    family: Family,
    transport: Option<Protocol>,
    transport_header_length: usize,
) -> Approved {
    let ip_header_length = match family {
        Family::V4 => IPV4,
        Family::V6 => IPV6,
    };
    let headers = ETHERNET + ip_header_length + transport_header_length;
    let segments = match offload.segment_size {
        0 => 1,
        size => (frame_length - headers).div_ceil(usize::from(size)).max(1),
    };
    let wanted = offload.ipv4_checksum || offload.transport_checksum;
    let transport = transport.filter(|_| offload.transport_checksum);
    Approved {
        offload: wanted.then_some(SendOffload {
            family,
            ip_header_length,
            transport,
            transport_header_length: if transport.is_some() {
                transport_header_length
            } else {
                0
            },
            segment_size: offload.segment_size,
        }),
        wire_length: frame_length + (segments - 1) * headers,
        fragment: None,
    }
}

impl Approved {
    /// Fragments of one datagram are found by an identifier that any sharer of
    /// the address can choose, and only the first carries ports.
    fn with_fragment(self, identity: &Identity, ipv4: &Ipv4Packet<&[u8]>) -> Self {
        let fragment = Fragment {
            datagram: Datagram {
                ours: ipv4.src_addr(),
                peer: ipv4.dst_addr(),
                protocol: Protocol::Udp,
                identification: ipv4.ident(),
            },
            is_first: ipv4.frag_offset() == 0,
        };
        Self {
            fragment: (!identity.is_alone()).then_some(fragment),
            ..self
        }
    }
}
