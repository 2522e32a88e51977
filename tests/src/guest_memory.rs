//! The machine's memory from outside, as its processor sees it: pages of protection domains, by the page
//! tables in memory.
//!
//! It takes a machine with [`segue_qemu::Machine::memory_file`]. Protection domains are found by their
//! programs: theirs are the address spaces that show the program's code where it belongs. Nothing in
//! the machine needs to help.

mod debugger;
mod paging;

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::instructions::Program;

pub use debugger::Debugger;
pub use paging::{AddressSpace, Mapping};

/// Bytes of a page.
pub const PAGE: u64 = 0x1000;

/// The physical memory of a machine.
pub struct GuestMemory {
    file: File,
    size: u64,
}

impl GuestMemory {
    /// In this file, which QEMU has made.
    ///
    /// # Errors
    /// If it cannot be opened.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::options().read(true).write(true).open(path)?;
        let size = file.metadata()?.len();
        Ok(Self { file, size })
    }

    /// Bytes of it.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Copies bytes out.
    ///
    /// # Errors
    /// If there is no such memory.
    pub fn read(&self, address: u64, to: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(to, address)
    }

    /// Changes bytes. QEMU goes on to execute instructions that it has translated before.
    ///
    /// # Errors
    /// If there is no such memory.
    pub fn write(&self, address: u64, bytes: &[u8]) -> io::Result<()> {
        // The file must not grow.
        if address + bytes.len() as u64 > self.size {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.file.write_all_at(bytes, address)
    }

    /// The word at an address.
    ///
    /// # Errors
    /// If there is no such memory.
    pub fn word(&self, address: u64) -> io::Result<u64> {
        let mut bytes = [0; 8];
        self.read(address, &mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// SHA-256 over pieces of memory, in this order.
    ///
    /// # Errors
    /// If there is no such memory.
    pub fn digest(&self, pieces: impl IntoIterator<Item = (u64, u64)>) -> io::Result<[u8; 32]> {
        let mut digest = Sha256::new();
        let mut bytes = Vec::new();
        for (address, length) in pieces {
            bytes.resize(length as usize, 0);
            self.read(address, &mut bytes)?;
            digest.update(address.to_le_bytes());
            digest.update(&bytes);
        }
        Ok(digest.finalize().into())
    }

    /// All address spaces in which this program is, in the order of their place in memory.
    ///
    /// # Errors
    /// If the memory cannot be read.
    pub fn spaces_of(&self, program: &Program) -> io::Result<Vec<AddressSpace>> {
        let mut found = Vec::new();
        let (entry, code) = program.code();
        // The top table's entry for where programs are.
        let index = (entry >> 39 & 0x1ff) * 8;
        for root in (0..self.size).step_by(PAGE as usize) {
            if !paging::may_be_table(self.word(root + index)?, self.size) {
                continue;
            }
            let space = AddressSpace::new(root);
            let mut shown = vec![0; code.len()];
            if space.read(self, entry, &mut shown).is_ok() && shown == code {
                found.push(space);
            }
        }
        Ok(found)
    }

    /// The only address space in which this program is.
    ///
    /// # Errors
    /// If there is none, or more than one.
    pub fn space_of(&self, program: &Program) -> io::Result<AddressSpace> {
        let mut all = self.spaces_of(program)?;
        match (all.pop(), all.len()) {
            (Some(space), 0) => Ok(space),
            (_, others) => Err(io::Error::other(format!(
                "{} address spaces have the program, not one",
                others + 1
            ))),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A machine of 16 pages: tables in pages 1 to 4, which map page 5 at 0x20_0000 (to be read) and
    /// page 6 at 0x20_1000.
    pub(crate) fn memory() -> (tempfile::NamedTempFile, GuestMemory) {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(16 * PAGE).unwrap();
        let memory = GuestMemory::open(file.path()).unwrap();
        let set = |table: u64, index: u64, entry: u64| {
            memory
                .write(table * PAGE + index * 8, &entry.to_le_bytes())
                .unwrap();
        };
        set(1, 0, (2 * PAGE) | 7);
        set(2, 0, (3 * PAGE) | 7);
        set(3, 1, (4 * PAGE) | 0x27);
        set(4, 0, (5 * PAGE) | 5);
        set(4, 1, (6 * PAGE) | 0x67);
        (file, memory)
    }

    #[test]
    fn a_program_is_found() {
        let (_file, memory) = memory();
        memory.write(5 * PAGE + 16, b"code").unwrap();
        let program = Program::of_segments(0x20_0010, vec![(0x20_0010, b"code".to_vec())]);
        let space = memory.space_of(&program).unwrap();
        assert_eq!(space, AddressSpace::new(PAGE));
        memory.write(5 * PAGE + 16, b"c0de").unwrap();
        assert!(memory.space_of(&program).is_err());
    }

    #[test]
    fn a_single_bit_changes_the_digest() {
        let (_file, memory) = memory();
        let digest = || memory.digest([(0, PAGE), (7 * PAGE, 8)]).unwrap();
        let before = digest();
        memory.write(9 * PAGE, &[1]).unwrap();
        assert_eq!(digest(), before);
        memory.write(7 * PAGE, &[1]).unwrap();
        assert_ne!(digest(), before);
        assert!(memory.write(16 * PAGE - 1, &[1, 2]).is_err());
        assert!(memory.word(16 * PAGE).is_err());
    }
}
