//! The log ring between a protection domain and the console.
//!
//! Each protection domain has a region of [`REGION_SIZE`] bytes that it alone
//! writes and the console reads. It holds a ring of bytes, lines of text that
//! end in a newline, and two counters of all bytes ever written:
//!
//! | offset | word |
//! | ---: | --- |
//! | 0 | `reserved`: raised *before* bytes are overwritten |
//! | 8 | `committed`: raised *after* they are written |
//! | 64 | the bytes; byte number n is at 64 + n mod (length - 64) |
//!
//! The writer never waits: it overwrites the oldest bytes. The reader keeps its
//! position where the writer cannot change it, copies what is committed,
//! and then looks at `reserved` again: bytes older than `reserved` minus the
//! ring's capacity may have changed under its hands, so it drops and counts
//! them. Both counters are release stores and acquire loads.
//!
//! The reader believes nothing. A counter that jumps back or ahead costs the
//! writer its own lines, never the reader an access outside the region or
//! unbounded work: one call of [`Reader::read`] copies at most one buffer.
#![no_std]
#![forbid(unsafe_code)]

pub mod config;
mod reader;
mod writer;

pub use reader::{Read, Reader};
pub use writer::{Line, Writer};

/// Size of a log ring's region, in bytes.
pub const REGION_SIZE: usize = 4096;

/// Bytes before the ring.
pub const HEADER_SIZE: usize = 64;

const RESERVED: usize = 0;
const COMMITTED: usize = 8;

/// Bytes that a ring in a region of `length` bytes holds; 0 if the region is
/// too small to be a ring.
const fn capacity(length: usize) -> usize {
    length.saturating_sub(HEADER_SIZE)
}

/// The region offset of byte number `position`, and how many bytes follow it
/// until the ring wraps.
fn place(position: u64, capacity: usize) -> (usize, usize) {
    let index = (position % capacity as u64) as usize;
    (HEADER_SIZE + index, capacity - index)
}
