//! Many connections, short ones, idle ones and starving ones.

mod support;

use segue_libos::*;
use smoltcp::socket::tcp;
use support::*;

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
fn what_was_just_queued_is_not_taken_for_stuck() {
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
    assert!(world.run(5, |world| world.stack.open_connections() == 32));
    world.run(20, |_| false);
    // The server speaks first, to all of them at once.
    let mut waiting = world.application.open();
    assert!(world.run(20, |world| {
        waiting.retain(|&id| world.stack.send(id, b"hello") == 0);
        handles
            .iter()
            .all(|&handle| world.sockets.get::<tcp::Socket>(handle).recv_queue() == 5)
    }));
    assert_eq!(world.stack.open_connections(), 32);
    assert_eq!(world.stack.statistics().stuck, 0);
}

#[test]
fn peers_that_do_not_close_do_not_hold_the_buffers() {
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
    for index in 0..8 {
        let handle = world.connect(SERVE, 10_000 + index);
        assert!(world.run(5, |world| world.client(handle).may_send()));
        request(&mut world, handle, 1000 | CLOSE);
    }
    world.run(2, |_| false);
    let handle = world.connect(SERVE, 50_000);
    assert!(world.run(5, |world| world.client(handle).may_send()));
    request(&mut world, handle, 20_000);
    assert!(world.now() < Instant::from_secs(10), "{}", world.now());
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
    let listener = world.stack.listen(9000, ListenOptions::default()).unwrap();
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
