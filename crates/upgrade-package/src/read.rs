//! Reading: nothing is believed before it was checked.

use core::fmt;

use crate::{
    BASE, HEADER_SIZE, LABEL_SIZE, MAGIC, NAME_SIZE, PAGE_SIZE, RECORD_SIZE, SIGNATURE_SIZE,
    VERSION, WRITABLE, ZERO, pages_offset,
};

/// Why a package cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// It does not start as a package does.
    NotAPackage,
    /// Its version is not ours.
    Version(u32),
    /// It is cut short, or something follows it: bytes expected, bytes there.
    Length(u64, u64),
    /// A name is not text, is empty, or is not padded with zeroes.
    Name,
    /// Bytes that are to be zero are not.
    NotZero,
    /// It has no pages.
    Empty,
    /// The page record of this index has an address that is not a page's, or flags that do not exist.
    Page(u32),
    /// The page record of this index does not lie behind the one before.
    Order(u32),
    /// The page record of this index lies outside the place for programs: its address, the place's end.
    Outside(u32, u64, u64),
    /// The first instruction lies in none of its pages.
    Entry(u64),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Error::NotAPackage => write!(f, "this is not a package"),
            Error::Version(version) => write!(
                f,
                "the package has format version {version}, this machine reads version {VERSION}"
            ),
            Error::Length(expected, found) => write!(
                f,
                "the package is {found} bytes long, but its page records say {expected}"
            ),
            Error::Name => write!(f, "a name in the package is not a name"),
            Error::NotZero => write!(f, "the package has bytes where there must be zeroes"),
            Error::Empty => write!(f, "the package holds no pages"),
            Error::Page(index) => write!(f, "page record {index} of the package makes no sense"),
            Error::Order(index) => write!(
                f,
                "page record {index} of the package does not lie behind the one before"
            ),
            Error::Outside(_, address, end) => write!(
                f,
                "the package has a page at {address:#x}, but there is room from {BASE:#x} to {end:#x} only"
            ),
            Error::Entry(entry) => {
                write!(f, "the package starts at {entry:#x}, where it has no page")
            }
        }
    }
}

impl core::error::Error for Error {}

/// The first [`HEADER_SIZE`] bytes, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Number of page records; at least 1.
    pub pages: u32,
    /// Address of the first instruction. Whether a page lies there, [`Pages`] says.
    pub entry: u64,
    /// SHA-256 of what it was built for.
    pub built_for: [u8; 32],
    /// A package that was signed later has a higher one.
    pub serial: u64,
    domain: [u8; NAME_SIZE],
    label: [u8; LABEL_SIZE],
}

impl Header {
    /// Checks a header.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn read(bytes: &[u8; HEADER_SIZE]) -> Result<Self, Error> {
        if bytes[..8] != MAGIC {
            return Err(Error::NotAPackage);
        }
        let version = u32::from_le_bytes(part(bytes, 8));
        if version != VERSION {
            return Err(Error::Version(version));
        }
        let header = Self {
            pages: u32::from_le_bytes(part(bytes, 12)),
            entry: u64::from_le_bytes(part(bytes, 16)),
            domain: part(bytes, 24),
            label: part(bytes, 88),
            built_for: part(bytes, 120),
            serial: u64::from_le_bytes(part(bytes, 152)),
        };
        name(&header.domain).ok_or(Error::Name)?;
        name(&header.label).ok_or(Error::Name)?;
        if bytes[160..].iter().any(|byte| *byte != 0) {
            return Err(Error::NotZero);
        }
        if header.pages == 0 {
            return Err(Error::Empty);
        }
        Ok(header)
    }

    /// The protection domain that it is for.
    pub fn domain(&self) -> &str {
        name(&self.domain).unwrap_or_default()
    }

    /// What people call the image.
    pub fn label(&self) -> &str {
        name(&self.label).unwrap_or_default()
    }

    /// Where the pages begin.
    pub fn pages_offset(&self) -> u64 {
        // Below 2^40: no overflow.
        (HEADER_SIZE as u64 + u64::from(self.pages) * RECORD_SIZE as u64)
            .next_multiple_of(PAGE_SIZE as u64)
    }

    /// Bytes of the package without its signature, if `stored` of its pages are not all zero.
    pub fn length(&self, stored: u32) -> u64 {
        self.pages_offset() + u64::from(stored) * PAGE_SIZE as u64
    }
}

/// A page of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// Its address.
    pub address: u64,
    /// Whether the program may write it.
    pub is_writable: bool,
    /// Its place among the pages that the package holds; `None` if all its bytes are zero.
    pub stored: Option<u32>,
}

/// Checks page records, one after the other.
#[derive(Clone, Copy, Debug)]
pub struct Pages {
    entry: u64,
    end: u64,
    /// Records so far.
    count: u32,
    /// Stored pages so far.
    stored: u32,
    /// The lowest address that the next page may have.
    next: u64,
    has_entry: bool,
}

impl Pages {
    /// Checks the records behind `header`, of a program for a place of `place` bytes.
    pub fn new(header: &Header, place: u64) -> Self {
        Self {
            entry: header.entry,
            end: BASE.saturating_add(place),
            count: 0,
            stored: 0,
            next: BASE,
            has_entry: false,
        }
    }

    /// Takes the next record.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn page(&mut self, record: &[u8; RECORD_SIZE]) -> Result<Page, Error> {
        let index = self.count;
        let address = u64::from_le_bytes(part(record, 0));
        let flags = u32::from_le_bytes(part(record, 8));
        if !address.is_multiple_of(PAGE_SIZE as u64)
            || flags & !(WRITABLE | ZERO) != 0
            || record[12..] != [0; 4]
        {
            return Err(Error::Page(index));
        }
        let end = address.checked_add(PAGE_SIZE as u64);
        let Some(end) = end.filter(|end| address >= BASE && *end <= self.end) else {
            return Err(Error::Outside(index, address, self.end));
        };
        if address < self.next {
            return Err(Error::Order(index));
        }
        self.next = end;
        self.has_entry |= (address..end).contains(&self.entry);
        self.count += 1;
        let stored = (flags & ZERO == 0).then_some(self.stored);
        self.stored += u32::from(stored.is_some());
        Ok(Page {
            address,
            is_writable: flags & WRITABLE != 0,
            stored,
        })
    }

    /// To be called after the last record: how many pages the package holds.
    ///
    /// # Errors
    ///
    /// The first instruction lies in none of the pages.
    pub fn stored(&self) -> Result<u32, Error> {
        if self.has_entry {
            Ok(self.stored)
        } else {
            Err(Error::Entry(self.entry))
        }
    }
}

/// The bytes of a package that are signed, and the signature. Neither is checked.
pub fn parts(package: &[u8]) -> Option<(&[u8], &[u8; SIGNATURE_SIZE])> {
    package.split_last_chunk()
}

/// A package whose every byte but those of its pages was checked, without its signature.
#[derive(Clone, Copy, Debug)]
pub struct Package<'a> {
    /// The header.
    pub header: Header,
    place: u64,
    signed: &'a [u8],
}

impl<'a> Package<'a> {
    /// Checks a package without its signature, for a place of `place` bytes.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn read(signed: &'a [u8], place: u64) -> Result<Self, Error> {
        let header = signed.first_chunk().ok_or(Error::NotAPackage)?;
        let package = Self {
            header: Header::read(header)?,
            place,
            signed,
        };
        let length = signed.len() as u64;
        let offset = package.header.pages_offset();
        // What there is to check is bounded by what there is.
        if offset > length {
            return Err(Error::Length(offset, length));
        }
        let mut pages = Pages::new(&package.header, place);
        for record in package.records() {
            pages.page(record)?;
        }
        let expected = package.header.length(pages.stored()?);
        if expected != length {
            return Err(Error::Length(expected, length));
        }
        let records = HEADER_SIZE + package.header.pages as usize * RECORD_SIZE;
        let padding = signed.get(records..offset as usize).unwrap_or_default();
        if padding.iter().any(|byte| *byte != 0) {
            return Err(Error::NotZero);
        }
        Ok(package)
    }

    fn records(&self) -> impl Iterator<Item = &'a [u8; RECORD_SIZE]> + use<'a> {
        let records = self.signed.get(HEADER_SIZE..).unwrap_or_default();
        let (records, _) = records.as_chunks();
        records.iter().take(self.header.pages as usize)
    }

    /// All pages, and the bytes of those that are not all zero.
    pub fn pages(&self) -> impl Iterator<Item = (Page, Option<&'a [u8; PAGE_SIZE]>)> + use<'a> {
        let mut pages = Pages::new(&self.header, self.place);
        let offset = pages_offset(self.header.pages as usize);
        let (contents, _) = self.signed.get(offset..).unwrap_or_default().as_chunks();
        // All of them were fine before.
        self.records().filter_map(move |record| {
            let page = pages.page(record).ok()?;
            let content = page.stored.and_then(|stored| contents.get(stored as usize));
            Some((page, content))
        })
    }
}

/// The `N` bytes at `offset`, which lie inside `bytes`.
fn part<const N: usize>(bytes: &[u8], offset: usize) -> [u8; N] {
    let mut part = [0; N];
    if let Some(found) = bytes.get(offset..offset + N) {
        part.copy_from_slice(found);
    }
    part
}

/// The text of a name that is padded with zeroes.
fn name(bytes: &[u8]) -> Option<&str> {
    let length = bytes.iter().position(|byte| *byte == 0)?;
    let (name, padding) = bytes.split_at(length);
    let plain = |byte: &u8| byte.is_ascii_graphic() || *byte == b' ';
    if name.is_empty() || !name.iter().all(plain) || padding.iter().any(|byte| *byte != 0) {
        return None;
    }
    core::str::from_utf8(name).ok()
}
