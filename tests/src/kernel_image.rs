//! Where the kernel's code is in the machine's memory.

use std::fs;

use crate::paths;

/// Physical address and length of the code and constants of the kernel that `make test-images` built:
/// those that stay when it has started.
///
/// # Panics
/// If the file is not what the build makes.
pub fn code() -> (u64, u64) {
    let path = paths::kernel("release");
    let file = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    last_segment(&file).unwrap_or_else(|| panic!("{} is cut off", path.display()))
}

/// Of a 32-bit ELF file: physical address and length of the last segment that is loaded.
fn last_segment(file: &[u8]) -> Option<(u64, u64)> {
    const LOAD: u32 = 1;
    let half = |at: usize| Some(u16::from_le_bytes(file.get(at..at + 2)?.try_into().ok()?));
    let word = |at: usize| Some(u32::from_le_bytes(file.get(at..at + 4)?.try_into().ok()?));
    let (start, size, count) = (word(28)? as usize, half(42)?, half(44)?);
    let headers = (0..usize::from(count)).map(|index| start + index * usize::from(size));
    let mut last = None;
    for header in headers {
        if word(header)? == LOAD {
            last = Some((u64::from(word(header + 12)?), u64::from(word(header + 16)?)));
        }
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_segment_counts() {
        let mut file = vec![0; 52 + 3 * 32];
        file[28] = 52;
        file[42] = 32;
        file[44] = 3;
        for (index, [kind, address, length]) in
            [[1, 16, 8], [1, 64, 32], [6, 0, 0]].iter().enumerate()
        {
            let header = 52 + index * 32;
            file[header] = *kind;
            file[header + 12] = *address;
            file[header + 16] = *length;
        }
        assert_eq!(last_segment(&file), Some((64, 32)));
        assert_eq!(last_segment(&file[..100]), None);
    }
}
