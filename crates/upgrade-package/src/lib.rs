//! A program that is sent to the machine to replace a running one.
//!
//! A package holds the pages of one program for one protection domain, configured for one system. All
//! numbers are little endian.
//!
//! | offset | bytes | what |
//! | --- | --- | --- |
//! | 0 | 8 | `SEGUEPKG` |
//! | 8 | 4 | version: 1 |
//! | 12 | 4 | number of pages |
//! | 16 | 8 | address of the first instruction |
//! | 24 | 64 | name of the protection domain, padded with zeroes |
//! | 88 | 32 | name of the image, for people, padded with zeroes |
//! | 120 | 32 | SHA-256 of what it was built for: the protection domain's maps, channels, variables |
//! | 152 | 8 | serial number: a package that was signed later has a higher one |
//! | 160 | 32 | zeroes |
//! | 192 | 16 each | pages: u64 address, u32 flags (1 writable, 2 all zero), u32 zero |
//!
//! Page records are in ascending order of addresses. Zeroes follow up to a multiple of 4096, then the pages
//! that are not all zero, in the same order, and then 64 bytes: the Ed25519 signature of everything before.
//!
//! [`Header`] and [`Pages`] check piece by piece, for who reads memory that others can write and has to
//! copy each piece first. [`Package`] does the same for bytes that stay as they are. What holds
//! a signature is not therefore well-formed, and neither the other way round: check both.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(feature = "write")]
extern crate alloc;

mod read;
#[cfg(feature = "verify")]
mod signature;
#[cfg(feature = "write")]
pub mod write;

pub use read::{Error, Header, Package, Page, Pages, parts};
#[cfg(feature = "verify")]
pub use signature::{NotSigned, is_usable_key, verified};

/// The first bytes.
pub const MAGIC: [u8; 8] = *b"SEGUEPKG";
/// The version of the format.
pub const VERSION: u32 = 1;
/// Bytes before the first page record.
pub const HEADER_SIZE: usize = 192;
/// Bytes of a page record.
pub const RECORD_SIZE: usize = 16;
/// Bytes of the signature.
pub const SIGNATURE_SIZE: usize = 64;
/// Bytes of the name of a protection domain; at most 63 are used.
pub const NAME_SIZE: usize = 64;
/// Bytes of the name of an image; at most 31 are used.
pub const LABEL_SIZE: usize = 32;
/// Bytes of a page.
pub const PAGE_SIZE: usize = 4096;
/// Where the place for a program begins.
pub const BASE: u64 = 0x20_0000;
/// Largest place for a program, in bytes.
pub const LARGEST_PLACE: u64 = 1 << 30;

/// Flag of a page: the program may write it.
pub const WRITABLE: u32 = 1;
/// Flag of a page: all its bytes are zero, and the package does not hold them.
pub const ZERO: u32 = 2;

/// Where the pages begin in a package with `pages` page records.
pub const fn pages_offset(pages: usize) -> usize {
    (HEADER_SIZE + pages * RECORD_SIZE).next_multiple_of(PAGE_SIZE)
}

/// Bytes of the largest package for a place of `place` bytes, its signature included.
pub const fn largest_package(place: u64) -> u64 {
    let pages = place as usize / PAGE_SIZE;
    (pages_offset(pages) + pages * PAGE_SIZE + SIGNATURE_SIZE) as u64
}
