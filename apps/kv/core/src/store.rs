//! Keys and their values, in bounded memory.
//!
//! Entries lie in chunks that never move, and a hash table leads to them. So an iteration is a
//! walk through places: it sees every entry that is there all the time, each one once, and may
//! stop anywhere.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::hash::Hasher;
use hashbrown::HashTable;
use siphasher::sip::SipHasher13;

/// Entries of a chunk.
const CHUNK: usize = 1024;
/// What an entry takes beside its key and value: its place, its share of the table while that
/// grows, and what the allocator adds.
pub const OVERHEAD: usize = 192;
/// Places that are looked at for what has expired when memory is short.
const RELIEF: usize = 4096;

/// Milliseconds on the server's clock at which a key stops to exist; `None` for never.
pub type Expiry = Option<u64>;

/// There is no memory for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

#[derive(Debug)]
struct Entry {
    key: Box<[u8]>,
    value: Vec<u8>,
    expiry: Expiry,
}

impl Entry {
    fn memory(&self) -> usize {
        self.key.len() + self.value.capacity() + OVERHEAD
    }
}

/// The keys and their values.
#[derive(Debug)]
pub struct Store {
    seed: [u64; 2],
    limit: usize,
    memory: usize,
    table: HashTable<u32>,
    chunks: Vec<Vec<Option<Entry>>>,
    free: Vec<u32>,
    expiring: usize,
    /// Where the next sweep begins.
    hand: usize,
    expired: u64,
}

fn hash(seed: [u64; 2], key: &[u8]) -> u64 {
    let mut hasher = SipHasher13::new_with_keys(seed[0], seed[1]);
    hasher.write(key);
    hasher.finish()
}

fn at(chunks: &[Vec<Option<Entry>>], place: usize) -> Option<&Entry> {
    chunks.get(place / CHUNK)?.get(place % CHUNK)?.as_ref()
}

impl Store {
    /// An empty store that takes up to `limit` bytes. Nobody outside should be able to guess
    /// `seed`, or they could make the table slow.
    pub fn new(limit: usize, seed: [u64; 2]) -> Self {
        Self {
            seed,
            limit,
            memory: 0,
            table: HashTable::new(),
            chunks: Vec::new(),
            free: Vec::new(),
            expiring: 0,
            hand: 0,
            expired: 0,
        }
    }

    /// Keys, those included that have expired and were not noticed yet.
    pub fn keys(&self) -> usize {
        self.table.len()
    }

    /// Keys that expire some time.
    pub fn expiring(&self) -> usize {
        self.expiring
    }

    /// Keys that have expired so far.
    pub fn expired(&self) -> u64 {
        self.expired
    }

    /// Bytes taken.
    pub fn memory(&self) -> usize {
        self.memory
    }

    /// Bytes that may be taken.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Places that there are: each has an entry or none.
    pub fn places(&self) -> usize {
        self.chunks
            .last()
            .map_or(0, |last| (self.chunks.len() - 1) * CHUNK + last.len())
    }

    /// The key at a place, unless it has expired.
    pub fn key_at(&self, place: usize, now: u64) -> Option<&[u8]> {
        at(&self.chunks, place)
            .filter(|entry| entry.expiry.is_none_or(|expiry| expiry > now))
            .map(|entry| &entry.key[..])
    }

    /// The place of a key that exists. If it has expired, it is removed.
    fn find(&mut self, key: &[u8], now: u64) -> Option<usize> {
        let place = *self.table.find(hash(self.seed, key), |&place| {
            at(&self.chunks, place as usize).is_some_and(|entry| *entry.key == *key)
        })? as usize;
        let entry = at(&self.chunks, place)?;
        if entry.expiry.is_some_and(|expiry| expiry <= now) {
            self.expired += 1;
            self.remove_at(place);
            return None;
        }
        Some(place)
    }

    fn entry(&mut self, place: usize) -> Option<&mut Entry> {
        let chunk = self.chunks.get_mut(place / CHUNK)?;
        chunk.get_mut(place % CHUNK)?.as_mut()
    }

    fn remove_at(&mut self, place: usize) {
        let Some(entry) = self
            .chunks
            .get_mut(place / CHUNK)
            .and_then(|chunk| chunk.get_mut(place % CHUNK)?.take())
        else {
            return;
        };
        let found = self
            .table
            .find_entry(hash(self.seed, &entry.key), |&other| {
                other as usize == place
            });
        if let Ok(found) = found {
            found.remove();
        }
        self.memory -= entry.memory();
        self.expiring -= usize::from(entry.expiry.is_some());
        // There was room for each place when it was made.
        self.free.push(place as u32);
    }

    /// The value of a key.
    pub fn get(&mut self, key: &[u8], now: u64) -> Option<&[u8]> {
        let place = self.find(key, now)?;
        at(&self.chunks, place).map(|entry| &entry.value[..])
    }

    /// Whether a key exists.
    pub fn contains(&mut self, key: &[u8], now: u64) -> bool {
        self.find(key, now).is_some()
    }

    /// Makes sure that `wanted` bytes more may be taken.
    fn make_room(&mut self, wanted: usize, now: u64) -> Result<(), Full> {
        if self.memory.saturating_add(wanted) <= self.limit {
            return Ok(());
        }
        self.sweep(RELIEF, now);
        if self.memory.saturating_add(wanted) <= self.limit {
            Ok(())
        } else {
            Err(Full)
        }
    }

    /// Sets a key to a value, whatever it was before.
    ///
    /// # Errors
    /// If there is no memory: nothing has changed then.
    pub fn set(&mut self, key: &[u8], value: &[u8], expiry: Expiry, now: u64) -> Result<(), Full> {
        let Some(place) = self.find(key, now) else {
            return self.insert(key, value, expiry, now);
        };
        let before = self.entry(place).map_or(0, |entry| entry.value.capacity());
        // A buffer that would be mostly empty is not kept.
        if before >= value.len() && before <= value.len() * 2 + 64 {
            if let Some(entry) = self.entry(place) {
                entry.value.clear();
                entry.value.extend_from_slice(value);
            }
        } else {
            self.make_room(value.len().saturating_sub(before), now)?;
            let mut new = Vec::new();
            new.try_reserve_exact(value.len()).map_err(|_| Full)?;
            new.extend_from_slice(value);
            let after = new.capacity();
            if let Some(entry) = self.entry(place) {
                entry.value = new;
            }
            self.memory = self.memory - before + after;
        }
        self.set_expiry_at(place, expiry);
        Ok(())
    }

    fn insert(&mut self, key: &[u8], value: &[u8], expiry: Expiry, now: u64) -> Result<(), Full> {
        self.make_room(key.len() + value.len() + OVERHEAD, now)?;
        let mut owned_key = Vec::new();
        owned_key.try_reserve_exact(key.len()).map_err(|_| Full)?;
        owned_key.extend_from_slice(key);
        let mut owned_value = Vec::new();
        owned_value
            .try_reserve_exact(value.len())
            .map_err(|_| Full)?;
        owned_value.extend_from_slice(value);
        let (seed, chunks) = (self.seed, &self.chunks);
        let rehash =
            |&place: &u32| at(chunks, place as usize).map_or(0, |entry| hash(seed, &entry.key));
        self.table.try_reserve(1, rehash).map_err(|_| Full)?;
        let place = self.free_place()?;
        let entry = Entry {
            key: owned_key.into_boxed_slice(),
            value: owned_value,
            expiry,
        };
        self.memory += entry.memory();
        self.expiring += usize::from(expiry.is_some());
        self.chunks[place / CHUNK][place % CHUNK] = Some(entry);
        // There is room for one more: nothing is hashed again.
        self.table
            .insert_unique(hash(self.seed, key), place as u32, |_| 0);
        Ok(())
    }

    /// A place without an entry.
    fn free_place(&mut self) -> Result<usize, Full> {
        if let Some(place) = self.free.pop() {
            return Ok(place as usize);
        }
        let place = self.places();
        if u32::try_from(place).is_err() {
            return Err(Full);
        }
        if place.is_multiple_of(CHUNK) {
            // Also for when all are free.
            self.free
                .try_reserve(place + CHUNK - self.free.len())
                .map_err(|_| Full)?;
            self.chunks.try_reserve(1).map_err(|_| Full)?;
            let mut chunk = Vec::new();
            chunk.try_reserve_exact(CHUNK).map_err(|_| Full)?;
            self.chunks.push(chunk);
        }
        self.chunks[place / CHUNK].push(None);
        Ok(place)
    }

    /// Appends to the value of a key, or makes one. Returns its new length.
    ///
    /// # Errors
    /// If there is no memory: nothing has changed then.
    pub fn append(&mut self, key: &[u8], more: &[u8], now: u64) -> Result<usize, Full> {
        let Some(place) = self.find(key, now) else {
            return self.insert(key, more, None, now).map(|()| more.len());
        };
        let (length, before) = self
            .entry(place)
            .map_or((0, 0), |entry| (entry.value.len(), entry.value.capacity()));
        let needed = length.saturating_add(more.len());
        if needed > before {
            // Some room to grow, so that many small pieces do not cost their square.
            let wanted = needed + needed / 4;
            self.make_room(wanted - before, now)?;
            if let Some(entry) = self.entry(place) {
                entry
                    .value
                    .try_reserve_exact(wanted - length)
                    .map_err(|_| Full)?;
                let after = entry.value.capacity();
                self.memory = self.memory - before + after;
            }
        }
        if let Some(entry) = self.entry(place) {
            entry.value.extend_from_slice(more);
        }
        Ok(needed)
    }

    /// Removes a key. Returns whether there was one.
    pub fn remove(&mut self, key: &[u8], now: u64) -> bool {
        match self.find(key, now) {
            Some(place) => {
                self.remove_at(place);
                true
            }
            None => false,
        }
    }

    /// When a key expires: `None` if there is no such key.
    pub fn expiry(&mut self, key: &[u8], now: u64) -> Option<Expiry> {
        let place = self.find(key, now)?;
        at(&self.chunks, place).map(|entry| entry.expiry)
    }

    /// Changes when a key expires. Returns whether there is such a key.
    pub fn set_expiry(&mut self, key: &[u8], expiry: Expiry, now: u64) -> bool {
        match self.find(key, now) {
            Some(place) => {
                self.set_expiry_at(place, expiry);
                true
            }
            None => false,
        }
    }

    fn set_expiry_at(&mut self, place: usize, expiry: Expiry) {
        if let Some(entry) = self.entry(place) {
            let before = core::mem::replace(&mut entry.expiry, expiry);
            self.expiring += usize::from(expiry.is_some());
            self.expiring -= usize::from(before.is_some());
        }
    }

    /// Removes everything.
    pub fn clear(&mut self) {
        let fresh = Self::new(self.limit, self.seed);
        *self = Self {
            expired: self.expired,
            ..fresh
        };
    }

    /// Looks at up to `count` places for what has expired, from where the last sweep ended.
    /// Returns how many have.
    pub fn sweep(&mut self, count: usize, now: u64) -> usize {
        let places = self.places();
        let mut removed = 0;
        for _ in 0..count.min(places) {
            if self.expiring == 0 {
                break;
            }
            if self.hand >= places {
                self.hand = 0;
            }
            let place = self.hand;
            self.hand += 1;
            let due = at(&self.chunks, place)
                .and_then(|entry| entry.expiry)
                .is_some_and(|expiry| expiry <= now);
            if due {
                self.remove_at(place);
                self.expired += 1;
                removed += 1;
            }
        }
        removed
    }
}
