//! Page tables of x86_64, four levels.

use std::io;

use super::{GuestMemory, PAGE};

const PRESENT: u64 = 1;
const WRITABLE: u64 = 1 << 1;
const UNCACHED: u64 = 1 << 4;
const ACCESSED: u64 = 1 << 5;
const DIRTY: u64 = 1 << 6;
const LARGE: u64 = 1 << 7;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
/// Entries of a table.
const ENTRIES: u64 = 512;
/// Entries of the topmost table that are the program's; the others are the kernel's.
const USER_ENTRIES: u64 = 256;

/// An address space, known by its topmost table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AddressSpace {
    root: u64,
}

/// A page that is mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// Where the program sees it.
    pub address: u64,
    /// Where it is.
    pub physical: u64,
    /// Bytes.
    pub size: u64,
    /// Whether the program may write to it.
    pub writable: bool,
    /// Whether it is memory, and not a device's registers.
    pub cached: bool,
    /// Whether the program has ever touched it.
    pub accessed: bool,
}

/// Whether an entry may lead to a table in so much memory.
pub(super) fn may_be_table(entry: u64, size: u64) -> bool {
    entry & PRESENT != 0 && entry & ADDRESS != 0 && (entry & ADDRESS) + PAGE <= size
}

impl AddressSpace {
    /// With its topmost table at this physical address.
    pub fn new(root: u64) -> Self {
        Self { root }
    }

    /// Copies what the program sees at an address.
    ///
    /// # Errors
    /// If it sees nothing there.
    pub fn read(self, memory: &GuestMemory, address: u64, to: &mut [u8]) -> io::Result<()> {
        let mut done = 0;
        while done < to.len() {
            let address = address + done as u64;
            let length = ((PAGE - address % PAGE) as usize).min(to.len() - done);
            let physical = self.translate(memory, address)?;
            memory.read(physical, &mut to[done..done + length])?;
            done += length;
        }
        Ok(())
    }

    /// Where in memory an address is.
    ///
    /// # Errors
    /// If nothing is mapped there.
    pub fn translate(self, memory: &GuestMemory, address: u64) -> io::Result<u64> {
        let mut table = self.root;
        for shift in [39, 30, 21, 12] {
            let entry = memory.word(table + (address >> shift) % ENTRIES * 8)?;
            if entry & PRESENT == 0 {
                return Err(io::Error::other(format!(
                    "nothing is mapped at {address:#x}"
                )));
            }
            let within = (1 << shift) - 1;
            if shift == 12 || (shift < 39 && entry & LARGE != 0) {
                return Ok(entry & ADDRESS & !within | address & within);
            }
            table = entry & ADDRESS;
        }
        unreachable!("the last level is a page")
    }

    /// All pages that the program sees, by address.
    ///
    /// # Errors
    /// If a table is not in memory.
    pub fn mappings(self, memory: &GuestMemory) -> io::Result<Vec<Mapping>> {
        let mut found = Vec::new();
        self.walk(memory, &mut |_, _| (), &mut |mapping| found.push(mapping))?;
        Ok(found)
    }

    /// All page tables that are the program's: their addresses, and the entries that are its own, without
    /// what the processor notes in them.
    ///
    /// # Errors
    /// If a table is not in memory.
    pub fn tables(self, memory: &GuestMemory) -> io::Result<Vec<(u64, Vec<u64>)>> {
        let mut found = Vec::new();
        self.walk(
            memory,
            &mut |table, entries| {
                let entries = entries.iter().map(|entry| entry & !(ACCESSED | DIRTY));
                found.push((table, entries.collect()));
            },
            &mut |_| (),
        )?;
        Ok(found)
    }

    fn walk(
        self,
        memory: &GuestMemory,
        table: &mut impl FnMut(u64, &[u64]),
        page: &mut impl FnMut(Mapping),
    ) -> io::Result<()> {
        // Of each table: where it is, which address its first entry is for, what an entry spans, and
        // whether what is below may be written.
        let mut tables = vec![(self.root, 0, 39, true)];
        while let Some((at, address, shift, writable)) = tables.pop() {
            let count = if shift == 39 { USER_ENTRIES } else { ENTRIES };
            let mut bytes = vec![0; 8 * count as usize];
            memory.read(at, &mut bytes)?;
            let (words, _) = bytes.as_chunks::<8>();
            let entries: Vec<u64> = words.iter().map(|word| u64::from_le_bytes(*word)).collect();
            table(at, &entries);
            let present = entries.iter().enumerate();
            for (index, entry) in present.filter(|(_, entry)| *entry & PRESENT != 0) {
                let address = address + ((index as u64) << shift);
                let writable = writable && entry & WRITABLE != 0;
                if shift == 12 || (shift < 39 && entry & LARGE != 0) {
                    let size = 1 << shift;
                    page(Mapping {
                        address,
                        physical: entry & ADDRESS & !(size - 1),
                        size,
                        writable,
                        cached: entry & UNCACHED == 0,
                        accessed: entry & ACCESSED != 0,
                    });
                } else {
                    tables.push((entry & ADDRESS, address, shift - 9, writable));
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guest_memory::tests::memory;

    #[test]
    fn pages_are_found_through_the_tables() {
        let (_file, memory) = memory();
        let space = AddressSpace::new(PAGE);
        let mapping = |address, physical, is_used| Mapping {
            address,
            physical,
            size: PAGE,
            writable: is_used,
            cached: true,
            accessed: is_used,
        };
        let expected = [
            mapping(0x20_0000, 5 * PAGE, false),
            mapping(0x20_1000, 6 * PAGE, true),
        ];
        assert_eq!(space.mappings(&memory).unwrap(), expected);
        assert_eq!(space.translate(&memory, 0x20_1234).unwrap(), 0x6234);
        assert!(space.translate(&memory, 0x20_2000).is_err());
        memory.write(6 * PAGE - 1, b"ab").unwrap();
        let mut bytes = [0; 2];
        space.read(&memory, 0x20_0fff, &mut bytes).unwrap();
        assert_eq!(&bytes, b"ab");
    }

    #[test]
    fn what_the_processor_notes_is_no_change() {
        let (_file, memory) = memory();
        let space = AddressSpace::new(PAGE);
        let before = space.tables(&memory).unwrap();
        assert_eq!(before.len(), 4);
        let entry = 4 * PAGE + 8;
        memory
            .write(entry, &((6 * PAGE) | 7).to_le_bytes())
            .unwrap();
        assert_eq!(space.tables(&memory).unwrap(), before);
        memory
            .write(entry, &((7 * PAGE) | 7).to_le_bytes())
            .unwrap();
        assert_ne!(space.tables(&memory).unwrap(), before);
    }
}
