//! What a dying network server leaves in its region: the application must end joined to the
//! next one that lives, and the channel must work.
//!
//! Steps of eight bytes: turns of both ends, deaths after so many stores, and words that the
//! dead leave behind.
#![no_main]

#[path = "../../crates/frame-channel/tests/mortal/mod.rs"]
mod mortal;

use libfuzzer_sys::fuzz_target;
use mortal::{Step, Value, World, leave};

/// As many as fit the time of a run.
const MOST_STEPS: usize = 64;

fuzz_target!(|data: &[u8]| {
    let mut world = World::new();
    world.server_turn(0, 0);
    let mut is_sound = true;
    for step in data.as_chunks::<8>().0.iter().take(MOST_STEPS) {
        let count = usize::from(step[1] % 9);
        let value = u32::from_le_bytes([step[4], step[5], step[6], step[7]]);
        match step[0] % 8 {
            0 => world.take_step(Step::HandIn(count)),
            1 => world.take_step(Step::ClientTurn(count)),
            2 | 3 => world.take_step(Step::ServerTurn {
                complete: count,
                deliver: usize::from(step[2] % 9),
            }),
            4 => world.take_step(Step::Doom(u32::from(step[1] % 32))),
            5 => world.restart(u32::from(step[1] % 32)),
            _ => {
                // Words of one that is dead.
                world.life.set(0);
                is_sound = false;
                let value = if step[3] & 1 == 0 {
                    Value::Any(value)
                } else {
                    Value::Like(usize::from(step[2] % 10), value % 4)
                };
                leave(&world.regions, usize::from(step[1] % 7), value);
            }
        }
    }
    world.live_on();
    if is_sound {
        assert_eq!(world.violations, 0);
        assert!((0..world.handed_in).all(|number| world.seen.contains(&number)));
        assert!(
            world
                .told
                .iter()
                .all(|number| world.received.contains(number))
        );
        assert!(world.received.windows(2).all(|pair| pair[0] < pair[1]));
    }
    world.exchange();
});
