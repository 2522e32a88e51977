//! Answers as bytes.

use alloc::vec::Vec;
use core::fmt::{self, Write};

/// Answers, one after the other.
#[derive(Debug, Default)]
pub struct Replies {
    bytes: Vec<u8>,
    /// There was no memory for an answer: the rest means nothing.
    failed: bool,
}

struct Line<'a>(&'a mut Replies);

impl Write for Line<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.put(text.as_bytes());
        Ok(())
    }
}

impl Replies {
    /// The bytes so far.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Bytes of memory that they hold.
    pub fn memory(&self) -> usize {
        self.bytes.capacity()
    }

    /// Whether one is lost because there was no memory for it.
    pub fn failed(&self) -> bool {
        self.failed
    }

    /// Forgets all, and gives memory back if there is more of it than `keep` bytes.
    pub fn clear(&mut self, keep: usize) {
        self.bytes.clear();
        if self.bytes.capacity() > keep {
            self.bytes = Vec::new();
        }
    }

    /// Whether there is memory for so many bytes more; if not, that is noted.
    #[inline]
    fn has_room(&mut self, length: usize) -> bool {
        self.failed = self.failed || self.bytes.try_reserve(length).is_err();
        !self.failed
    }

    fn put(&mut self, bytes: &[u8]) {
        if self.has_room(bytes.len()) {
            self.bytes.extend_from_slice(bytes);
        }
    }

    fn header(&mut self, kind: u8, number: i64) {
        let mut text = itoa::Buffer::new();
        let digits = text.format(number).as_bytes();
        if self.has_room(digits.len() + 3) {
            self.bytes.push(kind);
            self.bytes.extend_from_slice(digits);
            self.bytes.extend_from_slice(b"\r\n");
        }
    }

    /// A status: `+OK`.
    pub fn status(&mut self, text: &str) {
        self.put(b"+");
        self.put(text.as_bytes());
        self.put(b"\r\n");
    }

    /// An error that begins with its kind: `-ERR syntax error`. Bytes that would end the line
    /// become spaces.
    pub fn error(&mut self, text: fmt::Arguments<'_>) {
        self.put(b"-");
        let from = self.bytes.len();
        // Writing to memory does not fail; a lack of it is noted.
        let _ = Line(self).write_fmt(text);
        for byte in self.bytes.iter_mut().skip(from) {
            if matches!(byte, b'\r' | b'\n') {
                *byte = b' ';
            }
        }
        self.put(b"\r\n");
    }

    /// A number.
    pub fn integer(&mut self, number: i64) {
        self.header(b':', number);
    }

    /// A string of any bytes.
    pub fn bulk(&mut self, bytes: &[u8]) {
        self.header(b'$', bytes.len() as i64);
        if self.has_room(bytes.len() + 2) {
            self.bytes.extend_from_slice(bytes);
            self.bytes.extend_from_slice(b"\r\n");
        }
    }

    /// Nothing, where a string could be.
    pub fn null(&mut self) {
        self.put(b"$-1\r\n");
    }

    /// The head of an array; so many answers follow.
    pub fn array(&mut self, count: usize) {
        self.header(b'*', count as i64);
    }

    /// Nothing, where an array could be.
    pub fn null_array(&mut self) {
        self.put(b"*-1\r\n");
    }
}
