//! The address table: who has been given which addresses at run time.
//!
//! It lies behind the port table, in the same region, and has the same writer and
//! readers. A header of 64 bytes, whose first word is a generation: odd while the table
//! is being changed, another one after each change. Then 64 bytes for each owner: a
//! word that is 1 if it has addresses, and [`Addresses`].

use crate::config::MAXIMUM_OWNERS;
use crate::table::TABLE_SIZE;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use core::sync::atomic::fence;
use segue_frame_channel::config::Addresses;
use segue_shared_memory::Region;
use zerocopy::{FromBytes, IntoBytes};

/// Size of the region that holds both tables, in bytes.
pub const REGION_SIZE: usize =
    TABLE_SIZE + (HEADER + MAXIMUM_OWNERS * ENTRY).next_multiple_of(4096);

const HEADER: usize = 64;
const ENTRY: usize = 64;
const ADDRESSES: usize = 8;
const PRESENT: u64 = 1;

/// Reads the table.
#[derive(Clone, Copy, Debug)]
pub struct AddressReader {
    region: Region,
}

/// Reads and writes the table; only the port map has one.
#[derive(Debug)]
pub struct AddressTable {
    reader: AddressReader,
}

/// Where the entry of an owner begins; owners count from 1.
fn entry(owner: u16) -> Option<usize> {
    let index = usize::from(owner).checked_sub(1)?;
    (index < MAXIMUM_OWNERS).then_some(TABLE_SIZE + HEADER + index * ENTRY)
}

impl AddressReader {
    /// The table in this region, or `None` if it is smaller than [`REGION_SIZE`].
    pub fn new(region: Region) -> Option<Self> {
        (region.length() >= REGION_SIZE).then_some(Self { region })
    }

    /// Another number after each change of the table, odd while it changes.
    #[inline]
    pub fn generation(&self) -> u64 {
        self.region.load64(TABLE_SIZE, Acquire)
    }

    /// What `owner` was given; `None` if nothing, or if the table is changing: ask again
    /// when the generation is another one.
    pub fn addresses(&self, owner: u16) -> Option<Addresses> {
        let at = entry(owner)?;
        let generation = self.generation();
        if generation & 1 != 0 || self.region.load64(at, Acquire) != PRESENT {
            return None;
        }
        let mut bytes = [0; size_of::<Addresses>()];
        self.region.read(at + ADDRESSES, &mut bytes);
        fence(Acquire);
        if self.region.load64(TABLE_SIZE, Relaxed) != generation {
            return None;
        }
        Addresses::read_from_bytes(&bytes).ok()
    }
}

impl AddressTable {
    /// The table in this region, with what an earlier incarnation left in it, or `None`
    /// if the region is smaller than [`REGION_SIZE`].
    pub fn new(region: Region) -> Option<Self> {
        let reader = AddressReader::new(region)?;
        // A predecessor may have died in the middle of a change.
        if reader.generation() & 1 != 0 {
            region.store64(TABLE_SIZE, reader.generation().wrapping_add(1), Release);
        }
        Some(Self { reader })
    }

    /// What `owner` has.
    pub fn addresses(&self, owner: u16) -> Option<Addresses> {
        self.reader.addresses(owner)
    }

    /// Gives `owner` these addresses, or takes away what it had. No such owner: nothing
    /// happens.
    pub fn set(&mut self, owner: u16, addresses: Option<&Addresses>) {
        let Some(at) = entry(owner) else { return };
        let region = &self.reader.region;
        let generation = self.reader.generation();
        region.store64(TABLE_SIZE, generation.wrapping_add(1), Relaxed);
        fence(Release);
        match addresses {
            Some(addresses) => {
                // Whoever dies in between leaves no addresses that are half another's.
                region.store64(at, 0, Relaxed);
                fence(Release);
                region.write(at + ADDRESSES, addresses.as_bytes());
                region.store64(at, PRESENT, Release);
            }
            None => region.store64(at, 0, Release),
        }
        region.store64(TABLE_SIZE, generation.wrapping_add(2), Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use segue_shared_memory::testing::leaked_region;

    #[test]
    fn what_is_set_is_read() {
        let region = leaked_region(REGION_SIZE);
        let mut table = AddressTable::new(region).unwrap();
        let reader = AddressReader::new(region).unwrap();
        let before = reader.generation();
        let addresses = Addresses {
            mac: [0x52, 0x54, 0, 0x5e, 0x61, 3],
            ipv4: [10, 0, 2, 33],
            ipv4_prefix_length: 24,
            ..Addresses::NONE
        };
        for owner in [1, MAXIMUM_OWNERS as u16] {
            assert_eq!(reader.addresses(owner), None);
            table.set(owner, Some(&addresses));
            assert_eq!(reader.addresses(owner), Some(addresses));
        }
        assert_ne!(reader.generation(), before);
        table.set(1, None);
        assert_eq!(reader.addresses(1), None);
        for nobody in [0, MAXIMUM_OWNERS as u16 + 1, u16::MAX] {
            table.set(nobody, Some(&addresses));
            assert_eq!(reader.addresses(nobody), None);
        }
    }

    #[test]
    fn nothing_is_read_while_the_table_changes() {
        let region = leaked_region(REGION_SIZE);
        let mut table = AddressTable::new(region).unwrap();
        table.set(1, Some(&Addresses::NONE));
        region.store64(TABLE_SIZE, 3, Release);
        assert_eq!(table.addresses(1), None);
        // Its successor takes over.
        let table = AddressTable::new(region).unwrap();
        assert_eq!(table.addresses(1), Some(Addresses::NONE));
    }
}
