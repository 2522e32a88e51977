//! Bytes on their way to the serial line.

use alloc::boxed::Box;
use alloc::vec;
use core::fmt;

/// Bytes that wait for the line at most.
pub const CAPACITY: usize = 16 * 1024;

const PROMPT: &[u8] = b"segue> ";

/// To the line's start, and clear it (ECMA-48: CR, EL).
const CLEAR_LINE: &[u8] = b"\r\x1b[K";

/// A queue of bytes that never holds anything a terminal would obey, but for
/// what this crate itself puts there.
#[derive(Debug)]
pub struct Output {
    bytes: Box<[u8]>,
    first: usize,
    length: usize,
    /// Bytes that did not fit.
    dropped: usize,
    /// Whether the last line is the prompt with the operator's line.
    prompt: bool,
}

impl Output {
    /// An empty queue.
    pub fn new() -> Self {
        Self {
            bytes: vec![0; CAPACITY].into_boxed_slice(),
            first: 0,
            length: 0,
            dropped: 0,
            prompt: false,
        }
    }

    /// Bytes that still fit.
    pub fn room(&self) -> usize {
        CAPACITY - self.length
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Bytes that were dropped because the queue was full.
    pub fn dropped(&self) -> usize {
        self.dropped
    }

    /// The waiting bytes, first one first, at most `limit`.
    pub fn waiting(&self, limit: usize) -> impl Iterator<Item = u8> + '_ {
        (0..self.length.min(limit)).map(|index| self.bytes[(self.first + index) % CAPACITY])
    }

    /// Takes the first `count` bytes out: they are sent.
    pub fn sent(&mut self, count: usize) {
        let count = count.min(self.length);
        self.first = (self.first + count) % CAPACITY;
        self.length -= count;
    }

    /// Makes place for a line of output: the prompt goes away.
    pub(crate) fn begin_line(&mut self) {
        if core::mem::take(&mut self.prompt) {
            self.raw(CLEAR_LINE);
        }
    }

    /// Shows the prompt with what the operator has typed, unless it is shown.
    pub(crate) fn show_prompt(&mut self, line: &str) {
        if !core::mem::replace(&mut self.prompt, true) {
            self.raw(PROMPT);
            self.text(line.as_bytes());
        }
    }

    /// Ends the prompt's line with these bytes and leaves it on the screen.
    pub(crate) fn leave_prompt(&mut self, end: &[u8]) {
        self.prompt = false;
        self.raw(end);
    }

    /// Appends bytes as they are.
    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if self.length == CAPACITY {
                self.dropped += 1;
            } else {
                self.bytes[(self.first + self.length) % CAPACITY] = *byte;
                self.length += 1;
            }
        }
    }

    /// Appends bytes that somebody else wrote: printable ASCII as it is, a
    /// newline as the line's end, everything else escaped.
    pub(crate) fn text(&mut self, bytes: &[u8]) {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        for byte in bytes {
            match byte {
                b' '..=b'~' => self.raw(&[*byte]),
                b'\n' => self.raw(b"\r\n"),
                b'\t' => self.raw(b" "),
                byte => self.raw(&[
                    b'\\',
                    b'x',
                    DIGITS[usize::from(byte >> 4)],
                    DIGITS[usize::from(byte & 15)],
                ]),
            }
        }
    }
}

impl Default for Output {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Write for Output {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.text(text.as_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    extern crate std;
    use std::vec::Vec;

    #[test]
    fn a_full_queue_drops_the_new_and_counts_it() {
        let mut output = Output::new();
        output.raw(&vec![b'a'; CAPACITY + 5]);
        assert_eq!((output.room(), output.dropped()), (0, 5));
        output.sent(3);
        output.raw(b"xyz!");
        assert_eq!((output.room(), output.dropped()), (0, 6));
        let bytes: Vec<u8> = output.waiting(usize::MAX).collect();
        assert!(bytes.ends_with(b"axyz"));
    }

    proptest! {
        /// Nothing that a protection domain writes moves the terminal's cursor
        /// but to the next line.
        #[test]
        fn a_terminal_obeys_nothing(bytes in proptest::collection::vec(any::<u8>(), 0..500)) {
            let mut output = Output::new();
            output.text(&bytes);
            let sent: Vec<u8> = output.waiting(usize::MAX).collect();
            for (index, byte) in sent.iter().enumerate() {
                match byte {
                    b'\r' => prop_assert_eq!(sent[index + 1], b'\n'),
                    b'\n' => prop_assert_eq!(sent[index - 1], b'\r'),
                    byte => prop_assert!((b' '..=b'~').contains(byte)),
                }
            }
        }
    }
}
