//! Frames that the sender may send.

use crate::frame::{TRANSPORT, TRANSPORT_6};
use crate::ipv4::fragment;
use crate::offload::long_segment;
use crate::{FREE_PORT, Honest, OWN_PORT, arp, icmp, ipv6};

/// All kinds of them. Each puts one frame with its mark on the wire.
pub const HONEST: &[Honest] = &[
    Honest {
        name: "a datagram",
        make: |parties, frame| frame.udp(parties),
    },
    Honest {
        name: "a datagram as long as the network takes",
        make: |parties, frame| {
            frame.ipv4(parties, 17, 1514 - TRANSPORT);
            frame.udp_header(TRANSPORT);
            frame.set16(TRANSPORT + 4, (1514 - TRANSPORT) as u16);
        },
    },
    Honest {
        name: "a TCP segment",
        make: |parties, frame| frame.tcp(parties),
    },
    Honest {
        name: "a TCP segment to be cut, whose last piece has the mark",
        make: |parties, frame| long_segment(frame, parties, 1400),
    },
    Honest {
        name: "the first fragment of a datagram",
        make: |parties, frame| {
            frame.udp(parties);
            frame.set16(TRANSPORT + 4, 64);
            fragment(frame, 0x4000, 0, 0x2000);
        },
    },
    Honest {
        name: "the last fragment of that datagram",
        make: |parties, frame| {
            frame.ipv4(parties, 17, 32);
            fragment(frame, 0x4000, 32, 0);
        },
    },
    Honest {
        name: "an ARP request",
        make: |parties, frame| arp::request(frame, parties, parties.ipv4, parties.peer_ipv4),
    },
    Honest {
        name: "an ARP reply",
        make: |parties, frame| arp::reply(frame, parties, parties.ipv4),
    },
    Honest {
        name: "an ARP announcement",
        make: |parties, frame| arp::request(frame, parties, parties.ipv4, parties.ipv4),
    },
    Honest {
        name: "an echo reply",
        make: |parties, frame| frame.icmp(parties, 0, 0),
    },
    Honest {
        name: "an echo request",
        make: |parties, frame| {
            frame.icmp(parties, 8, 0);
            frame.set16(TRANSPORT + 4, OWN_PORT);
        },
    },
    Honest {
        name: "\"port unreachable\" about an own port",
        make: |parties, frame| icmp::unreachable(frame, parties, 3, 17, OWN_PORT),
    },
    Honest {
        name: "\"port unreachable\" about a port of nobody",
        make: |parties, frame| icmp::unreachable(frame, parties, 3, 17, FREE_PORT),
    },
    Honest {
        name: "a datagram over IPv6",
        make: |parties, frame| frame.udp6(parties),
    },
    Honest {
        name: "a TCP segment over IPv6",
        make: |parties, frame| frame.tcp6(parties),
    },
    Honest {
        name: "an IPv6 echo reply",
        make: |parties, frame| frame.icmp6(parties, 129, 0, 24),
    },
    Honest {
        name: "an IPv6 echo request",
        make: |parties, frame| {
            frame.icmp6(parties, 128, 0, 24);
            frame.set16(TRANSPORT_6 + 4, OWN_PORT);
        },
    },
    Honest {
        name: "a neighbour solicitation",
        make: |parties, frame| ipv6::solicitation(frame, parties),
    },
    Honest {
        name: "a neighbour advertisement",
        make: |parties, frame| ipv6::advertisement(frame, parties),
    },
];
