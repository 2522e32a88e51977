//! Bytes arrive as they were sent, whatever the wire does.

mod support;

use segue_libos::BufferSizes;
use support::*;

fn download(settings: Settings, length: u64, chunk: usize) -> (i64, World) {
    let mut world = World::new(settings);
    let handle = world.connect(SERVE, 50_000);
    assert!(
        world.run(60, |world| world.client(handle).may_send()),
        "no connection"
    );
    let start = world.now().total_micros();
    world
        .client(handle)
        .send_slice(&(length | CLOSE).to_le_bytes())
        .unwrap();
    let mut at = 0;
    let mut buffer = vec![0; chunk];
    let done = world.run(3000, |world| {
        let socket = world.client(handle);
        while socket.can_recv() {
            let count = socket.recv_slice(&mut buffer).unwrap();
            for &byte in &buffer[..count] {
                assert_eq!(byte, pattern(at), "byte {at}");
                at += 1;
            }
        }
        !socket.may_recv()
    });
    assert!(done && at == length, "{at} of {length} bytes");
    (world.now().total_micros() - start, world)
}

#[test]
fn a_clean_wire_with_offloads() {
    let (time, world) = download(
        Settings {
            verified: true,
            ..Settings::default()
        },
        16 << 20,
        65_536,
    );
    // Over IPv6 there are none.
    let large = world.network.borrow().largest_to_nic;
    assert_eq!(large > 60_000, !ipv6(), "segments of {large} bytes");
    assert_eq!(world.stack.statistics().retransmissions, 0);
    assert!(time < 2_000_000, "{time} us");
}

#[test]
fn a_clean_wire_without_offloads() {
    let (_, world) = download(
        Settings {
            offloads: false,
            ..Settings::default()
        },
        4 << 20,
        10_000,
    );
    assert!(world.network.borrow().largest_to_nic <= 1514);
    assert_eq!(world.stack.statistics().retransmissions, 0);
}

#[test]
fn one_percent_dropped_duplicated_and_reordered_each() {
    let faults = Faults {
        drop: 10,
        duplicate: 10,
        reorder: 10,
    };
    for seed in 1..6 {
        let settings = Settings {
            faults,
            seed,
            ..Settings::default()
        };
        let (time, world) = download(settings, 16 << 20, 65_536);
        let statistics = world.stack.statistics();
        println!(
            "{time} us, {} retransmissions, {} probes",
            statistics.retransmissions, statistics.probes
        );
        assert!(statistics.retransmissions > 0);
        // smoltcp alone takes 70 s.
        assert!(time < 15_000_000, "{time} us");
    }
}

#[test]
fn uploads_with_small_buffers() {
    let faults = Faults {
        drop: 10,
        duplicate: 10,
        reorder: 10,
    };
    let buffers = BufferSizes {
        receive: 4096,
        send: 4096,
    };
    let mut world = World::new(Settings {
        faults,
        buffers,
        ..Settings::default()
    });
    let handle = world.connect(SINK, 50_001);
    let length = 2 << 20;
    let (mut sent, mut sum) = (0u64, 0xcbf2_9ce4_8422_2325);
    let mut answer = vec![];
    let done = world.run(3000, |world| {
        let socket = world.client(handle);
        while sent < length && socket.can_send() {
            let bytes: Vec<_> = (sent..length.min(sent + 1000)).map(pattern).collect();
            let count = socket.send_slice(&bytes).unwrap();
            sum = checksum(sum, &bytes[..count]);
            sent += count as u64;
            if sent == length {
                socket.close();
            }
        }
        let mut buffer = [0; 64];
        if socket.can_recv() {
            let count = socket.recv_slice(&mut buffer).unwrap();
            answer.extend_from_slice(&buffer[..count]);
        }
        answer.len() == 8
    });
    assert!(done, "{sent} bytes sent, answer {answer:?}");
    assert_eq!(answer, sum.to_le_bytes());
}

#[test]
fn a_full_vif_holds_back_and_goes_on() {
    let mut world = World::new(Settings::default());
    world.network.borrow_mut().server_room = 50;
    let handle = world.connect(SERVE, 50_000);
    assert!(world.run(10, |world| world.client(handle).may_send()));
    world
        .client(handle)
        .send_slice(&(8u64 << 20).to_le_bytes())
        .unwrap();
    let mut total = 0;
    assert!(world.run(100, |world| {
        let socket = world.client(handle);
        while socket.can_recv() {
            total += socket.recv(|bytes| (bytes.len(), bytes.len())).unwrap();
        }
        total == 8 << 20
    }));
    assert_eq!(world.stack.statistics().vif.refused, 0);
}
