//! What is left to the network card.

use segue_frame_channel::FrameOffload;
use segue_status::network::EgressDrop::{
    Fragment, Malformed, Offload, Protocol, SourceAddress, SourceMac, SourcePort, TooLong,
};

use crate::frame::{LONGEST, TRANSPORT};
use crate::ipv4::fragment;
use crate::{ANOTHERS_PORT, FREE_PORT, Forgery, Frame, Parties, arp};

const CHECKSUMS: FrameOffload = FrameOffload {
    ipv4_checksum: true,
    transport_checksum: true,
    segment_size: 0,
};

/// Bytes of a frame to be cut.
const LENGTH: usize = 3000;

/// An honest TCP segment to be cut to segments of this many bytes.
pub(crate) fn long_segment(frame: &mut Frame, parties: &Parties, segment_size: u16) {
    segment(frame, parties, LENGTH, segment_size);
}

/// The longest one that there is.
pub(crate) fn longest_segment(frame: &mut Frame, parties: &Parties) {
    segment(frame, parties, LONGEST, 1448);
}

fn segment(frame: &mut Frame, parties: &Parties, length: usize, segment_size: u16) {
    frame.tcp(parties);
    frame.set16(16, (length - 14) as u16);
    frame.resize(length);
    // The card ends the headers where these do.
    frame.header_length = TRANSPORT + 20;
    frame.offload = FrameOffload {
        segment_size,
        ..CHECKSUMS
    };
    frame.fix_checksum();
}

pub(crate) const FORGERIES: &[Forgery] = &[
    Forgery {
        name: "segmentation from another's port",
        cause: SourcePort,
        make: |parties, frame| {
            long_segment(frame, parties, 1448);
            frame.set16(TRANSPORT, ANOTHERS_PORT);
        },
    },
    Forgery {
        name: "segmentation from another MAC address",
        cause: SourceMac,
        make: |parties, frame| {
            long_segment(frame, parties, 1448);
            frame.set(6, &parties.peer_mac);
        },
    },
    Forgery {
        name: "segmentation from another address",
        cause: SourceAddress,
        make: |parties, frame| {
            long_segment(frame, parties, 1448);
            frame.set(26, &parties.peer_ipv4);
        },
    },
    Forgery {
        name: "segmentation of a datagram",
        cause: Offload,
        make: |parties, frame| {
            frame.udp(parties);
            frame.offload = FrameOffload {
                segment_size: 100,
                ..CHECKSUMS
            };
        },
    },
    Forgery {
        name: "segmentation of ICMP",
        cause: Offload,
        make: |parties, frame| {
            frame.icmp(parties, 0, 0);
            frame.offload = FrameOffload {
                segment_size: 100,
                ..CHECKSUMS
            };
        },
    },
    Forgery {
        name: "segments of one byte",
        cause: Offload,
        make: |parties, frame| long_segment(frame, parties, 1),
    },
    Forgery {
        name: "segments longer than the network takes",
        cause: TooLong,
        make: |parties, frame| long_segment(frame, parties, 1480),
    },
    Forgery {
        name: "segmentation of a packet that says it is short",
        cause: Malformed,
        make: |parties, frame| {
            long_segment(frame, parties, 1448);
            frame.set16(16, 1000);
        },
    },
    Forgery {
        name: "segmentation of a fragment",
        cause: Fragment,
        make: |parties, frame| {
            long_segment(frame, parties, 1448);
            fragment(frame, 0x3000, 0, 0x2000);
        },
    },
    Forgery {
        name: "segmentation of a TCP header that reaches into the payload",
        cause: Malformed,
        make: |parties, frame| {
            long_segment(frame, parties, 1448);
            frame.set(TRANSPORT + 12, &[0x10]);
        },
    },
    Forgery {
        name: "a checksum for ARP",
        cause: Offload,
        make: |parties, frame| {
            arp::request(frame, parties, parties.ipv4, parties.peer_ipv4);
            frame.offload = CHECKSUMS;
        },
    },
    Forgery {
        name: "a transport checksum for ICMP",
        cause: Offload,
        make: |parties, frame| {
            frame.icmp(parties, 0, 0);
            frame.offload = CHECKSUMS;
        },
    },
    Forgery {
        name: "a transport checksum for a fragment, which would write into another's",
        cause: Offload,
        make: |parties, frame| {
            frame.udp(parties);
            fragment(frame, 0x3001, 1480, 0);
            frame.offload = CHECKSUMS;
        },
    },
    Forgery {
        name: "a checksum for another's port",
        cause: SourcePort,
        make: |parties, frame| {
            frame.udp(parties);
            frame.set16(TRANSPORT, FREE_PORT);
            frame.offload = CHECKSUMS;
        },
    },
    Forgery {
        name: "a checksum for another protocol",
        cause: Protocol,
        make: |parties, frame| {
            frame.udp(parties);
            frame.set(23, &[132]);
            frame.offload = CHECKSUMS;
        },
    },
];
