//! A small hash table that leads from addresses to applications.

use alloc::vec::Vec;

/// Keys with an application each; a key that is inserted again keeps its first one.
#[derive(Clone, Debug)]
pub struct Index {
    /// Twice as many as keys, or more, so that a search is short.
    slots: Vec<Option<(u64, u8)>>,
}

impl Index {
    /// Room for so many keys.
    pub fn new(keys: usize) -> Self {
        Self {
            slots: alloc::vec![None; (2 * keys).next_power_of_two()],
        }
    }

    /// Forgets all keys.
    pub fn clear(&mut self) {
        self.slots.fill(None);
    }

    /// Adds a key. More keys than there is room for are forgotten.
    pub fn insert(&mut self, key: u64, application: u8) {
        for place in self.places(key) {
            match self.slots[place] {
                Some((other, _)) if other != key => {}
                Some(_) => return,
                None => {
                    self.slots[place] = Some((key, application));
                    return;
                }
            }
        }
    }

    /// The application of a key.
    #[inline]
    pub fn find(&self, key: u64) -> Option<u8> {
        // Nearly always the first place tells.
        match *self.slots.get(self.first_place(key))? {
            Some((other, application)) if other == key => Some(application),
            Some(_) => self.find_behind(key),
            None => None,
        }
    }

    /// The application of a key that another one keeps from its first place.
    #[inline(never)]
    fn find_behind(&self, key: u64) -> Option<u8> {
        for place in self.places(key).skip(1) {
            match self.slots[place] {
                Some((other, application)) if other == key => return Some(application),
                Some(_) => {}
                None => return None,
            }
        }
        None
    }

    /// Where a key is looked for first.
    #[inline]
    fn first_place(&self, key: u64) -> usize {
        // Fibonacci hashing: the upper bits of the product are mixed best. Sixteen are
        // enough for any table.
        let start = (key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 48) as usize;
        start & (self.slots.len() - 1)
    }

    /// Where a key may be, in order.
    fn places(&self, key: u64) -> impl Iterator<Item = usize> + use<> {
        let (start, mask) = (self.first_place(key), self.slots.len() - 1);
        (0..=mask).map(move |step| (start + step) & mask)
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn it_finds_what_a_map_finds(
            keys in prop::collection::vec(any::<u16>(), 0..64),
            others in prop::collection::vec(any::<u16>(), 64),
            shift in 0u32..48,
        ) {
            let mut index = Index::new(64);
            let mut map = BTreeMap::new();
            for (application, key) in keys.iter().enumerate() {
                let key = u64::from(*key) << shift;
                index.insert(key, application as u8);
                map.entry(key).or_insert(application as u8);
            }
            for key in keys.iter().chain(&others) {
                let key = u64::from(*key) << shift;
                prop_assert_eq!(index.find(key), map.get(&key).copied());
            }
            index.clear();
            prop_assert!(keys.iter().all(|key| index.find(u64::from(*key) << shift).is_none()));
        }
    }

    #[test]
    fn a_full_one_finds_and_misses() {
        let mut index = Index::new(2);
        for key in 0..10 {
            index.insert(key, key as u8);
        }
        assert_eq!((0..10).filter(|key| index.find(*key).is_some()).count(), 4);
        assert_eq!(index.find(99), None);
    }
}
