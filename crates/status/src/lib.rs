//! The layout of the status regions: what one protection domain tells all
//! others about.
//!
//! - [`system`]: state of every protection domain; `init` writes it.
//! - [`crash`]: the last crash reports; `init` writes them.
//! - [`symbols`]: functions of all programs; the image builder writes them.
//! - [`network`]: counters of the network server.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(feature = "write")]
extern crate alloc;

pub mod crash;
pub mod network;
pub mod orders;
pub mod symbols;
pub mod system;

use segue_shared_memory::Region;

/// Where bytes can be read from: a region, or a slice in a test.
pub trait Source {
    /// How many there are.
    fn length(&self) -> usize;
    /// Copies `to.len()` of them out, from `offset`; says whether they exist.
    fn read(&self, offset: usize, to: &mut [u8]) -> bool;
}

impl Source for Region {
    fn length(&self) -> usize {
        Region::length(self)
    }
    fn read(&self, offset: usize, to: &mut [u8]) -> bool {
        let inside = offset
            .checked_add(to.len())
            .is_some_and(|end| end <= Region::length(self));
        if inside {
            Region::read(self, offset, to);
        }
        inside
    }
}

impl Source for &[u8] {
    fn length(&self) -> usize {
        self.len()
    }
    fn read(&self, offset: usize, to: &mut [u8]) -> bool {
        let bytes = offset
            .checked_add(to.len())
            .and_then(|end| self.get(offset..end));
        if let Some(bytes) = bytes {
            to.copy_from_slice(bytes);
        }
        bytes.is_some()
    }
}

/// The text of a NUL-padded name; "?" if it is not UTF-8.
pub fn name(bytes: &[u8]) -> &str {
    let length = bytes
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(bytes.len());
    core::str::from_utf8(&bytes[..length]).unwrap_or("?")
}
