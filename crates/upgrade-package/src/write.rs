//! Putting a package together.

use alloc::vec::Vec;
use core::fmt;

use ed25519_dalek::{Signer, SigningKey};

use crate::{
    HEADER_SIZE, LABEL_SIZE, MAGIC, NAME_SIZE, PAGE_SIZE, Package, RECORD_SIZE, VERSION, WRITABLE,
    ZERO, pages_offset,
};

/// What a package is made of.
#[derive(Clone, Copy, Debug)]
pub struct Contents<'a> {
    /// Name of the protection domain.
    pub domain: &'a str,
    /// What people call the image.
    pub label: &'a str,
    /// Address of the first instruction.
    pub entry: u64,
    /// SHA-256 of what it was built for.
    pub built_for: [u8; 32],
    /// Higher than that of earlier packages.
    pub serial: u64,
    /// The pages, in ascending order of addresses.
    pub pages: &'a [PageContents],
}

/// A page to be put into a package.
#[derive(Clone, Debug)]
pub struct PageContents {
    /// Its address.
    pub address: u64,
    /// Whether the program may write it.
    pub is_writable: bool,
    /// Its bytes.
    pub bytes: [u8; PAGE_SIZE],
}

/// Why there is no package.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// A name is longer than there is room.
    LongName,
    /// What came out would be refused.
    Refused(crate::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::LongName => write!(
                f,
                "a name is too long: a label has at most {} letters, a protection domain's name {}",
                LABEL_SIZE - 1,
                NAME_SIZE - 1
            ),
            Error::Refused(error) => write!(f, "{error}"),
        }
    }
}

impl core::error::Error for Error {}

/// A package without its signature, for a place of `place` bytes.
///
/// # Errors
///
/// The contents make no package that would be accepted.
pub fn package(contents: &Contents<'_>, place: u64) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&(contents.pages.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&contents.entry.to_le_bytes());
    bytes.extend_from_slice(&padded::<NAME_SIZE>(contents.domain)?);
    bytes.extend_from_slice(&padded::<LABEL_SIZE>(contents.label)?);
    bytes.extend_from_slice(&contents.built_for);
    bytes.extend_from_slice(&contents.serial.to_le_bytes());
    bytes.resize(HEADER_SIZE, 0);
    let is_zero = |page: &PageContents| page.bytes.iter().all(|byte| *byte == 0);
    for page in contents.pages {
        let mut flags = 0;
        if page.is_writable {
            flags |= WRITABLE;
        }
        if is_zero(page) {
            flags |= ZERO;
        }
        let mut record = [0; RECORD_SIZE];
        record[..8].copy_from_slice(&page.address.to_le_bytes());
        record[8..12].copy_from_slice(&flags.to_le_bytes());
        bytes.extend_from_slice(&record);
    }
    bytes.resize(pages_offset(contents.pages.len()), 0);
    for page in contents.pages.iter().filter(|page| !is_zero(page)) {
        bytes.extend_from_slice(&page.bytes);
    }
    Package::read(&bytes, place).map_err(Error::Refused)?;
    Ok(bytes)
}

/// Appends the signature of everything that is there, made with a private key.
pub fn sign(bytes: &mut Vec<u8>, private_key: &[u8; 32]) {
    let signature = SigningKey::from_bytes(private_key).sign(bytes);
    bytes.extend_from_slice(&signature.to_bytes());
}

/// The public half of a private key.
pub fn public_key(private_key: &[u8; 32]) -> [u8; 32] {
    SigningKey::from_bytes(private_key)
        .verifying_key()
        .to_bytes()
}

fn padded<const N: usize>(name: &str) -> Result<[u8; N], Error> {
    let mut bytes = [0; N];
    // At least one zero ends it.
    if name.len() >= N {
        return Err(Error::LongName);
    }
    bytes[..name.len()].copy_from_slice(name.as_bytes());
    Ok(bytes)
}
