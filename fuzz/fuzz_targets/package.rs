//! Packages whose signer means harm: any bytes, with a valid signature.
//!
//! The first byte is the size of the place for the program, in pages of 4 KiB.
#![no_main]

use libfuzzer_sys::fuzz_target;
use segue_upgrade_package::{BASE, MAGIC, PAGE_SIZE, Package, VERSION, verified, write};

const PRIVATE: [u8; 32] = [5; 32];

fuzz_target!(|data: &[u8]| {
    let Some((pages, rest)) = data.split_first() else {
        return;
    };
    let place = u64::from(*pages) * PAGE_SIZE as u64;
    // As it comes; and with what every package starts with.
    check(rest, place);
    let mut bytes = rest.to_vec();
    if let Some(start) = bytes.get_mut(..12) {
        start[..8].copy_from_slice(&MAGIC);
        start[8..].copy_from_slice(&VERSION.to_le_bytes());
        check(&bytes, place);
        // Signing takes longer than all else: only of some.
        if bytes.len() < 300 {
            let key = write::public_key(&PRIVATE);
            assert!(verified(&bytes, &key).is_err(), "forged");
            let length = bytes.len();
            write::sign(&mut bytes, &PRIVATE);
            assert_eq!(verified(&bytes, &key).map(<[u8]>::len), Ok(length));
        }
    }
});

/// What the updater and init rely on.
fn check(bytes: &[u8], place: u64) {
    let Ok(package) = Package::read(bytes, place) else {
        return;
    };
    let (mut next, mut stored, mut count, mut has_entry) = (BASE, 0, 0, false);
    for (page, content) in package.pages() {
        assert!(page.address >= next && page.address.is_multiple_of(PAGE_SIZE as u64));
        next = page.address + PAGE_SIZE as u64;
        assert!(next <= BASE + place, "outside the place");
        assert_eq!(page.stored, content.map(|_| stored));
        stored += u32::from(content.is_some());
        count += 1;
        has_entry |= (page.address..next).contains(&package.header.entry);
    }
    assert!(has_entry && count == package.header.pages);
    assert_eq!(package.header.length(stored), bytes.len() as u64);
}
