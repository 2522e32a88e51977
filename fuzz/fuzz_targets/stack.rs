//! The library OS' stack against peers that know their connections' numbers.
//!
//! The input is a script of eight bytes a step: a segment whose sequence and
//! acknowledgement numbers are chosen near those that the stack expects, some
//! time, and what the application does. Whatever a peer sends, its bytes carry
//! their place in the stream, so that the application can tell if it gets others.
#![no_main]

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::rc::Rc;

use libfuzzer_sys::fuzz_target;
use segue_libos::{
    Addresses, Backend, BufferSizes, Capabilities, Config, ConnectOptions, ConnectionId, Duration,
    Event, EveryPort, Instant, ListenOptions, Network, Offload, Received, Stack, Vif,
};

const SERVER: [u8; 4] = [10, 0, 2, 15];
const CLIENT: [u8; 4] = [10, 0, 2, 2];
const SERVER6: [u8; 16] = [0xfd, 0, 0x5e, 0x60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x15];
const CLIENT6: [u8; 16] = [0xfd, 0, 0x5e, 0x60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];
const SERVER_MAC: [u8; 6] = [0x52, 0x54, 0, 0x5e, 0x60, 0];
const PEERS: usize = 6;
/// The peer that the stack connects to, from a port of its own. It talks IPv4.
const CALLED: usize = 4;
const BACKLOG: usize = 3;
const BUFFERS: BufferSizes = BufferSizes {
    receive: 2048,
    send: 4096,
};
/// Buffers for three connections only.
const BUFFER_MEMORY: usize = 3 * (2048 + 4096);
/// TCP's flags.
const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;

#[derive(Default)]
struct Wire {
    frame: Option<Vec<u8>>,
    sent: Vec<Vec<u8>>,
}

struct Link(Rc<RefCell<Wire>>);

impl Backend for Link {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            maximum_frame: 1514,
            segmentation: Some(65_549),
            checksum: true,
        }
    }
    fn receive(&mut self, buffer: &mut [u8]) -> Option<Received> {
        let frame = self.0.borrow_mut().frame.take()?;
        buffer[..frame.len()].copy_from_slice(&frame);
        Some(Received {
            length: frame.len(),
            verified: true,
        })
    }
    fn can_transmit(&mut self, _: usize) -> bool {
        true
    }
    fn transmit(
        &mut self,
        length: usize,
        _: Offload,
        fill: &mut dyn FnMut(&mut [u8]) -> bool,
    ) -> bool {
        let mut frame = vec![0; length];
        let wanted = fill(&mut frame);
        if wanted {
            self.0.borrow_mut().sent.push(frame);
        }
        wanted
    }
    fn commit(&mut self) {}
}

/// The byte at a sequence number.
fn byte(sequence: u32) -> u8 {
    (sequence.wrapping_mul(0x9e37_79b9) >> 24) as u8
}

/// Every other peer talks IPv6.
fn is_ipv6(peer: usize) -> bool {
    peer % 2 == 1
}

/// The stack's port towards a peer.
fn local_port(peer: usize) -> u16 {
    if peer == CALLED { 84 } else { 80 }
}

/// The answer to the stack's question for the hardware address of its peers.
fn arp_answer() -> Vec<u8> {
    let mac = [2, 0, 0, 0, 0, 1];
    let kind = [8, 6, 0, 1, 8, 0, 6, 4, 0, 2];
    [
        &SERVER_MAC[..],
        &mac,
        &kind,
        &mac,
        &CLIENT,
        &SERVER_MAC,
        &SERVER,
    ]
    .concat()
}

/// A router's word, or a forger's, that a segment of the stack was too big.
fn too_big(peer: usize, sequence: u32, mtu: u32) -> Vec<u8> {
    let mut message = vec![2, 0, 0, 0];
    message.extend_from_slice(&mtu.to_be_bytes());
    message.extend_from_slice(&[0x60, 0, 0, 0, 5, 0xa0, 6, 64]);
    message.extend_from_slice(&SERVER6);
    message.extend_from_slice(&CLIENT6);
    message.extend_from_slice(&80u16.to_be_bytes());
    message.extend_from_slice(&(1000 + peer as u16).to_be_bytes());
    message.extend_from_slice(&sequence.to_be_bytes());
    let sum = [
        &SERVER6[..],
        &CLIENT6,
        &[0, 58, 0, message.len() as u8],
        &message,
    ]
    .concat()
    .chunks(2)
    .fold(0u32, |sum, pair| {
        sum + u32::from(pair[0]) * 256 + u32::from(pair[1])
    });
    let carried = (sum >> 16) + (sum & 0xffff);
    let sum = !((carried >> 16) as u16 + carried as u16);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let mut frame = [
        &SERVER_MAC[..],
        &[2, 0, 0, 0, 0, 1, 0x86, 0xdd, 0x60, 0, 0, 0],
    ]
    .concat();
    frame.extend_from_slice(&[0, message.len() as u8, 58, 64]);
    frame.extend_from_slice(&CLIENT6);
    frame.extend_from_slice(&SERVER6);
    frame.extend_from_slice(&message);
    frame
}

/// What a peer knows from the stack's last segment to it.
#[derive(Clone, Copy, Default)]
struct Peer {
    /// The sequence number that the stack expects.
    wanted: u32,
    /// The sequence number after the stack's last byte.
    end: u32,
    /// Where the stream to the stack starts.
    start: u32,
    /// It has said that its stream ends, and what it sends then is nobody's concern.
    finished: bool,
    /// The stack has sent it a SYN and acknowledged nothing yet.
    called: bool,
}

fn segment(
    peer: usize,
    sequence: u32,
    acknowledgement: u32,
    flags: u8,
    window: u16,
    payload: usize,
) -> Vec<u8> {
    let options: &[u8] = if flags & SYN != 0 {
        &[2, 4, 5, 0xb4, 1, 3, 3, 7, 1, 1, 4, 2]
    } else {
        &[]
    };
    let first = sequence.wrapping_add(u32::from(flags & SYN != 0));
    let payload: Vec<u8> = (0..payload as u32)
        .map(|at| byte(first.wrapping_add(at)))
        .collect();
    let tcp = 20 + options.len() + payload.len();
    let mut frame = [&SERVER_MAC[..], &[2, 0, 0, 0, 0, 1]].concat();
    if is_ipv6(peer) {
        frame.extend_from_slice(&[0x86, 0xdd, 0x60, 0, 0, 0]);
        frame.extend_from_slice(&(tcp as u16).to_be_bytes());
        frame.extend_from_slice(&[6, 64]);
        frame.extend_from_slice(&CLIENT6);
        frame.extend_from_slice(&SERVER6);
    } else {
        frame.extend_from_slice(&[8, 0, 0x45, 0]);
        frame.extend_from_slice(&(20 + tcp as u16).to_be_bytes());
        frame.extend_from_slice(&[0, 0, 0, 0, 64, 6, 0, 0]);
        frame.extend_from_slice(&CLIENT);
        frame.extend_from_slice(&SERVER);
    }
    frame.extend_from_slice(&(1000 + peer as u16).to_be_bytes());
    frame.extend_from_slice(&local_port(peer).to_be_bytes());
    frame.extend_from_slice(&sequence.to_be_bytes());
    frame.extend_from_slice(&acknowledgement.to_be_bytes());
    frame.extend_from_slice(&[(5 + options.len() as u8 / 4) << 4, flags]);
    frame.extend_from_slice(&window.to_be_bytes());
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(options);
    frame.extend_from_slice(&payload);
    frame
}

#[derive(Default)]
struct Application {
    /// The sequence number of the byte that each connection gives next.
    open: HashMap<ConnectionId, (usize, u32)>,
    /// Connections that the stack is opening.
    opening: HashSet<ConnectionId>,
}

impl Application {
    fn run(&mut self, stack: &mut Stack, peers: &[Peer; PEERS], action: u8) {
        while let Some(event) = stack.next_event() {
            match event {
                Event::Accepted {
                    connection, peer, ..
                } => {
                    let peer = usize::from(peer.port() - 1000);
                    let before = self.open.insert(connection, (peer, peers[peer].start));
                    assert!(before.is_none(), "accepted twice");
                }
                Event::Connected { connection } => {
                    assert!(self.opening.remove(&connection), "never asked for");
                    self.open.insert(connection, (CALLED, peers[CALLED].start));
                }
                Event::Ready { .. } | Event::Datagram { .. } => {}
                Event::Closed { connection, .. } => {
                    assert!(
                        self.open.remove(&connection).is_some() || self.opening.remove(&connection),
                        "closed, never accepted"
                    );
                }
            }
        }
        for (&id, (peer, next)) in &mut self.open {
            if usize::from(action >> 3) % (PEERS + 1) != *peer {
                continue;
            }
            match action & 7 {
                0..=2 => {
                    let mut buffer = [0; 700];
                    let count = stack.receive(id, &mut buffer);
                    for &got in buffer[..count].iter().filter(|_| !peers[*peer].finished) {
                        assert_eq!(got, byte(*next), "a byte that was not sent there");
                        *next = next.wrapping_add(1);
                    }
                }
                3 => {
                    stack.send(id, &[0x55; 3000]);
                }
                4 => {
                    stack.send(id, &[0xaa; 100]);
                }
                5 => stack.close(id),
                6 => stack.abort(id),
                _ => {}
            }
        }
    }
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

/// What the peers learn from what the stack has sent.
fn learn(peers: &mut [Peer; PEERS], sent: Vec<Vec<u8>>) {
    for frame in sent {
        let tcp = match frame[12..14] {
            [8, 0] if frame[23] == 6 => 34,
            [0x86, 0xdd] if frame[20] == 6 => 54,
            _ => continue,
        };
        let tcp = &frame[tcp..];
        let Some(peer) = peers.get_mut(usize::from(u16::from_be_bytes([tcp[2], tcp[3]]) - 1000))
        else {
            continue;
        };
        let flags = tcp[13];
        if flags & RST != 0 {
            continue;
        }
        let payload = tcp.len() - usize::from(tcp[12] >> 4) * 4;
        peer.wanted = word(tcp, 8);
        peer.end = word(tcp, 4)
            .wrapping_add(payload as u32)
            .wrapping_add(u32::from(flags & (SYN | FIN) != 0));
        if flags & (SYN | ACK) == SYN {
            peer.called = true;
            peer.finished = false;
        } else if std::mem::take(&mut peer.called) {
            peer.start = peer.wanted;
        } else if flags & SYN != 0 {
            // A repeated one says nothing new.
            peer.finished &= peer.start == peer.wanted;
            peer.start = peer.wanted;
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let wire = Rc::new(RefCell::new(Wire::default()));
    let config = Config {
        hardware_address: SERVER_MAC,
        addresses: Addresses {
            ipv4: Some(Network {
                address: Ipv4Addr::from(SERVER),
                prefix_length: 24,
                gateway: None,
            }),
            ipv6: Some(Network {
                address: Ipv6Addr::from(SERVER6),
                prefix_length: 64,
                gateway: None,
            }),
        },
        seed: [1, 2],
        maximum_connections: PEERS - 1,
        buffer_memory: BUFFER_MEMORY,
        maximum_time_wait: 2,
    };
    let mut time = 1_000_000;
    let vif = Vif::new(Box::new(Link(wire.clone())));
    let mut stack = Stack::new(
        config,
        vif,
        Box::new(EveryPort::default()),
        Instant::from_micros(time),
    );
    let options = ListenOptions {
        backlog: BACKLOG,
        buffers: BUFFERS,
        ..ListenOptions::default()
    };
    stack.listen(80, options).expect("the port is free");
    let mut peers = [Peer::default(); PEERS];
    let mut application = Application::default();
    for step in data.chunks_exact(8).take(300) {
        let &[
            who,
            flags,
            sequence,
            acknowledgement,
            window,
            length,
            wait,
            action,
        ] = step
        else {
            unreachable!("chunks of eight");
        };
        let number = usize::from(who) % PEERS;
        let peer = peers[number];
        // Mostly exact, often near, sometimes far.
        let near = |delta: u8| match delta {
            0..=127 => 0,
            128..=250 => (i32::from(delta) - 190) as u32,
            _ => u32::from(delta) << 24,
        };
        let frame = segment(
            number,
            peer.wanted.wrapping_add(near(sequence)),
            peer.end.wrapping_add(near(acknowledgement)),
            flags & 0x3f,
            u16::from(window) << 5,
            usize::from(length) * 5,
        );
        if (240..250).contains(&who) {
            let sequence = peer.end.wrapping_sub(u32::from(sequence) * 16);
            let mtu = u32::from(length) * 8;
            wire.borrow_mut().frame = Some(too_big(number, sequence, mtu));
        } else if who < 250 {
            peers[number].finished |= flags & FIN != 0;
            wire.borrow_mut().frame = Some(frame);
        }
        if who >= 250 && action == 255 {
            let options = ConnectOptions {
                local_port: Some(local_port(CALLED)),
                buffers: BUFFERS,
                connect_timeout: Duration::from_secs(20),
                ..ConnectOptions::default()
            };
            // It may have the port, or too many connections, already.
            let remote = (Ipv4Addr::from(CLIENT), 1000 + CALLED as u16);
            if let Ok(id) = stack.connect(remote.into(), options) {
                application.opening.insert(id);
                wire.borrow_mut().frame = Some(arp_answer());
            }
        }
        time += i64::from(wait).pow(3) * 4;
        let now = Instant::from_micros(time);
        stack.poll(now);
        // The bytes' place must be known before they are read.
        let sent = std::mem::take(&mut wire.borrow_mut().sent);
        learn(&mut peers, sent);
        application.run(&mut stack, &peers, action);
        stack.flush(now);
        let sent = std::mem::take(&mut wire.borrow_mut().sent);
        assert!(sent.len() < 1000, "the stack does not stop to send");
        learn(&mut peers, sent);
        assert!(stack.open_connections() < PEERS);
        assert!(stack.open_handshakes() <= BACKLOG);
        assert!(stack.time_wait_entries() <= 2);
        assert!(stack.buffer_memory() <= BUFFER_MEMORY);
        if let Some(next) = stack.next_deadline() {
            assert!(
                next <= now + segue_libos::Duration::from_secs(130),
                "a deadline too far"
            );
        }
    }
    // Left alone, everything comes to its end.
    for _ in 0..2000 {
        let Some(next) = stack.next_deadline() else {
            break;
        };
        let now = next.max(Instant::from_micros(time + 1));
        time = now.total_micros();
        stack.poll(now);
        application.run(&mut stack, &peers, 7);
        stack.flush(now);
        wire.borrow_mut().sent.clear();
    }
    application.run(&mut stack, &peers, 7);
    assert_eq!(stack.next_deadline(), None, "a timer that never ends");
    assert_eq!(stack.open_connections(), 0, "a connection that never ends");
    assert_eq!(stack.open_handshakes(), 0);
});
