//! ICMP.

use segue_status::network::EgressDrop::{Fragment, HeaderTooShort, Icmp, Malformed};

use crate::frame::TRANSPORT;
use crate::ipv4::fragment;
use crate::{ANOTHERS_PORT, FREE_PORT, Forgery, Frame, Parties};

/// Bytes of an ICMP header, and of the packet that an error quotes.
const HEADER: usize = 8;
const QUOTED: usize = 28;

/// "Unreachable" about a packet from the peer to this port of the sender's address.
pub(crate) fn unreachable(frame: &mut Frame, parties: &Parties, code: u8, protocol: u8, port: u16) {
    frame.ipv4(parties, 1, HEADER + QUOTED + 8);
    frame.set(TRANSPORT, &[3, code]);
    let quoted = TRANSPORT + HEADER;
    frame.set(quoted, &[0x45, 0, 0, QUOTED as u8]);
    frame.set(quoted + 8, &[64, protocol]);
    frame.set(quoted + 12, &parties.peer_ipv4);
    frame.set(quoted + 16, &parties.ipv4);
    frame.set16(quoted + 20, 5000);
    frame.set16(quoted + 22, port);
}

pub(crate) const FORGERIES: &[Forgery] = &[
    Forgery {
        name: "an ICMP redirect",
        cause: Icmp,
        make: |parties, frame| frame.icmp(parties, 5, 1),
    },
    Forgery {
        name: "an ICMP router advertisement",
        cause: Icmp,
        make: |parties, frame| frame.icmp(parties, 9, 0),
    },
    Forgery {
        name: "an ICMP router solicitation",
        cause: Icmp,
        make: |parties, frame| frame.icmp(parties, 10, 0),
    },
    Forgery {
        name: "ICMP source quench",
        cause: Icmp,
        make: |parties, frame| frame.icmp(parties, 4, 0),
    },
    Forgery {
        name: "ICMP time exceeded",
        cause: Icmp,
        make: |parties, frame| frame.icmp(parties, 11, 0),
    },
    Forgery {
        name: "an ICMP parameter problem",
        cause: Icmp,
        make: |parties, frame| frame.icmp(parties, 12, 0),
    },
    Forgery {
        name: "an ICMP timestamp request",
        cause: Icmp,
        make: |parties, frame| frame.icmp(parties, 13, 0),
    },
    Forgery {
        name: "an ICMP address mask reply",
        cause: Icmp,
        make: |parties, frame| frame.icmp(parties, 18, 0),
    },
    Forgery {
        name: "an echo request with the identifier of nobody",
        cause: Icmp,
        make: |parties, frame| {
            frame.icmp(parties, 8, 0);
            frame.set16(TRANSPORT + 4, FREE_PORT);
        },
    },
    Forgery {
        name: "\"port unreachable\" about another's connection",
        cause: Icmp,
        make: |parties, frame| unreachable(frame, parties, 3, 6, ANOTHERS_PORT),
    },
    Forgery {
        name: "\"packet too big\" about another's connection",
        cause: Icmp,
        make: |parties, frame| {
            unreachable(frame, parties, 4, 6, ANOTHERS_PORT);
            frame.set16(TRANSPORT + 6, 68);
        },
    },
    Forgery {
        name: "\"unreachable\" about a packet to another address",
        cause: Icmp,
        make: |parties, frame| {
            unreachable(frame, parties, 3, 17, FREE_PORT);
            frame.set(TRANSPORT + HEADER + 16, &parties.peer_ipv4);
        },
    },
    Forgery {
        name: "\"unreachable\" about a protocol without ports",
        cause: Icmp,
        make: |parties, frame| unreachable(frame, parties, 2, 47, FREE_PORT),
    },
    Forgery {
        name: "\"unreachable\" about what is no IPv4 packet",
        cause: Icmp,
        make: |parties, frame| {
            unreachable(frame, parties, 3, 17, FREE_PORT);
            frame.set(TRANSPORT + HEADER, &[0x65]);
        },
    },
    Forgery {
        name: "\"unreachable\" whose quoted ports lie behind options that end it",
        cause: Malformed,
        make: |parties, frame| {
            unreachable(frame, parties, 3, 17, FREE_PORT);
            frame.set(TRANSPORT + HEADER, &[0x4f]);
        },
    },
    Forgery {
        name: "\"unreachable\" whose quoted ports are not declared",
        cause: HeaderTooShort,
        make: |parties, frame| {
            unreachable(frame, parties, 3, 6, ANOTHERS_PORT);
            frame.header_length = TRANSPORT + HEADER + 20;
        },
    },
    Forgery {
        name: "an ICMP message that is not declared",
        cause: HeaderTooShort,
        make: |parties, frame| {
            frame.icmp(parties, 5, 1);
            frame.header_length = TRANSPORT;
        },
    },
    Forgery {
        name: "half an ICMP header",
        cause: Malformed,
        make: |parties, frame| {
            frame.icmp(parties, 0, 0);
            frame.set16(16, 24);
        },
    },
    Forgery {
        name: "an ICMP redirect in fragments",
        cause: Fragment,
        make: |parties, frame| {
            frame.icmp(parties, 5, 1);
            fragment(frame, 0x2000, 0, 0x2000);
        },
    },
    Forgery {
        name: "a later fragment of ICMP",
        cause: Fragment,
        make: |parties, frame| {
            frame.icmp(parties, 0, 0);
            fragment(frame, 0x2000, 64, 0);
        },
    },
];
