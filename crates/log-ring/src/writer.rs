//! The protection domain's side.

use crate::{COMMITTED, RESERVED, capacity, place};
use core::fmt;
use core::sync::atomic::Ordering;
use segue_shared_memory::Region;

/// Appends bytes to a ring. There must be one writer at a time.
#[derive(Clone, Copy, Debug)]
pub struct Writer {
    region: Region,
    /// Number of the next byte.
    position: u64,
}

impl Writer {
    /// Continues the ring in `region` where it ends.
    pub fn new(region: Region) -> Self {
        let position = if region.length() < crate::HEADER_SIZE {
            0
        } else {
            region.load64(COMMITTED, Ordering::Relaxed)
        };
        Self { region, position }
    }

    /// Appends `bytes`; of more than fit, the last that do.
    pub fn write(&mut self, bytes: &[u8]) {
        let capacity = capacity(self.region.length());
        if capacity == 0 {
            return;
        }
        let mut bytes = &bytes[bytes.len().saturating_sub(capacity)..];
        let end = self.position.wrapping_add(bytes.len() as u64);
        self.region.store64(RESERVED, end, Ordering::Relaxed);
        // The bytes below may not become visible before `reserved` does.
        core::sync::atomic::fence(Ordering::Release);
        let mut position = self.position;
        while !bytes.is_empty() {
            let (offset, room) = place(position, capacity);
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.region.write(offset, now);
            position = position.wrapping_add(now.len() as u64);
            bytes = later;
        }
        self.position = end;
        self.region.store64(COMMITTED, end, Ordering::Release);
    }
}

/// A line being formatted: at most `SIZE` bytes, of which the last is the newline.
///
/// What does not fit is cut and marked, so one message is one write to the ring.
#[derive(Clone, Copy, Debug)]
pub struct Line<const SIZE: usize> {
    bytes: [u8; SIZE],
    length: usize,
    cut: bool,
}

const CUT_MARK: &[u8] = b"...";

impl<const SIZE: usize> Line<SIZE> {
    /// An empty line.
    pub const fn new() -> Self {
        assert!(SIZE > CUT_MARK.len() + 1);
        Self {
            bytes: [0; SIZE],
            length: 0,
            cut: false,
        }
    }

    /// Whether nothing was written.
    pub const fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Ends the line and yields it, newline included.
    pub fn finish(&mut self) -> &[u8] {
        if self.cut {
            self.bytes[self.length..][..CUT_MARK.len()].copy_from_slice(CUT_MARK);
            self.length += CUT_MARK.len();
            self.cut = false;
        }
        self.bytes[self.length] = b'\n';
        &self.bytes[..=self.length]
    }
}

impl<const SIZE: usize> Default for Line<SIZE> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const SIZE: usize> fmt::Write for Line<SIZE> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.cut {
            return Ok(());
        }
        let room = SIZE - CUT_MARK.len() - 1 - self.length;
        let end = text.floor_char_boundary(room);
        self.cut = end < text.len();
        for (to, from) in self.bytes[self.length..]
            .iter_mut()
            .zip(&text.as_bytes()[..end])
        {
            // A message is one line, whatever it contains.
            *to = if *from == b'\n' || *from == b'\r' {
                b' '
            } else {
                *from
            };
        }
        self.length += end;
        Ok(())
    }
}
