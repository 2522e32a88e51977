//! Frames of any kind never bring the stack down, and connections survive them.

mod support;

use proptest::prelude::*;
use segue_libos::*;
use support::*;

/// A frame that is nearly right: a TCP segment with some bytes changed.
fn nearly_tcp() -> impl Strategy<Value = Vec<u8>> {
    let ports = (
        prop_oneof![Just(50_000u16), 1..100u16],
        prop_oneof![Just(SERVE), Just(SINK), 0..100u16],
    );
    let numbers = (any::<u32>(), any::<u32>(), any::<u8>(), any::<u16>());
    let rest = proptest::collection::vec(any::<u8>(), 0..80);
    let changes = proptest::collection::vec((0usize..120, any::<u8>()), 0..4);
    let options = 5u8..16;
    (ports, numbers, rest, changes, options, any::<bool>()).prop_map(
        |(
            (from, to),
            (sequence, acknowledgement, flags, window),
            rest,
            changes,
            options,
            valid,
        )| {
            let mut frame = headers(ipv6(), neighbour(ipv6(), 2), 20 + rest.len());
            frame.extend_from_slice(&from.to_be_bytes());
            frame.extend_from_slice(&to.to_be_bytes());
            frame.extend_from_slice(&sequence.to_be_bytes());
            frame.extend_from_slice(&acknowledgement.to_be_bytes());
            frame.extend_from_slice(&[options << 4, flags]);
            frame.extend_from_slice(&window.to_be_bytes());
            frame.extend_from_slice(&[0; 4]);
            frame.extend_from_slice(&rest);
            for (at, value) in changes {
                if let Some(byte) = frame.get_mut(at) {
                    *byte = value;
                }
            }
            if valid {
                fill_checksums(&mut frame);
            }
            frame
        },
    )
}

fn any_frame() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        3 => nearly_tcp(),
        1 => proptest::collection::vec(any::<u8>(), 0..200),
        // To our address, of a type that is looked into.
        1 => (prop_oneof![Just([8u8, 0]), Just([8, 6]), Just([0x86, 0xdd])], proptest::collection::vec(any::<u8>(), 0..200))
            .prop_map(|(kind, rest)| [&SERVER_MAC[..], &CLIENT_MAC, &kind, &rest].concat()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_frames_leave_the_stack_standing(
        frames in proptest::collection::vec(any_frame(), 1..40),
        verified in any::<bool>(),
    ) {
        let mut world = World::new(Settings { verified, ..Settings::default() });
        // The connection that some of the forged segments aim at.
        let handle = world.connect(SERVE, 50_000);
        world.run(2, |world| world.client(handle).may_send());
        for frame in frames {
            world.network.borrow_mut().inject(frame);
            world.serve();
        }
        // A new connection works, whatever came before.
        let other = world.connect(SERVE, 40_001);
        prop_assert!(world.run(30, |world| world.client(other).may_send()));
        world.client(other).send_slice(&(3000u64 | CLOSE).to_le_bytes()).unwrap();
        let mut count = 0;
        let done = world.run(30, |world| {
            let socket = world.client(other);
            while socket.can_recv() {
                count += socket.recv(|bytes| (bytes.len(), bytes.len())).unwrap();
            }
            count == 3000
        });
        prop_assert!(done, "{} of 3000 bytes", count);
        prop_assert!(world.stack.open_handshakes() <= ListenOptions::default().backlog);
    }

    #[test]
    fn a_long_transfer_survives_forged_segments(
        frames in proptest::collection::vec(nearly_tcp(), 1..60),
    ) {
        // Blind forgeries: their numbers are random, so none is in the window but
        // with the odds of RFC 5961.
        let mut world = World::new(Settings::default());
        let handle = world.connect(SERVE, 50_000);
        prop_assert!(world.run(2, |world| world.client(handle).may_send()));
        let length = 300_000u64;
        world.client(handle).send_slice(&length.to_le_bytes()).unwrap();
        let mut at = 0;
        let mut frames = frames.into_iter();
        let done = world.run(60, |world| {
            if let Some(frame) = frames.next() {
                world.network.borrow_mut().inject(frame);
            }
            let socket = world.client(handle);
            while socket.can_recv() {
                at += socket
                    .recv(|bytes| {
                        assert!(bytes.iter().zip(at..).all(|(&byte, at)| byte == pattern(at)));
                        (bytes.len(), bytes.len() as u64)
                    })
                    .unwrap();
            }
            at == length
        });
        prop_assert!(done, "{at} of {length} bytes");
    }
}
