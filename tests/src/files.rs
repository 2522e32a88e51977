//! The files that the test systems serve: too large for git, but the same bytes every time.

use std::fs;
use std::io;
use std::path::Path;

use crate::random::Random;

/// Name and length in bytes of each file, by the folder that becomes a system's files.
pub const FILES: &[(&str, &[(&str, usize)])] = &[
    (
        "files",
        &[
            ("1k.bin", 1 << 10),
            ("8k.bin", 8 << 10),
            ("128k.bin", 128 << 10),
            ("1m.bin", 1 << 20),
        ],
    ),
    (
        "large",
        &[
            ("1k.bin", 1 << 10),
            ("16m.bin", 16 << 20),
            ("64m.bin", 64 << 20),
        ],
    ),
];

/// The contents of the file `name`; each name has contents of its own.
pub fn contents(name: &str) -> Vec<u8> {
    let length = FILES
        .iter()
        .flat_map(|(_, files)| files.iter())
        .find(|(other, _)| *other == name)
        .unwrap_or_else(|| panic!("there is no test file {name}"))
        .1;
    let mut seed = length as u64;
    for byte in name.bytes() {
        seed = Random::new(seed ^ u64::from(byte)).number();
    }
    let mut bytes = vec![0; length];
    Random::new(seed).fill(&mut bytes);
    bytes
}

/// Writes all files below `folder`, if they are not there.
///
/// # Errors
/// If one cannot be written.
pub fn write_all(folder: &Path) -> io::Result<()> {
    for (name, files) in FILES {
        let folder = folder.join(name);
        fs::create_dir_all(&folder)?;
        for (name, length) in *files {
            let path = folder.join(name);
            if fs::metadata(&path).is_ok_and(|data| data.len() == *length as u64) {
                continue;
            }
            println!("writing {}", path.display());
            // Under another name first, so that no half-written file looks finished.
            let unfinished = folder.join(format!(".{name}.{}", std::process::id()));
            fs::write(&unfinished, contents(name))?;
            fs::rename(&unfinished, &path)?;
        }
    }
    Ok(())
}

/// SHA-256 in hexadecimal digits.
pub fn digest(bytes: &[u8]) -> String {
    use sha2::Digest;
    sha2::Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// FNV-1a, which test programs compute of what they get.
pub fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |sum, &byte| {
        (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contents_are_reproducible_and_differ() {
        assert_eq!(contents("8k.bin"), contents("8k.bin"));
        assert_ne!(contents("1k.bin"), contents("8k.bin")[..1 << 10]);
        assert_eq!(
            digest(b""),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
        // As its authors give it for this byte.
        assert_eq!(checksum(b"a"), 0xaf63_dc4c_8601_ec8c);
    }
}
