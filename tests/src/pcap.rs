//! Captures: what `Machine::capture_frames` has written.

mod dissection;

use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;

use pcap_parser::nom;
use pcap_parser::{Linktype, parse_pcap_frame, parse_pcap_header};

pub use dissection::{Datagram, Segment};

/// A frame of a capture. Which way it went is not recorded: its addresses say so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// When it passed, in microseconds of the machine's virtual time, from power-on.
    pub at: u64,
    /// Its bytes, from the Ethernet header on.
    pub bytes: Vec<u8>,
}

/// Reads a capture. The machine may still be writing: a frame that is not whole yet ends it.
///
/// # Errors
/// If there is no such file, or it is something else.
pub fn read(path: &Path) -> io::Result<Vec<Frame>> {
    parse(&fs::read(path)?)
}

/// As [`read`], for the file's contents.
///
/// # Errors
/// If they are something else.
pub fn parse(bytes: &[u8]) -> io::Result<Vec<Frame>> {
    let wrong = |what: &str| io::Error::new(ErrorKind::InvalidData, format!("a capture: {what}"));
    let (mut rest, header) =
        parse_pcap_header(bytes).map_err(|_| wrong("its header is not one"))?;
    if header.network != Linktype::ETHERNET
        || header.is_bigendian()
        || header.is_nanosecond_precision()
    {
        return Err(wrong("not one that QEMU writes"));
    }
    let mut frames = Vec::new();
    while !rest.is_empty() {
        let (behind, block) = match parse_pcap_frame(rest) {
            Ok(parsed) => parsed,
            Err(nom::Err::Incomplete(_)) => break,
            Err(_) => return Err(wrong("a frame of it is not one")),
        };
        frames.push(Frame {
            at: u64::from(block.ts_sec) * 1_000_000 + u64::from(block.ts_usec),
            bytes: block.data.to_vec(),
        });
        rest = behind;
    }
    Ok(frames)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A file as QEMU writes it.
    pub(crate) fn file(frames: &[Frame]) -> Vec<u8> {
        let mut bytes = 0xa1b2_c3d4u32.to_le_bytes().to_vec();
        bytes.extend([2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        bytes.extend(65_536u32.to_le_bytes());
        bytes.extend(1u32.to_le_bytes());
        for frame in frames {
            let length = frame.bytes.len() as u32;
            let time = [frame.at / 1_000_000, frame.at % 1_000_000].map(|part| part as u32);
            for word in [time[0], time[1], length, length] {
                bytes.extend(word.to_le_bytes());
            }
            bytes.extend(&frame.bytes);
        }
        bytes
    }

    #[test]
    fn what_is_written_is_read() {
        let frames: Vec<Frame> = (0..5u64)
            .map(|number| Frame {
                at: number * 750_000,
                bytes: vec![number as u8; number as usize * 20],
            })
            .collect();
        let bytes = file(&frames);
        assert_eq!(parse(&bytes).unwrap(), frames);
        // QEMU may be in the middle of a frame.
        for cut in 1..=80 + 16 {
            assert_eq!(parse(&bytes[..bytes.len() - cut]).unwrap(), frames[..4]);
        }
        for wrong in [&[][..], b"not a capture at all, but text of some length"] {
            assert_eq!(parse(wrong).unwrap_err().kind(), ErrorKind::InvalidData);
        }
        let mut other = bytes.clone();
        other[20] = 113;
        assert!(parse(&other).is_err());
    }
}
