//! What was sent on TCP connections over IPv4, put together from raw frames.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddrV4};

/// Bytes behind the first one that a stream may be long.
const LONGEST: usize = 1 << 28;

/// Both ends of one direction: source, destination.
pub type Ends = (SocketAddrV4, SocketAddrV4);

/// All directions of all connections of which frames were seen.
#[derive(Debug, Default)]
pub struct Streams(HashMap<Ends, Stream>);

/// One direction of a connection.
#[derive(Debug, Default)]
struct Stream {
    first: u32,
    bytes: Vec<u8>,
    known: Vec<bool>,
}

impl Stream {
    fn add(&mut self, number: u32, payload: &[u8]) {
        let at = number.wrapping_sub(self.first) as usize;
        assert!(at < LONGEST, "far outside of the stream");
        let end = at + payload.len();
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
            self.known.resize(end, false);
        }
        for (offset, byte) in payload.iter().enumerate() {
            // Who sends bytes again sends the same.
            assert!(
                !self.known[at + offset] || self.bytes[at + offset] == *byte,
                "other bytes at the same place"
            );
            self.bytes[at + offset] = *byte;
            self.known[at + offset] = true;
        }
    }
}

impl Streams {
    /// Adds what is in a frame, if it is one of TCP.
    ///
    /// # Panics
    /// If it contradicts one before, or is cut short.
    pub fn add(&mut self, frame: &[u8]) {
        let Some(ends) = ends(frame) else {
            return;
        };
        let half = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
        let number = u32::from(half(38)) << 16 | u32::from(half(40));
        let end = 14 + usize::from(half(16));
        let start = 34 + usize::from(frame[46] >> 4) * 4;
        let stream = self.0.entry(ends).or_default();
        if frame[47] & 2 != 0 {
            stream.first = number.wrapping_add(1);
        } else if end > start {
            stream.add(number, &frame[start..end]);
        }
    }

    /// The bytes of each direction; `None` for one of which some were not seen.
    pub fn whole(self) -> impl Iterator<Item = (Ends, Option<Vec<u8>>)> {
        self.0.into_iter().map(|(ends, stream)| {
            let is_whole = stream.known.iter().all(|known| *known);
            (ends, is_whole.then_some(stream.bytes))
        })
    }
}

/// Between whom a frame of TCP over IPv4 without options goes.
pub fn ends(frame: &[u8]) -> Option<Ends> {
    if frame.len() < 54 || frame[12..14] != [8, 0] || frame[14] != 0x45 || frame[23] != 6 {
        return None;
    }
    let end = |address: usize, port: usize| {
        let octets: [u8; 4] = frame[address..address + 4].try_into().ok()?;
        let port = u16::from_be_bytes([frame[port], frame[port + 1]]);
        Some(SocketAddrV4::new(Ipv4Addr::from(octets), port))
    };
    Some((end(26, 34)?, end(30, 36)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frames;
    use smoltcp::wire::IpProtocol;

    /// A segment of TCP from port 80 to port 81, as a frame.
    fn segment(number: u32, flags: u8, payload: &[u8]) -> Vec<u8> {
        let mut tcp = vec![0, 80, 0, 81];
        tcp.extend(number.to_be_bytes());
        tcp.extend([0, 0, 0, 0, 0x50, flags, 0, 0, 0, 0, 0, 0]);
        tcp.extend(payload);
        frames::ipv4(IpProtocol::Tcp, &tcp)
    }

    fn collected(frames: &[Vec<u8>]) -> Vec<Option<Vec<u8>>> {
        let mut streams = Streams::default();
        for frame in frames {
            streams.add(frame);
        }
        streams.whole().map(|(_, bytes)| bytes).collect()
    }

    #[test]
    fn segments_in_any_order_are_a_stream() {
        let [a, b] = [segment(0, 16, b"abc"), segment(3, 16, b"def")];
        let syn = segment(u32::MAX, 2, b"");
        let whole = collected(&[syn.clone(), b.clone(), a.clone(), b.clone()]);
        assert_eq!(whole, [Some(b"abcdef".to_vec())]);
        assert_eq!(collected(&[syn, b]), [None]);
        assert!(collected(&[frames::arp_request([10, 0, 2, 15].into())]).is_empty());
    }

    #[test]
    #[should_panic(expected = "other bytes")]
    fn other_bytes_are_noticed() {
        collected(&[
            segment(u32::MAX, 2, b""),
            segment(0, 16, b"abc"),
            segment(1, 16, b"x"),
        ]);
    }
}
