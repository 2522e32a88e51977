//! Peers that mean no good, or have forgotten what they said.

mod support;

use segue_libos::*;
use support::forged::*;
use support::*;

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
fn only_the_exact_reset_ends_a_connection_at_rest() {
    let mut world = World::new(Settings::default());
    let (ours, theirs) = forge_connection(&mut world, 9);
    let mut reset = Forged::new(9, SERVE, RST);
    reset.sequence = ours.wrapping_sub(1);
    assert_eq!(inject(&mut world, reset.frame()), []);
    reset.sequence = ours + 1;
    assert_eq!(inject(&mut world, reset.frame()), [(ACK, theirs, ours, 9)]);
    assert_eq!(world.stack.open_connections(), 1);
    reset.sequence = ours;
    assert_eq!(inject(&mut world, reset.frame()), []);
    assert_eq!(world.application.closed, [CloseReason::Reset]);
    assert_eq!(world.stack.statistics().resumed, 0);
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

#[test]
fn only_the_exact_reset_ends_a_connection_in_use() {
    let mut world = World::new(Settings::default());
    let (ours, theirs) = forge_connection(&mut world, 9);
    let mut part = Forged::new(9, SERVE, ACK);
    (part.sequence, part.acknowledgement) = (ours, theirs);
    part.payload = vec![0; 4];
    inject(&mut world, part.frame());
    assert_eq!(world.stack.statistics().resumed, 1);
    let mut reset = Forged::new(9, SERVE, RST);
    // Inside the window, as a guess may be (RFC 5961, 3.2).
    reset.sequence = ours + 1000;
    let answer = inject(&mut world, reset.frame());
    assert_eq!(world.application.closed, []);
    assert_eq!(answer.first().map(|answer| answer.0), Some(ACK));
    reset.sequence = ours + 4;
    assert_eq!(inject(&mut world, reset.frame()), []);
    assert_eq!(world.application.closed, [CloseReason::Reset]);
}

#[test]
fn a_blind_acknowledgement_teaches_nothing() {
    let mut world = World::new(Settings::default());
    let (ours, theirs) = forge_connection(&mut world, 9);
    let mut asked = Forged::new(9, SERVE, ACK);
    (asked.sequence, asked.acknowledgement) = (ours, theirs);
    asked.payload = 100_000u64.to_le_bytes().to_vec();
    let sent = inject(&mut world, asked.frame());
    assert!(sent.iter().any(|frame| frame.1 == theirs));
    // The number that it acknowledges is a good guess, its own is not.
    let mut blind = Forged::new(9, SERVE, ACK);
    blind.sequence = ours.wrapping_add(1 << 30);
    blind.acknowledgement = theirs + 1460;
    inject(&mut world, blind.frame());
    // What was not acknowledged by the peer is sent again.
    answers(&mut world);
    world.run(3, |_| false);
    let again = answers(&mut world);
    assert!(!again.is_empty());
    assert_eq!(again[0].1, theirs);
}

#[test]
fn a_segment_from_afar_takes_no_buffers() {
    let mut world = World::new(Settings::default());
    let (ours, theirs) = forge_connection(&mut world, 9);
    let mut blind = Forged::new(9, SERVE, ACK);
    (blind.sequence, blind.acknowledgement) = (ours.wrapping_add(1 << 30), theirs);
    blind.payload = vec![0; 4];
    assert_eq!(inject(&mut world, blind.frame()), [(ACK, theirs, ours, 9)]);
    assert_eq!(world.stack.statistics().resumed, 0);
    // A keep-alive probe is near, and answered.
    let mut probe = Forged::new(9, SERVE, ACK);
    (probe.sequence, probe.acknowledgement) = (ours.wrapping_sub(1), theirs);
    assert_eq!(inject(&mut world, probe.frame()), [(ACK, theirs, ours, 9)]);
}

#[test]
fn nobody_calls_from_the_broadcast_address() {
    let mut world = World::new(Settings::default());
    let mut frame = Forged::new(9, SERVE, SYN).frame();
    // Over IPv6 that of a group.
    match ipv6() {
        false => frame[26..30].copy_from_slice(&[10, 0, 2, 255]),
        true => frame[22..24].copy_from_slice(&[0xff, 2]),
    }
    fill_checksums(&mut frame);
    assert_eq!(inject(&mut world, frame), []);
    assert_eq!(world.stack.open_handshakes(), 0);
    assert_eq!(world.stack.statistics().malformed, 1);
}

#[test]
fn another_application_may_call_from_our_address() {
    let mut world = World::new(Settings::default());
    let from_here = |port| {
        let mut frame = Forged::new(port, SERVE, SYN).frame();
        match ipv6() {
            false => frame.copy_within(30..34, 26),
            true => frame.copy_within(38..54, 22),
        }
        fill_checksums(&mut frame);
        frame
    };
    // But nobody else has our port there.
    assert_eq!(inject(&mut world, from_here(SERVE)), []);
    assert_eq!(world.stack.statistics().malformed, 1);
    let answer = inject(&mut world, from_here(9));
    assert_eq!((answer[0].0, answer[0].3), (SYN | ACK, 9));
}

#[test]
fn a_challenge_does_not_stop_the_peer() {
    let mut world = World::new(Settings::default());
    let room = Settings::default().buffers.receive as u16;
    let (ours, theirs) = forge_connection(&mut world, 9);
    let window = |world: &mut World| {
        let later = world.now() + Duration::from_secs(1);
        world.run(2, |world| world.now() >= later);
        answers(world);
        let forged = Forged::new(9, SERVE, SYN).frame();
        world.network.borrow_mut().inject(forged);
        world.serve();
        let sniffed = world.network.borrow_mut().sniff.take().unwrap();
        let tcp = &sniffed[0][tcp_at(&sniffed[0])..];
        u16::from_be_bytes([tcp[14], tcp[15]])
    };
    assert_eq!(window(&mut world), room);
    // Bytes that nobody reads yet take room.
    let mut part = Forged::new(9, SERVE, ACK);
    (part.sequence, part.acknowledgement) = (ours, theirs);
    part.payload = vec![0; 4];
    inject(&mut world, part.frame());
    assert_eq!(world.stack.statistics().resumed, 1);
    assert!((room - 4..=room).contains(&window(&mut world)));
}

#[test]
fn peers_that_take_a_byte_now_and_then_do_not_hold_the_buffers() {
    let buffers = BufferSizes {
        receive: 4096,
        send: 8192,
    };
    let mut world = World::new(Settings {
        buffers,
        buffer_memory: 4 * (buffers.receive + buffers.send),
        ..Settings::default()
    });
    let mut forged: Vec<_> = (1..=4)
        .map(|port| {
            let (ours, theirs) = forge_connection(&mut world, port);
            let mut segment = Forged::new(port, SERVE, ACK);
            (segment.sequence, segment.acknowledgement) = (ours, theirs);
            segment.payload = 1_000_000u64.to_le_bytes().to_vec();
            inject(&mut world, segment.frame());
            segment.payload.clear();
            segment.sequence += 8;
            segment
        })
        .collect();
    let handle = world.connect(SERVE, 50_000);
    assert!(world.run(5, |world| world.client(handle).may_send()));
    world
        .client(handle)
        .send_slice(&3000u64.to_le_bytes())
        .unwrap();
    let served = (0..30).any(|_| {
        for segment in &mut forged {
            segment.acknowledgement += 1;
            world.network.borrow_mut().inject(segment.frame());
        }
        world.run(1, |world| world.client(handle).recv_queue() == 3000)
    });
    assert!(served, "{:?}", world.stack.statistics());
    assert!(world.now() < Instant::from_secs(20), "{}", world.now());
}

#[test]
fn peers_that_chatter_do_not_hold_the_buffers() {
    let buffers = BufferSizes {
        receive: 4096,
        send: 8192,
    };
    let mut world = World::new(Settings {
        buffers,
        buffer_memory: 4 * (buffers.receive + buffers.send),
        ..Settings::default()
    });
    let chatter: Vec<_> = (1..=4)
        .map(|port| {
            let (ours, theirs) = forge_connection(&mut world, port);
            let mut probe = Forged::new(port, SERVE, ACK);
            (probe.sequence, probe.acknowledgement) = (ours.wrapping_sub(1), theirs);
            inject(&mut world, probe.frame());
            probe
        })
        .collect();
    assert_eq!(world.stack.statistics().resumed, 4);
    let handle = world.connect(SERVE, 50_000);
    assert!(world.run(5, |world| world.client(handle).may_send()));
    world
        .client(handle)
        .send_slice(&3000u64.to_le_bytes())
        .unwrap();
    let served = (0..200).any(|_| {
        for probe in &chatter {
            world.network.borrow_mut().inject(probe.frame());
        }
        // 20 ms.
        for _ in 0..200 {
            world.step_client();
            world.serve();
        }
        world.client(handle).recv_queue() == 3000
    });
    assert!(served, "{:?}", world.stack.statistics());
}

#[test]
fn peers_that_chatter_and_do_not_close_do_not_hold_the_buffers() {
    let buffers = BufferSizes {
        receive: 4096,
        send: 8192,
    };
    let mut world = World::new(Settings {
        buffers,
        buffer_memory: 4 * (buffers.receive + buffers.send),
        ..Settings::default()
    });
    let chatter: Vec<_> = (1..=4)
        .map(|port| {
            let (ours, theirs) = forge_connection(&mut world, port);
            let mut segment = Forged::new(port, SERVE, ACK);
            (segment.sequence, segment.acknowledgement) = (ours, theirs);
            segment.payload = (10 | CLOSE).to_le_bytes().to_vec();
            let sent = inject(&mut world, segment.frame());
            assert!(sent.iter().any(|frame| frame.0 & FIN != 0), "{sent:?}");
            segment.payload.clear();
            segment.sequence += 8;
            segment.acknowledgement += 11;
            segment
        })
        .collect();
    let handle = world.connect(SERVE, 50_000);
    assert!(world.run(5, |world| world.client(handle).may_send()));
    world
        .client(handle)
        .send_slice(&3000u64.to_le_bytes())
        .unwrap();
    let served = (0..500).any(|_| {
        for segment in &chatter {
            world.network.borrow_mut().inject(segment.frame());
        }
        // 20 ms.
        for _ in 0..200 {
            world.step_client();
            world.serve();
        }
        world.client(handle).recv_queue() == 3000
    });
    assert!(served, "{:?}", world.stack.statistics());
}
