//! The payload of the boot image: what the image builder writes and `init`
//! reads.
//!
//! The builder decides everything that can be decided before the machine
//! starts: every capability of every protection domain, every page, every page
//! table, every untyped. `init` follows the tables and decides nothing, so the
//! program that holds all capabilities stays small.
//!
//! A payload is a [`format::Header`], the tables of fixed-size records that it
//! locates, and page-aligned data. All numbers are little-endian.
//! [`Payload::read`] checks all of it once; whatever it accepts can be used
//! without a further check of an index or a range.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(feature = "write")]
extern crate alloc;

pub mod format;
mod payload;
pub mod resources;
#[cfg(feature = "write")]
pub mod write;

pub use payload::{Error, Payload};
