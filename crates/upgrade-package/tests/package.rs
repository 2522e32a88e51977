//! Packages that are written and read again, damaged, cut, lengthened and signed by somebody else.

use proptest::prelude::*;
use segue_upgrade_package::write::{self, Contents, PageContents};
use segue_upgrade_package::{
    BASE, Error, HEADER_SIZE, NotSigned, PAGE_SIZE, Package, Page, RECORD_SIZE, SIGNATURE_SIZE,
    is_usable_key, largest_package, pages_offset, verified,
};

const PLACE: u64 = 64 * PAGE_SIZE as u64;
const PRIVATE: [u8; 32] = [7; 32];

fn page(number: u64, is_writable: bool, fill: u8) -> PageContents {
    PageContents {
        address: BASE + number * PAGE_SIZE as u64,
        is_writable,
        bytes: [fill; PAGE_SIZE],
    }
}

fn pages() -> Vec<PageContents> {
    vec![
        page(0, false, 1),
        page(1, true, 0),
        page(5, true, 2),
        page(63, true, 0),
    ]
}

fn contents(pages: &[PageContents]) -> Contents<'_> {
    Contents {
        domain: "netserver",
        label: "netserver of today",
        entry: BASE + 0x10,
        built_for: [9; 32],
        serial: 17,
        pages,
    }
}

fn example() -> Vec<u8> {
    write::package(&contents(&pages()), PLACE).expect("a package")
}

type Found = (Page, Option<[u8; PAGE_SIZE]>);

fn read(bytes: &[u8]) -> Result<Vec<Found>, Error> {
    let package = Package::read(bytes, PLACE)?;
    Ok(package
        .pages()
        .map(|(page, bytes)| (page, bytes.copied()))
        .collect())
}

/// The error after `bytes` were written at `offset`.
fn changed(offset: usize, bytes: &[u8]) -> Error {
    let mut package = example();
    package[offset..offset + bytes.len()].copy_from_slice(bytes);
    Package::read(&package, PLACE).expect_err("a changed package is accepted")
}

#[test]
fn what_is_written_is_read() {
    let bytes = example();
    let package = Package::read(&bytes, PLACE).expect("a package");
    assert_eq!(package.header.domain(), "netserver");
    assert_eq!(package.header.label(), "netserver of today");
    assert_eq!(
        (package.header.entry, package.header.serial),
        (BASE + 0x10, 17)
    );
    assert_eq!(package.header.built_for, [9; 32]);
    let found = read(&bytes).expect("a package");
    assert_eq!(found.len(), 4);
    for ((page, content), expected) in found.iter().zip(pages()) {
        assert_eq!(
            (page.address, page.is_writable),
            (expected.address, expected.is_writable)
        );
        assert_eq!(content.unwrap_or([0; PAGE_SIZE]), expected.bytes);
    }
    assert_eq!(
        found
            .iter()
            .filter(|(page, _)| page.stored.is_some())
            .count(),
        2
    );
    assert_eq!(bytes.len(), pages_offset(4) + 2 * PAGE_SIZE);
}

#[test]
fn the_largest_package_is_as_large_as_was_said() {
    let pages: Vec<PageContents> = (0..64).map(|number| page(number, true, 1)).collect();
    let mut bytes = write::package(&contents(&pages), PLACE).expect("a package");
    write::sign(&mut bytes, &PRIVATE);
    assert_eq!(bytes.len() as u64, largest_package(PLACE));
}

#[test]
fn each_field_is_checked() {
    let record = |index: usize| HEADER_SIZE + index * RECORD_SIZE;
    assert_eq!(changed(0, b"X"), Error::NotAPackage);
    assert_eq!(changed(8, &[2]), Error::Version(2));
    assert_eq!(changed(12, &[0]), Error::Empty);
    assert_eq!(changed(24, &[0]), Error::Name);
    assert_eq!(changed(24, &[0xff]), Error::Name);
    assert_eq!(changed(24, &[b'a'; 64]), Error::Name);
    assert_eq!(changed(80, b"x"), Error::Name);
    assert_eq!(changed(88, b"\n"), Error::Name);
    assert_eq!(changed(160, &[1]), Error::NotZero);
    assert_eq!(changed(191, &[1]), Error::NotZero);
    assert_eq!(changed(record(4), &[1]), Error::NotZero);
    assert_eq!(changed(pages_offset(4) - 1, &[1]), Error::NotZero);
    assert_eq!(changed(record(1), &[1]), Error::Page(1));
    assert_eq!(changed(record(1) + 8, &[4]), Error::Page(1));
    assert_eq!(changed(record(1) + 12, &[1]), Error::Page(1));
    assert_eq!(changed(record(1), &BASE.to_le_bytes()), Error::Order(1));
    let below = BASE - PAGE_SIZE as u64;
    let end = BASE + PLACE;
    for (index, address) in [(0, below), (0, 0), (3, end), (3, !0xfff)] {
        let found = changed(record(index), &address.to_le_bytes());
        assert_eq!(found, Error::Outside(index as u32, address, end));
    }
    for entry in [0, BASE + 2 * PAGE_SIZE as u64, u64::MAX] {
        assert_eq!(changed(16, &entry.to_le_bytes()), Error::Entry(entry));
    }
    let length = example().len() as u64;
    // A page less is held than before.
    assert_eq!(
        changed(record(0) + 8, &[2]),
        Error::Length(length - 4096, length)
    );
    let offset = HEADER_SIZE as u64 + u64::from(u32::MAX) * 16;
    let offset = offset.next_multiple_of(4096);
    assert_eq!(changed(12, &[0xff; 4]), Error::Length(offset, length));
}

#[test]
fn another_length_is_refused() {
    let bytes = example();
    for length in 0..bytes.len() {
        assert!(Package::read(&bytes[..length], PLACE).is_err(), "{length}");
    }
    let longer = [&bytes[..], &[0]].concat();
    let expected = bytes.len() as u64;
    assert_eq!(read(&longer), Err(Error::Length(expected, expected + 1)));
    assert_eq!(
        Package::read(&bytes, PLACE - 4096).err(),
        Some(Error::Outside(3, BASE + 63 * 4096, BASE + PLACE - 4096))
    );
}

#[test]
fn nothing_is_written_that_would_be_refused() {
    let pages = pages();
    let refused = |change: &dyn Fn(&mut Contents<'_>)| {
        let mut contents = contents(&pages);
        change(&mut contents);
        write::package(&contents, PLACE).expect_err("a package that would be refused")
    };
    const LONG: &str = concat!(
        "nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn",
        "nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn"
    );
    assert_eq!(
        refused(&|contents| contents.domain = LONG),
        write::Error::LongName
    );
    assert_eq!(
        refused(&|contents| contents.label = &LONG[..32]),
        write::Error::LongName
    );
    let error = refused(&|contents| contents.label = "");
    assert_eq!(error, write::Error::Refused(Error::Name));
    let error = refused(&|contents| contents.pages = &[]);
    assert_eq!(error, write::Error::Refused(Error::Empty));
    let error = refused(&|contents| contents.entry = 5);
    assert_eq!(error, write::Error::Refused(Error::Entry(5)));
}

#[test]
fn only_the_signer_is_believed() {
    let mut bytes = example();
    let length = bytes.len();
    write::sign(&mut bytes, &PRIVATE);
    assert_eq!(bytes.len(), length + SIGNATURE_SIZE);
    let key = write::public_key(&PRIVATE);
    assert!(is_usable_key(&key));
    assert_eq!(verified(&bytes, &key), Ok(&bytes[..length]));
    assert_eq!(
        verified(&bytes, &write::public_key(&[8; 32])),
        Err(NotSigned)
    );
    assert_eq!(verified(&bytes[..length], &key), Err(NotSigned));
    assert_eq!(verified(&bytes[1..], &key), Err(NotSigned));
    assert_eq!(verified(&bytes[..63], &key), Err(NotSigned));
    assert_eq!(verified(&[], &key), Err(NotSigned));
    for bit in [
        0,
        8 * HEADER_SIZE,
        8 * length - 1,
        8 * length,
        8 * bytes.len() - 1,
    ] {
        let mut changed = bytes.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(verified(&changed, &key), Err(NotSigned), "bit {bit}");
    }
}

/// RFC 8032, section 7.1, test 1: the empty message.
#[test]
fn signatures_are_those_of_the_standard() {
    let private = hexadecimal("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60");
    let public = hexadecimal("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a");
    let mut bytes = Vec::new();
    write::sign(&mut bytes, &private);
    let expected: [u8; 64] = hexadecimal(
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    );
    assert_eq!(bytes, expected);
    assert_eq!(write::public_key(&private), public);
    assert_eq!(verified(&bytes, &public), Ok(&[][..]));
}

#[test]
fn keys_that_many_signatures_fit_are_refused() {
    // The neutral element; and y = 2, which no point of the curve has.
    let mut neutral = [0; 32];
    neutral[0] = 1;
    assert!(!is_usable_key(&neutral));
    let mut none = [0; 32];
    none[0] = 2;
    assert!(!is_usable_key(&none));
    // With the neutral element, R = S*B verifies any message when S = 0 and R is neutral, too.
    let mut forged = example();
    forged.extend_from_slice(&neutral);
    forged.extend_from_slice(&[0; 32]);
    assert_eq!(verified(&forged, &neutral), Err(NotSigned));
}

fn hexadecimal<const N: usize>(text: &str) -> [u8; N] {
    let digit = |at: usize| {
        text[at..at + 1]
            .chars()
            .next()
            .and_then(|digit| digit.to_digit(16))
    };
    std::array::from_fn(|byte| {
        let digits = (digit(2 * byte), digit(2 * byte + 1));
        (digits.0.expect("a digit") * 16 + digits.1.expect("a digit")) as u8
    })
}

/// What holds for whatever is accepted.
fn is_sound(bytes: &[u8], place: u64) {
    let Ok(package) = Package::read(bytes, place) else {
        return;
    };
    let mut next = BASE;
    let mut stored = 0;
    let mut has_entry = false;
    let mut count = 0;
    for (page, content) in package.pages() {
        assert!(page.address >= next && page.address + 4096 <= BASE + place);
        next = page.address + 4096;
        assert_eq!(page.stored.is_some(), content.is_some());
        if let Some(index) = page.stored {
            assert_eq!(index, stored);
            stored += 1;
        }
        has_entry |= (page.address..next).contains(&package.header.entry);
        count += 1;
    }
    assert!(has_entry);
    assert_eq!(count, package.header.pages);
    assert_eq!(bytes.len() as u64, package.header.length(stored));
    assert!(!package.header.domain().is_empty() && !package.header.label().is_empty());
}

proptest! {
    #[test]
    fn anything_is_read_without_harm(bytes in proptest::collection::vec(any::<u8>(), 0..9000)) {
        is_sound(&bytes, PLACE);
        prop_assert_eq!(verified(&bytes, &[3; 32]), Err(NotSigned));
    }

    #[test]
    fn damage_does_no_harm(
        changes in proptest::collection::vec((0..300_usize, any::<u8>()), 1..8),
        place in 0..80_u64,
        length in proptest::option::of(0..20_000_usize),
    ) {
        let mut bytes = example();
        for (offset, byte) in changes {
            bytes[offset] = byte;
        }
        if let Some(length) = length {
            bytes.resize(length, 0);
        }
        is_sound(&bytes, place * 4096);
    }

    #[test]
    fn all_programs_come_through(
        numbers in proptest::collection::btree_map(0..64_u64, (any::<bool>(), 0..3_u8), 1..40),
        offset in 0..4096_u64,
    ) {
        let pages: Vec<PageContents> = numbers
            .iter()
            .map(|(number, (is_writable, fill))| page(*number, *is_writable, *fill))
            .collect();
        let entry = pages[0].address + offset;
        let bytes = write::package(&Contents { entry, ..contents(&pages) }, PLACE).unwrap();
        let found = read(&bytes).unwrap();
        prop_assert_eq!(found.len(), pages.len());
        for ((found, content), page) in found.iter().zip(&pages) {
            prop_assert_eq!(found.address, page.address);
            prop_assert_eq!(found.is_writable, page.is_writable);
            prop_assert_eq!(content.unwrap_or([0; PAGE_SIZE]), page.bytes);
        }
    }
}
