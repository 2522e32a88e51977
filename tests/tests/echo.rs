//! The echo application over the operating system's own TCP and UDP.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use segue_system_tests::random::{Random, seed};
use segue_system_tests::scenarios::may_make_tap_devices;
use segue_system_tests::{Cable, TestMachine, frames};
use smoltcp::wire::{IpProtocol, Ipv4Packet};

const ADDRESS: &str = "10.0.2.15";

fn boot() -> Option<TestMachine> {
    if let Err(why) = may_make_tap_devices() {
        println!("not tested, since it takes a tap device: {why}");
        return None;
    }
    let machine = TestMachine::start(TestMachine::machine("echo"), Cable::Tap);
    machine.expect_line("echo: listening on 10.0.2.15:7 (UDP)");
    Some(machine)
}

fn connect(machine: &TestMachine, port: u16) -> TcpStream {
    let namespace = machine.namespace().expect("the cable is a tap");
    let stream = namespace
        .run(|| TcpStream::connect((ADDRESS, port)))
        .expect("the namespace is there")
        .expect("the application accepts");
    stream
        .set_read_timeout(Some(Duration::from_secs(60)))
        .expect("a timeout can be set");
    stream.set_nodelay(true).expect("a flag can be set");
    stream
}

fn bytes(random: &mut Random, count: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(count + 8);
    while bytes.len() < count {
        bytes.extend(random.number().to_le_bytes());
    }
    bytes.truncate(count);
    bytes
}

/// Sends a datagram until it comes back: datagrams may get lost. Returns how often.
fn exchange(socket: &UdpSocket, payload: &[u8]) -> Option<usize> {
    let mut answer = vec![0; 65_536];
    for attempt in 1..=5 {
        socket.send(payload).expect("a datagram can be sent");
        match socket.recv(&mut answer) {
            Ok(length) => {
                assert!(
                    answer[..length] == *payload,
                    "{} bytes differ",
                    payload.len()
                );
                return Some(attempt);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => panic!("{error}"),
        }
    }
    None
}

fn datagrams(machine: &TestMachine) -> UdpSocket {
    let namespace = machine.namespace().expect("the cable is a tap");
    let socket = namespace
        .run(|| UdpSocket::bind("0.0.0.0:0"))
        .expect("the namespace is there")
        .expect("a port is free");
    socket.connect((ADDRESS, 7)).expect("a local operation");
    socket
        .set_read_timeout(Some(Duration::from_secs(2)))
        .expect("a timeout can be set");
    socket
}

/// A counter of the other end's IP: so many datagrams were cut into fragments or put together.
fn counter(machine: &TestMachine, name: &str) -> u64 {
    let namespace = machine.namespace().expect("the cable is a tap");
    let text = namespace
        .run(|| std::fs::read_to_string("/proc/thread-self/net/snmp"))
        .expect("the namespace is there")
        .expect("Linux counts");
    let mut lines = text.lines().filter(|line| line.starts_with("Ip:"));
    let (names, values) = (lines.next().unwrap_or(""), lines.next().unwrap_or(""));
    let mut pairs = names.split(' ').zip(values.split(' '));
    let value = pairs.find_map(|(known, value)| (known == name).then(|| value.parse().ok())?);
    value.unwrap_or_else(|| panic!("no {name} in {text}"))
}

#[test]
fn datagrams_of_up_to_9000_bytes_come_back() {
    let Some(machine) = boot() else { return };
    let socket = datagrams(&machine);
    let mut random = Random::new(seed());
    // 9000 bytes go in seven fragments each way.
    for length in [0, 1, 100, 1472, 1473, 2961, 4096, 8972, 9000, 9188] {
        let payload = bytes(&mut random, length);
        let attempts = exchange(&socket, &payload);
        println!("{length} bytes: attempt {attempts:?}");
        assert!(attempts.is_some(), "{length} bytes do not come back");
    }
    let mut lost = 0;
    for _ in 0..100 {
        let payload = bytes(&mut random, 9000);
        let attempts = exchange(&socket, &payload).expect("9000 bytes come back");
        lost += attempts - 1;
    }
    println!("100 of 9000 bytes: {lost} had to be repeated");
    let (cut, put_together) = (counter(&machine, "FragOKs"), counter(&machine, "ReasmOKs"));
    println!("{cut} datagrams were sent in fragments, {put_together} came in fragments");
    assert!(cut >= 100 && put_together >= 100);
    // More than the buffer for reassembly holds is dropped, and what follows is not troubled.
    socket
        .send(&vec![1; 20_000])
        .expect("a datagram can be sent");
    let payload = bytes(&mut random, 500);
    assert!(exchange(&socket, &payload).is_some());
}

#[test]
fn a_stream_comes_back() {
    let Some(machine) = boot() else { return };
    let stream = connect(&machine, 7);
    let mut random = Random::new(seed());
    let sent = bytes(&mut random, 8 << 20);
    let mut writer = stream.try_clone().expect("a stream can be cloned");
    let received = std::thread::scope(|scope| {
        scope.spawn(|| {
            writer.write_all(&sent).expect("the stream takes all");
            writer
                .shutdown(Shutdown::Write)
                .expect("the stream can end");
        });
        let mut received = Vec::with_capacity(sent.len());
        (&stream)
            .read_to_end(&mut received)
            .expect("the stream comes back and ends");
        received
    });
    assert!(
        received == sent,
        "{} of {} bytes, or others",
        received.len(),
        sent.len()
    );
}

#[test]
fn messages_come_back_one_by_one() {
    let Some(machine) = boot() else { return };
    let mut stream = connect(&machine, 5002);
    let mut random = Random::new(seed());
    for length in [4u32, 5, 64, 1460, 1461, 65_536, 1 << 20, 4] {
        let mut message = bytes(&mut random, length as usize);
        message[..4].copy_from_slice(&length.to_be_bytes());
        let (rounds, began) = (if length > 100_000 { 3 } else { 20 }, Instant::now());
        for _ in 0..rounds {
            stream.write_all(&message).expect("the stream takes it");
            let mut answer = vec![0; message.len()];
            stream.read_exact(&mut answer).expect("it comes back");
            assert!(answer == message, "a message of {length} bytes differs");
        }
        let time = began.elapsed().as_micros() / rounds;
        println!("{length} bytes: {time} us for a round trip");
    }
    // Nothing comes back of a message that is not complete.
    stream.write_all(&[0, 0, 0, 10, 1, 2, 3]).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_millis(500)))
        .unwrap();
    let mut byte = [0];
    let error = stream
        .read(&mut byte)
        .expect_err("there is nothing to read");
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
    // An impossible length ends the connection, and nobody else's.
    let mut other = connect(&machine, 5002);
    other.write_all(&[255; 4]).unwrap();
    assert!(!matches!(other.read(&mut byte), Ok(1..)));
    let mut third = connect(&machine, 7);
    third.write_all(b"x").unwrap();
    third.read_exact(&mut byte).unwrap();
    assert_eq!(byte, *b"x");
}

/// The fragments of a UDP datagram from port 5000 to port 7, as frames. No checksum: the bytes are
/// compared.
fn fragments(identification: u16, payload: &[u8]) -> Vec<Vec<u8>> {
    let mut datagram = [5000u16.to_be_bytes(), 7u16.to_be_bytes()].concat();
    datagram.extend_from_slice(&(8 + payload.len() as u16).to_be_bytes());
    datagram.extend_from_slice(&[0, 0]);
    datagram.extend_from_slice(payload);
    let pieces: Vec<&[u8]> = datagram.chunks(1480).collect();
    let frame = |(index, piece): (usize, &&[u8])| {
        let mut frame = frames::ipv4(IpProtocol::Udp, piece);
        let mut header = Ipv4Packet::new_unchecked(&mut frame[14..]);
        header.set_ident(identification);
        header.set_dont_frag(false);
        header.set_more_frags(index + 1 < pieces.len());
        header.set_frag_offset((index * 1480) as u16);
        header.fill_checksum();
        frame
    };
    pieces.iter().enumerate().map(frame).collect()
}

#[test]
fn fragments_may_come_in_any_order() {
    let machine = TestMachine::start(TestMachine::machine("echo"), Cable::Peer(1));
    machine.expect_line("echo: listening on 10.0.2.15:7 (UDP)");
    machine.expect_line("netserver: the virtual function is running");
    let peer = machine.host().peer().expect("the cable leads to a peer");
    let mut random = Random::new(seed());
    peer.record(true);
    for round in 0..20u16 {
        let payload = bytes(&mut random, 9000);
        let mut frames = fragments(100 + round, &payload);
        if round == 0 {
            frames.reverse();
        }
        for last in (1..frames.len()).rev() {
            if round > 0 {
                frames.swap(last, random.number() as usize % (last + 1));
            }
        }
        for frame in &frames {
            peer.inject(frame).expect("the machine runs");
        }
        // It comes back in order, in as many fragments.
        let mut whole = Vec::new();
        while whole.len() < 9008 {
            let is_answer =
                |frame: &[u8]| frame.len() > 34 && frame[12..14] == [8, 0] && frame[23] == 17;
            let frame = peer.recorded(Duration::from_secs(30), is_answer);
            let frame =
                frame.unwrap_or_else(|| panic!("round {round}: {} bytes came", whole.len()));
            let packet = Ipv4Packet::new_checked(&frame[14..]).expect("an IPv4 packet");
            assert_eq!(
                usize::from(packet.frag_offset()),
                whole.len(),
                "round {round}"
            );
            whole.extend_from_slice(packet.payload());
        }
        assert!(whole[8..] == payload, "round {round}: other bytes");
    }
}
