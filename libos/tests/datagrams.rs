//! ARP, ICMP and UDP.

mod support;

use segue_libos::*;
use std::net::SocketAddr;
use support::*;

fn ethernet(kind: [u8; 2], payload: &[u8]) -> Vec<u8> {
    [&SERVER_MAC[..], &CLIENT_MAC, &kind, payload].concat()
}

fn ipv4(protocol: u8, identification: u16, fragment: u16, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, protocol, 0, 0];
    packet.extend_from_slice(&CLIENT.octets());
    packet.extend_from_slice(&SERVER.octets());
    packet[2..4].copy_from_slice(&(20 + payload.len() as u16).to_be_bytes());
    packet[4..6].copy_from_slice(&identification.to_be_bytes());
    packet[6..8].copy_from_slice(&fragment.to_be_bytes());
    let checksum = !sum16(0, &packet);
    packet[10..12].copy_from_slice(&checksum.to_be_bytes());
    packet.extend_from_slice(payload);
    ethernet([8, 0], &packet)
}

fn udp(from: u16, to: u16, payload: &[u8]) -> Vec<u8> {
    let mut datagram = [from.to_be_bytes(), to.to_be_bytes()].concat();
    datagram.extend_from_slice(&(8 + payload.len() as u16).to_be_bytes());
    datagram.extend_from_slice(&[0, 0]);
    datagram.extend_from_slice(payload);
    let start = u64::from(sum16(0, &CLIENT.octets()))
        + u64::from(sum16(0, &SERVER.octets()))
        + 17
        + datagram.len() as u64;
    let checksum = !sum16(start, &datagram);
    datagram[6..8].copy_from_slice(&checksum.to_be_bytes());
    datagram
}

fn answer_arp(world: &mut World) {
    let mut arp = vec![0, 1, 8, 0, 6, 4, 0, 2];
    arp.extend_from_slice(&CLIENT_MAC);
    arp.extend_from_slice(&CLIENT.octets());
    arp.extend_from_slice(&SERVER_MAC);
    arp.extend_from_slice(&SERVER.octets());
    world.network.borrow_mut().inject(ethernet([8, 6], &arp));
    world.serve();
}

/// What the server sends in answer to frames.
fn answers(world: &mut World, frames: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    world.network.borrow_mut().sniff = Some(vec![]);
    for frame in frames {
        world.network.borrow_mut().inject(frame);
    }
    world.serve();
    world.network.borrow_mut().sniff.take().unwrap_or_default()
}

#[test]
fn arp_requests_are_answered() {
    let mut world = World::new(Settings::default());
    let mut arp = vec![0, 1, 8, 0, 6, 4, 0, 1];
    arp.extend_from_slice(&CLIENT_MAC);
    arp.extend_from_slice(&CLIENT.octets());
    arp.extend_from_slice(&[0; 6]);
    arp.extend_from_slice(&SERVER.octets());
    let answer = answers(&mut world, vec![ethernet([8, 6], &arp)]);
    assert_eq!(answer.len(), 1);
    assert_eq!(answer[0][12..14], [8, 6]);
    assert_eq!(answer[0][20..22], [0, 2]);
    assert_eq!(answer[0][22..28], SERVER_MAC);
    // Somebody else's address.
    let last = arp.len() - 1;
    arp[last] = 77;
    assert!(answers(&mut world, vec![ethernet([8, 6], &arp)]).is_empty());
}

#[test]
fn echo_requests_are_answered() {
    let mut world = World::new(Settings::default());
    answer_arp(&mut world);
    let mut icmp = vec![8, 0, 0, 0, 0x12, 0x34, 0, 1];
    icmp.extend_from_slice(b"are you there?");
    let checksum = !sum16(0, &icmp);
    icmp[2..4].copy_from_slice(&checksum.to_be_bytes());
    let answer = answers(&mut world, vec![ipv4(1, 1, 0, &icmp)]);
    assert_eq!(answer.len(), 1);
    assert_eq!(answer[0][34], 0);
    assert_eq!(answer[0][38..], icmp[4..]);
    assert_eq!(sum16(0, &answer[0][34..]), 0xffff);
    // One with a wrong checksum is not, though the NIC said nothing of it.
    icmp[10] ^= 1;
    assert!(answers(&mut world, vec![ipv4(1, 2, 0, &icmp)]).is_empty());
    assert_eq!(world.stack.statistics().bad_checksum, 1);
}

#[test]
fn datagrams_come_and_go() {
    let mut world = World::new(Settings::default());
    let (socket, port) = world.stack.udp_bind(7, 32 * 1024).unwrap();
    assert_eq!(port, 7);
    assert!(world.stack.udp_bind(7, 1024).is_err());
    let (_, port) = world.stack.udp_bind(0, 1024).unwrap();
    assert!(port >= 49_152);
    // The first answer waits for the neighbour's address.
    world.network.borrow_mut().sniff = Some(vec![]);
    world
        .network
        .borrow_mut()
        .inject(ipv4(17, 5, 0, &udp(999, 7, b"hello")));
    let now = world.now();
    world.stack.poll(now);
    assert_eq!(world.stack.next_event(), Some(Event::Datagram { socket }));
    let mut buffer = [0; 100];
    let (length, from) = world.stack.udp_receive(socket, &mut buffer).unwrap();
    assert_eq!(
        (&buffer[..length], from),
        (&b"hello"[..], SocketAddr::new(CLIENT.into(), 999))
    );
    assert!(world.stack.udp_send(socket, from, b"world"));
    world.stack.flush(now);
    let question = world.network.borrow_mut().sniff.replace(vec![]).unwrap();
    assert_eq!(question.len(), 1);
    assert_eq!(question[0][12..14], [8, 6]);
    answer_arp(&mut world);
    let answer = world.network.borrow_mut().sniff.take().unwrap();
    assert_eq!(answer.len(), 1);
    assert_eq!(&answer[0][42..], b"world");
    assert_eq!(answer[0][36..38], 999u16.to_be_bytes());
    // Nobody at this port.
    let answer = answers(&mut world, vec![ipv4(17, 6, 0, &udp(999, 8, b"hello"))]);
    assert_eq!(answer[0][34..36], [3, 3]);
    world.stack.udp_close(socket);
    let answer = answers(&mut world, vec![ipv4(17, 7, 0, &udp(999, 7, b"hello"))]);
    assert_eq!(answer[0][34..36], [3, 3]);
}

#[test]
fn nine_thousand_bytes_in_fragments() {
    let mut world = World::new(Settings::default());
    let (socket, _) = world.stack.udp_bind(7, 32 * 1024).unwrap();
    answer_arp(&mut world);
    let payload: Vec<u8> = (0..9000).map(|at| pattern(at as u64)).collect();
    let datagram = udp(999, 7, &payload);
    let mut chunks: Vec<_> = datagram.chunks(1480).enumerate().collect();
    // Two of them at once, the one forwards and the other backwards.
    chunks.reverse();
    for (index, chunk) in chunks.clone() {
        let more = if index + 1 < chunks.len() { 0x2000 } else { 0 };
        let other = chunks.len() - 1 - index;
        let more_other = if other + 1 < chunks.len() { 0x2000 } else { 0 };
        let frame = ipv4(
            17,
            43,
            more_other | (other * 1480 / 8) as u16,
            chunks[index].1,
        );
        world.network.borrow_mut().inject(frame);
        let frame = ipv4(17, 42, more | (index * 1480 / 8) as u16, chunk);
        world.network.borrow_mut().inject(frame);
    }
    let now = world.now();
    world.stack.poll(now);
    assert_eq!(world.stack.statistics().reassembled, 2);
    let mut buffer = vec![0; 10_000];
    for _ in 0..2 {
        let (length, _) = world.stack.udp_receive(socket, &mut buffer).unwrap();
        assert!(buffer[..length] == payload);
    }
    assert!(world.stack.udp_receive(socket, &mut buffer).is_none());
    // In order.
    chunks.reverse();
    for (index, chunk) in chunks.clone() {
        let more = if index + 1 < chunks.len() { 0x2000 } else { 0 };
        let frame = ipv4(17, 42, more | (index * 1480 / 8) as u16, chunk);
        world.network.borrow_mut().inject(frame);
    }
    let now = world.now();
    world.stack.poll(now);
    assert_eq!(world.stack.next_event(), Some(Event::Datagram { socket }));
    let (length, from) = world.stack.udp_receive(socket, &mut buffer).unwrap();
    assert!(buffer[..length] == payload);
    // And back.
    world.network.borrow_mut().sniff = Some(vec![]);
    assert!(world.stack.udp_send(socket, from, &payload));
    world.stack.flush(now);
    let frames = world.network.borrow_mut().sniff.take().unwrap();
    let mut whole = vec![];
    for frame in &frames {
        let offset = usize::from(u16::from_be_bytes([frame[20], frame[21]]) & 0x1fff) * 8;
        assert_eq!(offset, whole.len());
        whole.extend_from_slice(&frame[34..]);
    }
    assert_eq!(frames.len(), 7);
    assert!(whole[8..] == payload);
}

#[test]
fn fragments_of_tcp_are_dropped_and_counted() {
    let mut world = World::new(Settings::default());
    let answer = answers(&mut world, vec![ipv4(6, 9, 0x2000, &[0; 64])]);
    assert!(answer.is_empty());
    assert_eq!(world.stack.statistics().tcp_fragments, 1);
}

#[test]
fn wrong_datagrams_are_counted() {
    let mut world = World::new(Settings::default());
    let mut long = udp(999, 7, b"hello");
    long[5] += 1;
    assert!(answers(&mut world, vec![ipv4(17, 1, 0, &long)]).is_empty());
    assert_eq!(world.stack.statistics().malformed, 1);
    let mut wrong = udp(999, 7, b"hello");
    wrong[9] ^= 1;
    assert!(answers(&mut world, vec![ipv4(17, 1, 0, &wrong)]).is_empty());
    assert_eq!(world.stack.statistics().bad_checksum, 1);
}
