//! All states that two applications and one or two functions can get into, however the
//! others behave: breadth-first, each state once.

extern crate std;

mod nonsense;
mod others;
mod world;

use crate::board::{Mode, Shown};
use proptest::prelude::*;
use std::collections::{HashSet, VecDeque};
use std::hash::{Hash, Hasher};
use std::string::String;
use std::vec::Vec;
use std::{format, println, vec};

use Surroundings::{Calm, Hostile, Mortal, Slow};
use nonsense::{Nonsense, nonsense};
use world::{Broken, Event, Mistake, N, Surroundings, World};

/// A hash of 128 bits: among some millions of states, two with the same are not to be
/// expected.
struct Fingerprint(u64, u64);

impl Hasher for Fingerprint {
    fn write(&mut self, bytes: &[u8]) {
        for bytes in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..bytes.len()].copy_from_slice(bytes);
            let word = u64::from_le_bytes(word);
            self.0 = (self.0.rotate_left(23) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            self.1 = (self.1.rotate_left(29) ^ word).wrapping_mul(0xc2b2_ae3d_27d4_eb4f);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

fn fingerprint(world: &World) -> u128 {
    let mut hasher = Fingerprint(1, 2);
    world.hash(&mut hasher);
    u128::from(hasher.0) << 64 | u128::from(hasher.1)
}

/// How a state came about: the place of the one before it, and what happened then.
type History = Vec<(usize, Option<Event>)>;

/// The events that led to a state, in a sentence.
fn path(history: &History, mut place: usize) -> String {
    let mut events = VecDeque::new();
    while let (before, Some(event)) = history[place] {
        events.push_front(event);
        place = before;
    }
    format!("{events:?}")
}

/// Visits everything; says how many states there are, or how a rule can be broken.
fn explore(
    functions: usize,
    surroundings: [Surroundings; N],
    mistake: Mistake,
) -> Result<usize, Broken> {
    let start = World::new(functions);
    let mut seen = HashSet::from([fingerprint(&start)]);
    let mut history = vec![(0, None)];
    let mut waiting = VecDeque::from(vec![(0, start)]);
    // From these a clean mode is reached.
    let mut good = HashSet::new();
    while let Some((place, world)) = waiting.pop_front() {
        world
            .clone()
            .settle(functions, mistake, |world| !good.insert(fingerprint(world)))
            .map_err(|broken| format!("{broken}, after {}", path(&history, place)))?;
        for event in world.events(surroundings) {
            let mut next = world.clone();
            let happened = next.happen(event, functions, mistake).map_err(|broken| {
                format!("{broken}, by {event:?} after {}", path(&history, place))
            })?;
            if happened && seen.insert(fingerprint(&next)) {
                waiting.push_back((history.len(), next));
                history.push((place, Some(event)));
            }
        }
    }
    Ok(seen.len())
}

fn all_is_well(functions: usize, surroundings: [Surroundings; N]) {
    match explore(functions, surroundings, Mistake::None) {
        Ok(states) => println!("{functions} functions, {surroundings:?}: {states} states"),
        Err(broken) => panic!("{broken}"),
    }
}

#[test]
fn a_function_among_all_that_may_go_wrong() {
    all_is_well(1, [Hostile, Calm]);
}

#[test]
fn a_function_between_mortals() {
    all_is_well(1, [Mortal, Mortal]);
}

#[test]
fn two_functions() {
    all_is_well(2, [Slow, Calm]);
}

#[test]
#[ignore = "takes some minutes"]
fn two_functions_and_two_that_die() {
    all_is_well(2, [Mortal, Calm]);
    all_is_well(1, [Hostile, Mortal]);
}

#[test]
fn planted_mistakes_are_found() {
    for (mistake, rule) in [
        (Mistake::ReleaseFirst, "frames go to who is not attached"),
        (Mistake::MaskStays, "who is direct has no route"),
        (Mistake::NoScrub, "a function is free that is not"),
        (Mistake::NoRecovery, "a function is free that is not"),
        (Mistake::NoRetry, "it does not end"),
        (
            Mistake::NoRelease,
            "a function is granted to who still uses its last one",
        ),
    ] {
        let found = explore(1, [Hostile, Calm], mistake).unwrap_err();
        assert!(found.contains(rule), "{mistake:?}: {found}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(5000))]

    /// Long ways through the states in which anything happens to both.
    #[test]
    fn anything_may_happen_to_both(
        functions in 1..3usize,
        choices in prop::collection::vec(any::<prop::sample::Index>(), 0..200),
    ) {
        let mut world = World::new(functions);
        let mut happened = Vec::new();
        for choice in choices {
            let events = world.events([Hostile, Hostile]);
            let event = events[choice.index(events.len())];
            match world.happen(event, functions, Mistake::None) {
                Ok(true) => happened.push(event),
                Ok(false) => {}
                Err(broken) => prop_assert!(false, "{} by {:?} after {:?}", broken, event, happened),
            }
        }
        prop_assert_eq!(world.settle(functions, Mistake::None, |_| false), Ok(()));
    }

    /// A word of the board is lost or damaged, and a new director starts: the other words
    /// are enough to bring everybody to a clean mode.
    #[test]
    fn a_damaged_word_is_survived(
        functions in 1..3usize,
        choices in prop::collection::vec(any::<prop::sample::Index>(), 0..100),
        index in 0..N,
        nonsense in nonsense(),
    ) {
        let mut world = World::new(functions);
        for choice in choices {
            let events = world.events([Slow, Mortal]);
            let event = events[choice.index(events.len())];
            world.happen(event, functions, Mistake::None).unwrap();
        }
        let nonsense = match nonsense {
            // That something is under way, with which function, and for which MAC address:
            // in some states one word alone has it.
            Nonsense::Shown(shown) => Nonsense::Shown(Shown {
                function: None,
                mode: Mode::ToServer,
                ..shown
            }),
            Nonsense::NoMac => Nonsense::Direct(0),
            other => other,
        };
        world.truth.confused = true;
        world.write(index, &nonsense);
        world.succeed(functions, Mistake::None);
        prop_assert_eq!(world.settle(functions, Mistake::None, |_| false), Ok(()));
    }

    /// A board full of nonsense: nothing is granted that is not free, the network server's
    /// function is left alone, and there is an end.
    #[test]
    fn nonsense_is_cleared_away(
        words in prop::collection::vec((0..N, nonsense()), 0..24),
        choices in prop::collection::vec(any::<prop::sample::Index>(), 0..30),
    ) {
        let mut world = World::new(2);
        world.truth.confused = true;
        for (index, nonsense) in &words {
            world.write(*index, nonsense);
        }
        world.succeed(2, Mistake::None);
        for choice in choices {
            let events = world.events([Mortal, Mortal]);
            let event = events[choice.index(events.len())];
            prop_assert!(world.happen(event, 2, Mistake::None).is_ok());
        }
        prop_assert_eq!(world.settle(2, Mistake::None, |_| false), Ok(()));
    }
}
