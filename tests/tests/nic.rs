//! The NIC as it is driven, seen from the cable: raw frames in, raw frames out.

use std::time::{Duration, Instant};

use segue_qemu::{Machine, Network, Peer, Running};
use segue_system_tests::{Cable, TestMachine};

const BOOT: Duration = Duration::from_secs(180);
/// An answer that comes, comes within this.
const ANSWER: Duration = Duration::from_secs(10);
/// How long silence is listened to. Each time an answer to a later frame shows
/// that the system was not merely slow.
const SILENCE: Duration = Duration::from_millis(500);

const MACHINE: [u8; 6] = [0x52, 0x54, 0, 0x5e, 0x61, 0x15];
/// The address of the network server's function, which applications may share.
const SHARED: [u8; 6] = [0x52, 0x54, 0, 0x5e, 0x60, 0];
const PEER: [u8; 6] = [0x52, 0x54, 0, 0, 0, 2];
const MACHINE_IP: [u8; 4] = [10, 0, 2, 15];
const PEER_IP: [u8; 4] = [10, 0, 2, 2];

fn boot() -> (Running, Peer) {
    let machine = TestMachine::machine("system").network(Network::Peer);
    let mut running = machine.start().unwrap_or_else(|error| panic!("{error}"));
    expect(&running, "netserver: the virtual function is running");
    // On a busy host the link may come up before the application does.
    expect(&running, "http: the frame channel to netserver is up");
    let peer = running.take_peer().expect("a machine on a peer has one");
    (running, peer)
}

fn expect(running: &Running, text: &str) {
    let line = running.console().wait_for(text, BOOT);
    line.unwrap_or_else(|error| panic!("{error}\n{}", running.console().tail()));
}

/// The first frame from the machine for which `wanted` holds.
fn receive(peer: &mut Peer, time: Duration, wanted: impl Fn(&[u8]) -> bool) -> Option<Vec<u8>> {
    let end = Instant::now() + time;
    while let Some(left) = end.checked_duration_since(Instant::now()) {
        match peer.receive(left).expect("QEMU runs") {
            Some(frame) if wanted(&frame) => return Some(frame),
            Some(_) => {}
            None => return None,
        }
    }
    None
}

fn ethernet(destination: [u8; 6], kind: [u8; 2], payload: &[u8]) -> Vec<u8> {
    [&destination[..], &PEER, &kind, payload].concat()
}

fn arp_request(destination: [u8; 6]) -> Vec<u8> {
    let head = [0, 1, 8, 0, 6, 4, 0, 1];
    let payload = [&head[..], &PEER, &PEER_IP, &[0; 6], &MACHINE_IP].concat();
    ethernet(destination, [8, 6], &payload)
}

fn is_arp_reply(frame: &[u8]) -> bool {
    frame.len() >= 42
        && frame[..6] == PEER
        && frame[6..12] == MACHINE
        && frame[12..14] == [8, 6]
        && frame[20..22] == [0, 2]
        && frame[22..28] == MACHINE
        && frame[28..32] == MACHINE_IP
}

fn sum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = bytes
        .chunks(2)
        .map(|pair| {
            u32::from(u16::from_be_bytes([
                pair[0],
                pair.get(1).copied().unwrap_or(0),
            ]))
        })
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// An IPv4 packet from the peer; `damage` is added to the header checksum.
fn ipv4(protocol: u8, payload: &[u8], damage: u16) -> Vec<u8> {
    let mut header = vec![0x45, 0];
    header.extend((20 + payload.len() as u16).to_be_bytes());
    header.extend([0, 1, 0, 0, 64, protocol, 0, 0]);
    header.extend(PEER_IP);
    header.extend(MACHINE_IP);
    let checksum = (!sum(&header)).wrapping_add(damage);
    header[10..12].copy_from_slice(&checksum.to_be_bytes());
    ethernet(MACHINE, [8, 0], &[&header, payload].concat())
}

fn pseudo_header(source: [u8; 4], destination: [u8; 4], protocol: u8, length: usize) -> Vec<u8> {
    let mut bytes = [source, destination].concat();
    bytes.extend([0, protocol]);
    bytes.extend((length as u16).to_be_bytes());
    bytes
}

/// A TCP segment to port 80 that opens a connection from `port`.
fn syn(port: u16, damage: u16) -> Vec<u8> {
    let mut segment = port.to_be_bytes().to_vec();
    segment.extend([
        0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 0x60, 0x02, 0xff, 0xff, 0, 0, 0, 0, 2, 4, 5, 0xb4,
    ]);
    let pseudo = pseudo_header(PEER_IP, MACHINE_IP, 6, segment.len());
    let checksum = (!sum(&[pseudo, segment.clone()].concat())).wrapping_add(damage);
    segment[16..18].copy_from_slice(&checksum.to_be_bytes());
    segment
}

/// Whether `frame` accepts the connection from `port`.
fn accepts(frame: &[u8], port: u16) -> bool {
    frame.len() >= 54
        && frame[12..14] == [8, 0]
        && frame[23] == 6
        && frame[34..36] == [0, 80]
        && frame[36..38] == port.to_be_bytes()
        && frame[47] & 0x3f == 0x12
}

#[test]
fn raw_frames_are_answered_and_others_ignored() {
    let (_running, mut peer) = boot();
    peer.send(&arp_request([0xff; 6])).unwrap();
    assert!(
        receive(&mut peer, ANSWER, is_arp_reply).is_some(),
        "a broadcast reaches the system"
    );

    // The NIC's filter: another station's frames do not arrive.
    peer.send(&arp_request([0x52, 0x54, 0, 0x5e, 0x60, 1]))
        .unwrap();
    assert!(
        receive(&mut peer, SILENCE, is_arp_reply).is_none(),
        "not the system's address"
    );
    // Longer than Ethernet allows, and shorter than its header.
    let mut long = arp_request(MACHINE);
    long.resize(1800, 0);
    peer.send(&long).unwrap();
    assert!(
        receive(&mut peer, SILENCE, is_arp_reply).is_none(),
        "a frame too long"
    );
    peer.send(&arp_request(MACHINE)[..10]).unwrap();
    peer.send(&arp_request(MACHINE)).unwrap();
    assert!(
        receive(&mut peer, ANSWER, is_arp_reply).is_some(),
        "and it still answers"
    );
}

#[test]
fn checksums_are_checked_on_the_way_in_and_right_on_the_way_out() {
    let (_running, mut peer) = boot();
    // The system asks for the peer's address before it answers; tell it unasked.
    peer.send(&arp_request(MACHINE)).unwrap();
    receive(&mut peer, ANSWER, is_arp_reply).expect("an ARP reply");

    peer.send(&ipv4(6, &syn(2001, 1), 0)).unwrap();
    peer.send(&ipv4(6, &syn(2002, 0), 1)).unwrap();
    peer.send(&ipv4(6, &syn(2003, 0), 0)).unwrap();
    // Frames keep their order, so the third answer means there was none before.
    let answer = receive(&mut peer, ANSWER, |frame| {
        (2001..=2003).any(|port| accepts(frame, port))
    });
    let answer = answer.expect("a sound request is accepted");
    assert!(accepts(&answer, 2003), "a damaged one is not");
    let end = 14 + usize::from(u16::from_be_bytes([answer[16], answer[17]]));
    assert_eq!(sum(&answer[14..34]), 0xffff, "IP header checksum");
    let pseudo = pseudo_header(MACHINE_IP, PEER_IP, 6, end - 34);
    assert_eq!(
        sum(&[&pseudo, &answer[34..end]].concat()),
        0xffff,
        "TCP checksum"
    );
}

fn start_without_its_nic(machine: Machine) -> Running {
    let running = machine.network(Network::NoDevice).start();
    running.unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn a_missing_nic_is_named_and_the_rest_goes_on() {
    let running = start_without_its_nic(TestMachine::machine("system"));
    let sentence =
        "pcie: error: no device at 00:03.0: start the machine with nic (8086:10c9) there";
    expect(&running, sentence);
    expect(&running, "http: listening on 10.0.2.15:80");
}

#[test]
fn another_device_in_the_nics_place_is_named() {
    let machine = TestMachine::machine("system")
        .argument("-device")
        .argument("edu,bus=pcie.0,addr=3.0");
    let running = start_without_its_nic(machine);
    expect(
        &running,
        "pcie: error: the device at 00:03.0 is 1234:11e8, but nic is 8086:10c9 in the system description",
    );
    expect(&running, "http: listening on 10.0.2.15:80");
}

/// Frames sent to each address; the question how many have come takes a tenth of that.
const FRAMES: u64 = 200;

/// A frame of a protocol that nobody answers (for experiments, IEEE 802).
fn experimental(destination: [u8; 6]) -> Vec<u8> {
    ethernet(destination, [0x88, 0xb5], &[0; 46])
}

#[test]
fn frames_arrive_that_are_for_an_address_of_the_system() {
    let machine = TestMachine::boot("addresses", Cable::Peer(1));
    let peer = machine.host().peer().expect("the cable leads to a peer");
    let received = || {
        let number = machine.status()["server"]["received_frames"].as_u64();
        number.expect("the server counts")
    };
    let solicited_node = |last: [u8; 3]| [0x33, 0x33, 0xff, last[0], last[1], last[2]];
    for (destination, arrives) in [
        (SHARED, true),
        // An application's own, and the members of the pool, taken and free.
        ([0x52, 0x54, 0, 0x5e, 0x61, 0x20], true),
        ([0x52, 0x54, 0, 0x5e, 0x62, 0], true),
        ([0x52, 0x54, 0, 0x5e, 0x62, 1], true),
        // The next ones, and a virtual function that has no address.
        ([0x52, 0x54, 0, 0x5e, 0x61, 0x21], false),
        ([0x52, 0x54, 0, 0x5e, 0x62, 2], false),
        ([0x52, 0x54, 0, 0x5e, 0x60, 1], false),
        // All nodes; who looks for the global and the link-local addresses.
        ([0x33, 0x33, 0, 0, 0, 1], true),
        (solicited_node([0, 0, 0x15]), true),
        (solicited_node([0, 0, 0x20]), true),
        (solicited_node([0, 0, 0x33]), true),
        (solicited_node([0x5e, 0x60, 0]), true),
        (solicited_node([0x5e, 0x61, 0x20]), true),
        // All routers, a stranger's, mDNS.
        ([0x33, 0x33, 0, 0, 0, 2], false),
        (solicited_node([0x12, 0x34, 0x56]), false),
        ([1, 0, 0x5e, 0, 0, 0xfb], false),
        ([0xff; 6], true),
    ] {
        let before = received();
        for _ in 0..FRAMES {
            peer.inject(&experimental(destination))
                .expect("the machine runs");
        }
        let came = received() - before;
        let is_right = match arrives {
            true => came >= FRAMES,
            false => came < FRAMES / 2,
        };
        let address = destination.map(|byte| format!("{byte:02x}")).join(":");
        assert!(
            is_right,
            "{came} frames came when {FRAMES} went to {address}"
        );
    }
}
