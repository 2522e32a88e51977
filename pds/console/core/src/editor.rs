//! The operator's line.

/// Longest command, in bytes.
const LENGTH: usize = 128;

/// What a key stroke meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// Nothing, or not yet.
    Nothing,
    /// This character was added.
    Added(u8),
    /// So many characters were removed at the end.
    Removed(usize),
    /// The line is complete.
    Enter,
    /// The line was given up.
    Abandoned,
}

/// Where in an escape sequence the input is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Escape {
    None,
    Started,
    /// Until a final byte.
    Sequence,
}

/// Collects key strokes to a line.
#[derive(Clone, Copy, Debug)]
pub struct Editor {
    line: [u8; LENGTH],
    length: usize,
    escape: Escape,
    /// The last byte was a carriage return: a newline right after belongs to it.
    after_return: bool,
}

impl Editor {
    pub const fn new() -> Self {
        Self {
            line: [0; LENGTH],
            length: 0,
            escape: Escape::None,
            after_return: false,
        }
    }

    /// The line so far: printable ASCII.
    pub fn line(&self) -> &str {
        core::str::from_utf8(&self.line[..self.length]).unwrap_or("")
    }

    /// Forgets the line.
    pub fn clear(&mut self) {
        self.length = 0;
    }

    /// Takes a key stroke.
    pub fn key(&mut self, byte: u8) -> Key {
        let after_return = core::mem::replace(&mut self.after_return, byte == b'\r');
        match (self.escape, byte) {
            (Escape::Started, b'[' | b'O') => {
                self.escape = Escape::Sequence;
                return Key::Nothing;
            }
            (Escape::Started, _) => {
                self.escape = Escape::None;
                return Key::Nothing;
            }
            // Parameters, then one final byte (ECMA-48, section 5.4).
            (Escape::Sequence, 0x20..=0x3f) => return Key::Nothing,
            (Escape::Sequence, _) => {
                self.escape = Escape::None;
                return Key::Nothing;
            }
            (Escape::None, _) => {}
        }
        match byte {
            b'\n' if after_return => Key::Nothing,
            b'\r' | b'\n' => Key::Enter,
            // Backspace and delete.
            0x08 | 0x7f if self.length > 0 => {
                self.length -= 1;
                Key::Removed(1)
            }
            // Control-U.
            0x15 => {
                let length = core::mem::take(&mut self.length);
                Key::Removed(length)
            }
            // Control-W: blanks, then what is not blank.
            0x17 => {
                let rest = self
                    .line()
                    .trim_end_matches(' ')
                    .trim_end_matches(|c| c != ' ')
                    .len();
                Key::Removed(core::mem::replace(&mut self.length, rest) - rest)
            }
            // Control-C.
            0x03 => {
                self.length = 0;
                Key::Abandoned
            }
            0x1b => {
                self.escape = Escape::Started;
                Key::Nothing
            }
            b' '..=b'~' if self.length < LENGTH => {
                self.line[self.length] = byte;
                self.length += 1;
                Key::Added(byte)
            }
            _ => Key::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn typed(bytes: &[u8]) -> Editor {
        let mut editor = Editor::new();
        for byte in bytes {
            editor.key(*byte);
        }
        editor
    }

    #[test]
    fn the_line_can_be_corrected() {
        assert_eq!(typed(b"stats\x7fus").line(), "status");
        assert_eq!(typed(b"nonsense\x15help").line(), "help");
        assert_eq!(typed(b"one two  \x17").line(), "one ");
        assert_eq!(typed(b"\x08\x7f\x17x").line(), "x");
        assert_eq!(typed(b"gone\x03").line(), "");
    }

    #[test]
    fn cursor_keys_leave_no_trace() {
        assert_eq!(typed(b"a\x1b[A\x1b[1;5C\x1bOP\x1bxb").line(), "ab");
    }

    #[test]
    fn every_kind_of_line_end_counts_once() {
        for end in [&b"\r"[..], b"\n", b"\r\n"] {
            let mut editor = Editor::new();
            let enters = end
                .iter()
                .filter(|byte| editor.key(**byte) == Key::Enter)
                .count();
            assert_eq!(enters, 1, "{end:?}");
        }
        let mut editor = Editor::new();
        assert_eq!(
            b"\n\n".map(|byte| editor.key(byte)),
            [Key::Enter, Key::Enter]
        );
    }

    proptest! {
        #[test]
        fn any_input_keeps_the_line_printable(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let editor = typed(&bytes);
            prop_assert!(editor.line().len() <= LENGTH);
            prop_assert!(editor.line().bytes().all(|byte| (b' '..=b'~').contains(&byte)));
        }
    }
}
