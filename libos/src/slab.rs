//! Values by index, with indices used again.

use alloc::vec::Vec;

/// Values by index. An index carries a generation that changes with each use.
pub struct Slab<T> {
    slots: Vec<(u32, Option<T>)>,
    free: Vec<u32>,
    limit: usize,
}

impl<T> Slab<T> {
    /// An empty slab for at most `limit` values.
    pub fn new(limit: usize) -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            limit,
        }
    }

    /// How many values there are.
    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Whether another value would be refused.
    pub fn is_full(&self) -> bool {
        self.len() >= self.limit
    }

    /// Adds a value, unless the slab is full.
    pub fn insert(&mut self, value: T) -> Option<u32> {
        if self.is_full() {
            return None;
        }
        if let Some(index) = self.free.pop() {
            self.slots[index as usize].1 = Some(value);
            return Some(index);
        }
        self.slots.push((0, Some(value)));
        Some(self.slots.len() as u32 - 1)
    }

    /// Takes a value out.
    pub fn remove(&mut self, index: u32) -> Option<T> {
        let slot = self.slots.get_mut(index as usize)?;
        let value = slot.1.take()?;
        slot.0 = slot.0.wrapping_add(1);
        self.free.push(index);
        Some(value)
    }

    /// All indices that were ever in use.
    pub fn indices(&self) -> core::ops::Range<u32> {
        0..self.slots.len() as u32
    }

    /// The generation of what is, or will be, at `index`.
    #[inline]
    pub fn generation(&self, index: u32) -> u32 {
        self.slots.get(index as usize).map_or(0, |slot| slot.0)
    }

    /// The value at `index` if it is of this generation.
    #[inline]
    pub fn get_of(&self, index: u32, generation: u32) -> Option<&T> {
        let slot = self.slots.get(index as usize)?;
        slot.1.as_ref().filter(|_| slot.0 == generation)
    }

    /// The value at `index` if it is of this generation.
    #[inline]
    pub fn get_mut_of(&mut self, index: u32, generation: u32) -> Option<&mut T> {
        let slot = self.slots.get_mut(index as usize)?;
        slot.1.as_mut().filter(|_| slot.0 == generation)
    }

    /// The value at `index`.
    #[inline]
    pub fn get(&self, index: u32) -> Option<&T> {
        self.slots.get(index as usize)?.1.as_ref()
    }

    /// The value at `index`.
    #[inline]
    pub fn get_mut(&mut self, index: u32) -> Option<&mut T> {
        self.slots.get_mut(index as usize)?.1.as_mut()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_that_is_used_again_has_another_generation() {
        let mut slab = Slab::new(2);
        let first = slab.insert('a').unwrap();
        let generation = slab.generation(first);
        slab.insert('b').unwrap();
        assert!(slab.is_full());
        assert_eq!(slab.insert('c'), None);
        assert_eq!(slab.remove(first), Some('a'));
        assert_eq!(slab.remove(first), None);
        assert_eq!(slab.get(first), None);
        assert_eq!(slab.insert('c'), Some(first));
        assert_ne!(slab.generation(first), generation);
        assert_eq!(slab.get_of(first, generation), None);
        assert_eq!(slab.get_mut_of(first, generation), None);
        assert_eq!(slab.get_of(first, slab.generation(first)), Some(&'c'));
        assert_eq!((slab.len(), slab.get(first)), (2, Some(&'c')));
        assert_eq!(slab.get(77), None);
    }
}
