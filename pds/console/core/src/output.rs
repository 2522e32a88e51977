//! Bytes on their way to the serial line.

use core::fmt;

use crate::memory::{Mark, Memory, Queue};

pub use crate::memory::CAPACITY;

const PROMPT: &[u8] = b"segue> ";

/// To the line's start, and clear it (ECMA-48: CR, EL).
const CLEAR_LINE: &[u8] = b"\r\x1b[K";

/// Ends a line that a predecessor has half sent.
const LINE_END: &[u8] = b"\r\n";

/// A queue of bytes that never holds anything a terminal would obey, but for
/// what this crate itself puts there. It lies in memory that outlives the console.
#[derive(Debug)]
pub struct Output {
    memory: Memory,
    /// Bytes before those that wait: so many of the end of [`LINE_END`].
    ending: usize,
    head: u64,
    line: u64,
    tail: u64,
    /// The line's beginning as the memory has it: from there on bytes are kept.
    kept: u64,
    /// Bytes before which all count ([`Self::commit`]).
    committed: u64,
    /// Bytes that did not fit.
    dropped: usize,
    /// Whether the last line is the prompt with the operator's line.
    prompt: bool,
}

impl Output {
    /// What a predecessor has left in this memory and not handed to the line. A line that it has
    /// half sent is ended, and comes once more as a whole; a prompt does not. Also says whether
    /// what was left could be used.
    pub fn new(memory: Memory) -> (Self, bool) {
        let queue = memory.queue();
        let is_sane = queue.is_some();
        if !is_sane {
            memory.clear_queue();
        }
        let Queue {
            head,
            line,
            tail,
            is_sending,
        } = queue.unwrap_or_default();
        // The predecessor has noted what was sent, but perhaps not that it was a line.
        let line = (line..head)
            .rev()
            .find(|number| memory.byte(*number) == b'\n')
            .map_or(line, |number| number + 1);
        let is_half_sent = is_sending || head > line;
        memory.set_sent(head, line);
        let has_end = (head..tail).any(|number| memory.byte(number) == b'\n');
        let from = match (is_half_sent, has_end) {
            (false, _) => head,
            (true, true) => line,
            (true, false) => tail,
        };
        let output = Self {
            memory,
            ending: if is_half_sent { LINE_END.len() } else { 0 },
            head: from,
            line: from,
            tail,
            kept: line,
            committed: tail,
            dropped: 0,
            prompt: false,
        };
        (output, is_sane)
    }

    /// Bytes that still fit.
    pub fn room(&self) -> usize {
        // Those of the line that is being sent are kept: it may have to come once more.
        CAPACITY - (self.tail - self.kept) as usize
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.ending == 0 && self.head == self.committed
    }

    /// Bytes that were dropped because the queue was full.
    pub fn dropped(&self) -> usize {
        self.dropped
    }

    /// The waiting bytes, first one first, at most `limit`.
    pub fn waiting(&self, limit: usize) -> impl Iterator<Item = u8> + '_ {
        let ending = &LINE_END[LINE_END.len() - self.ending..];
        let bytes = (self.head..self.committed).map(|number| self.memory.byte(number));
        ending.iter().copied().chain(bytes).take(limit)
    }

    /// The waiting bytes, to be handed to the line now: at most `limit`. [`Self::sent`] is to be
    /// called with how many of them were taken. A console that dies in between may have sent a
    /// part of a line that it has not noted; its successor ends that line first.
    pub fn send(&self, limit: usize) -> impl Iterator<Item = u8> + '_ {
        self.memory.set_sending(true);
        self.waiting(limit)
    }

    /// Takes the first `count` bytes out: they are sent.
    pub fn sent(&mut self, count: usize) {
        let ending = count.min(self.ending);
        self.ending -= ending;
        let end = (self.head + (count - ending) as u64).min(self.committed);
        // Only the last line can matter again.
        if let Some(newline) = (self.head..end)
            .rev()
            .find(|number| self.memory.byte(*number) == b'\n')
        {
            self.line = newline + 1;
        }
        self.head = end;
        if self.ending == 0 {
            self.memory.set_sent(self.head, self.line);
            self.memory.set_sending(false);
            self.kept = self.line;
        }
    }

    /// All bytes that were appended count from now on, and at the same moment a mark is set, if
    /// there is one.
    pub fn commit(&mut self, mark: Option<(Mark, u64)>) {
        match mark {
            Some((mark, value)) => self.memory.commit(mark, value, self.tail),
            None if self.tail == self.committed => return,
            None => self.memory.commit_text(self.tail),
        }
        self.committed = self.tail;
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
        let (fitting, others) = bytes.split_at(bytes.len().min(self.room()));
        self.memory.put(self.tail, fitting);
        self.tail += fitting.len() as u64;
        self.dropped += others.len();
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

impl fmt::Write for Output {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.text(text.as_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use proptest::prelude::*;
    use segue_log_ring::config::CONSOLE_MEMORY_SIZE;
    use segue_shared_memory::testing::leaked_region;
    extern crate std;
    use std::vec::Vec;

    fn memory() -> Memory {
        Memory::new(leaked_region(CONSOLE_MEMORY_SIZE)).unwrap()
    }

    fn waiting(output: &Output) -> Vec<u8> {
        output.waiting(usize::MAX).collect()
    }

    /// A console puts `before` in the queue, sends some of it, and dies.
    fn after_death(before: &[u8], sent: usize) -> Output {
        let memory = memory();
        let (mut output, _) = Output::new(memory);
        output.raw(before);
        output.commit(None);
        output.sent(sent);
        output.raw(b"does not count");
        let (output, is_sane) = Output::new(memory);
        assert!(is_sane);
        output
    }

    #[test]
    fn a_successor_sends_what_waits() {
        assert_eq!(
            waiting(&after_death(b"one\r\ntwo\r\n", 0)),
            b"one\r\ntwo\r\n"
        );
        assert_eq!(waiting(&after_death(b"one\r\ntwo\r\n", 5)), b"two\r\n");
        assert!(after_death(b"one\r\ntwo\r\n", 10).is_empty());
    }

    #[test]
    fn a_line_half_sent_is_ended_and_comes_once_more() {
        let mut output = after_death(b"one\r\ntwo\r\nthree\r\n", 7);
        assert_eq!(waiting(&output), b"\r\ntwo\r\nthree\r\n");
        output.sent(1);
        assert_eq!(waiting(&output), b"\ntwo\r\nthree\r\n");
        output.sent(6);
        assert_eq!(waiting(&output), b"three\r\n");
        output.sent(7);
        assert!(output.is_empty());
    }

    #[test]
    fn a_prompt_does_not_come_once_more() {
        assert_eq!(waiting(&after_death(b"one\r\nsegue> sta", 9)), b"\r\n");
        let mut output = after_death(b"segue> ", 7);
        output.raw(b"two\r\n");
        output.commit(None);
        assert_eq!(waiting(&output), b"\r\ntwo\r\n");
    }

    #[test]
    fn a_console_that_dies_at_once_leaves_the_same() {
        let memory = memory();
        let (mut output, _) = Output::new(memory);
        output.raw(b"one\r\ntwo\r\n");
        output.commit(None);
        output.sent(2);
        for _ in 0..3 {
            let (mut output, _) = Output::new(memory);
            assert_eq!(waiting(&output), b"\r\none\r\ntwo\r\n");
            output.sent(1);
        }
    }

    #[test]
    fn counters_that_cannot_be_make_an_empty_queue() {
        let memory = memory();
        memory.set_sent(70, 20);
        memory.commit_text(60);
        let (output, is_sane) = Output::new(memory);
        assert!(!is_sane && output.is_empty());
        assert_eq!(output.room(), CAPACITY);
    }

    #[test]
    fn a_full_queue_drops_the_new_and_counts_it() {
        let (mut output, _) = Output::new(memory());
        output.raw(b"aa\n");
        output.raw(&vec![b'a'; CAPACITY + 2]);
        assert_eq!((output.room(), output.dropped()), (0, 5));
        output.commit(None);
        output.sent(3);
        output.raw(b"xyz!");
        output.commit(None);
        assert_eq!((output.room(), output.dropped()), (0, 6));
        assert!(waiting(&output).ends_with(b"axyz"));
    }

    proptest! {
        /// Nothing that a protection domain writes moves the terminal's cursor
        /// but to the next line.
        #[test]
        fn a_terminal_obeys_nothing(bytes in proptest::collection::vec(any::<u8>(), 0..500)) {
            let (mut output, _) = Output::new(memory());
            output.text(&bytes);
            output.commit(None);
            let sent = waiting(&output);
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
