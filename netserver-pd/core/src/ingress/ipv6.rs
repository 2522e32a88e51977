//! Whose is this received IPv6 frame?

use super::{Answer, ETHERNET, LONG_HEADER, Origin, Refusal, by_port, port, responder, short};
use crate::directory::{Applications, Directory, Identity};
use crate::ipv6::{
    ALL_NODES, FRAGMENT, ICMPV6, IPV6, LINK_LAYER_OPTION, NEIGHBOR, NEIGHBOR_HOP_LIMIT,
    SOURCE_LINK_LAYER, is_extension_header, is_solicited_node, message, solicited_node, target,
};
use segue_portmap_core::{Family, Protocol};
use segue_status::network::IngressDrop;
use smoltcp::wire::{EthernetFrame, IpProtocol, Ipv6Address, Ipv6Packet};

/// How much of a solicitation is looked at: all of it, unless it has long options.
const SOLICITATION: usize = LONG_HEADER - ETHERNET - IPV6;

/// A frame whose IPv6 header is sound, and what follows that header: as much of
/// the payload as is at hand, and its length.
struct Received<'a> {
    directory: &'a Directory,
    up: Applications,
    origin: Origin,
    ethernet: EthernetFrame<&'a [u8]>,
    ipv6: Ipv6Packet<&'a [u8]>,
    payload: &'a [u8],
    length: usize,
}

pub(super) fn decide(
    directory: &Directory,
    up: Applications,
    origin: Origin,
    header: &[u8],
    frame_length: usize,
) -> Result<Applications, Refusal> {
    let packet = &header[ETHERNET..];
    if packet.len() < IPV6 {
        return Err(IngressDrop::Malformed.into());
    }
    let ipv6 = Ipv6Packet::new_unchecked(packet);
    let length = usize::from(ipv6.payload_len());
    if ipv6.version() != 6 || IPV6 + length > frame_length - ETHERNET {
        return Err(IngressDrop::Malformed.into());
    }
    if origin == Origin::Network && directory.with_ipv6(ipv6.src_addr()).is_some() {
        return Err(IngressDrop::SourceAddress.into());
    }
    let ethernet = EthernetFrame::new_unchecked(header);
    let destination = ipv6.dst_addr();
    let payload = &packet[IPV6..packet.len().min(IPV6 + length)];
    let received = Received {
        directory,
        up,
        origin,
        ethernet,
        ipv6,
        payload,
        length,
    };
    if destination.is_multicast() {
        return received.multicast(destination);
    }
    // An IP address does not make a frame ours.
    let Some(identity) = directory
        .with_ipv6(destination)
        .filter(|identity| received.ethernet.dst_addr() == identity.mac)
    else {
        return Err(IngressDrop::NotOurAddress.into());
    };
    if identity.is_alone() {
        return Ok(identity.sharers);
    }
    let (protocol, answer) = match received.ipv6.next_header() {
        IpProtocol::Tcp => (Protocol::Tcp, Answer::Reset),
        IpProtocol::Udp => (Protocol::Udp, Answer::Unreachable),
        IpProtocol::Icmpv6 => return received.icmpv6(identity),
        other => return Err(unserved(other).into()),
    };
    let port = port(payload, 2, length)?;
    match directory.application_with_port(Family::V6, protocol, port, identity.sharers) {
        Some(owner) => Ok(owner),
        None => {
            // Checks that somebody is there whose port it could be.
            responder(identity, up)?;
            Err(Refusal::Answer(answer))
        }
    }
}

/// Why a packet with this next header is dropped.
fn unserved(next_header: IpProtocol) -> IngressDrop {
    match u8::from(next_header) {
        FRAGMENT => IngressDrop::Fragment,
        number if is_extension_header(number) => IngressDrop::ExtensionHeader,
        _ => IngressDrop::Protocol,
    }
}

impl Received<'_> {
    /// Solicitations reach us so. Who is alone gets all that is for its group.
    fn multicast(&self, group: Ipv6Address) -> Result<Applications, Refusal> {
        if group != ALL_NODES && !is_solicited_node(group) {
            return Err(IngressDrop::Multicast.into());
        }
        if self.ipv6.next_header() == IpProtocol::Icmpv6
            && self.payload.first() == Some(&message::NEIGHBOR_SOLICITATION)
        {
            return self.solicitation(None);
        }
        match self.directory.alone_in_group(group) {
            0 => Err(IngressDrop::Multicast.into()),
            applications => Ok(applications),
        }
    }

    /// The server answers for those who share an address.
    fn solicitation(&self, receiver: Option<&Identity>) -> Result<Applications, Refusal> {
        if self.length < NEIGHBOR {
            return Err(IngressDrop::Malformed.into());
        }
        let looked_at = self.length.min(SOLICITATION);
        let bytes = self.payload.get(..looked_at).ok_or(Refusal::Short)?;
        let not_for_us = Refusal::Drop(IngressDrop::NeighborDiscovery);
        let Some(identity) = self.directory.with_ipv6(target(bytes)) else {
            return Err(not_for_us);
        };
        if receiver.is_some_and(|receiver| receiver.sharers != identity.sharers) {
            return Err(not_for_us);
        }
        if identity.is_alone() {
            return Ok(identity.sharers);
        }
        responder(identity, self.up)?;
        if self.is_genuine(bytes) {
            Err(Refusal::Answer(Answer::Neighbor))
        } else {
            Err(IngressDrop::Malformed.into())
        }
    }

    /// Whether a solicitation is one that may be answered (RFC 4861, section
    /// 7.1.1): from this link, and from one host, which is who it says it is.
    fn is_genuine(&self, bytes: &[u8]) -> bool {
        let (asker, source) = (self.ethernet.src_addr(), self.ipv6.src_addr());
        let is_probe = source.is_unspecified();
        if self.ipv6.hop_limit() != NEIGHBOR_HOP_LIMIT
            || bytes[1] != 0
            || !asker.is_unicast()
            || source.is_multicast()
            || source.is_loopback()
            || is_probe && self.ipv6.dst_addr() != solicited_node(target(bytes))
        {
            return false;
        }
        let mut options = &bytes[NEIGHBOR..];
        while let [kind, units, ..] = *options {
            let length = LINK_LAYER_OPTION * usize::from(units);
            if length == 0 || length > options.len() && self.length <= SOLICITATION {
                return false;
            }
            let (option, rest) = options.split_at(length.min(options.len()));
            if kind == SOURCE_LINK_LAYER && (is_probe || units != 1 || option[2..] != asker.0) {
                return false;
            }
            options = rest;
        }
        // Options come in units of eight bytes.
        options.is_empty()
    }

    /// Echo requests are answered by the server; replies and errors go to whom the
    /// packet that caused them came from; advertisements to all, since each has
    /// neighbours of its own.
    fn icmpv6(&self, identity: &Identity) -> Result<Applications, Refusal> {
        if self.length < ICMPV6 {
            return Err(IngressDrop::Malformed.into());
        }
        match *self.payload.first().ok_or(Refusal::Short)? {
            message::ECHO_REQUEST => {
                responder(identity, self.up)?;
                Err(Refusal::Answer(Answer::Echo))
            }
            message::ECHO_REPLY => {
                let identifier = port(self.payload, 4, self.length)?;
                self.by_port(identity, Protocol::Udp, identifier)
            }
            message::UNREACHABLE
            | message::PACKET_TOO_BIG
            | message::TIME_EXCEEDED
            | message::PARAMETER_PROBLEM => self.error(identity),
            message::NEIGHBOR_SOLICITATION => self.solicitation(Some(identity)),
            message::NEIGHBOR_ADVERTISEMENT => self.advertisement(identity),
            // Nobody here takes orders from the network.
            message::ROUTER_SOLICITATION | message::ROUTER_ADVERTISEMENT | message::REDIRECT => {
                Err(IngressDrop::NeighborDiscovery.into())
            }
            _ => Err(IngressDrop::Icmp.into()),
        }
    }

    /// An error concerns whoever sent the packet that it quotes.
    fn error(&self, identity: &Identity) -> Result<Applications, Refusal> {
        let quoted = self.payload.get(ICMPV6..).unwrap_or_default();
        let quoted_length = self.length - ICMPV6;
        if quoted.len() < IPV6 {
            return Err(short(quoted_length, IPV6));
        }
        let ipv6 = Ipv6Packet::new_unchecked(quoted);
        if ipv6.version() != 6 || !identity.has_ipv6(ipv6.src_addr()) {
            return Err(IngressDrop::Icmp.into());
        }
        let (quoted, length) = (&quoted[IPV6..], quoted_length - IPV6);
        let (protocol, port) = match ipv6.next_header() {
            IpProtocol::Tcp => (Protocol::Tcp, port(quoted, 0, length)?),
            IpProtocol::Udp => (Protocol::Udp, port(quoted, 0, length)?),
            IpProtocol::Icmpv6 => {
                let identifier = port(quoted, 4, length)?;
                if quoted[0] != message::ECHO_REQUEST {
                    return Err(IngressDrop::Icmp.into());
                }
                (Protocol::Udp, identifier)
            }
            _ => return Err(IngressDrop::Icmp.into()),
        };
        self.by_port(identity, protocol, port)
    }

    fn advertisement(&self, identity: &Identity) -> Result<Applications, Refusal> {
        if self.length < NEIGHBOR {
            return Err(IngressDrop::Malformed.into());
        }
        let bytes = self.payload.get(..NEIGHBOR).ok_or(Refusal::Short)?;
        if self.ipv6.hop_limit() != NEIGHBOR_HOP_LIMIT || bytes[1] != 0 {
            return Err(IngressDrop::NeighborDiscovery.into());
        }
        // Nobody there has an address of ours, whatever it says.
        let is_of_ours = self.directory.with_ipv6(target(bytes)).is_some();
        if self.origin == Origin::Network && is_of_ours {
            return Err(IngressDrop::SourceAddress.into());
        }
        Ok(identity.sharers)
    }

    fn by_port(
        &self,
        identity: &Identity,
        protocol: Protocol,
        port: u16,
    ) -> Result<Applications, Refusal> {
        by_port(self.directory, identity, Family::V6, protocol, port)
    }
}
