//! What an application may send, and each way of cheating.

mod support;

use proptest::prelude::*;
use segue_frame_channel::{FrameOffload, header_length};
use segue_netserver_core::egress::{Approved, verify};
use segue_portmap_core::Protocol;
use segue_status::network::EgressDrop;
use smoltcp::wire::{ArpOperation, EthernetProtocol, IpProtocol, Ipv4Address, TcpControl};
use support::*;

const NONE: FrameOffload = FrameOffload {
    ipv4_checksum: false,
    transport_checksum: false,
    segment_size: 0,
};
const SUMS: FrameOffload = FrameOffload {
    ipv4_checksum: true,
    transport_checksum: true,
    segment_size: 0,
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

#[test]
fn honest_frames_pass() {
    assert_eq!(
        send(&tcp(OUT, 80, 5000, TcpControl::None, &[1; 1000])),
        Ok(())
    );
    assert_eq!(send(&tcp(OUT, 80, 5000, TcpControl::Syn, &[])), Ok(()));
    assert_eq!(send(&udp(OUT, 80, 53, &[1; 100])), Ok(()));
    assert_eq!(send(&arp(OUT, ArpOperation::Request)), Ok(()));
    assert_eq!(send(&arp(OUT, ArpOperation::Reply)), Ok(()));
    assert_eq!(send(&echo(OUT, true, 80)), Ok(()));
    assert_eq!(send(&echo(OUT, false, 4711)), Ok(()));
    assert_eq!(send(&unreachable(OUT, IpProtocol::Udp, 53, 80)), Ok(()));
    let probe = Ends {
        source: Ipv4Address::UNSPECIFIED,
        destination: SHARED,
        ..OUT
    };
    assert_eq!(send(&arp(probe, ArpOperation::Request)), Ok(()));
    // Ethernet pads short frames.
    let mut padded = tcp(OUT, 80, 5000, TcpControl::None, &[]);
    padded.resize(60, 0);
    assert_eq!(send(&padded), Ok(()));
}

#[test]
fn a_closed_port_may_be_said_to_be_closed() {
    assert_eq!(send(&tcp(OUT, 9999, 5000, TcpControl::Rst, &[])), Ok(()));
    assert_eq!(
        send(&tcp(OUT, 9999, 5000, TcpControl::Rst, &[1])),
        Err(EgressDrop::SourcePort)
    );
    assert_eq!(
        send(&tcp(OUT, 81, 5000, TcpControl::Rst, &[])),
        Err(EgressDrop::SourcePort)
    );
    assert_eq!(send(&unreachable(OUT, IpProtocol::Udp, 53, 9999)), Ok(()));
    assert_eq!(
        send(&unreachable(OUT, IpProtocol::Udp, 53, 81)),
        Err(EgressDrop::Icmp)
    );
}

#[test]
fn forged_addresses_and_ports_do_not_pass() {
    let frames = |ends: Ends| {
        [
            tcp(ends, 80, 5000, TcpControl::None, &[1; 10]),
            udp(ends, 80, 53, &[1; 10]),
            echo(ends, true, 80),
            unreachable(ends, IpProtocol::Udp, 53, 80),
        ]
    };
    for frame in frames(Ends {
        source_mac: OWN_MAC,
        ..OUT
    }) {
        assert_eq!(send(&frame), Err(EgressDrop::SourceMac));
    }
    for source in [OWN, PEER, Ipv4Address::UNSPECIFIED, Ipv4Address::BROADCAST] {
        for frame in frames(Ends { source, ..OUT }) {
            assert_eq!(send(&frame), Err(EgressDrop::SourceAddress));
        }
    }
    for port in [0, 81, 9999, 65535] {
        assert_eq!(
            send(&tcp(OUT, port, 5000, TcpControl::Syn, &[])),
            Err(EgressDrop::SourcePort)
        );
        assert_eq!(send(&udp(OUT, port, 53, &[1])), Err(EgressDrop::SourcePort));
        assert_eq!(send(&echo(OUT, true, port)), Err(EgressDrop::Icmp));
    }
    for operation in [ArpOperation::Request, ArpOperation::Reply] {
        assert_eq!(
            send(&arp(Ends { source: OWN, ..OUT }, operation)),
            Err(EgressDrop::Arp)
        );
        assert_eq!(
            send(&arp(
                Ends {
                    source: PEER,
                    ..OUT
                },
                operation
            )),
            Err(EgressDrop::Arp)
        );
        // The right Ethernet source with a forged one inside.
        let mut frame = arp(OUT, operation);
        frame[22..28].copy_from_slice(&OWN_MAC.0);
        assert_eq!(send(&frame), Err(EgressDrop::Arp));
    }
    let probe = Ends {
        source: Ipv4Address::UNSPECIFIED,
        destination: OWN,
        ..OUT
    };
    assert_eq!(
        send(&arp(probe, ArpOperation::Request)),
        Err(EgressDrop::Arp)
    );
}

#[test]
fn an_address_of_its_own_needs_no_port_table() {
    let ends = Ends {
        source_mac: OWN_MAC,
        source: OWN,
        ..OUT
    };
    assert!(send_as(2, 2, &tcp(ends, 12345, 5000, TcpControl::Syn, &[]), NONE).is_ok());
    assert!(send_as(2, 2, &udp(ends, 81, 5000, &[]), NONE).is_ok());
    assert!(send_as(2, 2, &echo(ends, true, 7), NONE).is_ok());
    assert_eq!(
        send_as(2, 2, &tcp(OUT, 80, 1, TcpControl::Syn, &[]), NONE),
        Err(EgressDrop::SourceMac)
    );
}

#[test]
fn what_nobody_sends_has_an_answer() {
    assert_eq!(
        send(&ethernet(OUT, EthernetProtocol::Unknown(0x88cc), &[0; 60])),
        Err(EgressDrop::EtherType)
    );
    // A VLAN tag hides the rest from whoever looks at fixed offsets.
    assert_eq!(
        send(&ethernet(OUT, EthernetProtocol::Unknown(0x8100), &[0; 60])),
        Err(EgressDrop::EtherType)
    );
    assert_eq!(
        send(&ipv4(OUT, IpProtocol::Igmp, &[0; 8])),
        Err(EgressDrop::Protocol)
    );
    assert_eq!(
        send(&ipv4(OUT, IpProtocol::Unknown(132), &[0; 60])),
        Err(EgressDrop::Protocol)
    );
    let mut redirect = echo(OUT, true, 80);
    redirect[34] = 5;
    assert_eq!(send(&redirect), Err(EgressDrop::Icmp));
    assert_eq!(
        send(&tcp(OUT, 80, 5000, TcpControl::None, &[0; 1461])),
        Err(EgressDrop::TooLong)
    );
    let mut options = tcp(OUT, 80, 5000, TcpControl::None, &[0; 40]);
    options[14] = 0x46;
    assert_eq!(send(&options), Err(EgressDrop::Options));
}

#[test]
fn fragments_of_sharers_are_udp_alone_and_named() {
    for (flags, offset) in [(0x20u8, 0u8), (0x20, 1), (0, 2)] {
        let mut fragment = udp(OUT, 80, 53, &[1; 64]);
        // The datagram is longer than this fragment of it.
        fragment[38..40].copy_from_slice(&200u16.to_be_bytes());
        fragment[20] = flags;
        fragment[21] = offset;
        let named = send_as(2, 0, &fragment, NONE).unwrap().fragment.unwrap();
        assert_eq!(named.is_first, offset == 0);
        assert_eq!((named.datagram.ours, named.datagram.peer), (SHARED, PEER));
        let alone = send_as(1, 0, &fragment, NONE).unwrap();
        assert_eq!(alone.fragment, None);
        for protocol in [1, 6] {
            let mut other = fragment.clone();
            other[23] = protocol;
            assert_eq!(send_as(2, 0, &other, NONE), Err(EgressDrop::Fragment));
        }
        assert_eq!(send_as(1, 0, &fragment, SUMS), Err(EgressDrop::Offload));
        if offset == 0 {
            fragment[34..36].copy_from_slice(&81u16.to_be_bytes());
            assert_eq!(send_as(1, 0, &fragment, NONE), Err(EgressDrop::SourcePort));
        }
    }
}

#[test]
fn headers_that_contradict_themselves_do_not_pass() {
    let change = |at: usize, value: u8| {
        let mut frame = udp(OUT, 80, 53, &[1; 64]);
        frame[at] = value;
        send(&frame)
    };
    assert_eq!(change(14, 0x65), Err(EgressDrop::Malformed), "version 6");
    assert_eq!(
        change(14, 0x44),
        Err(EgressDrop::Malformed),
        "16 bytes of header"
    );
    assert_eq!(
        change(16, 1),
        Err(EgressDrop::Malformed),
        "longer than the frame"
    );
    assert_eq!(
        change(17, 19),
        Err(EgressDrop::Malformed),
        "shorter than its header"
    );
    assert_eq!(
        change(39, 71),
        Err(EgressDrop::Malformed),
        "UDP shorter than the packet"
    );
    assert_eq!(
        change(39, 73),
        Err(EgressDrop::Malformed),
        "UDP longer than the packet"
    );
    let mut frame = tcp(OUT, 80, 5000, TcpControl::None, &[]);
    let whole = |frame: &[u8]| verify(&directory(2), 0, frame, frame.len(), NONE);
    for (offset, text) in [
        (0x40, "16 bytes of TCP header"),
        (0xf0, "60 bytes of TCP header in 20"),
    ] {
        frame[46] = offset;
        assert_eq!(whole(&frame), Err(EgressDrop::Malformed), "{text}");
    }
    // The packet ends before its ports, which the padding behind it then fakes.
    let mut frame = tcp(OUT, 80, 5000, TcpControl::None, &[1; 60]);
    frame[16..18].copy_from_slice(&20u16.to_be_bytes());
    assert_eq!(send(&frame), Err(EgressDrop::Malformed));
    for length in 0..14 {
        assert_eq!(
            verify(&directory(2), 0, &frame[..length], length, NONE),
            Err(EgressDrop::Malformed)
        );
    }
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
    check(&tcp(OUT, 80, 5000, TcpControl::None, &[1; 100]), 54);
    check(&udp(OUT, 80, 53, &[1; 100]), 42);
    check(&echo(OUT, true, 80), 42);
    check(&arp(OUT, ArpOperation::Request), 42);
    check(&unreachable(OUT, IpProtocol::Udp, 53, 80), 42 + 24);
}

#[test]
fn offloads_are_passed_on_as_far_as_they_make_sense() {
    let long = tcp(OUT, 80, 5000, TcpControl::None, &vec![1; 60_000]);
    let segments = FrameOffload {
        segment_size: 1460,
        ..SUMS
    };
    let approved = send_as(2, 0, &long, segments).unwrap();
    let offload = approved.offload.unwrap();
    assert_eq!(offload.transport, Some(Protocol::Tcp));
    assert_eq!(
        (offload.ip_header_length, offload.transport_header_length),
        (20, 20)
    );
    assert_eq!(offload.segment_size, 1460);
    assert_eq!(approved.wire_length, 60_000 + 42 * 54);
    assert_eq!(send_as(2, 0, &long, SUMS), Err(EgressDrop::TooLong));
    for (segment_size, cause) in [(63, EgressDrop::Offload), (1461, EgressDrop::TooLong)] {
        assert_eq!(
            send_as(
                2,
                0,
                &long,
                FrameOffload {
                    segment_size,
                    ..SUMS
                }
            ),
            Err(cause)
        );
    }
    let mut contradiction = long.clone();
    contradiction[16..18].copy_from_slice(&1000u16.to_be_bytes());
    assert_eq!(
        send_as(2, 0, &contradiction, segments),
        Err(EgressDrop::Malformed)
    );
    let datagram = udp(OUT, 80, 53, &[1; 100]);
    assert_eq!(send_as(2, 0, &datagram, segments), Err(EgressDrop::Offload));
    let offload = send_as(2, 0, &datagram, SUMS).unwrap().offload.unwrap();
    assert_eq!(
        (offload.transport, offload.transport_header_length),
        (Some(Protocol::Udp), 8)
    );
    assert_eq!(
        send_as(2, 0, &echo(OUT, true, 80), SUMS),
        Err(EgressDrop::Offload)
    );
    assert_eq!(
        send_as(2, 0, &arp(OUT, ArpOperation::Request), SUMS),
        Err(EgressDrop::Offload)
    );
    let header_only = FrameOffload {
        ipv4_checksum: true,
        ..NONE
    };
    let offload = send_as(2, 0, &echo(OUT, true, 80), header_only)
        .unwrap()
        .offload
        .unwrap();
    assert_eq!((offload.transport, offload.segment_size), (None, 0));
}

proptest! {
    /// Whatever passes carries the sender's addresses and one of its ports.
    #[test]
    fn nothing_forged_passes(
        kind in 0usize..5,
        flips in prop::collection::vec((0usize..70, any::<u8>()), 0..6),
        cut in 0usize..120,
        sender in 0usize..3,
    ) {
        let mut frame = match kind {
            0 => tcp(OUT, 80, 5000, TcpControl::None, &[1; 40]),
            1 => udp(OUT, 80, 53, &[1; 40]),
            2 => echo(OUT, true, 80),
            3 => unreachable(OUT, IpProtocol::Udp, 53, 80),
            _ => arp(OUT, ArpOperation::Request),
        };
        for (at, value) in flips {
            if at < frame.len() {
                frame[at] = value;
            }
        }
        let header = &frame[..cut.min(frame.len())];
        let directory = directory(2);
        let identity = *directory.identity(sender);
        if let Ok(approved) = verify(&directory, sender, header, frame.len(), NONE) {
            prop_assert_eq!(&frame[6..12], identity.mac.as_bytes());
            if frame[12..14] == [8, 6] {
                let source = &frame[28..32];
                prop_assert!(source == identity.ipv4.octets() || source == [0; 4]);
            } else {
                prop_assert_eq!(&frame[12..14], &[8, 0]);
                prop_assert_eq!(&frame[26..30], &identity.ipv4.octets());
                let field = u16::from_be_bytes([frame[20], frame[21]]) & 0x3fff;
                let named = sender != 2 && field != 0;
                prop_assert_eq!(approved.fragment.is_some(), named);
                if field & 0x1fff != 0 {
                    // Without ports: its datagram must be the sender's.
                    prop_assert!(sender == 2 || frame[23] == 17);
                    return Ok(());
                }
                prop_assert!(header.len() >= 42);
                let port = u16::from_be_bytes([frame[34], frame[35]]);
                let own = [80, 81].get(sender);
                match frame[23] {
                    6 if frame[47] & 4 != 0 => {}
                    6 | 17 => prop_assert!(sender == 2 || own == Some(&port)),
                    1 => {}
                    other => prop_assert!(false, "protocol {}", other),
                }
            }
        }
    }
}
