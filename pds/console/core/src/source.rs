//! One protection domain's log lines.

use crate::output::Output;
use alloc::string::String;
use segue_fault_points::{Point, reached};
use segue_log_ring::Reader;

/// Longest line that is printed as one.
const LINE_SIZE: usize = 256;

/// Bytes taken from a ring at a time, so that no writer has the line for long.
const PORTION: usize = 64;

/// Most bytes of output that one portion makes: each line of it has a name in
/// front, and each byte may be escaped; then a notice of loss.
pub const PORTION_OUTPUT: usize = 4096;

/// A protection domain's ring and the line that is not complete yet.
#[derive(Debug)]
pub struct Source {
    name: String,
    reader: Reader,
    line: [u8; LINE_SIZE],
    length: usize,
}

impl Source {
    pub fn new(name: &str, reader: Reader) -> Self {
        Self {
            name: name.into(),
            reader,
            line: [0; LINE_SIZE],
            length: 0,
        }
    }

    /// Up to which byte of the ring all lines are printed: the one that is not complete yet is not,
    /// and is read anew by a successor of the console.
    pub fn told(&self) -> u64 {
        self.reader.position().saturating_sub(self.length as u64)
    }

    /// Prints the complete lines of the next portion. Says whether there was
    /// anything to read.
    pub fn print(&mut self, output: &mut Output) -> bool {
        let mut portion = [0; PORTION];
        let read = self.reader.read(&mut portion);
        reached(Point::ConsoleLogTaken);
        if read.lost != 0 {
            self.finish_line(output);
            let notice = alloc::format!("({} bytes of its log are lost)", read.lost);
            self.print_line(notice.as_bytes(), output);
        }
        for byte in &portion[..read.length] {
            if *byte == b'\n' {
                self.finish_line(output);
                continue;
            }
            if self.length == LINE_SIZE {
                self.finish_line(output);
            }
            self.line[self.length] = *byte;
            self.length += 1;
        }
        read.length != 0 || read.lost != 0
    }

    fn finish_line(&mut self, output: &mut Output) {
        if self.length != 0 {
            let line = self.line;
            self.print_line(&line[..self.length], output);
            self.length = 0;
        }
    }

    fn print_line(&self, line: &[u8], output: &mut Output) {
        output.begin_line();
        output.text(self.name.as_bytes());
        output.text(b": ");
        output.text(line);
        output.text(b"\n");
    }
}
