//! IPv4, its fragments and options, UDP and TCP.

use segue_status::network::EgressDrop::{
    Fragment, HeaderTooShort, Malformed, Options, Protocol, SourceAddress, SourcePort, TooLong,
};

use crate::frame::TRANSPORT;
use crate::{ANOTHERS_PORT, FREE_PORT, Forgery, Frame, Parties};

/// More fragments follow.
const MORE: u16 = 0x2000;

/// An honest datagram but for its source address.
fn from(frame: &mut Frame, parties: &Parties, source: [u8; 4]) {
    frame.udp(parties);
    frame.set(26, &source);
    frame.fix_checksum();
}

/// A fragment at this offset in bytes.
pub(crate) fn fragment(frame: &mut Frame, identification: u16, offset: u16, more: u16) {
    frame.set16(18, identification);
    frame.set16(20, (offset / 8) | more);
    frame.fix_checksum();
}

/// A packet of another IP protocol.
fn protocol(frame: &mut Frame, parties: &Parties, number: u8) {
    frame.udp(parties);
    frame.set(23, &[number]);
    frame.fix_checksum();
}

/// A TCP segment from this port.
fn segment(frame: &mut Frame, parties: &Parties, port: u16, flags: u8) {
    frame.tcp(parties);
    frame.set16(TRANSPORT, port);
    frame.set(TRANSPORT + 13, &[flags]);
}

/// A DHCP message between these ports.
fn dhcp(frame: &mut Frame, parties: &Parties, source: [u8; 4], ports: (u16, u16)) {
    from(frame, parties, source);
    frame.set(0, &[0xff; 6]);
    frame.set(30, &[0xff; 4]);
    frame.fix_checksum();
    frame.set16(TRANSPORT, ports.0);
    frame.set16(TRANSPORT + 2, ports.1);
}

pub(crate) const FORGERIES: &[Forgery] = &[
    Forgery {
        name: "the gateway's source address",
        cause: SourceAddress,
        make: |parties, frame| from(frame, parties, parties.peer_ipv4),
    },
    Forgery {
        name: "a source address that differs in its last bit",
        cause: SourceAddress,
        make: |parties, frame| {
            let [a, b, c, d] = parties.ipv4;
            from(frame, parties, [a, b, c, d ^ 1]);
        },
    },
    Forgery {
        name: "no source address",
        cause: SourceAddress,
        make: |parties, frame| from(frame, parties, [0; 4]),
    },
    Forgery {
        name: "the broadcast address as source",
        cause: SourceAddress,
        make: |parties, frame| from(frame, parties, [0xff; 4]),
    },
    Forgery {
        name: "the loopback address as source",
        cause: SourceAddress,
        make: |parties, frame| from(frame, parties, [127, 0, 0, 1]),
    },
    Forgery {
        name: "a TCP segment from another address",
        cause: SourceAddress,
        make: |parties, frame| {
            frame.tcp(parties);
            frame.set(26, &parties.peer_ipv4);
            frame.fix_checksum();
        },
    },
    Forgery {
        name: "DHCP from no address",
        cause: SourceAddress,
        make: |parties, frame| dhcp(frame, parties, [0; 4], (68, 67)),
    },
    Forgery {
        name: "DHCP from the client's port",
        cause: SourcePort,
        make: |parties, frame| dhcp(frame, parties, parties.ipv4, (68, 67)),
    },
    Forgery {
        name: "DHCP from the server's port",
        cause: SourcePort,
        make: |parties, frame| dhcp(frame, parties, parties.ipv4, (67, 68)),
    },
    Forgery {
        name: "a UDP port of nobody",
        cause: SourcePort,
        make: |parties, frame| {
            frame.udp(parties);
            frame.set16(TRANSPORT, FREE_PORT);
        },
    },
    Forgery {
        name: "UDP port 0",
        cause: SourcePort,
        make: |parties, frame| {
            frame.udp(parties);
            frame.set16(TRANSPORT, 0);
        },
    },
    Forgery {
        name: "a UDP port that only in TCP is another's",
        cause: SourcePort,
        make: |parties, frame| {
            frame.udp(parties);
            frame.set16(TRANSPORT, ANOTHERS_PORT);
        },
    },
    Forgery {
        name: "a reset from another's TCP port",
        cause: SourcePort,
        make: |parties, frame| segment(frame, parties, ANOTHERS_PORT, 4),
    },
    Forgery {
        name: "data from another's TCP port",
        cause: SourcePort,
        make: |parties, frame| segment(frame, parties, ANOTHERS_PORT, 0x18),
    },
    Forgery {
        name: "a reset without data from another's TCP port",
        cause: SourcePort,
        make: |parties, frame| {
            frame.ipv4(parties, 6, 20);
            frame.set16(TRANSPORT, ANOTHERS_PORT);
            frame.set(TRANSPORT + 12, &[0x50, 4]);
        },
    },
    Forgery {
        name: "a SYN from a TCP port of nobody",
        cause: SourcePort,
        make: |parties, frame| segment(frame, parties, FREE_PORT, 2),
    },
    Forgery {
        name: "a reset with data from a TCP port of nobody",
        cause: SourcePort,
        make: |parties, frame| segment(frame, parties, FREE_PORT, 4),
    },
    Forgery {
        name: "a reset that is a SYN, too, from a TCP port of nobody",
        cause: SourcePort,
        make: |parties, frame| {
            frame.ipv4(parties, 6, 20);
            frame.set16(TRANSPORT, FREE_PORT);
            frame.set(TRANSPORT + 12, &[0x50, 6]);
        },
    },
    Forgery {
        name: "a later fragment without a first",
        cause: Fragment,
        make: |parties, frame| {
            frame.udp(parties);
            fragment(frame, 0x1234, 1480, 0);
        },
    },
    Forgery {
        name: "a later fragment in the middle of another's datagram",
        cause: Fragment,
        make: |parties, frame| {
            frame.udp(parties);
            fragment(frame, 0, 8, MORE);
        },
    },
    Forgery {
        name: "a later fragment to another host",
        cause: Fragment,
        make: |parties, frame| {
            frame.udp(parties);
            let [a, b, c, d] = parties.peer_ipv4;
            frame.set(30, &[a, b, c, d ^ 0x80]);
            fragment(frame, 0x1234, 1480, 0);
        },
    },
    Forgery {
        name: "a first fragment with the ports of another",
        cause: SourcePort,
        make: |parties, frame| {
            frame.udp(parties);
            frame.set16(TRANSPORT, ANOTHERS_PORT);
            frame.set16(TRANSPORT + 4, 4000);
            fragment(frame, 0x1235, 0, MORE);
        },
    },
    Forgery {
        name: "a tiny first fragment of TCP",
        cause: Fragment,
        make: |parties, frame| {
            frame.ipv4(parties, 6, 8);
            frame.set16(TRANSPORT, ANOTHERS_PORT);
            fragment(frame, 0x1236, 0, MORE);
        },
    },
    Forgery {
        name: "a first fragment of TCP that ends before its flags",
        cause: Fragment,
        make: |parties, frame| {
            frame.tcp(parties);
            frame.set16(16, 36);
            fragment(frame, 0x1237, 0, MORE);
        },
    },
    Forgery {
        name: "a fragment that would replace the flags of TCP",
        cause: Fragment,
        make: |parties, frame| {
            frame.tcp(parties);
            fragment(frame, 0x1237, 8, 0);
        },
    },
    Forgery {
        name: "a first fragment shorter than the UDP header",
        cause: Malformed,
        make: |parties, frame| {
            frame.udp(parties);
            frame.set16(16, 24);
            fragment(frame, 0x1238, 0, MORE);
        },
    },
    Forgery {
        name: "a first fragment of UDP whose ports are not declared",
        cause: HeaderTooShort,
        make: |parties, frame| {
            frame.udp(parties);
            frame.set16(TRANSPORT, FREE_PORT);
            fragment(frame, 0x1239, 0, MORE);
            frame.header_length = TRANSPORT;
        },
    },
    Forgery {
        name: "a first fragment that holds its whole datagram",
        cause: Malformed,
        make: |parties, frame| {
            frame.udp(parties);
            fragment(frame, 0x123a, 0, MORE);
        },
    },
    Forgery {
        name: "a source route",
        cause: Options,
        make: |parties, frame| {
            frame.ipv4(parties, 17, 4 + 8 + 24);
            frame.set(14, &[0x46]);
            frame.set(34, &[0x83, 3, 4, 0]);
            frame.udp_header(TRANSPORT + 4);
        },
    },
    Forgery {
        name: "options that hide the ports",
        cause: Options,
        make: |parties, frame| {
            frame.udp(parties);
            frame.set(14, &[0x47]);
        },
    },
    Forgery {
        name: "an IP header of 16 bytes",
        cause: Malformed,
        make: |parties, frame| {
            frame.udp(parties);
            frame.set(14, &[0x44]);
        },
    },
    Forgery {
        name: "IP version 6 in an IPv4 frame",
        cause: Malformed,
        make: |parties, frame| {
            frame.udp(parties);
            frame.set(14, &[0x65]);
        },
    },
    Forgery {
        name: "a packet longer than its frame",
        cause: Malformed,
        make: |parties, frame| {
            frame.udp(parties);
            frame.set16(16, 0xffff);
        },
    },
    Forgery {
        name: "a packet shorter than its header",
        cause: Malformed,
        make: |parties, frame| {
            frame.udp(parties);
            frame.set16(16, 19);
        },
    },
    Forgery {
        name: "a packet that ends before its ports",
        cause: Malformed,
        make: |parties, frame| {
            frame.udp(parties);
            frame.set16(16, 22);
        },
    },
    Forgery {
        name: "a datagram longer than its packet",
        cause: Malformed,
        make: |parties, frame| {
            frame.udp(parties);
            frame.set16(TRANSPORT + 4, 1000);
        },
    },
    Forgery {
        name: "a datagram shorter than its header",
        cause: Malformed,
        make: |parties, frame| {
            frame.udp(parties);
            frame.set16(TRANSPORT + 4, 7);
        },
    },
    Forgery {
        name: "a TCP header of 16 bytes",
        cause: Malformed,
        make: |parties, frame| {
            frame.tcp(parties);
            frame.set(TRANSPORT + 12, &[0x40]);
        },
    },
    Forgery {
        name: "a TCP header longer than its packet",
        cause: Malformed,
        make: |parties, frame| {
            frame.tcp(parties);
            frame.set(TRANSPORT + 12, &[0xf0]);
        },
    },
    Forgery {
        name: "ports that are not declared",
        cause: HeaderTooShort,
        make: |parties, frame| {
            frame.udp(parties);
            frame.set16(TRANSPORT, FREE_PORT);
            frame.header_length = TRANSPORT;
        },
    },
    Forgery {
        name: "an IP header that is not declared",
        cause: HeaderTooShort,
        make: |parties, frame| {
            from(frame, parties, parties.peer_ipv4);
            frame.header_length = 14;
        },
    },
    Forgery {
        name: "TCP options that are not declared",
        cause: HeaderTooShort,
        make: |parties, frame| {
            frame.tcp(parties);
            frame.set(TRANSPORT + 12, &[0x60]);
            frame.header_length = TRANSPORT + 20;
        },
    },
    Forgery {
        name: "a frame longer than the network takes",
        cause: TooLong,
        make: |parties, frame| {
            frame.ipv4(parties, 17, 1515 - TRANSPORT);
            frame.udp_header(TRANSPORT);
            frame.set16(TRANSPORT + 4, (1515 - TRANSPORT) as u16);
        },
    },
    Forgery {
        name: "IPv4 in IPv4",
        cause: Protocol,
        make: |parties, frame| protocol(frame, parties, 4),
    },
    Forgery {
        name: "IPv6 in IPv4",
        cause: Protocol,
        make: |parties, frame| protocol(frame, parties, 41),
    },
    Forgery {
        name: "IGMP",
        cause: Protocol,
        make: |parties, frame| protocol(frame, parties, 2),
    },
    Forgery {
        name: "GRE",
        cause: Protocol,
        make: |parties, frame| protocol(frame, parties, 47),
    },
    Forgery {
        name: "OSPF",
        cause: Protocol,
        make: |parties, frame| protocol(frame, parties, 89),
    },
    Forgery {
        name: "VRRP",
        cause: Protocol,
        make: |parties, frame| protocol(frame, parties, 112),
    },
    Forgery {
        name: "SCTP",
        cause: Protocol,
        make: |parties, frame| protocol(frame, parties, 132),
    },
    Forgery {
        name: "UDP-Lite",
        cause: Protocol,
        make: |parties, frame| protocol(frame, parties, 136),
    },
];
