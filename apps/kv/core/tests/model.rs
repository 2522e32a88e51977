//! The store against a map that knows no limits and never forgets to look at the clock.

use std::collections::BTreeMap;

use proptest::prelude::*;
use segue_kv_core::{Expiry, Full, Store};

const LIMIT: usize = 4000;

#[derive(Clone, Debug)]
enum Step {
    Set(u8, usize, Option<u64>),
    Append(u8, usize),
    Remove(u8),
    Expire(u8, Option<u64>),
    Get(u8),
    Sweep(usize),
    Wait(u64),
    Clear,
}

fn step() -> impl Strategy<Value = Step> {
    let key = 0..12u8;
    prop_oneof![
        6 => (key.clone(), 0..900usize, prop::option::of(1..50u64))
            .prop_map(|(key, length, after)| Step::Set(key, length, after)),
        4 => (key.clone(), 0..300usize).prop_map(|(key, length)| Step::Append(key, length)),
        3 => key.clone().prop_map(Step::Remove),
        3 => (key.clone(), prop::option::of(0..50u64))
            .prop_map(|(key, after)| Step::Expire(key, after)),
        3 => key.prop_map(Step::Get),
        1 => (0..20usize).prop_map(Step::Sweep),
        3 => (0..20u64).prop_map(Step::Wait),
        1 => Just(Step::Clear),
    ]
}

fn name(key: u8) -> Vec<u8> {
    vec![b'k'; usize::from(key)]
}

proptest! {
    #[test]
    fn the_store_does_what_a_map_does(steps in prop::collection::vec(step(), 0..200)) {
        let mut store = Store::new(LIMIT, [3, 4]);
        let mut model: BTreeMap<u8, (Vec<u8>, Expiry)> = BTreeMap::new();
        let mut now = 100;
        for (number, step) in steps.into_iter().enumerate() {
            model.retain(|_, (_, expiry)| expiry.is_none_or(|expiry| expiry > now));
            let fill = number as u8;
            match step {
                Step::Set(key, length, after) => {
                    let (value, expiry) = (vec![fill; length], after.map(|after| now + after));
                    match store.set(&name(key), &value, expiry, now) {
                        Ok(()) => { model.insert(key, (value, expiry)); }
                        Err(Full) => prop_assert!(!model.is_empty() || length > LIMIT - 300),
                    }
                }
                Step::Append(key, length) => {
                    let more = vec![fill; length];
                    if let Ok(length) = store.append(&name(key), &more, now) {
                        let entry = model.entry(key).or_default();
                        entry.0.extend(more);
                        prop_assert_eq!(length, entry.0.len());
                    }
                }
                Step::Remove(key) => {
                    prop_assert_eq!(store.remove(&name(key), now), model.remove(&key).is_some());
                }
                Step::Expire(key, after) => {
                    let expiry = after.map(|after| now + after);
                    let known = model.get_mut(&key).map(|entry| entry.1 = expiry).is_some();
                    prop_assert_eq!(store.set_expiry(&name(key), expiry, now), known);
                }
                Step::Get(key) => {
                    let expected = model.get(&key);
                    prop_assert_eq!(
                        store.get(&name(key), now).map(<[u8]>::to_vec),
                        expected.map(|entry| entry.0.clone())
                    );
                    prop_assert_eq!(
                        store.expiry(&name(key), now),
                        expected.map(|entry| entry.1)
                    );
                }
                Step::Sweep(count) => { store.sweep(count, now); }
                Step::Wait(time) => now += time,
                Step::Clear => {
                    store.clear();
                    model.clear();
                }
            }
            model.retain(|_, (_, expiry)| expiry.is_none_or(|expiry| expiry > now));
            prop_assert!(store.memory() <= LIMIT);
            prop_assert!(store.keys() >= model.len());
            let mut walked: Vec<_> = (0..store.places())
                .filter_map(|place| store.key_at(place, now))
                .map(|key| key.len() as u8)
                .collect();
            walked.sort();
            prop_assert_eq!(walked, model.keys().copied().collect::<Vec<_>>());
        }
        // Only what is there takes memory.
        store.sweep(usize::MAX, now + 1000);
        for key in 0..12 {
            store.remove(&name(key), now + 1000);
        }
        prop_assert_eq!((store.memory(), store.keys(), store.expiring()), (0, 0, 0));
    }
}
