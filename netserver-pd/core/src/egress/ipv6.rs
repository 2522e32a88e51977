//! May this application send this IPv6 frame?

use super::{
    Approved, ETHERNET, UDP, approved, too_short, unreachable_is_about_own_port, verify_port,
    verify_tcp, verify_udp,
};
use crate::directory::{Directory, Identity};
use crate::ipv6::{
    FRAGMENT, ICMPV6, IPV6, LINK_LAYER_OPTION, NEIGHBOR, NEIGHBOR_HOP_LIMIT, SOURCE_LINK_LAYER,
    TARGET_LINK_LAYER, is_extension_header, message, solicited_node, target,
};
use segue_frame_channel::FrameOffload;
use segue_portmap_core::{Family, Protocol};
use segue_status::network::EgressDrop;
use smoltcp::wire::{IpProtocol, Ipv6Packet};

/// "I am a router", in an advertisement's flags.
const ROUTER_FLAG: u8 = 0x80;

pub(super) fn verify(
    directory: &Directory,
    identity: &Identity,
    header: &[u8],
    frame_length: usize,
    offload: FrameOffload,
) -> Result<Approved, EgressDrop> {
    let packet = &header[ETHERNET..];
    if packet.len() < IPV6 {
        return Err(EgressDrop::HeaderTooShort);
    }
    let ipv6 = Ipv6Packet::new_unchecked(packet);
    let payload_length = usize::from(ipv6.payload_len());
    if ipv6.version() != 6 || IPV6 + payload_length > frame_length - ETHERNET {
        return Err(EgressDrop::Malformed);
    }
    // What the transport header says must hold for the packet, not for what
    // padding may follow it.
    let transport = &packet[IPV6..packet.len().min(IPV6 + payload_length)];
    let next_header = ipv6.next_header();
    if !identity.has_ipv6(ipv6.src_addr()) {
        // Who asks whether its address is free does not have it yet.
        let is_probe = ipv6.src_addr().is_unspecified()
            && next_header == IpProtocol::Icmpv6
            && transport.first() == Some(&message::NEIGHBOR_SOLICITATION);
        if !is_probe {
            return Err(EgressDrop::SourceAddress);
        }
    }
    // There is no checksum of the header, and segments are IPv4's alone.
    if offload.ipv4_checksum || offload.segment_size != 0 {
        return Err(EgressDrop::Offload);
    }
    let approved = |transport, length| {
        Ok(approved(
            frame_length,
            offload,
            Family::V6,
            transport,
            length,
        ))
    };
    match next_header {
        IpProtocol::Tcp => {
            let length = verify_tcp(directory, identity, Family::V6, transport, payload_length)?;
            approved(Some(Protocol::Tcp), length)
        }
        IpProtocol::Udp => {
            verify_udp(
                directory,
                identity,
                Family::V6,
                transport,
                payload_length,
                false,
            )?;
            approved(Some(Protocol::Udp), UDP)
        }
        IpProtocol::Icmpv6 => {
            verify_icmpv6(directory, identity, &ipv6, transport, payload_length)?;
            if offload.transport_checksum {
                return Err(EgressDrop::Offload);
            }
            approved(None, 0)
        }
        other if u8::from(other) == FRAGMENT => Err(EgressDrop::Fragment),
        other if is_extension_header(other.into()) => Err(EgressDrop::ExtensionHeader),
        _ => Err(EgressDrop::Protocol),
    }
}

/// Echo, "unreachable" about a packet to a port that is its own or nobody's, and
/// neighbour discovery that speaks for its own addresses.
fn verify_icmpv6(
    directory: &Directory,
    identity: &Identity,
    ipv6: &Ipv6Packet<&[u8]>,
    bytes: &[u8],
    length: usize,
) -> Result<(), EgressDrop> {
    if bytes.len() < ICMPV6 {
        return Err(too_short(length, ICMPV6));
    }
    match bytes[0] {
        message::ECHO_REPLY => Ok(()),
        message::ECHO_REQUEST => {
            if identity.is_alone() {
                return Ok(());
            }
            let identifier = u16::from_be_bytes([bytes[4], bytes[5]]);
            verify_port(
                directory,
                identity,
                Family::V6,
                Protocol::Udp,
                identifier,
                false,
            )
            .map_err(|_| EgressDrop::Icmp)
        }
        message::UNREACHABLE => {
            let quoted = &bytes[ICMPV6..];
            if quoted.len() < IPV6 + 4 {
                return Err(too_short(length, ICMPV6 + IPV6 + 4));
            }
            let about = Ipv6Packet::new_unchecked(quoted);
            if about.version() != 6 || !identity.has_ipv6(about.dst_addr()) {
                return Err(EgressDrop::Icmp);
            }
            let ports = &quoted[IPV6..IPV6 + 4];
            let protocol = about.next_header().into();
            unreachable_is_about_own_port(directory, identity, Family::V6, protocol, ports)
        }
        message::NEIGHBOR_SOLICITATION | message::NEIGHBOR_ADVERTISEMENT => {
            if length < NEIGHBOR {
                return Err(EgressDrop::Malformed);
            }
            if bytes.len() < length {
                return Err(EgressDrop::HeaderTooShort);
            }
            if speaks_for_itself(identity, ipv6, bytes) {
                Ok(())
            } else {
                Err(EgressDrop::NeighborDiscovery)
            }
        }
        message::ROUTER_SOLICITATION | message::ROUTER_ADVERTISEMENT | message::REDIRECT => {
            Err(EgressDrop::NeighborDiscovery)
        }
        _ => Err(EgressDrop::Icmp),
    }
}

/// Whether a neighbour solicitation or advertisement tells others nothing but the
/// sender's own addresses. All of it is at hand.
fn speaks_for_itself(identity: &Identity, ipv6: &Ipv6Packet<&[u8]>, bytes: &[u8]) -> bool {
    if ipv6.hop_limit() != NEIGHBOR_HOP_LIMIT || bytes[1] != 0 {
        return false;
    }
    let (target, option) = (target(bytes), &bytes[NEIGHBOR..]);
    let says_its_mac = |kind| {
        option.len() == LINK_LAYER_OPTION
            && option[..2] == [kind, 1]
            && option[2..] == identity.mac.0
    };
    if bytes[0] == message::NEIGHBOR_ADVERTISEMENT {
        bytes[4] & ROUTER_FLAG == 0
            && identity.has_ipv6(target)
            && (option.is_empty() || says_its_mac(TARGET_LINK_LAYER))
    } else if ipv6.src_addr().is_unspecified() {
        // A probe (RFC 4862, section 5.4.2).
        identity.has_ipv6(target) && ipv6.dst_addr() == solicited_node(target) && option.is_empty()
    } else {
        !target.is_multicast() && (option.is_empty() || says_its_mac(SOURCE_LINK_LAYER))
    }
}
