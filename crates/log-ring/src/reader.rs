//! The console's side.

use crate::{COMMITTED, RESERVED, capacity, place};
use core::sync::atomic::{Ordering, fence};
use segue_shared_memory::Region;

/// What one call of [`Reader::read`] brought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Read {
    /// Bytes at the start of the caller's buffer.
    pub length: usize,
    /// Bytes that were overwritten before they could be read. They came before
    /// those in the buffer.
    pub lost: u64,
    /// Whether more bytes wait.
    pub more: bool,
}

/// Follows a ring that another protection domain writes.
#[derive(Clone, Copy, Debug)]
pub struct Reader {
    region: Region,
    /// Number of the next byte to read.
    position: u64,
}

impl Reader {
    /// Follows the ring in `region` from the oldest byte on that it still has.
    pub const fn new(region: Region) -> Self {
        Self {
            region,
            position: 0,
        }
    }

    /// Follows the ring in `region` from byte number `position` on: where a predecessor stopped
    /// reading.
    pub const fn at(region: Region, position: u64) -> Self {
        Self { region, position }
    }

    /// Number of the next byte to read.
    pub const fn position(&self) -> u64 {
        self.position
    }

    /// Copies the next bytes to `buffer`, at most as many as fit.
    pub fn read(&mut self, buffer: &mut [u8]) -> Read {
        let capacity = capacity(self.region.length());
        if capacity == 0 || buffer.is_empty() {
            return Read::default();
        }
        let committed = self.region.load64(COMMITTED, Ordering::Acquire);
        let mut lost = 0;
        if committed < self.position {
            // The writer started anew (or lies): what is there now is new.
            self.position = committed.saturating_sub(capacity as u64);
        }
        let oldest = committed.saturating_sub(capacity as u64);
        if self.position < oldest {
            // A writer that has lapped the reader will soon do it again. Leaving
            // half of what is there out makes that one loss in many lines, not a
            // loss at each read.
            let resume = oldest + capacity as u64 / 2;
            lost = resume - self.position;
            self.position = resume;
        }
        let available = (committed - self.position) as usize;
        let length = available.min(buffer.len());
        let mut copied = 0;
        while copied < length {
            let (offset, room) = place(self.position.wrapping_add(copied as u64), capacity);
            let part = room.min(length - copied);
            self.region.read(offset, &mut buffer[copied..copied + part]);
            copied += part;
        }
        // What the writer has begun to overwrite meanwhile may be torn. The fence
        // keeps this load behind the copy.
        fence(Ordering::Acquire);
        let reserved = self.region.load64(RESERVED, Ordering::Relaxed);
        let oldest = reserved.saturating_sub(capacity as u64);
        let torn = oldest.saturating_sub(self.position).min(length as u64) as usize;
        buffer.copy_within(torn..length, 0);
        self.position += length as u64;
        Read {
            length: length - torn,
            lost: lost + torn as u64,
            more: available > length,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{HEADER_SIZE, Line, REGION_SIZE, Writer};
    use core::fmt::Write;
    use proptest::prelude::*;
    extern crate std;
    use segue_shared_memory::testing::leaked_region as region;
    use std::string::String;
    use std::vec;
    use std::vec::Vec;

    const CAPACITY: usize = REGION_SIZE - HEADER_SIZE;

    fn read_all(reader: &mut Reader) -> (Vec<u8>, u64) {
        let (mut all, mut lost, mut buffer) = (Vec::new(), 0, [0; 100]);
        loop {
            let read = reader.read(&mut buffer);
            all.extend_from_slice(&buffer[..read.length]);
            lost += read.lost;
            if !read.more {
                return (all, lost);
            }
        }
    }

    #[test]
    fn bytes_arrive_in_order_across_the_wrap() {
        let region = region(REGION_SIZE);
        let (mut writer, mut reader) = (Writer::new(region), Reader::new(region));
        for round in 0..1000_u32 {
            let text = std::format!("line {round}\n");
            writer.write(text.as_bytes());
            assert_eq!(read_all(&mut reader), (text.into_bytes(), 0));
        }
    }

    #[test]
    fn an_overrun_loses_the_oldest_and_says_how_much() {
        let region = region(REGION_SIZE);
        let (mut writer, mut reader) = (Writer::new(region), Reader::new(region));
        let mut all = Vec::new();
        for round in 0..1000_u32 {
            let text = std::format!("line {round}\n");
            writer.write(text.as_bytes());
            all.extend_from_slice(text.as_bytes());
        }
        let (read, lost) = read_all(&mut reader);
        assert_eq!(read, all[all.len() - CAPACITY / 2..]);
        assert_eq!(lost, (all.len() - CAPACITY / 2) as u64);
    }

    #[test]
    fn a_message_longer_than_the_ring_leaves_its_end() {
        let region = region(REGION_SIZE);
        let (mut writer, mut reader) = (Writer::new(region), Reader::new(region));
        let text: Vec<u8> = (0..10_000_u32).map(|n| b'a' + (n % 26) as u8).collect();
        writer.write(&text);
        assert_eq!(read_all(&mut reader).0, text[text.len() - CAPACITY..]);
    }

    #[test]
    fn what_is_being_overwritten_is_dropped() {
        let region = region(REGION_SIZE);
        let (mut writer, mut reader) = (Writer::new(region), Reader::new(region));
        writer.write(&vec![b'x'; CAPACITY]);
        // The writer has announced 100 more bytes and is in the middle of them.
        region.store64(RESERVED, CAPACITY as u64 + 100, Ordering::Relaxed);
        region.write(HEADER_SIZE, &[b'y'; 50]);
        let (read, lost) = read_all(&mut reader);
        assert_eq!(lost, 100);
        assert_eq!(read, vec![b'x'; CAPACITY - 100]);
    }

    #[test]
    fn a_new_incarnation_of_the_writer_is_followed() {
        let region = region(REGION_SIZE);
        let mut reader = Reader::new(region);
        Writer::new(region).write(b"first life\n");
        read_all(&mut reader);
        region.write(0, &[0; REGION_SIZE]);
        Writer::new(region).write(b"second\n");
        assert_eq!(read_all(&mut reader), (b"second\n".to_vec(), 0));
    }

    #[test]
    fn a_line_is_cut_at_a_character_and_marked() {
        let mut line = Line::<16>::new();
        write!(line, "ab\ncdefghij\u{20ac}klm").unwrap();
        assert_eq!(line.finish(), b"ab cdefghij...\n");
        let mut line = Line::<16>::new();
        write!(line, "exactly 12 b").unwrap();
        assert_eq!(line.finish(), b"exactly 12 b\n");
    }

    proptest! {
        /// Whatever a hostile writer puts in the counters, reading is bounded
        /// and stays inside the region.
        #[test]
        fn hostile_counters_are_survived(
            words in proptest::collection::vec((any::<u64>(), any::<u64>()), 1..50),
        ) {
            let region = region(REGION_SIZE);
            let mut reader = Reader::new(region);
            let mut buffer = [0; 256];
            for (reserved, committed) in words {
                region.store64(RESERVED, reserved, Ordering::Relaxed);
                region.store64(COMMITTED, committed, Ordering::Relaxed);
                for _ in 0..3 {
                    let read = reader.read(&mut buffer);
                    prop_assert!(read.length <= buffer.len());
                }
            }
        }

        /// Every byte written is either read, in order, or counted as lost.
        #[test]
        fn every_byte_is_read_or_counted(
            steps in proptest::collection::vec((0_usize..3000, any::<bool>()), 1..40),
        ) {
            let region = region(REGION_SIZE);
            let (mut writer, mut reader) = (Writer::new(region), Reader::new(region));
            let (mut written, mut seen) = (Vec::new(), 0_usize);
            for (length, read_now) in steps {
                let start = written.len();
                written.extend((start..start + length).map(|n| (n % 251) as u8));
                writer.write(&written[start..]);
                if read_now {
                    let (bytes, lost) = read_all(&mut reader);
                    seen += lost as usize;
                    prop_assert_eq!(&bytes[..], &written[seen..seen + bytes.len()]);
                    seen += bytes.len();
                    prop_assert_eq!(seen, written.len());
                }
            }
        }
    }

    #[test]
    fn a_region_too_small_is_no_ring() {
        let region = region(32);
        Writer::new(region).write(b"x");
        let mut buffer = [0; 8];
        assert_eq!(Reader::new(region).read(&mut buffer), Read::default());
        assert_eq!(String::from_utf8_lossy(&buffer), "\0\0\0\0\0\0\0\0");
    }
}
