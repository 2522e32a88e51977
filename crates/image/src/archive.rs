//! Packs files into a tar archive that depends on nothing but their paths and
//! bytes.

use tar::{Builder, EntryType, Header};

/// A POSIX ustar archive of `files` (path and bytes), in the order given.
pub(crate) fn ustar(files: &[(String, Vec<u8>)]) -> Result<Vec<u8>, String> {
    let mut archive = Builder::new(Vec::new());
    for (path, bytes) in files {
        let mut header = Header::new_ustar();
        header
            .set_path(path)
            .map_err(|_| format!("holds {path}, whose path is too long for a tar archive"))?;
        header.set_entry_type(EntryType::Regular);
        header.set_size(bytes.len() as u64);
        // Times and owners would make two builds of the same files differ.
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_cksum();
        archive
            .append(&header, bytes.as_slice())
            .map_err(|error| format!("cannot be packed: {error}"))?;
    }
    archive
        .into_inner()
        .map_err(|error| format!("cannot be packed: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn what_is_packed_comes_out_again_and_two_packings_are_equal() {
        let files = vec![
            ("a.html".to_string(), b"<p>".to_vec()),
            ("deep/er/b.bin".to_string(), vec![7; 1000]),
        ];
        let packed = ustar(&files).unwrap();
        assert_eq!(packed, ustar(&files).unwrap());
        assert!(packed.len().is_multiple_of(512));
        assert_eq!(&packed[257..263], b"ustar\0");
        let mut archive = tar::Archive::new(packed.as_slice());
        let unpacked: Vec<(String, Vec<u8>)> = archive
            .entries()
            .unwrap()
            .map(|entry| {
                let mut entry = entry.unwrap();
                let mut bytes = Vec::new();
                entry.read_to_end(&mut bytes).unwrap();
                (entry.path().unwrap().display().to_string(), bytes)
            })
            .collect();
        assert_eq!(unpacked, files);
    }

    #[test]
    fn a_path_that_does_not_fit_is_refused() {
        let files = vec![("x".repeat(300), Vec::new())];
        assert!(ustar(&files).unwrap_err().contains("too long"));
    }
}
