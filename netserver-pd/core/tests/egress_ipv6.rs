//! What an application may send over IPv6, and each way of cheating.

mod support;

use proptest::prelude::*;
use segue_frame_channel::{FrameOffload, header_length};
use segue_netserver_core::egress::{Approved, verify};
use segue_portmap_core::{Family, Protocol};
use segue_status::network::EgressDrop;
use smoltcp::wire::{IpProtocol, Ipv6Address, NdiscNeighborFlags, TcpControl};
use support::ipv6::*;
use support::{OWN_MAC, SHARED_MAC, directory};

const NONE: FrameOffload = FrameOffload {
    ipv4_checksum: false,
    transport_checksum: false,
    segment_size: 0,
};
const SUM: FrameOffload = FrameOffload {
    transport_checksum: true,
    ..NONE
};

fn send_as(
    sharers: u32,
    sender: usize,
    frame: &[u8],
    offload: FrameOffload,
) -> Result<Approved, EgressDrop> {
    let header = &frame[..usize::from(header_length(frame))];
    verify(&directory(sharers), sender, header, frame.len(), offload)
}

fn send(frame: &[u8]) -> Result<(), EgressDrop> {
    send_as(2, 0, frame, NONE).map(|_| ())
}

/// The sender's other address.
const LINK_LOCAL: Ends = Ends {
    source: SHARED_LINK_LOCAL,
    ..OUT
};

fn probe() -> Ends {
    Ends {
        source: Ipv6Address::UNSPECIFIED,
        ..OUT
    }
}

#[test]
fn honest_frames_pass() {
    for ends in [OUT, LINK_LOCAL] {
        for frame in [
            tcp(ends, 80, 5000, TcpControl::None, &[1; 1000]),
            tcp(ends, 80, 5000, TcpControl::Syn, &[]),
            udp(ends, 80, 53, &[1; 100]),
            echo(ends, true, 80),
            echo(ends, false, 4711),
            unreachable(ends, IpProtocol::Udp, 53, 80),
            solicit_group(ends, PEER),
            solicit(ends, PEER),
            advertise(ends, SHARED),
            advertise(ends, SHARED_LINK_LOCAL),
        ] {
            assert_eq!(send(&frame), Ok(()));
        }
    }
    for target in [SHARED, SHARED_LINK_LOCAL] {
        assert_eq!(send(&solicit_group(probe(), target)), Ok(()));
    }
    // Padding behind the packet is nobody's business.
    let mut padded = tcp(OUT, 80, 5000, TcpControl::None, &[]);
    padded.resize(90, 0);
    assert_eq!(send(&padded), Ok(()));
    let mut without_option = solicit(OUT, PEER);
    without_option.truncate(78);
    without_option[19] = 24;
    assert_eq!(send(&sum(without_option)), Ok(()));
}

#[test]
fn a_closed_port_may_be_said_to_be_closed() {
    assert_eq!(send(&tcp(OUT, 9999, 5000, TcpControl::Rst, &[])), Ok(()));
    for (port, payload) in [(9999, &[1][..]), (81, &[])] {
        assert_eq!(
            send(&tcp(OUT, port, 5000, TcpControl::Rst, payload)),
            Err(EgressDrop::SourcePort)
        );
    }
    assert_eq!(send(&unreachable(OUT, IpProtocol::Udp, 53, 9999)), Ok(()));
    for forged in [
        unreachable(OUT, IpProtocol::Udp, 53, 81),
        unreachable(OUT, IpProtocol::Icmpv6, 53, 80),
        unreachable(OUT, IpProtocol::HopByHop, 53, 80),
    ] {
        assert_eq!(send(&forged), Err(EgressDrop::Icmp));
    }
    // About a packet to another.
    let mut of_another = unreachable(OUT, IpProtocol::Udp, 53, 80);
    of_another[86..102].copy_from_slice(&OWN.octets());
    assert_eq!(send(&of_another), Err(EgressDrop::Icmp));
    let mut not_ipv6 = unreachable(OUT, IpProtocol::Udp, 53, 80);
    not_ipv6[62] = 0x45;
    assert_eq!(send(&not_ipv6), Err(EgressDrop::Icmp));
}

#[test]
fn forged_addresses_and_ports_do_not_pass() {
    let frames = |ends: Ends| {
        [
            tcp(ends, 80, 5000, TcpControl::None, &[1; 10]),
            udp(ends, 80, 53, &[1; 10]),
            echo(ends, true, 80),
            unreachable(ends, IpProtocol::Udp, 53, 80),
            solicit_group(ends, PEER),
            advertise(ends, SHARED),
        ]
    };
    for frame in frames(Ends {
        source_mac: OWN_MAC,
        ..OUT
    }) {
        assert_eq!(send(&frame), Err(EgressDrop::SourceMac));
    }
    let mapped = Ipv6Address::new(0, 0, 0, 0, 0, 0xffff, 0x0a00, 0x020f);
    for source in [
        OWN,
        OWN_LINK_LOCAL,
        PEER,
        ALL_NODES,
        Ipv6Address::LOCALHOST,
        mapped,
    ] {
        for frame in frames(Ends { source, ..OUT }) {
            assert_eq!(send(&frame), Err(EgressDrop::SourceAddress), "{source}");
        }
    }
    let [
        tcp_frame,
        udp_frame,
        echo_frame,
        error,
        solicitation,
        advertisement,
    ] = frames(probe());
    for frame in [tcp_frame, udp_frame, echo_frame, error, advertisement] {
        assert_eq!(send(&frame), Err(EgressDrop::SourceAddress));
    }
    assert_eq!(send(&solicitation), Err(EgressDrop::NeighborDiscovery));
    for port in [0, 81, 9999, 65535] {
        assert_eq!(
            send(&tcp(OUT, port, 5000, TcpControl::Syn, &[])),
            Err(EgressDrop::SourcePort)
        );
        assert_eq!(send(&udp(OUT, port, 53, &[1])), Err(EgressDrop::SourcePort));
        assert_eq!(send(&echo(OUT, true, port)), Err(EgressDrop::Icmp));
    }
}

/// Ports are owned in each version of IP by itself.
#[test]
fn a_port_of_ipv4_is_none_of_ipv6() {
    use segue_netserver_core::Directory;
    use segue_portmap_core::{Families, PortReader, PortTable, TABLE_SIZE};
    let region = segue_shared_memory::testing::leaked_region(TABLE_SIZE);
    let mut ports = PortTable::new(region).unwrap();
    for protocol in Protocol::ALL {
        ports.bind(1, Families::V4, protocol, 80).unwrap();
        ports.bind(1, Families::V6, protocol, 82).unwrap();
    }
    let directory = Directory::new(&support::table(2), PortReader::new(region).unwrap(), None);
    let send = |frame: &[u8]| verify(&directory, 0, frame, frame.len(), NONE).map(|_| ());
    for frame in [udp(OUT, 80, 1, &[]), tcp(OUT, 80, 1, TcpControl::Syn, &[])] {
        assert_eq!(send(&frame), Err(EgressDrop::SourcePort));
    }
    assert_eq!(send(&echo(OUT, true, 80)), Err(EgressDrop::Icmp));
    let of_ipv4 = support::udp(support::OUT, 82, 1, &[]);
    assert_eq!(send(&of_ipv4), Err(EgressDrop::SourcePort));
    for frame in [udp(OUT, 82, 1, &[]), echo(OUT, true, 82)] {
        assert_eq!(send(&frame), Ok(()));
    }
}

#[test]
fn neighbours_learn_nothing_but_the_senders_own_addresses() {
    let refused = |frame: Vec<u8>, text: &str| {
        let frame = sum(frame);
        assert_eq!(send(&frame), Err(EgressDrop::NeighborDiscovery), "{text}");
    };
    for target in [OWN, OWN_LINK_LOCAL, PEER, NOBODY] {
        refused(advertise(OUT, target), "the address is another's");
        refused(
            solicit_group(probe(), target),
            "a probe for another's address",
        );
    }
    refused(
        advertise_with(OUT, SHARED, NdiscNeighborFlags::ROUTER),
        "it is no router",
    );
    refused(solicit(OUT, ALL_NODES), "groups have no neighbour");
    for mut frame in [advertise(OUT, SHARED), solicit(OUT, PEER)] {
        let kind = frame[78];
        let mut change = |at: usize, value: u8, text: &str| {
            let before = std::mem::replace(&mut frame[at], value);
            refused(frame.clone(), text);
            frame[at] = before;
        };
        change(21, 254, "it may come from beyond the link");
        change(55, 1, "the code");
        change(80, 0x53, "another's MAC address");
        change(79, 2, "an option that reaches beyond the message");
        change(79, 0, "an option without length");
        for kind in [3, 4, 5, 14, 25] {
            change(78, kind, "another option");
        }
        change(78, 3 - kind, "the other end's option");
    }
    // A second option, whatever it says.
    for mut frame in [advertise(OUT, SHARED), solicit(OUT, PEER)] {
        let option = frame[78..86].to_vec();
        frame.extend(option);
        frame[19] += 8;
        refused(frame.clone(), "two options");
        frame.truncate(90);
        frame[19] -= 4;
        refused(frame, "half an option");
    }
    // A probe has an option, or goes where it is not looked for.
    let mut with_option = solicit_group(OUT, SHARED);
    with_option[22..38].fill(0);
    refused(with_option, "a probe with an option");
    refused(solicit(probe(), SHARED), "a probe to one host");
    let everybody = Ends {
        destination: ALL_NODES,
        ..probe()
    };
    refused(solicit(everybody, SHARED), "a probe to everybody");
    for kind in [133, 134, 137] {
        let mut frame = solicit(OUT, PEER);
        frame[54] = kind;
        refused(frame, "for routers");
    }
}

#[test]
fn an_address_of_its_own_needs_no_port_table() {
    for (source, mac) in [(OWN, OWN_MAC), (OWN_LINK_LOCAL, OWN_MAC)] {
        let ends = Ends {
            source_mac: mac,
            source,
            ..OUT
        };
        for frame in [
            tcp(ends, 12345, 5000, TcpControl::Syn, &[]),
            udp(ends, 81, 5000, &[]),
            echo(ends, true, 7),
            unreachable(ends, IpProtocol::Icmpv6, 1, 2),
            advertise(ends, OWN),
        ] {
            assert_eq!(send_as(2, 2, &frame, NONE).map(|_| ()), Ok(()));
        }
    }
    assert_eq!(
        send_as(2, 2, &tcp(OUT, 80, 1, TcpControl::Syn, &[]), NONE),
        Err(EgressDrop::SourceMac)
    );
    let stolen = Ends {
        source_mac: OWN_MAC,
        ..OUT
    };
    assert_eq!(
        send_as(2, 2, &udp(stolen, 80, 1, &[]), NONE),
        Err(EgressDrop::SourceAddress)
    );
}

#[test]
fn nothing_hides_behind_other_headers() {
    for sharers in [1, 2] {
        let check = |next_header: u8, cause| {
            // What follows looks like an honest datagram, with and without a header
            // before it.
            for payload in [[0; 48], [17; 48]] {
                let frame = ipv6(OUT, next_header.into(), 64, &payload);
                assert_eq!(
                    send_as(sharers, 0, &frame, NONE),
                    Err(cause),
                    "{next_header}"
                );
            }
        };
        for next_header in 0..=255 {
            match next_header {
                6 | 17 | 58 => {}
                44 => check(44, EgressDrop::Fragment),
                0 | 43 | 50 | 51 | 60 | 135 | 139 | 140 | 253 | 254 => {
                    check(next_header, EgressDrop::ExtensionHeader);
                }
                _ => check(next_header, EgressDrop::Protocol),
            }
        }
    }
    for kind in [2, 3, 4, 0, 100, 127, 130, 131, 132, 143, 200, 255] {
        let mut frame = echo(OUT, false, 80);
        frame[54] = kind;
        assert_eq!(send(&frame), Err(EgressDrop::Icmp), "{kind}");
    }
}

#[test]
fn headers_that_contradict_themselves_do_not_pass() {
    let change = |at: usize, value: u8, text: &str| {
        let mut frame = udp(OUT, 80, 53, &[1; 64]);
        frame[at] = value;
        assert_eq!(send(&frame), Err(EgressDrop::Malformed), "{text}");
    };
    change(14, 0x45, "version 4");
    change(18, 1, "longer than the frame");
    change(19, 7, "shorter than its header");
    change(19, 0, "a jumbo payload's length");
    change(59, 71, "UDP shorter than the packet");
    change(59, 73, "UDP longer than the packet");
    let mut frame = tcp(OUT, 80, 5000, TcpControl::None, &[]);
    for (offset, text) in [
        (0x40, "16 bytes of TCP header"),
        (0xf0, "60 bytes of TCP header in 20"),
    ] {
        frame[66] = offset;
        let verdict = verify(&directory(2), 0, &frame, frame.len(), NONE);
        assert_eq!(verdict, Err(EgressDrop::Malformed), "{text}");
    }
    // The packet ends before its ports, which the padding behind it then fakes.
    let mut frame = tcp(OUT, 80, 5000, TcpControl::None, &[1; 60]);
    frame[18..20].fill(0);
    assert_eq!(send(&frame), Err(EgressDrop::Malformed));
    let mut frame = solicit(OUT, PEER);
    frame[19] = 23;
    assert_eq!(send(&frame), Err(EgressDrop::Malformed));
    let mut frame = echo(OUT, true, 80);
    frame[19] = 7;
    assert_eq!(send(&frame), Err(EgressDrop::Malformed));
    assert_eq!(
        send(&tcp(OUT, 80, 5000, TcpControl::None, &[0; 1441])),
        Err(EgressDrop::TooLong)
    );
}

#[test]
fn what_is_not_declared_as_header_is_not_verified_and_not_sent() {
    let check = |frame: &[u8], whole: usize| {
        for length in 14..whole {
            let verdict = verify(&directory(2), 0, &frame[..length], frame.len(), NONE);
            assert_eq!(
                verdict,
                Err(EgressDrop::HeaderTooShort),
                "{length} of {whole}"
            );
        }
        assert!(verify(&directory(2), 0, &frame[..whole], frame.len(), NONE).is_ok());
    };
    check(&tcp(OUT, 80, 5000, TcpControl::None, &[1; 100]), 74);
    check(&udp(OUT, 80, 53, &[1; 100]), 62);
    check(&echo(OUT, true, 80), 62);
    check(&unreachable(OUT, IpProtocol::Udp, 53, 80), 62 + 44);
    // All of these: an option behind the header could say anything.
    check(&solicit(OUT, PEER), 86);
    check(&advertise(OUT, SHARED), 86);
}

#[test]
fn offloads_are_passed_on_as_far_as_they_make_sense() {
    for (frame, protocol, length) in [
        (
            tcp(OUT, 80, 5000, TcpControl::None, &[1; 100]),
            Protocol::Tcp,
            20,
        ),
        (udp(OUT, 80, 53, &[1; 100]), Protocol::Udp, 8),
    ] {
        let approved = send_as(2, 0, &frame, SUM).unwrap();
        assert_eq!(approved.wire_length, frame.len());
        assert_eq!(approved.fragment, None);
        let offload = approved.offload.unwrap();
        assert_eq!((offload.family, offload.ip_header_length), (Family::V6, 40));
        assert_eq!(
            (offload.transport, offload.transport_header_length),
            (Some(protocol), length)
        );
        assert_eq!(offload.segment_size, 0);
        assert_eq!(send_as(2, 0, &frame, NONE).unwrap().offload, None);
        for refused in [
            FrameOffload {
                ipv4_checksum: true,
                ..SUM
            },
            FrameOffload {
                ipv4_checksum: true,
                ..NONE
            },
            FrameOffload {
                segment_size: 1000,
                ..SUM
            },
        ] {
            assert_eq!(send_as(2, 0, &frame, refused), Err(EgressDrop::Offload));
        }
    }
    for frame in [echo(OUT, true, 80), solicit(OUT, PEER)] {
        assert_eq!(send_as(2, 0, &frame, SUM), Err(EgressDrop::Offload));
    }
}

proptest! {
    /// No frame that passes has a source that is not the sender's, or tells others
    /// of an address that is not.
    #[test]
    fn nothing_forged_passes(
        kind in 0usize..8,
        flips in prop::collection::vec((0usize..110, any::<u8>()), 0..6),
        cut in 0usize..160,
        sender in 0usize..3,
        swap in any::<bool>(),
        offload in 0..8u16,
    ) {
        let mut ends = if kind % 2 == 0 { OUT } else { LINK_LOCAL };
        if swap {
            ends.source_mac = OWN_MAC;
        }
        let mut frame = match kind {
            0 => tcp(ends, 80, 5000, TcpControl::None, &[1; 40]),
            1 => udp(ends, 81, 53, &[1; 40]),
            2 => echo(ends, true, 80),
            3 => unreachable(ends, IpProtocol::Udp, 53, 80),
            4 => solicit(ends, PEER),
            5 => advertise(ends, SHARED_LINK_LOCAL),
            6 => solicit_group(Ends { source: Ipv6Address::UNSPECIFIED, ..ends }, SHARED),
            _ => advertise(ends, OWN),
        };
        for (at, value) in flips {
            if at < frame.len() {
                frame[at] = value;
            }
        }
        let offload = FrameOffload {
            ipv4_checksum: offload & 1 != 0,
            transport_checksum: offload & 2 != 0,
            segment_size: (offload >> 2) * 1000,
        };
        let header = &frame[..cut.min(frame.len())];
        let directory = directory(2);
        if verify(&directory, sender, header, frame.len(), offload).is_err()
            || frame[12..14] != [0x86, 0xdd]
        {
            return Ok(());
        }
        let (mac, own) = match sender {
            2 => (OWN_MAC, [OWN.octets(), OWN_LINK_LOCAL.octets()]),
            _ => (SHARED_MAC, [SHARED.octets(), SHARED_LINK_LOCAL.octets()]),
        };
        let is_own = |at: usize| own.iter().any(|address| frame[at..at + 16] == *address);
        prop_assert_eq!(&frame[6..12], &mac.0);
        prop_assert!(!offload.ipv4_checksum && offload.segment_size == 0);
        let is_probe = frame[22..38] == [0; 16] && frame[20] == 58 && frame[54] == 135;
        prop_assert!(is_own(22) || is_probe);
        prop_assert!(header.len() >= 62);
        let port = u16::from_be_bytes([frame[54], frame[55]]);
        let port_is_own = sender == 2 || port == 80 + sender as u16;
        match (frame[20], frame[54]) {
            (6, _) if frame[67] & 4 != 0 => {}
            (6 | 17, _) => prop_assert!(port_is_own),
            (58, 1 | 128 | 129) => {}
            (58, 135 | 136) => {
                prop_assert_eq!(frame[21], 255);
                let end = 54 + usize::from(frame[19]);
                prop_assert!(header.len() >= end);
                prop_assert!(frame[54] == 135 && !is_probe || is_own(62));
                if end > 78 {
                    prop_assert!(!is_probe);
                    prop_assert_eq!(end, 86);
                    prop_assert_eq!(frame[78], frame[54] - 134);
                    prop_assert_eq!(&frame[80..86], &mac.0);
                }
            }
            other => prop_assert!(false, "{:?}", other),
        }
    }
}
