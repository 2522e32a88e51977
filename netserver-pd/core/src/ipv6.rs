//! Numbers of IPv6, ICMPv6 and neighbour discovery that several rules need.

use smoltcp::wire::{EthernetAddress, Ipv6Address};

/// Bytes of an IPv6 header.
pub(crate) const IPV6: usize = 40;
/// Bytes of an ICMPv6 message that each has: type, code, checksum and four more.
pub(crate) const ICMPV6: usize = 8;
/// Bytes of a neighbour solicitation or advertisement without options.
pub(crate) const NEIGHBOR: usize = 24;
/// Bytes of an option with an Ethernet address.
pub(crate) const LINK_LAYER_OPTION: usize = 8;
/// Where the target address is in these messages.
const TARGET: core::ops::Range<usize> = 8..24;

/// Types of ICMPv6 messages (RFC 4443, RFC 4861).
pub(crate) mod message {
    pub(crate) const UNREACHABLE: u8 = 1;
    pub(crate) const PACKET_TOO_BIG: u8 = 2;
    pub(crate) const TIME_EXCEEDED: u8 = 3;
    pub(crate) const PARAMETER_PROBLEM: u8 = 4;
    pub(crate) const ECHO_REQUEST: u8 = 128;
    pub(crate) const ECHO_REPLY: u8 = 129;
    pub(crate) const ROUTER_SOLICITATION: u8 = 133;
    pub(crate) const ROUTER_ADVERTISEMENT: u8 = 134;
    pub(crate) const NEIGHBOR_SOLICITATION: u8 = 135;
    pub(crate) const NEIGHBOR_ADVERTISEMENT: u8 = 136;
    pub(crate) const REDIRECT: u8 = 137;
}

/// Types of neighbour discovery's options.
pub(crate) const SOURCE_LINK_LAYER: u8 = 1;
pub(crate) const TARGET_LINK_LAYER: u8 = 2;

/// What proves that a message comes from this link (RFC 4861, section 3.1).
pub(crate) const NEIGHBOR_HOP_LIMIT: u8 = 255;

/// All nodes on the link.
pub(crate) const ALL_NODES: Ipv6Address = Ipv6Address::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// The next header that says that the packet is a fragment.
pub(crate) const FRAGMENT: u8 = 44;

/// Whether this next header is an extension header (IANA, "IPv6 Extension Header
/// Types") other than that of fragments. Ports could hide behind any of them.
pub(crate) fn is_extension_header(next_header: u8) -> bool {
    matches!(
        next_header,
        0 | 43 | 50 | 51 | 60 | 135 | 139 | 140 | 253 | 254
    )
}

/// The target of a neighbour solicitation or advertisement, which is at least
/// [`NEIGHBOR`] bytes long.
pub(crate) fn target(message: &[u8]) -> Ipv6Address {
    let mut octets = [0; 16];
    octets.copy_from_slice(&message[TARGET]);
    Ipv6Address::from(octets)
}

/// The group in which whoever has `address` listens for solicitations.
pub(crate) fn solicited_node(address: Ipv6Address) -> Ipv6Address {
    let mut octets = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0, 0, 0];
    octets[13..].copy_from_slice(&address.octets()[13..]);
    Ipv6Address::from(octets)
}

/// Whether this is the group of some addresses' solicitations.
pub(crate) fn is_solicited_node(address: Ipv6Address) -> bool {
    address == solicited_node(address)
}

/// The Ethernet address of a group (RFC 2464, section 7).
pub(crate) fn multicast_mac(group: Ipv6Address) -> EthernetAddress {
    let octets = group.octets();
    EthernetAddress([0x33, 0x33, octets[12], octets[13], octets[14], octets[15]])
}
