//! The Ethernet header, and ARP.

use segue_status::network::EgressDrop::{Arp, EtherType, HeaderTooShort, Malformed, SourceMac};

use crate::{Forgery, Frame, Parties};

const REQUEST: u16 = 1;
const REPLY: u16 = 2;

/// An ARP packet that says: `ipv4` is at `mac`; asks for, or answers to, `target`.
pub(crate) fn packet(
    frame: &mut Frame,
    parties: &Parties,
    operation: u16,
    mac: [u8; 6],
    ipv4: [u8; 4],
    target: [u8; 4],
) {
    frame.ethernet(parties, 0x0806);
    frame.set(14, &[0, 1, 8, 0, 6, 4]);
    frame.set16(20, operation);
    frame.set(22, &mac);
    frame.set(28, &ipv4);
    if operation == REPLY {
        frame.set(32, &parties.peer_mac);
    } else {
        frame.set(0, &[0xff; 6]);
    }
    frame.set(38, &target);
    frame.resize(42);
}

pub(crate) fn request(frame: &mut Frame, parties: &Parties, ipv4: [u8; 4], target: [u8; 4]) {
    packet(frame, parties, REQUEST, parties.mac, ipv4, target);
}

pub(crate) fn reply(frame: &mut Frame, parties: &Parties, ipv4: [u8; 4]) {
    let target = parties.peer_ipv4;
    packet(frame, parties, REPLY, parties.mac, ipv4, target);
}

/// An address in the same network that is neither the sender's nor the peer's.
fn neighbour(parties: &Parties) -> [u8; 4] {
    let [a, b, c, d] = parties.ipv4;
    [a, b, c, d ^ 0x40]
}

pub(crate) const FORGERIES: &[Forgery] = &[
    Forgery {
        name: "another's source MAC address",
        cause: SourceMac,
        make: |parties, frame| {
            frame.udp(parties);
            frame.set(6, &parties.peer_mac);
        },
    },
    Forgery {
        name: "a source MAC address that differs in its last bit",
        cause: SourceMac,
        make: |parties, frame| {
            frame.udp(parties);
            frame.set(11, &[parties.mac[5] ^ 1]);
        },
    },
    Forgery {
        name: "a source MAC address that is a group's",
        cause: SourceMac,
        make: |parties, frame| {
            frame.tcp(parties);
            frame.set(6, &[0xff; 6]);
        },
    },
    Forgery {
        name: "an ARP request from another MAC address",
        cause: SourceMac,
        make: |parties, frame| {
            request(frame, parties, parties.ipv4, parties.peer_ipv4);
            frame.set(6, &parties.peer_mac);
        },
    },
    Forgery {
        name: "a VLAN tag before an honest datagram",
        cause: EtherType,
        make: |parties, frame| {
            frame.udp(parties);
            let length = frame.bytes().len();
            let mut packet = [0; 128];
            packet[..length - 12].copy_from_slice(&frame.bytes()[12..]);
            frame.set(12, &[0x81, 0, 0, 7]);
            frame.set(16, &packet[..length - 12]);
            frame.resize(length + 4);
        },
    },
    Forgery {
        name: "a service VLAN tag",
        cause: EtherType,
        make: |parties, frame| {
            frame.udp(parties);
            frame.set16(12, 0x88a8);
        },
    },
    Forgery {
        name: "MPLS",
        cause: EtherType,
        make: |parties, frame| {
            frame.udp(parties);
            frame.set16(12, 0x8847);
        },
    },
    Forgery {
        name: "PPPoE",
        cause: EtherType,
        make: |parties, frame| {
            frame.udp(parties);
            frame.set16(12, 0x8864);
        },
    },
    Forgery {
        name: "a pause frame of Ethernet's flow control",
        cause: EtherType,
        make: |parties, frame| {
            frame.udp(parties);
            frame.set(0, &[1, 0x80, 0xc2, 0, 0, 1]);
            frame.set16(12, 0x8808);
        },
    },
    Forgery {
        name: "a spanning-tree message, with a length in the place of a type",
        cause: EtherType,
        make: |parties, frame| {
            frame.udp(parties);
            frame.set(0, &[1, 0x80, 0xc2, 0, 0, 0]);
            frame.set16(12, 52);
            frame.set(14, &[0x42, 0x42, 3]);
        },
    },
    Forgery {
        name: "reverse ARP",
        cause: EtherType,
        make: |parties, frame| {
            request(frame, parties, parties.ipv4, parties.ipv4);
            frame.set16(12, 0x8035);
        },
    },
    Forgery {
        name: "an ARP request from the gateway's address",
        cause: Arp,
        make: |parties, frame| request(frame, parties, parties.peer_ipv4, parties.ipv4),
    },
    Forgery {
        name: "an ARP request from a neighbour's address",
        cause: Arp,
        make: |parties, frame| request(frame, parties, neighbour(parties), parties.peer_ipv4),
    },
    Forgery {
        name: "an ARP reply for the gateway's address",
        cause: Arp,
        make: |parties, frame| reply(frame, parties, parties.peer_ipv4),
    },
    Forgery {
        name: "an ARP reply for a neighbour's address",
        cause: Arp,
        make: |parties, frame| reply(frame, parties, neighbour(parties)),
    },
    Forgery {
        name: "an ARP announcement of the gateway's address",
        cause: Arp,
        make: |parties, frame| request(frame, parties, parties.peer_ipv4, parties.peer_ipv4),
    },
    Forgery {
        name: "an ARP announcement of a neighbour's address",
        cause: Arp,
        make: |parties, frame| request(frame, parties, neighbour(parties), neighbour(parties)),
    },
    Forgery {
        name: "an ARP announcement by reply of the gateway's address",
        cause: Arp,
        make: |parties, frame| {
            let gateway = parties.peer_ipv4;
            packet(frame, parties, REPLY, parties.mac, gateway, gateway);
        },
    },
    Forgery {
        name: "an ARP probe for a neighbour's address",
        cause: Arp,
        make: |parties, frame| request(frame, parties, [0; 4], neighbour(parties)),
    },
    Forgery {
        name: "an ARP reply that gives the own address another MAC address",
        cause: Arp,
        make: |parties, frame| {
            let peer = parties.peer_ipv4;
            packet(frame, parties, REPLY, parties.peer_mac, parties.ipv4, peer);
        },
    },
    Forgery {
        name: "an ARP reply from no address",
        cause: Arp,
        make: |parties, frame| reply(frame, parties, [0; 4]),
    },
    Forgery {
        name: "an ARP packet with an operation that there is not",
        cause: Malformed,
        make: |parties, frame| {
            request(frame, parties, parties.ipv4, parties.peer_ipv4);
            frame.set16(20, 9);
        },
    },
    Forgery {
        name: "an ARP packet with long addresses",
        cause: Malformed,
        make: |parties, frame| {
            request(frame, parties, parties.ipv4, parties.peer_ipv4);
            frame.set(18, &[8, 16]);
        },
    },
    Forgery {
        name: "an ARP packet whose addresses are not declared",
        cause: HeaderTooShort,
        make: |parties, frame| {
            reply(frame, parties, parties.peer_ipv4);
            frame.header_length = 22;
        },
    },
    Forgery {
        name: "an ARP reply for the gateway in a frame as long as the network takes",
        cause: Arp,
        make: |parties, frame| {
            reply(frame, parties, parties.peer_ipv4);
            frame.resize(1514);
        },
    },
];
