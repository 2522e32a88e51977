//! IPv6: its addresses, extension headers and neighbour discovery.

use segue_status::network::EgressDrop::{
    ExtensionHeader, Fragment, HeaderTooShort, Icmp, Malformed, NeighborDiscovery, Offload,
    Protocol, SourceAddress, SourceMac, SourcePort,
};

use segue_frame_channel::FrameOffload;

use crate::frame::TRANSPORT_6;
use crate::{ANOTHERS_PORT, FREE_PORT, Forgery, Frame, Parties};

const UDP: u8 = 17;
const ICMP: u8 = 58;
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
/// Solicited, override.
const FLAGS: u8 = 0x60;
const SOURCE_LINK_LAYER: u8 = 1;
const TARGET_LINK_LAYER: u8 = 2;
const ALL_NODES: [u8; 16] = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];

/// A datagram from another address.
fn from(frame: &mut Frame, parties: &Parties, source: [u8; 16]) {
    frame.udp6(parties);
    frame.set(22, &source);
}

/// A datagram behind an extension header of eight bytes.
fn extension(frame: &mut Frame, parties: &Parties, kind: u8, contents: [u8; 6]) {
    frame.ipv6(parties, kind, 8 + 8 + 24);
    frame.set(TRANSPORT_6, &[UDP, 0]);
    frame.set(TRANSPORT_6 + 2, &contents);
    frame.udp_header(TRANSPORT_6 + 8);
}

/// A neighbour solicitation or advertisement for `target` with a link-layer address.
fn discovery(frame: &mut Frame, parties: &Parties, kind: u8, target: [u8; 16], mac: [u8; 6]) {
    frame.icmp6(parties, kind, 0, 24);
    frame.set(21, &[255]);
    if kind == ADVERTISEMENT {
        frame.set(TRANSPORT_6 + 4, &[FLAGS]);
    }
    frame.set(TRANSPORT_6 + 8, &target);
    let option = match kind {
        SOLICITATION => SOURCE_LINK_LAYER,
        _ => TARGET_LINK_LAYER,
    };
    frame.set(TRANSPORT_6 + 24, &[option, 1]);
    frame.set(TRANSPORT_6 + 26, &mac);
}

pub(crate) fn solicitation(frame: &mut Frame, parties: &Parties) {
    discovery(frame, parties, SOLICITATION, parties.peer_ipv6, parties.mac);
}

pub(crate) fn advertisement(frame: &mut Frame, parties: &Parties) {
    discovery(frame, parties, ADVERTISEMENT, parties.ipv6, parties.mac);
}

/// "Unreachable" and other errors about a packet from the peer to this port.
fn error(frame: &mut Frame, parties: &Parties, kind: u8, protocol: u8, port: u16) {
    frame.icmp6(parties, kind, 4, 40 + 8 + 8);
    let quoted = TRANSPORT_6 + 8;
    frame.set(quoted, &[0x60, 0, 0, 0, 0, 8, protocol, 64]);
    frame.set(quoted + 8, &parties.peer_ipv6);
    frame.set(quoted + 24, &parties.ipv6);
    frame.set16(quoted + 40, 5000);
    frame.set16(quoted + 42, port);
}

/// The address with another last byte.
fn neighbour(mut address: [u8; 16]) -> [u8; 16] {
    address[15] ^= 0x40;
    address
}

pub(crate) const FORGERIES: &[Forgery] = &[
    Forgery {
        name: "IPv6 from another MAC address",
        cause: SourceMac,
        make: |parties, frame| {
            frame.udp6(parties);
            frame.set(6, &parties.peer_mac);
        },
    },
    Forgery {
        name: "the gateway's IPv6 source address",
        cause: SourceAddress,
        make: |parties, frame| from(frame, parties, parties.peer_ipv6),
    },
    Forgery {
        name: "a neighbour's IPv6 source address",
        cause: SourceAddress,
        make: |parties, frame| from(frame, parties, neighbour(parties.ipv6)),
    },
    Forgery {
        name: "no IPv6 source address",
        cause: SourceAddress,
        make: |parties, frame| from(frame, parties, [0; 16]),
    },
    Forgery {
        name: "a group as IPv6 source address",
        cause: SourceAddress,
        make: |parties, frame| from(frame, parties, ALL_NODES),
    },
    Forgery {
        name: "another's link-local source address",
        cause: SourceAddress,
        make: |parties, frame| {
            let mut address = [0; 16];
            address[..2].copy_from_slice(&[0xfe, 0x80]);
            address[15] = 2;
            from(frame, parties, address);
        },
    },
    Forgery {
        name: "an IPv4 address in an IPv6 source address",
        cause: SourceAddress,
        make: |parties, frame| {
            let mut address = [0; 16];
            address[10..12].copy_from_slice(&[0xff; 2]);
            address[12..].copy_from_slice(&parties.ipv4);
            from(frame, parties, address);
        },
    },
    Forgery {
        name: "an IPv6 UDP port of nobody",
        cause: SourcePort,
        make: |parties, frame| {
            frame.udp6(parties);
            frame.set16(TRANSPORT_6, FREE_PORT);
        },
    },
    Forgery {
        name: "DHCPv6 from the client's port",
        cause: SourcePort,
        make: |parties, frame| {
            frame.udp6(parties);
            frame.set16(TRANSPORT_6, 546);
            frame.set16(TRANSPORT_6 + 2, 547);
        },
    },
    Forgery {
        name: "data from another's IPv6 TCP port",
        cause: SourcePort,
        make: |parties, frame| {
            frame.tcp6(parties);
            frame.set16(TRANSPORT_6, ANOTHERS_PORT);
        },
    },
    Forgery {
        name: "a reset from another's IPv6 TCP port",
        cause: SourcePort,
        make: |parties, frame| {
            frame.ipv6(parties, 6, 20);
            frame.set16(TRANSPORT_6, ANOTHERS_PORT);
            frame.set(TRANSPORT_6 + 12, &[0x50, 4]);
        },
    },
    Forgery {
        name: "a SYN from an IPv6 TCP port of nobody",
        cause: SourcePort,
        make: |parties, frame| {
            frame.tcp6(parties);
            frame.set16(TRANSPORT_6, FREE_PORT);
            frame.set(TRANSPORT_6 + 13, &[2]);
        },
    },
    Forgery {
        name: "an IPv6 fragment",
        cause: Fragment,
        make: |parties, frame| extension(frame, parties, 44, [0, 1, 0, 0, 0, 7]),
    },
    Forgery {
        name: "an IPv6 fragment that is its whole packet",
        cause: Fragment,
        make: |parties, frame| extension(frame, parties, 44, [0, 0, 0, 0, 0, 7]),
    },
    Forgery {
        name: "a later IPv6 fragment",
        cause: Fragment,
        make: |parties, frame| extension(frame, parties, 44, [5, 0xa8, 0, 0, 0, 7]),
    },
    Forgery {
        name: "hop-by-hop options",
        cause: ExtensionHeader,
        make: |parties, frame| extension(frame, parties, 0, [1, 4, 0, 0, 0, 0]),
    },
    Forgery {
        name: "destination options",
        cause: ExtensionHeader,
        make: |parties, frame| extension(frame, parties, 60, [1, 4, 0, 0, 0, 0]),
    },
    Forgery {
        name: "a routing header",
        cause: ExtensionHeader,
        make: |parties, frame| extension(frame, parties, 43, [0, 1, 0, 0, 0, 0]),
    },
    Forgery {
        name: "an authentication header",
        cause: ExtensionHeader,
        make: |parties, frame| extension(frame, parties, 51, [0, 0, 0, 0, 0, 1]),
    },
    Forgery {
        name: "neighbour discovery behind hop-by-hop options",
        cause: ExtensionHeader,
        make: |parties, frame| {
            frame.ipv6(parties, 0, 8 + 8 + 24);
            frame.set(21, &[255]);
            frame.set(TRANSPORT_6, &[ICMP, 0, 1, 4, 0, 0, 0, 0, ADVERTISEMENT]);
            frame.set(TRANSPORT_6 + 16, &parties.peer_ipv6);
        },
    },
    Forgery {
        name: "IPv4 in IPv6",
        cause: Protocol,
        make: |parties, frame| frame.ipv6(parties, 4, 40),
    },
    Forgery {
        name: "SCTP over IPv6",
        cause: Protocol,
        make: |parties, frame| frame.ipv6(parties, 132, 40),
    },
    Forgery {
        name: "ICMP of IPv4 in IPv6",
        cause: Protocol,
        make: |parties, frame| frame.ipv6(parties, 1, 40),
    },
    Forgery {
        name: "IP version 4 in an IPv6 frame",
        cause: Malformed,
        make: |parties, frame| {
            frame.udp6(parties);
            frame.set(14, &[0x45]);
        },
    },
    Forgery {
        name: "an IPv6 packet longer than its frame",
        cause: Malformed,
        make: |parties, frame| {
            frame.udp6(parties);
            frame.set16(18, 1000);
        },
    },
    Forgery {
        name: "an IPv6 packet that ends before its ports",
        cause: Malformed,
        make: |parties, frame| {
            frame.udp6(parties);
            frame.set16(18, 2);
        },
    },
    Forgery {
        name: "a jumbogram",
        cause: Malformed,
        make: |parties, frame| {
            frame.udp6(parties);
            frame.set16(18, 0);
        },
    },
    Forgery {
        name: "an IPv6 datagram longer than its packet",
        cause: Malformed,
        make: |parties, frame| {
            frame.udp6(parties);
            frame.set16(TRANSPORT_6 + 4, 1000);
        },
    },
    Forgery {
        name: "IPv6 ports that are not declared",
        cause: HeaderTooShort,
        make: |parties, frame| {
            frame.udp6(parties);
            frame.set16(TRANSPORT_6, FREE_PORT);
            frame.header_length = TRANSPORT_6;
        },
    },
    Forgery {
        name: "an IPv6 header that is not declared",
        cause: HeaderTooShort,
        make: |parties, frame| {
            from(frame, parties, parties.peer_ipv6);
            frame.header_length = 14;
        },
    },
    Forgery {
        name: "segmentation over IPv6",
        cause: Offload,
        make: |parties, frame| {
            frame.tcp6(parties);
            frame.header_length = TRANSPORT_6 + 20;
            frame.offload = FrameOffload {
                ipv4_checksum: true,
                transport_checksum: true,
                segment_size: 64,
            };
        },
    },
    Forgery {
        name: "an advertisement of the gateway's address",
        cause: NeighborDiscovery,
        make: |parties, frame| {
            discovery(
                frame,
                parties,
                ADVERTISEMENT,
                parties.peer_ipv6,
                parties.mac,
            );
        },
    },
    Forgery {
        name: "an advertisement of a neighbour's address",
        cause: NeighborDiscovery,
        make: |parties, frame| {
            let target = neighbour(parties.ipv6);
            discovery(frame, parties, ADVERTISEMENT, target, parties.mac);
        },
    },
    Forgery {
        name: "an advertisement that gives the own address another MAC address",
        cause: NeighborDiscovery,
        make: |parties, frame| {
            discovery(
                frame,
                parties,
                ADVERTISEMENT,
                parties.ipv6,
                parties.peer_mac,
            );
        },
    },
    Forgery {
        name: "an advertisement from the gateway's address",
        cause: SourceAddress,
        make: |parties, frame| {
            advertisement(frame, parties);
            frame.set(22, &parties.peer_ipv6);
        },
    },
    Forgery {
        name: "an advertisement from no address",
        cause: SourceAddress,
        make: |parties, frame| {
            advertisement(frame, parties);
            frame.set(22, &[0; 16]);
        },
    },
    Forgery {
        name: "an advertisement that was forwarded",
        cause: NeighborDiscovery,
        make: |parties, frame| {
            advertisement(frame, parties);
            frame.set(21, &[254]);
        },
    },
    Forgery {
        name: "an advertisement whose target is not declared",
        cause: HeaderTooShort,
        make: |parties, frame| {
            discovery(
                frame,
                parties,
                ADVERTISEMENT,
                parties.peer_ipv6,
                parties.mac,
            );
            frame.header_length = TRANSPORT_6 + 8;
        },
    },
    Forgery {
        name: "an advertisement with an option that there is not",
        cause: NeighborDiscovery,
        make: |parties, frame| {
            advertisement(frame, parties);
            frame.set(TRANSPORT_6 + 24, &[200]);
        },
    },
    Forgery {
        name: "a solicitation with another's MAC address",
        cause: NeighborDiscovery,
        make: |parties, frame| {
            discovery(
                frame,
                parties,
                SOLICITATION,
                parties.peer_ipv6,
                parties.peer_mac,
            );
        },
    },
    Forgery {
        name: "a solicitation that was forwarded",
        cause: NeighborDiscovery,
        make: |parties, frame| {
            solicitation(frame, parties);
            frame.set(21, &[64]);
        },
    },
    Forgery {
        name: "a solicitation from the gateway's address",
        cause: SourceAddress,
        make: |parties, frame| {
            solicitation(frame, parties);
            frame.set(22, &parties.peer_ipv6);
        },
    },
    Forgery {
        name: "a solicitation from no address for another's, which it would keep it from having",
        cause: NeighborDiscovery,
        make: |parties, frame| {
            frame.icmp6(parties, SOLICITATION, 0, 16);
            frame.set(21, &[255]);
            frame.set(22, &[0; 16]);
            frame.set(TRANSPORT_6 + 8, &neighbour(parties.ipv6));
        },
    },
    Forgery {
        name: "a router advertisement",
        cause: NeighborDiscovery,
        make: |parties, frame| {
            frame.icmp6(parties, 134, 0, 8);
            frame.set(21, &[255]);
        },
    },
    Forgery {
        name: "a router solicitation",
        cause: NeighborDiscovery,
        make: |parties, frame| {
            frame.icmp6(parties, 133, 0, 0);
            frame.set(21, &[255]);
        },
    },
    Forgery {
        name: "an IPv6 redirect",
        cause: NeighborDiscovery,
        make: |parties, frame| {
            frame.icmp6(parties, 137, 0, 32);
            frame.set(21, &[255]);
        },
    },
    Forgery {
        name: "a multicast listener report",
        cause: Icmp,
        make: |parties, frame| frame.icmp6(parties, 143, 0, 24),
    },
    Forgery {
        name: "a multicast listener query",
        cause: Icmp,
        make: |parties, frame| frame.icmp6(parties, 130, 0, 24),
    },
    Forgery {
        name: "ICMPv6 time exceeded",
        cause: Icmp,
        make: |parties, frame| error(frame, parties, 3, 6, ANOTHERS_PORT),
    },
    Forgery {
        name: "ICMPv6 \"packet too big\" about another's connection",
        cause: Icmp,
        make: |parties, frame| error(frame, parties, 2, 6, ANOTHERS_PORT),
    },
    Forgery {
        name: "ICMPv6 \"port unreachable\" about another's connection",
        cause: Icmp,
        make: |parties, frame| error(frame, parties, 1, 6, ANOTHERS_PORT),
    },
    Forgery {
        name: "an ICMPv6 echo request with the identifier of nobody",
        cause: Icmp,
        make: |parties, frame| {
            frame.icmp6(parties, 128, 0, 24);
            frame.set16(TRANSPORT_6 + 4, FREE_PORT);
        },
    },
];
