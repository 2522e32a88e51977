//! Programs, as far as one can be recognised by its instructions.

use std::fs;
use std::ops::Range;
use std::path::Path;

use crate::paths;

/// A program of the machine's: what it has loaded at which addresses.
#[derive(Clone, Debug)]
pub struct Program {
    /// Where it begins.
    entry: u64,
    segments: Vec<Segment>,
}

/// A part of it that is loaded.
#[derive(Clone, Debug)]
struct Segment {
    address: u64,
    /// What the file has of it; the rest is zero.
    bytes: Vec<u8>,
    size: u64,
    writable: bool,
}

/// `PT_LOAD` in a program header.
const LOAD: u32 = 1;
/// `PF_W` in a program header's flags.
const WRITE: u32 = 2;
/// Bytes of code by which a program is known from others.
const KNOWN_BY: usize = 512;

impl Program {
    /// Reads a program that `make test-programs` has built, `segue-netserver` for instance.
    pub fn read(name: &str) -> Self {
        Self::read_from(&paths::programs("pd"), name)
    }

    /// Reads one of the programs with fault points.
    pub fn read_faulty(name: &str) -> Self {
        Self::read_from(&paths::programs("faulty"), name)
    }

    fn read_from(folder: &Path, name: &str) -> Self {
        let path = folder.join(name);
        let file = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Self::parse(&file).unwrap_or_else(|| panic!("{} is cut off", path.display()))
    }

    /// With these segments, all of them constant, which begins at `entry`.
    #[cfg(test)]
    pub(crate) fn of_segments(entry: u64, segments: Vec<(u64, Vec<u8>)>) -> Self {
        let segments = segments.into_iter().map(|(address, bytes)| Segment {
            address,
            size: bytes.len() as u64,
            bytes,
            writable: false,
        });
        Self {
            entry,
            segments: segments.collect(),
        }
    }

    /// Where it begins, and the code from there on.
    ///
    /// # Panics
    /// If it begins where nothing is loaded.
    pub fn code(&self) -> (u64, &[u8]) {
        let segment = self.segments.iter().find_map(|segment| {
            let at = self.entry.checked_sub(segment.address)? as usize;
            segment.bytes.get(at..)
        });
        let code = segment.expect("a program begins in itself");
        (self.entry, &code[..code.len().min(KNOWN_BY)])
    }

    /// The addresses of what it may write, and of what it may only read or execute.
    pub fn areas(&self) -> [Vec<Range<u64>>; 2] {
        [true, false].map(|writable| {
            let segments = self.segments.iter();
            let segments = segments.filter(|segment| segment.writable == writable);
            segments
                .map(|segment| segment.address..segment.address + segment.size)
                .collect()
        })
    }

    /// Whether the instruction `<address>:<bytes>` (in hexadecimal) is the program's.
    pub(super) fn holds(&self, instruction: &str) -> bool {
        let parsed = instruction.split_once(':').and_then(|(address, bytes)| {
            let bytes: Option<Vec<u8>> = (0..bytes.len() / 2)
                .map(|at| u8::from_str_radix(bytes.get(2 * at..2 * at + 2)?, 16).ok())
                .collect();
            Some((u64::from_str_radix(address, 16).ok()?, bytes?))
        });
        let Some((address, bytes)) = parsed else {
            panic!("the QEMU plugin gave the instruction {instruction:?}");
        };
        self.segments.iter().any(|segment| {
            let at = address.checked_sub(segment.address).map(|at| at as usize);
            at.and_then(|at| segment.bytes.get(at..at + bytes.len())) == Some(&bytes)
        })
    }

    /// Of a 64-bit ELF file.
    fn parse(file: &[u8]) -> Option<Self> {
        let half = |at: usize| Some(u16::from_le_bytes(file.get(at..at + 2)?.try_into().ok()?));
        let word = |at: usize| Some(u32::from_le_bytes(file.get(at..at + 4)?.try_into().ok()?));
        let long = |at: usize| Some(u64::from_le_bytes(file.get(at..at + 8)?.try_into().ok()?));
        let (start, size, count) = (long(32)? as usize, half(54)?, half(56)?);
        let mut segments = Vec::new();
        for index in 0..usize::from(count) {
            let header = start + index * usize::from(size);
            if word(header)? == LOAD {
                let (offset, length) = (long(header + 8)? as usize, long(header + 32)? as usize);
                segments.push(Segment {
                    address: long(header + 16)?,
                    bytes: file.get(offset..offset.checked_add(length)?)?.to_vec(),
                    size: long(header + 40)?,
                    writable: word(header + 4)? & WRITE != 0,
                });
            }
        }
        let entry = long(24)?;
        Some(Self { entry, segments })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_known_by_its_instructions() {
        let segments = vec![(0x1000, vec![1, 2, 3]), (0x2000, vec![4, 5])];
        let program = Program::of_segments(0x1001, segments);
        assert!(program.holds("1001:0203"));
        assert!(program.holds("2000:04"));
        assert!(!program.holds("1001:0204"));
        assert!(!program.holds("1002:0304"));
        assert!(!program.holds("fff:01"));
        assert_eq!(program.code(), (0x1001, &[2, 3][..]));
        assert_eq!(
            program.areas(),
            [vec![], vec![0x1000..0x1003, 0x2000..0x2002]]
        );
    }
}
