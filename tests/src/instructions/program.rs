//! Programs, as far as one can be recognised by its instructions.

use std::fs;

use crate::paths;

/// A program of the machine's: what it has loaded at which addresses.
#[derive(Clone, Debug)]
pub struct Program {
    /// Address and bytes of each segment.
    segments: Vec<(u64, Vec<u8>)>,
}

/// `PT_LOAD` in a program header.
const LOAD: u32 = 1;

impl Program {
    /// Reads a program that `make test-programs` has built, `segue-netserver` for instance.
    pub fn read(name: &str) -> Self {
        let path = paths::root()
            .join("build/pd/x86_64-unknown-linux-gnu/pd")
            .join(name);
        let file = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let segments = segments(&file);
        Self {
            segments: segments.unwrap_or_else(|| panic!("{} is cut off", path.display())),
        }
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
        self.segments.iter().any(|(start, contents)| {
            let at = address.checked_sub(*start).map(|at| at as usize);
            at.and_then(|at| contents.get(at..at + bytes.len())) == Some(&bytes)
        })
    }
}

/// The loaded segments of a 64-bit ELF file.
fn segments(file: &[u8]) -> Option<Vec<(u64, Vec<u8>)>> {
    let half = |at: usize| Some(u16::from_le_bytes(file.get(at..at + 2)?.try_into().ok()?));
    let word = |at: usize| Some(u32::from_le_bytes(file.get(at..at + 4)?.try_into().ok()?));
    let long = |at: usize| Some(u64::from_le_bytes(file.get(at..at + 8)?.try_into().ok()?));
    let (start, size, count) = (long(32)? as usize, half(54)?, half(56)?);
    let mut segments = Vec::new();
    for index in 0..usize::from(count) {
        let header = start + index * usize::from(size);
        if word(header)? == LOAD {
            let (offset, length) = (long(header + 8)? as usize, long(header + 32)? as usize);
            let bytes = file.get(offset..offset.checked_add(length)?)?;
            segments.push((long(header + 16)?, bytes.to_vec()));
        }
    }
    Some(segments)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_known_by_its_instructions() {
        let program = Program {
            segments: vec![(0x1000, vec![1, 2, 3]), (0x2000, vec![4, 5])],
        };
        assert!(program.holds("1001:0203"));
        assert!(program.holds("2000:04"));
        assert!(!program.holds("1001:0204"));
        assert!(!program.holds("1002:0304"));
        assert!(!program.holds("fff:01"));
    }
}
