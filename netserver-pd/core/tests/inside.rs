//! Frames that stay inside the machine, and the server's own answers.

mod support;

use proptest::prelude::*;
use segue_frame_channel::FrameOffload;
use segue_netserver_core::answer::BURST;
use segue_status::network::{Counter, EgressDrop, IngressDrop, ServerCounter};
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::*;
use support::world::*;
use support::*;

/// From the first sharer to the application with an address of its own.
const TO_OWN: Ends = Ends {
    source_mac: SHARED_MAC,
    destination_mac: OWN_MAC,
    source: SHARED,
    destination: OWN,
};
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
const SUMS: FrameOffload = FrameOffload {
    ipv4_checksum: true,
    transport_checksum: true,
    segment_size: 0,
};

/// Headers and payload of a TCP frame whose checksums are right.
fn parse(frame: &[u8]) -> (u16, TcpRepr<'_>, &[u8]) {
    let packet = Ipv4Packet::new_checked(&frame[14..]).unwrap();
    assert!(packet.verify_checksum());
    let ends = (packet.src_addr().into(), packet.dst_addr().into());
    let segment = TcpPacket::new_checked(packet.payload()).unwrap();
    assert!(segment.verify_checksum(&ends.0, &ends.1));
    let checksums = ChecksumCapabilities::default();
    let repr = TcpRepr::parse(&segment, &ends.0, &ends.1, &checksums).unwrap();
    let payload = repr.payload;
    (packet.ident(), repr, payload)
}

fn nothing() -> Vec<Vec<u8>> {
    Vec::new()
}

#[test]
fn applications_talk_without_the_network() {
    let mut world = World::new();
    let (there, back) = (
        udp(TO_OWN, 80, 7, &[1; 300]),
        udp(FROM_OWN, 7, 81, &[2; 300]),
    );
    let neighbour = tcp(AMONG, 80, 81, TcpControl::Syn, &[]);
    world.send(0, &[there.clone(), neighbour.clone()]);
    assert_eq!(world.take_notified(), [1, 2]);
    world.send(2, std::slice::from_ref(&back));
    // Whoever left the checksums to the receiver is not vouched for.
    assert_eq!(world.receive_all(2), [(there, false)]);
    assert_eq!(world.receive_all(1), [(neighbour, false), (back, false)]);
    assert_eq!(world.receive(0), nothing());
    assert_eq!(world.card.sent, nothing());
    assert_eq!(world.counter(0, Counter::InsideFrames), 2);
    assert_eq!(world.counter(0, Counter::TransmittedFrames), 0);
    world.clients[0].poll().unwrap();
    assert_eq!(world.clients[0].unconfirmed(), 0);
}

#[test]
fn what_a_card_would_sum_is_summed() {
    let mut world = World::new();
    let right = [
        tcp(TO_OWN, 80, 7, TcpControl::Psh, &[3; 999]),
        udp(TO_OWN, 80, 7, &[4; 10]),
    ];
    let mut wrong = right.clone();
    for (frame, at) in wrong.iter_mut().zip([50, 40]) {
        frame[24..26].fill(0xaa);
        frame[at..at + 2].fill(0x55);
    }
    world.send_with(0, &wrong, SUMS);
    let received = world.receive_all(2);
    assert_eq!(received, right.map(|frame| (frame, true)));
}

#[test]
fn forged_frames_stay_out_of_other_applications_too() {
    let mut world = World::new();
    let forged = [
        udp(TO_OWN, 81, 7, &[1]),
        udp(
            Ends {
                source: PEER,
                ..TO_OWN
            },
            80,
            7,
            &[1],
        ),
        udp(
            Ends {
                source_mac: OWN_MAC,
                ..TO_OWN
            },
            80,
            7,
            &[1],
        ),
        arp(
            Ends {
                source: OWN,
                ..AMONG
            },
            ArpOperation::Reply,
        ),
    ];
    world.send(0, &forged);
    for index in 0..3 {
        assert_eq!(world.receive(index), nothing());
    }
    assert_eq!(world.dropped(0, EgressDrop::SourcePort), 1);
    assert_eq!(world.dropped(0, EgressDrop::SourceAddress), 1);
    assert_eq!(world.dropped(0, EgressDrop::SourceMac), 1);
    assert_eq!(world.dropped(0, EgressDrop::Arp), 1);
    assert_eq!(world.card.sent, nothing());
}

#[test]
fn arp_finds_those_inside_and_outside() {
    let mut world = World::new();
    let everyone = |ends| Ends {
        destination_mac: EthernetAddress::BROADCAST,
        ..ends
    };
    let request = |ends| {
        let mut frame = arp(everyone(ends), ArpOperation::Request);
        frame[32..38].fill(0);
        frame
    };
    // For a shared address: the server answers.
    world.send(2, &[request(FROM_OWN)]);
    let answer = Ends {
        source_mac: SHARED_MAC,
        destination_mac: OWN_MAC,
        source: SHARED,
        destination: OWN,
    };
    assert_eq!(world.receive(2), [arp(answer, ArpOperation::Reply)]);
    // For an address of its own: that application does.
    world.send(0, &[request(TO_OWN)]);
    assert_eq!(world.receive(2), [request(TO_OWN)]);
    let reply = arp(FROM_OWN, ArpOperation::Reply);
    world.send(2, std::slice::from_ref(&reply));
    assert_eq!(world.receive(0), std::slice::from_ref(&reply));
    assert_eq!(world.receive(1), [reply]);
    assert_eq!(world.card.sent, nothing());
    // For one's own, shared with the one who is looked for.
    let among = arp(AMONG, ArpOperation::Reply);
    world.send(0, &[request(AMONG)]);
    assert_eq!(world.receive(0), [among]);
    assert_eq!(world.card.sent, [request(AMONG)]);
    // A probe, and what is asked of the network.
    let mut probe = request(AMONG);
    probe[28..32].fill(0);
    world.send(0, &[probe.clone(), request(OUT)]);
    assert_eq!(world.card.sent[1..], [probe, request(OUT)]);
    for index in 0..3 {
        assert_eq!(world.receive(index), nothing());
    }
}

#[test]
fn broadcasts_go_both_ways() {
    let mut world = World::new();
    let everyone = Ends {
        destination_mac: EthernetAddress::BROADCAST,
        destination: Ipv4Address::BROADCAST,
        ..OUT
    };
    let to_other = udp(everyone, 80, 81, &[1; 10]);
    let to_itself = udp(everyone, 80, 80, &[2; 10]);
    let to_nobody = udp(everyone, 80, 99, &[3; 10]);
    let all = [to_other.clone(), to_itself, to_nobody];
    world.send(0, &all);
    assert_eq!(world.card.sent, all);
    assert_eq!(world.receive(1), [to_other]);
    assert_eq!(world.receive(0), nothing());
    assert_eq!(world.receive(2), nothing());
    assert_eq!(world.status.dropped(IngressDrop::NoOwner), 0);
}

#[test]
fn closed_ports_and_echo_requests_are_answered_inside() {
    let mut world = World::new();
    world.send(2, &[tcp(FROM_OWN, 7, 99, TcpControl::Syn, &[])]);
    world.send(2, &[udp(FROM_OWN, 7, 99, &[1; 20])]);
    world.send(2, &[echo(FROM_OWN, true, 5)]);
    let answers = world.receive(2);
    let (_, reset, _) = parse(&answers[0]);
    assert_eq!((reset.src_port, reset.dst_port), (99, 7));
    assert_eq!(reset.control, TcpControl::Rst);
    let packet = Ipv4Packet::new_checked(&answers[1][14..]).unwrap();
    let message = Icmpv4Packet::new_checked(packet.payload()).unwrap();
    assert!(message.verify_checksum());
    assert_eq!(message.msg_type(), Icmpv4Message::DstUnreachable);
    assert_eq!(answers[2][34..], echo(TO_OWN, false, 5)[34..]);
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
fn the_network_learns_of_closed_ports() {
    let mut world = World::new();
    let mut ask = |frame: Vec<u8>, verified: bool| {
        world.card.received.push_back((frame, verified));
        world.run(0);
        world.card.sent.pop()
    };
    // A SYN: the reset acknowledges it. A segment that acknowledges something:
    // the reset bears that number (RFC 9293, section 3.10.7.1).
    let mut syn = tcp(IN, 5000, 99, TcpControl::Syn, &[]);
    syn[46..48].copy_from_slice(&[0x50, 2]);
    let answer = ask(syn, true).unwrap();
    let (_, reset, _) = parse(&answer);
    assert_eq!(reset.ack_number, Some(TcpSeqNumber(2)));
    let answer = ask(tcp(IN, 5000, 99, TcpControl::None, &[1; 10]), true).unwrap();
    let (_, reset, _) = parse(&answer);
    assert_eq!(
        (reset.seq_number, reset.ack_number),
        (TcpSeqNumber(2), None)
    );
    assert_eq!(
        (answer[..6].to_vec(), answer[6..12].to_vec()),
        (PEER_MAC.0.into(), SHARED_MAC.0.into())
    );
    // No reset for a reset, nor for damaged frames, nor to everybody.
    assert_eq!(ask(tcp(IN, 5000, 99, TcpControl::Rst, &[]), true), None);
    assert_eq!(ask(tcp(IN, 5000, 99, TcpControl::Syn, &[]), false), None);
    let everyone = Ends {
        source: Ipv4Address::BROADCAST,
        ..IN
    };
    assert_eq!(ask(udp(everyone, 5000, 99, &[]), true), None);
    let datagram = udp(IN, 5000, 99, &[1; 100]);
    let answer = ask(datagram.clone(), true).unwrap();
    assert_eq!(answer.len(), 14 + 20 + 8 + 28);
    assert_eq!(answer[42..], datagram[14..42]);
    assert_eq!(ask(datagram.clone(), false), None);
    let mut unsummed = datagram.clone();
    unsummed[40..42].fill(0);
    assert_eq!(ask(unsummed, false).unwrap().len(), answer.len());
    // Echo, of any length, unless damaged.
    assert_eq!(
        ask(echo(IN, true, 9), false).unwrap()[34..],
        echo(OUT, false, 9)[34..]
    );
    let data = [7; 1472];
    let long = |request| {
        let (ident, seq_no, data) = (1, 2, &data[..]);
        if request {
            icmp(
                IN,
                &Icmpv4Repr::EchoRequest {
                    ident,
                    seq_no,
                    data,
                },
            )
        } else {
            icmp(
                OUT,
                &Icmpv4Repr::EchoReply {
                    ident,
                    seq_no,
                    data,
                },
            )
        }
    };
    assert_eq!(ask(long(true), false).unwrap()[34..], long(false)[34..]);
    let mut damaged = echo(IN, true, 9);
    damaged[50] ^= 1;
    assert_eq!(ask(damaged, false), None);
    assert_eq!(world.status.dropped(IngressDrop::NoOwner), 4);
    assert_eq!(world.status.dropped(IngressDrop::Malformed), 1);
    assert_eq!(world.status.counter(ServerCounter::Answered), 6);
}

/// A datagram of 9,000 bytes in fragments, between `ends`.
fn fragments(ends: Ends, source: u16, destination: u16, identification: u16) -> Vec<Vec<u8>> {
    let mut datagram = vec![0; 8 + 9000];
    for (at, field) in [(0, source), (2, destination), (4, 9008)] {
        datagram[at..at + 2].copy_from_slice(&field.to_be_bytes());
    }
    let pieces = datagram.chunks(1480).enumerate();
    let fragment = |(number, piece): (usize, &[u8])| {
        let mut frame = ipv4(ends, IpProtocol::Udp, piece);
        frame[18..20].copy_from_slice(&identification.to_be_bytes());
        let more = u16::from(number < 6) << 13;
        let field = (number * 185) as u16 | more;
        frame[20..22].copy_from_slice(&field.to_be_bytes());
        frame
    };
    pieces.map(fragment).collect()
}

#[test]
fn fragments_find_the_owner_of_the_first() {
    let mut world = World::new();
    let (mine, theirs) = (fragments(IN, 5000, 80, 1), fragments(IN, 5000, 81, 2));
    for pair in mine.iter().zip(&theirs) {
        world.card.received.push_back((pair.0.clone(), false));
        world.card.received.push_back((pair.1.clone(), false));
    }
    world.run(0);
    assert_eq!(world.receive(0), mine);
    assert_eq!(world.receive(1), theirs);
    assert_eq!(world.status.dropped(IngressDrop::Fragment), 0);
}

#[test]
fn fragments_before_the_first_wait_for_it() {
    let mut world = World::new();
    let arrive = |world: &mut World, frames: &mut dyn Iterator<Item = Vec<u8>>| {
        let frames = frames.map(|frame| (frame, false));
        world.card.received.extend(frames);
        world.run(0);
    };
    // Last one first.
    let mine = fragments(IN, 5000, 80, 1);
    arrive(&mut world, &mut mine[1..].iter().rev().cloned());
    assert_eq!(world.receive(0), [[0; 0]; 0]);
    arrive(&mut world, &mut mine[..1].iter().cloned());
    let mut expected = mine[1..].to_vec();
    expected.reverse();
    expected.insert(0, mine[0].clone());
    assert_eq!(world.receive(0), expected);
    // Without a first one, or with one for a free port, nobody gets them.
    let lost = fragments(IN, 5000, 80, 2);
    arrive(&mut world, &mut lost[1..].iter().cloned());
    let nobodys = fragments(IN, 5000, 82, 3);
    arrive(&mut world, &mut nobodys.iter().rev().cloned());
    assert_eq!(world.status.dropped(IngressDrop::NoOwner), 1);
    assert_eq!(world.status.dropped(IngressDrop::Fragment), 0);
    world.now.set(2_000_000);
    arrive(
        &mut world,
        &mut fragments(IN, 5000, 80, 4)[1..].iter().cloned(),
    );
    assert_eq!(world.status.dropped(IngressDrop::Fragment), 12);
    arrive(&mut world, &mut lost[..1].iter().cloned());
    assert_eq!(world.receive(0), lost[..1], "too late for the others");
    // Frames that wait are bounded for each datagram and each peer.
    for _ in 0..3 {
        arrive(
            &mut world,
            &mut fragments(IN, 5000, 80, 5)[1..].iter().cloned(),
        );
    }
    assert_eq!(world.status.dropped(IngressDrop::Fragment), 12 + 10);
}

#[test]
fn sharers_do_not_write_into_each_others_datagrams() {
    let mut world = World::new();
    let mine = fragments(OUT, 80, 5000, 1);
    world.send(0, &mine[..3]);
    // The same identification to the same host: first or later, of the other.
    let theirs = fragments(OUT, 81, 5000, 1);
    world.send(1, &theirs);
    assert_eq!(world.dropped(1, EgressDrop::Fragment), 7);
    world.send(0, &mine[3..]);
    assert_eq!(world.card.sent, mine);
    let other = fragments(OUT, 81, 5000, 2);
    world.send(1, &other);
    assert_eq!(world.card.sent[7..], other);
}

#[test]
fn what_a_full_ring_does_not_take_costs_its_sender_nothing_else() {
    let mut world = World::new();
    let flood: Vec<_> = (0..64).map(|_| udp(TO_OWN, 80, 7, &[1; 900])).collect();
    world.send(0, &flood);
    world.send(0, &flood[..10]);
    assert_eq!(world.status.dropped(IngressDrop::RingFull), 10);
    world.send(0, &[udp(AMONG, 80, 81, &[1])]);
    assert_eq!(world.receive(1).len(), 1);
    assert_eq!(world.receive(2).len(), 64);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Segments carry the bytes in order, each with its own right headers.
    #[test]
    fn a_long_segment_arrives_in_pieces(
        length in 0usize..60_000,
        segment_size in 1000u16..=1448,
        fin in any::<bool>(),
        seed in any::<u8>(),
    ) {
        let payload: Vec<u8> = (0..length).map(|at| (at as u8).wrapping_mul(31) ^ seed).collect();
        let control = if fin { TcpControl::Fin } else { TcpControl::Psh };
        let mut frame = tcp(TO_OWN, 80, 7, control, &payload);
        frame[50..52].fill(0);
        let mut world = World::new();
        let offload = FrameOffload { segment_size, ..SUMS };
        world.send_with(0, &[frame], offload);
        let received = world.receive_all(2);
        let size = usize::from(segment_size);
        prop_assert_eq!(received.len(), length.div_ceil(size).max(1));
        let mut bytes = Vec::new();
        for (index, (frame, verified)) in received.iter().enumerate() {
            prop_assert!(*verified && frame.len() <= 1514);
            let (ident, repr, part) = parse(frame);
            prop_assert_eq!(ident, index as u16);
            prop_assert_eq!(repr.seq_number, TcpSeqNumber(1) + bytes.len());
            let last = index + 1 == received.len();
            prop_assert_eq!(repr.control == control, last);
            prop_assert!(last || part.len() == size);
            bytes.extend_from_slice(part);
        }
        prop_assert_eq!(bytes, payload);
        prop_assert_eq!(world.card.sent, nothing());
    }
}
