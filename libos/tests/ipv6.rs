//! The tests of TCP once more, over IPv6, and what only IPv6 has.
#![allow(
    clippy::duplicate_mod,
    reason = "the modules ask for their own path, and so know where they are"
)]

#[path = "connections.rs"]
mod connections;
#[path = "forged.rs"]
mod forged;
#[path = "hostile.rs"]
mod hostile;
mod support;
#[path = "transfer.rs"]
mod transfer;

use proptest::prelude::*;
use segue_libos::*;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use support::forged::{ACK, Forged, RST, SYN, answers, forge_connection, inject};
use support::*;

const LINK_LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0x5054, 0xff, 0xfe5e, 0x6000);
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const UDP: u8 = 17;
const ICMPV6: u8 = 58;

/// A frame over IPv6, with the checksum of its payload at `checksum`.
fn packet(
    (source, destination): (Ipv6Addr, Ipv6Addr),
    (next, hop_limit): (u8, u8),
    payload: &[u8],
    checksum: usize,
) -> Vec<u8> {
    let mut frame = [&SERVER_MAC[..], &CLIENT_MAC, &[0x86, 0xdd, 0x60, 0, 0, 0]].concat();
    frame.extend_from_slice(&(payload.len() as u16).to_be_bytes());
    frame.extend_from_slice(&[next, hop_limit]);
    frame.extend_from_slice(&source.octets());
    frame.extend_from_slice(&destination.octets());
    frame.extend_from_slice(payload);
    let start = u64::from(sum16(0, &frame[22..54])) + u64::from(next) + payload.len() as u64;
    let sum = !sum16(start, &frame[54..]);
    frame[54 + checksum..56 + checksum].copy_from_slice(&sum.to_be_bytes());
    frame
}

fn icmp(destination: Ipv6Addr, hop_limit: u8, message: &[u8]) -> Vec<u8> {
    packet((CLIENT6, destination), (ICMPV6, hop_limit), message, 2)
}

/// Somebody asks for `target`, or tells about it, with his hardware address.
fn neighbor(kind: u8, target: Ipv6Addr, option: u8) -> Vec<u8> {
    let flags = if kind == 136 { 0x60 } else { 0 };
    let mut message = vec![kind, 0, 0, 0, flags, 0, 0, 0];
    message.extend_from_slice(&target.octets());
    message.extend_from_slice(&[option, 1]);
    message.extend_from_slice(&CLIENT_MAC);
    message
}

fn datagram(from: u16, to: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = [from.to_be_bytes(), to.to_be_bytes()].concat();
    bytes.extend_from_slice(&(8 + payload.len() as u16).to_be_bytes());
    bytes.extend_from_slice(&[0, 0]);
    bytes.extend_from_slice(payload);
    packet((CLIENT6, SERVER6), (UDP, 64), &bytes, 6)
}

/// What the server sends in answer to a frame, without looking at it.
fn answer(world: &mut World, frame: Vec<u8>) -> Vec<Vec<u8>> {
    world.network.borrow_mut().sniff = Some(vec![]);
    world.network.borrow_mut().inject(frame);
    world.serve();
    world.network.borrow_mut().sniff.take().unwrap_or_default()
}

/// Whether an ICMPv6 message is right as a whole.
fn is_sound(frame: &[u8]) -> bool {
    let length = frame.len() as u64 - 54;
    let start = u64::from(sum16(0, &frame[22..54])) + u64::from(frame[20]) + length;
    frame[12..14] == [0x86, 0xdd]
        && frame[18..20] == (length as u16).to_be_bytes()
        && sum16(start, &frame[54..]) == 0xffff
}

#[test]
fn who_asks_for_our_addresses_is_told() {
    let mut world = World::new(Settings::default());
    for address in [SERVER6, LINK_LOCAL] {
        let octets = address.octets();
        let [.., a, b, c] = octets;
        let group = Ipv6Addr::new(
            0xff02,
            0,
            0,
            0,
            0,
            1,
            0xff00 | u16::from(a),
            u16::from_be_bytes([b, c]),
        );
        for to in [group, address] {
            let told = answer(&mut world, icmp(to, 255, &neighbor(135, address, 1)));
            assert_eq!(told.len(), 1, "{address} at {to}");
            let told = &told[0];
            assert!(is_sound(told));
            assert_eq!(
                (&told[..6], &told[6..12]),
                (&CLIENT_MAC[..], &SERVER_MAC[..])
            );
            assert_eq!((told[21], told[54]), (255, 136));
            assert_eq!((&told[22..38], &told[62..78]), (&octets[..], &octets[..]));
            assert_eq!(told[78..80], [2, 1]);
            assert_eq!(told[80..86], SERVER_MAC);
        }
        // From beyond a router, for others, at another group.
        assert!(answer(&mut world, icmp(group, 254, &neighbor(135, address, 1))).is_empty());
        assert!(answer(&mut world, icmp(group, 255, &neighbor(135, CLIENT6, 1))).is_empty());
        let other = Ipv6Addr::from_bits(group.to_bits() ^ 1);
        assert!(answer(&mut world, icmp(other, 255, &neighbor(135, address, 1))).is_empty());
    }
}

#[test]
fn who_tries_whether_our_address_is_free_is_told() {
    let mut world = World::new(Settings::default());
    let mut message = vec![135, 0, 0, 0, 0, 0, 0, 0];
    message.extend_from_slice(&SERVER6.octets());
    let group = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00, 0x15);
    let nobody = Ipv6Addr::UNSPECIFIED;
    // As Linux does it, with a nonce (RFC 7527), and without.
    let with_nonce = [&message[..], &[14, 1, 1, 2, 3, 4, 5, 6]].concat();
    for message in [&message, &with_nonce] {
        let frame = packet((nobody, group), (ICMPV6, 255), message, 2);
        let told = answer(&mut world, frame);
        assert_eq!(told.len(), 1);
        assert!(is_sound(&told[0]));
        // RFC 4861, 7.2.4: to all, and not solicited.
        assert_eq!(told[0][..6], [0x33, 0x33, 0, 0, 0, 1]);
        assert_eq!(told[0][38..54], ALL_NODES.octets());
        assert_eq!((told[0][54], told[0][58]), (136, 0x20));
        assert_eq!(told[0][62..78], SERVER6.octets());
        assert_eq!(told[0][80..86], SERVER_MAC);
    }
    // With its hardware address, an option that ends early, one without end.
    for option in [[1, 1], [14, 2], [14, 0]] {
        let wrong = [&message[..], &option, &[0; 6]].concat();
        let frame = packet((nobody, group), (ICMPV6, 255), &wrong, 2);
        assert!(answer(&mut world, frame).is_empty());
    }
    // No other message may come from nobody.
    let echo = packet(
        (nobody, SERVER6),
        (ICMPV6, 64),
        &[128, 0, 0, 0, 0, 1, 0, 1],
        2,
    );
    assert!(answer(&mut world, echo).is_empty());
}

#[test]
fn echo_requests_are_answered() {
    let mut world = World::new(Settings::default());
    answer(&mut world, icmp(SERVER6, 255, &neighbor(136, CLIENT6, 2)));
    let request = [&[128, 0, 0, 0, 0x12, 0x34, 0, 1], &b"are you there?"[..]].concat();
    for address in [SERVER6, LINK_LOCAL] {
        let reply = answer(&mut world, icmp(address, 64, &request));
        assert_eq!(reply.len(), 1);
        assert!(is_sound(&reply[0]));
        assert_eq!(reply[0][54], 129);
        assert_eq!(reply[0][22..38], address.octets());
        assert_eq!(reply[0][58..], request[4..]);
    }
    // To all, and to somebody whose address ends as ours.
    let other = Ipv6Addr::from_bits(SERVER6.to_bits() ^ 1 << 64);
    for address in [ALL_NODES, other] {
        assert!(answer(&mut world, icmp(address, 64, &request)).is_empty());
    }
    let mut wrong = icmp(SERVER6, 64, &request);
    wrong[70] ^= 1;
    assert!(answer(&mut world, wrong).is_empty());
    assert_eq!(world.stack.statistics().bad_checksum, 1);
}

#[test]
fn datagrams_come_and_go() {
    let mut world = World::new(Settings::default());
    let (socket, _) = world.stack.udp_bind(7, 32 * 1024).unwrap();
    world.network.borrow_mut().sniff = Some(vec![]);
    world
        .network
        .borrow_mut()
        .inject(datagram(999, 7, b"hello"));
    let now = world.now();
    world.stack.poll(now);
    assert_eq!(world.stack.next_event(), Some(Event::Datagram { socket }));
    let mut buffer = [0; 100];
    let (length, from) = world.stack.udp_receive(socket, &mut buffer).unwrap();
    assert_eq!(&buffer[..length], b"hello");
    assert_eq!(from, SocketAddr::new(CLIENT6.into(), 999));
    assert!(world.stack.udp_send(socket, from, b"world"));
    world.stack.flush(now);
    // The answer waits for the neighbour's address.
    let question = world.network.borrow_mut().sniff.replace(vec![]).unwrap();
    assert_eq!(question.len(), 1);
    assert!(is_sound(&question[0]));
    assert_eq!((question[0][21], question[0][54]), (255, 135));
    assert_eq!(question[0][62..78], CLIENT6.octets());
    assert_eq!(question[0][80..86], SERVER_MAC);
    let told = answer(&mut world, icmp(SERVER6, 255, &neighbor(136, CLIENT6, 2)));
    assert_eq!(told.len(), 1);
    assert!(is_sound(&told[0]));
    assert_eq!(told[0][..6], CLIENT_MAC);
    assert_eq!(told[0][56..58], 999u16.to_be_bytes());
    assert_eq!(&told[0][62..], b"world");
    // What does not fit a frame, and what has no way.
    assert!(world.stack.udp_send(socket, from, &[0; 1452]));
    assert!(!world.stack.udp_send(socket, from, &[0; 1453]));
    // Without a checksum, with a wrong one, to nobody.
    for (at, value) in [(60, [0, 0]), (60, [0x12, 0x34])] {
        let mut wrong = datagram(999, 7, b"hello");
        wrong[at..at + 2].copy_from_slice(&value);
        let before = world.stack.statistics().bad_checksum;
        answer(&mut world, wrong);
        assert_eq!(world.stack.statistics().bad_checksum, before + 1);
    }
    let told = answer(&mut world, datagram(999, 8, b"hello"));
    assert_eq!(told[0][54..56], [1, 4], "port unreachable");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_sound_message_leaves_the_stack_standing(
        messages in proptest::collection::vec(any_message(), 1..20),
    ) {
        let mut world = World::new(Settings::default());
        let (ours, theirs) = forge_connection(&mut world, 9);
        for message in messages {
            answer(&mut world, message);
        }
        // None of them has anything to do with the connection.
        let mut asked = Forged::new(9, SERVE, ACK);
        (asked.sequence, asked.acknowledgement) = (ours, theirs);
        asked.payload = 1000u64.to_le_bytes().to_vec();
        let sent = inject(&mut world, asked.frame());
        prop_assert!(sent.iter().any(|segment| segment.1 == theirs));
        prop_assert_eq!(world.stack.statistics().narrowed, 0);
    }
}

/// An ICMPv6 message with a right checksum, often of a type that is looked into, and often with
/// options that are nearly right.
fn any_message() -> impl Strategy<Value = Vec<u8>> {
    let kind = prop_oneof![Just(1u8), Just(2), Just(128), 133u8..138, any::<u8>()];
    let source = prop_oneof![
        Just(CLIENT6),
        Just(Ipv6Addr::UNSPECIFIED),
        any::<u128>().prop_map(Ipv6Addr::from_bits)
    ];
    let group = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00, 0x15);
    let destination = prop_oneof![
        Just(SERVER6),
        Just(LINK_LOCAL),
        Just(ALL_NODES),
        Just(group)
    ];
    let target = prop_oneof![
        Just(SERVER6),
        Just(CLIENT6),
        any::<u128>().prop_map(Ipv6Addr::from_bits)
    ];
    let options = proptest::collection::vec((0u8..6, 0u8..4, 0usize..40), 0..3);
    let hop_limit = prop_oneof![Just(255u8), Just(64)];
    let head = any::<[u8; 4]>();
    (kind, source, destination, target, options, hop_limit, head).prop_map(
        |(kind, source, destination, target, options, hop_limit, head)| {
            let mut message = vec![kind, 0, 0, 0];
            message.extend_from_slice(&head);
            message.extend_from_slice(&target.octets());
            for (kind, units, length) in options {
                message.extend_from_slice(&[kind, units]);
                message.resize(message.len() + length, kind);
            }
            packet((source, destination), (ICMPV6, hop_limit), &message, 2)
        },
    )
}

#[test]
fn packets_with_extension_headers_are_dropped_and_counted() {
    let mut world = World::new(Settings::default());
    for next in [0u8, 43, 44, 51, 60, 59, 135] {
        let payload = [&[6, 0, 0, 0, 0, 0, 0, 0], &[0; 24][..]].concat();
        let frame = packet((CLIENT6, SERVER6), (next, 64), &payload, 2);
        assert!(answer(&mut world, frame).is_empty());
    }
    assert_eq!(world.stack.statistics().extension_headers, 7);
}

#[test]
fn nobody_comes_in_disguise() {
    let mut world = World::new(Settings::default());
    let sources = ["::ffff:10.0.2.2", "::1", "ff02::2", "::"];
    for source in sources {
        let source: Ipv6Addr = source.parse().unwrap();
        let mut frame = Forged::new(9, SERVE, SYN).frame();
        frame[22..38].copy_from_slice(&source.octets());
        fill_checksums(&mut frame);
        assert_eq!(inject(&mut world, frame), []);
    }
    assert_eq!(world.stack.statistics().malformed, sources.len() as u64);
    assert_eq!(world.stack.open_handshakes(), 0);
}

#[test]
fn both_families_are_served_on_one_port() {
    let mut world = World::new(Settings::default());
    let new = world.connect(SERVE, 50_000);
    world.server = smoltcp::wire::IpAddress::Ipv4(SERVER);
    let old = world.connect(SERVE, 50_000);
    for handle in [new, old] {
        assert!(world.run(10, |world| world.client(handle).may_send()));
        request(&mut world, handle, 100_000);
    }
    let mut peers: Vec<_> = world
        .application
        .open()
        .iter()
        .map(|&id| world.stack.peer(id).unwrap())
        .collect();
    peers.sort();
    let [first, second]: [IpAddr; 2] = [CLIENT.into(), CLIENT6.into()];
    assert_eq!(
        peers,
        [
            SocketAddr::new(first, 50_000),
            SocketAddr::new(second, 50_000)
        ]
    );
}

/// What a router says about a segment of ours with these numbers.
fn too_big(port: u16, sequence: u32, mtu: u32) -> Vec<u8> {
    let mut message = vec![2, 0, 0, 0];
    message.extend_from_slice(&mtu.to_be_bytes());
    message.extend_from_slice(&[0x60, 0, 0, 0, 5, 0xa0, 6, 64]);
    message.extend_from_slice(&SERVER6.octets());
    let Ok(IpAddr::V6(stranger)) = "fd00:5e60::63".parse() else {
        unreachable!()
    };
    message.extend_from_slice(&stranger.octets());
    message.extend_from_slice(&SERVE.to_be_bytes());
    message.extend_from_slice(&port.to_be_bytes());
    message.extend_from_slice(&sequence.to_be_bytes());
    message.extend_from_slice(&[0; 12]);
    icmp(SERVER6, 64, &message)
}

#[test]
fn a_narrow_way_makes_segments_small() {
    let mut world = World::new(Settings::default());
    let (ours, theirs) = forge_connection(&mut world, 9);
    let mut ask = Forged::new(9, SERVE, ACK);
    (ask.sequence, ask.acknowledgement) = (ours, theirs);
    ask.payload = 100_000u64.to_le_bytes().to_vec();
    world.network.borrow_mut().sniff = Some(vec![]);
    world.network.borrow_mut().inject(ask.frame());
    world.serve();
    let sent = world.network.borrow_mut().sniff.replace(vec![]).unwrap();
    assert_eq!(sent[0].len(), 1514);
    // Forged: not in flight, another connection, a packet that is not too big.
    for wrong in [
        too_big(9, theirs.wrapping_sub(1), 1280),
        too_big(9, theirs.wrapping_add(1 << 20), 1280),
        too_big(10, theirs, 1280),
        too_big(9, theirs, 1500),
        too_big(9, theirs, u32::MAX),
    ] {
        assert_eq!(answer(&mut world, wrong), Vec::<Vec<u8>>::new());
    }
    assert_eq!(world.stack.statistics().narrowed, 0);
    assert_eq!(world.stack.statistics().ignored_messages, 5);
    // Whatever it says, segments get no smaller than every link takes them.
    let again = answer(&mut world, too_big(9, theirs, 68));
    assert_eq!(world.stack.statistics().narrowed, 1);
    assert!(!again.is_empty());
    assert_eq!(again[0].len(), 14 + 1280);
    assert_eq!(again[0][58..62], theirs.to_be_bytes());
    // From now on all are, even if it loses its buffers in between.
    let mut acknowledged = theirs;
    for _ in 0..40 {
        acknowledged = acknowledged.wrapping_add(1220);
        let mut ack = Forged::new(9, SERVE, ACK);
        (ack.sequence, ack.acknowledgement) = (ours + 8, acknowledged);
        let sent = answer(&mut world, ack.frame());
        assert!(sent.iter().all(|frame| frame.len() <= 14 + 1280));
    }
    // Said twice, it is no news.
    answer(&mut world, too_big(9, acknowledged, 1280));
    assert_eq!(world.stack.statistics().narrowed, 1);
}

#[test]
fn a_narrow_way_is_passed() {
    let mut world = World::new(Settings::default());
    let handle = world.connect(SERVE, 50_000);
    assert!(world.run(10, |world| world.client(handle).may_send()));
    world.network.borrow_mut().narrow = Some(1400);
    let start = world.now();
    request(&mut world, handle, 1 << 20);
    let took = world.now() - start;
    assert_eq!(world.stack.statistics().narrowed, 1);
    assert!(took < Duration::from_secs(2), "{took}");
}

#[test]
fn connections_go_with_their_addresses() {
    let mut world = World::new(Settings::default());
    let (ours, theirs) = forge_connection(&mut world, 9);
    let handle = world.connect(SERVE, 50_000);
    assert!(world.run(10, |world| world.client(handle).may_send()));
    inject(&mut world, Forged::new(10, SERVE, SYN).frame());
    world.server = smoltcp::wire::IpAddress::Ipv4(SERVER);
    let old = world.connect(SERVE, 50_000);
    assert!(world.run(10, |world| world.client(old).may_send()));
    request(&mut world, old, 1000);
    let now = world.now();
    // The same again changes nothing.
    world.stack.set_addresses(&ADDRESSES);
    assert_eq!(world.stack.open_connections(), 3);
    answers(&mut world);
    let moved = segue_libos::Network {
        address: "fd00:5e60::16".parse().unwrap(),
        ..ADDRESSES.ipv6.unwrap()
    };
    let addresses = Addresses {
        ipv6: Some(moved),
        ..ADDRESSES
    };
    world.stack.set_addresses(&addresses);
    assert_eq!(world.stack.addresses(), addresses);
    world.stack.flush(now);
    assert_eq!(
        answers(&mut world),
        [],
        "nothing goes out from there any more"
    );
    world.serve();
    assert_eq!(world.application.closed, [CloseReason::AddressLost; 2]);
    assert_eq!(world.stack.open_connections(), 1);
    assert_eq!(world.stack.open_handshakes(), 0);
    let mut late = Forged::new(9, SERVE, ACK);
    (late.sequence, late.acknowledgement) = (ours, theirs);
    assert_eq!(inject(&mut world, late.frame()), []);
    request(&mut world, old, 10_000);
    // The listener is there at the new address.
    world.server = smoltcp::wire::IpAddress::Ipv6(moved.address);
    let new = world.connect(SERVE, 50_001);
    assert!(world.run(10, |world| world.client(new).may_send()));
    request(&mut world, new, 10_000);
    // And at the link-local one, with no other left.
    world.stack.set_addresses(&Addresses::default());
    world.serve();
    assert_eq!(world.stack.open_connections(), 0);
    let mut frame = Forged::new(11, SERVE, SYN).frame();
    frame[22..38].copy_from_slice(&Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 9).octets());
    frame[38..54].copy_from_slice(&LINK_LOCAL.octets());
    fill_checksums(&mut frame);
    let answer = inject(&mut world, frame);
    assert_eq!(answer.len(), 1);
    assert_eq!(answer[0].0, SYN | ACK);
    // No address, no answer.
    let mut closed = Forged::new(9, 4711, SYN).frame();
    assert_eq!(inject(&mut world, closed.clone()), []);
    world.stack.set_addresses(&ADDRESSES);
    closed[56..58].copy_from_slice(&4712u16.to_be_bytes());
    fill_checksums(&mut closed);
    assert_eq!(inject(&mut world, closed)[0].0, RST | ACK);
}
