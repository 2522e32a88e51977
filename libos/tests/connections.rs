//! Many connections, short ones, idle ones, and peers that mean no good.

mod support;

use segue_libos::*;
use smoltcp::iface::SocketHandle;
use smoltcp::socket::tcp;
use support::*;

/// A TCP frame as a stranger would write it.
struct Forged {
    from_port: u16,
    to_port: u16,
    sequence: u32,
    acknowledgement: u32,
    flags: u8,
    options: Vec<u8>,
    payload: Vec<u8>,
}

const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;

impl Forged {
    fn new(from_port: u16, to_port: u16, flags: u8) -> Self {
        Self {
            from_port,
            to_port,
            sequence: 1000,
            acknowledgement: 0,
            flags,
            options: vec![],
            payload: vec![],
        }
    }

    fn frame(&self) -> Vec<u8> {
        let mut frame = vec![0; 54];
        frame[..6].copy_from_slice(&SERVER_MAC);
        frame[6..12].copy_from_slice(&CLIENT_MAC);
        frame[12] = 8;
        frame[14] = 0x45;
        frame[22] = 64;
        frame[23] = 6;
        // Nobody answers at this address.
        frame[26..30].copy_from_slice(&[10, 0, 2, 99]);
        frame[30..34].copy_from_slice(&SERVER.octets());
        frame[34..36].copy_from_slice(&self.from_port.to_be_bytes());
        frame[36..38].copy_from_slice(&self.to_port.to_be_bytes());
        frame[38..42].copy_from_slice(&self.sequence.to_be_bytes());
        frame[42..46].copy_from_slice(&self.acknowledgement.to_be_bytes());
        frame[46] = (((20 + self.options.len()) / 4) << 4) as u8;
        frame[47] = self.flags;
        frame[48..50].copy_from_slice(&8192u16.to_be_bytes());
        frame.extend_from_slice(&self.options);
        frame.extend_from_slice(&self.payload);
        let total = (frame.len() - 14) as u16;
        frame[16..18].copy_from_slice(&total.to_be_bytes());
        fill_checksums(&mut frame);
        frame
    }
}

/// What the server has sent since the last call, as (flags, sequence, acknowledgement, port).
fn answers(world: &mut World) -> Vec<(u8, u32, u32, u16)> {
    let sniffed = world
        .network
        .borrow_mut()
        .sniff
        .replace(vec![])
        .unwrap_or_default();
    let number = |bytes: &[u8]| u32::from_be_bytes(bytes.try_into().unwrap());
    sniffed
        .iter()
        .filter(|frame| frame.len() >= 54 && frame[23] == 6)
        .map(|frame| {
            let port = u16::from_be_bytes([frame[36], frame[37]]);
            (
                frame[47],
                number(&frame[38..42]),
                number(&frame[42..46]),
                port,
            )
        })
        .collect()
}

fn inject(world: &mut World, frame: Vec<u8>) -> Vec<(u8, u32, u32, u16)> {
    answers(world);
    world.network.borrow_mut().inject(frame);
    world.serve();
    answers(world)
}

/// A connection that no client socket knows of: (ours, theirs) are the next
/// sequence numbers of the forger and of the server.
fn forge_connection(world: &mut World, port: u16) -> (u32, u32) {
    let mut forged = Forged::new(port, SERVE, SYN);
    forged.options = vec![2, 4, 5, 180];
    let answer = inject(world, forged.frame());
    assert_eq!(answer.len(), 1);
    let (flags, sequence, acknowledgement, _) = answer[0];
    assert_eq!((flags, acknowledgement), (SYN | ACK, 1001));
    let mut forged = Forged::new(port, SERVE, ACK);
    forged.sequence = 1001;
    forged.acknowledgement = sequence + 1;
    inject(world, forged.frame());
    (1001, sequence + 1)
}

fn request(world: &mut World, handle: SocketHandle, number: u64) {
    world
        .client(handle)
        .send_slice(&number.to_le_bytes())
        .unwrap();
    let length = number & !CLOSE;
    let mut at = 0;
    assert!(world.run(30, |world| {
        let socket = world.client(handle);
        while socket.can_recv() {
            at += socket
                .recv(|bytes| {
                    assert!(
                        bytes
                            .iter()
                            .zip(at..)
                            .all(|(&byte, at)| byte == pattern(at))
                    );
                    (bytes.len(), bytes.len() as u64)
                })
                .unwrap();
        }
        at == length
    }));
}

#[test]
fn five_hundred_connections_from_ten_ports() {
    // The server closes first, so each ends in TIME_WAIT here and is made again
    // from a port that is still remembered.
    let mut world = World::new(Settings::default());
    let handles: Vec<_> = (0..10)
        .map(|index| world.connect(SERVE, 40_000 + index))
        .collect();
    for round in 0..50 {
        for (index, &handle) in handles.iter().enumerate() {
            if round > 0 {
                world.client(handle).abort();
                // The RST of an aborted socket would reach the next connection.
                world.run(0, |_| false);
                world.reconnect(handle, SERVE, 40_000 + index as u16);
            }
        }
        for &handle in &handles {
            let start = world.now();
            assert!(
                world.run(5, |world| world.client(handle).may_send()),
                "round {round}"
            );
            assert!(
                world.now() < start + Duration::from_millis(100),
                "a SYN was lost in TIME_WAIT"
            );
            request(&mut world, handle, 1000 | CLOSE);
            assert!(world.run(5, |world| !world.client(handle).may_recv()));
            world.client(handle).close();
            assert!(world.run(5, |world| !world.client(handle).is_open()));
        }
    }
    let statistics = world.stack.statistics();
    assert_eq!(statistics.accepted, 500);
    assert_eq!(statistics.closed, 500);
    assert!(
        world
            .application
            .closed
            .iter()
            .all(|&reason| reason == CloseReason::Finished)
    );
    assert!(statistics.time_wait_recycled >= 400, "{statistics:?}");
    assert_eq!(world.stack.open_connections(), 0);
    // All of it is forgotten in the end.
    world.run(60, |world| world.stack.time_wait_entries() == 0);
    assert_eq!(world.stack.time_wait_entries(), 0);
    assert_eq!(world.stack.next_deadline(), None);
}

#[test]
fn a_thousand_idle_connections_share_few_buffers() {
    let buffers = BufferSizes {
        receive: 4096,
        send: 16_384,
    };
    let buffer_memory = 32 * (buffers.receive + buffers.send);
    let listen = ListenOptions {
        timeout: None,
        ..ListenOptions::default()
    };
    let mut world = World::new(Settings {
        buffers,
        buffer_memory,
        listen,
        ..Settings::default()
    });
    let mut handles = vec![];
    for index in 0..1000 {
        let handle = world.connect(SERVE, 10_000 + index);
        assert!(
            world.run(20, |world| world.client(handle).may_send()),
            "connection {index}"
        );
        request(&mut world, handle, 3000);
        handles.push(handle);
        // Time for the last acknowledgement, and for the parking rule.
        world.run(1, |_| false);
    }
    assert_eq!(world.stack.open_connections(), 1000);
    assert!(world.stack.buffer_memory() <= buffer_memory);
    assert!(world.stack.statistics().parked >= 968);
    // Each goes on where it was, with more than a buffer's worth.
    for (index, &handle) in handles.iter().enumerate() {
        request(&mut world, handle, 40_000 + index as u64);
        world.run(1, |_| false);
    }
    assert_eq!(world.stack.statistics().retransmissions, 0);
    for &handle in &handles {
        world.client(handle).close();
    }
    assert!(world.run(60, |world| world.stack.open_connections() == 0));
    assert_eq!(world.application.closed.len(), 1000);
    assert!(
        world
            .application
            .closed
            .iter()
            .all(|&reason| reason == CloseReason::Finished)
    );
}

#[test]
fn a_burst_of_silent_connections_is_accepted() {
    let buffers = BufferSizes {
        receive: 4096,
        send: 16_384,
    };
    let buffer_memory = 16 * (buffers.receive + buffers.send);
    let mut world = World::new(Settings {
        buffers,
        buffer_memory,
        ..Settings::default()
    });
    let mut handles = vec![];
    for index in 0..600 {
        handles.push(world.connect(SERVE, 10_000 + index));
        if index % 50 == 49 {
            assert!(world.run(1, |world| {
                handles
                    .iter()
                    .all(|&handle| world.sockets.get::<tcp::Socket>(handle).may_send())
            }));
        }
    }
    assert!(world.run(1, |world| world.stack.open_connections() == 600));
    assert_eq!(world.stack.statistics().handshakes_lost, 0);
    // None of them needs buffers yet.
    assert_eq!(world.stack.buffer_memory(), 0);
    for &handle in &handles {
        request(&mut world, handle, 5000);
    }
    assert!(world.now() < Instant::from_secs(60));
}

#[test]
fn more_busy_connections_than_buffers() {
    let buffers = BufferSizes {
        receive: 4096,
        send: 8192,
    };
    let buffer_memory = 8 * (buffers.receive + buffers.send);
    let mut world = World::new(Settings {
        buffers,
        buffer_memory,
        ..Settings::default()
    });
    let handles: Vec<_> = (0..32)
        .map(|index| world.connect(SERVE, 10_000 + index))
        .collect();
    let mut sent = [false; 32];
    let mut received = vec![0u64; 32];
    let done = world.run(120, |world| {
        for (index, &handle) in handles.iter().enumerate() {
            let socket = world.client(handle);
            if socket.may_send() && !sent[index] {
                sent[index] = socket.send_slice(&(100_000 | CLOSE).to_le_bytes()).unwrap() == 8;
            }
            while socket.can_recv() {
                received[index] += socket
                    .recv(|bytes| (bytes.len(), bytes.len() as u64))
                    .unwrap();
            }
            if sent[index] && received[index] == 100_000 {
                socket.close();
            }
        }
        received.iter().all(|&count| count == 100_000)
    });
    assert!(done, "{received:?} {:?}", world.stack.statistics());
}

#[test]
fn peers_that_take_nothing_do_not_hold_the_buffers() {
    let buffers = BufferSizes {
        receive: 4096,
        send: 8192,
    };
    let buffer_memory = 8 * (buffers.receive + buffers.send);
    let mut world = World::new(Settings {
        buffers,
        buffer_memory,
        ..Settings::default()
    });
    // Each asks for more than its own buffer holds, and never reads.
    for index in 0..8 {
        let handle = world.connect(SERVE, 10_000 + index);
        assert!(world.run(5, |world| world.client(handle).may_send()));
        world
            .client(handle)
            .send_slice(&1_000_000u64.to_le_bytes())
            .unwrap();
    }
    world.run(2, |_| false);
    let handle = world.connect(SERVE, 50_000);
    assert!(world.run(5, |world| world.client(handle).may_send()));
    request(&mut world, handle, 20_000);
    assert!(world.now() < Instant::from_secs(20), "{}", world.now());
    assert_eq!(world.stack.statistics().stuck, 1);
}

#[test]
fn a_flood_of_synchronize_segments_is_bounded() {
    let mut world = World::new(Settings::default());
    let memory = world.stack.buffer_memory();
    for index in 0..20_000u32 {
        let mut forged = Forged::new((index % 60_000 + 1000) as u16, SERVE, SYN);
        forged.sequence = index;
        world.network.borrow_mut().inject(forged.frame());
        if index % 100 == 0 {
            world.serve();
        }
    }
    world.serve();
    assert_eq!(
        world.stack.open_handshakes(),
        ListenOptions::default().backlog
    );
    assert_eq!(world.stack.buffer_memory(), memory);
    // A real client gets through meanwhile.
    let handle = world.connect(SERVE, 777);
    assert!(world.run(5, |world| world.client(handle).may_send()));
    request(&mut world, handle, 5000);
    // And the rest is forgotten.
    assert!(world.run(60, |world| world.stack.open_handshakes() == 0));
}

#[test]
fn overflow_as_it_is_set() {
    for (overflow, flags) in [(Overflow::Drop, None), (Overflow::Reset, Some(RST | ACK))] {
        let listen = ListenOptions {
            backlog: 4,
            overflow,
            ..ListenOptions::default()
        };
        let mut world = World::new(Settings {
            listen,
            ..Settings::default()
        });
        for port in 1..=4 {
            assert_eq!(
                inject(&mut world, Forged::new(port, SERVE, SYN).frame()).len(),
                1
            );
        }
        let answer = inject(&mut world, Forged::new(5, SERVE, SYN).frame());
        assert_eq!(answer.first().map(|answer| answer.0), flags);
        assert_eq!(world.stack.open_handshakes(), 4);
    }
}

#[test]
fn strays_are_refused() {
    let mut world = World::new(Settings::default());
    let answer = inject(&mut world, Forged::new(5, 9999, SYN).frame());
    assert_eq!(answer, [(RST | ACK, 0, 1001, 5)]);
    let mut forged = Forged::new(5, SERVE, ACK);
    forged.acknowledgement = 77;
    assert_eq!(inject(&mut world, forged.frame()), [(RST, 77, 0, 5)]);
    assert_eq!(inject(&mut world, Forged::new(5, 9999, RST).frame()), []);
    // Acknowledging a SYN that was never sent.
    inject(&mut world, Forged::new(6, SERVE, SYN).frame());
    let mut forged = Forged::new(6, SERVE, ACK);
    forged.sequence = 1001;
    forged.acknowledgement = 12345;
    assert_eq!(inject(&mut world, forged.frame()), [(RST, 12345, 0, 6)]);
    assert_eq!(world.stack.open_connections(), 0);
}

#[test]
fn a_repeated_synchronize_does_not_hurt() {
    let mut world = World::new(Settings::default());
    let first = inject(&mut world, Forged::new(9, SERVE, SYN).frame());
    let again = inject(&mut world, Forged::new(9, SERVE, SYN).frame());
    assert_eq!(first, again);
    let mut forged = Forged::new(9, SERVE, ACK);
    forged.sequence = 1001;
    forged.acknowledgement = first[0].1 + 1;
    inject(&mut world, forged.frame());
    assert_eq!(world.stack.open_connections(), 1);
    // A late copy is answered with where the connection stands, and it lives on.
    let late = inject(&mut world, Forged::new(9, SERVE, SYN).frame());
    assert_eq!(late, [(ACK, first[0].1 + 1, 1001, 9)]);
    assert_eq!(world.stack.open_connections(), 1);
}

#[test]
fn a_peer_that_forgot_the_connection_can_make_a_new_one() {
    let mut world = World::new(Settings::default());
    let (_, theirs) = forge_connection(&mut world, 9);
    let mut forged = Forged::new(9, SERVE, SYN);
    forged.sequence = 5_000_000;
    let challenge = inject(&mut world, forged.frame());
    assert_eq!(challenge, [(ACK, theirs, 1001, 9)]);
    let mut reset = Forged::new(9, SERVE, RST);
    reset.sequence = 1001;
    inject(&mut world, reset.frame());
    assert_eq!(world.stack.open_connections(), 0);
    assert_eq!(world.application.closed, [CloseReason::Reset]);
    let answer = inject(&mut world, forged.frame());
    assert_eq!((answer[0].0, answer[0].2), (SYN | ACK, 5_000_001));
}

#[test]
fn requests_across_the_end_of_the_ring() {
    // Requests of 8 bytes in a ring of 2,051: sooner or later one lies across.
    let buffers = BufferSizes {
        receive: 2051,
        send: 4096,
    };
    let mut world = World::new(Settings {
        buffers,
        ..Settings::default()
    });
    let handle = world.connect(SERVE, 50_000);
    assert!(world.run(5, |world| world.client(handle).may_send()));
    for index in 0..3000 {
        request(&mut world, handle, 1 + index % 7);
    }
}

#[test]
fn peek_shows_what_receive_takes() {
    let mut world = World::new(Settings::default());
    let handle = world.connect(9000, 50_000);
    let listener = world
        .stack
        .listen(9000, ListenOptions::default(), &mut EveryPort::default())
        .unwrap();
    let mut connection = None;
    for _ in 0..20 {
        let now = world.now();
        world.stack.poll(now);
        while let Some(event) = world.stack.next_event() {
            if let Event::Accepted {
                connection: id,
                listener: by,
                ..
            } = event
            {
                assert_eq!(by, listener);
                connection = Some(id);
            }
        }
        world.stack.flush(now);
        world.step_client();
        if world.client(handle).can_send()
            && world.client(handle).send_queue() == 0
            && connection.is_none()
        {
            world.client(handle).send_slice(b"hello, world").unwrap();
        }
    }
    let id = connection.expect("no connection");
    assert_eq!(world.stack.peer(id).unwrap().port(), 50_000);
    assert_eq!(world.stack.receive_queue(id), 12);
    assert_eq!(world.stack.peek(id), b"hello, world");
    world.stack.consume(id, 7);
    let mut copy = [0; 3];
    assert_eq!(world.stack.peek_copy(id, &mut copy), 3);
    assert_eq!(&copy, b"wor");
    let mut rest = [0; 16];
    assert_eq!(world.stack.receive(id, &mut rest), 5);
    assert_eq!(&rest[..5], b"world");
    assert_eq!(
        world.stack.send_space(id),
        ListenOptions::default().buffers.send
    );
}

#[test]
fn a_dead_peer_is_noticed() {
    let listen = ListenOptions {
        timeout: Some(Duration::from_secs(20)),
        ..ListenOptions::default()
    };
    let mut world = World::new(Settings {
        listen,
        ..Settings::default()
    });
    forge_connection(&mut world, 9);
    forge_connection(&mut world, 10);
    // One waits for an answer to data, the other for nothing.
    let mut forged = Forged::new(9, SERVE, ACK);
    let (ours, theirs) = forge_connection(&mut world, 11);
    forged.from_port = 11;
    forged.sequence = ours;
    forged.acknowledgement = theirs;
    forged.payload = 1000u64.to_le_bytes().to_vec();
    inject(&mut world, forged.frame());
    assert!(world.run(60, |world| world.stack.open_connections() == 0));
    assert_eq!(world.application.closed, [CloseReason::TimedOut; 3]);
    assert_eq!(world.stack.next_deadline(), None);
}

#[test]
fn keep_alive_probes_keep_a_living_peer() {
    let listen = ListenOptions {
        timeout: Some(Duration::from_secs(20)),
        keep_alive: Some(Duration::from_secs(5)),
        ..ListenOptions::default()
    };
    let mut world = World::new(Settings {
        listen,
        ..Settings::default()
    });
    let handle = world.connect(SERVE, 50_000);
    assert!(world.run(5, |world| world.client(handle).may_send()));
    world.run(300, |_| false);
    assert_eq!(world.stack.open_connections(), 1);
    request(&mut world, handle, 5000);
}

#[test]
fn a_peer_that_never_closes_is_left_after_a_while() {
    let mut world = World::new(Settings::default());
    let (ours, theirs) = forge_connection(&mut world, 9);
    let mut forged = Forged::new(9, SERVE, ACK);
    forged.sequence = ours;
    forged.acknowledgement = theirs;
    forged.payload = (10 | CLOSE).to_le_bytes().to_vec();
    inject(&mut world, forged.frame());
    // It acknowledges the answer and the FIN, and says nothing more.
    let mut forged = Forged::new(9, SERVE, ACK);
    forged.sequence = ours + 8;
    forged.acknowledgement = theirs + 11;
    inject(&mut world, forged.frame());
    assert_eq!(world.stack.open_connections(), 1);
    assert!(world.run(60, |world| world.stack.open_connections() == 0));
}

#[test]
fn an_aborted_connection_is_reset() {
    let mut world = World::new(Settings::default());
    let handle = world.connect(SERVE, 50_000);
    assert!(world.run(5, |world| world.client(handle).may_send()));
    assert!(world.run(5, |world| world.application.open().len() == 1));
    let id = world.application.open()[0];
    world.stack.abort(id);
    assert!(world.run(5, |world| world.client(handle).state()
        == tcp::State::Closed));
    assert_eq!(world.application.closed, [CloseReason::Aborted]);
}

#[test]
fn the_ends_of_data_are_not_resent_for_ever_in_time_wait() {
    let mut world = World::new(Settings::default());
    let (ours, theirs) = forge_connection(&mut world, 9);
    let mut forged = Forged::new(9, SERVE, ACK);
    forged.sequence = ours;
    forged.acknowledgement = theirs;
    forged.payload = (10 | CLOSE).to_le_bytes().to_vec();
    inject(&mut world, forged.frame());
    let mut forged = Forged::new(9, SERVE, ACK | FIN);
    forged.sequence = ours + 8;
    forged.acknowledgement = theirs + 11;
    inject(&mut world, forged.frame());
    world.serve();
    assert_eq!(
        (
            world.stack.open_connections(),
            world.stack.time_wait_entries()
        ),
        (0, 1)
    );
    // A repeated FIN is acknowledged, an acknowledgement is not.
    assert_eq!(
        inject(&mut world, forged.frame()),
        [(ACK, theirs + 11, ours + 9, 9)]
    );
    forged.flags = ACK;
    forged.sequence += 1;
    assert_eq!(inject(&mut world, forged.frame()), []);
    // Neither a RST nor an old SYN gets past it.
    let mut old = Forged::new(9, SERVE, RST);
    old.sequence = ours + 9;
    assert_eq!(inject(&mut world, old.frame()), []);
    assert_eq!(world.stack.time_wait_entries(), 1);
    let old = Forged::new(9, SERVE, SYN);
    assert_eq!(
        inject(&mut world, old.frame()),
        [(ACK, theirs + 11, ours + 9, 9)]
    );
    assert_eq!(world.stack.time_wait_entries(), 1);
    // A new one does, and our numbers go on from where they were.
    let mut new = Forged::new(9, SERVE, SYN);
    new.sequence = ours + 100;
    let answer = inject(&mut world, new.frame());
    assert_eq!((answer[0].0, answer[0].2), (SYN | ACK, ours + 101));
    assert!((answer[0].1.wrapping_sub(theirs + 11) as i32) > 0);
}

#[test]
fn a_peer_with_random_sequence_numbers_may_come_back() {
    let mut world = World::new(Settings::default());
    let (ours, theirs) = forge_connection(&mut world, 9);
    let mut forged = Forged::new(9, SERVE, ACK);
    forged.sequence = ours;
    forged.acknowledgement = theirs;
    forged.payload = (10 | CLOSE).to_le_bytes().to_vec();
    inject(&mut world, forged.frame());
    let mut forged = Forged::new(9, SERVE, ACK | FIN);
    forged.sequence = ours + 8;
    forged.acknowledgement = theirs + 11;
    inject(&mut world, forged.frame());
    // A SYN from before the connection is answered with where that stood; the
    // peer, which knows nothing of it, says so; and then its SYN counts.
    let mut syn = Forged::new(9, SERVE, SYN);
    syn.sequence = 10;
    assert_eq!(
        inject(&mut world, syn.frame()),
        [(ACK, theirs + 11, ours + 9, 9)]
    );
    let mut reset = Forged::new(9, SERVE, RST);
    reset.sequence = ours + 9;
    let answer = inject(&mut world, reset.frame());
    assert_eq!((answer[0].0, answer[0].2), (SYN | ACK, 11));
}
