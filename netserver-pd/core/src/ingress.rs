//! Whose is this received frame?
//!
//! Who is alone at an address gets everything for it. Sharers of an address are
//! told apart by protocol and destination port; what has no port has a defined
//! answer, documented at each rule.

mod ipv6;

use crate::directory::{Applications, Directory, Identity};
use crate::fragments::Datagram;
use segue_portmap_core::{Family, Protocol};
use segue_status::network::IngressDrop;
use smoltcp::wire::{
    ArpOperation, ArpPacket, EthernetAddress, EthernetFrame, EthernetProtocol, IpProtocol,
    Ipv4Address, Ipv4Packet,
};

/// How much of a frame decides in nearly all cases.
pub const SHORT_HEADER: usize = 64;
/// How much of a frame decides in all cases: Ethernet (14), IPv4 (60), ICMP (8),
/// the quoted IPv4 (60) and ports (8); with IPv6 (40 and 40) it takes less.
pub const LONG_HEADER: usize = 150;

const ETHERNET: usize = 14;
const IPV4: usize = 20;
/// Where an IPv4 header has the number of what follows it.
const IPV4_PROTOCOL: usize = 9;
const ARP: usize = 28;
const ICMP: usize = 8;
const DHCP_CLIENT_PORT: u16 = 68;
const TCP: usize = 20;
const UDP: usize = 8;

/// What is to be done with a received frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It goes to these applications: at least one, all up.
    Deliver(Applications),
    /// It concerns a shared address as a whole: the server answers.
    Answer(Answer),
    /// It is the first fragment of a datagram for these applications, which get
    /// the others, too.
    FirstFragment(Datagram, Applications),
    /// It goes to whoever got the first fragment of its datagram.
    LaterFragment(Datagram),
    /// It goes nowhere.
    Drop(IngressDrop),
    /// It takes [`LONG_HEADER`] bytes of it to decide.
    Longer,
}

impl Decision {
    /// The applications that get the frame, as far as the frame itself says.
    pub fn recipients(&self) -> Applications {
        match self {
            Self::Deliver(applications) | Self::FirstFragment(_, applications) => *applications,
            _ => 0,
        }
    }
}

/// How the server answers for those who share an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// An ARP reply: so none of them can keep the others from being found.
    Arp,
    /// A neighbour advertisement, for the same reason.
    Neighbor,
    /// An echo reply.
    Echo,
    /// A reset: the TCP port is free.
    Reset,
    /// "Port unreachable": the UDP port is free.
    Unreachable,
}

/// Where a frame comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// From the network, where nobody has an address of ours.
    Network,
    /// From an application, verified.
    Application,
}

/// Decides about the frame of `frame_length` bytes that starts with `header`,
/// which is the whole frame or at least [`SHORT_HEADER`] bytes of it; less, if all
/// its headers are there. `up` are the applications that can receive now.
pub fn demultiplex(
    directory: &Directory,
    up: Applications,
    origin: Origin,
    header: &[u8],
    frame_length: usize,
) -> Decision {
    match decide(directory, up, origin, header, frame_length) {
        Ok(mut applications) => {
            // What is for a group comes to each function of the card. A frame for one MAC
            // address comes to one alone: here, while its owner changes modes.
            if directory.direct() != 0 && origin == Origin::Network && is_for_group(header) {
                applications &= !directory.direct();
                if applications == 0 {
                    return Decision::Drop(IngressDrop::DirectMode);
                }
            }
            match applications & up {
                0 => Decision::Drop(IngressDrop::ChannelDown),
                applications => Decision::Deliver(applications),
            }
        }
        // What lies beyond the header at hand may lie inside the frame.
        Err(Refusal::Short) if header.len() < frame_length.min(LONG_HEADER) => Decision::Longer,
        Err(Refusal::Short) => Decision::Drop(IngressDrop::Malformed),
        Err(Refusal::Answer(answer)) => Decision::Answer(answer),
        Err(Refusal::First(datagram, applications)) => match applications & up {
            0 => Decision::Drop(IngressDrop::ChannelDown),
            applications => Decision::FirstFragment(datagram, applications),
        },
        Err(Refusal::Later(datagram)) => Decision::LaterFragment(datagram),
        Err(Refusal::Drop(cause)) => Decision::Drop(cause),
    }
}

/// Whether this frame's destination MAC address is for all, or for a multicast group.
pub(crate) fn is_for_group(header: &[u8]) -> bool {
    header.first().is_some_and(|byte| byte & 1 != 0)
}

enum Refusal {
    Short,
    Answer(Answer),
    First(Datagram, Applications),
    Later(Datagram),
    Drop(IngressDrop),
}

impl From<IngressDrop> for Refusal {
    fn from(cause: IngressDrop) -> Self {
        Self::Drop(cause)
    }
}

fn decide(
    directory: &Directory,
    up: Applications,
    origin: Origin,
    header: &[u8],
    frame_length: usize,
) -> Result<Applications, Refusal> {
    if header.len() < ETHERNET || frame_length < header.len() {
        return Err(IngressDrop::Malformed.into());
    }
    let ethernet = EthernetFrame::new_unchecked(header);
    let to = ethernet.dst_addr();
    if to.is_unicast() && !directory.has_mac(to) {
        return Err(IngressDrop::NotOurAddress.into());
    }
    match ethernet.ethertype() {
        EthernetProtocol::Ipv4 => ipv4(directory, up, origin, header, frame_length),
        EthernetProtocol::Arp => arp(directory, up, &ethernet, &header[ETHERNET..]),
        EthernetProtocol::Ipv6 => ipv6::decide(directory, up, origin, header, frame_length),
        EthernetProtocol::Unknown(_) => Err(IngressDrop::EtherType.into()),
    }
}

/// The server answers for those who share an address; a reply goes to all of
/// them, since each has neighbours of its own.
fn arp(
    directory: &Directory,
    up: Applications,
    ethernet: &EthernetFrame<&[u8]>,
    packet: &[u8],
) -> Result<Applications, Refusal> {
    if packet.len() < ARP || packet[..6] != [0, 1, 8, 0, 6, 4] {
        return Err(IngressDrop::Malformed.into());
    }
    let arp = ArpPacket::new_unchecked(packet);
    let mut target = [0; 4];
    target.copy_from_slice(arp.target_protocol_addr());
    let Some(identity) = directory.with_address(Ipv4Address::from(target)) else {
        return Err(IngressDrop::ArpNotOurs.into());
    };
    match arp.operation() {
        ArpOperation::Request if identity.is_alone() => Ok(identity.sharers),
        ArpOperation::Request => {
            // Checks that there is somebody to be found.
            responder(identity, up)?;
            // Whoever asks is asked for by its own address, which is one host's.
            let asker = EthernetAddress::from_bytes(arp.source_hardware_addr());
            if !asker.is_unicast() || asker != ethernet.src_addr() {
                return Err(IngressDrop::Malformed.into());
            }
            Err(Refusal::Answer(Answer::Arp))
        }
        ArpOperation::Reply => Ok(identity.sharers),
        ArpOperation::Unknown(_) => Err(IngressDrop::Malformed.into()),
    }
}

fn ipv4(
    directory: &Directory,
    up: Applications,
    origin: Origin,
    header: &[u8],
    frame_length: usize,
) -> Result<Applications, Refusal> {
    let packet = &header[ETHERNET..];
    if packet.len() < IPV4 {
        return Err(IngressDrop::Malformed.into());
    }
    let ipv4 = Ipv4Packet::new_unchecked(packet);
    let (length, total) = (
        usize::from(ipv4.header_len()),
        usize::from(ipv4.total_len()),
    );
    if ipv4.version() != 4 || length < IPV4 || total < length || total > frame_length - ETHERNET {
        return Err(IngressDrop::Malformed.into());
    }
    if origin == Origin::Network && directory.with_address(ipv4.src_addr()).is_some() {
        return Err(IngressDrop::SourceAddress.into());
    }
    if let Some(client) = dhcp(directory, &ipv4, header, total)? {
        // Another application could pretend to be the DHCP server.
        return match origin {
            Origin::Network => Ok(client),
            Origin::Application => Err(IngressDrop::NoOwner.into()),
        };
    }
    let destination = ipv4.dst_addr();
    let Some(identity) = directory.with_address(destination) else {
        return if directory.is_broadcast(destination) {
            broadcast(directory, &ipv4, packet, total)
        } else if destination.is_multicast() {
            Err(IngressDrop::Multicast.into())
        } else {
            Err(IngressDrop::NotOurAddress.into())
        };
    };
    // An IP address does not make a frame ours (RFC 1122, section 3.3.6).
    if EthernetFrame::new_unchecked(header).dst_addr() != identity.mac {
        return Err(IngressDrop::NotOurAddress.into());
    }
    if identity.is_alone() {
        return Ok(identity.sharers);
    }
    let payload = &packet[length.min(packet.len())..packet.len().min(total)];
    let payload_length = total - length;
    if ipv4.more_frags() || ipv4.frag_offset() != 0 {
        return fragment(directory, identity, &ipv4, payload, payload_length);
    }
    let (protocol, answer) = match Protocol::from_number(packet[IPV4_PROTOCOL]) {
        Some(Protocol::Tcp) => (Protocol::Tcp, Answer::Reset),
        Some(Protocol::Udp) => (Protocol::Udp, Answer::Unreachable),
        None if ipv4.next_header() == IpProtocol::Icmp => {
            return icmp(directory, up, identity, payload, payload_length);
        }
        None => return Err(IngressDrop::Protocol.into()),
    };
    let port = port(payload, 2, payload_length)?;
    match directory.application_with_port(Family::V4, protocol, port, identity.sharers) {
        Some(owner) => Ok(owner),
        None => {
            // Checks that somebody is there whose port it could be.
            responder(identity, up)?;
            Err(Refusal::Answer(answer))
        }
    }
}

/// The DHCP client among the applications, if the packet is what a DHCP server says to
/// it: whatever its IPv4 destination is, since that may be an address only offered.
fn dhcp(
    directory: &Directory,
    ipv4: &Ipv4Packet<&[u8]>,
    header: &[u8],
    total: usize,
) -> Result<Option<Applications>, Refusal> {
    let clients = directory.dhcp_clients();
    let is_fragment = ipv4.more_frags() || ipv4.frag_offset() != 0;
    if clients == 0 || is_fragment || ipv4.next_header() != IpProtocol::Udp {
        return Ok(None);
    }
    let length = usize::from(ipv4.header_len());
    let packet = &header[ETHERNET..];
    let payload = &packet[length.min(packet.len())..packet.len().min(total)];
    if port(payload, 2, total - length)? != DHCP_CLIENT_PORT {
        return Ok(None);
    }
    let to = EthernetFrame::new_unchecked(header).dst_addr();
    let clients =
        directory.application_with_port(Family::V4, Protocol::Udp, DHCP_CLIENT_PORT, clients);
    Ok(clients.filter(|client| {
        to.is_broadcast() || directory.identity(client.trailing_zeros() as usize).mac == to
    }))
}

/// A fragment for those who share an address: the first one must have the whole
/// transport header, and no later one may reach back into it (RFC 1858).
fn fragment(
    directory: &Directory,
    identity: &Identity,
    ipv4: &Ipv4Packet<&[u8]>,
    payload: &[u8],
    payload_length: usize,
) -> Result<Applications, Refusal> {
    let (protocol, header) = match ipv4.next_header() {
        IpProtocol::Tcp => (Protocol::Tcp, TCP),
        IpProtocol::Udp => (Protocol::Udp, UDP),
        _ => return Err(IngressDrop::Fragment.into()),
    };
    let datagram = Datagram {
        ours: ipv4.dst_addr(),
        peer: ipv4.src_addr(),
        protocol,
        identification: ipv4.ident(),
    };
    let offset = usize::from(ipv4.frag_offset());
    if offset == 0 && payload_length < header || (1..header).contains(&offset) {
        return Err(IngressDrop::ShortFragment.into());
    }
    if offset != 0 {
        return Err(Refusal::Later(datagram));
    }
    let port = port(payload, 2, payload_length)?;
    match directory.application_with_port(Family::V4, protocol, port, identity.sharers) {
        Some(owner) => Err(Refusal::First(datagram, owner)),
        None => Err(IngressDrop::NoOwner.into()),
    }
}

/// A broadcast is for whoever owns its UDP port, at whatever address.
fn broadcast(
    directory: &Directory,
    ipv4: &Ipv4Packet<&[u8]>,
    packet: &[u8],
    total: usize,
) -> Result<Applications, Refusal> {
    if ipv4.more_frags() || ipv4.frag_offset() != 0 {
        return Err(IngressDrop::Fragment.into());
    }
    match ipv4.next_header() {
        IpProtocol::Udp => {}
        IpProtocol::Icmp => return Err(IngressDrop::Icmp.into()),
        _ => return Err(IngressDrop::Protocol.into()),
    }
    let length = usize::from(ipv4.header_len());
    let payload = &packet[length.min(packet.len())..packet.len().min(total)];
    let port = port(payload, 2, total - length)?;
    directory
        .application_with_port(Family::V4, Protocol::Udp, port, directory.sharing())
        .ok_or(Refusal::Drop(IngressDrop::NoOwner))
}

/// Echo requests are answered by the server; replies and errors go to whom the
/// packet that caused them came from.
fn icmp(
    directory: &Directory,
    up: Applications,
    identity: &Identity,
    message: &[u8],
    message_length: usize,
) -> Result<Applications, Refusal> {
    if message_length < ICMP {
        return Err(IngressDrop::Malformed.into());
    }
    match message.first().ok_or(Refusal::Short)? {
        8 => {
            responder(identity, up)?;
            Err(Refusal::Answer(Answer::Echo))
        }
        0 => by_port(
            directory,
            identity,
            Family::V4,
            Protocol::Udp,
            port(message, 4, message_length)?,
        ),
        // Destination unreachable, time exceeded, parameter problem.
        3 | 11 | 12 => {
            let quoted = message.get(ICMP..).unwrap_or_default();
            let quoted_length = message_length - ICMP;
            if quoted.len() < IPV4 {
                return Err(short(quoted_length, IPV4));
            }
            let ipv4 = Ipv4Packet::new_unchecked(quoted);
            let length = usize::from(ipv4.header_len());
            if ipv4.version() != 4
                || length < IPV4
                || ipv4.src_addr() != identity.ipv4
                || ipv4.frag_offset() != 0
            {
                return Err(IngressDrop::Icmp.into());
            }
            let quoted_length = quoted_length.saturating_sub(length);
            let quoted = quoted.get(length..).unwrap_or_default();
            match ipv4.next_header() {
                IpProtocol::Tcp => by_port(
                    directory,
                    identity,
                    Family::V4,
                    Protocol::Tcp,
                    port(quoted, 0, quoted_length)?,
                ),
                IpProtocol::Udp => by_port(
                    directory,
                    identity,
                    Family::V4,
                    Protocol::Udp,
                    port(quoted, 0, quoted_length)?,
                ),
                IpProtocol::Icmp => by_port(
                    directory,
                    identity,
                    Family::V4,
                    Protocol::Udp,
                    port(quoted, 4, quoted_length)?,
                ),
                _ => Err(IngressDrop::Icmp.into()),
            }
        }
        // Redirects above all: nobody here takes orders from the network.
        _ => Err(IngressDrop::Icmp.into()),
    }
}

fn by_port(
    directory: &Directory,
    identity: &Identity,
    family: Family,
    protocol: Protocol,
    port: u16,
) -> Result<Applications, Refusal> {
    directory
        .application_with_port(family, protocol, port, identity.sharers)
        .ok_or(Refusal::Drop(IngressDrop::NoOwner))
}

/// The server answers only while one of those is there for whom it does.
fn responder(identity: &Identity, up: Applications) -> Result<(), Refusal> {
    if identity.sharers & up == 0 {
        return Err(IngressDrop::ChannelDown.into());
    }
    Ok(())
}

/// The 16-bit number at `offset`, of what is `length` bytes long but may be cut.
fn port(bytes: &[u8], offset: usize, length: usize) -> Result<u16, Refusal> {
    match bytes.get(offset..offset + 2) {
        Some(bytes) => Ok(u16::from_be_bytes([bytes[0], bytes[1]])),
        None => Err(short(length, offset + 2)),
    }
}

fn short(length: usize, needed: usize) -> Refusal {
    if length < needed {
        Refusal::Drop(IngressDrop::Malformed)
    } else {
        Refusal::Short
    }
}
