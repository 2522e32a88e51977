//! IPv6 frames that stay inside the machine, and the server's own answers.

mod support;

use segue_frame_channel::FrameOffload;
use segue_netserver_core::answer::BURST;
use segue_status::network::{Counter, EgressDrop, IngressDrop, ServerCounter};
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::*;
use support::ipv6::*;
use support::world::*;
use support::{OWN_MAC, PEER_MAC, SHARED_MAC};

/// From the application with an address of its own to the shared one.
const FROM_OWN: Ends = Ends {
    source_mac: OWN_MAC,
    destination_mac: SHARED_MAC,
    source: OWN,
    destination: SHARED,
};
/// From one sharer to another.
const AMONG: Ends = Ends {
    destination_mac: SHARED_MAC,
    destination: SHARED,
    ..OUT
};
const SUM: FrameOffload = FrameOffload {
    ipv4_checksum: false,
    transport_checksum: true,
    segment_size: 0,
};

fn nothing() -> Vec<Vec<u8>> {
    Vec::new()
}

/// The segment in a frame whose checksum is right.
fn parse(frame: &[u8]) -> TcpRepr<'_> {
    let packet = Ipv6Packet::new_checked(&frame[14..]).unwrap();
    assert_eq!(packet.total_len(), frame.len() - 14);
    let ends = (packet.src_addr().into(), packet.dst_addr().into());
    let segment = TcpPacket::new_checked(packet.payload()).unwrap();
    assert!(segment.verify_checksum(&ends.0, &ends.1));
    TcpRepr::parse(&segment, &ends.0, &ends.1, &ChecksumCapabilities::default()).unwrap()
}

#[test]
fn applications_talk_without_the_network() {
    let mut world = World::new();
    let to_own = FROM_OWN.back();
    let (there, back) = (
        udp(to_own, 80, 7, &[1; 300]),
        udp(FROM_OWN, 7, 81, &[2; 300]),
    );
    let neighbour = tcp(AMONG, 80, 81, TcpControl::Syn, &[]);
    let error = unreachable(to_own, IpProtocol::Udp, 7, 80);
    world.send(0, &[there.clone(), neighbour.clone(), error.clone()]);
    world.send(2, std::slice::from_ref(&back));
    // Whoever left the checksums to the receiver is not vouched for.
    assert_eq!(world.receive_all(2), [(there, false), (error, false)]);
    assert_eq!(world.receive_all(1), [(neighbour, false), (back, false)]);
    assert_eq!(world.receive(0), nothing());
    assert_eq!(world.card.sent, nothing());
    assert_eq!(world.counter(0, Counter::InsideFrames), 3);
}

#[test]
fn what_a_card_would_sum_is_summed() {
    let mut world = World::new();
    let right = [
        tcp(FROM_OWN.back(), 80, 7, TcpControl::Psh, &[3; 999]),
        udp(FROM_OWN.back(), 80, 7, &[4; 11]),
        tcp(AMONG, 80, 81, TcpControl::Syn, &[]),
    ];
    let mut wrong = right.clone();
    for (frame, at) in wrong.iter_mut().zip([70, 60, 70]) {
        frame[at..at + 2].fill(0x55);
    }
    world.send_with(0, &wrong, SUM);
    let [first, second, third] = right.map(|frame| (frame, true));
    assert_eq!(world.receive_all(2), [first, second]);
    assert_eq!(world.receive_all(1), [third]);
}

#[test]
fn forged_frames_stay_out_of_other_applications_too() {
    let mut world = World::new();
    let to_own = FROM_OWN.back();
    let stolen = Ends {
        source: PEER,
        ..to_own
    };
    let forged = [
        udp(to_own, 81, 7, &[1]),
        udp(stolen, 80, 7, &[1]),
        advertise(to_own, PEER),
        advertise(AMONG, OWN),
        ipv6(to_own, IpProtocol::Ipv6Frag, 64, &[17; 40]),
        ipv6(to_own, IpProtocol::Ipv6Opts, 64, &[17; 40]),
    ];
    world.send(0, &forged);
    for index in 0..3 {
        assert_eq!(world.receive(index), nothing());
    }
    for (cause, count) in [
        (EgressDrop::SourcePort, 1),
        (EgressDrop::SourceAddress, 1),
        (EgressDrop::NeighborDiscovery, 2),
        (EgressDrop::Fragment, 1),
        (EgressDrop::ExtensionHeader, 1),
    ] {
        assert_eq!(world.dropped(0, cause), count);
    }
    assert_eq!(world.card.sent, nothing());
}

#[test]
fn neighbours_are_found_inside_and_outside() {
    let mut world = World::new();
    // For a shared address: the server answers.
    for target in [SHARED, SHARED_LINK_LOCAL] {
        world.send(2, &[solicit_group(FROM_OWN, target)]);
        let answer = Ends {
            source: target,
            ..FROM_OWN.back()
        };
        assert_eq!(world.receive(2), [advertise(answer, target)]);
    }
    // For an address of its own: that application does, and all sharers hear of it.
    let asked = solicit_group(OUT, OWN);
    world.send(0, std::slice::from_ref(&asked));
    assert_eq!(world.receive(2), [asked]);
    let reply = advertise(FROM_OWN, OWN);
    world.send(2, std::slice::from_ref(&reply));
    assert_eq!(world.receive(0), std::slice::from_ref(&reply));
    assert_eq!(world.receive(1), [reply]);
    // For one's own, shared with the one who is looked for.
    world.send(0, &[solicit_group(OUT, SHARED)]);
    assert_eq!(world.receive(0), [advertise(AMONG, SHARED)]);
    assert_eq!(world.card.sent, nothing());
    // A probe, an announcement, and what is asked of the network.
    let probe = Ends {
        source: Ipv6Address::UNSPECIFIED,
        ..OUT
    };
    let everybody = Ends {
        destination_mac: group_mac(ALL_NODES),
        destination: ALL_NODES,
        ..OUT
    };
    let outside = [
        solicit_group(probe, SHARED),
        advertise_with(everybody, SHARED, NdiscNeighborFlags::OVERRIDE),
        solicit_group(OUT, PEER),
        solicit(OUT, PEER),
        echo(everybody, true, 80),
    ];
    world.send(0, &outside);
    assert_eq!(world.card.sent, outside);
    for index in 0..3 {
        assert_eq!(world.receive(index), nothing());
    }
}

#[test]
fn closed_ports_and_echo_requests_are_answered_inside() {
    let mut world = World::new();
    let datagram = udp(FROM_OWN, 7, 99, &[1; 700]);
    world.send(2, &[tcp(FROM_OWN, 7, 99, TcpControl::Syn, &[])]);
    world.send(2, std::slice::from_ref(&datagram));
    world.send(2, &[echo(FROM_OWN, true, 5)]);
    let answers = world.receive(2);
    let reset = parse(&answers[0]);
    assert_eq!((reset.src_port, reset.dst_port), (99, 7));
    assert_eq!(reset.control, TcpControl::Rst);
    let message = Icmpv6Packet::new_checked(&answers[1][54..]).unwrap();
    assert!(message.verify_checksum(&SHARED, &OWN));
    assert_eq!(message.msg_type(), Icmpv6Message::DstUnreachable);
    assert_eq!(answers[1][62..], datagram[14..], "all of it is quoted");
    assert_eq!(answers[2], echo(FROM_OWN.back(), false, 5));
    assert_eq!(world.status.counter(ServerCounter::Answered), 3);
    assert_eq!(world.card.sent, nothing());
    // Not without end.
    for _ in 0..2 * BURST {
        world.send(2, &[udp(FROM_OWN, 7, 99, &[1; 20])]);
        world.receive(2);
    }
    let given = world.status.counter(ServerCounter::Answered) - 3;
    assert_eq!(given, BURST - 2);
    assert_eq!(world.status.dropped(IngressDrop::NotAnswered), BURST + 2);
}

#[test]
fn the_network_finds_addresses_and_learns_of_closed_ports() {
    let mut world = World::new();
    let mut ask = |frame: Vec<u8>, verified: bool| {
        world.card.received.push_back((frame, verified));
        world.run(0);
        world.card.sent.pop()
    };
    for target in [SHARED, SHARED_LINK_LOCAL] {
        let us = Ends {
            source: target,
            ..OUT
        };
        assert_eq!(
            ask(solicit_group(IN, target), false).unwrap(),
            advertise(us, target)
        );
        // A probe is told before everybody that the address is taken.
        let probe = Ends {
            source: Ipv6Address::UNSPECIFIED,
            ..IN
        };
        let everybody = Ends {
            destination_mac: group_mac(ALL_NODES),
            destination: ALL_NODES,
            ..us
        };
        assert_eq!(
            ask(solicit_group(probe, target), false).unwrap(),
            advertise_with(everybody, target, NdiscNeighborFlags::OVERRIDE)
        );
        let mut damaged = solicit_group(IN, target);
        damaged[56] ^= 1;
        assert_eq!(ask(damaged, true), None);
        let mut nonce = solicit_group(IN, target);
        nonce.extend([14, 1, 1, 2, 3, 4, 5, 6]);
        nonce[19] += 8;
        assert_eq!(ask(sum(nonce), false).unwrap(), advertise(us, target));
    }
    // A SYN: the reset acknowledges it. A segment that acknowledges something: the
    // reset bears that number (RFC 9293, section 3.10.7.1).
    let mut syn = tcp(IN, 5000, 99, TcpControl::Syn, &[]);
    syn[67] = 2;
    let answer = ask(syn, true).unwrap();
    assert_eq!(parse(&answer).ack_number, Some(TcpSeqNumber(2)));
    let answer = ask(tcp(IN, 5000, 99, TcpControl::None, &[1; 10]), true).unwrap();
    let reset = parse(&answer);
    assert_eq!(
        (reset.seq_number, reset.ack_number),
        (TcpSeqNumber(2), None)
    );
    assert_eq!(
        (answer[..6].to_vec(), answer[6..12].to_vec()),
        (PEER_MAC.0.into(), SHARED_MAC.0.into())
    );
    // No reset for a reset, nor for damaged frames, nor to many.
    assert_eq!(ask(tcp(IN, 5000, 99, TcpControl::Rst, &[]), true), None);
    assert_eq!(ask(tcp(IN, 5000, 99, TcpControl::Syn, &[]), false), None);
    for source in [ALL_NODES, Ipv6Address::UNSPECIFIED, Ipv6Address::LOCALHOST] {
        let nobody = Ends { source, ..IN };
        assert_eq!(ask(udp(nobody, 5000, 99, &[]), true), None);
        assert_eq!(ask(echo(nobody, true, 1), true), None);
    }
    // What is quoted fits every link.
    for length in [0, 1, 100, 1176, 1177, 1452] {
        let datagram = udp(IN, 5000, 99, &vec![1; length]);
        let answer = ask(datagram.clone(), true).unwrap();
        let quoted = (48 + length).min(1280 - 48);
        assert_eq!(answer.len(), 62 + quoted);
        assert_eq!(answer[62..], datagram[14..14 + quoted]);
        assert_eq!(answer[54..56], [1, 4]);
        assert_eq!(sum(answer.clone()), answer);
        let packet = Ipv6Packet::new_checked(&answer[14..]).unwrap();
        assert_eq!((packet.src_addr(), packet.dst_addr()), (SHARED, PEER));
        assert_eq!(ask(datagram, false), None);
    }
    // Padding is not quoted.
    let mut padded = udp(IN, 5000, 99, &[]);
    padded.resize(70, 0xee);
    assert_eq!(ask(padded, true).unwrap().len(), 62 + 48);
    // IPv6 has no datagrams without checksum.
    let mut unsummed = udp(IN, 5000, 99, &[1; 9]);
    unsummed[60..62].fill(0);
    assert_eq!(ask(unsummed, false), None);
    // Echo, of any length, unless damaged.
    assert_eq!(ask(echo(IN, true, 9), false), Some(echo(OUT, false, 9)));
    let data = [7; 1452];
    let (ident, seq_no, data) = (1, 2, &data[..]);
    let request = Icmpv6Repr::EchoRequest {
        ident,
        seq_no,
        data,
    };
    let reply = Icmpv6Repr::EchoReply {
        ident,
        seq_no,
        data,
    };
    assert_eq!(
        ask(icmp(IN, 64, &request), false),
        Some(icmp(OUT, 64, &reply))
    );
    let mut damaged = echo(IN, true, 9);
    damaged[70] ^= 1;
    assert_eq!(ask(damaged, false), None);
    // Damaged solicitations and echo requests, and those of nobody.
    assert_eq!(world.status.dropped(IngressDrop::Malformed), 6);
    assert_eq!(world.status.dropped(IngressDrop::NoOwner), 12);
    assert_eq!(world.status.counter(ServerCounter::Answered), 17);
}
