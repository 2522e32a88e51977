//! A server that dies between any two of its stores, and what it leaves behind.
#![cfg(not(loom))]

mod mortal;

use mortal::{Step, Value, World, leave};
use proptest::prelude::*;
use std::sync::atomic::Ordering;

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (1usize..6).prop_map(Step::HandIn),
        (0usize..9).prop_map(Step::ClientTurn),
        (0usize..9, 0usize..9)
            .prop_map(|(complete, deliver)| Step::ServerTurn { complete, deliver }),
        (1u32..24).prop_map(Step::Doom),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Wherever servers die: what was handed in is sent, what was told of is received, in
    /// order, and the application never finds its server to break the protocol.
    #[test]
    fn a_death_loses_nothing_that_was_told_of(steps in prop::collection::vec(step(), 1..60)) {
        let mut world = World::new();
        world.server_turn(0, 0);
        for step in steps {
            world.take_step(step);
        }
        world.live_on();
        prop_assert_eq!(world.violations, 0);
        prop_assert!((0..world.handed_in).all(|number| world.seen.contains(&number)));
        prop_assert!(world.received.windows(2).all(|pair| pair[0] < pair[1]));
        prop_assert!(world.told.iter().all(|number| world.received.contains(number)));
        world.exchange();
    }

    /// Whatever the dying leave in their words: the application ends joined, and the channel
    /// works.
    #[test]
    fn no_remains_keep_an_application_away(
        rounds in prop::collection::vec(
            (
                prop::collection::vec(step(), 0..20),
                prop::collection::vec((0usize..7, remains()), 0..8),
                prop::collection::vec(0usize..9, 0..4),
            ),
            1..6,
        ),
    ) {
        let mut world = World::new();
        world.server_turn(0, 0);
        for (steps, words, turns) in rounds {
            for step in steps {
                world.take_step(step);
            }
            world.life.set(0);
            for (word, value) in words {
                leave(&world.regions, word, value);
            }
            for take in turns {
                world.client_turn(take);
            }
            world.restart(1 + world.handed_in % 17);
        }
        world.live_on();
        world.exchange();
    }
}

fn remains() -> impl Strategy<Value = Value> {
    let edge = prop_oneof![
        Just(0),
        Just(1),
        Just(u32::MAX),
        Just(u32::MAX - 1),
        any::<u32>()
    ];
    prop_oneof![
        edge.prop_map(Value::Any),
        (0usize..10, 0u32..4).prop_map(|(word, more)| Value::Like(word, more.wrapping_sub(1))),
    ]
}

#[test]
fn an_epoch_of_a_dead_server_is_no_violation() {
    let mut world = World::new();
    // It looked before a server died, and says so only after two more have come.
    for claimed in [7, u32::MAX] {
        world.regions[0].store32(0, claimed, Ordering::Relaxed);
        assert_eq!(world.server.poll(), Ok(()));
        assert!(!world.server.is_cut_off());
    }
    world.client_turn(0);
    world.server_turn(0, 0);
    assert!(world.server.is_up());
}
